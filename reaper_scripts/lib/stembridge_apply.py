# @noindex
# Carries out Stembridge's operations on a project: all of them in one undo step, or none.
"""`apply`: docs/reaper-conversation.md, "Operations"."""

from stembridge_api import (
    CHUNK_BYTES,
    find_active_project,
    is_null,
    is_open,
    read_item_text,
    read_take_path,
    read_take_text,
    read_track_text,
    reaper,
)

VERSION = "0.1.0"

NEW_PROJECT_TAB = 40859
CLOSE_PROJECT_TAB = 40860
COMMANDS = (41999, 40129, 41051, NEW_PROJECT_TAB, CLOSE_PROJECT_TAB, 41824)
"""REAPER's own actions that may be run."""

OWN_COLOR = 0x1000000
"""Says that a colour is set."""
UNNAMED = "Stembridge: taken back"
"""What an apply without an undo step is called while it is taken back."""


TYPES = {"track": "MediaTrack*", "item": "MediaItem*", "take": "MediaItem_Take*"}


class Refusal(Exception):
    """Why an apply is not done; ``reason`` and ``at`` as they go into its result."""

    def __init__(self, reason, at, text):
        super().__init__(text)
        self.reason = reason
        self.at = at

    @property
    def result(self):
        return {"ok": False, "reason": self.reason, "at": self.at, "text": str(self)}


class Failure(Exception):
    """What went wrong, said for the user."""


def describe_error(name, error):
    """Return what the user is told of an order or operation that failed."""
    return str(error) if isinstance(error, Failure) else f"{name}: {type(error).__name__}: {error}"


def must_wait(project, operations):
    """Return whether the operations need the project's tab in front, which it is not."""
    if find_active_project() == project or not isinstance(operations, list):
        return False
    names = {str(operation[0]) for operation in operations if isinstance(operation, list) and operation}
    if "command" in names:
        return True
    return bool({"insert_track", "append_track"} & names) and not reaper.APIExists("InsertTrackInProject")


def changes_tab(operations):
    """Return whether another project's tab may be in front afterwards."""
    return any(["command", number] in operations for number in (NEW_PROJECT_TAB, CLOSE_PROJECT_TAB))


def apply(project, order, places):
    """Carry out all operations of an order in one undo block.

    Parameters
    ----------
    project : where, whichever tab is in front
    order : the order `apply`
    places : GUID -> pointer of an item that had it, or a take of it, at an earlier time; updated

    Returns
    -------
    result : what the daemon is told
    takes : those whose media need peaks
    """
    start = reaper.time_precise()
    label = order["undo"]
    try:
        check_operations(order["ops"])
        if not is_open(project):
            raise Refusal("missing", 0, "the project was closed")
        run = _Run(project, _find_things(project, order["ops"], places))
        _compare(run, order["ops"])
        _carry_out(run, order["ops"], label)
    except Refusal as refusal:
        return refusal.result, []
    spent = (reaper.time_precise() - start) * 1000
    return {"ok": True, "ms": spent, "made": run.made, "read": run.read}, run.takes


def _carry_out(run, operations, label):
    reaper.Undo_BeginBlock2(run.project)
    reaper.PreventUIRefresh(1)
    refusal = None
    at = 0
    try:
        for operation in operations:
            kinds, function = OPERATIONS[operation[0]]
            if function is not None:
                function(run, *run.resolve(kinds, operation[1:]))
            at += 1
    except Exception as error:  # noqa: BLE001  Whatever it was, what is half done has to be undone.
        refusal = Refusal("error", at, describe_error(operations[at][0], error))
    finally:
        name = label or (UNNAMED if refusal else "")
        is_there = is_open(run.project)
        try:
            if is_there:
                run.restore_selection()
        finally:
            reaper.PreventUIRefresh(-1)
            reaper.TrackList_AdjustWindows(False)
            reaper.UpdateArrange()
            if is_there:
                reaper.Undo_EndBlock2(run.project, name, -1 if name else 0)
    if refusal is not None:
        if is_there and reaper.Undo_CanUndo2(run.project) == name:
            reaper.Undo_DoUndo2(run.project)
        raise refusal


