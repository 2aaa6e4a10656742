"""The life of a dropped file, decided without I/O: (row, event) -> (row, orders)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from stembridge.types import ErrorInfo, Job, JobRequest, JobState, RemixRequest, SplitRequest
from stembridge.watch.dropped import Signature


class FileState(StrEnum):
    """Where a file stands that was found whole."""

    WAITING = "waiting"
    WAITING_FOR_MODEL = "waiting for model"
    SPLITTING = "splitting"
    REMIXING = "remixing"
    DONE = "done"
    FAILED = "failed"
    SAME = "same"
    """Its samples and its wishes are those of a file that is done: it has the same result."""

    @property
    def is_waiting(self) -> bool:
        return self in (FileState.WAITING, FileState.WAITING_FOR_MODEL)

    @property
    def is_at_daemon(self) -> bool:
        return self in (FileState.SPLITTING, FileState.REMIXING)

    @property
    def is_done(self) -> bool:
        return self in (FileState.DONE, FileState.SAME)

    @property
    def is_over(self) -> bool:
        return self.is_done or self is FileState.FAILED


@dataclass(frozen=True, slots=True)
class RemixEnd:
    """How one remix ended: its folder, or what went wrong."""

    folder: str = ""
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file as the ledger keeps it.

    Parameters
    ----------
    name : path from the watched folder on, with '/'
    signature : of the file whose bytes were hashed
    sha256 : of these bytes; '' where they were not read
    changed : when it came into this state, wall-clock seconds
    digest : of what is wished for it, or of the reason why that cannot be read; '' before that is known
    job, split, remixes : what was asked of the daemon, so that it can be asked again
    folder : the finished set
    ends : of the remixes, in their order
    error : what went wrong, or what is waited for
    same_as : name of the file whose result this one has too
    attempt : how often its job was given up for a reason that says nothing about the file
    spent_s : seconds that the daemon has worked on it
    is_noted : the failure is written down where a person finds it
    warnings : what its jobs said beside their results, each once
    """

    name: str
    signature: Signature
    sha256: str
    state: FileState
    changed: float
    digest: str = ""
    job: str = ""
    split: SplitRequest | None = None
    remixes: tuple[RemixRequest, ...] = ()
    folder: str = ""
    ends: tuple[RemixEnd, ...] = ()
    error: ErrorInfo | None = None
    same_as: str = ""
    attempt: int = 0
    spent_s: float = 0.0
    is_noted: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def job_now(self) -> str:
        """The id of the job that is at the daemon; '' where none is."""
        if self.state is FileState.SPLITTING:
            return self.job
        return f"{self.job}-r{len(self.ends) + 1}" if self.state is FileState.REMIXING else ""

    @property
    def request_now(self) -> JobRequest:
        """What `job_now` is asked to do."""
        assert self.split is not None and self.state.is_at_daemon
        if self.state is FileState.SPLITTING:
            return self.split
        return replace(self.remixes[len(self.ends)], source=self.folder)

    @property
    def results(self) -> tuple[str, ...]:
        """The folders that came of it: the set, then its remixes."""
        return tuple(filter(None, (self.folder, *(end.folder for end in self.ends))))


@dataclass(frozen=True, slots=True)
class Found:
    """A file is whole, and was not known with this signature.

    Parameters
    ----------
    has_result : the result of the row that is known still lies there
    has_other_wish : something else is wished for it than what that row was done with
    """

    name: str
    signature: Signature
    sha256: str
    has_result: bool = False
    has_other_wish: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The file cannot be worked on; ``digest`` tells, when it is looked at again, if the same is wished."""

    error: ErrorInfo
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ModelMissed:
    """The model that ``split`` names is not on this machine."""

    error: ErrorInfo
    digest: str
    split: SplitRequest


@dataclass(frozen=True, slots=True)
class Readied:
    """Nothing stands in the way of its job, which is made when it is the file's turn."""

    digest: str


@dataclass(frozen=True, slots=True)
class Matched:
    """A file with the same bytes and the same wishes is done."""

    twin: FileRow


