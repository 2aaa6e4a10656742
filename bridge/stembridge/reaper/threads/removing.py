"""Stems out of the project and their original back. No file is deleted: undo brings everything back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stembridge.reaper import operations as do
from stembridge.reaper.families import (
    MADE_BY_HAND,
    Difference,
    Family,
    Stem,
    StemSets,
    choose_families,
    expect_original,
    find_differences,
    say_none,
)
from stembridge.reaper.operations import TAG, Operation
from stembridge.reaper.snapshot import Snapshot, Track, read_snapshot
from stembridge.reaper.tags import TrackTag, read_tag
from stembridge.reaper.turn import Start, Step, Turn

LABEL = "Stembridge: remove stems"
MAX_LINES = 15
MAX_TRIES = 5


class Removal(msgspec.Struct, frozen=True, omit_defaults=True):
    """A removal under way; ``answer`` is what the user wants of stems that were worked on."""

    answer: str = ""
    lines: tuple[str, ...] = ()
    tries: int = 0


@dataclass(slots=True)
class _Plan:
    """What is to happen to the items."""

    removed: list[Stem] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def start(turn: Turn) -> None:
    """Begin with what is selected, or with all."""
    turn.collect("tagged", "remove.collected", Removal())


def take_collected(turn: Turn, removal: Removal, result: Any) -> None:
    """Ask about stems that were worked on, if there are any; else have the stems removed."""
    snapshot = read_snapshot(result)
    families = choose_families(snapshot)
    if not families:
        turn.tell(say_none(snapshot), is_error=True)
        return
    able = []
    for family in families:
        if family.original is None:
            turn.tell(f"{family.name}: its original is gone, so its stems stay.", is_error=True)
        elif family.is_locked:
            turn.tell(f"{family.name}: it or one of its stems is locked, it stays as it is.", is_error=True)
        else:
            able.append(family)
    touched = find_touched(able, snapshot)
    if touched and not removal.answer:
        _ask(turn, removal, [line for lines in touched.values() for line in lines])
        return
    plan = _Plan()
    for family in able:
        _plan_family(plan, family, {} if removal.answer == "yes" else touched)
    if plan.operations:
        plan.operations += remove_tracks(snapshot, plan.removed)
        now = Removal(removal.answer, tuple(plan.lines), removal.tries + 1)
        turn.apply(LABEL, plan.operations, "remove.applied", now)


def find_touched(families: Sequence[Family], snapshot: Snapshot) -> dict[str, list[str]]:
    """Return what was done to stems since they were placed, as lines, by the GUID of the stem's item."""
    sets = StemSets()
    found: dict[str, list[Difference]] = {}
    for family in families:
        by_item: dict[str, list[Difference]] = {}
        for difference in find_differences(family, snapshot, sets):
            if difference.kind in MADE_BY_HAND:
                by_item.setdefault(difference.guid, []).append(difference)
        found |= by_item
    names = {item.guid: family.name for family in families for item in family.items}
    return {guid: [f"{names[guid]}: {one}" for one in differences] for guid, differences in found.items()}


def _ask(turn: Turn, removal: Removal, lines: list[str]) -> None:
    shown = lines[:MAX_LINES]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    turn.ask(
        "Stembridge: remove stems",
        "These stems were worked on:\n\n"
        + "\n".join(shown)
        + "\n\nYes: remove them too.\nNo: remove only the others; these stay, muted.",
        "remove.answered",
        removal,
        kind="yes_no_cancel",
    )


def take_answer(turn: Turn, removal: Removal, result: Any) -> None:
    """Go on as the user has said."""
    if result.get("answer") in ("yes", "no"):
        answered = msgspec.structs.replace(removal, answer=result["answer"])
        turn.collect("tagged", "remove.collected", answered)


def _plan_family(plan: _Plan, family: Family, touched: dict[str, list[str]]) -> None:
    """Add what removes the stems of a family that nobody worked on, and lets its original be heard again."""
    original, tag = family.original, family.tag
    assert original is not None
    assert tag is not None
    stems = (*family.stems, *family.leftovers)
    kept = [stem for stem in stems if stem.item.guid in touched]
    removed = [stem for stem in stems if stem.item.guid not in touched]
    plan.operations += expect_original(original)
    plan.operations += [do.remove_item(stem.item.guid) for stem in removed]
    # Both would be heard otherwise; they can be switched to as before.
    plan.operations += [do.set_item(stem.item.guid, "B_MUTE", 1) for stem in kept]
    plan.operations.append(do.set_item(original.guid, "B_MUTE", float(tag.was_muted)))
    if not kept:
        plan.operations.append(do.set_item_text(original.guid, TAG, ""))
    plan.removed += removed
    stay = f", {len(kept)} stay muted" if kept else ""
    plan.lines.append(f"{family.name}: {len(removed)} stems removed{stay}. Their files are still there.")


def remove_tracks(snapshot: Snapshot, removed: Sequence[Stem]) -> list[Operation]:
    """Return what removes the stem tracks that are empty without those stems; every other keeps its parent.

    What a removed track closes of folders, the one before it closes now.
    """
    gone = Counter(stem.item.track for stem in removed)
    doomed = [
        track
        for track in snapshot.tracks
        if gone[track.guid] and gone[track.guid] == track.items and _is_disposable(track)
    ]
    depths: dict[str, int] = {}
    heir = ""
    for track in snapshot.tracks:
        if track in doomed and heir:
            depths[heir] += track.depth
            depths[track.guid] = 0
        else:
            heir = track.guid
            depths[heir] = track.depth
    changed = [track for track in snapshot.tracks if depths[track.guid] != track.depth]
    return [
        *(
            do.expect_track(track.guid, _place(track))
            for track in snapshot.tracks
            if track in changed or track in doomed
        ),
        *(do.set_track(track.guid, "I_FOLDERDEPTH", depths[track.guid]) for track in changed),
        *(do.remove_track(track.guid) for track in doomed),
    ]


def _is_disposable(track: Track) -> bool:
    """Tell whether a track is ours and holds nothing of the user's."""
    is_ours = isinstance(read_tag(track.tag), TrackTag)
    return is_ours and not track.fx and track.depth < 1 and not track.values["I_RECARM"]


def _place(track: Track) -> dict[str, float]:
    return {name: track.values[name] for name in ("IP_TRACKNUMBER", "I_FOLDERDEPTH")}


def take_applied(turn: Turn, removal: Removal, result: Any) -> None:
    """Say what was removed; where an item was just being changed, look again."""
    if result.get("ok"):
        for line in removal.lines:
            turn.tell(line)
    elif result.get("reason") in ("changed", "missing") and removal.tries < MAX_TRIES:
        turn.collect("tagged", "remove.collected", removal)
    else:
        reason = result.get("text") or result.get("reason")
        turn.tell(f"Nothing was removed: {reason}. Run the action again.", is_error=True)


STARTS: dict[str, Start] = {"remove": start}
STEPS: dict[str, Step] = {
    "remove.collected": (Removal, take_collected),
    "remove.answered": (Removal, take_answer),
    "remove.applied": (Removal, take_applied),
}
