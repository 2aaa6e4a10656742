"""What the system tells of changes in watched folders: quick, and now and then incomplete without a word."""

from __future__ import annotations

import errno
import logging
import os
import queue
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch

from stembridge.watch.names import is_ignored_folder, is_ignored_name

_EVENTS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""Not that files are opened or read: every reader, the daemon among them, would be told of."""

_LOGGERS = ("watchdog.observers.inotify", "watchdog.observers.inotify_c")

RETRY_S = 30.0
"""How long a system that refuses to watch a folder is left alone: each time all of the folder is walked."""

_LIMITS = {
    errno.ENOSPC: "the system watches as many folders as it may (sysctl fs.inotify.max_user_watches)",
    errno.EMFILE: "the system has as many watchers as it may (sysctl fs.inotify.max_user_instances)",
}


@dataclass(frozen=True, slots=True)
class Hint:
    """Something has happened to a file that could be taken, going by its name.

    Parameters
    ----------
    path : absolute
    is_closed : its writer has closed it, or it was moved in; else it is made, changed or gone
    """

    path: Path
    is_closed: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that is watched, by what it was when that began."""

    watch: ObservedWatch
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a folder could not be watched, and until when that is taken for so."""

    problem: str
    identity: tuple[int, int]
    until: float


class Hints:
    """Changes in some folders and all below them.

    Parameters
    ----------
    roots : absolute; they need not be there
    observer_factory : makes watchdog's observer; by default the system's own
    clock : monotonic seconds

    Attributes
    ----------
    problem : why nothing is told of some folder, '' where all is well; a scan finds everything still
    """

    def __init__(
        self,
        roots: Sequence[Path],
        observer_factory: Callable[[], BaseObserver] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem = ""
        self._clock = clock
        self._refusals: dict[Path, _Refusal] = {}
        self._roots = tuple(roots)
        self._observer_factory = observer_factory or _make_observer
        self._observer: BaseObserver | None = None
        self._places: dict[Path, _Place] = {}
        # Unlike an Event it can be filled by a signal handler that interrupts whoever waits for it.
        self._queue: queue.SimpleQueue[Hint | None] = queue.SimpleQueue()
        self._held: list[Hint | None] = []
        self._has_lost = False
        # Folders that come and go fast while they are added are told of in lines of many kilobytes.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.observers\.")
        # An overflow comes as a line in the log and in no other way.
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._pass_record)
        self.renew()

    def take(self) -> list[Hint]:
        """Return what has come since the last call: of each file the last, in the order of these."""
        came, self._held = self._held, []
        with suppress(queue.Empty):
            while True:
                came.append(self._queue.get_nowait())
        last: dict[Path, Hint] = {}
        for hint in came:
            if hint is not None:
                last.pop(hint.path, None)
                last[hint.path] = hint
        return list(last.values())

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a hint, for `wake`, or for the time to pass; tell whether there is something to `take`."""
        if not self._held:
            with suppress(queue.Empty):
                self._held.append(self._queue.get(timeout=timeout_s))
        return bool(self._held)

    def wake(self) -> None:
        """End a `wait`, from any thread or a signal handler."""
        self._queue.put(None)

    def renew(self) -> bool:
        """Watch folders again that came back or were replaced; tell whether a scan is due.

        One is due where a folder is watched anew, and where the system has lost events.
        """
        is_due, self._has_lost = self._has_lost, False
        self.problem = ""
        for root in self._roots:
            try:
                found = root.stat()
            except OSError:
                self._leave(root)
                continue
            identity = (found.st_dev, found.st_ino)
            place = self._places.get(root)
            if place is not None and place.identity == identity and self._is_alive(place.watch):
                continue
            self._leave(root)
            refusal = self._refusals.pop(root, None)
            if refusal is None or refusal.identity != identity or self._clock() >= refusal.until:
                is_due = True
                refusal = self._begin(root, identity)
            if refusal is not None:
                self._refusals[root] = refusal
                self.problem = refusal.problem
        return is_due

    def _begin(self, root: Path, identity: tuple[int, int]) -> _Refusal | None:
        try:
            self._places[root] = _Place(self._watch(root), identity)
        except OSError as error:
            reason = _LIMITS.get(error.errno or 0, error.strerror or str(error))
            problem = f"changes in {str(root)!r} are found by scans alone: {reason}"
            return _Refusal(problem, identity, self._clock() + RETRY_S)
        return None

    def close(self) -> None:
        """End every thread of it."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._pass_record)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        self._places.clear()

    def _watch(self, root: Path) -> ObservedWatch:
        if self._observer is None:
            observer = self._observer_factory()
            observer.start()
            self._observer = observer
        return self._observer.schedule(
            _Reporter(root, self._queue.put), str(root), recursive=True, event_filter=_EVENTS
        )

    def _leave(self, root: Path) -> None:
        place = self._places.pop(root, None)
        if place is not None and self._observer is not None:
            with suppress(KeyError, OSError):
                self._observer.unschedule(place.watch)

    def _is_alive(self, watch: ObservedWatch) -> bool:
        # The number of a folder that was removed may be that of the one that took its place.
        emitters = self._observer.emitters if self._observer is not None else ()
        return any(emitter.watch == watch and emitter.is_alive() for emitter in emitters)

    def _pass_record(self, record: logging.LogRecord) -> bool:
        if "overflow" not in record.getMessage().casefold():
            return True
        self._has_lost = True
        self.wake()
        return False


class _Reporter(FileSystemEventHandler):
    """Turns what watchdog tells of one watched folder into hints."""

    def __init__(self, root: Path, put: Callable[[Hint], None]) -> None:
        self._root = root
        self._put = put

    def dispatch(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileMovedEvent):
            self._tell(event.src_path, is_closed=False)
            self._tell(event.dest_path, is_closed=True)
        else:
            self._tell(event.src_path, is_closed=isinstance(event, FileClosedEvent))

    def _tell(self, path: bytes | str, *, is_closed: bool) -> None:
        told = Path(os.fsdecode(path))
        if not is_ignored_name(told.name) and not any(map(is_ignored_folder, _folders_of(told, self._root))):
            self._put(Hint(told, is_closed))


def _folders_of(path: PurePath, root: PurePath) -> tuple[str, ...]:
    """Return the names of the folders between a watched folder and a file in it."""
    return path.parent.relative_to(root).parts if path.is_relative_to(root) else ()


def _make_observer() -> BaseObserver:
    if sys.platform == "linux":
        from watchdog.observers.inotify import InotifyObserver

        # A file that is moved in from outside is told of as moved only so.
        return InotifyObserver(generate_full_events=True)
    from watchdog.observers import Observer

    return Observer()
