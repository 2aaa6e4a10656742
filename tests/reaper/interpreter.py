"""A project of the fake REAPER read and changed as the scripts do it, in no time: for many small cases."""

from __future__ import annotations

from typing import Any

from reaper_fake import FakeProject, FakeReaper, Item, Take, Track, api
from stembridge.reaper.operations import ARGUMENTS, COMMANDS, Operation
from stembridge.reaper.snapshot import (
    ITEM_VALUES,
    TAKE_VALUES,
    TRACK_VALUES,
    Snapshot,
    read_snapshot,
)

TAG = "P_EXT:stembridge"
MADE = {"insert_track": Track, "add_item": Item, "add_take": Take, "split_item": Item}


class Refused(Exception):
    """Nothing was done: a thing is gone, or not as it was expected."""


def take_snapshot(reaper: FakeReaper, project: FakeProject) -> Snapshot:
    """Return all of the project as the planner gets it."""
    return read_snapshot(
        {
            "project": {"name": project.name, "path": "", "media_dir": project.folder, "is_saved": False},
            "host": {"time_selection": project.time_selection},
            "tracks": [_read_track(reaper, track) for track in project.tracks],
            "items": [_read_item(reaper, item) for item in project.items],
        }
    )


def _read_track(reaper: FakeReaper, track: Track) -> dict[str, Any]:
    return {
        "guid": track.guid,
        "name": track.name,
        "tag": track.ext.get("stembridge", ""),
        "fx": len(track.fx),
        "values": {name: api.GetMediaTrackInfo_Value(reaper, track, name) for name in TRACK_VALUES},
    }


def _read_item(reaper: FakeReaper, item: Item) -> dict[str, Any]:
    assert item.track is not None
    take = item.active_take
    return {
        "guid": item.guid,
        "track": item.track.guid,
        "is_selected": bool(item.values.get("B_UISEL")),
        "notes": item.notes,
        "tag": item.ext.get("stembridge", ""),
        "takes": len(item.takes),
        "values": {name: api.GetMediaItemInfo_Value(reaper, item, name) for name in ITEM_VALUES},
        "take": None if take is None else _read_take(reaper, item, take),
    }


def _read_take(reaper: FakeReaper, item: Item, take: Take) -> dict[str, Any]:
    return {
        "guid": take.guid,
        "index": item.takes.index(take),
        "name": take.name,
        "fx": len(take.fx),
        "envelopes": take.envelopes,
        "stretch_markers": take.stretch_markers,
        "markers": take.markers,
        "values": {name: api.GetMediaItemTakeInfo_Value(reaper, take, name) for name in TAKE_VALUES},
        "source": _read_source(reaper, item, take),
    }


def _read_source(reaper: FakeReaper, item: Item, take: Take) -> dict[str, Any] | None:
    source = take.source
    if source is None:
        return None
    root, depth = source.root, 0
    above = source
    while above.parent is not None:
        above, depth = above.parent, depth + 1
    is_section, *section = api.PCM_Source_GetSectionInfo(reaper, source)
    return {
        "type": root.kind,
        "path": root.path,
        "exists": reaper.shelf.exists(root.path),
        "rate": root.rate,
        "channels": root.channels,
        "length": api.GetMediaSourceLength(reaper, source)[0],
        "file_length": api.GetMediaSourceLength(reaper, root)[0],
        "length_in_beats": source.is_in_beats,
        "depth": depth,
        "section": section if is_section else None,
        "chunk": api.GetItemStateChunk(reaper, item, "")[1] if depth else "",
    }


def apply_operations(reaper: FakeReaper, project: FakeProject, operations: list[Operation]) -> dict[str, str]:
    """Carry out all operations as one undo step; return the GUIDs of what was made, by name.

    Raises
    ------
    Refused
        Before anything is done: an expectation fails, or a thing is not there.
    """
    run = _Run(reaper, project)
    for name, *arguments in operations:
        assert name in ARGUMENTS, f"no operation {name}"
        assert len(arguments) == len(ARGUMENTS[str(name)]), f"{name} with {arguments}"
        run.check(str(name), arguments)
    for operation in operations:
        if str(operation[0]).startswith("expect_"):
            run.expect(operation)
    reaper.begin_block(project)
    for name, *arguments in operations:
        if not str(name).startswith("expect_"):
            getattr(run, str(name))(*arguments)
    reaper.end_block(project, "stems", -1)
    return run.made


