"""What a worker can do, as its loop sees it: separate, or render."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from stembridge.types import Progress, SplitResult
from stembridge_daemon.worker_messages import Load, Report, Role, Task

Steps = Generator[Progress, None, SplitResult]
"""A job under way: a step is done between two yields, and closing it between them is the cancel."""
Tell = Callable[[Report], None]


class Craft(Protocol):
    """The work of one role; a test brings its own."""

    @property
    def role(self) -> Role: ...

    def begin(self, task: Task, tell: Tell) -> Steps:
        """Return the steps of a job; the first yield comes before anything is loaded or read.

        Parameters
        ----------
        tell : takes what the front is to know beside the job's progress
        """
        ...

    def warm_up(self, order: Load, tell: Tell) -> None:
        """Load what jobs to come will need."""
        ...


def refuse_task(role: Role, task: Task) -> TypeError:
    """Return the error of a job that was handed to the wrong worker: a defect of ours."""
    return TypeError(f"{type(task).__name__} handed to a worker whose role is {role}")
