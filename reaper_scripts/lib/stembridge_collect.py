# @noindex
# Reads the raw values of a project for Stembridge, a few items at a time.
"""`collect`: what the daemon is told about a project (docs/reaper-conversation.md, "Snapshot"); `listen`."""

import math

from stembridge_api import (
    CHUNK_BYTES,
    NAME_BYTES,
    PATH_BYTES,
    TAG,
    Spoilt,
    find_root,
    is_null,
    is_open,
    read_item_text,
    read_project_path,
    read_take_path,
    read_take_text,
    read_track_text,
    reaper,
    spoil_text,
)
from stembridge_json import write_part

VERSION = "0.1.0"

ITEM_VALUES = (
    "D_POSITION", "D_LENGTH", "D_SNAPOFFSET", "D_VOL",
    "B_MUTE", "B_MUTE_ACTUAL", "B_LOOPSRC", "B_ALLTAKESPLAY",
    "C_BEATATTACHMODE", "C_AUTOSTRETCH", "C_LOCK", "I_GROUPID", "I_CURTAKE", "I_CUSTOMCOLOR", "C_LANEPLAYS",
    "D_FADEINLEN", "D_FADEINLEN_AUTO", "D_FADEINDIR", "C_FADEINSHAPE",
    "D_FADEOUTLEN", "D_FADEOUTLEN_AUTO", "D_FADEOUTDIR", "C_FADEOUTSHAPE", "I_FADELPF",
)  # fmt: skip
TAKE_VALUES = (
    "D_STARTOFFS", "D_PLAYRATE", "D_PITCH", "B_PPITCH", "I_PITCHMODE", "I_STRETCHFLAGS", "F_STRETCHFADESIZE",
    "I_CHANMODE", "D_VOL", "D_PAN", "D_PANLAW", "I_CUSTOMCOLOR", "IP_SPECEDIT:CNT",
)  # fmt: skip
TRACK_VALUES = (
    "IP_TRACKNUMBER", "I_FOLDERDEPTH", "I_NCHAN", "C_BEATATTACHMODE", "I_CUSTOMCOLOR",
    "D_VOL", "D_PAN", "D_PANLAW", "B_MUTE", "I_SOLO", "B_PHASE", "B_MAINSEND", "I_RECARM", "I_FREEMODE",
    "D_PLAY_OFFSET", "I_PLAY_OFFSET_FLAG",
)  # fmt: skip

FULL_SCALE = 2.0**23
BLOCK_FRAMES = 4096
WHOLE = 1e-6
"""A product that is nearer to a whole number of Hz is one, but for rounding."""
GONE = {"ok": False, "reason": "missing", "text": "the item to listen to is gone"}
UNREADABLE = (ArithmeticError, LookupError, TypeError, ValueError)


class ProjectClosed(Exception):
    """The project's tab was closed."""


def list_selected(project):
    """Return the pointers of the selected items."""
    count = reaper.CountSelectedMediaItems(project)
    return [reaper.GetSelectedMediaItem(project, number) for number in range(count)]


def read_host(project):
    """Return the cursor and the time selection."""
    return {
        "cursor": reaper.GetCursorPositionEx(project),
        "time_selection": list(reaper.GetSet_LoopTimeRange2(project, False, False, 0.0, 0.0, False)),
    }


def collect(project, order, selected, host, places):
    """Yield after each item or track that was looked at; return the snapshot at last.

    Parameters
    ----------
    project, order : where, and what is asked for
    selected : GUIDs of what was selected when the user ran the action, in its order
    host : cursor and time selection at that moment
    places : GUID -> pointer of an item that had it at an earlier time; updated

    Returns
    -------
    snapshot : its tracks and items are JSON already, so that no tick has to write all of them
    lines : one for each item that cannot be read and is left out

    Raises
    ------
    ProjectClosed
        The project was closed meanwhile.
    """
    _check_open(project)
    tracks = [reaper.GetTrack(project, number) for number in range(reaper.CountTracks(project))]
    items = yield from _list_items(project, order, selected, places)
    head = {"project": _read_project(project), "host": dict(host, play=reaper.GetPlayStateEx(project))}
    read_tracks, read_items, lines = [], [], []
    for track in tracks:
        yield
        _check_open(project)
        if reaper.ValidatePtr2(project, track, "MediaTrack*"):
            read_tracks.append(write_part(_read_track(track)))
    for item in items:
        yield
        _check_open(project)
        if not reaper.ValidatePtr2(project, item, "MediaItem*"):
            continue
        try:
            if _is_wanted(item, order, selected):
                read = _read_item(item, selected)
                places[read["guid"]] = item
                read_items.append(write_part(read))
        except UNREADABLE as error:
            position = reaper.GetMediaItemInfo_Value(item, "D_POSITION")
            lines.append(f"the item at {position:.3f} s cannot be read: {error}")
    return dict(head, tracks=read_tracks, items=read_items), lines


