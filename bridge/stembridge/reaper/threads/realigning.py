"""Stems back to the place and the values of their original, as it is now."""

from __future__ import annotations

from typing import Any

import msgspec

from stembridge.reaper import operations as do
from stembridge.reaper.families import (
    MADE_BY_HAND,
    OUT_OF_REACH,
    Difference,
    Kind,
    Stem,
    StemSets,
    choose_families,
    find_differences,
)
from stembridge.reaper.fitting import fit_item, fit_take
from stembridge.reaper.operations import Operation
from stembridge.reaper.placing import expect_unchanged
from stembridge.reaper.snapshot import Item, read_snapshot
from stembridge.reaper.turn import Start, Step, Turn

MAX_TRIES = 5
_GONE = "its item is gone; undo, or remove the stems and split again"


class Realignment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is put back, and what is left, as lines to tell."""

    changed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    tries: int = 0


def start(turn: Turn) -> None:
    """Begin with what is selected, or with all."""
    turn.collect("tagged", "realign.collected", Realignment())


def take_collected(turn: Turn, realignment: Realignment, result: Any) -> None:
    """Have every stem put back that only its values keep from playing what the original plays."""
    snapshot = read_snapshot(result)
    families = choose_families(turn, snapshot)
    if not families:
        return
    sets = StemSets()
    operations: list[Operation] = []
    changed: list[str] = []
    left: list[str] = []
    for family in families:
        by_item: dict[str, list[Difference]] = {}
        for difference in find_differences(family, snapshot, sets):
            if difference.kind is Kind.MISSING:
                left.append(f"{family.name}: {difference.stem}: {_GONE}")
            elif difference.kind is Kind.ORIGINAL:
                left.append(f"{family.name}: {difference}: left as it is")
            elif difference.kind in MADE_BY_HAND:
                by_item.setdefault(difference.guid, []).append(difference)
        for stem in family.stems:
            found = by_item.get(stem.item.guid, [])
            lines = [f"{family.name}: {difference}" for difference in found]
            if not found:
                continue
            assert family.original is not None
            if family.is_locked:
                left += [f"{line}: left as it is, because it is locked" for line in lines]
            elif any(difference.kind in OUT_OF_REACH for difference in found):
                left += [f"{line}: left as it is" for line in lines]
            else:
                changed += [f"{line}: put back" for line in lines]
                operations += _realign(stem, family.original)
    if operations:
        now = Realignment(tuple(changed), tuple(left), realignment.tries + 1)
        turn.apply("Stembridge: realign stems", operations, "realign.applied", now)
    elif left:
        _tell(turn, left, is_error=True)
    else:
        turn.tell("Every stem lies where its original lies.")


def _realign(stem: Stem, original: Item) -> list[Operation]:
    """Return what gives a stem its values, provided that its original still is what it was."""
    fit = stem.tag.fit
    item, take = stem.item.guid, stem.item.active.guid
    return [
        *expect_unchanged(original),
        *(do.set_item(item, name, value) for name, value in fit_item(original, fit).items()),
        *(do.set_take(take, name, value) for name, value in fit_take(original, fit).items()),
    ]


def take_applied(turn: Turn, realignment: Realignment, result: Any) -> None:
    """List what was changed and what was not; where an item was just being changed, look again."""
    if result.get("ok"):
        _tell(turn, realignment.changed, is_error=False)
        _tell(turn, realignment.left, is_error=True)
    elif result.get("reason") in ("changed", "missing") and realignment.tries < MAX_TRIES:
        turn.collect("tagged", "realign.collected", realignment)
    else:
        reason = result.get("text") or result.get("reason")
        turn.tell(f"Nothing was put back: {reason}. Run the action again.", is_error=True)


def _tell(turn: Turn, lines: tuple[str, ...] | list[str], *, is_error: bool) -> None:
    for line in lines:
        turn.tell(line, is_error=is_error)


STARTS: dict[str, Start] = {"realign": start}
STEPS: dict[str, Step] = {
    "realign.collected": (Realignment, take_collected),
    "realign.applied": (Realignment, take_applied),
}
