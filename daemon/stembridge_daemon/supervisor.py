"""Starts, watches and ends the worker process; crash, hang, idle unload and shutdown end here.

The worker is reached over its stdin and stdout. A thread per process turns its lines into messages on an
inproc socket, so that the front waits for clients and workers in one poll.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import zmq

from stembridge_daemon.worker_messages import (
    Hold,
    JobProgress,
    Order,
    Ready,
    Report,
    encode_line,
    report_decoder,
)

logger = logging.getLogger(__name__)

FIRST_STEP_LIMIT_S = 600.0
"""Until two steps are done: a model may come from a slow disk, and the first step is slowest.

Where no stage has steps that are alike, this is the limit all along.
"""
LEAST_HANG_LIMIT_S = 60.0
HANG_FACTOR = 10.0
SLEEP_S = 3.0
"""A check that comes this much later than the one before means that the machine slept, not the worker."""
GLIBC_TUNABLES = (
    "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
)
"""Keeps big activations out of mmap: 25-30 % less time per segment on a CPU (docs/decisions/0002)."""


LONGEST_LOG_BYTES = 5_000_000


class WorkerState(StrEnum):
    ABSENT = "absent"
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Died:
    """The worker process has ended; ``was_asked`` when we had told it to."""

    reason: str
    was_asked: bool


class Supervisor:
    """One worker process at a time, started on demand.

    Parameters
    ----------
    command : command line of the worker
    environment : its whole environment
    log_file : gets the worker's stderr
    context : context of the inproc socket; `socket` becomes readable when `receive` has something
    step_stage : the stage whose steps take about the same time, so that they tell what silence is too long;
        None where there is none
    is_low : the worker is to rank below other programs; only Windows asks that of who starts it, elsewhere
        ``command`` tells the worker
    clock : monotonic seconds
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_file: Path,
        context: zmq.Context[Any],
        clock: Callable[[], float] = time.monotonic,
        *,
        step_stage: str | None = "separate",
        is_low: bool = False,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._log_file = log_file
        self._context = context
        self._clock = clock
        self._step_stage = step_stage
        self._is_low = is_low
        self._address = f"inproc://worker-{id(self)}"
        self.socket = context.socket(zmq.PULL)
        self.socket.bind(self._address)
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self.state = WorkerState.ABSENT
        self.starts = 0
        self._kill_reason = ""
        self._last_check = clock()
        self._last_moved = clock()
        self._held_until = clock()
        self._longest_gap = 0.0
        self._steps = 0
        self._unborn: list[Died] = []

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the worker where there is none; it says `Ready` when it can take orders."""
        if self.state is not WorkerState.ABSENT:
            return
        options: dict[str, Any] = {"start_new_session": True}
        if os.name == "nt":
            options = {"creationflags": _creation_flags(self._is_low)}
        self.starts += 1
        try:
            _make_room(self._log_file)
            with self._log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self._environment,
                    **options,
                )
        except OSError as error:
            logger.error("the worker cannot be started: %s", error)
            self._unborn.append(Died(f"cannot be started: {error}", was_asked=False))
            return
        self.state = WorkerState.STARTING
        self._kill_reason = ""
        self._reader = threading.Thread(
            target=_forward_lines, args=(self._process, self._context, self._address), daemon=True
        )
        self._reader.start()
        self._expect_report()
        logger.info("worker %d started", self._process.pid)

    def send(self, order: Order, *, is_job: bool = False) -> None:
        """Give the worker an order; one that is just dying is noticed by `receive`."""
        if self._process is None or self._process.stdin is None:
            return
        if is_job:
            self.state = WorkerState.BUSY
            self._expect_report()
        with suppress(OSError):
            self._process.stdin.write(encode_line(order))
            self._process.stdin.flush()

    def hold(self, seconds: float) -> None:
        """Let the worker begin no step for so many seconds, `LONGEST_HOLD_S` at most; 0 lets it go on.

        A hold lasts longer only by being renewed. One that comes while no worker runs is told the next.
        """
        order = Hold.of(seconds)
        self._held_until = self._clock() + order.seconds
        if self.state in (WorkerState.IDLE, WorkerState.BUSY):
            self.send(order)

    def set_idle(self) -> None:
        """Note that the worker has let go of its job."""
        if self.state is WorkerState.BUSY:
            self.state = WorkerState.IDLE

    def receive(self) -> list[Report | Died]:
        """Return what the worker has said since the last call, in order; its death is the last of it."""
        reports: list[Report | Died] = [*self._unborn]
        self._unborn.clear()
        while True:
            try:
                line = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return reports
            if line:
                reports += self._understood(line)
            else:
                reports.append(self._buried())

    def check(self) -> None:
        """Kill a worker that has not moved for too long."""
        now = self._clock()
        if now - self._last_check > SLEEP_S:
            self._last_moved += now - self._last_check
        self._last_check = now
        if self.state not in (WorkerState.STARTING, WorkerState.BUSY):
            return
        limit = FIRST_STEP_LIMIT_S
        if self._steps >= 2:
            limit = max(LEAST_HANG_LIMIT_S, HANG_FACTOR * self._longest_gap)
        if self._silence_s(now) > limit:
            self.kill(f"hung: no progress for {limit:.0f} s")

    def stop(self) -> None:
        """Ask the worker to leave by closing its stdin."""
        if self._process is not None and self._process.stdin is not None:
            self.state = WorkerState.STOPPING
            with suppress(OSError):
                self._process.stdin.close()

    def kill(self, reason: str) -> None:
        """End the worker at once; `receive` reports its death with ``reason``."""
        if self._process is not None:
            logger.warning("worker %d killed: %s", self._process.pid, reason)
            self._kill_reason = reason
            self._process.kill()

    def last_words(self) -> str:
        """Return the last line of the worker's log, in which a worker that cannot start says why."""
        try:
            lines = self._log_file.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "its log is empty"

    def close(self, timeout_s: float) -> None:
        """End the worker, kindly for ``timeout_s`` seconds, and the thread that listens to it."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self.receive()
        self.socket.close()

    def _expect_report(self) -> None:
        self._last_moved = self._clock()
        self._longest_gap = 0.0
        self._steps = 0

    def _silence_s(self, now: float) -> float:
        """Return how long the worker has said nothing though nothing held it."""
        return now - max(self._last_moved, min(now, self._held_until))

    def _understood(self, line: bytes) -> list[Report | Died]:
        now = self._clock()
        try:
            report = report_decoder.decode(line)
        except msgspec.MsgspecError as error:
            self.kill(f"said something that is no report: {error}")
            return []
        if isinstance(report, JobProgress) and report.progress.stage == self._step_stage:
            self._steps += 1
        if self._steps >= 2:
            self._longest_gap = max(self._longest_gap, self._silence_s(now))
        self._last_moved = now
        if isinstance(report, Ready) and self.state is WorkerState.STARTING:
            self.state = WorkerState.IDLE
            if now < self._held_until:
                self.hold(self._held_until - now)
        return [report]

    def _buried(self) -> Died:
        assert self._process is not None
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        was_asked = self.state is WorkerState.STOPPING and not self._kill_reason
        died = Died(self._kill_reason or _reason(code), was_asked)
        logger.log(logging.INFO if was_asked else logging.ERROR, "worker ended: %s", died.reason)
        self._process, self.state = None, WorkerState.ABSENT
        return died


def _creation_flags(is_low: bool) -> int:
    """Return how Windows is asked to start a worker."""
    group: int = subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined,unused-ignore]
    low: int = subprocess.BELOW_NORMAL_PRIORITY_CLASS  # type: ignore[attr-defined,unused-ignore]
    return group | low if is_low else group


def _make_room(log_file: Path) -> None:
    """Put a log aside that has grown long, so that there are two of them at most."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.exists() and log_file.stat().st_size > LONGEST_LOG_BYTES:
        log_file.replace(log_file.with_name(f"{log_file.name}.1"))


def tuned_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` with what a worker needs.

    No model hub at run time; threads that sleep while they wait for each other, since those that spin take a
    busy machine's cores from whoever they wait for; the allocator's settings.
    """
    tuned = dict(environment) | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
    if sys.platform == "linux":
        tuned["GLIBC_TUNABLES"] = GLIBC_TUNABLES
    return tuned


def _forward_lines(process: subprocess.Popen[bytes], context: zmq.Context[Any], address: str) -> None:
    """Send every line of a worker to the inproc socket, and an empty message at its end."""
    assert process.stdout is not None
    socket = context.socket(zmq.PUSH)
    socket.setsockopt(zmq.LINGER, 1000)
    socket.connect(address)
    try:
        for line in process.stdout:
            socket.send(line)
        socket.send(b"")
    finally:
        socket.close()


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
