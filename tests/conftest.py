"""Fixtures of every test: a home of its own, and nothing left running behind it."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon_harness import DaemonHarness

# diffq is no dependency. Left out rather than skipped: a skipped test is a failure in .ci/run, which installs
# diffq for this one file.
collect_ignore = [] if importlib.util.find_spec("diffq") else ["daemon/test_diffq_agreement.py"]


@pytest.fixture(autouse=True)
def no_thread_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread running which it started."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert not left, f"threads left running: {left}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A STEMBRIDGE_HOME of its own, for this process and those that it starts."""
    home = tmp_path / "home"
    monkeypatch.setenv("STEMBRIDGE_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path))
    return home


@pytest.fixture
def daemon(home: Path) -> Iterator[DaemonHarness]:
    """A harness that can start, kill and restart real daemons under ``home``; they end with the test."""
    harness = DaemonHarness(home)
    yield harness
    harness.close()
