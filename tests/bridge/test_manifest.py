"""stems.json and the names in and of a result folder."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge import manifest as m
from stembridge.errors import OutputError, SourceError
from stembridge.types import FILE_NAMES

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "stems.schema.json").read_text(encoding="utf-8")
)
HASH = "0123456789abcdef" * 4


def make_manifest() -> m.Manifest:
    return m.Manifest(
        generator=m.Generator("0.1.0"),
        job="job",
        created=m.timestamp(1_700_000_000.5),
        source=m.SourceEntry(
            '/あ/"x"\n.wav', HASH, 48_000, 100, 2, "PCM_24", m.RegionEntry(10, 90), ((0, 1),)
        ),
        model=m.ModelEntry("fake", HASH, "full", 0, 0, 0.25),
        grid=m.GridEntry(23, 23),
        claims=m.Claims(True, True, 0.1, 1 / 3, 0.0),
        residual=m.ResidualEntry("own", -40.5),
        stems=(
            m.StemEntry("drums", "x - drums.wav", "FLOAT", HASH, HASH),
            m.StemEntry("residual", "x - residual.wav", "DOUBLE", HASH, HASH),
        ),
        deterministic=True,
        mono=("drums",),
        near_mono=("bass",),
        listening=(m.ListeningEntry("drums", "mp3/x - drums.mp3"),),
        alignment=(m.AlignmentEntry("drums", -1105.25, 0.001, -1, "corrected", ""),),
    )


def test_a_manifest_comes_back_as_it_was_and_fits_the_schema(tmp_path: Path) -> None:
    manifest = make_manifest()
    m.write_manifest(tmp_path, manifest)
    assert replace(m.read_manifest(tmp_path), seal="") == manifest
    written = json.loads((tmp_path / "stems.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(written, SCHEMA)
    assert written["created"] == "2023-11-14T22:13:20+00:00"
    for key in SCHEMA["required"]:
        broken = {name: value for name, value in written.items() if name != key}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_a_field_of_a_later_version_is_passed_over(tmp_path: Path) -> None:
    m.write_manifest(tmp_path, make_manifest())
    path = tmp_path / "stems.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="utf-8")), "later": [1]}), encoding="utf-8"
    )
    assert replace(m.read_manifest(tmp_path), seal="") == make_manifest()
    path.write_bytes(m.seal_text(json.dumps(json.loads(path.read_bytes())).encode()))
    assert m.is_sealed(tmp_path)


def test_any_flipped_bit_of_a_manifest_breaks_its_seal_or_makes_it_unreadable(tmp_path: Path) -> None:
    m.write_manifest(tmp_path, make_manifest())
    assert m.is_sealed(tmp_path)
    path = tmp_path / "stems.json"
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        assert not m.is_sealed(tmp_path), good[place - 20 : place + 20]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is not a manifest"),
        (b"{}", "missing required field"),
        (b"\xff\xfe{}", "is not a manifest"),
        (b"[" * 5000, "is not a manifest"),
        (b'{"later": ' + b"[" * 100_000, "is not a manifest"),
        (b'{"job": ' + b"1" * 5000 + b"}", "is not a manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / "stems.json").write_bytes(text)
    with pytest.raises(SourceError, match=words) as caught:
        m.read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_could_go_on_for_ever_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stems.json"
    os.mkfifo(path)
    with pytest.raises(SourceError, match="cannot be read: this is no regular file"):
        m.read_manifest(tmp_path)
    with pytest.raises(OSError, match="no regular file"):
        m.is_sealed(tmp_path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SourceError, match=r"stems\.json' cannot be read: it has more than 32 MiB"):
        m.read_manifest(tmp_path)
    with pytest.raises(OSError, match="more than 32 MiB"):
        m.is_sealed(tmp_path)
    path.unlink()
    m.write_manifest(tmp_path, make_manifest())
    length = path.stat().st_size
    monkeypatch.setattr(m, "MAX_BYTES", length)
    assert m.is_sealed(tmp_path) and m.read_manifest(tmp_path).job == "job"
    path.unlink()
    monkeypatch.setattr(m, "MAX_BYTES", length - 1)
    with pytest.raises(OutputError, match=r"stems\.json would have"):
        m.write_manifest(tmp_path, make_manifest())
    assert not path.exists()


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(SourceError, match=r"stems\.json' does not exist"):
            m.read_manifest(folder)


def broken_manifests() -> list[tuple[str, m.Manifest]]:
    good = make_manifest()
    stem = good.stems[0]
    return [
        ("schema", replace(good, schema="stembridge.stems/2")),
        ("region", replace(good, source=replace(good.source, region=m.RegionEntry(50, 51)))),
        ("0 Hz", replace(good, source=replace(good.source, sample_rate=0))),
        ("empty", replace(good, stems=())),
        ("plain name", replace(good, stems=(replace(stem, file="../x.wav"),))),
        ("plain name", replace(good, stems=(replace(stem, file="a\\x.wav"),))),
        ("plain name", replace(good, stems=(replace(stem, file=".."),))),
        ("subtype", replace(good, stems=(replace(stem, subtype="PCM_32"),))),
        ("sha256", replace(good, stems=(replace(stem, sha256="0"),))),
        ("sha256", replace(good, stems=(replace(stem, sha256_file="0"),))),
        ("twice", replace(good, stems=(stem, stem))),
        ("grid", replace(good, grid=m.GridEntry(23, 15))),
        ("sha256_pcm", replace(good, source=replace(good.source, sha256_pcm="x"))),
    ]


@pytest.mark.parametrize(("words", "manifest"), broken_manifests())
def test_a_manifest_that_cannot_be_is_refused(tmp_path: Path, words: str, manifest: m.Manifest) -> None:
    m.write_manifest(tmp_path, manifest)
    with pytest.raises(SourceError, match=words) as caught:
        m.read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/song.wav", "song"),
        ("/a/it's $HOME (1).final.wav", "it's $HOME (1).final"),
        ('/a/say "yes"?.wav', "say _yes__"),
        ("/a/two\nlines.wav", "two_lines"),
        ("/a/日本語.flac", "日本語"),
        ("/a/ends. . .wav", "ends"),
        ("/a/CON.wav", "_CON"),
        ("/a/nul.tar.wav", "_nul.tar"),
        ("/a/.hidden.wav", "_.hidden"),
        ("/a/...", "_"),
        ("/a/\udcff.wav", "_"),
    ],
)
def test_names_that_every_system_takes(path: str, name: str) -> None:
    assert m.source_name(path) == name


@given(st.text(min_size=1, max_size=300))
def test_any_name_becomes_a_legal_one(text: str) -> None:
    name = m.sanitise_name(text)
    assert 0 < len(name.encode()) <= 180
    assert not set(name) & set('<>:"/\\|?*\n\r\t\0') and name[-1] not in " ." and name[0] != "."
    assert name.split(".")[0].strip().upper() not in ("CON", "NUL", "COM1", "LPT9")
    folder = m.folder_name(name, "torchaudio:hdemucs_high_musdb_plus", "job")
    assert len(folder.encode()) <= 255 and len(m.file_name(name, "no_vocals").encode()) <= 255


def test_a_long_name_is_cut_between_characters() -> None:
    assert m.sanitise_name("あ" * 100) == "あ" * 60
    assert m.sanitise_name("x" + "あ" * 100) == "x" + "あ" * 59


def test_the_folder_carries_name_model_and_job() -> None:
    name = m.folder_name("song", "torchaudio:hdemucs", "job")
    assert name == "song__torchaudio_hdemucs__" + m.job8("job")
    assert m.job8("job") == hashlib.sha256(b"job").hexdigest()[:8]
    assert m.file_name("song", "drums") == "song - drums.wav"


NAMES_OF_STEMS = (*m.STEM_ORDER, m.RESIDUAL, m.MIXTURE, "no_vocals", "no_guitar")


@given(
    name=st.text(min_size=1, max_size=300).map(m.source_name),
    template=st.sampled_from(
        [
            FILE_NAMES,
            "{stem}",
            "{job8}{name}{stem}{name}",
            "{name}.{stem}.",
            "{model} {stem} ({name}",
            "con{stem}",
        ]
    ),
    model=st.sampled_from(["htdemucs", "torchaudio:hdemucs_high_musdb_plus", "x" * 99]),
    suffix=st.sampled_from([".wav", ".aiff"]),
)
def test_files_of_a_set_have_names_of_their_own_that_every_system_takes(
    name: str, template: str, model: str, suffix: str
) -> None:
    names = [
        m.file_name(name, stem, suffix, template=template, model=model, job_id="a") for stem in NAMES_OF_STEMS
    ]
    assert len({file.casefold() for file in names}) == len(names)
    for file, stem in zip(names, NAMES_OF_STEMS, strict=True):
        assert stem in file and file.endswith(suffix) and len(file.encode()) <= 240
        assert m.sanitise_name(file, 255) == file, "a name that no system takes as it is"


def test_a_template_is_filled_in_with_what_the_folder_is_called_by() -> None:
    def fill(template: str, name: str = "song") -> str:
        return m.file_name(name, "no_vocals", ".flac", template=template, model="torchaudio:x", job_id="job")

    assert fill("{stem} of {name}") == "no_vocals of song.flac"
    assert fill("{name} [{model}] {job8} {stem}") == f"song [torchaudio_x] {m.job8('job')} no_vocals.flac"
    assert fill("{name} {stem}", "{stem} {job8}") == "{stem} {job8} no_vocals.flac"
    assert fill("{stem}") == "no_vocals.flac"


def test_a_long_name_is_cut_before_anything_else_and_the_same_for_every_stem() -> None:
    long = "あ" * 60
    template = "{name} {model} {job8} {stem} {job8}"
    names = [
        m.file_name(long, stem, template=template, model="x" * 99, job_id="job") for stem in NAMES_OF_STEMS
    ]
    tails = [f" {'x' * 48} {m.job8('job')} {stem} {m.job8('job')}.wav" for stem in NAMES_OF_STEMS]
    heads = {file.removesuffix(tail) for file, tail in zip(names, tails, strict=True)}
    (head,) = heads
    assert long.startswith(head) and 130 <= len(head.encode()) < len(long.encode())
    assert m.file_name(long, "drums") == f"{long} - drums.wav"


def test_stems_have_one_order() -> None:
    assert m.order_stems(("piano", "kazoo", "vocals", "drums")) == ("drums", "vocals", "piano", "kazoo")
