"""Real daemons in processes of their own, started, killed and looked at by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stembridge import daemon_process
from stembridge.client import Client
from stembridge.settings import Settings, load_settings

LIMIT_S = 60.0
FOLLOWS_PARENT = """
import os, sys, threading, time

def follow():
    while os.getppid() == {parent}:
        time.sleep(1.0)
    os._exit(1)

threading.Thread(target=follow, daemon=True).start()
"""
"""How a program begins that does not outlive a test run which is killed."""

_PROGRAM = f"""{FOLLOWS_PARENT}
from stembridge_daemon.app import main
sys.exit(main(*{{arguments!r}}))
"""


def wait_until(is_true: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Return once ``is_true``; fail with ``what`` was awaited after ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    while not is_true():
        assert time.monotonic() < deadline, f"waited {limit_s:.0f} s for {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class DaemonHarness:
    """Starts daemons under one home; `close` ends whatever is left of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings: Settings = load_settings(home=home, environ={})
        self.processes: list[subprocess.Popen[bytes]] = []
        self._worker_pids: set[int] = set()

    def start(
        self,
        *flags: str,
        failpoint: str = "",
        once: Path | None = None,
        worker: list[str] | None = None,
        renderer: list[str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a daemon and wait until it answers (or has ended)."""
        environment = daemon_process.cleaned_environment(os.environ)
        if failpoint:
            environment["STEMBRIDGE_FAILPOINT"] = f"{failpoint}@{once}"
        arguments = ["--home", str(self.home), *flags]
        program = _PROGRAM.format(parent=os.getpid(), arguments=(arguments, worker, renderer))
        process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        self.processes.append(process)
        wait_until(
            lambda: process.poll() is not None or self._answers(process.pid), "the daemon to start or to end"
        )
        return process

    def client(self, *, start: bool = False, deadline_s: float = 30.0) -> Client:
        return Client(self.settings, start=start, deadline_s=deadline_s)

    def worker_pid(self, role: str = "separate") -> int:
        """Return the pid of the worker of that role, once there is one."""
        found: list[int] = []

        def has_worker() -> bool:
            with self.client() as client:
                (pid,) = [worker.pid for worker in client.status().workers if worker.role == role]
            found[:] = [pid] if pid else []
            return bool(found)

        wait_until(has_worker, f"a worker that is there to {role}")
        self._worker_pids.add(found[0])
        return found[0]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a daemon as `kill -9` does."""
        process.kill()
        process.wait()

    def adopt(self) -> None:
        """Take note of a daemon that a client started, and of its worker, so that `close` ends them."""
        with self.client() as client:
            self._worker_pids |= {worker.pid for worker in client.status().workers if worker.pid}

    def close(self) -> None:
        connection = daemon_process.find(self.settings)
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        if connection is not None and is_alive(connection.pid):
            os.kill(connection.pid, signal.SIGKILL)
        for pid in self._worker_pids:
            wait_until(lambda pid=pid: not is_alive(pid), "the worker to end with its daemon")  # type: ignore[misc]

    def _answers(self, pid: int) -> bool:
        connection = daemon_process.find(self.settings)
        return connection is not None and connection.pid == pid
