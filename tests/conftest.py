"""Fixtures of every test: a home of its own, and nothing left behind: no thread, socket or temporary file."""

from __future__ import annotations

import gc
import importlib.util
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from daemon_harness import DaemonHarness
from model_place import Place, serve_models
from script_modules import forget_scripts
from stembridge import daemon_process
from stembridge.settings import Settings

# diffq is no dependency. Left out rather than skipped: a skipped test is a failure in .ci/run, which installs
# diffq for this one file.
collect_ignore = [] if importlib.util.find_spec("diffq") else ["daemon/test_diffq_agreement.py"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has put this run into the background: all that tests start would ignore Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_OPEN_FILES = Path("/proc/self/fd")
_SOCKET_KINDS = ("socket:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""What an open socket, one of zmq among them, and a zmq context look like in `_OPEN_FILES`."""
_SOCKET_FOLDER = re.compile(r"stembridge-\d+-[0-9a-f]{12}")


@pytest.fixture(autouse=True)
def fresh_scripts() -> Iterator[None]:
    """Leave no module of REAPER's scripts behind."""
    yield
    forget_scripts()


@pytest.fixture(autouse=True)
def no_thread_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread running which it started."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=5)
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert not left, f"threads left running: {left}"


@pytest.fixture(autouse=True)
def no_socket_leaks() -> Iterator[None]:
    """Fail a test that leaves a socket or a zmq context open; only Linux can tell."""
    before = _open_sockets()
    yield
    if _open_sockets() - before:
        # A traceback that pytest has dropped by now may have held on to one.
        gc.collect()
    left = sorted(_open_sockets() - before)
    assert not left, f"sockets left open: {left}"


def _open_sockets() -> set[tuple[str, str]]:
    """Return number and kind of every open socket of this process."""
    found = set()
    for entry in _OPEN_FILES.iterdir() if _OPEN_FILES.exists() else ():
        try:
            kind = str(entry.readlink())
        except FileNotFoundError:
            continue
        if kind.startswith(_SOCKET_KINDS):
            found.add((entry.name, kind))
    return found


@pytest.fixture(autouse=True)
def no_temp_leaks(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fail a test that leaves anything in the temporary folder, in this process or in one that it starts."""
    # pytest makes its own folder once, where the temporary folder is at that time.
    tmp_path_factory.getbasetemp()
    # Short, because sockets lie in it too.
    folder = Path(tempfile.mkdtemp(prefix="sb"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    # The empty folder of a socket stays: the next daemon of that home takes it again.
    left = sorted(path.name for path in folder.rglob("*") if not _SOCKET_FOLDER.fullmatch(path.name))
    shutil.rmtree(folder)
    assert not left, f"temporary files left: {left}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A STEMBRIDGE_HOME of its own, for this process and those that it starts.

    Without the fixture `daemon` nobody would end a daemon, so a test that starts one by mistake fails.
    """
    if "daemon" not in request.fixturenames:
        monkeypatch.setattr(daemon_process, "_spawn", _refuse_daemon)
    home = tmp_path / "home"
    monkeypatch.setenv("STEMBRIDGE_HOME", str(home))
    monkeypatch.setenv("HOME", str(tmp_path))
    return home


def _refuse_daemon(settings: Settings, flags: Sequence[str]) -> NoReturn:
    raise AssertionError(f"a daemon is started under {settings.home}, and this test has not asked for one")


@pytest.fixture
def daemon(home: Path) -> Iterator[DaemonHarness]:
    """A harness that can start, kill and restart real daemons under ``home``; they end with the test."""
    harness = DaemonHarness(home)
    yield harness
    harness.close()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A loopback server in the place of the official ones, holding htdemucs on the hub."""
    monkeypatch.setenv("no_proxy", "*")
    with serve_models() as held:
        yield held
