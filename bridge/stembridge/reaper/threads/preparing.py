"""What has to be known before a batch can be split: the model, locked items, lossy files, renderings.

`prepare` asks or measures the next thing that is missing, and is called with the answer until nothing is.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import msgspec

from stembridge import catalog
from stembridge.errors import Busy
from stembridge.reaper import operations as do
from stembridge.reaper.fitting import TAKE_SOUND, TAKE_SPEED
from stembridge.reaper.playing import Way, judge
from stembridge.reaper.requests import choose_model
from stembridge.reaper.snapshot import Item, read_snapshot
from stembridge.reaper.threads.batch import Batch, BatchStep, contain_trouble
from stembridge.reaper.threads.landing import MAX_TRIES, _restore_mute, submit, summarise
from stembridge.reaper.threads.refusals import find_unfit, tell_to_glue
from stembridge.reaper.threads.waiting import LOOK_S, LOST, await_errand
from stembridge.reaper.turn import Step, Turn
from stembridge.text import clock

BUSY_S = 1.0

BAKED_ITEM_VALUES = ("D_LENGTH", "B_LOOPSRC", "B_MUTE", "I_CURTAKE")

BAKED_TAKE_VALUES = (*TAKE_SOUND, *TAKE_SPEED, "D_STARTOFFS")
"""On what the rendering of a take depends: an item that was moved or faded meanwhile is the same there."""

HEARD_S = 0.5
"""How much of a lossy file is compared with what REAPER hears of it."""


def prepare(turn: Turn, batch: Batch) -> None:
    """Ask or measure the next thing that is missing; with nothing missing, make the jobs."""
    if not batch.items:
        summarise(turn, batch)
        return
    if not batch.folder and not _has_model(turn, batch):
        return
    locked = [
        item
        for item in map(_restore_mute, batch.items)
        if int(item.values["C_LOCK"]) & 1 and not item.values["B_MUTE"]
    ]
    if locked and "locked" not in batch.answers:
        count = f"{len(locked)} items are" if len(locked) > 1 else f"{locked[0].name} is"
        turn.ask(
            "Stembridge: locked items",
            f"{count} locked. Mute the original where its stems are placed?\n\n"
            "No: the original stays as it is and its stems come muted.",
            "batch.answered",
            msgspec.structs.replace(batch, subject="locked"),
        )
        return
    for item in batch.items:
        path = item.active.media.path
        if _way(batch, item) is Way.LOSSY and path not in batch.lengths:
            _listen(turn, batch, path)
            return
        if _way(batch, item) is Way.BAKED and item.guid not in batch.baked:
            if batch.folder:
                _leave_out(turn, batch, item, tell_to_glue(judge(item).reasons))
            else:
                _bake(turn, batch, item)
            return
    submit(turn, batch)


def _has_model(turn: Turn, batch: Batch) -> bool:
    name = choose_model(batch.options, turn.preferences, turn.house.settings)
    model = catalog.find_model(name)
    if turn.house.has_model(name):
        return True
    if "fetch" not in batch.answers:
        megabytes = (model.size_bytes or 0) / 1e6
        turn.ask(
            "Stembridge: the model is not here",
            f"{name} is not on this machine. Fetch it now?\n\n"
            f"{f'{megabytes:.0f} MB' if megabytes else 'a file of unknown size'} goes into "
            f"{turn.house.settings.model_dirs[0]}"
            f"{f', in about {clock(megabytes / 5)} at 5 MB/s' if megabytes else ''}.",
            "batch.answered",
            msgspec.structs.replace(batch, subject="fetch"),
        )
    elif batch.answers["fetch"] != "yes":
        turn.tell(f"Nothing was split: the model {name} is not on this machine.", is_error=True)
    else:
        _send(turn, msgspec.structs.replace(batch, subject="fetch"), "fetch_model", {"model": name})
    return False


def _send(turn: Turn, batch: Batch, kind: str, arguments: dict[str, Any]) -> None:
    """Start an errand and wait for it; where too many run, come back to `prepare` in a while."""
    try:
        errand = turn.house.start_errand(kind, arguments)
    except Busy as error:
        turn.panel = {"line": f"waiting: {error.message}", "fraction": None, "eta_s": None, "rows": []}
        turn.wait(BUSY_S, "batch.waited", batch)
    else:
        turn.wait(LOOK_S, "batch.errand", msgspec.structs.replace(batch, errand=errand))


def _way(batch: Batch, item: Item) -> Way:
    """Return the way an item goes, with what is known by now of the file it plays."""
    if item.guid in batch.approximate:
        return Way.DIRECT
    way = judge(item).way
    differs = batch.lengths.get(item.active.media.path) == 0
    return Way.BAKED if way is Way.LOSSY and differs else way


def take_answer(turn: Turn, batch: Batch, result: Any) -> None:
    """Take the user's answer to the batch's question and go on."""
    answers = batch.answers | {batch.subject: str(result.get("answer", "cancel"))}
    prepare(turn, msgspec.structs.replace(batch, answers=answers))


def _listen(turn: Turn, batch: Batch, path: str) -> None:
    """Have REAPER read a part of a lossy file, where an item plays most of it, to see whether it decodes it
    as we do.
    """
    item = max((item for item in batch.items if item.active.media.path == path), key=_count_heard)
    media = item.active.media
    start_s, frames = find_stretch(item)
    if not frames:
        prepare(turn, msgspec.structs.replace(batch, lengths=batch.lengths | {path: 0}))
        return
    turn.listen(
        item.guid, start_s, frames, media.rate, "batch.heard",
        msgspec.structs.replace(batch, subject=item.guid),
    )  # fmt: skip


def _count_heard(item: Item) -> int:
    return find_stretch(item)[1]


def find_stretch(item: Item) -> tuple[float, int]:
    """Return from where of what the take plays, and how many frames, are compared with our decoding.

    They are whole frames of the file, in the middle of what the item plays before it goes round: nothing else
    of it can be heard.
    """
    take, media = item.active, item.active.media
    begin = take.values["D_STARTOFFS"]
    last_s = min(begin + item.length * take.values["D_PLAYRATE"], media.length)
    # Between the frames of what the take plays and those of the file, as a part of one.
    phase = 0.0
    if media.section is not None:
        offset, length, is_reversed = media.section
        phase = ((offset + length) if is_reversed else -offset) * media.rate % 1.0
    first, behind = ceil(max(begin, 0.0) * media.rate - phase), floor(last_s * media.rate - phase)
    frames = min(round(HEARD_S * media.rate), behind - first)
    if frames <= 0:
        return 0.0, 0
    return (first + (behind - first - frames) // 2 + phase) / media.rate, frames


def take_heard(turn: Turn, batch: Batch, result: Any) -> None:
    """Have what REAPER hears compared with what we decode."""
    item = next(item for item in batch.items if item.guid == batch.subject)
    if result.get("reason") == "missing":
        _look_again(turn, batch, item, str(result.get("text")))
        return
    media = item.active.media
    arguments = {
        "path": media.path,
        "rate": media.rate,
        "frames": round(media.file_length * media.rate),
        "start_s": find_stretch(item)[0],
        "samples": result.get("samples") or [],
        "section": media.section,
    }
    _send(turn, msgspec.structs.replace(batch, subject=media.path), "compare", arguments)


def look_at_errand(turn: Turn, batch: Batch, _result: Any) -> None:
    """See whether the errand that the batch waits for is over."""
    errand = await_errand(turn, batch.errand, "batch.errand", batch)
    if errand is None:
        return
    if errand.error is not None and errand.error.code == LOST:
        # What was missing is missing still.
        prepare(turn, batch)
    elif batch.subject == "fetch":
        if errand.error is not None:
            turn.tell(f"Nothing was split: {errand.error.message} ({errand.error.hint})", is_error=True)
        else:
            # Fetched once: where that is of no help, another time is of none.
            prepare(turn, msgspec.structs.replace(batch, answers=batch.answers | {"fetch": "done"}))
    else:
        # A file that we cannot decode is one that REAPER has to render.
        frames = 0 if errand.error is not None else int(errand.result.get("frames", 0))
        prepare(turn, msgspec.structs.replace(batch, lengths=batch.lengths | {batch.subject: frames}))


def _bake(turn: Turn, batch: Batch, item: Item) -> None:
    """Have REAPER render the item's take; the rendering becomes a file and no take is left of it."""
    if turn.host.is_playing or turn.host.is_recording:
        what = "recording" if turn.host.is_recording else "playing"
        line = f"{item.name} is rendered when REAPER stops {what}"
        turn.panel = {"line": line, "fraction": None, "eta_s": None, "rows": []}
        turn.wait(LOOK_S, "batch.waited", batch)
        return
    take = item.active
    # An item that is not heard might be rendered as silence.
    is_muted = bool(item.values["B_MUTE"])
    operations = [
        do.expect_item(item.guid, {name: item.values[name] for name in BAKED_ITEM_VALUES}),
        do.expect_take(take.guid, {name: take.values[name] for name in BAKED_TAKE_VALUES}),
        *([do.set_item(item.guid, "B_MUTE", 0)] if is_muted else []),
        do.select_only(item.guid),
        do.command(do.RENDER_TO_NEW_TAKE),
        # Where it was aborted, the take that would be deleted now is the user's own.
        do.demand_new_take(item.guid, take.guid),
        do.read_file("path", item.guid),
        do.command(do.DELETE_ACTIVE_TAKE),
        do.activate(take.guid),
        do.restore_selection(),
        *([do.set_item(item.guid, "B_MUTE", 1)] if is_muted else []),
    ]
    turn.panel = {"line": f"REAPER renders {item.name}", "fraction": None, "eta_s": None, "rows": []}
    turn.apply("", operations, "batch.baked", msgspec.structs.replace(batch, subject=item.guid))


