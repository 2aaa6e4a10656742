"""The fake REAPER refuses what REAPER's API does not have, in both languages, and remembers it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from reaper_fake import ContractBreach, FakeReaper, Media, api, read_contract
from reaper_fake.contract import Language

LANGUAGES: tuple[Language, ...] = ("lua", "python")


@pytest.fixture
def reaper(tmp_path: Path) -> FakeReaper:
    """Return a REAPER with one selected item of one take."""
    host = FakeReaper(tmp_path)
    host.shelf.virtual["/m/a.wav"] = Media(np.ones((2, 100)), 44100)
    host.select(host.add_item(host.add_track("Mix"), "/m/a.wav"))
    return host


BREACHES = {
    "a name that does not exist": ("reaper.InsertTrackAtIdx(0, false)", None, "InsertTrackAtIdx"),
    "one argument too few": ("reaper.CountTracks()", "RPR_CountTracks()", "takes 1"),
    "one argument too many": ("reaper.CountTracks(0, 1)", "RPR_CountTracks(0, 1)", "takes 1"),
    "the other language's arity": (
        "reaper.EnumProjects(-1, '', 512)",
        "RPR_EnumProjects(-1)",
        "EnumProjects takes",
    ),
    "a text for a number": ("reaper.GetTrack(0, 'x')", "RPR_GetTrack(0, 'x')", "idx = 'x'"),
    "half a track": ("reaper.GetTrack(0, 0.5)", "RPR_GetTrack(0, 0.5)", "idx = 0.5"),
    "a number for a truth value": ("reaper.Help_Set('x', 2)", "RPR_Help_Set('x', 2)", "is_temporary"),
    "a track for an item": (
        "reaper.GetActiveTake(reaper.GetTrack(0, 0))",
        "RPR_GetActiveTake(RPR_GetTrack(0, 0))",
        "GetActiveTake",
    ),
    "null": ("reaper.CountTakes(nil)", "RPR_CountTakes(RPR_GetMediaItem(0, 7))", "CountTakes"),
    "a parameter name nobody knows": (
        "reaper.GetMediaItemInfo_Value(reaper.GetMediaItem(0, 0), 'D_FADEINLENGTH')",
        "RPR_GetMediaItemInfo_Value(RPR_GetMediaItem(0, 0), 'D_FADEINLENGTH')",
        "D_FADEINLENGTH",
    ),
    "a text under a number's name": (
        "reaper.GetSetMediaTrackInfo_String(reaper.GetTrack(0, 0), 'P_NOTES', '', false)",
        "RPR_GetSetMediaTrackInfo_String(RPR_GetTrack(0, 0), 'P_NOTES', '', False)",
        "P_NOTES",
    ),
    "P_EXT without a name": (
        "reaper.GetSetMediaTrackInfo_String(reaper.GetTrack(0, 0), 'P_EXT:', '', false)",
        "RPR_GetSetMediaTrackInfo_String(RPR_GetTrack(0, 0), 'P_EXT:', '', False)",
        "P_EXT:",
    ),
    "setting what is read-only": (
        "reaper.Undo_BeginBlock2(0) "
        "reaper.SetMediaTrackInfo_Value(reaper.GetTrack(0, 0), 'IP_TRACKNUMBER', 1)",
        "RPR_Undo_BeginBlock2(0)\nRPR_SetMediaTrackInfo_Value(RPR_GetTrack(0, 0), 'IP_TRACKNUMBER', 1)",
        "read-only",
    ),
    "a value that would not be kept": (
        "reaper.Undo_BeginBlock2(0) "
        "reaper.SetMediaItemInfo_Value(reaper.GetMediaItem(0, 0), 'I_GROUPID', 0.5)",
        "RPR_Undo_BeginBlock2(0)\nRPR_SetMediaItemInfo_Value(RPR_GetMediaItem(0, 0), 'I_GROUPID', 0.5)",
        "I_GROUPID is whole",
    ),
    "a change outside of a block": (
        "reaper.SetMediaItemInfo_Value(reaper.GetMediaItem(0, 0), 'B_MUTE', 1)",
        "RPR_SetMediaItemInfo_Value(RPR_GetMediaItem(0, 0), 'B_MUTE', 1)",
        "outside of an undo block",
    ),
    "a block left open": ("reaper.Undo_BeginBlock2(0)", "RPR_Undo_BeginBlock2(0)", "open at the end"),
    "a block in a block": (
        "reaper.Undo_BeginBlock2(0) reaper.Undo_BeginBlock2(0)",
        "RPR_Undo_BeginBlock2(0)\nRPR_Undo_BeginBlock2(0)",
        "inside of a block",
    ),
    "a change without an undo step": (
        "reaper.Undo_BeginBlock2(0) reaper.SetMediaItemInfo_Value(reaper.GetMediaItem(0, 0), 'B_MUTE', 1) "
        "reaper.Undo_EndBlock2(0, 'x', 0)",
        "RPR_Undo_BeginBlock2(0)\nRPR_SetMediaItemInfo_Value(RPR_GetMediaItem(0, 0), 'B_MUTE', 1)\n"
        "RPR_Undo_EndBlock2(0, 'x', 0)",
        "leaves changes",
    ),
    "a refresh that stays off": (
        "reaper.PreventUIRefresh(1)",
        "RPR_PreventUIRefresh(1)",
        "PreventUIRefresh is 1",
    ),
    "a refresh too many": ("reaper.PreventUIRefresh(-1)", "RPR_PreventUIRefresh(-1)", "below 0"),
    "a process that is waited for": (
        "reaper.ExecProcess('x', 1000)",
        "RPR_ExecProcess('x', 1000)",
        "ExecProcess waits",
    ),
    "a process nobody expects": (
        "reaper.ExecProcess('x', -1)",
        "RPR_ExecProcess('x', -1)",
        "unexpected process",
    ),
    "a dialog nobody expects": ("reaper.MB('x', 'y', 0)", "RPR_MB('x', 'y', 0)", "unexpected dialog MB"),
    "an action that is not listed": (
        "reaper.Main_OnCommandEx(40001, 0, 0)",
        "RPR_Main_OnCommandEx(40001, 0, 0)",
        "no action 40001",
    ),
    "an extended state of two lines": (
        "reaper.SetExtState('s', 'k', 'a\\nb', false)",
        "RPR_SetExtState('s', 'k', 'a\\nb', False)",
        "line break",
    ),
    "a deleted item": (
        "local t, i = reaper.GetTrack(0, 0), reaper.GetMediaItem(0, 0) reaper.Undo_BeginBlock2(0) "
        "reaper.DeleteTrackMediaItem(t, i) reaper.Undo_EndBlock2(0, 'x', -1) reaper.CountTakes(i)",
        "t, i = RPR_GetTrack(0, 0), RPR_GetMediaItem(0, 0)\nRPR_Undo_BeginBlock2(0)\n"
        "RPR_DeleteTrackMediaItem(t, i)\nRPR_Undo_EndBlock2(0, 'x', -1)\nRPR_CountTakes(i)",
        "stale",
    ),
    "a pointer kept over an undo": (
        "local t = reaper.GetTrack(0, 0) reaper.Undo_BeginBlock2(0) reaper.InsertTrackAtIndex(1, false) "
        "reaper.Undo_EndBlock2(0, 'x', -1) reaper.Undo_DoUndo2(0) reaper.CountTrackMediaItems(t)",
        "t = RPR_GetTrack(0, 0)\nRPR_Undo_BeginBlock2(0)\nRPR_InsertTrackAtIndex(1, False)\n"
        "RPR_Undo_EndBlock2(0, 'x', -1)\nRPR_Undo_DoUndo2(0)\nRPR_CountTrackMediaItems(t)",
        "stale",
    ),
    "peaks finished too early": (
        "reaper.PCM_Source_BuildPeaks(reaper.PCM_Source_CreateFromFile('/m/a.wav'), 2)",
        "RPR_PCM_Source_BuildPeaks(RPR_PCM_Source_CreateFromFile('/m/a.wav'), 2)",
        "before it was done",
    ),
    "a source destroyed in use": (
        "local take = reaper.GetTake(reaper.GetMediaItem(0, 0), 0) "
        "reaper.PCM_Source_Destroy(reaper.GetMediaItemTake_Source(take))",
        "RPR_PCM_Source_Destroy(RPR_GetMediaItemTake_Source(RPR_GetTake(RPR_GetMediaItem(0, 0), 0)))",
        "in use",
    ),
    "a chunk of something else": (
        "reaper.Undo_BeginBlock2(0) reaper.SetItemStateChunk(reaper.GetMediaItem(0, 0), '<ITEM\\n>', false)",
        "RPR_Undo_BeginBlock2(0)\nRPR_SetItemStateChunk(RPR_GetMediaItem(0, 0), '<ITEM\\n>', False)",
        "not one of this item",
    ),
    "a chunk with another value": (
        "local i = reaper.GetMediaItem(0, 0) local _, c = reaper.GetItemStateChunk(i, '', false) "
        "reaper.Undo_BeginBlock2(0) reaper.SetItemStateChunk(i, c:gsub('SOFFS 0', 'SOFFS 1'), false)",
        "i = RPR_GetMediaItem(0, 0)\nc = RPR_GetItemStateChunk(i, '', 4194304, False)[2]\n"
        "RPR_Undo_BeginBlock2(0)\nRPR_SetItemStateChunk(i, c.replace('SOFFS 0', 'SOFFS 1'), False)",
        "'SOFFS 1' in place of 'SOFFS 0'",
    ),
    "a section of no length": (
        "local i = reaper.GetMediaItem(0, 0) local _, c = reaper.GetItemStateChunk(i, '', false) "
        "reaper.Undo_BeginBlock2(0) reaper.SetItemStateChunk(i, (c:gsub('<SOURCE WAVE(.-)>', "
        "'<SOURCE SECTION\\n<SOURCE WAVE%1>\\n>')), false)",
        None,
        "without a LENGTH",
    ),
    "a take kept over a chunk": (
        "local i = reaper.GetMediaItem(0, 0) local t = reaper.GetTake(i, 0) "
        "local _, c = reaper.GetItemStateChunk(i, '', false) reaper.Undo_BeginBlock2(0) "
        "reaper.SetItemStateChunk(i, c, false) reaper.GetMediaItemTake_Source(t)",
        "i = RPR_GetMediaItem(0, 0)\nt = RPR_GetTake(i, 0)\n"
        "c = RPR_GetItemStateChunk(i, '', 4194304, False)[2]\nRPR_Undo_BeginBlock2(0)\n"
        "RPR_SetItemStateChunk(i, c, False)\nRPR_GetMediaItemTake_Source(t)",
        "stale",
    ),
    "a closed accessor": (
        "local a = reaper.CreateTakeAudioAccessor(reaper.GetTake(reaper.GetMediaItem(0, 0), 0)) "
        "reaper.DestroyAudioAccessor(a) reaper.GetAudioAccessorEndTime(a)",
        "a = RPR_CreateTakeAudioAccessor(RPR_GetTake(RPR_GetMediaItem(0, 0), 0))\n"
        "RPR_DestroyAudioAccessor(a)\nRPR_GetAudioAccessorEndTime(a)",
        "stale",
    ),
    "a shell from Lua": ("os.execute('true')", None, "os.execute"),
    "an unknown drawing function": ("gfx.blurt(1)", None, "gfx.blurt"),
    "a drawing function's arity": ("gfx.rect(1, 2)", None, "gfx.rect takes 4 to 5"),
    "a drawing variable nobody knows": ("gfx.colour = 1", None, "gfx.colour"),
    "setting the mouse": ("gfx.mouse_x = 1", None, "gfx.mouse_x"),
    "writing behind an array": ("reaper.new_array(4)[5] = 1", None, "has no 5"),
    "a name of the API overwritten": ("reaper.MB = print", None, "cannot be set"),
}


CASES = [
    pytest.param(language, code, message, id=f"{case}-{language}")
    for case, (lua, python, message) in BREACHES.items()
    for language, code in zip(LANGUAGES, (lua, python), strict=True)
    if code is not None
]


@pytest.mark.parametrize(("language", "code", "message"), CASES)
def test_breach_is_caught_and_kept(reaper: FakeReaper, language: Language, code: str, message: str) -> None:
    """A script that swallows the error fails its test all the same."""
    if language == "lua":
        swallowing = f"pcall(function() {code} end)"
    else:
        swallowing = "try:\n  " + code.replace("\n", "\n  ") + "\nexcept AssertionError:\n  pass"
    with pytest.raises(ContractBreach, match=message):
        reaper.run_code(language, swallowing)
    reaper.check()


def test_unknown_python_name_is_a_name_error(reaper: FakeReaper) -> None:
    """Python scripts see globals: one that does not exist fails as it does in REAPER."""
    with pytest.raises(NameError, match="RPR_get_action_context"):
        reaper.run_code("python", "RPR_get_action_context()")


def test_missing_function_is_gone_and_said_so(reaper: FakeReaper) -> None:
    """An old REAPER lacks InsertTrackInProject, and APIExists tells."""
    assert "InsertTrackInProject" in reaper.missing
    reaper.run_code("lua", "reaper.ShowConsoleMsg(tostring(reaper.APIExists('InsertTrackInProject')))")
    assert reaper.console == ["false"]
    with pytest.raises(ContractBreach, match="InsertTrackInProject is not in the contract"):
        reaper.run_code("lua", "reaper.InsertTrackInProject(0, 0, 0)")


def test_every_function_of_the_contract_is_there() -> None:
    """The table and the code name the same functions, but for those that a face answers itself."""
    of_faces = {"defer", "runloop", "atexit", "get_action_context", "set_action_options", "new_array"}
    names = set(read_contract().functions)
    assert {name for name in names if not callable(getattr(api, name, None))} == of_faces
    public = {name for name in vars(api) if name[0].isupper() and callable(getattr(api, name))}
    assert {name for name in public if getattr(api, name).__module__ == api.__name__} <= names


def test_python_tuples_are_as_long_as_reapers(reaper: FakeReaper) -> None:
    """A few shapes from the study, each echoed with every argument."""
    script = reaper.run_code(
        "python",
        "item = RPR_GetMediaItem(0, 0)\n"
        "take = RPR_GetActiveTake(item)\n"
        "source = RPR_GetMediaItemTake_Source(take)\n"
        "shapes = [RPR_EnumProjects(-1, '', 512), RPR_GetMediaSourceFileName(source, '', 512),\n"
        "  RPR_GetMediaSourceLength(source, False), RPR_PCM_Source_GetSectionInfo(source, 0, 0, 0),\n"
        "  RPR_GetSetMediaItemInfo_String(item, 'GUID', '', False),\n"
        "  RPR_GetSet_LoopTimeRange2(0, False, False, 0, 0, False), RPR_GetTakeMarker(take, 0, '', 64, 0)]\n",
    )
    shapes = cast("list[tuple[object, ...]]", script.globals["shapes"])
    assert [len(shape) for shape in shapes] == [4, 3, 3, 5, 5, 6, 6]
    assert shapes[1][1:] == ("/m/a.wav", 512)
    assert shapes[3][0] == 0
    assert shapes[4][2] == "GUID"
