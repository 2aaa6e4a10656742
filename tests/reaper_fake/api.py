"""The API functions by REAPER's names, over objects of the model. Faces check kinds and pointers before."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from reaper_fake import actions
from reaper_fake.chunks import apply_item_chunk, write_item_chunk
from reaper_fake.model import FakeProject, Item, Source, Take, Track
from reaper_fake.playback import render_dry_take
from reaper_fake.reaper import POINTER_TYPES, Accessor, FakeReaper, Pointer

T = TypeVar("T")

# projects


def EnumProjects(host: FakeReaper, idx: int) -> tuple[FakeProject | None, str]:
    if idx == -1:
        found: FakeProject | None = host.current
    else:
        found = host.projects[idx] if 0 <= idx < len(host.projects) else None
    return found, found.name if found else ""


def GetProjectName(host: FakeReaper, proj: FakeProject) -> str:
    return Path(proj.name).name


def GetProjectPathEx(host: FakeReaper, proj: FakeProject) -> str:
    return proj.folder


def GetProjectStateChangeCount(host: FakeReaper, proj: FakeProject) -> int:
    return proj.change_count


def GetProjectTimeOffset(host: FakeReaper, proj: FakeProject, rndframe: bool) -> float:
    return proj.time_offset_s


def GetSetProjectInfo(host: FakeReaper, proj: FakeProject, desc: str, value: float, is_set: bool) -> float:
    keys = host.contract.keys["project"]
    if desc not in keys.writable | keys.read_only or (is_set and desc in keys.read_only):
        raise host.breach(f"GetSetProjectInfo: {desc!r} cannot be {'set' if is_set else 'read'}")
    if is_set:
        proj.values[desc] = float(value)
    return float(proj.is_dirty) if desc == "DIRTY" else proj.values.get(desc, 0.0)


def GetSetProjectInfo_String(
    host: FakeReaper, proj: FakeProject, desc: str, value: str, is_set: bool
) -> tuple[bool, str]:
    keys = host.contract.keys["project"]
    if not keys.has_string(desc) or (is_set and desc in keys.strings_read_only):
        raise host.breach(f"GetSetProjectInfo_String: {desc!r} cannot be {'set' if is_set else 'read'}")
    if is_set:
        proj.texts[desc] = value
        return True, value
    if desc == "PROJECT_NAME":
        return True, Path(proj.name).name
    if desc == "RENDER_TARGETS":
        return True, str(actions.render_target(proj))
    return True, proj.texts.get(desc, "")


def GetProjExtState(host: FakeReaper, proj: FakeProject, extname: str, key: str) -> tuple[int, str]:
    value = proj.ext.get((extname, key), "")
    return len(value), value


def SetProjExtState(host: FakeReaper, proj: FakeProject, extname: str, key: str, value: str) -> int:
    if not value:
        proj.ext = {
            place: text
            for place, text in proj.ext.items()
            if place[0] != extname or (key and place[1] != key)
        }
        return 0
    proj.ext[extname, key] = value
    return len(value)


def IsProjectDirty(host: FakeReaper, proj: FakeProject) -> int:
    return int(proj.is_dirty)


def SelectProjectInstance(host: FakeReaper, proj: FakeProject) -> None:
    host.current = proj


# tracks


def CountTracks(host: FakeReaper, proj: FakeProject) -> int:
    return len(proj.tracks)


def GetTrack(host: FakeReaper, proj: FakeProject, idx: int) -> Track | None:
    return _at(proj.tracks, idx)


def GetParentTrack(host: FakeReaper, track: Track) -> Track | None:
    return dict(_project(track).parents())[track]


def GetTrackDepth(host: FakeReaper, track: Track) -> int:
    parents = dict(_project(track).parents())
    depth, above = 0, parents[track]
    while above is not None:
        depth, above = depth + 1, parents[above]
    return depth


def InsertTrackAtIndex(host: FakeReaper, idx: int, want_defaults: bool) -> None:
    InsertTrackInProject(host, host.current, idx, int(want_defaults))


def InsertTrackInProject(host: FakeReaper, proj: FakeProject, idx: int, flags: int) -> None:
    host.change(proj, "inserting a track")
    if flags & 1:
        raise host.breach("a stem track takes no default effects and envelopes")
    proj.insert_track(idx, Track(host.new_guid()))


def DeleteTrack(host: FakeReaper, track: Track) -> None:
    host.change(track.project, "DeleteTrack")
    _project(track).remove_track(track)


def GetMediaTrackInfo_Value(host: FakeReaper, track: Track, parmname: str) -> float:
    _check_readable(host, "track", parmname)
    if parmname == "IP_TRACKNUMBER":
        return float(_project(track).tracks.index(track) + 1)
    return track.values.get(parmname, 0.0)


def SetMediaTrackInfo_Value(host: FakeReaper, track: Track, parmname: str, value: float) -> bool:
    if parmname != "I_SELECTED":
        host.change(track.project, f"setting the track's {parmname}")
    _check_value(host, "track", parmname, value)
    if parmname == "I_NCHAN" and (value < 2 or value > 128 or value % 2):
        raise host.breach(f"I_NCHAN {value}")
    track.values[parmname] = float(value)
    return True


def GetSetMediaTrackInfo_String(
    host: FakeReaper, track: Track, parmname: str, value: str, is_set: bool
) -> tuple[bool, str]:
    return _get_set_text(host, "track", track, parmname, value, is_set)


def CountSelectedTracks(host: FakeReaper, proj: FakeProject) -> int:
    return sum(bool(track.values.get("I_SELECTED")) for track in proj.tracks)


def IsTrackSelected(host: FakeReaper, track: Track) -> bool:
    return bool(track.values.get("I_SELECTED"))


def SetTrackSelected(host: FakeReaper, track: Track, selected: bool) -> None:
    track.values["I_SELECTED"] = float(selected)


def SetOnlyTrackSelected(host: FakeReaper, track: Track) -> None:
    for other in _project(track).tracks:
        other.values["I_SELECTED"] = float(other is track)


def TrackFX_GetCount(host: FakeReaper, track: Track) -> int:
    return len(track.fx)


def TrackList_AdjustWindows(host: FakeReaper, is_minor: bool) -> None:
    pass


# items


def CountMediaItems(host: FakeReaper, proj: FakeProject) -> int:
    return len(proj.items)


def GetMediaItem(host: FakeReaper, proj: FakeProject, idx: int) -> Item | None:
    return _at(proj.items, idx)


def CountTrackMediaItems(host: FakeReaper, track: Track) -> int:
    return len(track.items)


def GetTrackMediaItem(host: FakeReaper, track: Track, idx: int) -> Item | None:
    return _at(track.sorted_items, idx)


def CountSelectedMediaItems(host: FakeReaper, proj: FakeProject) -> int:
    return len(proj.selected_items)


def GetSelectedMediaItem(host: FakeReaper, proj: FakeProject, idx: int) -> Item | None:
    return _at(proj.selected_items, idx)


def IsMediaItemSelected(host: FakeReaper, item: Item) -> bool:
    return bool(item.values.get("B_UISEL"))


def SetMediaItemSelected(host: FakeReaper, item: Item, selected: bool) -> None:
    item.values["B_UISEL"] = float(selected)


def SelectAllMediaItems(host: FakeReaper, proj: FakeProject, selected: bool) -> None:
    for item in proj.items:
        item.values["B_UISEL"] = float(selected)


def AddMediaItemToTrack(host: FakeReaper, track: Track) -> Item:
    host.change(track.project, "AddMediaItemToTrack")
    return track.add_item(Item(host.new_guid()))


def DeleteTrackMediaItem(host: FakeReaper, track: Track, item: Item) -> bool:
    host.change(track.project, "DeleteTrackMediaItem")
    if item.track is not track:
        return False
    track.remove_item(item)
    return True


def MoveMediaItemToTrack(host: FakeReaper, item: Item, track: Track) -> bool:
    host.change(track.project, "MoveMediaItemToTrack")
    if item.track is not None:
        item.track.remove_item(item)
    track.add_item(item)
    return True


def SplitMediaItem(host: FakeReaper, item: Item, position: float) -> Item | None:
    track = _track(item)
    host.change(track.project, "SplitMediaItem")
    return split_item(host, item, position)


def split_item(host: FakeReaper, item: Item, position: float) -> Item | None:
    """Return the right part of `item` cut at `position`; inner edges have no fade."""
    if not item.position_s < position < item.position_s + item.length_s:
        return None
    cut = position - item.position_s
    right = item.copy()
    right.guid = host.new_guid()
    for take in right.takes:
        take.guid = host.new_guid()
        take.values["D_STARTOFFS"] = take.values.get("D_STARTOFFS", 0.0) + cut * take.values["D_PLAYRATE"]
    right.values.update(D_POSITION=position, D_LENGTH=item.length_s - cut, D_SNAPOFFSET=0.0)
    item.values["D_LENGTH"] = cut
    for part, side in ((item, "OUT"), (right, "IN")):
        part.values.update({f"D_FADE{side}LEN": 0.0, f"D_FADE{side}LEN_AUTO": -1.0})
    return _track(item).add_item(right)


def GetMediaItem_Track(host: FakeReaper, item: Item) -> Track | None:
    return item.track


def GetMediaItemInfo_Value(host: FakeReaper, item: Item, parmname: str) -> float:
    _check_readable(host, "item", parmname)
    if parmname == "IP_ITEMNUMBER":
        return float(_track(item).sorted_items.index(item))
    if parmname == "B_MUTE":
        solo = item.values.get("C_MUTE_SOLO", 0.0)
        return float(solo > 0 or (solo == 0 and bool(item.values.get("B_MUTE_ACTUAL"))))
    return item.values.get(parmname, 0.0)


def SetMediaItemInfo_Value(host: FakeReaper, item: Item, parmname: str, value: float) -> bool:
    if parmname != "B_UISEL":
        host.change(_track(item).project, f"setting the item's {parmname}")
    _check_value(host, "item", parmname, value)
    if parmname == "D_LENGTH" and value < 0:
        raise host.breach(f"D_LENGTH {value}")
    if parmname == "I_CURTAKE" and not 0 <= value < max(len(item.takes), 1):
        raise host.breach(f"I_CURTAKE {value} of {len(item.takes)} takes")
    if parmname == "B_MUTE":
        item.values["B_MUTE_ACTUAL"] = float(value)
        item.values["C_MUTE_SOLO"] = 0.0
    else:
        item.values[parmname] = float(value)
    return True


def GetSetMediaItemInfo_String(
    host: FakeReaper, item: Item, parmname: str, value: str, is_set: bool
) -> tuple[bool, str]:
    return _get_set_text(host, "item", item, parmname, value, is_set)


def GetItemStateChunk(host: FakeReaper, item: Item, chunk: str, isundo: bool = False) -> tuple[bool, str]:
    return True, write_item_chunk(item)


def SetItemStateChunk(host: FakeReaper, item: Item, chunk: str, isundo: bool = False) -> bool:
    host.change(_track(item).project, "SetItemStateChunk")
    apply_item_chunk(item, chunk, host.shelf)
    return True


def UpdateItemInProject(host: FakeReaper, item: Item) -> None:
    pass


# takes


def CountTakes(host: FakeReaper, item: Item) -> int:
    return len(item.takes)


GetMediaItemNumTakes = CountTakes


def GetTake(host: FakeReaper, item: Item, idx: int) -> Take | None:
    return _at(item.takes, idx)


def GetActiveTake(host: FakeReaper, item: Item) -> Take | None:
    return item.active_take


def SetActiveTake(host: FakeReaper, take: Take) -> None:
    item = _item(take)
    host.change(_track(item).project, "SetActiveTake")
    item.values["I_CURTAKE"] = float(item.takes.index(take))


def AddTakeToMediaItem(host: FakeReaper, item: Item) -> Take:
    host.change(_track(item).project, "AddTakeToMediaItem")
    return item.add_take(Take(host.new_guid()))


def GetMediaItemTake_Item(host: FakeReaper, take: Take) -> Item | None:
    return take.item


def GetMediaItemTake_Track(host: FakeReaper, take: Take) -> Track | None:
    return _item(take).track


def GetMediaItemTake_Source(host: FakeReaper, take: Take) -> Source | None:
    return take.source


def SetMediaItemTake_Source(host: FakeReaper, take: Take, source: Source) -> bool:
    host.change(_track(_item(take)).project, "SetMediaItemTake_Source")
    take.set_source(source if source.owner is None else source.copy())
    return True


def GetMediaItemTakeInfo_Value(host: FakeReaper, take: Take, parmname: str) -> float:
    _check_readable(host, "take", parmname)
    if parmname == "IP_TAKENUMBER":
        return float(_item(take).takes.index(take))
    if parmname == "IP_SPECEDIT:CNT":
        return float(take.spectral_edits)
    return take.values.get(parmname, 0.0)


def SetMediaItemTakeInfo_Value(host: FakeReaper, take: Take, parmname: str, value: float) -> bool:
    host.change(_track(_item(take)).project, f"setting the take's {parmname}")
    _check_value(host, "take", parmname, value)
    if (parmname == "D_PLAYRATE" and value <= 0) or (parmname == "D_PAN" and abs(value) > 1):
        raise host.breach(f"{parmname} {value}")
    take.values[parmname] = float(value)
    return True


def GetSetMediaItemTakeInfo_String(
    host: FakeReaper, take: Take, parmname: str, value: str, is_set: bool
) -> tuple[bool, str]:
    return _get_set_text(host, "take", take, parmname, value, is_set)


def TakeIsMIDI(host: FakeReaper, take: Take) -> bool:
    return take.source is not None and take.source.root.kind == "MIDI"


def TakeFX_CopyToTake(
    host: FakeReaper, src_take: Take, src_fx: int, dest_take: Take, dest_fx: int, is_move: bool
) -> None:
    if not 0 <= src_fx < len(src_take.fx) or is_move:
        raise host.breach(f"TakeFX_CopyToTake of effect {src_fx} of {len(src_take.fx)}, moved: {is_move}")
    host.change(_track(_item(dest_take)).project, "TakeFX_CopyToTake")
    dest_take.fx.insert(dest_fx, src_take.fx[src_fx])


def TakeFX_GetCount(host: FakeReaper, take: Take) -> int:
    return len(take.fx)


def CountTakeEnvelopes(host: FakeReaper, take: Take) -> int:
    return take.envelopes


def GetTakeNumStretchMarkers(host: FakeReaper, take: Take) -> int:
    return take.stretch_markers


def GetNumTakeMarkers(host: FakeReaper, take: Take) -> int:
    return len(take.markers)


def GetTakeMarker(host: FakeReaper, take: Take, idx: int) -> tuple[float, str, int]:
    return take.markers[idx] if 0 <= idx < len(take.markers) else (-1.0, "", 0)


def SetTakeMarker(
    host: FakeReaper, take: Take, idx: int, name: str, srcpos: float | None = None, color: int | None = None
) -> int:
    host.change(_track(_item(take)).project, "SetTakeMarker")
    if idx >= len(take.markers) or (idx < 0 and srcpos is None):
        raise host.breach(f"SetTakeMarker: no marker {idx}")
    old = (0.0, "", 0) if idx < 0 else take.markers.pop(idx)
    marker = (old[0] if srcpos is None else srcpos, name, old[2] if color is None else color)
    take.markers = sorted([*take.markers, marker], key=lambda entry: entry[0])
    return take.markers.index(marker)


def DeleteTakeMarker(host: FakeReaper, take: Take, idx: int) -> bool:
    host.change(_track(_item(take)).project, "DeleteTakeMarker")
    if not 0 <= idx < len(take.markers):
        return False
    del take.markers[idx]
    return True


# sources


def PCM_Source_CreateFromFile(host: FakeReaper, filename: str) -> Source | None:
    return host.shelf.source(filename)


def PCM_Source_Destroy(host: FakeReaper, source: Source) -> None:
    if source.owner is not None:
        raise host.breach("PCM_Source_Destroy of a source that is in use")
    source.is_destroyed = True


def PCM_Source_BuildPeaks(host: FakeReaper, source: Source, mode: int) -> int:
    if mode not in {0, 1, 2}:
        raise host.breach(f"PCM_Source_BuildPeaks mode {mode}")
    if mode == 1:
        source.peaks_left = max(source.peaks_left - 1, 0)
    elif mode == 2 and source.peaks_left:
        raise host.breach("PCM_Source_BuildPeaks finished before it was done")
    return source.peaks_left * 50


def PCM_Source_GetSectionInfo(host: FakeReaper, source: Source) -> tuple[bool, float, float, bool]:
    if source.parent is None:
        return False, 0.0, 0.0, False
    return True, source.offset_s, source.length_s, source.is_reversed


def GetMediaSourceParent(host: FakeReaper, source: Source) -> Source | None:
    return source.parent


def GetMediaSourceType(host: FakeReaper, source: Source) -> str:
    return source.kind


def GetMediaSourceFileName(host: FakeReaper, source: Source) -> str:
    return source.path


def GetMediaSourceLength(host: FakeReaper, source: Source) -> tuple[float, bool]:
    return float(source.exact_length_s), source.is_in_beats


def GetMediaSourceSampleRate(host: FakeReaper, source: Source) -> int:
    """Return the rate of a file; a section has been seen to say 0, and its script has to climb."""
    return source.rate


def GetMediaSourceNumChannels(host: FakeReaper, source: Source) -> int:
    return source.root.channels


def CreateTakeAudioAccessor(host: FakeReaper, take: Take) -> Accessor:
    return Accessor(take)


def GetAudioAccessorStartTime(host: FakeReaper, accessor: Accessor) -> float:
    return 0.0


def GetAudioAccessorEndTime(host: FakeReaper, accessor: Accessor) -> float:
    return _item(accessor.take).length_s


def GetAudioAccessorSamples(
    host: FakeReaper, accessor: Accessor, rate: int, channels: int, start: float, frames: int, buffer: Any
) -> int:
    """Fill `buffer` with interleaved samples in front of the take's effects, silent outside of the item."""
    if len(buffer) < channels * frames:
        raise host.breach(f"GetAudioAccessorSamples: {channels * frames} samples into {len(buffer)}")
    heard = render_dry_take(accessor.take, host.shelf.samples, rate, start_s=Fraction(start), frames=frames)
    at = start + np.arange(frames) / rate
    heard = heard * ((at > -1e-9) & (at < _item(accessor.take).length_s - 1e-9))
    if channels == 1:
        heard = heard.mean(axis=0, keepdims=True)
    for channel in range(channels):
        for frame in range(frames):
            value = float(heard[channel, frame]) if channel < len(heard) else 0.0
            buffer[frame * channels + channel] = value
    return int(bool(heard.any()))


