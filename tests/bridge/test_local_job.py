"""Work in this process: what is shown of it, how long it takes yet, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator

import pytest

from stembridge.errors import SourceError
from stembridge.local_job import ctrl_c_answered, ended_like_ctrl_c, run_here
from stembridge.types import Job, JobState, Progress, RemixRequest, SplitResult

JOB = Job("id", None, JobState.QUEUED, created=0.0, remix=RemixRequest("set", "out", "karaoke"))
RESULT = SplitResult("folder", 1.0, 0.0, 1.0, None)

Steps = Generator[Progress, None, SplitResult]


def test_a_job_is_shown_at_every_step_and_at_its_end() -> None:
    def work() -> Steps:
        yield Progress("read", 0.0)
        yield Progress("close", 0.5)
        return RESULT

    shown: list[Job] = []
    done = run_here(work(), JOB, shown.append)
    assert [job.state for job in shown] == ["running", "running", "done"]
    assert [job.progress.stage for job in shown if job.progress] == ["read", "close"]
    assert done == shown[-1] and done.result == RESULT


def test_the_time_that_is_left_is_told() -> None:
    times = iter([100.0, 110.0])

    def work() -> Steps:
        yield Progress("close", 0.5)
        return RESULT

    shown: list[Job] = []
    run_here(work(), JOB, shown.append, lambda: next(times))
    assert shown[0].progress is not None and shown[0].progress.eta_s == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("error", "state"), [(SourceError("no"), JobState.FAILED), (KeyboardInterrupt(), JobState.CANCELLED)]
)
def test_an_error_ends_the_steps_and_is_shown_as_an_end(error: BaseException, state: JobState) -> None:
    closed: list[str] = []

    def work() -> Steps:
        try:
            yield Progress("read", 0.0)
            raise error
        finally:
            closed.append("closed")

    shown: list[Job] = []
    with pytest.raises(type(error)):
        run_here(work(), JOB, shown.append)
    assert shown[-1].state is state and closed == ["closed"]


def test_an_error_of_whoever_looks_on_closes_the_steps_too() -> None:
    closed: list[str] = []

    def work() -> Steps:
        try:
            yield Progress("read", 0.0)
        finally:
            closed.append("closed")
        return RESULT

    def show(job: Job) -> None:
        if not job.state.is_final:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here(work(), JOB, show)
    assert closed == ["closed"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_end_of_a_terminal_ends_the_work_as_ctrl_c_does(name: str) -> None:
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(KeyboardInterrupt), ended_like_ctrl_c():
        os.kill(os.getpid(), getattr(signal, name))
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_job_under_nohup_outlives_its_terminal() -> None:
    work = (
        "import os, signal\n"
        "from stembridge.local_job import ended_like_ctrl_c\n"
        "with ended_like_ctrl_c():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('still at work', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    # As nohup begins its command.
    child = subprocess.run(
        ["sh", "-c", 'trap "" HUP; exec "$0" -c "$1"', sys.executable, work],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.stdout == "still at work\n" and "KeyboardInterrupt" in child.stderr


def test_ctrl_c_is_answered_before_the_work_has_ended(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    told: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt), ctrl_c_answered():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                # Where threads are waited for.
                told.append(capfd.readouterr().err)
        assert told == ["\ncancelling ...\n"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ctrl_c_answered():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
