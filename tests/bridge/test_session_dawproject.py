"""A .dawproject: held against the rules of its format, and what is heard of it."""

from __future__ import annotations

import io
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path, PurePath
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import soundfile

from dawproject_rules import find_faults
from dawprojects import DawProject, Signal
from full_disk import full_disk
from remixes import make_set, remix
from stembridge.audio_io import probe
from stembridge.errors import OutputError, SourceError
from stembridge.manifest import read_manifest
from stembridge.sessions.arrangement import arrange
from stembridge.sessions.dawproject import write_dawproject
from stembridge.types import Region, ResidualPolicy

FRAMES = 6_001
REGION = Region(4_321, 1_500)


def export(folder: Path, target: Path | None = None) -> Path:
    """Write the session of a result folder, beside its files if nothing else is said, and check it."""
    target = target or folder / "song.dawproject"
    arrangement = arrange(folder, read_manifest(folder), home=target.parent)
    write_dawproject(arrangement, target.parent, target)
    assert find_faults(target) == []
    return target


def assert_plays(session: DawProject, original: Signal, start: int = 0) -> None:
    """Hear all of a session against the original from ``start`` on, silence before it; then switch over."""
    expected = np.zeros((max(2, len(original)), start + original.shape[1]))
    expected[:, start:] = original
    np.testing.assert_array_equal(session.play(), expected)
    np.testing.assert_array_equal(session.play_alone("Original"), expected)


def read_xml(path: Path, name: str = "project.xml") -> str:
    with ZipFile(path) as archive:
        return archive.read(name).decode()


CASES: dict[str, dict[str, Any]] = {
    "16 bits": {"kind": "pcm16"},
    "24 bits": {"kind": "pcm24"},
    "32-bit float": {"kind": "gridfloat"},
    "mono": {"channels": 1},
    "6 channels": {"channels": 6},
    "FLAC": {"format": "flac24"},
    "AIFF": {"format": "aiff16"},
    "two stems": {"two_stems": "vocals"},
    "mono stems": {"mono": ("bass",)},
    "fold": {"residual": ResidualPolicy.EQUAL},
}


@pytest.mark.parametrize("case", CASES)
def test_a_session_plays_the_original(tmp_path: Path, case: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, **CASES[case])
    assert_plays(DawProject(export(made.folder)), made.original)