def take_bake(turn: Turn, batch: Batch, result: Any) -> None:
    """Note which file REAPER has rendered."""
    path = result.get("read", {}).get("path", "") if result.get("ok") else ""
    item = next(item for item in batch.items if item.guid == batch.subject)
    if result.get("reason") in ("changed", "missing"):
        _look_again(turn, batch, item, str(result.get("text") or result["reason"]))
        return
    if path and path != item.active.media.path:
        prepare(turn, msgspec.structs.replace(batch, baked=batch.baked | {item.guid: path}))
        return
    _leave_out(turn, batch, item, f"REAPER could not render it: {result.get('text') or 'no new file'}")


def _look_again(turn: Turn, batch: Batch, item: Item, why: str) -> None:
    """Go on with an item as it is now, where it was just being changed."""
    tries = batch.tries.get(item.guid, 0) + 1
    if tries > MAX_TRIES:
        _leave_out(turn, batch, item, f"it changes again and again: {why}")
        return
    batch = msgspec.structs.replace(batch, tries=batch.tries | {item.guid: tries}, subject=item.guid)
    turn.collect("items", "batch.again", batch, guids=[item.guid])


def take_again(turn: Turn, batch: Batch, result: Any) -> None:
    """Put the item as it is now in the place of what it was."""
    before = next(item for item in batch.items if item.guid == batch.subject)
    now = read_snapshot(result).find_item(before.guid)
    reason = "it is gone" if now is None else find_unfit(turn, now)
    if now is None or reason:
        _leave_out(turn, batch, before, reason)
        return
    number = batch.items.index(before)
    items, windows = list(batch.items), list(batch.windows)
    items[number] = now
    window = windows[number]
    if window is not None:
        moved = _find_origin(now) - _find_origin(before)
        windows[number] = window[0] + moved, window[1] + moved
    prepare(turn, msgspec.structs.replace(batch, items=tuple(items), windows=tuple(windows)))


