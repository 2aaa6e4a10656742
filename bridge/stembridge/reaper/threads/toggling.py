"""Between original and stems: what is heard of the selection, or of all, is the other from now on.

Nothing is remembered: stems that a user has muted one by one are heard again after there and back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stembridge.reaper import operations as do
from stembridge.reaper.families import Family, choose_families
from stembridge.reaper.operations import Operation
from stembridge.reaper.snapshot import Item, read_snapshot
from stembridge.reaper.turn import Start, Step, Turn

MAX_NAMES = 5
"""So many items are named one by one."""


class Switch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A switch under way: what to say when it is done."""

    lines: tuple[str, ...] = ()


def start(turn: Turn) -> None:
    """Begin with what is selected, or with all."""
    turn.collect("tagged", "toggle.collected", Switch())


def take_collected(turn: Turn, _switch: Switch, result: Any) -> None:
    """Have originals and stems muted and unmuted; where they differ, the stems come first."""
    snapshot = read_snapshot(result)
    families = choose_families(turn, snapshot)
    if not families:
        return
    able = []
    for family in families:
        if family.original is None:
            turn.tell(f"{family.name}: its original is gone, there is nothing to switch to.", is_error=True)
        elif not family.stems:
            turn.tell(f"{family.name}: its stems are gone, there is nothing to switch to.", is_error=True)
        elif family.is_locked:
            turn.tell(f"{family.name}: it or one of its stems is locked, it stays as it is.", is_error=True)
        else:
            able.append(family)
    if not able:
        return
    to_stems = not all(family.plays_stems for family in able)
    operations = [operation for family in able for operation in _switch_family(family, to_stems=to_stems)]
    label = "Stembridge: stems" if to_stems else "Stembridge: original"
    plays = "the stems play." if to_stems else "the original plays."
    names = [family.name for family in able] if len(able) <= MAX_NAMES else [f"{len(able)} items"]
    turn.apply(label, operations, "toggle.applied", Switch(tuple(f"{name}: {plays}" for name in names)))


def _switch_family(family: Family, *, to_stems: bool) -> list[Operation]:
    assert family.original is not None
    wanted: list[tuple[Item, bool]] = [(family.original, to_stems)]
    wanted += [(stem.item, not to_stems) for stem in family.stems]
    if not to_stems:
        wanted += [(stem.item, True) for stem in family.leftovers]
    return [
        do.set_item(item.guid, "B_MUTE", float(is_muted))
        for item, is_muted in wanted
        # An item's solo overrides its mute, and ends with it.
        if not item.values["B_MUTE"] == item.values["B_MUTE_ACTUAL"] == is_muted
    ]


def take_applied(turn: Turn, switch: Switch, result: Any) -> None:
    """Say which side plays now, or why REAPER could not do it."""
    if result.get("ok"):
        for line in switch.lines:
            turn.tell(line)
    else:
        reason = result.get("text") or result.get("reason")
        turn.tell(f"Nothing was switched: {reason}. Run the action again.", is_error=True)


STARTS: dict[str, Start] = {"toggle": start}
STEPS: dict[str, Step] = {
    "toggle.collected": (Switch, take_collected),
    "toggle.applied": (Switch, take_applied),
}
