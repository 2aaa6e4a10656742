"""While REAPER records no step begins: the real worker under a hold, lifted, left to lapse, cancelled."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

import fake_worker
from daemon_harness import wait_until
from signals import make_noise, to_ints, write_pcm
from stembridge.types import SplitRequest
from stembridge_daemon.supervisor import Died, Supervisor
from stembridge_daemon.worker_messages import (
    LONGEST_HOLD_S,
    CancelJob,
    Hold,
    JobDone,
    JobProgress,
    JobStopped,
    LocatedModel,
    Models,
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

LEASE_S = 0.7
FOREVER_S = 3600.0
SECONDS = 4


class Bench:
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
        self.orders += 1
        wait_until((self.folder / f"taken-{self.orders}").exists, "the order to be taken", 20)

    def wait_for(self, is_true: Callable[[], bool], what: str) -> None:
        def has_come() -> bool:
            self.said += [(time.monotonic(), report) for report in self.supervisor.receive()]
            assert not self.all_of(Died)
            return is_true()

        wait_until(has_come, what, 20)

    def all_of(self, kind: type) -> list[tuple[float, Any]]:
        return [(at, report) for at, report in self.said if isinstance(report, kind)]

    def stages(self) -> list[str]:
        return [report.progress.stage for _, report in self.all_of(JobProgress)]

    def separated(self) -> list[float]:
        """Return when each step of the separator was heard of."""
        return [at for at, report in self.all_of(JobProgress) if report.progress.stage == "separate"]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    context: zmq.Context[Any] = zmq.Context()
    bench = Bench(context, tmp_path)
    yield bench
    bench.supervisor.close(timeout_s=0.5)
    context.term()


def begin_and_hold(bench: Bench, seconds: float) -> float:
    """Hold a job within its second step, let that step end, and return a time before the hold began."""
    bench.start()
    bench.split(seed=fake_worker.GATED)
    bench.wait_for(lambda: len(bench.separated()) == 1, "the first step")
    began = time.monotonic()
    bench.hold(seconds)
    (bench.folder / "gate").touch()
    bench.wait_for(lambda: len(bench.separated()) >= 2, "the step that had begun")
    return began


def test_a_step_that_has_begun_ends_and_the_next_waits_until_the_lease_is_over(bench: Bench) -> None:
    began = begin_and_hold(bench, LEASE_S)
    bench.wait_for(lambda: bool(bench.all_of(JobDone)), "the end of the job")
    assert len(bench.separated()) == SECONDS
    # A lease cannot be over before its time, however slow the machine is.
    assert bench.separated()[2] - began >= LEASE_S


def test_a_hold_is_replaced_by_the_next_and_lifted_by_zero(bench: Bench) -> None:
    bench.start()
    bench.supervisor.send(Hold(FOREVER_S))
    bench.orders += 1
    bench.split()
    began = time.monotonic()
    bench.hold(LEASE_S)
    bench.wait_for(lambda: len(bench.stages()) > 1, "the shorter lease to be over")
    assert time.monotonic() - began >= LEASE_S
    bench.wait_for(lambda: bool(bench.all_of(JobDone)), "the end of the job")
    bench.supervisor.send(Hold(FOREVER_S))
    bench.orders += 1
    bench.split("b")
    bench.wait_for(lambda: bench.stages()[-1] == "load", "the second job")
    bench.hold(0)
    bench.wait_for(lambda: len(bench.all_of(JobDone)) == 2, "the end of the second job")


def test_a_job_that_is_held_is_cancelled_at_once(bench: Bench) -> None:
    begin_and_hold(bench, FOREVER_S)
    bench.supervisor.send(Hold(FOREVER_S))
    bench.supervisor.send(CancelJob("a"))
    bench.wait_for(lambda: bool(bench.all_of(JobStopped)), "the job to stop")
    assert len(bench.separated()) == 2 and not bench.all_of(JobDone)
    assert not (bench.folder / "out").exists()


def test_a_job_that_is_held_from_its_start_is_cancelled_before_anything_is_loaded(bench: Bench) -> None:
    bench.start()
    bench.supervisor.send(Hold(FOREVER_S))
    bench.split()
    bench.supervisor.send(CancelJob("a"))
    bench.wait_for(lambda: bool(bench.all_of(JobStopped)), "the job to stop")
    assert bench.stages() == ["load"] and not bench.all_of(Models)


def test_a_worker_that_starts_under_a_hold_is_told(bench: Bench) -> None:
    bench.supervisor.hold(LONGEST_HOLD_S)
    bench.start()
    bench.orders += 1
    bench.split()
    wait_until((bench.folder / "taken-2").exists, "both orders to be taken", 20)
    bench.hold(0)
    bench.wait_for(lambda: bool(bench.all_of(JobDone)), "the end of the job")


def test_no_hold_is_longer_than_a_client_that_died_may_cost() -> None:
    asked = [-1.0, 0.0, 3.0, 60.0, np.inf, -np.inf, np.nan]
    assert [Hold.of(seconds).seconds for seconds in asked] == [0, 0, 3, 10, 10, 0, 0]
