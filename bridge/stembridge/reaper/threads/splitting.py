"""Splitting the selection: what can be split is prepared, split, and placed as it is ready.

Nothing is kept here between two notes: the `Batch` travels with every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stembridge.reaper.families import Bonds
from stembridge.reaper.playing import Way, judge, trim
from stembridge.reaper.requests import Options
from stembridge.reaper.snapshot import Item, Snapshot, read_snapshot
from stembridge.reaper.threads import landing, preparing
from stembridge.reaper.threads.batch import Batch
from stembridge.reaper.threads.preparing import prepare
from stembridge.reaper.threads.refusals import find_refusal, find_take_refusal, find_window, wants_takes
from stembridge.reaper.turn import Start, Step, Turn


def start(turn: Turn, options: Options) -> None:
    """Begin a batch with what is selected."""
    turn.collect("tagged", "batch.selected", Batch(options=options))


def take_selection(turn: Turn, batch: Batch, result: Any) -> None:
    """Go on with what is selected."""
    snapshot = read_snapshot(result)
    selected = [item for item in snapshot.items if item.is_selected]
    if not selected:
        turn.tell("Nothing is selected: select the items to split, then run the action again.", is_error=True)
        return
    take_items(
        turn,
        batch,
        snapshot,
        [(item, find_window(batch.options, snapshot.host, item)) for item in selected],
    )


def take_items(
    turn: Turn,
    batch: Batch,
    snapshot: Snapshot,
    wanted: Sequence[tuple[Item, tuple[float, float] | None]],
) -> None:
    """Sort items, each with its window, into what can be split and what cannot, and go on with what can.

    ``snapshot`` has all items that carry a tag.
    """
    bonds = Bonds(snapshot)
    items: list[Item] = []
    windows: list[tuple[float, float] | None] = []
    skipped: list[tuple[str, str]] = []
    approximate: list[str] = []
    for item, window in wanted:
        if window is not None and window[0] >= window[1]:
            reason = "it lies outside of the time selection"
        else:
            reason = find_refusal(turn, item, bonds)
            if window is not None and not reason:
                reason = find_refusal(turn, trim(item, *window), bonds)
            if not reason and wants_takes(turn, batch.options):
                reason = find_take_refusal(item)
        if reason:
            skipped.append((item.name, reason))
            continue
        verdict = judge(item)
        if turn.preferences.effects == "keep" and verdict.way is Way.BAKED and verdict.is_keepable:
            approximate.append(item.guid)
        items.append(item)
        windows.append(window)
    prepare(
        turn,
        msgspec.structs.replace(
            batch,
            media_dir=snapshot.project.media_dir,
            items=tuple(items),
            windows=tuple(windows),
            skipped=tuple(skipped),
            approximate=tuple(approximate),
        ),
    )


STARTS: dict[str, Start] = {
    "split": lambda turn: start(turn, Options()),
    "vocals_instrumental": lambda turn: start(turn, Options(two_stems="vocals")),
    "drums_rest": lambda turn: start(turn, Options(two_stems="drums")),
}
STEPS: dict[str, Step] = {"batch.selected": (Batch, take_selection), **preparing.STEPS, **landing.STEPS}
