"""The life cycle of a job, decided without I/O: (record, event) -> (record, story, instructions)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from stembridge.types import (
    Early,
    ErrorInfo,
    Job,
    JobRequest,
    JobState,
    Progress,
    RemixRequest,
    SplitRequest,
    SplitResult,
)

MAX_CRASHES = 3
"""A job whose worker died this often is set aside: it would take the worker down for ever."""
MAX_INTERRUPTIONS = 50
"""A daemon that is killed tells nothing about the job, so the limit is far away."""


class JobKind(StrEnum):
    """What a job does; each kind has a worker of its own."""

    SPLIT = "split"
    REMIX = "remix"


_OTHER_WAYS = {
    JobKind.SPLIT: "split a converted copy of the file, or another model",
    JobKind.REMIX: "leave out the effect or plugin that it names, or take another preset",
}
"""What is left to try where a job brings its worker down."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the front keeps it; one row of the job table (``progress`` and ``early`` are not stored)."""

    id: str
    digest: str
    request: JobRequest
    signature: str
    origin: str
    created: float
    state: JobState = JobState.QUEUED
    attempt: int = 0
    crashes: int = 0
    interruptions: int = 0
    cancel_asked: bool = False
    is_paused: bool = False
    result: SplitResult | None = None
    error: ErrorInfo | None = None
    progress: Progress | None = None
    early: Early | None = None

    @property
    def kind(self) -> JobKind:
        return JobKind.REMIX if isinstance(self.request, RemixRequest) else JobKind.SPLIT

    def as_job(self) -> Job:
        return Job(
            id=self.id,
            request=self.request if isinstance(self.request, SplitRequest) else None,
            remix=self.request if isinstance(self.request, RemixRequest) else None,
            state=self.state,
            created=self.created,
            progress=self.progress,
            attempt=self.attempt,
            result=self.result,
            error=self.error,
            early=self.early,
            is_paused=self.is_paused,
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """A worker was given the job."""

    worker: str


@dataclass(frozen=True, slots=True)
class Progressed:
    progress: Progress


@dataclass(frozen=True, slots=True)
class Heard:
    """There is something to hear of the job."""

    early: Early


@dataclass(frozen=True, slots=True)
class Finished:
    result: SplitResult


@dataclass(frozen=True, slots=True)
class Failed:
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class CancelAsked:
    pass


@dataclass(frozen=True, slots=True)
class PauseAsked:
    pass


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    pass


@dataclass(frozen=True, slots=True)
class Stopped:
    """The worker let go of the job and left nothing behind."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    reason: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The daemon ended, or was ended, while the job ran."""


@dataclass(frozen=True, slots=True)
class LostPlace:
    """The worker that had put the job aside has ended, by no fault of this job."""


Event = (
    Taken
    | Progressed
    | Heard
    | Finished
    | Failed
    | CancelAsked
    | PauseAsked
    | ResumeAsked
    | Stopped
    | WorkerDied
    | Interrupted
    | LostPlace
)


class Instruction(Enum):
    """What the caller has to do after a transition."""

    SAVE = auto()
    TELL_CANCEL = auto()
    """Ask the worker to cancel."""
    TELL_PAUSE = auto()
    """Ask the worker to put the job aside."""
    CLEAN = auto()
    """Remove the work folder that a dead worker may have left."""


@dataclass(frozen=True, slots=True)
class Transition:
    record: JobRecord
    story: str = ""
    instructions: tuple[Instruction, ...] = (Instruction.SAVE,)


def advance(record: JobRecord, event: Event) -> Transition:
    """Return what becomes of ``record`` through ``event``.

    An event that no longer fits (progress of a job that was cancelled, a second end) changes nothing.
    """
    if record.state.is_final:
        return Transition(record, instructions=())
    match event:
        case CancelAsked():
            return _cancel(record)
        case PauseAsked():
            return _pause(record)
        case ResumeAsked():
            return _resume(record)
        case Taken(worker) if record.state is JobState.QUEUED:
            taken = replace(record, state=JobState.RUNNING, attempt=record.attempt + 1)
            return Transition(taken, f"attempt {taken.attempt} on {worker}")
        case _ if record.state is JobState.QUEUED:
            return Transition(record, instructions=())
        case Progressed(progress):
            return Transition(replace(record, progress=progress), instructions=())
        case Heard(early):
            return Transition(replace(record, early=early), instructions=())
        case Finished(result):
            done = replace(_end(record, JobState.DONE), result=result, progress=Progress("done", 1.0, 0.0))
            return Transition(done, f"done in {result.total_s:.1f} s: {result.folder}")
        case Failed(error):
            failed = replace(_end(record, JobState.FAILED), error=error)
            return Transition(failed, f"failed: {error.message}")
        case Stopped():
            return _cancelled(record) if record.cancel_asked else _requeued(record, "requeued")
        case WorkerDied(reason):
            return _worker_died(record, reason)
        case Interrupted():
            return _interrupted(record)
        case LostPlace():
            return _lost_place(record)
        case _:
            return Transition(record, instructions=())


def _cancel(record: JobRecord) -> Transition:
    if record.state is JobState.QUEUED:
        return _cancelled(record)
    if record.cancel_asked:
        # The worker has been told, and its pipe loses nothing; saying it again would only fill the pipe.
        return Transition(record, instructions=())
    asked = replace(record, cancel_asked=True)
    return Transition(asked, "cancel asked", (Instruction.SAVE, Instruction.TELL_CANCEL))


def _pause(record: JobRecord) -> Transition:
    if record.is_paused or record.cancel_asked:
        return Transition(record, instructions=())
    paused = replace(record, is_paused=True)
    if record.state is JobState.QUEUED:
        return Transition(paused, "paused")
    return Transition(paused, "paused", (Instruction.SAVE, Instruction.TELL_PAUSE))


def _resume(record: JobRecord) -> Transition:
    if not record.is_paused or record.cancel_asked:
        return Transition(record, instructions=())
    # A worker that has put the job aside takes it up again when the service finds it free.
    return Transition(replace(record, is_paused=False), "resumed")


def _end(record: JobRecord, state: JobState) -> JobRecord:
    """Return ``record`` in a final state; what is over neither waits nor can be heard early."""
    return replace(record, state=state, progress=None, early=None, is_paused=False)


def _cancelled(record: JobRecord) -> Transition:
    cancelled = _end(record, JobState.CANCELLED)
    return Transition(cancelled, "cancelled", (Instruction.SAVE, Instruction.CLEAN))


def _requeued(record: JobRecord, story: str) -> Transition:
    return Transition(replace(record, state=JobState.QUEUED, progress=None, early=None), story)


def _worker_died(record: JobRecord, reason: str) -> Transition:
    if record.cancel_asked:
        return _cancelled(record)
    crashed = replace(record, crashes=record.crashes + 1)
    if crashed.crashes < MAX_CRASHES:
        return _requeued(crashed, f"worker died ({reason}); {crashed.crashes} of {MAX_CRASHES}")
    error = ErrorInfo(
        "quarantined",
        f"the worker died {MAX_CRASHES} times on this {record.kind} of {record.request.source!r}, "
        f"last: {reason}",
        f"stembridge daemon logs shows the cause; {_OTHER_WAYS[record.kind]}",
    )
    quarantined = replace(_end(crashed, JobState.FAILED), error=error)
    return Transition(quarantined, f"quarantined: {reason}", (Instruction.SAVE, Instruction.CLEAN))


def _interrupted(record: JobRecord) -> Transition:
    if record.cancel_asked:
        return _cancelled(record)
    interrupted = replace(record, interruptions=record.interruptions + 1)
    if interrupted.interruptions < MAX_INTERRUPTIONS:
        return _requeued(interrupted, "the daemon ended while this ran; queued again")
    error = ErrorInfo(
        "quarantined",
        f"the daemon ended {MAX_INTERRUPTIONS} times in this {record.kind} of {record.request.source!r}",
        "stembridge daemon logs shows the cause",
    )
    failed = replace(_end(interrupted, JobState.FAILED), error=error)
    return Transition(failed, "quarantined", (Instruction.SAVE, Instruction.CLEAN))


def _lost_place(record: JobRecord) -> Transition:
    if record.cancel_asked:
        return _cancelled(record)
    requeued = _requeued(record, "the worker that had put this aside has ended; begins anew")
    return replace(requeued, instructions=(Instruction.SAVE, Instruction.CLEAN))