def DestroyAudioAccessor(host: FakeReaper, accessor: Accessor) -> None:
    accessor.is_destroyed = True


# undo, drawing, commands


def Undo_BeginBlock2(host: FakeReaper, proj: FakeProject) -> None:
    host.begin_block(proj)


def Undo_EndBlock2(host: FakeReaper, proj: FakeProject, label: str, flags: int) -> None:
    host.end_block(proj, label, flags)


def Undo_CanUndo2(host: FakeReaper, proj: FakeProject) -> str | None:
    return proj.undo[-1][0] if proj.undo else None


def Undo_CanRedo2(host: FakeReaper, proj: FakeProject) -> str | None:
    return proj.redo[-1][0] if proj.redo else None


def Undo_DoUndo2(host: FakeReaper, proj: FakeProject) -> int:
    return int(host.step(proj))


def Undo_DoRedo2(host: FakeReaper, proj: FakeProject) -> int:
    return int(host.step(proj, is_redo=True))


def PreventUIRefresh(host: FakeReaper, count: int) -> None:
    host.refresh_holds += count
    if host.refresh_holds < 0:
        raise host.breach("PreventUIRefresh below 0")


def UpdateArrange(host: FakeReaper) -> None:
    pass


def Main_OnCommandEx(host: FakeReaper, command: int, flag: int, proj: FakeProject) -> None:
    actions.run_action(host, command, proj)


