"""What of a project can be split, and why the rest cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stembridge.errors import StembridgeError
from stembridge.reaper.families import Bonds
from stembridge.reaper.playing import Way, find_form, judge
from stembridge.reaper.requests import Options
from stembridge.reaper.snapshot import Host, Item
from stembridge.reaper.stem_set import read_stem_set
from stembridge.reaper.turn import Turn


def find_window(options: Options, host: Host, item: Item) -> tuple[float, float] | None:
    """Return the part of the project that is wanted of ``item``, None for all that it has."""
    start_s, end_s = host.time_selection
    if not options.in_time_selection or end_s <= start_s:
        return None
    return max(start_s, item.position), min(end_s, item.end)


def find_refusal(turn: Turn, item: Item, bonds: Bonds) -> str:
    """Return why ``item`` cannot be split, or ''."""
    return bonds.find_refusal(item) or find_unfit(turn, item)


def find_unfit(turn: Turn, item: Item) -> str:
    """Return why ``item`` cannot be split for what it is, or ''."""
    verdict = judge(item)
    if verdict.way is Way.SKIPPED:
        return verdict.reasons[0]
    if verdict.way is Way.BAKED and turn.preferences.effects == "skip":
        return f"it has {', '.join(verdict.reasons)}, and the settings skip such items"
    return ""


def wants_takes(turn: Turn, options: Options) -> bool:
    """Tell whether stems become takes of their item instead of items of their own."""
    return (options.output or turn.preferences.output) == "takes"


def find_take_refusal(item: Item) -> str:
    """Return why an item that can be split cannot get its stems as takes, or ''."""
    if judge(item).way is not Way.BAKED and find_form(item) is not None:
        return "a section or a reversed source cannot become takes: choose tracks"
    path = item.active.media.path
    try:
        stems = read_stem_set(str(Path(path).parent))
    except StembridgeError:
        return ""
    if any(file.path == path for file in stems.files):
        return "its active take is a stem already: choose the take of the original"
    return ""


def tell_to_glue(reasons: Sequence[str]) -> str:
    """Return why stems that are there already cannot be put onto an item, and what to do."""
    why = ", ".join(reasons) or "a source that REAPER decodes in another way"
    return f"it has {why}: glue it, then run the action again"
