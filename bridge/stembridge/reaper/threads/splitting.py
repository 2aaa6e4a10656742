"""Splitting the selection: what has to be known first, the jobs, and the stems as they come, item by item.

Nothing is kept here between two notes: the `Batch` travels with every order. It goes from step to step: the
selection is collected, `prepare` asks and measures until nothing is missing, `_submit` makes the jobs, and
`look` comes back until every entry is final, having each one placed as it is ready.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from math import ceil, floor
from pathlib import Path
from typing import Any

import msgspec

from stembridge import catalog
from stembridge.errors import Busy, StembridgeError
from stembridge.estimate import pass_seconds
from stembridge.reaper import operations as do
from stembridge.reaper.families import Bonds, compare_track
from stembridge.reaper.fitting import TAKE_SOUND, TAKE_SPEED
from stembridge.reaper.operations import Operation
from stembridge.reaper.placing import Lacking, Placed, Ticket, Unplaceable, place
from stembridge.reaper.playing import Way, find_form, judge, trim
from stembridge.reaper.regions import Extent, plan_regions
from stembridge.reaper.requests import (
    Options,
    Wanted,
    choose_model,
    estimate_seconds,
    find_job_id,
    form_requests,
)
from stembridge.reaper.snapshot import Host, Item, Snapshot, read_snapshot
from stembridge.reaper.stem_set import StemSet, read_stem_set
from stembridge.reaper.stem_tracks import find_stem_tracks
from stembridge.reaper.tags import OriginalTag, read_tag
from stembridge.reaper.turn import Start, Step, Turn
from stembridge.text import clock
from stembridge.types import Job, JobState

logger = logging.getLogger(__name__)

LOOK_S = 0.25
BUSY_S = 1.0
MAX_TRIES = 5
RECORDING = 4
PLAYING = 1
BAKED_ITEM_VALUES = ("D_LENGTH", "B_LOOPSRC", "B_MUTE", "I_CURTAKE")
BAKED_TAKE_VALUES = (*TAKE_SOUND, *TAKE_SPEED, "D_STARTOFFS")
"""On what the rendering of a take depends: an item that was moved or faded meanwhile is the same there."""
HEARD_S = 0.5
"""How much of a lossy file is compared with what REAPER hears of it."""


class RowState(StrEnum):
    """How an item stands, as the panel shows it."""

    WAITING = "waiting"
    RUNNING = "running"
    PLACING = "placing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        return self not in (RowState.WAITING, RowState.RUNNING, RowState.PLACING)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a batch that is on its way, and how it stands; of an orphan the stems alone are placed.

    ``folder`` is a result that is there already, so that there is no job to wait for.
    """

    ticket: Ticket
    folder: str = ""
    state: RowState = RowState.WAITING
    text: str = ""
    tries: int = 0
    is_orphan: bool = False


