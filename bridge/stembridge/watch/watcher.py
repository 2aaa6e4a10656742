"""The loop of `stembridge watch`: one thread, several folders, one client of the daemon.

Events of the system are hints, scans are the truth; what becomes of a file is `stembridge.watch.life`'s. A
job is asked for only after the row that names it has been committed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from stembridge.errors import (
    Busy,
    DaemonUnavailable,
    IdConflict,
    JobNotFound,
    ProtocolError,
    StembridgeError,
    StorageFailed,
)
from stembridge.settings import Settings
from stembridge.types import Job, JobState
from stembridge.watch.folder import WatchedFolder, has_set
from stembridge.watch.hints import Hints
from stembridge.watch.ledger import check_apart
from stembridge.watch.life import FileRow, FileState, Postponed
from stembridge.watch.notifying import Notifier
from stembridge.watch.overview import view_folder
from stembridge.watch.parts import JobClient, Parts
from stembridge.watch.status import CHANGE_S, StatusFile

MOST_SPLITS = 2
"""At the daemon at a time, so that nobody else's job waits behind a backlog."""
MOST_FILES_AT_WORK = 4
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
LONGEST_JOIN_PAUSE_S = 60.0
LISTEN_S = 0.2
"""While jobs run it is the daemon that is listened to; hints wait so long at most."""

WAITED_OUT = (Busy, DaemonUnavailable, ProtocolError, StorageFailed)
"""What says nothing about a file: it is tried again, however long that takes."""


@dataclass(frozen=True, slots=True)
class News:
    """Something happened to a file that whoever looks on wants to know.

    Parameters
    ----------
    folder : the watched folder
    row : the file; its state is what has happened
    """

    folder: Path
    row: FileRow


