"""The worker: takes one order at a time from stdin, runs it, reports on stdout. The end of stdin is its end.

What it can do is its `Craft`; a job that raises becomes a failed job with a sentence, and the process, with
whatever it has loaded, goes on. A job that is paused is put aside between two of its steps, with all that it
has, and the process is free for another.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from math import inf
from pathlib import Path
from typing import IO

import msgspec

from stembridge.errors import StembridgeError
from stembridge.settings import PRIORITIES
from stembridge.types import ErrorInfo
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.craft import Craft, Steps
from stembridge_daemon.worker_messages import (
    CancelJob,
    Hold,
    JobDone,
    JobError,
    JobPaused,
    JobProgress,
    JobStopped,
    Load,
    Order,
    PauseJob,
    Ready,
    Report,
    ResumeJob,
    Role,
    Task,
    encode_line,
    order_decoder,
)

logger = logging.getLogger(__name__)

LOW_NICE = 10
"""Added to the niceness of a worker of low priority: whoever plays meanwhile comes first on every core."""


class _Move(Enum):
    """What becomes of a job between two of its steps."""

    GO_ON = auto()
    PUT_ASIDE = auto()
    STOP = auto()


class Worker:
    """Runs orders until there are no more."""

    def __init__(self, craft: Craft, orders: Iterable[bytes], reports: IO[bytes]) -> None:
        self._craft = craft
        self._orders = orders
        self._reports = reports
        self._queue: queue.SimpleQueue[Task | Load | ResumeJob | CancelJob] = queue.SimpleQueue()
        self._aside: dict[str, Steps] = {}
        """Jobs that were put aside; the main thread's alone."""
        self._cancelled: set[str] = set()
        self._paused: set[str] = set()
        self._held_until = -inf
        self._changed = threading.Condition()
        """Guards the three above."""

    def run(self) -> None:
        """Say `Ready`, then work; returns never: the end of the orders ends the process."""
        threading.Thread(target=self._listen, daemon=True).start()
        failpoint("worker-start")
        self._report(Ready())
        while True:
            self._do(self._queue.get())

    def _listen(self) -> None:
        """Take orders as they come; some of them reach the running job between two of its steps."""
        try:
            for line in self._orders:
                order: Order = order_decoder.decode(line)
                if isinstance(order, CancelJob | PauseJob | Hold):
                    self._interrupt(order)
                if not isinstance(order, PauseJob | Hold):
                    self._queue.put(order)
        except msgspec.MsgspecError:
            logger.exception("an order that is none of ours: another version of the daemon?")
            os._exit(1)
        # The front is gone or wants us gone. A native call may hold the main thread for seconds, so only
        # this ends the process at once; what the job had written lies in its hidden work folder.
        os._exit(0)

    def _interrupt(self, order: CancelJob | PauseJob | Hold) -> None:
        with self._changed:
            match order:
                case CancelJob(id=job_id):
                    self._cancelled.add(job_id)
                case PauseJob(id=job_id):
                    self._paused.add(job_id)
                case Hold(seconds=seconds):
                    self._held_until = time.monotonic() + seconds
            self._changed.notify()

    def _next_move(self, job_id: str) -> _Move:
        """Wait while a hold is in force, and return what then becomes of the running job.

        Jobs that were put aside are ended here as soon as they are cancelled: they wait for no other.
        """
        while True:
            self._stop_cancelled_aside()
            with self._changed:
                if job_id in self._cancelled:
                    return _Move.STOP
                if job_id in self._paused:
                    return _Move.PUT_ASIDE
                left_s = self._held_until - time.monotonic()
                if left_s <= 0:
                    return _Move.GO_ON
                if not self._cancelled & self._aside.keys():
                    self._changed.wait(left_s)

    def _do(self, order: Task | Load | ResumeJob | CancelJob) -> None:
        try:
            match order:
                case Load():
                    self._craft.warm_up(order, self._report)
                case CancelJob():
                    self._stop_cancelled_aside()
                case ResumeJob(id=job_id):
                    if job_id in self._aside:
                        # Its next step is a real one, which a hold keeps from beginning.
                        steps = self._aside.pop(job_id)
                        self._run(job_id, steps, self._next_move(job_id))
                case _:
                    self._run(order.id, self._craft.begin(order, self._report), _Move.GO_ON)
        except Exception as error:
            if not isinstance(error, StembridgeError):
                logger.exception("an order failed")
            if not isinstance(order, Load):
                self._report(JobError(order.id, error_info(error, self._craft.role)))

    def _run(self, job_id: str, steps: Steps, move: _Move) -> None:
        """Take a job's steps until it has ended or is put aside; ``move`` comes before the first of them."""
        while move is _Move.GO_ON:
            try:
                progress = next(steps)
            except StopIteration as end:
                self._report(JobDone(job_id, end.value))
                return
            self._report(JobProgress(job_id, progress))
            move = self._next_move(job_id)
        if move is _Move.STOP:
            self._stop(job_id, steps)
        else:
            self._put_aside(job_id, steps)

    def _put_aside(self, job_id: str, steps: Steps) -> None:
        self._aside[job_id] = steps
        with self._changed:
            self._paused.discard(job_id)
        self._report(JobPaused(job_id))

    def _stop_cancelled_aside(self) -> None:
        with self._changed:
            cancelled = self._cancelled & self._aside.keys()
        for job_id in cancelled:
            self._stop(job_id, self._aside.pop(job_id))

    def _stop(self, job_id: str, steps: Steps) -> None:
        with self._changed:
            self._cancelled.discard(job_id)
        try:
            steps.close()
        except Exception as error:
            # Of this job alone, though another may be under way.
            logger.exception("job %s could not be ended", job_id)
            self._report(JobError(job_id, error_info(error, self._craft.role)))
        else:
            self._report(JobStopped(job_id))

    def _report(self, report: Report) -> None:
        self._reports.write(encode_line(report))
        self._reports.flush()


