"""What a producer sets is read back as it was set; a file that is wrong is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge.errors import OutputError, RequestError
from stembridge.looks import DEFAULT_LOOKS, GREY, WARNING, Look, Looks
from stembridge.quality import QUALITIES
from stembridge.reaper.preferences import (
    EFFECTS,
    HOLDS,
    OUTPUTS,
    Preferences,
    change_preferences,
    locate_preferences,
    read_preferences,
    write_preferences,
)
from stembridge.settings import load_settings

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LOOKS = st.builds(Look, TEXTS, st.tuples(*[st.integers(0, 255)] * 3))
ANY = st.builds(
    Preferences,
    quality=st.sampled_from(sorted(QUALITIES)),
    model=TEXTS,
    stems=st.lists(TEXTS, max_size=4).map(tuple),
    two_stems=TEXTS,
    output=st.sampled_from(OUTPUTS),
    handles_s=st.floats(0, 60),
    hold_while=st.sampled_from(HOLDS),
    effects=st.sampled_from(EFFECTS),
    looks=st.dictionaries(TEXTS, LOOKS, max_size=3).map(lambda stems: Looks(DEFAULT_LOOKS | stems)),
)


@given(preferences=ANY)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, preferences: Preferences
) -> None:
    path = tmp_path_factory.getbasetemp() / "written" / "reaper.toml"
    write_preferences(path, preferences)
    assert read_preferences(path) == preferences
    assert [entry.name for entry in path.parent.iterdir()] == ["reaper.toml"]


def test_the_file_lies_beside_the_settings_and_may_be_missing(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={})
    path = locate_preferences(settings)
    assert path.parent == settings.config_file.parent and path.name == "reaper.toml"
    assert read_preferences(path) == Preferences()


def test_what_is_not_set_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "reaper.toml"
    path.write_text('hold_while = "playing"\nhandles_s = 2\n[looks.vocals]\ncolor = "010203"\n')
    found = read_preferences(path)
    changed: dict[str, Any] = {"hold_while": "playing", "handles_s": 2.0}
    vocals = Look("Vocals", (1, 2, 3))
    assert found == dataclasses.replace(
        Preferences(), looks=Looks(DEFAULT_LOOKS | {"vocals": vocals}), **changed
    )
    assert found.looks.of("bass") == DEFAULT_LOOKS["bass"]


WRONG = [
    ("quality = 'fast'", "quality", "draft"),
    ("output = 'both'", "output", "takes"),
    ("hold_while = 'always'", "hold_while", "recording"),
    ("effects = true", "effects", "bake"),
    ("quality = ['good']", "quality", "draft"),
    ("handles_s = -1", "handles_s", "0 to 60"),
    ("handles_s = 61", "handles_s", "0 to 60"),
    ("handles_s = nan", "handles_s", "0 to 60"),
    ("handles_s = true", "handles_s", "0 to 60"),
    ("handles_s = '1'", "handles_s", "0 to 60"),
    ("stems = 'vocals'", "stems", "list"),
    ("stems = [1]", "stems", "list"),
    ("model = 3", "model", "text"),
    ("two_stems = ['vocals']", "two_stems", "text"),
    ("colour = 'red'", "colour", "handles_s"),
    ("looks = 1", "looks", "name and color"),
    ("[looks]\nvocals = 'red'", "looks.vocals", "name and color"),
    ("[looks.vocals]\nsize = 3", "looks.vocals", "name and color"),
    ("[looks.vocals]\ncolor = 'red'", "looks.vocals.color", "#3288bd"),
    ("[looks.vocals]\ncolor = '#3288bdff'", "looks.vocals.color", "#3288bd"),
    ("quality =", "reaper.toml", "mend"),
    ("a = 1\na = 2", "reaper.toml", "mend"),
]


@pytest.mark.parametrize(("text", "thing", "remedy"), WRONG)
def test_what_is_wrong_is_named_with_its_remedy(tmp_path: Path, text: str, thing: str, remedy: str) -> None:
    path = tmp_path / "reaper.toml"
    path.write_text(text)
    with pytest.raises(RequestError) as caught:
        read_preferences(path)
    assert str(path) in caught.value.message and thing in caught.value.message
    assert remedy in caught.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["no text", "a folder"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "reaper.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=r"reaper\.toml"):
        read_preferences(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").touch()
    with pytest.raises(OutputError, match=r"reaper\.toml cannot be written"):
        write_preferences(tmp_path / "config" / "reaper.toml", Preferences())


def test_a_change_is_checked_and_the_rest_stays() -> None:
    before = dataclasses.replace(Preferences(), stems=("vocals",))
    assert change_preferences(before, {"output": "takes"}, "here") == dataclasses.replace(
        before, output="takes"
    )
    with pytest.raises(RequestError, match="here: looks is no setting"):
        change_preferences(before, {"looks": {}}, "here")


@pytest.mark.parametrize(
    ("level", "name", "color"),
    [(-36.4, "Residual -36 dB", GREY), (-20.0, "Residual -20 dB", GREY), (-19.9, "Residual -20 dB", WARNING),
     (-6.0, "Residual -6 dB", WARNING), (None, "Residual", GREY), (float("-inf"), "Residual", GREY)],
)  # fmt: skip
def test_the_residual_carries_its_level_and_stands_out_where_it_is_loud(
    level: Any, name: str, color: Any
) -> None:
    assert Looks().of("residual", level) == Look(name, color)


def test_a_stem_without_a_look_has_its_own_name() -> None:
    assert Looks().of("lead_guitar") == Look("Lead guitar", GREY)
    assert Looks().of("vocals", -3.0) == DEFAULT_LOOKS["vocals"]