class _Run:
    """What the names in a list of operations stand for, and a method for each that the planner uses."""

    def __init__(self, reaper: FakeReaper, project: FakeProject) -> None:
        self.reaper = reaper
        self.project = project
        self.made: dict[str, str] = {}
        self.named: dict[str, type] = {}

    def check(self, name: str, arguments: list[Any]) -> None:
        for kind, value in zip(ARGUMENTS[name], arguments, strict=True):
            if kind in ("track", "item", "take"):
                wanted = {"track": (Track,), "item": (Item,), "take": (Take, Item)}[kind]
                assert isinstance(value, str) and value
                if value.startswith("$"):
                    assert self.named.get(value) in wanted, f"{name}: {value} is no {kind}"
                elif not isinstance(self.find(value), wanted):
                    raise Refused(f"{name}: {value} is gone")
            elif kind == "new":
                assert value.startswith("$") and value not in self.named
                self.named[value] = MADE[name]
            elif kind == "number":
                assert isinstance(value, int | float) and not isinstance(value, bool)
            elif kind == "int":
                assert isinstance(value, int) and not isinstance(value, bool)
            elif kind == "lines":
                assert all(isinstance(line, str) for line in value)
            elif kind == "values":
                assert all(isinstance(number, int | float) for number in value.values())
            else:
                assert isinstance(value, str)
        assert name != "command" or arguments[0] in COMMANDS

    def find(self, name: str) -> Any:
        guid = self.made.get(name, name)
        for track in self.project.tracks:
            if track.guid == guid:
                return track
            for item in track.items:
                if item.guid == guid:
                    return item
                for take in item.takes:
                    if take.guid == guid:
                        return take
        return None

    def find_take(self, name: str) -> Take:
        found = self.find(name)
        take = found.active_take if isinstance(found, Item) else found
        assert isinstance(take, Take)
        return take

    def expect(self, operation: list[Any]) -> None:
        name, thing, values = operation
        found = self.find_take(thing) if name == "expect_take" else self.find(thing)
        read: Any = {
            "expect_track": api.GetMediaTrackInfo_Value,
            "expect_item": api.GetMediaItemInfo_Value,
            "expect_take": api.GetMediaItemTakeInfo_Value,
        }[name]
        for parm, value in values.items():
            if read(self.reaper, found, parm) != value:
                raise Refused(f"{parm} of {thing}")

    def insert_track(self, name: str, after: str, offset: int) -> None:
        index = self.project.tracks.index(self.find(after)) + 1 + offset
        track = Track(self.reaper.new_guid())
        self.made[name] = self.project.insert_track(index, track).guid

    def set_track(self, track: str, parm: str, value: float) -> None:
        assert api.SetMediaTrackInfo_Value(self.reaper, self.find(track), parm, value)

    def set_track_text(self, track: str, parm: str, text: str) -> None:
        assert api.GetSetMediaTrackInfo_String(self.reaper, self.find(track), parm, text, True)[0]

    def color_track(self, track: str, red: int, green: int, blue: int) -> None:
        color = api.ColorToNative(self.reaper, red, green, blue) | 0x1000000
        self.set_track(track, "I_CUSTOMCOLOR", color)

    def color_take(self, take: str, red: int, green: int, blue: int) -> None:
        self.set_take(take, "I_CUSTOMCOLOR", api.ColorToNative(self.reaper, red, green, blue) | 0x1000000)

    def add_item(self, name: str, track: str) -> None:
        self.made[name] = api.AddMediaItemToTrack(self.reaper, self.find(track)).guid

    def add_take(self, name: str, item: str) -> None:
        self.made[name] = api.AddTakeToMediaItem(self.reaper, self.find(item)).guid

    def set_file(self, take: str, path: str) -> None:
        source = api.PCM_Source_CreateFromFile(self.reaper, path)
        assert source is not None, f"no file {path}"
        assert api.SetMediaItemTake_Source(self.reaper, self.find_take(take), source)

    def wrap_section(self, name: str, lines: list[str]) -> None:
        item = self.find(name)
        rows = api.GetItemStateChunk(self.reaper, item, "")[1].splitlines()
        first = next(at for at, row in enumerate(rows) if row.strip().startswith("<SOURCE "))
        last = next(at for at in range(first, len(rows)) if rows[at].strip() == ">")
        wrapped = [*rows[:first], "<SOURCE SECTION", *lines, *rows[first : last + 1], ">", *rows[last + 1 :]]
        assert api.SetItemStateChunk(self.reaper, item, "\n".join(wrapped) + "\n")

    def set_item(self, item: str, parm: str, value: float) -> None:
        assert api.SetMediaItemInfo_Value(self.reaper, self.find(item), parm, value)

    def set_item_text(self, item: str, parm: str, text: str) -> None:
        assert api.GetSetMediaItemInfo_String(self.reaper, self.find(item), parm, text, True)[0]

    def set_take(self, take: str, parm: str, value: float) -> None:
        assert api.SetMediaItemTakeInfo_Value(self.reaper, self.find_take(take), parm, value)

    def set_take_text(self, take: str, parm: str, text: str) -> None:
        assert api.GetSetMediaItemTakeInfo_String(self.reaper, self.find_take(take), parm, text, True)[0]

    def copy_item(self, source: str, target: str, parm: str, add: float) -> None:
        value = api.GetMediaItemInfo_Value(self.reaper, self.find(source), parm)
        self.set_item(target, parm, value + add)

    def copy_take(self, source: str, target: str, parm: str, add: float) -> None:
        value = api.GetMediaItemTakeInfo_Value(self.reaper, self.find_take(source), parm)
        self.set_take(target, parm, value + add)

    def copy_effects(self, source: str, target: str) -> None:
        for effect in range(len(self.find_take(source).fx)):
            count = len(self.find_take(target).fx)
            api.TakeFX_CopyToTake(
                self.reaper, self.find_take(source), effect, self.find_take(target), count, False
            )

    def mark_take(self, take: str, at: float, name: str, color: int) -> None:
        api.SetTakeMarker(self.reaper, self.find_take(take), -1, name, at, color)

    def activate(self, take: str) -> None:
        api.SetActiveTake(self.reaper, self.find_take(take))

    def demand_new_take(self, item: str, guid: str) -> None:
        assert self.find_take(item).guid != guid, f"{item} has no new take"

    def split_item(self, name: str, item: str, position: float) -> None:
        right = api.SplitMediaItem(self.reaper, self.find(item), position)
        assert right is not None, f"{item} cannot be cut at {position}"
        self.made[name] = right.guid