@pytest.mark.parametrize("kind", ["pcm8", "pcm16", "pcm24", "pcm32", "gridfloat", "float"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_region_stands_where_it_stood(tmp_path: Path, kind: str, channels: int) -> None:
    made = make_set(
        tmp_path, frames=FRAMES, kind=kind, channels=channels, region=REGION, exact_float=kind == "float"
    )
    region = made.original[:, REGION.start : REGION.start + REGION.frames]
    assert_plays(DawProject(export(made.folder)), region, REGION.start)


@pytest.mark.parametrize(("kind", "subtype"), [("pcm16", "PCM_16"), ("pcm24", "PCM_24"), ("pcm32", "DOUBLE")])
def test_no_more_of_a_long_original_is_embedded_than_is_heard(
    tmp_path: Path, kind: str, subtype: str
) -> None:
    made = make_set(tmp_path, frames=20 * FRAMES, kind=kind, region=REGION)
    longer = (tmp_path / "song.wav").rename(tmp_path / "a song. of two.wav")
    source = replace(made.manifest.source, path=str(longer))
    arrangement = arrange(made.folder, replace(made.manifest, source=source))
    target = made.folder / "song.dawproject"
    write_dawproject(arrangement, made.folder, target)
    assert target.stat().st_size < longer.stat().st_size
    with ZipFile(target) as archive:
        embedded = soundfile.SoundFile(io.BytesIO(archive.read("audio/a song. of two.wav")))
    assert (embedded.frames, embedded.subtype) == (REGION.frames, subtype)
    assert [path.name for path in made.folder.iterdir() if path.suffix == ".dawproject"] == [target.name]
    assert not list(made.folder.glob(".*"))


def test_a_part_of_an_original_keeps_its_speakers(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, channels=6, region=REGION)
    # 5.1 with its surrounds at the sides: not what six channels usually are.
    song, mask = tmp_path / "song.wav", 0x60F
    head = song.read_bytes()
    at = head.index(b"fmt ") + 28
    song.write_bytes(head[:at] + mask.to_bytes(4, "little") + head[at + 4 :])
    with ZipFile(export(made.folder)) as archive:
        (tmp_path / "part.wav").write_bytes(archive.read("audio/song.wav"))
    assert probe(str(tmp_path / "part.wav")).channel_mask == probe(str(song)).channel_mask == mask


def test_no_channel_of_a_mono_session_meets_a_pan_law(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, channels=1)
    assert set(re.findall(r'audioChannels="(\d+)"', read_xml(export(made.folder)))) == {"2"}


def test_a_lossy_original_is_what_was_decoded(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="ogg", frames=FRAMES, region=REGION)
    assert_plays(DawProject(export(made.folder)), made.original, REGION.start)


def test_an_embedded_session_can_be_moved_alone(tmp_path: Path) -> None:
    made = make_set(tmp_path / "before", frames=FRAMES)
    moved = tmp_path / "mine.dawproject"
    export(made.folder).rename(moved)
    shutil.rmtree(tmp_path / "before")
    assert find_faults(moved) == []
    assert_plays(DawProject(moved), made.original)


def test_a_session_may_lie_elsewhere(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    (tmp_path / "sessions").mkdir()
    assert_plays(DawProject(export(made.folder, tmp_path / "sessions" / "mine.dawproject")), made.original)


def test_tracks_are_what_a_user_expects(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    session = DawProject(export(made.folder))
    parents = {track.name: parent.name if parent else "" for track, parent in session.project.parents()}
    residual = next(name for name in parents if name.startswith("Residual"))
    stems = ["Drums", "Bass", "Other", "Vocals", residual]
    assert list(parents) == ["Original", "song", *stems]
    assert [parents[name] for name in stems] == ["song"] * 5
    assert [track.name for track in session.project.tracks if track.values["B_MUTE"]] == ["Original"]
    assert session.track("Vocals").values["I_CUSTOMCOLOR"] == 0x3288BD
    (clip,) = session.root.findall(".//Clip[@name='Vocals']")
    assert clip.get("color") == "#3288bd"
    assert "<Title>song</Title>" in read_xml(made.folder / "song.dawproject", "metadata.xml")


def test_a_beat_is_a_second(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, region=REGION)
    text = read_xml(export(made.folder))
    timelines = re.findall(r"<(?:Lanes|Clips|Audio) [^>]*", text)
    assert len(timelines) == 19 and all('timeUnit="seconds"' in timeline for timeline in timelines)
    wrong = text.replace('imeUnit="seconds"', 'imeUnit="beats"').replace(
        "<Audio id", '<Audio timeUnit="seconds" id'
    )
    wrong = re.sub(r'(<Audio timeUnit="seconds"[^>]*) timeUnit="beats"', r"\1", wrong)
    region = made.original[:, REGION.start : REGION.start + REGION.frames]
    assert_plays(DawProject(made.folder / "song.dawproject", wrong), region, REGION.start)


def test_no_number_has_an_exponent(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, region=Region(1, 3))
    assert not re.search(r'"[\d.]+e-?\d+"', read_xml(export(made.folder)))


def test_a_remix_alone_is_one_track(tmp_path: Path) -> None:
    made = remix(tmp_path, make_set(tmp_path, frames=FRAMES), "[stems.vocals]\ngain_db = -6")
    session = DawProject(export(made.folder))
    assert [(track.name, track.folder_depth) for track in session.project.tracks] == [("Mine", 0)]
    np.testing.assert_array_equal(session.play(), made.samples)


def test_the_stems_of_a_remix_sum_to_it_and_it_is_muted(tmp_path: Path) -> None:
    made = remix(tmp_path, make_set(tmp_path, frames=FRAMES), "[stems.vocals]\ngain_db = -6", stems_out=True)
    session = DawProject(export(made.folder))
    np.testing.assert_array_equal(session.play(), made.samples)
    np.testing.assert_array_equal(session.play_alone("Mine"), made.samples)
    assert [track.name for track in session.project.tracks if track.values["B_MUTE"]] == ["Mine"]


MUTANTS = {
    "a stem one frame late": (r'(name="Bass"[^>]* time=)"\S+"', rf'\1"{1 / 44_100!r}"'),
    "a stem that starts late in its file": (r'(name="Bass"[^>]* playStart=)"\S+"', rf'\1"{1 / 44_100!r}"'),
    "a fade in": (r'fadeInTime="0"', 'fadeInTime="0.01"'),
    "a fade out": (r'fadeOutTime="0"', 'fadeOutTime="0.01"'),
    "the original unmuted": (r'name="Mute" value="true"', 'name="Mute" value="false"'),
    "a stem muted": (r'(name="Bass".*?name="Mute" value=)"false"', r'\1"true"'),
    "a clip that does not play": (r'(<Clip name="Bass")', r'\1 enable="false"'),
    "a group that is too loud": (r'(name="song".*?name="Volume"[^>]* value=)"1"', r'\1"1.1"'),
    "a stem to one side": (r'(name="Bass".*?name="Pan"[^>]* value=)"0.5"', r'\1"0.6"'),
    "clips cut short": (r' duration="\S+"( contentTimeUnit)', rf' duration="{6_000 / 44_100!r}"\1'),
    "a file taken for another": (r"audio/song - bass", "audio/song - drums"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_hears_what_is_wrong(tmp_path: Path, mutant: str) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    path = export(made.folder)
    pattern, wrong = MUTANTS[mutant]
    text, count = re.subn(pattern, wrong, read_xml(path), flags=re.DOTALL)
    assert count
    assert not np.array_equal(DawProject(path, text).play(FRAMES), made.original)


BROKEN = {
    "no version": (r' version="1.0"', "", "Project lacks version"),
    "another version": (r'version="1.0"', 'version="2.0"', "Project version is '2.0'"),
    "no application": (r"<Application[^>]*/>", "", "Project lacks Application"),
    "an element that nobody knows": (r"<Scenes", "<Scene", "Scene is unknown"),
    "an attribute that nobody knows": (r"playStart", "start", "Clip has no start"),
    "no time": (r'(<Clip [^>]*) time="\S+"', r"\1", "Clip lacks time"),
    "a number that is none": (r'playStart="\S+"', 'playStart="0,5"', "Clip playStart is '0,5'"),
    "a flag that is none": (r'value="true"', 'value="yes"', "Mute value is 'yes'"),
    "a unit that is none": (r'unit="linear"', 'unit="gain"', "Volume unit is 'gain'"),
    "a role that is none": (r'role="submix"', 'role="group"', "Channel role is 'group'"),
    "a color that is none": (r'color="#', 'color="', "Track color is"),
    "another order": (r"(<Mute[^>]*/>)(\s*)(<Pan[^>]*/>)", r"\3\2\1", "Mute stands in Channel where it must"),
    "an id twice": (r'id="id7"', 'id="id8"', "the id id8 is given twice"),
    "a track that is not there": (r' track="id\d+"', ' track="id999"', "track id999 is no Track"),
    "a way to nowhere": (r' destination="id\d+"', ' destination="id999"', "destination id999 is no Channel"),
    "no master": (r'role="master"', 'role="regular"', "ends nowhere"),
    "audio in beats": (r'(<Audio [^>]*)timeUnit="seconds"', r'\1timeUnit="beats"', "audio counts in seconds"),
    "a file that is not there": (r'path="audio/song - bass', 'path="audio/none', "is not in the archive"),
    "another rate": (r'sampleRate="44100"', 'sampleRate="48000"', "another rate"),
    "another length": (r'(<Audio [^>]*duration=)"\S+"', r'\1"1.5"', "has another length"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_rules_find_what_is_wrong(tmp_path: Path, broken: str) -> None:
    made = make_set(tmp_path, frames=100)
    path = export(made.folder)
    pattern, wrong, said = BROKEN[broken]
    text, count = re.subn(pattern, wrong, read_xml(path))
    assert count
    rewrite(path, text)
    assert any(said in fault for fault in find_faults(path)), find_faults(path)


def rewrite(path: Path, text: str, compression: int = 0, **renamed: str) -> None:
    """Put another project.xml into an archive."""
    with ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["project.xml"] = text.encode()
    with ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(renamed.get(name.partition(".")[0], name), content)


def test_the_rules_know_a_wrong_archive(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    path = export(made.folder)
    text = read_xml(path)
    rewrite(path, text, ZIP_DEFLATED)
    assert "project.xml is compressed" in find_faults(path)
    rewrite(path, text, metadata="meta.xml")
    assert "the archive holds metadata.xml 0 times" in find_faults(path)
    rewrite(path, text, meta="../metadata.xml")
    assert "../metadata.xml leads out of the archive" in find_faults(path)
    with (tmp_path / "streamed").open("wb") as file, ZipFile(Unseekable(file), "w") as archive:
        for name in ("metadata.xml", "project.xml"):
            archive.writestr(name, "<MetaData/>")
    assert "the header in front of project.xml lacks its checksum" in find_faults(tmp_path / "streamed")


class Unseekable:
    """A file that goes forward only, so that a ZIP's checksums come behind what they check."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    first = export(made.folder).read_bytes()
    for path in made.folder.glob("*.wav"):
        path.touch()
    assert export(made.folder, made.folder / "b.dawproject").read_bytes() == first
    with ZipFile(made.folder / "b.dawproject") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_file_that_needs_zip64_says_so_in_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 1_000)
    made = make_set(tmp_path, frames=FRAMES)
    assert_plays(DawProject(export(made.folder)), made.original)


def test_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    arrangement = arrange(made.folder, made.manifest)
    (made.folder / "deep").mkdir()
    tracks = []
    for track, name in zip(
        arrangement.tracks, ("a.wav", "A.wav", "deep/a.wav", "a (2).wav", "é.wav"), strict=True
    ):
        (made.folder / track.file).rename(made.folder / name)
        tracks.append(replace(track, file=PurePath(name)))
    write_dawproject(replace(arrangement, tracks=tuple(tracks)), made.folder, made.folder / "song.dawproject")
    assert find_faults(made.folder / "song.dawproject") == []
    assert_plays(DawProject(made.folder / "song.dawproject"), made.original)


@pytest.mark.parametrize(
    "text", ["plain", "it's", 'a "b" & <c>', "übung 日本 😀", "two\nlines", "a\tb", "é" * 100]
)
def test_a_name_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = replace(arrange(made.folder, made.manifest), name=text)
    write_dawproject(arrangement, made.folder, made.folder / "song.dawproject")
    assert find_faults(made.folder / "song.dawproject") == []
    assert DawProject(made.folder / "song.dawproject").project.tracks[1].name == text


@pytest.mark.parametrize("text", ["no \udcff utf-8", "nul\0", "bell\a", "\ufffe"])
def test_what_xml_cannot_say_is_replaced(tmp_path: Path, text: str) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = replace(arrange(made.folder, made.manifest), name=text)
    write_dawproject(arrangement, made.folder, made.folder / "song.dawproject")
    assert find_faults(made.folder / "song.dawproject") == []
    name = DawProject(made.folder / "song.dawproject").project.tracks[1].name
    assert name == re.sub("[\udcff\0\a\ufffe]", "_", text)


def test_a_file_whose_name_xml_cannot_say_is_embedded(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    arrangement = arrange(made.folder, made.manifest)
    hard = made.folder / "bell\a \udcff.wav"
    (made.folder / arrangement.tracks[0].file).rename(hard)
    tracks = (replace(arrangement.tracks[0], file=PurePath(hard.name)), *arrangement.tracks[1:])
    arrangement = replace(arrangement, tracks=tracks)
    target = made.folder / "song.dawproject"
    write_dawproject(arrangement, made.folder, target)
    assert find_faults(target) == []
    assert_plays(DawProject(target), made.original)


def test_a_file_that_is_gone_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = arrange(made.folder, made.manifest)
    (made.folder / made.manifest.stems[1].file).unlink()
    with pytest.raises(SourceError, match=r"bass\.wav"):
        write_dawproject(arrangement, made.folder, made.folder / "song.dawproject")
    assert not list(made.folder.glob("*.dawproject")) and not list(made.folder.glob(".*"))


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is open")
def test_who_has_the_old_session_open_keeps_it(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    path = export(made.folder)
    before = path.read_bytes()
    with path.open("rb") as held:
        write_dawproject(replace(arrange(made.folder, made.manifest), name="new"), made.folder, path)
        assert held.read() == before != path.read_bytes()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    path = export(made.folder)
    before = path.read_bytes()
    with full_disk(), pytest.raises(OutputError, match="File too large"):
        write_dawproject(arrange(made.folder, made.manifest), made.folder, path)
    assert path.read_bytes() == before and not list(made.folder.glob(".*"))
