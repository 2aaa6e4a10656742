"""Progress on stderr: a bar per running job on a terminal or in a notebook, a line per tenth elsewhere.

What can be heard of a running job is told in lines of its own, which stay.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stembridge.text import clock, one_line, place_clock, shorten
from stembridge.types import Early, Job, JobState

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAME_CELLS = 28
"""Columns of a file's name beside a bar, so that name, stage, bar and time left fit into 80."""


@contextmanager
def progress_shown(*, is_on: bool = True) -> Iterator[Callable[[Job], None]]:
    """Yield a function that shows a job's newest state; the display ends with the block.

    After a final state nothing is on the screen until the next call: there the caller can print a result.
    """
    if not is_on:
        yield lambda _job: None
        return
    listening = Listening()
    bars = _Bars() if sys.stderr.isatty() or _is_live_notebook() else None
    shown = bars or _Lines()

    def show(job: Job) -> None:
        early = listening.find_news(job)
        if early is not None:
            if bars is not None:
                bars.close()
            for line in tell_early(early):
                sys.stderr.write(f"{_name(job)}: {line}\n")
            sys.stderr.flush()
        shown.show(job)

    try:
        yield show
    finally:
        if bars is not None:
            bars.close()


class Listening:
    """Finds what can be heard of jobs, each thing once, however often a job is told of."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[int, Early]] = {}

    def find_news(self, job: Job) -> Early | None:
        """Return what there is to hear of ``job`` that was not there when it was last told of."""
        if job.early is None or self._told.get(job.id) == (job.attempt, job.early):
            return None
        self._told[job.id] = job.attempt, job.early
        return job.early


def tell_early(early: Early) -> Iterator[str]:
    """Yield a line for each stem that can be heard: its file, and where in the source that is."""
    seconds = early.frames / early.sample_rate
    for stem in early.stems:
        place = f"from {place_clock(early.start / early.sample_rate)} for {seconds:.1f} s"
        yield f"listen: {one_line(stem.path)} ({stem.name}), {place}"


def is_watched() -> bool:
    """Return whether somebody looks at this process: a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _is_live_notebook() -> bool:
    """Return whether this is a notebook that can redraw: rich needs ipywidgets for that."""
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


class _Bars:
    """A bar per job that is not final; taken off the screen as soon as one becomes final."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars: Progress | None = None

    def show(self, job: Job) -> None:
        if job.state.is_final:
            self._jobs.pop(job.id, None)
            self.close()
            return
        self._jobs[job.id] = job
        if self._bars is None:
            # Started again, the same bars would wipe out as many lines as they had: those printed meanwhile.
            self._bars = _start_bars()
            for other in self._jobs.values():
                self._draw(other)
        self._draw(job)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _draw(self, job: Job) -> None:
        from rich.markup import escape

        assert self._bars is not None
        name = escape(shorten(_name(job), NAME_CELLS))
        text = f"{name}  {_stage(job)}"
        if job.id not in self._tasks:
            self._tasks[job.id] = self._bars.add_task(text, total=1.0, left="")
        share = job.progress.fraction if job.progress else 0.0
        self._bars.update(self._tasks[job.id], description=text, completed=share, left=_left(job))


def _start_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
        # Redirected, what is printed to stdout beside the bars would come out on stderr.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bars.start()
    return bars


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
        name = _name(job)
        share = f"{tenth * 10} %" if job.progress else ""
        sys.stderr.write(" ".join(filter(None, [f"{name}:", step[0], share, _left(job)])) + "\n")
        sys.stderr.flush()


def _name(job: Job) -> str:
    """Return what tells this job from others; one set may be remixed with several presets at once."""
    name = one_line(Path(job.source).name)
    return name if job.remix is None else f"{one_line(Path(job.tool).stem)} of {name}"


def _stage(job: Job) -> str:
    if job.is_paused:
        return "paused"
    if job.state is JobState.QUEUED:
        return "waiting"
    return job.progress.stage if job.progress else "starting"


def _left(job: Job) -> str:
    if job.progress is None or job.progress.eta_s is None or job.is_paused:
        return ""
    return f"{clock(job.progress.eta_s)} left"
