"""The worker: takes one order at a time from stdin, runs it, reports on stdout. The end of stdin is its end.

A job that raises becomes a failed job with a sentence; the process, and the loaded model with it, goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from math import inf
from typing import IO, Protocol

import msgspec

from stembridge import catalog
from stembridge.catalog import ModelKind
from stembridge.errors import StembridgeError
from stembridge.model_store import ModelFiles
from stembridge.types import ErrorInfo, Progress
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import Separator
from stembridge_daemon.worker_messages import (
    CancelJob,
    Hold,
    JobDone,
    JobError,
    JobProgress,
    JobStopped,
    Load,
    Models,
    Order,
    Ready,
    Report,
    RunSplit,
    encode_line,
    order_decoder,
)

logger = logging.getLogger(__name__)

RESIDENT_MODELS = 2
"""Models kept loaded at once; the one that was used longest ago makes room."""


class SeparatorSource(Protocol):
    """Where the worker gets its separators from; a test brings its own."""

    def get(self, files: ModelFiles, stems: Sequence[str]) -> Separator: ...

    def resident(self) -> Models: ...


class ResidentModels:
    """Loads each model once and keeps the last few of them."""

    def __init__(self, device: str, threads: int) -> None:
        self._device = device
        self._threads = threads
        self._separators: dict[ModelFiles, tuple[frozenset[str], Separator]] = {}
        self._loads = 0

    def get(self, files: ModelFiles, stems: Sequence[str]) -> Separator:
        """Return the separator for ``files``, with at least the members that ``stems`` need.

        A bag that was loaded in part is loaded again with what it had and what it lacks.
        """
        model = catalog.find_model(files.name)
        wanted = frozenset(catalog.check_stems(model, stems))
        loaded, separator = self._separators.pop(files, (frozenset[str](), None))
        needed, had = (catalog.members_needed(model, tuple(names)) for names in (wanted, loaded or wanted))
        if separator is None or not set(needed) <= set(had):
            del separator
            while len(self._separators) >= RESIDENT_MODELS:
                del self._separators[next(iter(self._separators))]
            loaded |= wanted
            separator = self._load(files, tuple(loaded))
            self._loads += 1
        self._separators[files] = loaded, separator
        return separator

    def resident(self) -> Models:
        # Before the first model asks torch which device there is, only `preview` runs, and that on the CPU.
        device = "cpu" if self._device == "auto" else self._device
        return Models(tuple(files.name for files in self._separators), self._loads, device)

    def _load(self, files: ModelFiles, stems: Sequence[str]) -> Separator:
        if catalog.find_model(files.name).kind is ModelKind.PREVIEW:
            from stembridge_daemon.worker.separators.preview import PreviewSeparator

            return PreviewSeparator()
        import torch

        from stembridge_daemon.worker.hardware import best_device
        from stembridge_daemon.worker.models import load_separator

        if self._threads > 0:
            torch.set_num_threads(self._threads)
        if self._device == "auto":
            self._device = best_device()
        return load_separator(files.name, files, device=self._device, stems=stems)


class Worker:
    """Runs orders until there are no more."""

    def __init__(self, separators: SeparatorSource, orders: IO[bytes], reports: IO[bytes]) -> None:
        self._separators = separators
        self._orders = orders
        self._reports = reports
        self._queue: queue.SimpleQueue[RunSplit | Load] = queue.SimpleQueue()
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

    def _do(self, order: RunSplit | Load) -> None:
        try:
            if isinstance(order, Load):
                self._separator(order.model.files(), (), warm_up=True)
            else:
                self._split(order)
        except Exception as error:
            if not isinstance(error, StembridgeError):
                logger.exception("an order failed")
            if isinstance(order, RunSplit):
                self._report(JobError(order.id, error_info(error)))

    def _split(self, order: RunSplit) -> None:
        request = order.request
        self._report(JobProgress(order.id, Progress("load", 0.0)))
        if self._may_go_on(order.id):
            separator = self._separator(order.model.files(), request.asked)
            steps = run_split(order.id, request, separator)
            while self._may_go_on(order.id):
                try:
                    progress = next(steps)
                except StopIteration as end:
                    self._report(JobDone(order.id, end.value))
                    return
                self._report(JobProgress(order.id, progress))
            steps.close()
        self._cancelled.discard(order.id)
        self._report(JobStopped(order.id))

    def _separator(self, files: ModelFiles, stems: Sequence[str], *, warm_up: bool = False) -> Separator:
        before = self._separators.resident()
        separator = self._separators.get(files, stems)
        if self._separators.resident().loads != before.loads:
            logger.info("loaded %s, sha256 %s", separator.name, separator.sha256 or "none")
            if warm_up:
                separator.warm_up()
        if self._separators.resident() != before:
            self._report(self._separators.resident())
        return separator

    def _report(self, report: Report) -> None:
        self._reports.write(encode_line(report))
        self._reports.flush()


def error_info(error: Exception) -> ErrorInfo:
    """Return what a client is told of ``error``: our own sentence, or that of a stranger with its kind."""
    if isinstance(error, StembridgeError):
        return ErrorInfo(error.code, error.message, error.hint)
    if isinstance(error, MemoryError):
        return ErrorInfo("internal", "out of memory", "close other programs, or split a shorter file")
    text = str(error).strip().splitlines()
    return ErrorInfo(
        "internal",
        f"{type(error).__name__}: {text[0] if text else 'no message'}",
        "stembridge daemon logs --worker has the trace",
    )


def take_over_stdout() -> IO[bytes]:
    """Return the pipe to the front, and let whatever prints to stdout land in the log instead."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker on this process's stdin and stdout."""
    parser = argparse.ArgumentParser(prog="stembridge-worker")
    parser.add_argument("--role", choices=("separate",), required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    reports = take_over_stdout()
    Worker(ResidentModels(options.device, options.threads), sys.stdin.buffer, reports).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