def NamedCommandLookup(host: FakeReaper, name: str) -> int:
    return 0


# transport and view


def GetPlayStateEx(host: FakeReaper, proj: FakeProject) -> int:
    return proj.play_state


def GetPlayPositionEx(host: FakeReaper, proj: FakeProject) -> float:
    return proj.cursor_s


def GetCursorPositionEx(host: FakeReaper, proj: FakeProject) -> float:
    return proj.cursor_s


def SetEditCurPos2(host: FakeReaper, proj: FakeProject, time: float, moveview: bool, seekplay: bool) -> None:
    proj.cursor_s = time


def GetSet_LoopTimeRange2(
    host: FakeReaper, proj: FakeProject, is_set: bool, is_loop: bool, start: float, end: float, autoseek: bool
) -> tuple[float, float]:
    if is_set and is_loop:
        proj.loop = (start, end)
    elif is_set:
        proj.time_selection = (start, end)
    return proj.loop if is_loop else proj.time_selection


def OnPlayButtonEx(host: FakeReaper, proj: FakeProject) -> None:
    proj.play_state = 1


def OnStopButtonEx(host: FakeReaper, proj: FakeProject) -> None:
    proj.play_state = 0


# talking to the user


def MB(host: FakeReaper, msg: str, title: str, type: int) -> int:
    allowed = {0: {1}, 1: {1, 2}, 2: {3, 4, 5}, 3: {6, 7, 2}, 4: {6, 7}, 5: {4, 2}}.get(type)
    if allowed is None:
        raise host.breach(f"MB type {type}")
    answer = int(host.ask("MB", f"{title}: {msg}"))
    if answer not in allowed:
        raise host.breach(f"MB type {type} cannot be answered {answer}: {msg}")
    return answer


