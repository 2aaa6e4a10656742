"""The fake REAPER's undo really restores, one step per block, and its tabs ask before they close."""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random

import numpy as np
import pytest

from reaper_fake import ContractBreach, FakeReaper, Media
from reaper_fake.random_items import fill_shelf, random_edit, random_item

CHANGE_EVERYTHING = """
reaper.Undo_BeginBlock2(0)
local track, item = reaper.GetTrack(0, 0), reaper.GetMediaItem(0, 0)
local take = reaper.GetActiveTake(item)
reaper.SetMediaTrackInfo_Value(track, "I_FOLDERDEPTH", 1)
reaper.GetSetMediaTrackInfo_String(track, "P_NAME", "Parent", true)
reaper.InsertTrackAtIndex(1, false)
local child = reaper.GetTrack(0, 1)
reaper.SetMediaTrackInfo_Value(child, "I_FOLDERDEPTH", -1)
local copy = reaper.AddMediaItemToTrack(child)
local second = reaper.AddTakeToMediaItem(copy)
reaper.SetMediaItemTake_Source(second, reaper.PCM_Source_CreateFromFile("/m/a.wav"))
reaper.SetMediaItemTakeInfo_Value(second, "D_STARTOFFS", 0.25)
reaper.SetTakeMarker(second, -1, "here", 0.5, 0)
reaper.SetMediaItemInfo_Value(copy, "D_LENGTH", 2.0)
reaper.SetMediaItemInfo_Value(item, "B_MUTE", 1)
reaper.GetSetMediaItemInfo_String(item, "P_EXT:stembridge", "job", true)
reaper.GetSetMediaItemTakeInfo_String(take, "P_EXT:stembridge", "stem", true)
reaper.GetSetMediaTrackInfo_String(track, "P_EXT:stembridge", "set", true)
reaper.GetSetMediaItemInfo_String(item, "P_NOTES", "note", true)
reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", "name", true)
reaper.SplitMediaItem(item, reaper.GetMediaItemInfo_Value(item, "D_POSITION") + 0.001)
reaper.Main_OnCommandEx(41051, 0, 0)
reaper.Undo_EndBlock2(0, "everything", -1)
"""


@pytest.fixture
def reaper(tmp_path: Path) -> FakeReaper:
    """Return a REAPER with one selected item."""
    host = FakeReaper(tmp_path)
    host.shelf.virtual["/m/a.wav"] = Media(np.ones((2, 4410)), 44100)
    host.select(host.add_item(host.add_track("Mix"), "/m/a.wav", D_POSITION=1.0))
    return host


def _music(reaper: FakeReaper) -> object:
    """Return the state without the lists of steps."""
    tracks = copy.deepcopy(reaper.state()["projects"][0]["tracks"])
    return tracks


def test_one_step_back_and_forth(reaper: FakeReaper) -> None:
    """Undo gives back the very project of before, redo the one of after, as often as one likes."""
    before = _music(reaper)
    reaper.run_code("lua", CHANGE_EVERYTHING)
    after = _music(reaper)
    assert after != before
    for _ in range(2):
        assert reaper.undo_once()
        assert _music(reaper) == before
        assert not reaper.undo_once()
        assert reaper.redo_once()
        assert _music(reaper) == after
        assert not reaper.redo_once()
    assert [label for label, _ in reaper.current.undo] == ["everything"]


def test_the_users_edits_are_steps_of_their_own(tmp_path: Path) -> None:
    """Random edits come back one by one, and a new one forgets what was undone."""
    rng = Random(7)
    reaper = FakeReaper(tmp_path)
    paths = fill_shelf(rng, reaper)
    track = reaper.add_track("Mix")
    random_item(rng, reaper, track, paths)
    states = [_music(reaper)]
    for _ in range(20):
        random_edit(rng, reaper, rng.choice(reaper.current.items))
        states.append(_music(reaper))
    for expected in states[-2::-1]:
        assert reaper.undo_once()
        assert _music(reaper) == expected
    reaper.redo_once()
    random_edit(rng, reaper, reaper.current.items[0])
    assert not reaper.redo_once()