def check_operations(operations):
    """Refuse what no script may do, before anything is done.

    Raises
    ------
    Refusal
        An unknown operation or command, wrong arguments, a `$name` that nothing has made.
    """
    made = {}
    for at, operation in enumerate(operations):
        name = operation[0] if isinstance(operation, list) and operation else None
        if not isinstance(name, str) or name not in OPERATIONS:
            raise Refusal("error", at, f"unknown operation {name!r}: update the scripts")
        kinds, arguments = OPERATIONS[name][0], operation[1:]
        if len(arguments) != len(kinds):
            raise Refusal("error", at, f"{name} takes {len(kinds)} arguments, not {len(arguments)}")
        for place, kind in enumerate(kinds):
            value = arguments[place]
            if not _is_of_kind(kind, value, made):
                raise Refusal("error", at, f"{name}: {value!r} is no {kind}")
        if name == "command" and arguments[0] not in COMMANDS:
            raise Refusal("error", at, f"command {arguments[0]} is none that this script runs")
        if kinds[:1] == ("new",):
            made[arguments[0]] = MADE[name]


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_of_kind(kind, value, made):
    if kind in ("item", "track", "take"):
        if not isinstance(value, str) or not value:
            return False
        allowed = ("take", "item") if kind == "take" else (kind,)
        return not value.startswith("$") or made.get(value) in allowed
    if kind == "new":
        return isinstance(value, str) and value.startswith("$") and value not in made
    if kind == "number":
        return _is_number(value)
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "lines":
        return isinstance(value, list) and all(isinstance(line, str) for line in value)
    if kind == "values":
        return isinstance(value, dict) and all(_is_number(number) for number in value.values())
    return isinstance(value, str)


def _find_things(project, operations, places):
    """Return GUID -> pointer of all that the operations name: one map each of tracks, items and takes."""
    first = {"track": {}, "item": {}, "take": {}}
    for at, operation in enumerate(operations):
        for place, kind in enumerate(OPERATIONS[operation[0]][0], 1):
            value = operation[place]
            if kind in first and not value.startswith("$"):
                first[kind].setdefault(value, at)
    tracks = _find_tracks(project, first["track"])
    items, takes = find_items(project, {*first["item"], *first["take"]}, first["take"], places)
    for kind, named, found in (
        ("track", first["track"], tracks),
        ("item", first["item"], items),
        ("take", first["take"], {**items, **takes}),
    ):
        missing = [(at, guid) for guid, at in named.items() if guid not in found]
        if missing:
            at, guid = min(missing)
            raise Refusal("missing", at, f"the {kind} {guid} is gone")
    return {"track": tracks, "item": items, "take": takes}


def _find_tracks(project, wanted):
    found = {}
    for number in range(reaper.CountTracks(project)):
        if len(found) == len(wanted):
            break
        track = reaper.GetTrack(project, number)
        guid = read_track_text(track, "GUID")
        if guid in wanted:
            found[guid] = track
    return found


def find_items(project, wanted, wanted_takes, places):
    """Return GUID -> pointer of items and of takes.

    Reading one GUID costs a third of a millisecond in REAPER's Python: the search begins with the items that
    were found before, and ends as soon as all is found.
    """
    items, takes = {}, {}

    def look_at(item):
        guid = read_item_text(item, "GUID")
        places[guid] = item
        if guid in wanted:
            items[guid] = item
        if all(guid in items or guid in takes for guid in wanted_takes):
            return
        for number in range(reaper.CountTakes(item)):
            take = reaper.GetTake(item, number)
            if is_null(take):
                continue
            guid = read_take_text(take, "GUID")
            places[guid] = item
            if guid in wanted_takes:
                takes[guid] = take

    likely = {places[guid] for guid in wanted if guid in places}
    for item in likely:
        if reaper.ValidatePtr2(project, item, "MediaItem*"):
            look_at(item)
    for number in range(reaper.CountMediaItems(project)):
        if len(items) + len(takes) == len(wanted):
            break
        item = reaper.GetMediaItem(project, number)
        if item not in likely:
            look_at(item)
    return items, takes


