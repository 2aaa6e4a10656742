"""What a set cannot be asked to be is refused before any audio is read, by option, value and remedy."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from stembridge.delivery import (
    check_delivery,
    check_file_names,
    check_practice,
    check_sessions,
    find_policy,
)
from stembridge.errors import RequestError
from stembridge.types import FILE_FORMATS, FILE_NAMES, ResidualPolicy

STEMS = ("drums", "bass")
GOOD: dict[str, Any] = {
    "file_format": "auto",
    "residual": ResidualPolicy.OWN,
    "mono": (),
    "stems": STEMS,
    "is_full": True,
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"is_full": False},
        {"mono": ("bass",)},
        {"mono": ("bass",), "residual": ResidualPolicy.HF_ENVELOPE},
        *({"residual": policy, "stems": (*STEMS, "other")} for policy in ResidualPolicy),
        *({"file_format": name} for name in FILE_FORMATS),
    ],
)
def test_what_can_be_is_let_through(change: dict[str, Any]) -> None:
    check_delivery(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file_format": "wav8"}, "format 'wav8' .one of auto, wav16"),
        ({"mono": ("vocals",)}, "mono 'vocals' is no stem of this set .it has drums, bass"),
        ({"residual": ResidualPolicy.TF, "is_full": False}, "residual 'tf' with some of the stems"),
        ({"residual": ResidualPolicy.HF_ENVELOPE, "is_full": False}, "residual 'hf_envelope' with some"),
        (
            {"residual": ResidualPolicy.OTHER},
            "residual 'other' without a stem named 'other' .there are drums",
        ),
        ({"residual": ResidualPolicy.EQUAL, "mono": ("bass",)}, "residual 'equal' with mono stems"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        check_delivery(**{**GOOD, **change})
    assert "\n" not in str(caught.value) and caught.value.hint


def test_policies_by_name() -> None:
    assert find_policy("tf") is ResidualPolicy.TF
    with pytest.raises(RequestError, match=r"residual 'mine' .one of own, equal, tf, other, hf_envelope"):
        find_policy("mine")


@pytest.mark.parametrize(("speed", "pitch"), [(1.0, 0.0), (0.25, 24.0), (4.0, -24.0)])
def test_practice_versions_that_can_be(speed: float, pitch: float) -> None:
    check_practice(speed, pitch)


@pytest.mark.parametrize(
    ("speed", "pitch", "words"),
    [
        (0.24, 0.0, "speed 0.24 .0.25 to 4"),
        (4.01, 0.0, "speed 4.01"),
        (float("nan"), 0.0, "speed nan"),
        (1.0, 24.5, "pitch 24.5 semitones .-24 to 24"),
        (1.0, -24.5, "pitch -24.5"),
        (1.0, float("inf"), "pitch inf"),
    ],
)
def test_practice_versions_that_cannot_be(speed: float, pitch: float, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check_practice(speed, pitch)


@pytest.mark.parametrize(
    "template",
    [
        FILE_NAMES,
        "{stem}",
        "{job8} {stem}",
        "{name} ({model}) [{job8}] {stem}",
        "01 {stem} – großes Lied 'é' $5",
        "{name}{stem}{name}",
    ],
)
def test_a_template_of_file_names_needs_the_stem_alone(template: str) -> None:
    check_file_names(template)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "without {stem} all files would be called the same"),
        ("{name} {model}", "without {stem}"),
        ("{stem} {track}", "{track} is no field"),
        ("{stem} {}", "{} is no field"),
        ("{stem!r}", "a brace stands alone"),
        ("{stem:>9}", "a brace stands alone"),
        ("{{stem}} {stem}", "a brace stands alone"),
        ("{stem.__class__}", "a brace stands alone"),
        ("{stem", "a brace stands alone"),
        ("a/{stem}", "'/' cannot be in a file name"),
        ("..\\{stem}", "'\\\\' cannot be in a file name"),
        ("{stem}: {name}", "':' cannot be in a file name"),
        ("{stem}\n", "'\\n' cannot be in a file name"),
        ("{stem}\0", "'\\x00' cannot be in a file name"),
        ("{stem}\udcff", "'\\udcff' cannot be in a file name"),
        (".{stem}", "begins with a dot or a space"),
        (" {stem}", "begins with a dot or a space"),
        ("{stem}" + "x" * 250, "more than 240"),
        ("{stem}" * 8, "names could have 261 bytes"),
        ("{stem}" + "あ" * 68, "names could have 241 bytes"),
    ],
)
def test_a_template_that_cannot_name_files_is_refused(template: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_file_names(template)
    assert (
        words in caught.value.message and "'{name} - {stem}'; there are {name}, {stem}" in caught.value.hint
    )
    assert "\n" not in str(caught.value)


def test_sessions_are_known_by_their_kinds() -> None:
    check_sessions(())
    check_sessions(("rpp", "dawproject"))
    with pytest.raises(RequestError, match=r"session 'als' .one of rpp, dawproject, aaf"):
        check_sessions(("rpp", "als"))


def test_an_aaf_without_its_package_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    here: dict[str, object | None] = {"aaf2": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: here[name])
    with pytest.raises(RequestError, match=r'pip install "stembridge\[aaf\]"'):
        check_sessions(("rpp", "aaf"))
    here["aaf2"] = object()
    check_sessions(("aaf",))
