"""Both faces of the fake REAPER do the same, each as its language sees REAPER."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from reaper_fake import ContractBreach, FakeReaper, Media, section_of
from reaper_fake.contract import Language

LANGUAGES: tuple[Language, ...] = ("lua", "python")

LUA_TWIN = """
reaper.Undo_BeginBlock2(0)
reaper.PreventUIRefresh(1)
local item = reaper.GetSelectedMediaItem(0, 0)
local take = reaper.GetActiveTake(item)
local source = reaper.GetMediaItemTake_Source(take)
local is_section, offs, len, rev = reaper.PCM_Source_GetSectionInfo(source)
local file = reaper.GetMediaSourceFileName(reaper.GetMediaSourceParent(source))
local track = reaper.GetMediaItem_Track(item)
local index = reaper.GetMediaTrackInfo_Value(track, "IP_TRACKNUMBER")
reaper.InsertTrackAtIndex(math.tointeger(index), false)
local child = reaper.GetTrack(0, math.tointeger(index))
local copy = reaper.AddMediaItemToTrack(child)
local new_take = reaper.AddTakeToMediaItem(copy)
reaper.SetMediaItemTake_Source(new_take, reaper.PCM_Source_CreateFromFile(file))
local _, chunk = reaper.GetItemStateChunk(copy, "", false)
local mode = rev and "MODE 2" or "MODE 0"
local wrapped = chunk:gsub("<SOURCE WAVE\\n(%s*FILE [^\\n]*)\\n%s*>", function(line)
  return "<SOURCE SECTION\\nLENGTH " .. string.format("%.17g", len) .. "\\nSTARTPOS "
    .. string.format("%.17g", offs) .. "\\n" .. mode .. "\\n<SOURCE WAVE\\n" .. line .. "\\n>\\n>"
end)
reaper.SetItemStateChunk(copy, wrapped, false)
new_take = reaper.GetActiveTake(copy)
for _, key in ipairs({"D_STARTOFFS", "D_VOL", "D_PAN", "D_PLAYRATE", "I_CHANMODE"}) do
  reaper.SetMediaItemTakeInfo_Value(new_take, key, reaper.GetMediaItemTakeInfo_Value(take, key))
end
for _, key in ipairs({"D_POSITION", "D_LENGTH", "B_LOOPSRC"}) do
  reaper.SetMediaItemInfo_Value(copy, key, reaper.GetMediaItemInfo_Value(item, key))
end
local _, name = reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", "", false)
reaper.GetSetMediaItemTakeInfo_String(new_take, "P_NAME", name .. " - vocals", true)
local _, guid = reaper.GetSetMediaItemInfo_String(item, "GUID", "", false)
reaper.GetSetMediaItemInfo_String(copy, "P_EXT:stembridge", guid, true)
reaper.SetProjExtState(0, "stembridge", "last", guid)
reaper.SetExtState("stembridge", "run", reaper.GetOS(), false)
reaper.PreventUIRefresh(-1)
reaper.Undo_EndBlock2(0, "twin", -1)
"""

PYTHON_TWIN = """
import re
RPR_Undo_BeginBlock2(0)
RPR_PreventUIRefresh(1)
item = RPR_GetSelectedMediaItem(0, 0)
take = RPR_GetActiveTake(item)
source = RPR_GetMediaItemTake_Source(take)
is_section, _, offs, length, rev = RPR_PCM_Source_GetSectionInfo(source, 0.0, 0.0, 0)
path = RPR_GetMediaSourceFileName(RPR_GetMediaSourceParent(source), "", 4096)[1]
track = RPR_GetMediaItem_Track(item)
index = int(RPR_GetMediaTrackInfo_Value(track, "IP_TRACKNUMBER"))
RPR_InsertTrackAtIndex(index, False)
child = RPR_GetTrack(0, index)
copy = RPR_AddMediaItemToTrack(child)
new_take = RPR_AddTakeToMediaItem(copy)
RPR_SetMediaItemTake_Source(new_take, RPR_PCM_Source_CreateFromFile(path))
chunk = RPR_GetItemStateChunk(copy, "", 4194304, False)[2]
wrapped = re.sub(
    r"<SOURCE WAVE\\n(\\s*FILE [^\\n]*)\\n\\s*>",
    lambda match: "<SOURCE SECTION\\nLENGTH %.17g\\nSTARTPOS %.17g\\nMODE %d\\n<SOURCE WAVE\\n%s\\n>\\n>"
    % (length, offs, 2 if rev else 0, match.group(1)),
    chunk,
)
RPR_SetItemStateChunk(copy, wrapped, False)
new_take = RPR_GetActiveTake(copy)
for key in ("D_STARTOFFS", "D_VOL", "D_PAN", "D_PLAYRATE", "I_CHANMODE"):
    RPR_SetMediaItemTakeInfo_Value(new_take, key, RPR_GetMediaItemTakeInfo_Value(take, key))
