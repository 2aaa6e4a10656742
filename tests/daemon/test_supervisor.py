"""The worker process seen from its supervisor: ready, hung, asleep, dead, gone. Time is an argument."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from daemon_harness import wait_until
from stembridge.types import Progress
from stembridge_daemon.supervisor import Died, Supervisor, WorkerState, tuned_environment
from stembridge_daemon.worker_messages import (
    CancelJob,
    JobProgress,
    JobStopped,
    Models,
    Ready,
    Report,
    encode_line,
)

READY, LOAD = encode_line(Ready()), encode_line(JobProgress("a", Progress("load", 0.0)))
STEP = encode_line(JobProgress("a", Progress("separate", 0.5)))
TALKS = "import sys; o = sys.stdout.buffer; say = lambda b: (o.write(b), o.flush()); "


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A supervisor over a small program, and what it has said so far."""

    def __init__(self, context: zmq.Context[Any], folder: Path) -> None:
        self.context, self.folder, self.clock = context, folder, Clock()
        self.said: list[Report | Died] = []

    def start(self, program: str, step_stage: str | None = "separate") -> Supervisor:
        command = [sys.executable, "-c", TALKS + program]
        self.supervisor = Supervisor(
            command,
            os.environ,
            self.folder / "logs" / "worker.log",
            self.context,
            self.clock,
            step_stage=step_stage,
        )
        self.supervisor.start()
        return self.supervisor

    def let_pass(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1.0
            self.supervisor.check()

    def hear(self, kind: type) -> list[Any]:
        """Return what has been said so far, of one kind."""
        self.said += self.supervisor.receive()
        return [report for report in self.said if isinstance(report, kind)]

    def wait_for(self, kind: type) -> Any:
        wait_until(lambda: bool(self.hear(kind)), kind.__name__, 20)
        return self.hear(kind)[-1]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    context: zmq.Context[Any] = zmq.Context()
    bench = Bench(context, tmp_path)
    yield bench
    bench.supervisor.close(timeout_s=0.5)
    context.term()


def test_a_worker_is_idle_once_it_is_ready_and_ends_with_its_stdin(bench: Bench) -> None:
    supervisor = bench.start(f"say({READY!r}); sys.stdin.read()")
    states = [supervisor.state]
    bench.wait_for(Ready)
    states.append(supervisor.state)
    assert states == [WorkerState.STARTING, WorkerState.IDLE] and supervisor.starts == 1
    supervisor.stop()
    assert bench.wait_for(Died) == Died("exit code 0", was_asked=True)
    assert supervisor.state is WorkerState.ABSENT and supervisor.pid is None


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("sys.exit(3)", "exit code 3"),
        (f"say({READY!r}); say(b'this is no report\\n'); sys.stdin.read()", "no report"),
    ],
)
def test_a_death_comes_with_its_reason(program: str, reason: str, bench: Bench) -> None:
    bench.start(program)
    death = bench.wait_for(Died)
    assert reason in death.reason and not death.was_asked


def test_a_worker_that_does_not_move_is_killed_and_one_that_moves_is_not(bench: Bench) -> None:
    answers = "".join(f"sys.stdin.readline(); say({line!r})\n" for line in (LOAD, STEP, STEP))
    supervisor = bench.start(f"say({READY!r})\n{answers}sys.stdin.read()")
    bench.wait_for(Ready)
    supervisor.send(CancelJob("a"), is_job=True)
    bench.wait_for(JobProgress)
    assert supervisor.state is WorkerState.BUSY
    # A model may come from a slow disk, and the first step is the slowest.
    for silence in (300, 20):
        bench.let_pass(silence)
        assert supervisor.receive() == []
        bench.said.clear()
        supervisor.send(CancelJob("a"))
        bench.wait_for(JobProgress)
    # Steps have taken 20 s, so ten times that is patience enough and a few seconds more are not.
    bench.let_pass(199)
    assert supervisor.receive() == []
    bench.let_pass(3)
    assert "hung" in bench.wait_for(Died).reason


