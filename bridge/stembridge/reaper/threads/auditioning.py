"""Hearing what the stems will be like: a few seconds at the edit cursor, kept or dropped at once."""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import msgspec

from stembridge import catalog
from stembridge.estimate import SEGMENT_S
from stembridge.quality import QUALITIES
from stembridge.reaper.playing import Way, find_played, judge
from stembridge.reaper.requests import Options, choose_model
from stembridge.reaper.snapshot import Item, Snapshot, read_snapshot
from stembridge.reaper.tags import StemTag, read_tag
from stembridge.reaper.threads import splitting
from stembridge.reaper.threads.batch import Batch, RowState
from stembridge.reaper.turn import Start, Step, Turn, pack, unpack

AUDITION_S = SEGMENT_S
"""Long enough to judge by."""
LEAST_S = 4.0
"""Where two segments of the model give less than this from the cursor on, a third one is worth its time."""


class Audition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is heard.

    Parameters
    ----------
    name : the item's
    label : undo step that put its stems there
    pieces : into how many the item was cut
    was_playing : REAPER played before
    """

    name: str = ""
    label: str = ""
    pieces: int = 1
    was_playing: bool = False


def start(turn: Turn) -> None:
    """Begin with what lies under the edit cursor."""
    if turn.host.is_recording:
        turn.tell("REAPER records: stop the recording, then audition.", is_error=True)
        return
    turn.collect("tagged", "audition.selected", Audition(was_playing=turn.host.is_playing))


def take_selection(turn: Turn, audition: Audition, result: Any) -> None:
    """Look for the item under the cursor among all of them where none is selected."""
    if any(item.is_selected for item in read_snapshot(result).items):
        take_items(turn, audition, result)
    else:
        turn.collect("all", "audition.collected", audition)


def take_items(turn: Turn, audition: Audition, result: Any) -> None:
    """Split a few seconds of the item under the cursor."""
    snapshot = read_snapshot(result)
    item = find_item(snapshot)
    if item is None:
        has_selection = any(item.is_selected for item in snapshot.items)
        where = "a selected item" if has_selection else "an item"
        turn.tell(
            f"The edit cursor is not on {where}: put it where the stems are to be heard.", is_error=True
        )
        return
    label = f"Stembridge: audition {item.name}"
    window = find_window(turn, item, snapshot.host.cursor)
    pieces = 1 + (window[0] > item.position) + (window[1] < item.end)
    audition = msgspec.structs.replace(audition, name=item.name, label=label, pieces=pieces)
    splitting.take_items(
        turn,
        Batch(
            options=Options(output="tracks"),
            label=label,
            handles_s=0.0,
            then="audition.placed",
            carried=pack(audition),
        ),
        snapshot,
        [(item, window)],
    )


def find_item(snapshot: Snapshot) -> Item | None:
    """Return the item under the edit cursor: a selected one; with no selection the first that is heard."""
    cursor = snapshot.host.cursor
    under = [item for item in snapshot.items if item.position <= cursor < item.end]
    if any(item.is_selected for item in snapshot.items):
        return next((item for item in under if item.is_selected), None)
    order = {track.guid: track.values["IP_TRACKNUMBER"] for track in snapshot.tracks}
    heard = [
        item
        for item in under
        if not item.values["B_MUTE"]
        and not isinstance(read_tag(item.tag), StemTag)
        and judge(item).way is not Way.SKIPPED
    ]
    return min(heard, key=lambda item: order.get(item.track, 0.0), default=None)


def find_window(turn: Turn, item: Item, cursor: float) -> tuple[float, float]:
    """Return the stretch of the project from the cursor on that is worth hearing and costs little.

    Segments lie on one grid of the source, and overlap: the stretch ends where the next would have to run.
    """
    end = min(item.end, cursor + AUDITION_S)
    played = find_played(item)
    is_plain = judge(item).way in (Way.DIRECT, Way.LOSSY) and item.active.media.section is None
    if not is_plain or played is None or played.wraps:
        return cursor, end
    take = item.active
    model = catalog.find_model(choose_model(Options(), turn.preferences, turn.house.settings))
    segment_s = model.segment_s or SEGMENT_S
    overlap = QUALITIES[turn.preferences.quality].overlap
    rate = take.values["D_PLAYRATE"]
    first = take.values["D_STARTOFFS"] + (cursor - item.position) * rate
    last = _find_cheap_end(max(first, 0.0), take.media.file_length, segment_s, segment_s * (1 - overlap))
    return cursor, min(end, cursor + (last - first) / rate)


def _find_cheap_end(first_s: float, length_s: float, segment_s: float, stride_s: float) -> float:
    """Return the second of the source up to which two segments suffice, or three where two give too little.

    A region begins on a whole second and ends a whole number of seconds before the source does.
    """
    begin = max(0, floor((floor(first_s) - segment_s) / stride_s) + 1)
    last_s = length_s
    for count in (2, 3):
        limit = (begin + count) * stride_s
        last_s = length_s - ceil(length_s - limit) if limit < length_s else length_s
        if last_s - first_s >= LEAST_S:
            break
    return last_s


def play(turn: Turn, placed: Batch, _result: Any) -> None:
    """Play the stems once they are there; else say why they are not."""
    audition = unpack(placed.carried, Audition)
    for name, reason in placed.skipped:
        turn.tell(f"{name}: {reason}", is_error=True)
    for entry in placed.entries:
        if entry.state is RowState.DONE:
            turn.play("audition.playing", audition, on=True)
        else:
            turn.tell(f"{entry.ticket.item.name}: {entry.text}", is_error=entry.state is RowState.FAILED)


def ask_to_keep(turn: Turn, audition: Audition, _result: Any) -> None:
    """Ask while they play."""
    turn.ask(f"Stembridge: {audition.name}", "Keep these stems?", "audition.answered", audition)


def take_answer(turn: Turn, audition: Audition, result: Any) -> None:
    """Leave the stems, or take them away again; what played before goes on."""
    if result.get("answer") == "yes":
        turn.tell(f"{audition.name}: the stems of this stretch are kept.{_say_cut(audition.pieces)}")
    elif audition.was_playing:
        drop(turn, audition, None)
    else:
        turn.play("audition.stopped", audition, on=False)


def _say_cut(pieces: int) -> str:
    if pieces == 1:
        return ""
    count = "two" if pieces == 2 else "three"
    return f" The item was cut in {count}: Undo (Ctrl+Z) joins it again, without them."


def drop(turn: Turn, audition: Audition, _result: Any) -> None:
    """Undo the step that put the stems there."""
    turn.undo(audition.label, "audition.undone", audition)


def tell_result(turn: Turn, audition: Audition, result: Any) -> None:
    """Say whether the project is as before."""
    if result.get("done"):
        turn.tell(f"{audition.name}: as before; the files of its stems stay on the disk.")
    else:
        turn.tell(
            f"{audition.name}: the project was changed meanwhile, so that its stems could not be undone. "
            "Select it and run “Remove stems and restore the original”.",
            is_error=True,
        )


STARTS: dict[str, Start] = {"audition": start}
STEPS: dict[str, Step] = {
    "audition.selected": (Audition, take_selection),
    "audition.collected": (Audition, take_items),
    "audition.placed": (Batch, play),
    "audition.playing": (Audition, ask_to_keep),
    "audition.answered": (Audition, take_answer),
    "audition.stopped": (Audition, drop),
    "audition.undone": (Audition, tell_result),
}