def listen(project, order):
    """Yield before each block; return what channel 1 of an item plays, as integers of 2^-23, and no lines.

    The order's start and rate are the source's, the accessor's time is that of the item: a source frame lasts
    shorter there the faster the take plays. No samples where that is no whole number of Hz.

    Raises
    ------
    ProjectClosed
        The project was closed meanwhile.
    """
    _check_open(project)
    item = _find_item(project, order["guid"])
    take = None if item is None else reaper.GetActiveTake(item)
    if take is None or is_null(take):
        return GONE, []
    speed = reaper.GetMediaItemTakeInfo_Value(take, "D_PLAYRATE")
    start = (order["start_s"] - reaper.GetMediaItemTakeInfo_Value(take, "D_STARTOFFS")) / speed
    rate = round(order["rate"] * speed)
    if rate < 1 or abs(order["rate"] * speed - rate) > WHOLE:
        return {"samples": []}, []
    channels = max(1, reaper.GetMediaSourceNumChannels(reaper.GetMediaItemTake_Source(take)))
    accessor = reaper.CreateTakeAudioAccessor(take)
    samples = []
    try:
        while len(samples) < order["frames"]:
            yield
            _check_open(project)
            if not reaper.ValidatePtr2(project, item, "MediaItem*"):
                return GONE, []
            frames = min(BLOCK_FRAMES, order["frames"] - len(samples))
            buffer = [0.0] * (frames * channels)
            at = start + len(samples) / rate
            reaper.GetAudioAccessorSamples(accessor, rate, channels, at, frames, buffer)
            samples += [math.floor(value * FULL_SCALE + 0.5) for value in buffer[::channels]]
    finally:
        reaper.DestroyAudioAccessor(accessor)
    return {"samples": write_part(samples)}, []


def _find_item(project, guid):
    for number in range(reaper.CountMediaItems(project)):
        item = reaper.GetMediaItem(project, number)
        if read_item_text(item, "GUID") == guid:
            return item
    return None


def _check_open(project):
    if not is_open(project):
        raise ProjectClosed


def _list_items(project, order, selected, places):
    """Yield before each text that is read; return the items among which the wanted ones are."""
    what = order["what"]
    if what not in ("selection", "items", "kin", "tagged", "all", "project"):
        raise ValueError(f"nothing is known of collecting {what!r}")
    if what == "project":
        return []
    guids = selected if what == "selection" else order.get("guids", ())
    known = []
    for guid in guids:
        yield
        _check_open(project)
        if _is_at(project, guid, places):
            known.append(places[guid])
    if what in ("tagged", "all") or len(known) < len(guids):
        return [reaper.GetMediaItem(project, number) for number in range(reaper.CountMediaItems(project))]
    if what != "kin":
        return known
    tracks = {reaper.GetMediaItem_Track(item) for item in known}
    return [
        reaper.GetTrackMediaItem(track, number)
        for track in sorted(tracks)
        for number in range(reaper.CountTrackMediaItems(track))
    ]


def _is_at(project, guid, places):
    """Tell whether an item is where it was found before."""
    item = places.get(guid)
    is_there = item is not None and reaper.ValidatePtr2(project, item, "MediaItem*")
    return is_there and read_item_text(item, "GUID") == guid