for key in ("D_POSITION", "D_LENGTH", "B_LOOPSRC"):
    RPR_SetMediaItemInfo_Value(copy, key, RPR_GetMediaItemInfo_Value(item, key))
name = RPR_GetSetMediaItemTakeInfo_String(take, "P_NAME", "", False)[3]
RPR_GetSetMediaItemTakeInfo_String(new_take, "P_NAME", name + " - vocals", True)
guid = RPR_GetSetMediaItemInfo_String(item, "GUID", "", False)[3]
RPR_GetSetMediaItemInfo_String(copy, "P_EXT:stembridge", guid, True)
RPR_SetProjExtState(0, "stembridge", "last", guid)
RPR_SetExtState("stembridge", "run", RPR_GetOS(), False)
RPR_PreventUIRefresh(-1)
RPR_Undo_EndBlock2(0, "twin", -1)
"""


def _project(folder: Path, *, is_reversed: bool = True) -> FakeReaper:
    """Return a REAPER with one selected section in a folder, named with what is no ASCII."""
    reaper = FakeReaper(folder)
    noise = np.random.default_rng(3).uniform(-1, 1, (2, 4410))
    reaper.shelf.virtual["/m/Größe 'ü'.wav"] = Media(noise, 44100)
    source = reaper.shelf.source("/m/Größe 'ü'.wav")
    assert source is not None
    track = reaper.add_track("Mix")
    item = reaper.add_item(
        track,
        section_of(source, 0.0123, 0.0456, is_reversed=is_reversed),
        name='日本 "mix"',
        D_POSITION=1 / 3,
        take_D_STARTOFFS=0.01,
    )
    reaper.select(item)
    return reaper


@pytest.mark.parametrize("is_reversed", [False, True])
def test_same_calls_same_project(tmp_path: Path, is_reversed: bool) -> None:
    """A copy through a state chunk, made in both languages, ends in equal projects that sound alike."""
    hosts = []
    for language, code in zip(LANGUAGES, (LUA_TWIN, PYTHON_TWIN), strict=True):
        folder = tmp_path / language
        folder.mkdir()
        host = _project(folder, is_reversed=is_reversed)
        host.run_code(language, code)
        hosts.append(host)
    assert hosts[0].state() == hosts[1].state()
    copy = hosts[0].state()["projects"][0]["tracks"][1]["items"][0]
    assert copy["takes"][0]["name"] == '日本 "mix" - vocals'
    assert copy["takes"][0]["source"]["reversed"] is is_reversed
    assert copy["ext"] == {"stembridge": hosts[0].state()["projects"][0]["tracks"][0]["items"][0]["guid"]}


def test_a_difference_is_seen(tmp_path: Path) -> None:
    """The twin test has teeth: one value that differs is a difference of states."""
    left, right = _project(tmp_path), _project(tmp_path)
    assert left.state() == right.state()
    right.current.items[0].takes[0].values["D_PAN"] = 1e-12
    assert left.state() != right.state()
    left.current.items[0].takes[0].values["D_PAN"] = 1e-12
    assert left.state() == right.state()
    right.ext["stembridge", "run"] = "1"
    assert left.state() != right.state()


def test_deferred_code_runs_once_a_tick(tmp_path: Path) -> None:
    """Both languages are called back until they stop, then what was to happen at exit happens."""
    lua = (
        "local n = 0 local function tick() n = n + 1 reaper.ShowConsoleMsg('tick' .. n) "
        "if n < 3 then reaper.defer(tick) end end "
        "reaper.atexit(function() reaper.ShowConsoleMsg('exit') end) reaper.defer(tick)"
    )
    python = (
        "n = 0\ndef tick():\n  global n\n  n += 1\n  RPR_ShowConsoleMsg('tick%d' % n)\n"
        "  if n < 3: RPR_defer('tick()')\n"
        "RPR_atexit(\"RPR_ShowConsoleMsg('exit')\")\nRPR_defer('tick()')"
    )
    for language, code in zip(LANGUAGES, (lua, python), strict=True):
        reaper = FakeReaper(tmp_path)
        began = reaper.clock_s
        reaper.run_code(language, code)
        assert reaper.console == ["tick1", "tick2", "tick3", "exit"]
        assert reaper.clock_s == pytest.approx(began + 3 / 30)
        assert len(reaper.tick_ms) == 4


def test_block_over_two_ticks_is_refused(tmp_path: Path) -> None:
    """An undo block ends in the tick that it began in."""
    reaper = FakeReaper(tmp_path)
    with pytest.raises(ContractBreach, match="open at the end of a tick"):
        reaper.run_code(
            "lua",
            "reaper.Undo_BeginBlock2(0) reaper.defer(function() reaper.Undo_EndBlock2(0, 'x', -1) end)",
        )


def test_terminated_script_cleans_up(tmp_path: Path) -> None:
    """A script that is ended by the user runs nothing but its exit."""
    reaper = FakeReaper(tmp_path)
    path = tmp_path / "endless.lua"
    path.write_text(
        "local function again() reaper.defer(again) end again() "
        "reaper.atexit(function() reaper.ShowConsoleMsg('bye') end)"
    )
    script = reaper.start_lua(path)
    assert reaper.tick() and reaper.tick()
    reaper.terminate(script)
    assert reaper.console == ["bye"]
    assert not reaper.tick()


def test_python_script_sees_reapers_interpreter(tmp_path: Path) -> None:
    """No `__file__`, no arguments, its folder first; modules beside it are its own and see the API."""
    (tmp_path / "beside.py").write_text(
        "from reaper_python import *\ndef version(): return RPR_GetAppVersion()\n"
    )
    reaper = FakeReaper(tmp_path)
    code = (
        "import sys, beside\nassert '__file__' not in globals()\nassert sys.argv == ['']\n"
        "RPR_ShowConsoleMsg(sys.path[0])\nRPR_ShowConsoleMsg(beside.version())\n"
        "first = beside\nRPR_defer('import beside; assert beside is first')"
    )
    reaper.run_code("python", code)
    assert reaper.console == [str(tmp_path), reaper.app_version]
    newer = FakeReaper(tmp_path, app_version="7.78/linux-x86_64")
    newer.run_code("python", code)
    assert newer.console[1] == "7.78/linux-x86_64"
    assert "beside" not in sys.modules and "reaper_python" not in sys.modules


def test_lua_script_finds_itself(tmp_path: Path) -> None:
    """Lua knows its own file from get_action_context, and nothing is on the path."""
    reaper = FakeReaper(tmp_path)
    reaper.run_code(
        "lua",
        "local _, file = reaper.get_action_context() assert(package.path == '') "
        "reaper.ShowConsoleMsg(file) reaper.set_action_options(5)",
    )
    assert reaper.console == [str(tmp_path / "snippet.lua")]
    assert reaper.options == [5]


def test_null_is_nil_in_lua_and_a_true_text_in_python(tmp_path: Path) -> None:
    """What is not there: nil there, a pointer to 0 here, and a null text breaks REAPER's wrapper."""
    reaper = FakeReaper(tmp_path)
    reaper.run_code("lua", "assert(reaper.GetTrack(0, 0) == nil) assert(reaper.Undo_CanUndo2(0) == nil)")
    reaper.run_code("python", "assert RPR_GetTrack(0, 0) == '(MediaTrack*)0x0000000000000000'")
    with pytest.raises(AttributeError):
        reaper.run_code("python", "RPR_Undo_CanUndo2(0)")