class Batch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run of an action that splits.

    Parameters
    ----------
    label : name of the undo step, where the one of a split does not say what it is
    folder : result for all of the items that is there already, so that nothing is split
    handles_s : seconds beyond what an item plays; None means the preference
    placer : step that gets all tagged items and places the stems, where they do not go beside the item
    then, carried : step that gets the batch once every entry is final, and what that step needs to know; it
        says what became of the batch then
    items : what can be split of the selection
    approximate : GUIDs of items whose effects go onto each stem
    skipped : name and reason of what cannot be split
    answers : what the user said, by question
    baked : file that stands for an item, by GUID
    lengths : frames of a lossy file, by path; 0 where REAPER hears another thing than we decode
    errand : id of what is being waited for
    subject : path or GUID that the errand or order is about
    tries : how often an item was found changed, by GUID
    entries : what has a job
    remarks : what stem tracks do that were there already, so that the sum is not what is heard
    current : number of the entry that is being placed
    span : seconds of the source that the current entry plays beyond what was separated
    """

    options: Options
    label: str = ""
    folder: str = ""
    handles_s: float | None = None
    placer: str = ""
    then: str = ""
    carried: str = ""
    media_dir: str = ""
    items: tuple[Item, ...] = ()
    windows: tuple[tuple[float, float] | None, ...] = ()
    approximate: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    answers: dict[str, str] = {}
    baked: dict[str, str] = {}
    lengths: dict[str, int] = {}
    errand: str = ""
    subject: str = ""
    tries: dict[str, int] = {}
    entries: tuple[Entry, ...] = ()
    remarks: tuple[str, ...] = ()
    span: tuple[float, float] = (0.0, 0.0)
    current: int = -1


BatchStep = Callable[[Turn, Batch, Any], None]


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


def prepare(turn: Turn, batch: Batch) -> None:
    """Ask or measure the next thing that is missing; with nothing missing, make the jobs."""
    if not batch.items:
        _summarise(turn, batch)
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
    _submit(turn, batch)


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
        _await(turn, msgspec.structs.replace(batch, errand=errand))


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


def _await(turn: Turn, batch: Batch) -> None:
    turn.wait(LOOK_S, "batch.errand", batch)


def look_at_errand(turn: Turn, batch: Batch, _result: Any) -> None:
    """See whether the errand that the batch waits for is over."""
    errand = turn.house.find_errand(batch.errand)
    if errand is None:
        # The daemon was restarted: what was missing is missing still.
        prepare(turn, batch)
    elif not errand.is_over:
        turn.panel = {"line": errand.text, "fraction": errand.fraction, "eta_s": None, "rows": []}
        _await(turn, batch)
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
    if turn.host.play & (PLAYING | RECORDING):
        what = "recording" if _is_recording(turn) else "playing"
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


def _is_recording(turn: Turn) -> bool:
    return bool(turn.host.play & RECORDING)


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


def _submit(turn: Turn, batch: Batch) -> None:
    """Make the jobs; a source that is refused fails its items and stops no other."""
    if batch.folder:
        job = read_stem_set(batch.folder).job
        tickets = [_make_ticket(turn, batch, number, job) for number in range(len(batch.items))]
        entries_there = tuple(Entry(ticket=ticket, folder=batch.folder) for ticket in tickets)
        look(turn, msgspec.structs.replace(batch, entries=entries_there, items=(), windows=()), None)
        return
    handles_s = turn.preferences.handles_s if batch.handles_s is None else batch.handles_s
    wanted = form_requests(
        batch.items,
        batch.options,
        replace(turn.preferences, handles_s=handles_s),
        turn.house.settings,
        media_dir=batch.media_dir,
        baked=batch.baked,
        lengths=batch.lengths,
        windows=batch.windows,
    )
    entries: dict[int, Entry] = {}
    for one in wanted:
        job_id, fault = _submit_one(turn, one)
        for number in one.items:
            ticket = _make_ticket(turn, batch, number, job_id)
            state = RowState.FAILED if fault else RowState.WAITING
            entries[number] = Entry(ticket=ticket, state=state, text=fault)
    look(
        turn,
        msgspec.structs.replace(
            batch, entries=tuple(entries[number] for number in sorted(entries)), items=(), windows=()
        ),
        None,
    )


def _submit_one(turn: Turn, wanted: Wanted) -> tuple[str, str]:
    """Return the job's id and '', or '' and why there is no job."""
    try:
        job_id = find_job_id(turn.house, wanted.request)
        turn.house.submit(wanted.request, job_id)
    except StembridgeError as error:
        return "", str(error)
    return job_id, ""


def _restore_mute(item: Item) -> Item:
    """Return an original that has no stems any more, or not yet, as muted as it was before it had any."""
    tag = read_tag(item.tag)
    if not isinstance(tag, OriginalTag):
        return item
    return msgspec.structs.replace(item, values=item.values | {"B_MUTE": float(tag.was_muted)})


def _make_ticket(turn: Turn, batch: Batch, number: int, job_id: str) -> Ticket:
    item = batch.items[number]
    return Ticket(
        item=_restore_mute(item),
        job=job_id,
        baked=batch.baked.get(item.guid, ""),
        window=batch.windows[number],
        mutes_locked=batch.answers.get("locked") == "yes",
        is_approximate=item.guid in batch.approximate,
        as_takes=wants_takes(turn, batch.options),
    )


