"""While REAPER records no step begins: the real worker under a hold, lifted, left to lapse, cancelled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from daemon_harness import wait_until
from stembridge_daemon.worker_messages import (
    LONGEST_HOLD_S,
    CancelJob,
    Hold,
    JobDone,
    JobStopped,
    Models,
)
from worker_bench import SECONDS, WorkerBench

LEASE_S = 0.7
FOREVER_S = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerBench]:
    context: zmq.Context[Any] = zmq.Context()
    bench = WorkerBench(context, tmp_path)
    yield bench
    bench.supervisor.close(timeout_s=0.5)
    context.term()


def begin_and_hold(bench: WorkerBench, seconds: float) -> float:
    """Hold a job within its second step, let that step end, and return a time before the hold began."""
    bench.start()
    bench.begin_gated()
    began = time.monotonic()
    bench.hold(seconds)
    bench.open_gate()
    bench.wait_for(lambda: len(bench.separated()) >= 2, "the step that had begun")
    return began


def test_a_step_that_has_begun_ends_and_the_next_waits_until_the_lease_is_over(bench: WorkerBench) -> None:
    began = begin_and_hold(bench, LEASE_S)
    bench.wait_for(lambda: bool(bench.all_of(JobDone)), "the end of the job")
    assert len(bench.separated()) == SECONDS
    # A lease cannot be over before its time, however slow the machine is.
    assert bench.separated()[2] - began >= LEASE_S


def test_a_hold_is_replaced_by_the_next_and_lifted_by_zero(bench: WorkerBench) -> None:
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


def test_a_job_that_is_held_is_cancelled_at_once(bench: WorkerBench) -> None:
    begin_and_hold(bench, FOREVER_S)
    bench.supervisor.send(Hold(FOREVER_S))
    bench.supervisor.send(CancelJob("a"))
    bench.wait_for(lambda: bool(bench.all_of(JobStopped)), "the job to stop")
    assert len(bench.separated()) == 2 and not bench.all_of(JobDone)
    assert not (bench.folder / "out").exists()


def test_a_job_that_is_held_from_its_start_is_cancelled_before_anything_is_loaded(bench: WorkerBench) -> None:
    bench.start()
    bench.supervisor.send(Hold(FOREVER_S))
    bench.split()
    bench.supervisor.send(CancelJob("a"))
    bench.wait_for(lambda: bool(bench.all_of(JobStopped)), "the job to stop")
    assert bench.stages() == ["load"] and not bench.all_of(Models)


def test_a_worker_that_starts_under_a_hold_is_told(bench: WorkerBench) -> None:
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