def error_info(error: Exception, role: Role) -> ErrorInfo:
    """Return what a client is told of ``error``: our own sentence, or that of a stranger with its kind."""
    if isinstance(error, StembridgeError):
        return ErrorInfo(error.code, error.message, error.hint)
    if isinstance(error, MemoryError):
        return ErrorInfo("internal", "out of memory", "close other programs, or take a shorter file")
    text = str(error).strip().splitlines()
    return ErrorInfo(
        "internal",
        f"{type(error).__name__}: {text[0] if text else 'no message'}",
        f"stembridge daemon logs --worker {role} has the trace",
    )


def take_over_stdout() -> IO[bytes]:
    """Return the pipe to the front, and let whatever prints to stdout land in the log instead."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on this process's stdin and stdout."""
    parser = argparse.ArgumentParser(prog="stembridge-worker")
    parser.add_argument("--role", choices=[role.value for role in Role], required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compile", action="store_true", help="have models compiled in the background")
    parser.add_argument("--priority", choices=PRIORITIES, default="normal")
    parser.add_argument("--home", type=Path, help="root of all folders, for a worker that renders")
    options = parser.parse_args(argv)
    if options.priority == "low" and sys.platform != "win32":
        # Linux has a niceness per thread: before there is a second one. On Windows the supervisor does it.
        os.nice(LOW_NICE)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    reports = take_over_stdout()
    Worker(_make_craft(options), sys.stdin.buffer, reports).run()
    return 0


def _make_craft(options: argparse.Namespace) -> Craft:
    """Return what this process is there for; the libraries of the other craft are not loaded."""
    if options.role == Role.SEPARATE:
        from stembridge_daemon.worker.separating import ResidentModels, Separating

        return Separating(ResidentModels(options.device, options.threads, is_compiling=options.compile))
    from stembridge.mixdown.render import render_remix
    from stembridge.settings import load_settings
    from stembridge_daemon.worker.rendering import Rendering

    return Rendering(render_remix, load_settings(home=options.home, environ={}))


if __name__ == "__main__":
    sys.exit(main())
