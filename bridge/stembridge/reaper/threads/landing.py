"""The jobs of a batch, and their stems as they come: item by item, each onto its item as it is by then.

`submit` makes the jobs. `look` comes back until every entry is final, having each one placed as it is ready;
what fails for one item ends that item alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from stembridge import catalog
from stembridge.errors import StembridgeError
from stembridge.estimate import pass_seconds
from stembridge.reaper import operations as do
from stembridge.reaper.families import compare_track
from stembridge.reaper.operations import Operation
from stembridge.reaper.placing import Lacking, Placed, Ticket, Unplaceable, place
from stembridge.reaper.playing import judge
from stembridge.reaper.regions import Extent, plan_regions
from stembridge.reaper.requests import Wanted, estimate_seconds, find_job_id, form_requests
from stembridge.reaper.snapshot import Item, Snapshot, read_snapshot
from stembridge.reaper.stem_set import StemSet, read_stem_set
from stembridge.reaper.stem_tracks import find_stem_tracks
from stembridge.reaper.tags import OriginalTag, read_tag
from stembridge.reaper.threads.batch import (
    Batch,
    BatchStep,
    Entry,
    RowState,
    contain_trouble,
    form_row,
    judge_job,
    with_entry,
)
from stembridge.reaper.threads.refusals import wants_takes
from stembridge.reaper.threads.waiting import LOOK_S
from stembridge.reaper.turn import Step, Turn
from stembridge.types import Job

MAX_TRIES = 5


def submit(turn: Turn, batch: Batch) -> None:
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
    is_recording = turn.host.is_recording
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
        summarise(turn, batch)


def _update(entry: Entry, jobs: dict[str, Job | None]) -> Entry:
    if entry.state.is_final:
        return entry
    if entry.folder:
        return msgspec.structs.replace(entry, state=RowState.PLACING)
    state, text = judge_job(jobs[entry.ticket.job])
    return msgspec.structs.replace(entry, state=state, text=text or entry.text)


def _panel(
    turn: Turn, entries: Sequence[Entry], jobs: dict[str, Job | None], *, is_recording: bool
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        # Items of one source share a job.
        row_id = f"{entry.ticket.job}/{number}"
        job = jobs.get(entry.ticket.job)
        rows.append(form_row(row_id, entry.ticket.item.name, entry.state, entry.text, job))
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
    ways = {(job.split.model, job.split.precision) for job in left}
    costs = {way: turn.house.cost_of(*way) for way in ways}
    total = 0.0
    for job in left:
        if job.is_paused:
            return None
        eta_s = job.progress.eta_s if job.progress is not None else None
        if eta_s is None:
            eta_s = _reckon(job, tickets[job.id], costs[job.split.model, job.split.precision])
        if eta_s is None:
            return None
        total += eta_s
    return total


def _reckon(job: Job, ticket: Ticket, cost: float | None) -> float | None:
    """Return how long a job will take that has not said so yet; ``cost`` as `House.cost_of` returns it."""
    if cost is None:
        return None
    if ticket.baked:
        model = catalog.find_model(job.split.model)
        return cost * pass_seconds(model, job.split, ticket.item.length)
    return estimate_seconds(Wanted(job.split, (0,)), [ticket.item], cost)


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
    if turn.host.is_recording:
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
        request = replace(job.split, region=region)
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


def settle_trouble(step: BatchStep) -> BatchStep:
    """Return a step about the current entry that ends with that entry where it fails; all others go on."""

    def settle(turn: Turn, batch: Batch, trouble: str) -> None:
        _settle(turn, batch, RowState.FAILED, trouble)

    return contain_trouble(step, settle)


def summarise(turn: Turn, batch: Batch) -> None:
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


STEPS: dict[str, Step] = {
    "batch.look": (Batch, look),
    "batch.kin": (Batch, settle_trouble(take_kin)),
    "batch.placed": (Batch, settle_trouble(take_placed)),
    "batch.more": (Batch, settle_trouble(take_more)),
    "batch.gone": (Batch, settle_trouble(take_gone)),
}