def _compare(run, operations):
    readers = {
        "expect_item": reaper.GetMediaItemInfo_Value,
        "expect_take": reaper.GetMediaItemTakeInfo_Value,
        "expect_track": reaper.GetMediaTrackInfo_Value,
    }
    for at, operation in enumerate(operations):
        read = readers.get(operation[0])
        if read is None:
            continue
        kinds = OPERATIONS[operation[0]][0]
        try:
            thing, expected = run.resolve(kinds, operation[1:])
        except Failure as error:
            raise Refusal("missing", at, str(error)) from None
        for parm, value in expected.items():
            found = read(thing, parm)
            if found != value:
                raise Refusal("changed", at, f"{parm} of the {kinds[0]} is {found:.17g}, it was {value:.17g}")


class _Run:
    """One apply under way: what names stand for, and what comes of it."""

    def __init__(self, project, things):
        self.project = project
        self.things = things
        self.made = {}
        self.read = {}
        self.takes = []
        self.selected = None

    def resolve(self, kinds, arguments):
        """Return the arguments with a pointer for each thing."""
        return [
            self._find(kind, arguments[place]) if kind in self.things else arguments[place]
            for place, kind in enumerate(kinds)
        ]

    def _find(self, kind, name):
        found = self.things[kind].get(name)
        if found is None and kind == "take":
            item = self.things["item"].get(name)
            found = None if item is None else reaper.GetActiveTake(item)
        if found is None or is_null(found) or not reaper.ValidatePtr2(self.project, found, TYPES[kind]):
            raise Failure(f"the {kind} {name} is gone")
        return found

    def add(self, kind, name, pointer, read_text):
        if is_null(pointer):
            raise Failure(f"REAPER made no {kind}")
        self.things[kind][name] = pointer
        self.made[name] = read_text(pointer, "GUID")

    def list_takes(self, item):
        """Return the takes of an item."""
        takes = [reaper.GetTake(item, number) for number in range(reaper.CountTakes(item))]
        return [take for take in takes if not is_null(take)]

    def renew_takes(self, item, stale):
        """Look up the takes of an item again: a chunk makes them anew, and ``stale`` points nowhere."""
        fresh = {read_take_text(take, "GUID"): take for take in self.list_takes(item)}
        known = self.things["take"]
        for name in [name for name, take in known.items() if take in stale]:
            del known[name]
            guid = self.made.get(name, name)
            if guid in fresh:
                known[name] = fresh[guid]
        self.takes.append(reaper.GetActiveTake(item))

    def save_selection(self):
        if self.selected is None:
            count = reaper.CountSelectedMediaItems(self.project)
            self.selected = [reaper.GetSelectedMediaItem(self.project, number) for number in range(count)]

    def restore_selection(self):
        if self.selected is None:
            return
        selected, self.selected = self.selected, None
        reaper.SelectAllMediaItems(self.project, False)
        for item in selected:
            if reaper.ValidatePtr2(self.project, item, "MediaItem*"):
                reaper.SetMediaItemSelected(item, True)


def _insert_track(run, name, after, offset):
    _make_track(run, name, int(reaper.GetMediaTrackInfo_Value(after, "IP_TRACKNUMBER")) + offset)


def _append_track(run, name):
    _make_track(run, name, reaper.CountTracks(run.project))


def _make_track(run, name, number):
    if find_active_project() == run.project:
        reaper.InsertTrackAtIndex(number, False)
    else:
        reaper.InsertTrackInProject(run.project, number, 0)
    run.add("track", name, reaper.GetTrack(run.project, number), read_track_text)