def GetUserInputs(host: FakeReaper, title: str, count: int, captions: str, values: str) -> tuple[bool, str]:
    if not 1 <= count <= 16:
        raise host.breach(f"GetUserInputs with {count} fields")
    answer = host.ask("GetUserInputs", f"{title}: {captions} [{values}]")
    return answer is not None, values if answer is None else str(answer)


def GetUserFileNameForRead(host: FakeReaper, filename: str, title: str, defext: str) -> tuple[bool, str]:
    answer = host.ask("GetUserFileNameForRead", f"{title} [{filename}] {defext}")
    return answer is not None, filename if answer is None else str(answer)


def ShowConsoleMsg(host: FakeReaper, msg: str) -> None:
    host.console.append(msg)


def ClearConsole(host: FakeReaper) -> None:
    host.console.clear()


def Help_Set(host: FakeReaper, text: str, is_temporary: bool) -> None:
    host.help_texts.append(text)


def TrackCtl_SetToolTip(host: FakeReaper, text: str, x: int, y: int, topmost: bool) -> None:
    pass


# the script and its host


def GetExtState(host: FakeReaper, section: str, key: str) -> str:
    return host.ext.get((section, key), "")


def SetExtState(host: FakeReaper, section: str, key: str, value: str, persist: bool) -> None:
    if "\n" in value or "\r" in value:
        raise host.breach(f"SetExtState {section}/{key}: a line break does not come back")
    host.ext[section, key] = value


