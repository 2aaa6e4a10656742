"""Work in this process, shown like a job of the daemon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from types import FrameType

from stembridge.stages import tell_time_left
from stembridge.types import Job, JobState, Progress, SplitResult

_STDERR = 2


def run_here(
    steps: Generator[Progress, None, SplitResult],
    job: Job,
    show: Callable[[Job], None],
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """Run ``steps`` to their end and return ``job`` as it is then: done, with its result.

    However this ends, ``steps`` are closed and ``show`` has seen a final state.

    Parameters
    ----------
    job : as it is at the beginning; shown again with every progress
    clock : monotonic seconds
    """
    running = replace(job, state=JobState.RUNNING)
    with closing(tell_time_left(steps, clock)) as timed:
        try:
            while True:
                show(replace(running, progress=next(timed)))
        except StopIteration as stop:
            done = replace(job, state=JobState.DONE, result=stop.value)
            show(done)
            return done
        except BaseException as error:
            is_cancelled = isinstance(error, KeyboardInterrupt)
            show(replace(job, state=JobState.CANCELLED if is_cancelled else JobState.FAILED))
            raise


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Let a closed terminal and SIGTERM end the work as Ctrl-C does: nothing half-written stays behind.

    A signal that is ignored stays ignored: under nohup the work outlives its terminal.
    """
    names = [
        name
        for name in ("SIGTERM", "SIGHUP")
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN
    ]
    before = {name: signal.signal(getattr(signal, name), signal.default_int_handler) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


@contextmanager
def ctrl_c_answered() -> Iterator[None]:
    """Say at once that Ctrl-C was heard: what runs in a thread ends at its next step, maybe seconds later."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    heard = [number for number in numbers if signal.getsignal(number) is signal.default_int_handler]
    for number in heard:
        signal.signal(number, _answer)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.default_int_handler)


def _answer(number: int, frame: FrameType | None) -> None:
    # Python's own stderr may be in the middle of a line; a terminal that was closed takes nothing.
    with suppress(OSError):
        os.write(_STDERR, b"\ncancelling ...\n")
    signal.default_int_handler(number, frame)
