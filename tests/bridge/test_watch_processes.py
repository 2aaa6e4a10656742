"""Whether a process that has written something still runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from stembridge.watch.processes import is_running_since


def test_one_that_runs_is_the_one_of_then_unless_it_began_later() -> None:
    assert is_running_since(os.getpid(), time.time())
    if sys.platform in ("linux", "win32"):
        assert not is_running_since(os.getpid(), 0.0)


def test_one_of_another_user_runs_too() -> None:
    assert is_running_since(1 if sys.platform != "win32" else 4, time.time())


def test_one_that_has_ended_does_not_run_even_before_it_is_fetched() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.read()
    if sys.platform == "linux":
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running_since(process.pid, time.time())
    process.wait(20)
    assert not is_running_since(process.pid, time.time())


@pytest.mark.parametrize("pid", [0, -1, 1 << 40, 1 << 62])
def test_a_number_that_is_none_does_not_run(pid: int) -> None:
    assert not is_running_since(pid, time.time())