def test_pointers_are_equal_and_good_keys(tmp_path: Path) -> None:
    """The same object is the same pointer each time."""
    reaper = FakeReaper(tmp_path)
    reaper.add_track("Mix")
    reaper.run_code(
        "lua",
        "local a, b = reaper.GetTrack(0, 0), reaper.GetTrack(0, 0) local found = {[a] = 'x'} "
        "assert(a == b and found[b] == 'x' and type(a) == 'userdata')",
    )
    reaper.run_code(
        "python", "assert RPR_GetTrack(0, 0) == RPR_GetTrack(RPR_EnumProjects(-1, '', 512)[0], 0)"
    )


def test_dialogs_are_answered_in_order(tmp_path: Path) -> None:
    """The queue of answers is what the user says; cancel is None."""
    reaper = FakeReaper(tmp_path)
    reaper.answers.extend([("GetUserInputs", "a,b"), ("GetUserFileNameForRead", None), ("MB", 6)])
    reaper.run_code(
        "lua",
        "local ok, text = reaper.GetUserInputs('t', 2, 'x,y', '1,2') assert(ok and text == 'a,b') "
        "assert(not reaper.GetUserFileNameForRead('', 't', '')) assert(reaper.MB('m', 't', 4) == 6)",
    )
    assert [kind for kind, _ in reaper.asked] == ["GetUserInputs", "GetUserFileNameForRead", "MB"]