def HasExtState(host: FakeReaper, section: str, key: str) -> bool:
    return (section, key) in host.ext


def DeleteExtState(host: FakeReaper, section: str, key: str, persist: bool) -> None:
    host.ext.pop((section, key), None)


def GetResourcePath(host: FakeReaper) -> str:
    return str(host.resource_path)


def GetAppVersion(host: FakeReaper) -> str:
    return host.app_version


def GetOS(host: FakeReaper) -> str:
    return host.os_name


def APIExists(host: FakeReaper, name: str) -> bool:
    return name in host.contract.functions and name not in host.missing


def ValidatePtr2(host: FakeReaper, proj: FakeProject, pointer: Pointer | None, ctypename: str) -> bool:
    if ctypename not in POINTER_TYPES.values():
        raise host.breach(f"ValidatePtr2: no type {ctypename!r}")
    return pointer is not None and host.is_alive(pointer) and POINTER_TYPES[pointer.kind] == ctypename


def ColorToNative(host: FakeReaper, r: int, g: int, b: int) -> int:
    if not all(0 <= part <= 255 for part in (r, g, b)):
        raise host.breach(f"ColorToNative({r}, {g}, {b})")
    return r | g << 8 | b << 16


def ExecProcess(host: FakeReaper, cmdline: str, timeout_ms: int) -> str | None:
    if timeout_ms not in {-1, -2}:
        raise host.breach(f"ExecProcess waits: timeout {timeout_ms}")
    if host.spawner is None:
        raise host.breach(f"unexpected process: {cmdline}")
    host.commands.append(cmdline)
    return host.spawner(cmdline)


