"""The operations that a script carries out: one constructor each, and the table the scripts are held to.

An operation is a list whose first entry is its name, so that it travels as JSON; docs/reaper-conversation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Operation = list[object]

ARGUMENTS = {
    "expect_item": ("item", "values"),
    "expect_take": ("take", "values"),
    "expect_track": ("track", "values"),
    "insert_track": ("new", "track", "int"),
    "append_track": ("new",),
    "set_track": ("track", "parm", "number"),
    "set_track_text": ("track", "parm", "text"),
    "color_track": ("track", "int", "int", "int"),
    "color_take": ("take", "int", "int", "int"),
    "add_item": ("new", "track"),
    "add_take": ("new", "item"),
    "set_file": ("take", "text"),
    "wrap_section": ("item", "lines"),
    "set_item": ("item", "parm", "number"),
    "set_item_text": ("item", "parm", "text"),
    "set_take": ("take", "parm", "number"),
    "set_take_text": ("take", "parm", "text"),
    "copy_item": ("item", "item", "parm", "number"),
    "copy_take": ("take", "take", "parm", "number"),
    "copy_effects": ("take", "take"),
    "mark_take": ("take", "number", "text", "int"),
    "activate": ("take",),
    "split_item": ("new", "item", "number"),
    "remove_item": ("item",),
    "remove_track": ("track",),
    "select_only": ("item",),
    "restore_selection": (),
    "command": ("int",),
    "demand_new_take": ("item", "text"),
    "read_file": ("text", "take"),
    "project_text": ("parm", "text"),
    "project_value": ("parm", "number"),
}
"""Name of each operation -> kinds of its arguments. Both scripts' tables have exactly these names."""

RENDER_TO_NEW_TAKE = 41999
DELETE_ACTIVE_TAKE = 40129
TOGGLE_REVERSE = 41051
NEW_PROJECT_TAB = 40859
CLOSE_PROJECT_TAB = 40860
RENDER_PROJECT = 41824
COMMANDS = (
    RENDER_TO_NEW_TAKE, DELETE_ACTIVE_TAKE, TOGGLE_REVERSE,
    NEW_PROJECT_TAB, CLOSE_PROJECT_TAB, RENDER_PROJECT,
)  # fmt: skip
"""REAPER's own actions that `command` may run."""

TAG = "P_EXT:stembridge"
"""The string of ours that tracks and items carry."""


def expect_item(item: str, values: Mapping[str, float]) -> Operation:
    return ["expect_item", item, dict(values)]


def expect_take(take: str, values: Mapping[str, float]) -> Operation:
    return ["expect_take", take, dict(values)]


def expect_track(track: str, values: Mapping[str, float]) -> Operation:
    return ["expect_track", track, dict(values)]


def insert_track(name: str, after: str, offset: int) -> Operation:
    """Insert a track ``offset`` places behind the first one after track ``after``."""
    return ["insert_track", name, after, offset]


def append_track(name: str) -> Operation:
    """Insert a track behind all others."""
    return ["append_track", name]


def set_track(track: str, parm: str, value: float) -> Operation:
    return ["set_track", track, parm, value]


def set_track_text(track: str, parm: str, text: str) -> Operation:
    return ["set_track_text", track, parm, text]


def color_track(track: str, color: tuple[int, int, int]) -> Operation:
    return ["color_track", track, *color]


def color_take(take: str, color: tuple[int, int, int]) -> Operation:
    return ["color_take", take, *color]


def add_item(name: str, track: str) -> Operation:
    return ["add_item", name, track]


def add_take(name: str, item: str) -> Operation:
    return ["add_take", name, item]


def set_file(take: str, path: str) -> Operation:
    return ["set_file", take, path]


def wrap_section(item: str, lines: Sequence[str]) -> Operation:
    """Turn the source of a new item's only take into a section of itself; ``lines`` as in an RPP file."""
    return ["wrap_section", item, list(lines)]


def set_item(item: str, parm: str, value: float) -> Operation:
    return ["set_item", item, parm, value]


def set_item_text(item: str, parm: str, text: str) -> Operation:
    return ["set_item_text", item, parm, text]


def set_take(take: str, parm: str, value: float) -> Operation:
    return ["set_take", take, parm, value]


def set_take_text(take: str, parm: str, text: str) -> Operation:
    return ["set_take_text", take, parm, text]


def copy_item(source: str, target: str, parm: str, add: float = 0.0) -> Operation:
    """Set a value of ``target`` to that of ``source`` plus ``add``; either may be new."""
    return ["copy_item", source, target, parm, add]


def copy_take(source: str, target: str, parm: str, add: float = 0.0) -> Operation:
    """Set a value of ``target`` to that of ``source`` plus ``add``."""
    return ["copy_take", source, target, parm, add]


def copy_effects(source: str, target: str) -> Operation:
    """Put copies of all effects of one take onto another, behind those it has."""
    return ["copy_effects", source, target]


def mark_take(take: str, at: float, name: str, color: int) -> Operation:
    return ["mark_take", take, at, name, color]


def activate(take: str) -> Operation:
    return ["activate", take]


def split_item(name: str, item: str, position: float) -> Operation:
    """Cut an item at ``position`` seconds of the project; ``name`` is the right part."""
    return ["split_item", name, item, position]


def remove_item(item: str) -> Operation:
    return ["remove_item", item]


def remove_track(track: str) -> Operation:
    return ["remove_track", track]


def select_only(item: str) -> Operation:
    return ["select_only", item]


def restore_selection() -> Operation:
    return ["restore_selection"]


def command(number: int) -> Operation:
    return ["command", number]


def demand_new_take(item: str, take: str) -> Operation:
    """Fail where the active take of ``item`` still is that of GUID ``take``."""
    return ["demand_new_take", item, take]


def read_file(name: str, take: str) -> Operation:
    """Read the path of a take's media into the result's ``read`` under ``name``."""
    return ["read_file", name, take]


def project_text(parm: str, text: str) -> Operation:
    return ["project_text", parm, text]


def project_value(parm: str, value: float) -> Operation:
    return ["project_value", parm, value]
