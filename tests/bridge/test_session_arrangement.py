"""Where a set stands in a session, and whether there is an original to compare it with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remixes import MadeSet, make_set, remix
from signals import make_noise, to_ints, write_pcm
from stembridge.errors import SourceError
from stembridge.manifest import SourceEntry
from stembridge.sessions.arrangement import Arrangement, arrange
from stembridge.types import Region

FRAMES = 2_001
REGION = Region(700, 1_000)


def with_source(made: MadeSet, **changes: object) -> Arrangement:
    """Arrange a set whose manifest says something else of its source."""
    source = SourceEntry(**{**_fields(made.manifest.source), **changes})  # type: ignore[arg-type]
    return arrange(made.folder, replace(made.manifest, source=source))


def _fields(source: SourceEntry) -> dict[str, object]:
    return {name: getattr(source, name) for name in SourceEntry.__slots__}


def test_a_whole_set_begins_with_the_session(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    session = arrange(made.folder, made.manifest)
    assert (session.name, session.sample_rate, session.channels, session.frames) == (
        "song",
        44_100,
        2,
        FRAMES,
    )
    assert {(track.position_frames, track.offset_frames, track.frames) for track in session.tracks} == {
        (0, 0, FRAMES)
    }
    assert [str(track.file) for track in session.tracks] == [entry.file for entry in made.manifest.stems]
    assert not any(track.is_muted for track in session.tracks)
    assert session.remarks == ()


def test_a_region_of_the_original_lies_under_its_stems(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, region=REGION)
    session = arrange(made.folder, made.manifest)
    original = session.original
    assert original is not None and original.is_muted
    assert (original.position_frames, original.offset_frames, original.frames) == (700, 700, 1_000)
    assert {(track.position_frames, track.offset_frames, track.frames) for track in session.tracks} == {
        (700, 0, 1_000)
    }
    assert session.frames == 1_700


def test_an_original_in_a_common_folder_is_found_by_a_relative_way(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    original = arrange(made.folder, made.manifest).original
    assert original is not None and original.file.as_posix() == "../../song.wav"


def test_an_original_on_another_side_of_the_disk_is_found_by_its_whole_path(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    session = arrange(made.folder, made.manifest, home=Path("/nowhere/sessions"))
    assert session.original is not None and session.original.file == tmp_path / "song.wav"
    assert session.tracks[0].file == made.folder / made.manifest.stems[0].file


def test_a_link_that_names_the_original_keeps_its_name(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    (tmp_path / "songs").mkdir()
    (tmp_path / "songs" / "hit.wav").symlink_to(tmp_path / "song.wav")
    session = with_source(made, path=str(tmp_path / "songs" / "hit.wav"))
    assert session.original is not None and session.original.file.as_posix() == "../../songs/hit.wav"


def test_an_original_that_is_gone_is_told(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    (tmp_path / "song.wav").unlink()
    session = arrange(made.folder, made.manifest)
    assert session.original is None and len(session.tracks) == 5
    (remark,) = session.remarks
    assert "song.wav' does not exist" in remark


def test_another_file_in_its_place_is_no_original(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    write_pcm(tmp_path / "song.wav", to_ints(make_noise(FRAMES + 1, 2), 16), 44_100, 16)
    session = arrange(made.folder, made.manifest)
    assert session.original is None
    assert "not the original any more" in session.remarks[0]


def test_a_new_mix_of_the_same_length_is_no_original(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, region=REGION)
    ints = to_ints(made.original, 16)
    ints[1, REGION.start + REGION.frames - 1] ^= 1
    write_pcm(tmp_path / "song.wav", ints, 44_100, 16)
    session = arrange(made.folder, made.manifest)
    assert session.original is None
    assert "not the original any more" in session.remarks[0]
    # What was changed outside of the region nobody hears here.
    ints[1, REGION.start + REGION.frames - 1] ^= 1
    ints[1, REGION.start + REGION.frames] ^= 1
    write_pcm(tmp_path / "song.wav", ints, 44_100, 16)
    assert arrange(made.folder, made.manifest).original is not None


def test_control_characters_are_in_no_session(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    odd = (tmp_path / "song.wav").rename(tmp_path / "two\nlines.wav")
    session = with_source(made, path=str(odd))
    assert session.original is None
    assert "control characters" in session.remarks[0]


def test_channels_in_another_order_are_no_original(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES, channels=6)
    assert arrange(made.folder, made.manifest).original is not None
    caf = tmp_path / "song.caf"
    write_pcm(caf, to_ints(made.original, 16), 44_100, 16, "CAF")
    _put_centre_first(caf)
    session = with_source(made, path=str(caf))
    assert session.original is None
    assert "another order" in session.remarks[0]


def _put_centre_first(path: Path) -> None:
    """Say in a CAF of six channels that they are centre, left, right, both surrounds and LFE: MPEG 5.1 D."""
    data = path.read_bytes()
    layout = np.array([124 << 16 | 6, 0, 0], ">u4").tobytes()
    at = data.index(b"data", 8)
    path.write_bytes(data[:at] + b"chan" + np.array([len(layout)], ">i8").tobytes() + layout + data[at:])


def test_a_stem_that_is_gone_is_named(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    (made.folder / made.manifest.stems[2].file).unlink()
    with pytest.raises(SourceError, match=r"other\.wav' is missing"):
        arrange(made.folder, made.manifest)


def test_a_stem_that_is_not_what_was_written_is_named(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    write_pcm(made.folder / made.manifest.stems[1].file, to_ints(make_noise(FRAMES - 1, 2), 16), 44_100, 16)
    with pytest.raises(SourceError, match=r"bass\.wav' is not what was written"):
        arrange(made.folder, made.manifest)


@pytest.mark.parametrize("file_format", ["auto", "flac24", "aiff24"])
def test_a_remix_of_a_region_stands_where_the_region_stood(tmp_path: Path, file_format: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, region=REGION, format=file_format)
    mixed = remix(tmp_path, made, "[stems.vocals]\ngain_db = -6", stems_out=True)
    session = arrange(mixed.folder, mixed.manifest)
    assert session.name == "song - mine"
    assert session.original is not None and session.original.name == "Mine"
    assert {track.position_frames for track in (*session.tracks, session.original)} == {700}
    assert session.frames == 1_700


def test_a_session_may_be_named(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    assert arrange(made.folder, made.manifest, name="mine").name == "mine"