def test_window_takes_keys_and_closes(tmp_path: Path) -> None:
    """What is drawn is seen after gfx.update, keys come one by one, a closed window says -1."""
    reaper = FakeReaper(tmp_path)
    path = tmp_path / "window.lua"
    path.write_text(
        "gfx.init('Stembridge', 420, 90) gfx.setfont(1, 'Arial', 16) "
        "local function draw() local key = gfx.getchar() if key < 0 then return end "
        "gfx.set(1) gfx.x, gfx.y = 8, 8 "
        "gfx.drawstr('key ' .. key .. ' at ' .. gfx.mouse_x .. ' of ' .. gfx.w) "
        "local w, h = gfx.measurestr('ab') assert(w > 0 and h == 16) "
        "gfx.update() reaper.defer(draw) end draw()"
    )
    reaper.start_lua(path)
    reaper.window.keys.append(27)
    reaper.window.click(12, 3)
    reaper.tick()
    assert reaper.window.shown_texts == ["key 27 at 12 of 420"]
    reaper.window.close()
    assert not reaper.tick()
    reaper.check()


def test_accessor_gives_the_take_in_both_languages(tmp_path: Path) -> None:
    """Interleaved samples of the take from its item's begin."""
    lua = (
        "local take = reaper.GetActiveTake(reaper.GetMediaItem(0, 0)) "
        "local a, b = reaper.CreateTakeAudioAccessor(take), reaper.new_array(8) "
        "assert(reaper.GetAudioAccessorSamples(a, 44100, 2, 0.0, 4, b) == 1) "
        "for i, v in ipairs(b.table()) do reaper.ShowConsoleMsg(string.format('%.17g', v)) end "
        "reaper.DestroyAudioAccessor(a)"
    )
    python = (
        "take = RPR_GetActiveTake(RPR_GetMediaItem(0, 0))\na = RPR_CreateTakeAudioAccessor(take)\n"
        "code, b = RPR_GetAudioAccessorSamples(a, 44100, 2, 0.0, 4, [0.0] * 8)\nassert code == 1\n"
        "for v in b: RPR_ShowConsoleMsg('%.17g' % v)\nRPR_DestroyAudioAccessor(a)"
    )
    samples = np.arange(1, 21, dtype=np.float64).reshape(2, 10) / 64
    for language, code in zip(LANGUAGES, (lua, python), strict=True):
        reaper = FakeReaper(tmp_path)
        reaper.shelf.virtual["/m/a.wav"] = Media(samples, 44100)
        reaper.add_item(reaper.add_track(), "/m/a.wav", take_D_STARTOFFS=2 / 44100)
        reaper.run_code(language, code)
        assert [float(text) for text in reaper.console] == samples[:, 2:6].T.ravel().tolist()


