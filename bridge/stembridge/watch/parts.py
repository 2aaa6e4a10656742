"""What a watcher is made of: what looks at files, keeps time and talks to the daemon, each replaceable."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from watchdog.observers.api import BaseObserver

from stembridge.types import Job, JobRequest
from stembridge.watch.wholeness import Wholeness, examine
from stembridge.watch.writers import is_being_written


class JobClient(Protocol):
    """What is asked of the daemon; `stembridge.client.Client` has it."""

    def submit(self, request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job: ...
    def get(self, job_id: str, *, watch: bool = False) -> Job: ...
    def cancel(self, job_id: str) -> Job: ...
    def next_change(self, job_ids: Collection[str], timeout_s: float) -> Job | None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a watcher.

    Parameters
    ----------
    is_written, examine : see `stembridge.watch.settling.Settling`
    observer_factory : see `stembridge.watch.hints.Hints`
    clock : monotonic seconds
    wall_clock : seconds since the epoch, for display and the order of rows
    """

    is_written: Callable[[Path], bool | None] = is_being_written
    examine: Callable[[Path], Wholeness] = examine
    observer_factory: Callable[[], BaseObserver] | None = None
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