def look(turn: Turn, batch: Batch, _result: Any) -> None:
    """See how the jobs stand, show it, and have the first item placed whose stems are ready."""
    jobs = {
        entry.ticket.job: turn.house.find_job(entry.ticket.job)
        for entry in batch.entries
        if not entry.state.is_final and not entry.folder
    }
    entries = tuple(_update(entry, jobs) for entry in batch.entries)
    batch = msgspec.structs.replace(batch, entries=entries)
    is_recording = _is_recording(turn)
    ready = next(
        (
            number
            for number, entry in enumerate(entries)
            if entry.state is RowState.PLACING and not is_recording
        ),
        None,
    )
    turn.panel = _panel(turn, entries, jobs, is_recording=is_recording)
    if ready is not None:
        _collect_kin(turn, msgspec.structs.replace(batch, current=ready))
    elif any(not entry.state.is_final for entry in entries):
        turn.wait(LOOK_S, "batch.look", batch)
    else:
        _summarise(turn, batch)


def _update(entry: Entry, jobs: dict[str, Job | None]) -> Entry:
    if entry.state.is_final:
        return entry
    if entry.folder:
        return msgspec.structs.replace(entry, state=RowState.PLACING)
    job = jobs[entry.ticket.job]
    if job is None:
        return msgspec.structs.replace(entry, state=RowState.FAILED, text="the daemon does not know its job")
    match job.state:
        case JobState.QUEUED:
            return msgspec.structs.replace(entry, state=RowState.WAITING)
        case JobState.RUNNING:
            return msgspec.structs.replace(entry, state=RowState.RUNNING)
        case JobState.DONE:
            return msgspec.structs.replace(entry, state=RowState.PLACING)
        case JobState.CANCELLED:
            return msgspec.structs.replace(entry, state=RowState.CANCELLED, text="cancelled")
        case JobState.FAILED:
            text = f"{job.error.message} ({job.error.hint})" if job.error is not None else "failed"
            return msgspec.structs.replace(entry, state=RowState.FAILED, text=text)