def test_a_worker_whose_steps_are_not_alike_is_given_the_same_time_for_all_of_them(bench: Bench) -> None:
    supervisor = bench.start(
        f"say({READY!r}); sys.stdin.readline(); say({STEP * 3!r}); sys.stdin.read()", None
    )
    bench.wait_for(Ready)
    supervisor.send(CancelJob("a"), is_job=True)
    wait_until(lambda: len(bench.hear(JobProgress)) == 3, "three steps", 20)
    bench.let_pass(599)
    assert supervisor.receive() == [] and supervisor.state is WorkerState.BUSY
    bench.let_pass(2)
    assert "hung: no progress for 600 s" in bench.wait_for(Died).reason


def test_a_machine_that_slept_does_not_make_the_worker_look_hung(bench: Bench) -> None:
    answers = f"sys.stdin.readline(); say({STEP!r})\n" * 2
    supervisor = bench.start(f"say({READY!r})\n{answers}sys.stdin.read()")
    bench.wait_for(Ready)
    supervisor.send(CancelJob("a"), is_job=True)
    bench.wait_for(JobProgress)
    bench.clock.now += 100_000.0
    supervisor.check()
    bench.let_pass(1)
    bench.said.clear()
    supervisor.send(CancelJob("a"))
    bench.wait_for(JobProgress)
    assert supervisor.state is WorkerState.BUSY


def test_a_worker_that_is_held_is_not_taken_for_hung(bench: Bench) -> None:
    answers = "".join(f"sys.stdin.readline(); say({line!r})\n" for line in (STEP, STEP))
    supervisor = bench.start(f"say({READY!r})\n{answers}sys.stdin.read()")
    bench.wait_for(Ready)
    supervisor.send(CancelJob("a"), is_job=True)
    bench.wait_for(JobProgress)
    bench.said.clear()
    supervisor.send(CancelJob("a"))
    bench.wait_for(JobProgress)
    # A minute of silence is too long for a worker whose steps took no time, unless it is told to be silent.
    for _ in range(40):
        supervisor.hold(5.0)
        bench.let_pass(5)
    bench.let_pass(59)
    assert supervisor.receive() == [] and supervisor.state is WorkerState.BUSY
    bench.let_pass(2)
    assert "hung: no progress for 60 s" in bench.wait_for(Died).reason


def test_the_time_of_a_hold_is_no_measure_of_a_step(bench: Bench) -> None:
    reads = "[sys.stdin.readline() for _ in range({})]; say({!r})\n".format
    answers = reads(1, STEP) + reads(11, STEP)
    supervisor = bench.start(f"say({READY!r})\n{answers}sys.stdin.read()")
    bench.wait_for(Ready)
    supervisor.send(CancelJob("a"), is_job=True)
    bench.wait_for(JobProgress)
    for _ in range(10):
        supervisor.hold(10.0)
        bench.let_pass(10)
    bench.said.clear()
    supervisor.send(CancelJob("a"))
    bench.wait_for(JobProgress)
    bench.let_pass(62)
    assert "hung: no progress for 60 s" in bench.wait_for(Died).reason


def test_stderr_goes_to_the_log_and_reports_come_in_order(bench: Bench) -> None:
    lines = [encode_line(Models((), 1, "cpu")), encode_line(JobStopped("a"))]
    bench.start(f"sys.stderr.write('a warning\\n'); say({READY!r}); say({lines[0]!r}); say({lines[1]!r})")
    bench.wait_for(Died)
    assert [type(report).__name__ for report in bench.said] == ["Ready", "Models", "JobStopped", "Died"]
    assert (bench.folder / "logs" / "worker.log").read_text() == "a warning\n"


def test_the_last_words_are_those_of_the_log(bench: Bench) -> None:
    supervisor = bench.start("sys.stderr.write('Traceback\\nno such library\\n\\n'); sys.exit(1)")
    bench.wait_for(Died)
    assert supervisor.last_words() == "no such library"
    (bench.folder / "logs" / "worker.log").unlink()
    assert supervisor.last_words() == "its log is empty"


def test_the_allocator_of_a_worker_is_tuned_where_there_is_one_to_tune(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert "mmap_threshold" in tuned_environment({"PATH": "/bin"})["GLIBC_TUNABLES"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "GLIBC_TUNABLES" not in tuned_environment({"PATH": "/bin"})
    assert tuned_environment({})["HF_HUB_OFFLINE"] == "1"
