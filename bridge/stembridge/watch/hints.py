"""What the system tells of changes in watched folders: quick, and now and then incomplete without a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchdog.observers.api import BaseObserver


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


class Hints:
    """Changes in some folders and all below them.

    Parameters
    ----------
    roots : absolute; they need not be there
    observer_factory : makes watchdog's observer; by default the system's own

    Attributes
    ----------
    problem : why nothing is told of some folder, '' where all is well; a scan finds everything still
    """

    problem: str = ""

    def __init__(
        self, roots: Sequence[Path], observer_factory: Callable[[], BaseObserver] | None = None
    ) -> None: ...

    def take(self) -> list[Hint]:
        """Return what has come since the last call, in order, a change that repeats the last one left out."""
        raise NotImplementedError

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a hint, for `wake`, or for the time to pass; tell whether there was one."""
        raise NotImplementedError

    def wake(self) -> None:
        """End a `wait`, from any thread or a signal handler."""
        raise NotImplementedError

    def renew(self) -> bool:
        """Watch folders again that came back or were replaced; tell whether a scan is due.

        One is due where a folder is watched anew, and where the system has lost events.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End every thread of it."""
        raise NotImplementedError
