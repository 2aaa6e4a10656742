"""The worker: takes one order at a time from stdin, runs it, reports on stdout. The end of stdin is its end.

What it can do is its `Craft`; a job that raises becomes a failed job with a sentence, and the process, with
whatever it has loaded, goes on.
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
from math import inf
from pathlib import Path
from typing import IO

import msgspec

from stembridge.errors import StembridgeError
from stembridge.types import ErrorInfo
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.craft import Craft
from stembridge_daemon.worker_messages import (
    CancelJob,
    Hold,
    JobDone,
    JobError,
    JobProgress,
    JobStopped,
    Load,
    Order,
    Ready,
    Report,
    Role,
    Task,
    encode_line,
    order_decoder,
)

logger = logging.getLogger(__name__)


class Worker:
    """Runs orders until there are no more."""

    def __init__(self, craft: Craft, orders: Iterable[bytes], reports: IO[bytes]) -> None:
        self._craft = craft
        self._orders = orders
        self._reports = reports
        self._queue: queue.SimpleQueue[Task | Load] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._held_until = -inf
        self._changed = threading.Condition()
        """Guards the two above."""

    def run(self) -> None:
        """Say `Ready`, then work; returns never: the end of the orders ends the process."""
        threading.Thread(target=self._listen, daemon=True).start()
        failpoint("worker-start")
        self._report(Ready())
        while True:
            self._do(self._queue.get())

    def _listen(self) -> None:
        """Take orders as they come; cancel and hold reach the running job between two of its steps."""
        try:
            for line in self._orders:
                order: Order = order_decoder.decode(line)
                if isinstance(order, CancelJob | Hold):
                    self._interrupt(order)
                else:
                    self._queue.put(order)
        except msgspec.MsgspecError:
            logger.exception("an order that is none of ours: another version of the daemon?")
            os._exit(1)
        # The front is gone or wants us gone. A native call may hold the main thread for seconds, so only
        # this ends the process at once; what the job had written lies in its hidden work folder.
        os._exit(0)

    def _interrupt(self, order: CancelJob | Hold) -> None:
        with self._changed:
            if isinstance(order, CancelJob):
                self._cancelled.add(order.id)
            else:
                self._held_until = time.monotonic() + order.seconds
            self._changed.notify()

    def _may_go_on(self, job_id: str) -> bool:
        """Wait while a hold is in force; return whether the job is still wanted."""
        with self._changed:
            while job_id not in self._cancelled and (left_s := self._held_until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return job_id not in self._cancelled

    def _do(self, order: Task | Load) -> None:
        try:
            if isinstance(order, Load):
                self._craft.warm_up(order, self._report)
            else:
                self._run(order)
        except Exception as error:
            if not isinstance(error, StembridgeError):
                logger.exception("an order failed")
            if not isinstance(order, Load):
                self._report(JobError(order.id, error_info(error, self._craft.role)))

    def _run(self, task: Task) -> None:
        steps = self._craft.begin(task, self._report)
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                self._report(JobDone(task.id, end.value))
                return
            self._report(JobProgress(task.id, progress))
            if not self._may_go_on(task.id):
                break
        steps.close()
        self._cancelled.discard(task.id)
        self._report(JobStopped(task.id))

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
    parser.add_argument("--home", type=Path, help="root of all folders, for a worker that renders")
    options = parser.parse_args(argv)
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

        return Separating(ResidentModels(options.device, options.threads))
    from stembridge.mixdown.render import render_remix
    from stembridge.settings import load_settings
    from stembridge_daemon.worker.rendering import Rendering

    return Rendering(render_remix, load_settings(home=options.home, environ={}))


if __name__ == "__main__":
    sys.exit(main())
