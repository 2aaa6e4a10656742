"""A run of an action that splits: its items on their way, as they travel from step to step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from stembridge.errors import StembridgeError
from stembridge.reaper.placing import Ticket
from stembridge.reaper.requests import Options
from stembridge.reaper.snapshot import Item
from stembridge.reaper.turn import Turn
from stembridge.types import Job, JobState

logger = logging.getLogger(__name__)


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


def judge_job(job: Job | None) -> tuple[RowState, str]:
    """Return how a row stands whose job this is, and why it came to nothing; None: there is no such job."""
    if job is None:
        return RowState.FAILED, "the daemon does not know its job"
    match job.state:
        case JobState.QUEUED:
            return RowState.WAITING, ""
        case JobState.RUNNING:
            return RowState.RUNNING, ""
        case JobState.DONE:
            return RowState.PLACING, ""
        case JobState.CANCELLED:
            return RowState.CANCELLED, "cancelled"
        case JobState.FAILED:
            return RowState.FAILED, (
                f"{job.error.message} ({job.error.hint})" if job.error is not None else "failed"
            )


def form_row(row_id: str, label: str, state: RowState, text: str, job: Job | None) -> dict[str, Any]:
    """Return a row of the panel.

    Parameters
    ----------
    row_id : what stands in it before a "/" is the job that is cancelled with it
    text : why it is over; '' while it is not
    """
    progress = job.progress if job is not None and state is RowState.RUNNING else None
    is_paused = job is not None and job.is_paused
    stage = "paused" if is_paused else progress.stage if progress else ""
    return {
        "id": row_id,
        "label": label,
        "state": str(state),
        "fraction": 1.0 if state.is_final else progress.fraction if progress else 0.0,
        "eta_s": progress.eta_s if progress and not is_paused else None,
        "text": text or stage,
    }


BatchStep = Callable[[Turn, Batch, Any], None]


def with_entry(batch: Batch, entry: Entry, *, current: int = -1) -> Batch:
    """Return the batch with its current entry replaced by ``entry``."""
    entries = list(batch.entries)
    entries[batch.current] = entry
    return msgspec.structs.replace(batch, entries=tuple(entries), current=current)


def contain_trouble(step: BatchStep, end: Callable[[Turn, Batch, str], None]) -> BatchStep:
    """Return a step that calls ``end`` with what went wrong, in place of the orders it gave till then."""

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