def _is_wanted(item, order, selected):
    what = order["what"]
    if what == "all" or (what == "tagged" and read_item_text(item, TAG)):
        return True
    guid = read_item_text(item, "GUID")
    if what in ("selection", "tagged"):
        return guid in selected
    if guid in order["guids"]:
        return True
    if what == "items":
        return False
    take = reaper.GetActiveTake(item)
    return not is_null(take) and read_take_path(take) == order["path"]


def _read_project(project):
    path = read_project_path(project)
    return {
        "name": reaper.GetProjectName(project, "", NAME_BYTES),
        "path": path,
        "media_dir": reaper.GetProjectPathEx(project, "", PATH_BYTES),
        "is_saved": path != "",
        "rate": reaper.GetSetProjectInfo(project, "PROJECT_SRATE", 0.0, False),
        "reaper": reaper.GetAppVersion(),
        "os": reaper.GetOS(),
    }


def _read_values(get, thing, names):
    return {name: get(thing, name) for name in names}


def _read_track(track):
    return {
        "guid": read_track_text(track, "GUID"),
        "name": read_track_text(track, "P_NAME"),
        "tag": read_track_text(track, TAG),
        "fx": reaper.TrackFX_GetCount(track),
        "items": reaper.CountTrackMediaItems(track),
        "values": _read_values(reaper.GetMediaTrackInfo_Value, track, TRACK_VALUES),
    }


def _read_item(item, selected):
    take = reaper.GetActiveTake(item)
    guid = read_item_text(item, "GUID")
    values = _read_values(reaper.GetMediaItemInfo_Value, item, ITEM_VALUES)
    return {
        "guid": guid,
        "track": read_track_text(reaper.GetMediaItem_Track(item), "GUID"),
        "is_selected": guid in selected,
        "notes": read_item_text(item, "P_NOTES"),
        "tag": read_item_text(item, TAG),
        "takes": reaper.CountTakes(item),
        "values": values,
        "take": None if is_null(take) else _read_take(item, take, int(values["I_CURTAKE"])),
    }


def _read_take(item, take, index):
    source = reaper.GetMediaItemTake_Source(take)
    return {
        "guid": read_take_text(take, "GUID"),
        "index": index,
        "name": read_take_text(take, "P_NAME"),
        "is_midi": bool(reaper.TakeIsMIDI(take)),
        "fx": reaper.TakeFX_GetCount(take),
        "envelopes": reaper.CountTakeEnvelopes(take),
        "stretch_markers": reaper.GetTakeNumStretchMarkers(take),
        "markers": [_read_marker(take, number) for number in range(reaper.GetNumTakeMarkers(take))],
        "values": _read_values(reaper.GetMediaItemTakeInfo_Value, take, TAKE_VALUES),
        "source": None if is_null(source) else _read_source(item, source),
    }


def _read_marker(take, number):
    try:
        at, name, color = reaper.GetTakeMarker(take, number, "", NAME_BYTES, 0)
    except UnicodeDecodeError as error:
        name = spoil_text(error.object)
        at, _, color = reaper.GetTakeMarker(take, number, "", 1, 0)
    return [at, name, color]


def _read_source(item, source):
    root, depth = find_root(source)
    path = reaper.GetMediaSourceFileName(root, "", PATH_BYTES)
    length, is_in_beats = reaper.GetMediaSourceLength(source, False)
    section, chunk = None, ""
    if depth:
        is_section, offset, section_length, is_reversed = reaper.PCM_Source_GetSectionInfo(
            source, 0.0, 0.0, False
        )
        if is_section:
            section = [offset, section_length, bool(is_reversed)]
        chunk = _read_chunk(item)
    return {
        "type": reaper.GetMediaSourceType(root, "", NAME_BYTES),
        "path": path,
        "exists": path != "" and not isinstance(path, Spoilt) and bool(reaper.file_exists(path)),
        "rate": reaper.GetMediaSourceSampleRate(root),
        "channels": reaper.GetMediaSourceNumChannels(root),
        "length": length,
        "file_length": reaper.GetMediaSourceLength(root, False)[0],
        "length_in_beats": bool(is_in_beats),
        "depth": depth,
        "section": section,
        "chunk": chunk,
    }


def _read_chunk(item):
    is_there, chunk = reaper.GetItemStateChunk(item, "", CHUNK_BYTES, False)
    return chunk if is_there else ""
