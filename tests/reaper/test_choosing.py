"""Splitting with a choice: the cost is said first, what is wrong is asked again, what was chosen stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fake_house import FakeHouse
from stembridge.reaper import errands
from studio import RATE, Studio, fields

USUAL = ("good", "", "", "tracks", "n")
CANCEL = ("GetUserInputs", None)


def test_the_cost_of_the_selection_stands_in_the_title(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    first = studio.add_song("one", seconds=20)
    second = studio.add_song("two", seconds=10, seed=2)
    studio.reaper.select(first, second)
    studio.run("split_choose", CANCEL)
    # Four segments of 7.8 s and two, of which neighbours share a quarter, at 0.5 s per second: 23 s. Five
    # files of 24 bits at most four bytes a sample each.
    assert studio.titles == ["2 items, 30 s of audio: about 23 s, 10 MB"]
    assert studio.defaults == [list(USUAL)]
    assert studio.track_names == ["one", "two"]
    assert not studio.told


def test_half_precision_costs_what_was_measured_of_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "settings.toml").write_text('precision = "half"\n')
    studio = Studio(tmp_path, FakeHouse(home, costs={"htdemucs": 0.5, "htdemucs half": 0.1}))
    studio.reaper.select(studio.add_song(seconds=20))
    studio.run("split_choose", CANCEL)
    # Four segments of 7.8 s, of which neighbours share a quarter.
    assert studio.titles == ["1 item, 20 s of audio: about 3.1 s, 6 MB"]


def test_a_chop_of_a_long_file_is_reckoned_as_a_chop(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song(seconds=100, take_D_STARTOFFS=50, D_LENGTH=4)
    studio.run("split_choose", CANCEL)
    # With the segment that it only touches: (6 + 7.8) s at 0.5, a quarter of every segment twice.
    assert studio.titles == ["1 item, 6.0 s of audio: about 9.2 s, 2 MB"]


def test_what_is_chosen_is_split_and_is_what_plain_split_does_next(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song("one")
    before = studio.listen()
    studio.run("split_choose", fields("draft", "", "bass", "tracks", "n"))
    assert studio.track_names[1] == "Bass"
    assert len(studio.track_names) == 3
    assert np.array_equal(studio.listen(), before)
    studio.add_song("two", seed=2)
    studio.run("split")
    assert studio.track_names[4] == "Bass"
    assert len(studio.track_names) == 6
    assert {job.split.overlap for job in studio.house.jobs.values()} == {0.1}


def test_two_stems_are_chosen_as_one_and_the_rest(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song()
    before = studio.listen()
    studio.run("split_choose", fields("good", "", "drums/rest", "tracks", "n"))
    assert studio.track_names == ["song", "Drums", "No drums"]
    assert np.array_equal(studio.listen(), before)


def test_only_the_time_selection_is_split_if_that_is_wanted(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song()
    studio.reaper.current.time_selection = (1.0, 2.0)
    studio.run("split_choose", fields("good", "", "", "tracks", "yes"))
    placed = studio.find_track("Vocals").items[0]
    assert (placed.position_s, placed.length_s) == (1.0, 1.0)


def test_what_lies_outside_of_the_time_selection_is_left_out(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    one = studio.add_song("one")
    two = studio.add_song("two", seed=2, D_POSITION=10.0)
    studio.reaper.select(one, two)
    studio.reaper.current.time_selection = (1.0, 2.0)
    told = studio.run("split_choose", fields("good", "", "", "tracks", "y"))
    assert studio.track_names[-1] == "two"
    assert "two was skipped: it lies outside of the time selection" in told


@pytest.mark.parametrize(
    ("place", "wrong", "reason"),
    [
        (0, "bset", "one of draft, good, best"),
        (1, "htdemcs", "did you mean htdemucs"),
        (2, "kazoo", "has no stem 'kazoo'"),
        (3, "files", "one of tracks, takes"),
        (4, "perhaps", "y or n"),
        (4, "y", "there is no time selection"),
    ],
)
def test_what_is_wrong_is_asked_again(tmp_path: Path, place: int, wrong: str, reason: str) -> None:
    studio = Studio(tmp_path)
    studio.add_song()
    typed = list(USUAL)
    typed[place] = wrong
    studio.run("split_choose", fields(*typed), CANCEL)
    assert reason in studio.titles[1]
    assert studio.defaults[1] == typed
    assert studio.track_names == ["song"]
    assert not (tmp_path / "home" / "reaper.toml").exists()


def test_a_choice_that_takes_longer_than_was_said_is_shown_with_its_own_time(tmp_path: Path) -> None:
    house = FakeHouse(tmp_path / "home", costs={"htdemucs": 0.5, "htdemucs_ft": 0.5})
    studio = Studio(tmp_path, house)
    studio.add_song(seconds=10)
    slow = ("best", "", "", "tracks", "n")
    studio.run("split_choose", fields(*slow), fields(*slow))
    # Four models, two shifts each.
    assert studio.titles == [
        "1 item, 10 s of audio: about 7.8 s, 3 MB",
        "1 item, 10 s of audio: about 1:02 min, 3 MB",
    ]
    assert studio.defaults[1] == list(slow)
    assert "Vocals" in studio.track_names


def test_a_machine_that_has_never_run_a_model_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = {"gflops": 42.9 / 0.6}
    monkeypatch.setitem(errands.KINDS, "measure_speed", lambda _settings, _report: speed)
    studio = Studio(tmp_path, FakeHouse(tmp_path / "home"))
    studio.add_song(seconds=30)
    studio.run("split_choose", CANCEL)
    assert studio.titles == ["1 item, 30 s of audio: about 39 s (first time: reckoned), 10 MB"]
    assert studio.house.kinds == ["measure_speed"]


def test_what_cannot_be_split_is_said_without_a_dialog(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    assert "Nothing is selected" in studio.run("split_choose")[0]
    item = studio.reaper.add_item(studio.reaper.add_track("notes"), D_LENGTH=1.0)
    studio.reaper.select(item)
    assert "it is empty" in studio.run("split_choose")[0]


def test_the_rate_of_the_song_is_what_the_sums_above_are_made_with() -> None:
    assert RATE == 8000