def test_new_step_forgets_what_was_undone(reaper: FakeReaper) -> None:
    """After a block there is nothing to redo."""
    insert = (
        "reaper.Undo_BeginBlock2(0) reaper.InsertTrackAtIndex(1, false) reaper.Undo_EndBlock2(0, 'x', -1)"
    )
    reaper.run_code("lua", insert)
    assert reaper.undo_once()
    reaper.run_code("lua", insert)
    assert not reaper.redo_once()
    assert len(reaper.current.tracks) == 2


def test_pointer_does_not_come_back_with_redo(reaper: FakeReaper) -> None:
    """Undo and redo build the objects anew: only a GUID finds them again."""
    with pytest.raises(ContractBreach, match="stale"):
        reaper.run_code(
            "lua",
            "reaper.Undo_BeginBlock2(0) reaper.InsertTrackAtIndex(1, false) "
            "reaper.Undo_EndBlock2(0, 'x', -1) local track = reaper.GetTrack(0, 0) "
            "reaper.Undo_DoUndo2(0) reaper.Undo_DoRedo2(0) reaper.CountTrackMediaItems(track)",
        )


def test_block_without_flags_adds_no_step(reaper: FakeReaper) -> None:
    """A bake that is taken away again leaves no step, if the active take is put back."""
    reaper.run_code(
        "python",
        "item = RPR_GetSelectedMediaItem(0, 0)\n"
        "RPR_Undo_BeginBlock2(0)\n"
        "RPR_Main_OnCommandEx(41999, 0, 0)\n"
        "RPR_Main_OnCommandEx(40129, 0, 0)\n"
        "RPR_SetActiveTake(RPR_GetTake(item, 0))\n"
        "RPR_Undo_EndBlock2(0, 'bake', 0)\n",
    )
    assert reaper.current.undo == []
    assert not reaper.current.is_dirty


def test_undo_in_a_block_is_refused(reaper: FakeReaper) -> None:
    """REAPER's history is no place to go to while a block is open."""
    with pytest.raises(ContractBreach, match="inside of an undo block"):
        reaper.run_code("python", "RPR_Undo_BeginBlock2(0)\nRPR_Undo_DoUndo2(0)")


def test_closing_a_changed_tab_asks(reaper: FakeReaper) -> None:
    """A scratch tab closes silently only after all of it was undone."""
    scratch = "reaper.Main_OnCommandEx(40859, 0, 0) "
    change = (
        "reaper.Undo_BeginBlock2(0) reaper.InsertTrackAtIndex(0, false) reaper.Undo_EndBlock2(0, 'x', -1) "
    )
    close = "reaper.Main_OnCommandEx(40860, 0, 0) "
    before = reaper.state()
    with pytest.raises(ContractBreach, match="unexpected dialog save"):
        reaper.run_code("lua", scratch + change + close)
    reaper.current.undo.clear()
    reaper.run_code("lua", close)
    assert reaper.state() == before
    reaper.run_code("lua", scratch + change + "reaper.Undo_DoUndo2(0) " + close)
    assert reaper.state() == before


def test_pointer_into_a_closed_tab_is_stale(reaper: FakeReaper) -> None:
    """ValidatePtr2 tells, and using it anyway is a breach."""
    code = (
        "reaper.Main_OnCommandEx(40859, 0, 0) local p = reaper.EnumProjects(-1) "
        "reaper.Main_OnCommandEx(40860, 0, 0) "
        "reaper.ShowConsoleMsg(tostring(reaper.ValidatePtr2(0, p, 'ReaProject*'))) "
    )
    reaper.run_code("lua", code)
    assert reaper.console == ["false"]
    with pytest.raises(ContractBreach, match="stale project"):
        reaper.run_code("lua", code + "reaper.CountTracks(p)")
    with pytest.raises(ContractBreach, match="stale track"):
        reaper.run_code(
            "lua",
            "local old, track = reaper.EnumProjects(-1), reaper.GetTrack(0, 0) "
            "reaper.Main_OnCommandEx(40860, 0, old) reaper.CountTrackMediaItems(track)",
        )