def test_accessor_is_silent_outside_of_the_item(tmp_path: Path) -> None:
    """Whatever the source has there."""
    reaper = FakeReaper(tmp_path)
    reaper.shelf.virtual["/m/a.wav"] = Media(np.ones((1, 20)), 44100)
    reaper.add_item(reaper.add_track(), "/m/a.wav", take_D_STARTOFFS=5 / 44100, D_LENGTH=4 / 44100)
    reaper.run_code(
        "python",
        "a = RPR_CreateTakeAudioAccessor(RPR_GetActiveTake(RPR_GetMediaItem(0, 0)))\n"
        "b = RPR_GetAudioAccessorSamples(a, 44100, 1, -2 / 44100, 8, [0.0] * 8)[1]\n"
        "for v in b: RPR_ShowConsoleMsg('%g' % v)\nRPR_DestroyAudioAccessor(a)",
    )
    assert reaper.console == ["0", "0", "1", "1", "1", "1", "0", "0"]


def test_process_line_reaches_the_spawner(tmp_path: Path) -> None:
    """The command line goes to the test, and what it returns comes back."""
    reaper = FakeReaper(tmp_path, spawner=lambda line: f"0\n{len(line)}")
    reaper.run_code("lua", "reaper.ShowConsoleMsg(reaper.ExecProcess('\"/a b/stembridge\" split', -2))")
    assert reaper.commands == ['"/a b/stembridge" split']
    assert reaper.console == ["0\n23"]


def test_folder_is_read_again_only_when_asked(tmp_path: Path) -> None:
    """EnumerateFiles gives the list of before until it is asked with -1; behind its end there is nil."""
    reaper = FakeReaper(tmp_path)
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a").touch()

    def write_file(line: str) -> str:
        (folder / line).touch()
        return ""

    reaper.spawner = write_file
    reaper.run_code(
        "lua",
        f"local folder = {str(folder)!r} assert(reaper.EnumerateFiles(folder, 0) == 'a') "
        "reaper.ExecProcess('b', -1) assert(reaper.EnumerateFiles(folder, 1) == nil) "
        "reaper.EnumerateFiles(folder, -1) assert(reaper.EnumerateFiles(folder, 1) == 'b')",
    )


def test_script_is_registered_once(tmp_path: Path) -> None:
    """AddRemoveReaScript gives one id per file, and 0 for a file that is not there."""
    reaper = FakeReaper(tmp_path)
    path = str(tmp_path / "snippet.py")
    reaper.run_code(
        "python",
        f"first = RPR_AddRemoveReaScript(True, 0, {path!r}, True)\nassert first > 0\n"
        f"assert RPR_AddRemoveReaScript(True, 0, {path!r}, True) == first\n"
        "assert RPR_AddRemoveReaScript(True, 0, '/none.lua', True) == 0\n",
    )
    assert list(reaper.registered) == [path]
    reaper.run_code("python", f"assert RPR_AddRemoveReaScript(False, 0, {path!r}, True)")
    assert not reaper.registered


