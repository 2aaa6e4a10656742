"""Original <-> stems, by ear: what plays, what is muted, and one undo step each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reaper_fake import Item
from stem_items import delete_item, find_stems
from studio import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def are_muted(items: list[Item]) -> list[bool]:
    return [bool(item.values.get("B_MUTE_ACTUAL")) for item in items]


def undo_names(studio: Studio) -> list[str]:
    return [label for label, _ in studio.reaper.current.undo]


def test_there_and_back_in_one_undo_step_each(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    stems = find_stems(studio, "song")
    assert len(stems) == 5
    assert song.values["B_MUTE_ACTUAL"] == 1

    assert studio.run("toggle") == ["song: the original plays."]
    assert song.values["B_MUTE_ACTUAL"] == 0
    assert all(are_muted(stems))

    assert studio.run("toggle") == ["song: the stems play."]
    assert song.values["B_MUTE_ACTUAL"] == 1
    assert not any(are_muted(stems))
    assert undo_names(studio)[-2:] == ["Stembridge: original", "Stembridge: stems"]


def test_both_ways_sound_the_same(studio: Studio) -> None:
    studio.add_song(D_POSITION=0.5, take_D_STARTOFFS=0.25)
    before = studio.listen()
    studio.run("split")
    np.testing.assert_allclose(studio.listen(), before, atol=1e-12)
    studio.run("toggle")
    np.testing.assert_array_equal(studio.listen(), before)


def test_a_selected_stem_stands_for_its_family_and_for_no_other(studio: Studio) -> None:
    one, two = studio.add_song("one"), studio.add_song("two", seed=2)
    studio.reaper.select(one, two)
    studio.run("split")
    studio.reaper.select(find_stems(studio, "two")[3])
    studio.run("toggle")
    assert (one.values["B_MUTE_ACTUAL"], two.values["B_MUTE_ACTUAL"]) == (1, 0)
    assert not any(are_muted(find_stems(studio, "one")))
    assert all(are_muted(find_stems(studio, "two")))


def test_without_a_selection_all_go_to_the_stems_first(studio: Studio) -> None:
    one, two = studio.add_song("one"), studio.add_song("two", seed=2)
    studio.reaper.select(one, two)
    studio.run("split")
    studio.reaper.select(one)
    studio.run("toggle")
    studio.reaper.select()
    studio.run("toggle")
    assert (one.values["B_MUTE_ACTUAL"], two.values["B_MUTE_ACTUAL"]) == (1, 1)
    assert not any(are_muted(find_stems(studio, "one") + find_stems(studio, "two")))
    studio.run("toggle")
    assert (one.values["B_MUTE_ACTUAL"], two.values["B_MUTE_ACTUAL"]) == (0, 0)
    assert all(are_muted(find_stems(studio, "one") + find_stems(studio, "two")))


def test_of_many_items_only_the_count_is_told(studio: Studio) -> None:
    for number in range(6):
        studio.add_song(f"song{number}", seconds=1.0)
        studio.run("split")
    studio.reaper.select()
    assert studio.run("toggle") == ["6 items: the original plays."]


def test_a_stem_that_was_muted_alone_still_means_the_stems_play(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    stems = find_stems(studio, "song")
    stems[0].values["B_MUTE_ACTUAL"] = 1.0
    studio.run("toggle")
    assert song.values["B_MUTE_ACTUAL"] == 0
    studio.run("toggle")
    assert not any(are_muted(stems))


def test_a_locked_item_keeps_its_whole_family_as_it_is(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    stems = find_stems(studio, "song")
    stems[1].values["C_LOCK"] = 1.0
    assert studio.run("toggle") == ["song: it or one of its stems is locked, it stays as it is."]
    assert song.values["B_MUTE_ACTUAL"] == 1
    assert not any(are_muted(stems))


def test_what_has_no_stems_is_told(studio: Studio) -> None:
    song = studio.add_song()
    assert studio.run("toggle") == ["The selected items have no stems: split them first."]
    studio.reaper.select()
    assert studio.run("toggle") == ["This project has no stems: select items and split them first."]
    studio.reaper.select(song)
    studio.run("split")
    delete_item(song)
    told = studio.run("toggle")
    assert told == ["song: its original is gone, there is nothing to switch to."]