def _add_item(run, name, track):
    run.add("item", name, reaper.AddMediaItemToTrack(track), read_item_text)


def _add_take(run, name, item):
    run.add("take", name, reaper.AddTakeToMediaItem(item), read_take_text)


def _split_item(run, name, item, position):
    run.add("item", name, reaper.SplitMediaItem(item, float(position)), read_item_text)


def _demand(is_done, text):
    if not is_done:
        raise Failure(text)


def _write_value(write, read, thing, parm, value):
    # An older REAPER says no to a value it does not know: that is well where the value is so already.
    value = float(value)
    _demand(
        write(thing, parm, value) or read(thing, parm) == value, f"REAPER did not take {parm} = {value:.17g}"
    )


def _write_text(write, thing, parm, text):
    is_written = write(thing, parm, text, True)[0] or write(thing, parm, "", False)[1] == text
    _demand(is_written, f"REAPER did not take {parm} = {text}")


def _set_track(run, track, parm, value):
    _write_value(reaper.SetMediaTrackInfo_Value, reaper.GetMediaTrackInfo_Value, track, parm, value)


def _set_item(run, item, parm, value):
    _write_value(reaper.SetMediaItemInfo_Value, reaper.GetMediaItemInfo_Value, item, parm, value)


def _set_take(run, take, parm, value):
    _write_value(reaper.SetMediaItemTakeInfo_Value, reaper.GetMediaItemTakeInfo_Value, take, parm, value)


def _set_track_text(run, track, parm, text):
    _write_text(reaper.GetSetMediaTrackInfo_String, track, parm, text)


def _set_item_text(run, item, parm, text):
    _write_text(reaper.GetSetMediaItemInfo_String, item, parm, text)


def _set_take_text(run, take, parm, text):
    _write_text(reaper.GetSetMediaItemTakeInfo_String, take, parm, text)


def _copy_item(run, source, target, parm, add):
    _set_item(run, target, parm, reaper.GetMediaItemInfo_Value(source, parm) + add)


def _copy_take(run, source, target, parm, add):
    _set_take(run, target, parm, reaper.GetMediaItemTakeInfo_Value(source, parm) + add)


def _color_track(run, track, red, green, blue):
    _set_track(run, track, "I_CUSTOMCOLOR", reaper.ColorToNative(red, green, blue) | OWN_COLOR)


def _color_take(run, take, red, green, blue):
    _set_take(run, take, "I_CUSTOMCOLOR", reaper.ColorToNative(red, green, blue) | OWN_COLOR)


def _set_file(run, take, path):
    source = reaper.PCM_Source_CreateFromFile(path)
    _demand(not is_null(source), f"REAPER cannot open {path}")
    _demand(reaper.SetMediaItemTake_Source(take, source), f"REAPER does not take {path}")
    run.takes.append(take)


def _wrap_section(run, item, lines):
    is_there, chunk = reaper.GetItemStateChunk(item, "", CHUNK_BYTES, False)
    _demand(is_there, "REAPER gave no state of the item")
    wrapped = wrap_source(chunk, lines)
    stale = run.list_takes(item)
    _demand(reaper.SetItemStateChunk(item, wrapped, False), "REAPER did not take the section")
    run.renew_takes(item, stale)


def wrap_source(chunk, lines):
    """Return an item's state chunk whose first SOURCE block is inside a SECTION with these lines.

    Raises
    ------
    Failure
        There is no such block, or the chunk ends before it does.
    """
    rows = chunk.replace("\r\n", "\n").rstrip("\n").split("\n")
    depth = 0
    first = None
    for at, row in enumerate(rows):
        word = (row.split() or [""])[0]
        if first is None and depth == 1 and word == "<SOURCE":
            first = at
        depth += word.startswith("<") - (word == ">")
        if first is not None and depth == 1:
            block = rows[first : at + 1]
            return "\n".join([*rows[:first], "<SOURCE SECTION", *lines, *block, ">", *rows[at + 1 :], ""])
    raise Failure("the item has no source to make a section of")