def test_section_says_no_rate(tmp_path: Path) -> None:
    """Path and rate are the file's: a script has to climb to it."""
    reaper = _project(tmp_path)
    reaper.run_code(
        "lua",
        "local source = reaper.GetMediaItemTake_Source(reaper.GetActiveTake(reaper.GetMediaItem(0, 0))) "
        "assert(reaper.GetMediaSourceType(source) == 'SECTION') "
        "assert(reaper.GetMediaSourceFileName(source) == '') "
        "local file = reaper.GetMediaSourceParent(source) "
        "assert(reaper.GetMediaSourceSampleRate(source) == 0) "
        "assert(reaper.GetMediaSourceSampleRate(file) == 44100 and reaper.GetMediaSourceParent(file) == nil)",
    )


def test_state_replaces_names_and_numbers_guids(tmp_path: Path) -> None:
    """What differs from run to run can be named away; a GUID in a text is numbered like its track."""
    states = []
    for job in ("aaaa", "bbbb"):
        reaper = FakeReaper(tmp_path)
        if job == "bbbb":
            reaper.new_guid()
        reaper.shelf.virtual[f"/stems/{job}/vocals.wav"] = Media(np.ones((2, 10)), 44100)
        track = reaper.add_track("Vocals")
        item = reaper.add_item(track, f"/stems/{job}/vocals.wav")
        item.ext["stembridge"] = f"{job} of {track.guid}"
        states.append(reaper.state({job: "JOB"}))
    assert states[0] == states[1]
    assert states[0]["projects"][0]["tracks"][0]["items"][0]["ext"] == {"stembridge": "JOB of {0}"}


def test_python_truth_is_a_number(tmp_path: Path) -> None:
    """REAPER's wrapper gives back bytes of C, not booleans."""
    reaper = _project(tmp_path)
    reaper.run_code("python", "assert type(RPR_IsMediaItemSelected(RPR_GetMediaItem(0, 0))) is int")


def test_mute_clears_what_solo_had_overridden(tmp_path: Path) -> None:
    """B_MUTE takes the override away, B_MUTE_ACTUAL leaves it."""
    reaper = _project(tmp_path)
    reaper.run_code(
        "lua",
        "local item = reaper.GetMediaItem(0, 0) local get = reaper.GetMediaItemInfo_Value "
        "local set = reaper.SetMediaItemInfo_Value reaper.Undo_BeginBlock2(0) "
        "set(item, 'C_MUTE_SOLO', -1) set(item, 'B_MUTE_ACTUAL', 1) "
        "assert(get(item, 'B_MUTE') == 0 and get(item, 'B_MUTE_ACTUAL') == 1) "
        "set(item, 'B_MUTE', 1) assert(get(item, 'B_MUTE') == 1 and get(item, 'C_MUTE_SOLO') == 0) "
        "reaper.Undo_EndBlock2(0, 'mute', -1)",
    )


def test_source_in_use_is_duplicated_and_dies_with_its_take(tmp_path: Path) -> None:
    """Two takes never share a source, and the source of a deleted item is stale."""
    reaper = _project(tmp_path)
    code = (
        "local item, track = reaper.GetMediaItem(0, 0), reaper.GetTrack(0, 0) "
        "local source = reaper.GetMediaItemTake_Source(reaper.GetActiveTake(item)) "
        "reaper.Undo_BeginBlock2(0) local second = reaper.AddTakeToMediaItem(item) "
        "reaper.SetMediaItemTake_Source(second, source) "
        "assert(reaper.GetMediaItemTake_Source(second) ~= source) "
        "reaper.DeleteTrackMediaItem(track, item) reaper.Undo_EndBlock2(0, 'delete', -1) "
    )
    with pytest.raises(ContractBreach, match="stale source"):
        reaper.run_code("lua", code + "reaper.GetMediaSourceType(source)")
