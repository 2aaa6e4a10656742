"""Stems that came from elsewhere, closed to the selected item's source and placed on it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import msgspec

from stembridge.errors import AlignmentError
from stembridge.reaper.families import Bonds
from stembridge.reaper.playing import Way, judge
from stembridge.reaper.requests import STEMS_FOLDER, Options
from stembridge.reaper.snapshot import Item, Snapshot, read_snapshot
from stembridge.reaper.threads import refusals, splitting
from stembridge.reaper.threads.batch import Batch, RowState
from stembridge.reaper.threads.waiting import await_errand
from stembridge.reaper.turn import Start, Step, Turn, pack, unpack


class Import(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One import.

    Parameters
    ----------
    snapshot : the selected item and its project
    job : id of the result
    chosen : one of the stems' files
    told : what is said of the result once it is placed
    """

    snapshot: Snapshot | None = None
    job: str = ""
    chosen: str = ""
    errand: str = ""
    told: tuple[str, ...] = ()


def start(turn: Turn) -> None:
    """Begin with what is selected."""
    turn.collect("tagged", "import.selected", Import())


def take_selection(turn: Turn, _import: Import, result: Any) -> None:
    """Ask for one of the stems' files."""
    snapshot = read_snapshot(result)
    selected = tuple(item for item in snapshot.items if item.is_selected)
    if len(selected) != 1:
        turn.tell(
            f"{len(selected) or 'No'} items are selected: select the one whose stems are to be imported.",
            is_error=True,
        )
        return
    reason = _find_refusal(turn, selected[0], Bonds(snapshot))
    if reason:
        turn.tell(f"{selected[0].name}: {reason}", is_error=True)
        return
    turn.ask(
        f"One stem of {selected[0].name}: all audio files of its folder become stems",
        "",
        "import.chosen",
        Import(snapshot=msgspec.structs.replace(snapshot, items=selected), job=uuid.uuid4().hex),
        kind="file",
        path="",
    )


def _find_refusal(turn: Turn, item: Item, bonds: Bonds) -> str:
    """Return why stems cannot be imported onto ``item``, or ''."""
    reason = refusals.find_refusal(turn, item, bonds)
    if not reason and refusals.wants_takes(turn, Options()):
        reason = refusals.find_take_refusal(item)
    verdict = judge(item)
    is_kept = turn.preferences.effects == "keep" and verdict.is_keepable
    if not reason and verdict.way is Way.BAKED and not is_kept:
        return refusals.tell_to_glue(verdict.reasons)
    return reason


def take_file(turn: Turn, one: Import, result: Any) -> None:
    """Have the stems closed to the item's source."""
    values = result.get("values") or []
    if result.get("answer") == "yes" and values:
        _conform(turn, msgspec.structs.replace(one, chosen=str(values[0])), as_is=False)


def _conform(turn: Turn, one: Import, *, as_is: bool) -> None:
    assert one.snapshot is not None
    arguments = {
        "mixture": one.snapshot.items[0].active.media.path,
        "chosen": one.chosen,
        "out": str(Path(one.snapshot.project.media_dir) / STEMS_FOLDER),
        "job": one.job,
        "as_is": as_is,
    }
    errand = turn.house.start_errand("conform", arguments)
    look(turn, msgspec.structs.replace(one, errand=errand), None)


def look(turn: Turn, one: Import, _result: Any) -> None:
    """Once the set is there, place it like one that was split here."""
    assert one.snapshot is not None
    errand = await_errand(turn, one.errand, "import.conforming", one)
    if errand is None:
        return
    item = one.snapshot.items[0]
    if errand.error is not None and errand.error.code == AlignmentError.code:
        turn.ask(
            f"Stembridge: {item.name}",
            f"{errand.error.message}.\n\nTake the stems as they lie? What they lack goes into the residual.",
            "import.as_is",
            one,
        )
        return
    if errand.error is not None:
        turn.tell(f"{item.name}: {errand.error.message} ({errand.error.hint})", is_error=True)
        return
    found = errand.result
    level = found["residual_db"]
    rest = "nothing is missing" if level is None else f"what they lack is the residual, {level:.0f} dB"
    told = (f"{item.name}: {', '.join(found['stems'])} imported; {rest}.", *found["remarks"])
    splitting.take_items(
        turn,
        Batch(
            options=Options(),
            label=f"Stembridge: import stems of {item.name}",
            folder=found["folder"],
            then="import.placed",
            carried=pack(msgspec.structs.replace(one, snapshot=None, told=told)),
        ),
        one.snapshot,
        [(item, None)],
    )


def take_answer(turn: Turn, one: Import, result: Any) -> None:
    """Take the stems as they lie, if that is wanted."""
    assert one.snapshot is not None
    if result.get("answer") == "yes":
        _conform(turn, one, as_is=True)
    else:
        turn.tell(f"{one.snapshot.items[0].name}: its stems were not imported.")


def tell_result(turn: Turn, placed: Batch, _result: Any) -> None:
    """Say what was imported, or why it is not in the project."""
    for name, reason in placed.skipped:
        turn.tell(f"{name}: {reason}. Its stems are in {placed.folder}", is_error=True)
    for entry in placed.entries:
        if entry.state is RowState.DONE:
            for text in unpack(placed.carried, Import).told:
                turn.tell(text)
        else:
            turn.tell(f"{entry.ticket.item.name}: {entry.text}", is_error=True)


STARTS: dict[str, Start] = {"import_stems": start}
STEPS: dict[str, Step] = {
    "import.selected": (Import, take_selection),
    "import.chosen": (Import, take_file),
    "import.conforming": (Import, look),
    "import.as_is": (Import, take_answer),
    "import.placed": (Batch, tell_result),
}
