"""The real worker over a separator that takes a step per second of audio, and what it has said so far."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

import fake_worker
from daemon_harness import wait_until
from signals import make_noise, to_ints, write_pcm
from stembridge.types import SplitRequest
from stembridge_daemon.supervisor import Died, Supervisor
from stembridge_daemon.worker_messages import (
    JobProgress,
    LocatedModel,
    Order,
    Ready,
    Report,
    RunSplit,
)

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(fake_worker.__file__).parent)!r})
from pathlib import Path
from fake_worker import QuarterSource
from stembridge_daemon.worker.main import Worker, take_over_stdout
from stembridge_daemon.worker.separating import Separating

folder = Path(sys.argv[1])

def orders():
    for count, line in enumerate(sys.stdin.buffer, 1):
        yield line
        (folder / f"taken-{{count}}").touch()

Worker(Separating(QuarterSource(folder / "gate")), orders(), take_over_stdout()).run()
"""
"""A fake worker that shows which orders it has taken in, so that a test need not guess."""

SECONDS = 4


class WorkerBench:
    """A supervisor over a worker whose separator takes a step per second of audio."""

    def __init__(self, context: zmq.Context[Any], folder: Path) -> None:
        self.folder = folder
        self.supervisor = Supervisor(
            [sys.executable, "-c", PROGRAM, str(folder)],
            os.environ,
            folder / "worker.log",
            context,
        )
        self.said: list[tuple[float, Report | Died]] = []
        self.orders = 0
        noise = to_ints(make_noise(SECONDS * 44_100, 2), 16)
        self.source = write_pcm(folder / "x.wav", noise, 44_100, 16)

    def start(self) -> None:
        self.supervisor.start()
        self.wait_for(lambda: bool(self.all_of(Ready)), "Ready")

    def split(self, job_id: str = "a", seed: int = 0) -> None:
        request = SplitRequest(str(self.source), str(self.folder / "out"), "preview", seed=seed)
        self.supervisor.send(RunSplit(job_id, request, LocatedModel("preview")), is_job=True)
        self.orders += 1

    def hold(self, seconds: float) -> None:
        """Hold the worker, and return when it knows."""
        self.supervisor.hold(seconds)
        self._wait_for_order()

    def tell(self, order: Order) -> None:
        """Give the worker an order, and return when it knows."""
        self.supervisor.send(order)
        self._wait_for_order()

    def begin_gated(self, job_id: str = "a") -> None:
        """Start a job and return when it waits within its second step until the gate is there."""
        reached = fake_worker.gate_file(self.folder / "gate")
        reached.unlink(missing_ok=True)
        self.split(job_id, seed=fake_worker.GATED)
        self.wait_for(
            lambda: reached.exists() and bool(self.separated(job_id)), "the job to come to the gate"
        )

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def close_gate(self) -> None:
        (self.folder / "gate").unlink()

    def wait_for(self, is_true: Callable[[], bool], what: str) -> None:
        def has_come() -> bool:
            self.said += [(time.monotonic(), report) for report in self.supervisor.receive()]
            assert not self.all_of(Died)
            return is_true()

        wait_until(has_come, what, 20)

    def all_of(self, kind: type) -> list[tuple[float, Any]]:
        return [(at, report) for at, report in self.said if isinstance(report, kind)]

    def ended(self, kind: type) -> list[str]:
        """Return the jobs of which a report of that kind has come."""
        return [report.id for _, report in self.all_of(kind)]

    def stages(self) -> list[str]:
        return [report.progress.stage for _, report in self.all_of(JobProgress)]

    def separated(self, job_id: str = "a") -> list[float]:
        """Return when each step of a job in the separator was heard of."""
        return [
            at
            for at, report in self.all_of(JobProgress)
            if report.id == job_id and report.progress.stage == "separate"
        ]

    def _wait_for_order(self) -> None:
        self.orders += 1
        wait_until((self.folder / f"taken-{self.orders}").exists, "the order to be taken", 20)