@dataclass(frozen=True, slots=True)
class Begun:
    """It is this file's turn."""

    digest: str
    job: str
    split: SplitRequest
    remixes: tuple[RemixRequest, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """The daemon said how a job is."""

    job: Job


@dataclass(frozen=True, slots=True)
class Rejected:
    """The daemon refused the job."""

    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Retried:
    """Other settings may help a file that failed."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The file is not there any more, or not as it was hashed; what is there now is found anew."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """Its job ended because the folder was away, or long ago: it takes another job."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The failure has been written down."""


Event = (
    Found
    | Refused
    | ModelMissed
    | Readied
    | Matched
    | Begun
    | Heard
    | Rejected
    | Retried
    | Lost
    | Postponed
    | Noted
)


class Order(Enum):
    """What the caller has to do after a transition, in this order."""

    SAVE = auto()
    FORGET = auto()
    """Take the row out of the ledger."""
    SUBMIT = auto()
    """Ask the daemon for `FileRow.job_now`, once the row is committed."""
    NOTE = auto()
    """Write the failure down."""
    UNNOTE = auto()
    """Remove what was written of an earlier failure."""
    TELL = auto()
    """Say it to whoever looks on."""
    TELL_SAME = auto()
    """Say that the result of before is the one of now."""


@dataclass(frozen=True, slots=True)
class Transition:
    """What becomes of a row; None where it is to be forgotten or never was."""

    row: FileRow | None
    orders: tuple[Order, ...] = ()


CANCELLED = ErrorInfo("cancelled", "the job was cancelled", "touch the file to have it done again")


def advance(row: FileRow | None, event: Event, now: float) -> Transition:
    """Return what becomes of a file through ``event``; one that no longer fits changes nothing.

    Parameters
    ----------
    row : None for a file that is not in the ledger
    now : wall-clock seconds
    """
    if isinstance(event, Found):
        return _find(row, event, now)
    if row is None:
        return Transition(None)
    match event:
        case Lost() if not row.state.is_over or row.state is FileState.FAILED:
            unnoted = (Order.UNNOTE,) if row.state is FileState.FAILED else ()
            return Transition(None, (Order.FORGET, *unnoted))
        case Postponed() if row.state is FileState.SPLITTING:
            waiting = replace(
                row, state=FileState.WAITING, attempt=row.attempt + 1, job="", split=None, remixes=()
            )
            return Transition(waiting, (Order.SAVE,))
        case Refused(error, digest) if row.state.is_waiting:
            return _fail(replace(row, digest=digest), error, now)
        case ModelMissed() if row.state.is_waiting or row.state is FileState.SPLITTING:
            return _wait_for_model(row, event, now)
        case Readied(digest) if row.state is FileState.WAITING_FOR_MODEL or _is_new(row, digest):
            waiting = replace(row, state=FileState.WAITING, digest=digest, split=None, error=None)
            return Transition(waiting, (Order.SAVE,))
        case Matched(twin) if row.state.is_waiting:
            return _match(row, twin, now)
        case Begun(digest, job, split, remixes) if row.state.is_waiting:
            begun = replace(
                row,
                state=FileState.SPLITTING,
                changed=now,
                digest=digest,
                job=job,
                split=split,
                remixes=remixes,
                error=None,
            )
            return Transition(begun, (Order.SAVE, Order.SUBMIT))
        case Heard(job) if job.id and job.id == row.job_now and job.state.is_final:
            return _end_job(row, job, now)
        case Rejected(error) if row.state is FileState.SPLITTING:
            return _fail(row, error, now)
        case Rejected(error) if row.state is FileState.REMIXING:
            return _end_remix(row, RemixEnd(error=error), now)
        case Retried() if row.state is FileState.FAILED:
            return Transition(_begin_again(row, row.signature, now), (Order.SAVE, Order.UNNOTE))
        case Noted() if row.state is FileState.FAILED:
            return Transition(replace(row, is_noted=True), (Order.SAVE,))
        case _:
            return Transition(row)


def is_as_old(row: FileRow, signature: Signature) -> bool:
    """Return whether a file is as long and as old as the one of a row, by what programs set."""
    return (row.signature.size, row.signature.mtime_ns) == (signature.size, signature.mtime_ns)


def is_handled(row: FileRow, signature: Signature) -> bool:
    """Return whether ``signature`` is the one of a row, so that its file need not be looked at.

    The device is left out: it may have another number each time that a disk is mounted.
    """
    then = row.signature
    return is_as_old(row, signature) and then.ctime_ns == signature.ctime_ns and then.inode == signature.inode


def is_dropped_again(row: FileRow, signature: Signature) -> bool:
    """Return whether somebody touched a file or put another into its place; who reads it does neither."""
    then = row.signature
    is_other = then.inode != signature.inode and then.ctime_ns != signature.ctime_ns
    return then.mtime_ns != signature.mtime_ns or is_other


def _find(row: FileRow | None, found: Found, now: float) -> Transition:
    if row is not None and row.state.is_at_daemon:
        return Transition(row)
    if row is None or row.sha256 != found.sha256:
        fresh = FileRow(found.name, found.signature, found.sha256, FileState.WAITING, now)
        unnoted = (Order.UNNOTE,) if row is not None and row.state is FileState.FAILED else ()
        return Transition(fresh, (Order.SAVE, *unnoted, Order.TELL))
    if row.state is FileState.FAILED:
        # Touched, or dropped again as it was: somebody wants it tried again.
        return Transition(_begin_again(row, found.signature, now), (Order.SAVE, Order.UNNOTE, Order.TELL))
    is_touched = row.signature.mtime_ns != found.signature.mtime_ns
    if is_touched and row.state.is_over and not found.has_result:
        return Transition(_begin_again(row, found.signature, now), (Order.SAVE, Order.TELL))
    if not row.state.is_done or not is_dropped_again(row, found.signature):
        return Transition(replace(row, signature=found.signature), (Order.SAVE,))
    if found.has_other_wish:
        return Transition(_begin_again(row, found.signature, now), (Order.SAVE, Order.TELL))
    same = replace(row, signature=found.signature)
    return Transition(same, (Order.SAVE, Order.TELL_SAME) if found.has_result else (Order.SAVE,))


def _is_new(row: FileRow, digest: str) -> bool:
    return row.state is FileState.WAITING and row.digest != digest


def _begin_again(row: FileRow, signature: Signature, now: float) -> FileRow:
    return FileRow(row.name, signature, row.sha256, FileState.WAITING, now)


def _wait_for_model(row: FileRow, event: ModelMissed, now: float) -> Transition:
    if row.state is FileState.WAITING_FOR_MODEL and row.digest == event.digest:
        return Transition(row)
    waiting = replace(
        row,
        state=FileState.WAITING_FOR_MODEL,
        changed=now,
        digest=event.digest,
        job="",
        split=event.split,
        remixes=(),
        error=event.error,
    )
    return Transition(waiting, (Order.SAVE, Order.TELL))


def _match(row: FileRow, twin: FileRow, now: float) -> Transition:
    same = replace(
        row,
        state=FileState.SAME,
        changed=now,
        digest=twin.digest,
        folder=twin.folder,
        ends=twin.ends,
        same_as=twin.same_as or twin.name,
        error=None,
    )
    return Transition(same, (Order.SAVE, Order.UNNOTE, Order.TELL))


def _end_job(row: FileRow, job: Job, now: float) -> Transition:
    error = None if job.state is JobState.DONE else job.error or CANCELLED
    folder = job.result.folder if job.result is not None else ""
    if job.result is not None:
        row = replace(
            row,
            spent_s=row.spent_s + job.result.total_s,
            warnings=tuple(dict.fromkeys((*row.warnings, *job.result.warnings))),
        )
    if row.state is FileState.REMIXING:
        return _end_remix(row, RemixEnd(folder, error), now)
    if error is not None:
        return _fail(row, error, now)
    split = replace(row, folder=folder, changed=now)
    if row.remixes:
        return Transition(replace(split, state=FileState.REMIXING), (Order.SAVE, Order.SUBMIT))
    return _finish(split, now)


def _end_remix(row: FileRow, end: RemixEnd, now: float) -> Transition:
    ended = replace(row, ends=(*row.ends, end))
    if len(ended.ends) < len(row.remixes):
        return Transition(ended, (Order.SAVE, Order.SUBMIT))
    failed = next((other.error for other in ended.ends if other.error is not None), None)
    return _finish(ended, now) if failed is None else _fail(ended, failed, now)


def _finish(row: FileRow, now: float) -> Transition:
    done = replace(row, state=FileState.DONE, changed=now, error=None)
    return Transition(done, (Order.SAVE, Order.UNNOTE, Order.TELL))


def _fail(row: FileRow, error: ErrorInfo, now: float) -> Transition:
    failed = replace(row, state=FileState.FAILED, changed=now, error=error, is_noted=False)
    return Transition(failed, (Order.SAVE, Order.NOTE, Order.TELL))