def _copy_effects(run, source, target):
    for effect in range(reaper.TakeFX_GetCount(source)):
        reaper.TakeFX_CopyToTake(source, effect, target, reaper.TakeFX_GetCount(target), False)


def _mark_take(run, take, at, name, color):
    reaper.SetTakeMarker(take, -1, name, float(at), color)


def _activate(run, take):
    reaper.SetActiveTake(take)


def _remove_item(run, item):
    _demand(reaper.DeleteTrackMediaItem(reaper.GetMediaItem_Track(item), item), "REAPER keeps the item")


def _remove_track(run, track):
    reaper.DeleteTrack(track)


def _select_only(run, item):
    run.save_selection()
    reaper.SelectAllMediaItems(run.project, False)
    reaper.SetMediaItemSelected(item, True)


def _restore_selection(run):
    run.restore_selection()


def _command(run, number):
    reaper.Main_OnCommandEx(number, 0, run.project)


def _demand_new_take(run, item, guid):
    take = reaper.GetActiveTake(item)
    is_new = not is_null(take) and read_take_text(take, "GUID") != guid
    _demand(is_new, "REAPER made no new take")


def _read_file(run, name, take):
    run.read[name] = read_take_path(take)


def _project_text(run, parm, text):
    _demand(
        reaper.GetSetProjectInfo_String(run.project, parm, text, True)[0],
        f"REAPER did not take {parm} = {text}",
    )


def _project_value(run, parm, value):
    reaper.GetSetProjectInfo(run.project, parm, float(value), True)


OPERATIONS = {
    "expect_item": (("item", "values"), None),
    "expect_take": (("take", "values"), None),
    "expect_track": (("track", "values"), None),
    "insert_track": (("new", "track", "int"), _insert_track),
    "append_track": (("new",), _append_track),
    "set_track": (("track", "parm", "number"), _set_track),
    "set_track_text": (("track", "parm", "text"), _set_track_text),
    "color_track": (("track", "int", "int", "int"), _color_track),
    "color_take": (("take", "int", "int", "int"), _color_take),
    "add_item": (("new", "track"), _add_item),
    "add_take": (("new", "item"), _add_take),
    "set_file": (("take", "text"), _set_file),
    "wrap_section": (("item", "lines"), _wrap_section),
    "set_item": (("item", "parm", "number"), _set_item),
    "set_item_text": (("item", "parm", "text"), _set_item_text),
    "set_take": (("take", "parm", "number"), _set_take),
    "set_take_text": (("take", "parm", "text"), _set_take_text),
    "copy_item": (("item", "item", "parm", "number"), _copy_item),
    "copy_take": (("take", "take", "parm", "number"), _copy_take),
    "copy_effects": (("take", "take"), _copy_effects),
    "mark_take": (("take", "number", "text", "int"), _mark_take),
    "activate": (("take",), _activate),
    "split_item": (("new", "item", "number"), _split_item),
    "remove_item": (("item",), _remove_item),
    "remove_track": (("track",), _remove_track),
    "select_only": (("item",), _select_only),
    "restore_selection": ((), _restore_selection),
    "command": (("int",), _command),
    "demand_new_take": (("item", "text"), _demand_new_take),
    "read_file": (("text", "take"), _read_file),
    "project_text": (("parm", "text"), _project_text),
    "project_value": (("parm", "number"), _project_value),
}
"""Name -> kinds of its arguments, and what is called; `expect_*` is compared before anything is called."""

MADE = {
    "insert_track": "track",
    "append_track": "track",
    "add_item": "item",
    "add_take": "take",
    "split_item": "item",
}
"""Operation -> what its `$name` stands for."""
