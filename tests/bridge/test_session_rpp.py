"""REAPER's project file: read by an independent reader, and what is heard of it."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remixes import make_set, remix
from rpp_projects import Session, Signal
from stembridge.errors import OutputError, RequestError, SourceError
from stembridge.looks import Looks
from stembridge.manifest import read_manifest
from stembridge.sessions.arrangement import arrange, seconds
from stembridge.sessions.rpp import quote, write_rpp
from stembridge.types import Region, ResidualPolicy

RATES_HZ = (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000, 352_800, 768_000)
FRAMES = 6_001
REGION = Region(4_321, 1_500)
DAY_S = 86_400


def export(folder: Path, target: Path | None = None) -> Path:
    """Write the session of a result folder, beside its files if nothing else is said."""
    target = target or folder / "song.rpp"
    write_rpp(arrange(folder, read_manifest(folder), home=target.parent), target.parent, target)
    return target


def heard_on_two(samples: Signal) -> Signal:
    """Return what a track of two channels makes of ``samples``: mono is heard on both sides."""
    return np.repeat(samples, 2, axis=0) if len(samples) == 1 else samples


def assert_plays(session: Session, original: Signal, start: int = 0) -> None:
    """Hold all of a session against the original from ``start`` on, silence before it; then switch over."""
    expected = np.zeros((max(2, len(original)), start + original.shape[1]))
    expected[:, start:] = heard_on_two(original)
    np.testing.assert_array_equal(session.play(), expected)
    np.testing.assert_array_equal(session.play_alone("Original"), expected)


CASES: dict[str, dict[str, Any]] = {
    "16 bits": {"kind": "pcm16"},
    "24 bits": {"kind": "pcm24"},
    "32-bit float": {"kind": "gridfloat"},
    "mono": {"channels": 1},
    "6 channels": {"channels": 6},
    "5 channels": {"channels": 5},
    "FLAC": {"format": "flac24"},
    "AIFF": {"format": "aiff16"},
    "two stems": {"two_stems": "vocals"},
    "some stems": {"stems": ("vocals", "bass")},
    "mono stems": {"mono": ("bass",)},
    "fold": {"residual": ResidualPolicy.EQUAL},
    "fold into other": {"residual": ResidualPolicy.OTHER},
    "names of one's own": {"file_names": "{stem} of {name}"},
    "MP3s beside them": {"mp3": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_session_plays_the_original(tmp_path: Path, case: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, **CASES[case])
    assert_plays(Session(export(made.folder)), made.original)


@pytest.mark.parametrize("kind", ["pcm16", "gridfloat"])
def test_a_region_stands_where_it_stood(tmp_path: Path, kind: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, kind=kind, region=REGION)
    region = made.original[:, REGION.start : REGION.start + REGION.frames]
    assert_plays(Session(export(made.folder)), region, REGION.start)


@pytest.mark.parametrize("region", [None, REGION])
def test_a_lossy_original_is_what_was_decoded(tmp_path: Path, region: Region | None) -> None:
    made = make_set(tmp_path, kind="ogg", frames=FRAMES, region=region)
    session = Session(export(made.folder))
    assert_plays(session, made.original, region.start if region else 0)
    assert session.files["song - mixture"].parent == made.folder


def test_floats_without_a_grid_are_heard_to_a_rounding(tmp_path: Path) -> None:
    made = make_set(tmp_path, kind="float", frames=FRAMES)
    heard = Session(export(made.folder)).play()
    assert np.abs(heard - made.original).max() < 2.0**-24


def test_all_of_it_can_be_moved(tmp_path: Path) -> None:
    made = make_set(tmp_path / "before", frames=FRAMES, region=REGION)
    session = export(made.folder)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "before", tmp_path / "elsewhere" / "after")
    moved = tmp_path / "elsewhere" / "after" / session.relative_to(tmp_path / "before")
    region = made.original[:, REGION.start : REGION.start + REGION.frames]
    assert_plays(Session(moved), region, REGION.start)


def test_a_session_may_lie_elsewhere(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    (tmp_path / "sessions").mkdir()
    session = export(made.folder, tmp_path / "sessions" / "mine.rpp")
    assert_plays(Session(session), made.original)
    assert 'FILE "../song.wav"' in session.read_text("utf-8")


def test_a_folder_reached_by_a_link_leads_to_the_original(tmp_path: Path) -> None:
    made = make_set(tmp_path / "real" / "deep", frames=FRAMES)
    (tmp_path / "link").symlink_to(made.folder)
    assert_plays(Session(export(tmp_path / "link")), made.original)


def test_tracks_are_what_a_user_expects(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    session = Session(export(made.folder))
    level_db = made.manifest.residual.level_db
    residual = Looks().of("residual", level_db).name
    names = [track.name for track in session.project.tracks]
    assert names == ["Original", "song", "Drums", "Bass", "Other", "Vocals", residual]
    muted = [track.name for track in session.project.tracks if track.values["B_MUTE"]]
    assert muted == ["Original"]
    assert [track.folder_depth for track in session.project.tracks] == [0, 1, 0, 0, 0, 0, -1]
    folders = [parent.name if parent else "" for _, parent in session.project.parents()]
    assert folders == ["", "", "song", "song", "song", "song", "song"]
    assert session.track("Vocals").values["I_CUSTOMCOLOR"] == 0x1000000 | 189 << 16 | 136 << 8 | 50
    assert [item.takes[0].name for item in session.track("Vocals").items] == ["song - vocals"]


def test_the_project_runs_at_the_rate_of_its_files(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    assert "  SAMPLERATE 44100 1 0\n" in export(made.folder).read_text("utf-8")


def test_a_project_leaves_nothing_to_preferences(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100, channels=3)
    text = export(made.folder).read_text("utf-8")
    assert "  PANLAW 1\n" in text and "  TIMELOCKMODE 0\n" in text
    # Of seconds, not of beats: nothing moves with the tempo.
    assert re.findall(r" BEAT (\S+)", text) == ["0"] * (7 + 6)
    # REAPER's tracks have an even number of channels.
    assert set(re.findall(r"NCHAN (\S+)", text)) == {"4"} and "MASTER_NCH 4 " in text


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    assert export(made.folder).read_bytes() == export(made.folder, made.folder / "b.rpp").read_bytes()


def test_a_remix_alone_is_one_track(tmp_path: Path) -> None:
    made = remix(tmp_path, make_set(tmp_path, frames=FRAMES), "[stems.vocals]\nmute = true")
    session = Session(export(made.folder))
    assert [(track.name, track.folder_depth) for track in session.project.tracks] == [("Mine", 0)]
    np.testing.assert_array_equal(session.play(), made.samples)


def test_the_stems_of_a_remix_sum_to_it_and_it_is_muted(tmp_path: Path) -> None:
    made = remix(tmp_path, make_set(tmp_path, frames=FRAMES), "[stems.vocals]\ngain_db = -6", stems_out=True)
    session = Session(export(made.folder))
    np.testing.assert_array_equal(session.play(), made.samples)
    np.testing.assert_array_equal(session.play_alone("Mine"), made.samples)
    assert [track.name for track in session.project.tracks if track.values["B_MUTE"]] == ["Mine"]


MUTANTS = {
    "a stem one frame late": (r"POSITION \S+(?=[^<]*NAME \"song - bass)", f"POSITION {1 / 44_100!r}"),
    "all stems one frame early": (r"SOFFS 0.0(?=[^<]*<[^<]*\"song - )", f"SOFFS {1 / 44_100!r}"),
    "a fade in": (r"FADEIN 0 0 0", "FADEIN 0 0.01 0"),
    "an automatic fade out": (r"FADEOUT 0 0 0", "FADEOUT 0 0 0.01"),
    "the original unmuted": (r"MUTESOLO 1", "MUTESOLO 0"),
    "a stem muted": (r"MUTE 0(?=[^<]*NAME \"song - bass)", "MUTE 1"),
    "a play rate": (r"PLAYRATE 1 1 0 -1(?=[^<]*<[^<]*bass)", "PLAYRATE 1.001 1 0 -1"),
    "a pan law": (r"VOLPAN 1 0 1 -1 1", "VOLPAN 1 0 0.7071 -1 1"),
    "an item cut": (r"LENGTH \S+", f"LENGTH {6_000 / 44_100!r}"),
    "a folder that sends nothing": (
        r"ISBUS 1 1\n(.*\n){3}",
        "ISBUS 1 1\n    NCHAN 2\n    MAINSEND 0 0\n  >\n",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_model_hears_what_is_wrong(tmp_path: Path, mutant: str) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    path = export(made.folder)
    pattern, wrong = MUTANTS[mutant]
    text, count = re.subn(pattern, wrong, path.read_text("utf-8"))
    assert count
    heard = Session(path, text).play(FRAMES)
    assert not np.array_equal(heard, made.original)


@given(rate=st.sampled_from(RATES_HZ), data=st.data())
def test_seconds_lead_back_to_the_frame(rate: int, data: st.DataObject) -> None:
    frame = data.draw(st.integers(0, DAY_S * rate))
    text = seconds(frame, rate)
    assert re.fullmatch(r"\d+(\.\d+)?", text)
    assert float(text) == frame / rate
    assert abs(Fraction(float(text)) * rate - frame) < Fraction(1, 10_000)
    assert round(float(text) * rate) == frame


@pytest.mark.parametrize(
    "text", ["plain", "two words", "it's", 'a "b"', "`a` 'b'", "", "#;<|>", "übung 日本 😀"]
)
def test_a_name_is_read_as_it_was_written(tmp_path: Path, text: str) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = replace(arrange(made.folder, made.manifest), name=text)
    write_rpp(arrangement, made.folder, made.folder / "song.rpp")
    assert Session(made.folder / "song.rpp").project.tracks[1].name == text


@pytest.mark.parametrize("text", ["\"all' three`", "two\nlines", "a\rb", "no \udcff utf-8", "nul\0"])
def test_what_no_project_can_name_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="cannot name"):
        quote(text)


def test_an_original_whose_name_is_hard_is_found(tmp_path: Path) -> None:
    made = make_set(tmp_path / 'the "best" `of` us', frames=FRAMES)
    assert_plays(Session(export(made.folder)), made.original)


def test_a_file_that_is_gone_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    arrangement = arrange(made.folder, made.manifest)
    (made.folder / made.manifest.stems[1].file).unlink()
    with pytest.raises(SourceError, match=r"bass\.wav"):
        write_rpp(arrangement, made.folder, made.folder / "song.rpp")
    assert not list(made.folder.glob("*.rpp")) and not list(made.folder.glob(".*"))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=100)
    with pytest.raises(OutputError, match="none"):
        write_rpp(arrange(made.folder, made.manifest), made.folder, tmp_path / "none" / "song.rpp")