def AddRemoveReaScript(host: FakeReaper, add: bool, section: int, path: str, commit: bool) -> int:
    if not add:
        return int(host.registered.pop(path, 0) > 0)
    if not Path(path).is_file():
        return 0
    return host.registered.setdefault(path, 53000 + len(host.registered))


def SetToggleCommandState(host: FakeReaper, section_id: int, command_id: int, state: int) -> bool:
    if command_id not in host.registered.values():
        return False
    host.toggle_states[command_id] = state
    return True


def GetToggleCommandStateEx(host: FakeReaper, section_id: int, command_id: int) -> int:
    return host.toggle_states.get(command_id, -1)


def EnumerateFiles(host: FakeReaper, path: str, idx: int) -> str | None:
    """Return a file's name out of a list that is read again only when asked for with -1."""
    if idx == -1 or path not in host.listed_files:
        folder = Path(path)
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file()) if folder.is_dir() else []
        host.listed_files[path] = names
    return None if idx == -1 else _at(host.listed_files[path], idx)


def file_exists(host: FakeReaper, path: str) -> bool:
    return host.shelf.exists(path)


def RecursiveCreateDirectory(host: FakeReaper, path: str, ignored: int) -> int:
    is_new = not Path(path).is_dir()
    Path(path).mkdir(parents=True, exist_ok=True)
    return int(is_new)


