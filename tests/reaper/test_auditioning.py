"""An audition is a few seconds at the edit cursor, heard at once, kept or gone without a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reaper_fake import FakeReaper
from studio import NO, YES, Studio

SEGMENT_S = 7.8


class PlayingReaper(FakeReaper):
    """A REAPER that remembers what it was doing whenever it asked something."""

    def ask(self, kind: str, text: str) -> object:
        self.was_playing = bool(self.current.play_state)
        return super().ask(kind, text)


def audition(studio: Studio, cursor: float, *answers: tuple[str, int]) -> list[str]:
    studio.reaper.current.cursor_s = cursor
    return studio.run("audition", *answers)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path, reaper=PlayingReaper(tmp_path / "resource"))


def test_what_is_kept_is_one_step_and_sums_to_the_song(studio: Studio) -> None:
    studio.add_song(seconds=60)
    before = studio.listen()
    told = audition(studio, 20.0, YES)
    assert told == [
        "song: the stems of this stretch are kept. The item was cut in three: Undo (Ctrl+Z) joins it again, "
        "without them."
    ]
    assert len(studio.find_track("song").items) == 3
    assert getattr(studio.reaper, "was_playing")  # noqa: B009
    stem = studio.find_track("Vocals").items[0]
    assert stem.position_s == 20.0
    assert 4.0 <= stem.length_s <= SEGMENT_S + 1e-9
    assert np.array_equal(studio.listen(), before)
    assert [label for label, _ in studio.reaper.current.undo] == ["Stembridge: audition song"]


def test_what_is_dropped_leaves_the_project_as_it_was(studio: Studio) -> None:
    studio.add_song(seconds=60)
    state = studio.tracks
    told = audition(studio, 20.0, NO)
    assert studio.tracks == state
    assert not studio.reaper.current.play_state
    assert told == ["song: as before; the files of its stems stay on the disk."]


@pytest.mark.parametrize(("cursor", "pieces"), [(0.0, "two"), (57.0, "two")])
def test_the_cuts_are_counted(studio: Studio, cursor: float, pieces: str) -> None:
    studio.add_song(seconds=60)
    assert f"cut in {pieces}:" in audition(studio, cursor, YES)[0]
    assert len(studio.find_track("song").items) == 2


def test_a_short_item_is_not_cut(studio: Studio) -> None:
    studio.add_song(seconds=3)
    assert audition(studio, 0.0, YES) == ["song: the stems of this stretch are kept."]


def test_what_played_before_goes_on_when_the_stems_are_dropped(studio: Studio) -> None:
    studio.add_song(seconds=60)
    state = studio.tracks
    studio.reaper.current.play_state = 1
    told = audition(studio, 20.0, NO)
    assert studio.reaper.current.play_state == 1
    assert studio.tracks == state
    assert told == ["song: as before; the files of its stems stay on the disk."]


def test_a_step_of_the_users_own_in_between_is_not_undone(tmp_path: Path) -> None:
    class BusyReaper(FakeReaper):
        def ask(self, kind: str, text: str) -> object:
            with self.user_edit("moved"):
                self.current.items[0].values["D_POSITION"] = 1.0
            return super().ask(kind, text)

    studio = Studio(tmp_path, reaper=BusyReaper(tmp_path / "resource"))
    studio.add_song(seconds=60)
    told = audition(studio, 20.0, NO)
    assert "could not be undone" in told[0]
    assert "Remove stems and restore the original" in told[0]
    assert studio.reaper.current.undo[-1][0] == "moved"
    assert "Vocals" in studio.track_names


@pytest.mark.parametrize("cursor", [0.4, 5.85, 9.99, 33.3, 58.0])
@pytest.mark.parametrize("offset", [0.0, 13.37])
def test_little_has_to_be_separated_for_it(studio: Studio, cursor: float, offset: float) -> None:
    studio.add_song(seconds=90.25, take_D_STARTOFFS=offset, D_LENGTH=60, D_POSITION=0.0)
    audition(studio, cursor, YES)
    [job] = studio.house.jobs.values()
    region = job.split.region
    assert region is not None
    first, last = region.start / 8000, (region.start + region.frames) / 8000
    stride = 0.75 * SEGMENT_S
    segments = [n for n in range(40) if n * stride < last and n * stride + SEGMENT_S > first]
    heard = studio.find_track("Vocals").items[0].length_s
    assert heard >= min(4.0, 60 - cursor) - 1e-9
    assert len(segments) <= 3
    assert len(segments) == 2 or heard > 4.0
    assert first <= offset + cursor
    assert offset + cursor + heard <= last + 1e-9


def test_a_selected_item_goes_before_one_that_is_not(studio: Studio) -> None:
    studio.add_song("one", seconds=30)
    two = studio.add_song("two", seconds=30, seed=2)
    studio.reaper.select(two)
    assert audition(studio, 3.0, YES)[0].startswith("two")
    studio.reaper.select()
    assert audition(studio, 20.0, YES)[0].startswith("one")


def test_a_muted_item_is_not_what_is_heard(studio: Studio) -> None:
    studio.add_song("one", seconds=30, B_MUTE=1.0)
    studio.add_song("two", seconds=30, seed=2)
    studio.reaper.select()
    assert audition(studio, 3.0, YES)[0].startswith("two")


def test_where_there_is_nothing_it_says_so(studio: Studio) -> None:
    assert audition(studio, 0.0) == [
        "The edit cursor is not on an item: put it where the stems are to be heard."
    ]
    studio.add_song(seconds=4)
    assert "not on a selected item" in audition(studio, 4.0)[0]
    empty = studio.reaper.add_item(studio.reaper.add_track("notes"), D_LENGTH=1.0)
    studio.reaper.select(empty)
    assert "it is empty" in audition(studio, 0.5)[0]


def test_a_reversed_item_is_heard_from_the_cursor_on(studio: Studio) -> None:
    item = studio.add_song(seconds=30)
    with studio.reaper.user_edit("reversed"):
        from reaper_fake.actions import toggle_reverse

        toggle_reverse(item, item.takes[0])
    before = studio.listen()
    audition(studio, 5.0, YES)
    assert studio.find_track("Vocals").items[0].position_s == 5.0
    assert np.array_equal(studio.listen(), before)


def test_while_reaper_records_nothing_is_played(studio: Studio) -> None:
    studio.add_song()
    studio.reaper.current.play_state = 5
    assert "REAPER records" in audition(studio, 0.5)[0]
    assert studio.track_names == ["song"]