def _panel(
    turn: Turn, entries: Sequence[Entry], jobs: dict[str, Job | None], *, is_recording: bool
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        job = jobs.get(entry.ticket.job)
        progress = job.progress if job is not None and entry.state is RowState.RUNNING else None
        rows.append(
            {
                # What stands before the "/" is cancelled: items of one source share a job.
                "id": f"{entry.ticket.job}/{number}",
                "label": entry.ticket.item.name,
                "state": str(entry.state),
                "fraction": 1.0 if entry.state.is_final else progress.fraction if progress else 0.0,
                "eta_s": progress.eta_s if progress else None,
                "text": entry.text or (progress.stage if progress else ""),
            }
        )
    eta_s = _sum_eta(turn, entries, jobs)
    done = sum(float(row["fraction"]) for row in rows) / max(len(rows), 1)
    final = sum(entry.state.is_final for entry in entries)
    line = f"{final} of {len(entries)} placed" if final < len(entries) else f"{final} of {final}"
    if is_recording and any(entry.state is RowState.PLACING for entry in entries):
        line = "stems are ready and wait for the recording to end"
    return {"line": line, "fraction": done, "eta_s": eta_s, "rows": rows}


def _sum_eta(turn: Turn, entries: Sequence[Entry], jobs: dict[str, Job | None]) -> float | None:
    """Return in how many seconds all jobs will be done, None while one of them cannot be reckoned."""
    tickets = {entry.ticket.job: entry.ticket for entry in entries}
    left = [job for job in jobs.values() if job is not None and not job.state.is_final]
    costs = {model: turn.house.cost_of(model) for model in {job.request.model for job in left}}
    total = 0.0
    for job in left:
        eta_s = job.progress.eta_s if job.progress is not None else None
        if eta_s is None:
            eta_s = _reckon(job, tickets[job.id], costs[job.request.model])
        if eta_s is None:
            return None
        total += eta_s
    return total


def _reckon(job: Job, ticket: Ticket, cost: float | None) -> float | None:
    """Return how long a job will take that has not said so yet; ``cost`` as `House.cost_of` returns it."""
    if cost is None:
        return None
    if ticket.baked:
        model = catalog.find_model(job.request.model)
        return cost * pass_seconds(model, job.request, ticket.item.length)
    return estimate_seconds(Wanted(job.request, (0,)), [ticket.item], cost)


def _collect_kin(turn: Turn, batch: Batch) -> None:
    if batch.placer:
        turn.collect("tagged", batch.placer, batch)
        return
    item = batch.entries[batch.current].ticket.item
    turn.collect("kin", "batch.kin", batch, guids=[item.guid], path=item.active.media.path)


def take_kin(turn: Turn, batch: Batch, result: Any) -> None:
    """Have the stems of the current entry placed onto its item as it is now."""
    snapshot = read_snapshot(result)
    entry = batch.entries[batch.current]
    stems = find_stems(turn, batch)
    if stems is not None:
        seen = _restore_mutes(entry.ticket, snapshot)
        plan = place(entry.ticket, stems, seen, turn.preferences.looks, is_orphan=entry.is_orphan)
        if isinstance(plan, Placed):
            plan = replace(plan, operations=tuple(_expect(one, snapshot) for one in plan.operations))
            remarks = () if entry.ticket.as_takes else _find_remarks(entry.ticket, stems, snapshot)
            known = dict.fromkeys((*batch.remarks, *remarks))
            batch = msgspec.structs.replace(batch, remarks=tuple(known))
        carry_out(turn, batch, plan, stems, snapshot)


def _find_remarks(ticket: Ticket, stems: StemSet, snapshot: Snapshot) -> tuple[str, ...]:
    """Return what the stem tracks that are there already do, so that the sum is not what is heard."""
    item = snapshot.find_item(ticket.item.guid) or ticket.item
    parent = snapshot.find_track(item.track)
    if parent is None:
        return ()
    there = find_stem_tracks(snapshot, parent)
    tracks = [there[file.stem] for file in stems.files if file.stem in there]
    has_solo = any(track.values["I_SOLO"] for track in there.values())
    found = []
    for track in tracks:
        texts = [text for _, text in compare_track(track)]
        if has_solo and not track.values["I_SOLO"]:
            texts.append("another stem's track is soloed")
        found += [f"{track.name}: {text}" for text in texts]
    return tuple(found)


def _restore_mutes(ticket: Ticket, snapshot: Snapshot) -> Snapshot:
    """Return the project with the ticket's item, and its parts, as muted as before they had stems."""
    tag = ticket.item.tag
    items = tuple(_restore_mute(item) if item.tag == tag else item for item in snapshot.items)
    return msgspec.structs.replace(snapshot, items=items)


def _expect(operation: Operation, snapshot: Snapshot) -> Operation:
    """Return an operation that, where it compares an item, expects what REAPER has."""
    match operation:
        case ["expect_item", str(guid), dict(values)] if (item := snapshot.find_item(guid)) is not None:
            return do.expect_item(guid, {name: item.values[name] for name in values})
    return operation


def find_stems(turn: Turn, batch: Batch) -> StemSet | None:
    """Return the stems of the current entry; where there are none, settle it and return None."""
    entry = batch.entries[batch.current]
    folder = entry.folder or _find_folder(turn, entry)
    if not folder:
        _settle(turn, batch, RowState.FAILED, "the daemon does not know its job")
        return None
    try:
        return read_stem_set(folder)
    except StembridgeError as error:
        _settle(turn, batch, RowState.FAILED, str(error))
        return None


def carry_out(
    turn: Turn, batch: Batch, plan: Placed | Lacking | Unplaceable, stems: StemSet, snapshot: Snapshot
) -> None:
    """Have the stems of the current entry placed as planned; where that cannot be, ask or say why."""
    entry = batch.entries[batch.current]
    if _is_recording(turn):
        look(turn, batch, None)
        return
    match plan:
        case Placed(label, operations):
            turn.apply(batch.label or label, operations, "batch.placed", batch)
        case Lacking() if entry.folder:
            reason = "it plays more of its source now than the stems hold"
            _settle(turn, batch, RowState.SKIPPED, f"{reason}. They are in {stems.folder}")
        case Lacking(first_s, last_s):
            _ask_for_more(turn, batch, first_s, last_s)
        case Unplaceable(reason, is_gone=True) if snapshot.find_track(entry.ticket.item.track):
            turn.ask(
                f"Stembridge: {entry.ticket.item.name}",
                f"{entry.ticket.item.name}: {reason}. Place its stems where it was?",
                "batch.gone",
                batch,
            )
        case Unplaceable(reason):
            _settle(turn, batch, RowState.SKIPPED, f"{reason}. Its stems are in {stems.folder}")


def _find_folder(turn: Turn, entry: Entry) -> str:
    job = turn.house.find_job(entry.ticket.job)
    return job.result.folder if job is not None and job.result is not None else ""


def _ask_for_more(turn: Turn, batch: Batch, first_s: float, last_s: float) -> None:
    name = batch.entries[batch.current].ticket.item.name
    turn.ask(
        f"Stembridge: {name}",
        f"{name} plays more of its source now than was separated: {first_s:.2f} s to {last_s:.2f} s. "
        "Separate that as well?",
        "batch.more",
        msgspec.structs.replace(batch, span=(first_s, last_s)),
    )


def take_more(turn: Turn, batch: Batch, result: Any) -> None:
    """Have what the item plays now separated, if the user wants that."""
    entry = batch.entries[batch.current]
    job = turn.house.find_job(entry.ticket.job)
    if job is None or job.result is None:
        _settle(turn, batch, RowState.FAILED, "the daemon does not know its job")
        return
    if result.get("answer") != "yes":
        _settle(turn, batch, RowState.SKIPPED, f"left as it was. Its stems are in {job.result.folder}")
        return
    try:
        stems = read_stem_set(job.result.folder)
        (region,) = plan_regions([batch.span], Extent(stems.frames, stems.rate), turn.preferences.handles_s)
        request = replace(job.request, region=region)
        job_id = find_job_id(turn.house, request)
        turn.house.submit(request, job_id)
    except StembridgeError as error:
        _settle(turn, batch, RowState.FAILED, str(error))
        return
    ticket = msgspec.structs.replace(entry.ticket, job=job_id)
    look(turn, with_entry(batch, msgspec.structs.replace(entry, ticket=ticket, state=RowState.WAITING)), None)


def take_gone(turn: Turn, batch: Batch, result: Any) -> None:
    """Have the stems placed where their item was, if the user wants that."""
    entry = batch.entries[batch.current]
    if result.get("answer") == "yes":
        entry = msgspec.structs.replace(entry, is_orphan=True)
        _collect_kin(turn, with_entry(batch, entry, current=batch.current))
    else:
        _settle(turn, batch, RowState.SKIPPED, "its item is gone; its stems stay on the disk")


def take_placed(turn: Turn, batch: Batch, result: Any) -> None:
    """Note that an entry's stems are in place; where its item was just being changed, look at it again."""
    entry = batch.entries[batch.current]
    if result.get("ok"):
        _settle(turn, batch, RowState.DONE, entry.text)
    elif result.get("reason") in ("changed", "missing") and entry.tries < MAX_TRIES:
        entry = msgspec.structs.replace(entry, tries=entry.tries + 1)
        _collect_kin(turn, with_entry(batch, entry, current=batch.current))
    else:
        _settle(turn, batch, RowState.FAILED, f"REAPER refused: {result.get('text') or result.get('reason')}")


def _settle(turn: Turn, batch: Batch, state: RowState, text: str) -> None:
    entry = msgspec.structs.replace(batch.entries[batch.current], state=state, text=text)
    look(turn, with_entry(batch, entry), None)


def with_entry(batch: Batch, entry: Entry, *, current: int = -1) -> Batch:
    """Return the batch with its current entry replaced by ``entry``."""
    entries = list(batch.entries)
    entries[batch.current] = entry
    return msgspec.structs.replace(batch, entries=tuple(entries), current=current)


def settle_trouble(step: BatchStep) -> BatchStep:
    """Return a step about the current entry that ends with that entry where it fails; all others go on."""

    def settle(turn: Turn, batch: Batch, trouble: str) -> None:
        _settle(turn, batch, RowState.FAILED, trouble)

    return _contain(step, settle)


def leave_out_trouble(step: BatchStep) -> BatchStep:
    """Return a step about the item ``subject`` that leaves that item out where it fails; all others go on."""

    def leave_out(turn: Turn, batch: Batch, trouble: str) -> None:
        _leave_out(turn, batch, next(item for item in batch.items if item.guid == batch.subject), trouble)

    return _contain(step, leave_out)


def _contain(step: BatchStep, end: Callable[[Turn, Batch, str], None]) -> BatchStep:
    def take(turn: Turn, batch: Batch, result: Any) -> None:
        known = len(turn.orders)
        try:
            step(turn, batch, result)
            return
        except StembridgeError as error:
            trouble = str(error)
        except Exception as error:
            # Whatever it was, the other items know nothing of it; the trace is in the log.
            logger.exception("one item of a batch")
            trouble = f"the daemon failed on it ({type(error).__name__}): stembridge daemon logs"
        del turn.orders[known:]
        end(turn, batch, trouble)

    return take


def _summarise(turn: Turn, batch: Batch) -> None:
    """Say once what became of the whole batch, or hand it to whoever asked for it."""
    if batch.then:
        turn.wait(0.0, batch.then, batch)
        return
    done = [entry for entry in batch.entries if entry.state is RowState.DONE]
    if done:
        count = f"{len(done)} of {len(batch.entries) + len(batch.skipped)} split"
        turn.tell(f"{count}: {_say_of_sum(done, batch.remarks)}")
    for entry in done:
        if entry.ticket.baked:
            why = ", ".join(judge(entry.ticket.item).reasons) or "REAPER decodes its file in another way"
            name = entry.ticket.item.name
            turn.tell(f"{name}: REAPER rendered it first ({why}); its stems sum to that rendering.")
    for entry in batch.entries:
        if entry.text:
            is_fine = entry.state in (RowState.DONE, RowState.CANCELLED)
            turn.tell(f"{entry.ticket.item.name}: {entry.text}", is_error=not is_fine)
    for name, reason in batch.skipped:
        turn.tell(f"{name} was skipped: {reason}", is_error=True)


def _say_of_sum(done: Sequence[Entry], remarks: Sequence[str]) -> str:
    if any(entry.ticket.as_takes for entry in done):
        return "stems are takes, and takes do not sum: play one at a time."
    if any(entry.ticket.is_approximate for entry in done):
        said = "effects were kept on each stem, so their sum is approximate"
    elif all(entry.ticket.baked for entry in done):
        said = "the stems sum to what REAPER rendered"
    else:
        said = "the stems sum to the original"
    return f"{said}, but {'; '.join(remarks)}." if remarks else f"{said}."


STARTS: dict[str, Start] = {
    "split": lambda turn: start(turn, Options()),
    "vocals_instrumental": lambda turn: start(turn, Options(two_stems="vocals")),
    "drums_rest": lambda turn: start(turn, Options(two_stems="drums")),
}
STEPS: dict[str, Step] = {
    "batch.selected": (Batch, take_selection),
    "batch.answered": (Batch, take_answer),
    "batch.heard": (Batch, leave_out_trouble(take_heard)),
    "batch.errand": (Batch, look_at_errand),
    "batch.waited": (Batch, lambda turn, batch, _result: prepare(turn, batch)),
    "batch.baked": (Batch, leave_out_trouble(take_bake)),
    "batch.again": (Batch, leave_out_trouble(take_again)),
    "batch.look": (Batch, look),
    "batch.kin": (Batch, settle_trouble(take_kin)),
    "batch.placed": (Batch, settle_trouble(take_placed)),
    "batch.more": (Batch, settle_trouble(take_more)),
    "batch.gone": (Batch, settle_trouble(take_gone)),
}
