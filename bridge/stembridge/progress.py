"""Progress on stderr: a bar per running job on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stembridge.text import clock, one_line
from stembridge.types import Job, JobState


@contextmanager
def progress_shown(*, is_on: bool = True) -> Iterator[Callable[[Job], None]]:
    """Yield a function that shows a job's newest state; the display ends with the block."""
    if not is_on:
        yield lambda _job: None
    elif sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _Lines().show


@contextmanager
def _bars() -> Iterator[Callable[[Job], None]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def show(job: Job) -> None:
            if job.state.is_final:
                if job.id in tasks:
                    bars.remove_task(tasks.pop(job.id))
                return
            if job.id not in tasks:
                tasks[job.id] = bars.add_task("", total=1.0, left="")
            name = escape(one_line(Path(job.request.source).name))
            bars.update(
                tasks[job.id],
                description=f"{name[:40]}  {_stage(job)}",
                completed=job.progress.fraction if job.progress else 0.0,
                left=_left(job),
            )

        yield show


class _Lines:
    """One line per job and tenth of its way, for logs and pipes."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, int]] = {}

    def show(self, job: Job) -> None:
        if job.state.is_final:
            return
        tenth = int(job.progress.fraction * 10) if job.progress else 0
        step = _stage(job), tenth
        if self._shown.get(job.id) == step:
            return
        self._shown[job.id] = step
        name = one_line(Path(job.request.source).name)
        sys.stderr.write(f"{name}: {step[0]} {tenth * 10} % {_left(job)}".rstrip() + "\n")
        sys.stderr.flush()


def _stage(job: Job) -> str:
    if job.state is JobState.QUEUED:
        return "waiting"
    return job.progress.stage if job.progress else "starting"


def _left(job: Job) -> str:
    if job.progress is None or job.progress.eta_s is None:
        return ""
    return f"{clock(job.progress.eta_s)} left"