def _find_origin(item: Item) -> float:
    """Return the time of the project at which what the take plays begins."""
    values = item.active.values
    return item.position - values["D_STARTOFFS"] / values["D_PLAYRATE"]


def _leave_out(turn: Turn, batch: Batch, item: Item, reason: str) -> None:
    """Go on without an item."""
    number = batch.items.index(item)
    prepare(
        turn,
        msgspec.structs.replace(
            batch,
            items=batch.items[:number] + batch.items[number + 1 :],
            windows=batch.windows[:number] + batch.windows[number + 1 :],
            skipped=(*batch.skipped, (item.name, reason)),
        ),
    )


def leave_out_trouble(step: BatchStep) -> BatchStep:
    """Return a step about the item ``subject`` that leaves that item out where it fails; all others go on."""

    def leave_out(turn: Turn, batch: Batch, trouble: str) -> None:
        _leave_out(turn, batch, next(item for item in batch.items if item.guid == batch.subject), trouble)

    return contain_trouble(step, leave_out)


STEPS: dict[str, Step] = {
    "batch.answered": (Batch, take_answer),
    "batch.heard": (Batch, leave_out_trouble(take_heard)),
    "batch.errand": (Batch, look_at_errand),
    "batch.waited": (Batch, lambda turn, batch, _result: prepare(turn, batch)),
    "batch.baked": (Batch, leave_out_trouble(take_bake)),
    "batch.again": (Batch, leave_out_trouble(take_again)),
}