def time_precise(host: FakeReaper) -> float:
    return host.clock_s


def _at(found: list[T], idx: int) -> T | None:
    return found[idx] if 0 <= idx < len(found) else None


def _project(track: Track) -> FakeProject:
    assert track.project is not None
    return track.project


def _track(item: Item) -> Track:
    assert item.track is not None
    return item.track


def _item(take: Take) -> Item:
    assert take.item is not None
    return take.item


def _check_readable(host: FakeReaper, kind: str, key: str) -> None:
    keys = host.contract.keys[kind]
    if key not in keys.writable | keys.read_only:
        raise host.breach(f"no {kind} has a value {key!r}")


def _check_value(host: FakeReaper, kind: str, key: str, value: float) -> None:
    """Fail a value that REAPER would not keep as it is given."""
    _check_readable(host, kind, key)
    if key in host.contract.keys[kind].read_only:
        raise host.breach(f"the {kind}'s {key} is read-only")
    if not math.isfinite(value):
        raise host.breach(f"the {kind}'s {key} cannot be {value}")
    if key[0] in "IC" and value != int(value):
        raise host.breach(f"the {kind}'s {key} is whole, not {value}")
    if key[0] == "B" and value not in {0, 1}:
        raise host.breach(f"the {kind}'s {key} is 0 or 1, not {value}")


def _get_set_text(
    host: FakeReaper, kind: str, target: Track | Item | Take, key: str, value: str, is_set: bool
) -> tuple[bool, str]:
    if not host.contract.keys[kind].has_string(key):
        raise host.breach(f"no {kind} has a text {key!r}")
    if is_set:
        track = (
            target
            if isinstance(target, Track)
            else _track(target if isinstance(target, Item) else _item(target))
        )
        host.change(track.project, f"setting the {kind}'s {key}")
    if key.startswith("P_EXT:"):
        return _get_set_ext(target.ext, key.removeprefix("P_EXT:"), value, is_set)
    if key == "GUID":
        attribute = "guid"
    elif key == "P_NOTES":
        attribute = "notes"
    elif key == "P_NAME":
        attribute = "name"
    else:
        assert isinstance(target, Track)
        return _get_set_ext(target.texts, key, value, is_set)
    if is_set:
        setattr(target, attribute, value)
    return True, getattr(target, attribute)


def _get_set_ext(ext: dict[str, str], key: str, value: str, is_set: bool) -> tuple[bool, str]:
    if is_set:
        ext[key] = value
        if not value:
            del ext[key]
        return True, value
    return key in ext, ext.get(key, "")
