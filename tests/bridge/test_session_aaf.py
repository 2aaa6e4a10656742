"""An AAF, read back by pyaaf2: mono tracks whose samples are those of the stems."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aafs import Aaf, read_aaf
from fakes import FakeSeparator, ZeroSeparator
from full_disk import full_disk
from remixes import make_set, remix
from stembridge.errors import OutputError, RequestError, SourceError
from stembridge.manifest import read_manifest
from stembridge.sessions import aaf
from stembridge.sessions.arrangement import arrange
from stembridge.types import Region, ResidualPolicy

FRAMES = 6_001
REGION = Region(4_321, 1_501)


def export(folder: Path) -> Path:
    """Write the session of a result folder beside its files."""
    target = folder / "song.aaf"
    aaf.write_aaf(arrange(folder, read_manifest(folder)), folder, target)
    return target


def open_session(folder: Path) -> Aaf:
    return read_aaf(export(folder))


CASES: dict[str, dict[str, Any]] = {
    "16 bits": {"format": "wav16"},
    "24 bits": {"kind": "pcm24"},
    "mono": {"channels": 1},
    "6 channels": {"channels": 6},
    "FLAC": {"format": "flac24"},
    "AIFF": {"format": "aiff16"},
    "two stems": {"two_stems": "vocals"},
    "fold": {"residual": ResidualPolicy.EQUAL},
    "one frame": {"frames": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_a_session_plays_the_original(tmp_path: Path, case: str) -> None:
    made = make_set(tmp_path, **{"frames": FRAMES, **CASES[case]})
    session = open_session(made.folder)
    np.testing.assert_array_equal(session.play(len(made.original)), made.original)
    assert set(session.subtypes) == {entry.subtype for entry in made.manifest.stems}


def test_a_region_stands_where_it_stood(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, region=REGION)
    end = REGION.start + REGION.frames
    heard = open_session(made.folder).play(2)
    assert heard.shape == (2, end)
    assert not heard[:, : REGION.start].any()
    np.testing.assert_array_equal(heard[:, REGION.start :], made.original[:, REGION.start : end])


def test_a_part_of_a_file_is_the_part_that_is_heard(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    arrangement = arrange(made.folder, made.manifest)
    parts = tuple(
        replace(track, position_frames=7, offset_frames=100, frames=999) for track in arrangement.tracks
    )
    aaf.write_aaf(replace(arrangement, tracks=parts), made.folder, made.folder / "part.aaf")
    heard = read_aaf(made.folder / "part.aaf").play(2)
    np.testing.assert_array_equal(heard[:, 7:], made.original[:, 100:1_099])


def test_every_stem_has_its_samples_on_two_tracks(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    session = open_session(made.folder)
    lanes = {lane.name: lane for lane in session.lanes}
    residual = next(name for name in lanes if name.startswith("Residual")).rpartition(".")[0]
    stems = {"Drums": "drums", "Bass": "bass", "Other": "other", "Vocals": "vocals", residual: "residual"}
    assert list(lanes) == [f"{name}.{side}" for name in stems for side in "LR"]
    for name, stem in stems.items():
        for channel, side in enumerate("LR"):
            lane = lanes[f"{name}.{side}"]
            np.testing.assert_array_equal(lane.samples, made.stems[stem][channel])
            assert (lane.pan, lane.rate) == (channel, 44_100)


def test_the_session_has_a_name_and_a_ruler_from_zero(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    session = open_session(made.folder)
    assert session.name == "song"
    # 6001 frames are 3.4 of 25 a second.
    assert session.ruler == (0, 4, 25)


@pytest.mark.parametrize("channels", [1, 6])
def test_only_pairs_are_panned(tmp_path: Path, channels: int) -> None:
    made = make_set(tmp_path, frames=FRAMES, channels=channels)
    session = open_session(made.folder)
    assert {lane.pan for lane in session.lanes} == {None}
    names = [lane.name for lane in session.lanes if lane.name.startswith("Drums")]
    assert names == (["Drums"] if channels == 1 else [f"Drums.{number}" for number in range(1, 7)])


def test_what_is_muted_is_left_out(tmp_path: Path) -> None:
    made = remix(tmp_path, make_set(tmp_path, frames=FRAMES), "[stems.vocals]\ngain_db = -6", stems_out=True)
    session = open_session(made.folder)
    assert not any(lane.name.startswith(("Mine", "Original")) for lane in session.lanes)
    np.testing.assert_array_equal(session.play(2), made.samples)
    arrangement = arrange(made.folder, made.manifest)
    tracks = (replace(arrangement.tracks[0], is_muted=True), *arrangement.tracks[1:])
    aaf.write_aaf(replace(arrangement, tracks=tracks), made.folder, made.folder / "muted.aaf")
    names = {lane.name for lane in read_aaf(made.folder / "muted.aaf").lanes}
    assert {lane.name for lane in session.lanes} - names == {"Drums.L", "Drums.R"}


def test_stems_that_are_all_silent_stay_apart(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, separator=ZeroSeparator(), format="flac24")
    for entry in made.manifest.stems[1:4]:
        (made.folder / entry.file).write_bytes((made.folder / made.manifest.stems[0].file).read_bytes())
    session = open_session(made.folder)
    assert len(session.lanes) == 10 and len(set(session.ids)) == 21
    np.testing.assert_array_equal(session.play(2), made.original)


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    first = export(made.folder).read_bytes()
    for path in made.folder.glob("*.wav"):
        path.touch()
    assert export(made.folder).read_bytes() == first
    assert read_aaf(made.folder / "song.aaf").dates == {datetime(2000, 1, 1)}


def test_other_samples_have_other_ids(tmp_path: Path) -> None:
    one = open_session(make_set(tmp_path / "a", frames=FRAMES).folder)
    other = open_session(make_set(tmp_path / "b", frames=FRAMES, seed=1).folder)
    assert not set(one.ids) & set(other.ids)


@pytest.mark.parametrize("kind", ["gridfloat", "double"])
def test_floats_are_refused_and_nothing_is_written(tmp_path: Path, kind: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, kind=kind)
    with pytest.raises(RequestError, match=r"drums\.wav.*(FLOAT|DOUBLE).*--format wav24"):
        export(made.folder)
    assert not list(made.folder.glob("*.aaf")) and not list(made.folder.glob(".*"))


class _LoudSeparator(FakeSeparator):
    def estimate(self, mixture: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        return 8 * super().estimate(mixture, start)


@pytest.mark.parametrize(("kind", "separator"), [("float", FakeSeparator()), ("pcm24", _LoudSeparator())])
def test_what_24_bits_do_not_hold_has_a_remedy_where_they_were_asked_for(
    tmp_path: Path, kind: str, separator: FakeSeparator
) -> None:
    made = make_set(tmp_path, frames=FRAMES, kind=kind, separator=separator, format="wav24")
    assert any(warning.endswith("written as 32-bit float WAV") for warning in made.manifest.warnings)
    with pytest.raises(RequestError, match=r"if that was asked for: export 24-bit .*, and quieter"):
        export(made.folder)


def test_more_than_a_wave_file_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aaf, "_MAX_BYTES", 3 * FRAMES - 1)
    made = make_set(tmp_path, frames=FRAMES, format="wav24")
    with pytest.raises(RequestError, match="6001 frames"):
        export(made.folder)
    made = make_set(tmp_path / "short", frames=FRAMES - 1, format="wav24")
    assert export(made.folder).is_file()


@pytest.mark.parametrize("text", ["it's", "übung 日本 😀", "no \udcff utf-8", "two\nlines", "nul\0"])
def test_a_name_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = arrange(made.folder, made.manifest)
    tracks = (replace(arrangement.tracks[0], name=text), *arrangement.tracks[1:])
    arrangement = replace(arrangement, name=text, tracks=tracks)
    aaf.write_aaf(arrangement, made.folder, made.folder / "song.aaf")
    session = read_aaf(made.folder / "song.aaf")
    said = text.replace("\udcff", "_").replace("\n", "_").replace("\0", "_")
    assert (session.name, session.lanes[0].name) == (said, f"{said}.L")


def test_a_file_that_is_gone_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    (made.folder / made.manifest.stems[1].file).unlink()
    with pytest.raises(SourceError, match=r"bass\.wav"):
        export(made.folder)
    assert not list(made.folder.glob("*.aaf")) and not list(made.folder.glob(".*"))


def test_a_file_that_became_shorter_is_refused(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = arrange(made.folder, made.manifest)
    longer = tuple(replace(track, frames=101) for track in arrangement.tracks)
    with pytest.raises(SourceError, match="101 frames"):
        aaf.write_aaf(replace(arrangement, tracks=longer), made.folder, made.folder / "song.aaf")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    path = export(made.folder)
    before = path.read_bytes()
    monkeypatch.setattr("full_disk.ROOM_BYTES", int(share * len(before)))
    with full_disk(), pytest.raises(OutputError, match="File too large"):
        export(made.folder)
    assert path.read_bytes() == before and not list(made.folder.glob(".*"))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    with pytest.raises(OutputError, match="none"):
        aaf.write_aaf(arrange(made.folder, made.manifest), made.folder, tmp_path / "none" / "song.aaf")