class Watcher:
    """Watches folders until it is told to stop, or until their files are worked off.

    Parameters
    ----------
    roots : absolute
    client : whose jobs the files' jobs are
    tell : called with what happens to files
    show : called with each job's newest state
    say : called with a line on what is wrong with the watching itself, and with '' once all is well again
    notifier : tells the desktop
    is_patient : a folder that is refused is told of and tried again, and the others are watched meanwhile

    Raises
    ------
    Busy
        One of the folders is watched already; not where it is patient.
    RequestError
        One of the folders lies in another; likewise.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        settings: Settings,
        client: JobClient,
        *,
        tell: Callable[[News], None],
        show: Callable[[Job], None],
        say: Callable[[str], None],
        notifier: Notifier,
        parts: Parts,
        is_patient: bool = False,
    ) -> None:
        if not is_patient:
            check_apart(roots)
        self._settings = settings
        self._parts = parts
        self._client = client
        self._tell = tell
        self._show = show
        self._say = say
        self._said = ""
        self._notifier = notifier
        self._clock = parts.clock
        self._jobs: dict[str, Job] = {}
        self._files: dict[str, tuple[WatchedFolder, str]] = {}
        """Jobs that the daemon has taken, with the file of each."""
        self._daemon_problem = ""
        self._backoff_s = FIRST_BACKOFF_S
        self._daemon_due = 0.0
        self._ledger_problem = ""
        self._turn = 0
        self._is_turn_due = False
        self.is_stopped = False
        self._has_failures = False
        self._folders: list[WatchedFolder] = []
        self._statuses: list[StatusFile] = []
        self._status_due: list[float] = []
        self._viewed_at: list[float] = []
        self._refused = dict.fromkeys(roots, "") if is_patient else {}
        """Folders that are not watched yet, and why."""
        self._join_pause_s = FIRST_BACKOFF_S
        self._join_due = 0.0
        self._exits = ExitStack()
        with ExitStack() as undo:
            undo.push(self._exits)
            for root in () if is_patient else roots:
                self._join(root)
            self._hints = Hints(roots, parts.observer_factory, parts.clock)
            self._exits.callback(self._hints.close)
            undo.pop_all()

    def close(self) -> None:
        """Leave all as it is; jobs go on at the daemon."""
        with self._exits:
            now = self._clock()
            for place, folder in enumerate(self._folders):
                if not folder.away:
                    self._offer_status(place, now)
                    self._statuses[place].close()
            self._notifier.close()

    def stop(self) -> None:
        """Let `run` return, from any thread or a signal handler."""
        self.is_stopped = True
        self._hints.wake()

    def run(self, *, once: bool = False) -> None:
        """Watch until `stop`, with ``once`` until nothing is left to do.

        Raises
        ------
        DaemonUnavailable, ProtocolError
            With ``once`` alone: there is no daemon to work with.
        """
        while not self.is_stopped:
            self.step(once=once)
            if once and self._is_idle():
                return
            if not self._is_turn_due:
                self._wait()

    @property
    def has_unfinished(self) -> bool:
        """Whether a file has failed since the watcher began, or waits for its model or its folder."""
        waiting = any(
            folder.away or folder.ledger.count(FileState.WAITING_FOR_MODEL) for folder in self._folders
        )
        return self._has_failures or waiting

    def step(self, *, once: bool = False) -> None:
        """Do all that is due now."""
        now = self._clock()
        self._is_turn_due = False
        if self._refused and now >= self._join_due:
            self._join_refused(now)
        self._look_around(now)
        for folder in self._folders:
            if not folder.away:
                folder.collect(now)
                folder.examine(now)
        self._begin(now)
        self._commit(now)
        if now >= self._daemon_due:
            try:
                self._submit(now)
            except WAITED_OUT as error:
                if once and isinstance(error, (DaemonUnavailable, ProtocolError)):
                    raise
                self._back_off(error, now)
            self._commit(now)
        self._report(now)

    def _join_refused(self, now: float) -> None:
        for root in list(self._refused):
            try:
                self._join(root)
                del self._refused[root]
            except StembridgeError as error:
                self._refused[root] = str(error)
            except OSError as error:
                self._refused[root] = f"{str(root)!r} cannot be watched: {error.strerror or error}"
        self._join_due = now + self._join_pause_s
        self._join_pause_s = min(2 * self._join_pause_s, LONGEST_JOIN_PAUSE_S)

    def _join(self, root: Path) -> None:
        check_apart([*(folder.root for folder in self._folders), root])
        folder = WatchedFolder(root, self._settings, self._parts, self._on_news)
        self._exits.callback(folder.close)
        self._folders.append(folder)
        self._statuses.append(StatusFile(root, self._parts.clock, self._parts.wall_clock))
        self._status_due.append(0.0)
        self._viewed_at.append(-math.inf)

    def _look_around(self, now: float) -> None:
        if self._hints.renew():
            for folder in self._folders:
                folder.scan_due = min(folder.scan_due, now)
        for hint in self._hints.take():
            for folder in self._folders:
                if not folder.away and hint.path.is_relative_to(folder.root):
                    folder.hear(hint, now)
        for folder in self._folders:
            if now >= folder.scan_due:
                folder.scan(now)

    def _begin(self, now: float) -> None:
        """Give files their turn, folder by folder, as long as few are at work."""
        if self._daemon_problem or self._ledger_problem:
            return
        idle = 0
        while idle < len(self._folders) and self._has_room():
            folder = self._folders[self._turn % len(self._folders)]
            self._turn += 1
            idle = 0 if not folder.away and folder.begin_next(now) else idle + 1

    def _has_room(self) -> bool:
        paused = [job for job in self._jobs.values() if job.is_paused]
        splitting = self.count(FileState.SPLITTING) - sum(job.remix is None for job in paused)
        at_work = self.count(FileState.SPLITTING, FileState.REMIXING) - len(paused)
        return splitting < MOST_SPLITS and at_work < MOST_FILES_AT_WORK

    def count(self, *states: FileState) -> int:
        """Return how many files are in one of these states."""
        return sum(folder.ledger.count(*states) for folder in self._folders)

    def _commit(self, now: float) -> None:
        problems = [folder.commit(now) for folder in self._folders]
        self._ledger_problem = next(filter(None, problems), "")

    def _submit(self, now: float) -> None:
        """Ask the daemon for the jobs whose rows are committed."""
        had_problem = bool(self._daemon_problem)
        at_work = self.count(FileState.SPLITTING, FileState.REMIXING)
        for folder in self._folders:
            if self._ledger_problem or folder.away:
                continue
            for name, is_first in list(folder.to_submit.items()):
                del folder.to_submit[name]
                try:
                    self._submit_one(folder, name, now, is_first=is_first)
                except WAITED_OUT:
                    folder.to_submit[name] = is_first
                    raise
        self._heal()
        # What was done already, or refused, has left its place, and no event will tell the next file.
        self._is_turn_due = had_problem or self.count(FileState.SPLITTING, FileState.REMIXING) < at_work

    def _submit_one(self, folder: WatchedFolder, name: str, now: float, *, is_first: bool) -> None:
        row = folder.ledger.get(name)
        if row is None or not row.state.is_at_daemon:
            return
        is_split = row.state is FileState.SPLITTING
        try:
            # Asked for before this process began, maybe: only the daemon knows if the old one came there.
            is_other = is_split and not _is_unchanged(folder, row)
            job = self._get(row.job_now) if is_other else self._ask(row)
        except JobNotFound:
            if folder.check_file(row, now):
                # It was away for that moment alone.
                folder.to_submit[name] = is_first
            return
        except WAITED_OUT:
            raise
        except StembridgeError as error:
            if not is_split or folder.check_file(row, now):
                folder.refuse(row, error)
            return
        if is_split and not job.state.is_final and not _is_unchanged(folder, row):
            # Somebody wrote to it between our look and the daemon's, which may have seen either.
            with asked(), suppress(JobNotFound):
                self._client.cancel(job.id)
            if folder.check_file(row, now):
                folder.apply(name, Postponed())
            return
        if is_first and job.state.is_final and not (job.result and has_set(job.result.folder)):
            # It ended so long ago, when the file lay here before, or its result has gone since.
            folder.apply(name, Postponed())
            return
        self._files[job.id] = folder, name
        self._hear(job, now)

    def _ask(self, row: FileRow) -> Job:
        try:
            with asked():
                return self._client.submit(row.request_now, row.job_now, watch=True)
        except IdConflict:
            return self._get(row.job_now)

    def _get(self, job_id: str) -> Job:
        with asked():
            return self._client.get(job_id, watch=True)

    def _next_change(self, timeout_s: float) -> Job | None:
        with asked():
            return self._client.next_change(self._files.keys(), timeout_s) if self._files else None

    def _hear(self, job: Job, now: float) -> None:
        if job.id not in self._files:
            return
        folder, name = self._files[job.id]
        self._jobs[job.id] = job
        self._show(job)
        if job.state.is_final:
            del self._files[job.id], self._jobs[job.id]
            folder.take_news(name, job, now)

    def _back_off(self, error: StembridgeError, now: float) -> None:
        self._daemon_problem = str(error)
        self._daemon_due = now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)

    def _heal(self) -> None:
        self._daemon_problem = ""
        self._backoff_s = FIRST_BACKOFF_S

    def _is_idle(self) -> bool:
        return all(folder.is_idle or folder.away for folder in self._folders)

    def _wait(self) -> None:
        """Wait for the daemon, for a hint, or for the time when something is due."""
        now = self._clock()
        left = max(0.0, self._next_due(now) - now)
        if not self._files:
            self._hints.wait(left)
            return
        try:
            job = self._next_change(min(left, LISTEN_S))
            while job is not None:
                self._hear(job, now)
                job = self._next_change(0.0)
        except JobNotFound:
            self._ask_again()
        except WAITED_OUT as error:
            self._back_off(error, now)
            self._ask_again()

    def _ask_again(self) -> None:
        """Have every job asked for once more: a daemon that has lost one takes it anew, others know it."""
        for folder, name in self._files.values():
            folder.to_submit[name] = False
        for job in self._jobs.values():
            # No end may ever be heard of it; who looks on must not wait for one.
            self._show(replace(job, state=JobState.CANCELLED))
        self._files.clear()
        self._jobs.clear()

    def _next_due(self, now: float) -> float:
        dues = [folder.next_due(now) for folder in self._folders]
        dues += self._status_due
        # What a folder that is away, or a ledger that is full, holds back waits for these.
        has_jobs = any(folder.to_submit and not folder.away for folder in self._folders)
        if (has_jobs and not self._ledger_problem) or self._daemon_problem:
            dues.append(self._daemon_due)
        if self._refused:
            dues.append(self._join_due)
        notified = self._notifier.next_due()
        return min((*dues, math.inf if notified is None else notified))

    def _on_news(self, folder: WatchedFolder, row: FileRow) -> None:
        self._tell(News(folder.root, row))
        if row.state is FileState.FAILED:
            self._has_failures = True
            if folder.wanted.notify:
                self._notifier.failed(row.name, row.error.message if row.error else "")
        elif row.state is FileState.DONE and folder.wanted.notify:
            self._notifier.done(row.name, row.results[-1] if row.results else "")

    def _report(self, now: float) -> None:
        """Bring status files, notifications and what is said up to date, none more often than need be."""
        self._notifier.flush()
        for place, folder in enumerate(self._folders):
            if folder.away:
                self._status_due[place] = math.inf
            elif now < self._viewed_at[place] + CHANGE_S:
                self._status_due[place] = self._viewed_at[place] + CHANGE_S
            else:
                self._offer_status(place, now)
        aways = [*self._refused.values(), *(folder.away for folder in self._folders)]
        said = "; ".join(filter(None, (*aways, self._daemon_problem, self._ledger_problem)))
        if said != self._said:
            self._said = said
            self._say(said)

    def _offer_status(self, place: int, now: float) -> None:
        notes = tuple(filter(None, (self._hints.problem, self._ledger_problem)))
        status = self._statuses[place]
        status.offer(
            view_folder(self._folders[place], self._jobs, daemon=self._daemon_problem, notes=notes, now=now)
        )
        self._viewed_at[place] = now
        due = status.next_due()
        self._status_due[place] = math.inf if due is None else due


@contextmanager
def asked() -> Iterator[None]:
    """Have what the system refuses, as a full disk a daemon that is to start, waited out like a daemon's own.

    Raises
    ------
    DaemonUnavailable
    """
    try:
        yield
    except OSError as error:
        raise DaemonUnavailable(
            f"no daemon can be asked: {error.strerror or error}", "stembridge doctor"
        ) from error


def _is_unchanged(folder: WatchedFolder, row: FileRow) -> bool:
    file = folder.find_file(row.name)
    return file is not None and file.signature[1:] == row.signature[1:]
