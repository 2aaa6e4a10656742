"""Keeps `stembridge watch` running beside the daemon, for the folders that are to be watched.

The watcher is a process of its own and a client like any other: scans, hashes and a ledger are no work for
the front. It goes on as long as the pipe to its stdin is open, so it ends with the front, whatever ends that.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stembridge.daemon_process import cleaned_environment
from stembridge.settings import Settings
from stembridge.text import one_line

logger = logging.getLogger(__name__)

PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Before a watcher that has ended is started again: its folder may be watched elsewhere, or be away."""
SOUND_S = 60.0
"""A watcher that has run for so long was sound: the pauses begin anew."""

KILLED_S = 5.0
"""Until the system has taken away a process that was killed, on a busy machine."""


class WatchChild:
    """The watcher of one daemon; `close` ends it.

    Parameters
    ----------
    folders : what is watched
    settings : the daemon's
    command : command line of the watcher; a test brings its own
    pauses_s : before a start that comes after an end; the last one is for all further ones
    clock : monotonic seconds
    """

    def __init__(
        self,
        folders: Sequence[Path],
        settings: Settings,
        *,
        command: Sequence[str] | None = None,
        pauses_s: Sequence[float] = PAUSES_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = list(command or _make_command(folders, settings.model_dirs))
        self._environment = _make_environment(settings, os.environ)
        self._folders = one_line(", ".join(map(str, folders)))
        self._log_file = settings.watch_log_file
        self._pauses_s = pauses_s
        self._clock = clock
        self._lock = threading.Lock()
        self._leaving = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="watch", daemon=True)

    def start(self) -> None:
        """Start the watcher, and a thread that starts it again when it ends."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the watcher to leave by closing its stdin."""
        self._leaving.set()
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()

    def close(self, timeout_s: float) -> None:
        """End the watcher, kindly for ``timeout_s`` seconds, and the thread that listens to it."""
        self.stop()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            with self._lock:
                if self._process is not None:
                    logger.warning("watcher %d killed: it did not leave", self._process.pid)
                    self._process.kill()
            self._thread.join(KILLED_S)

    def _keep_running(self) -> None:
        output = _open_log(self._log_file)
        ends, told = 0, ""
        try:
            while not self._leaving.is_set():
                started = self._clock()
                reason = self._run_once(output)
                if self._leaving.is_set():
                    return
                ends = 0 if self._clock() - started >= SOUND_S else ends
                pause_s = self._pauses_s[min(ends, len(self._pauses_s) - 1)]
                ends += 1
                # The same again every minute would hide what else is in the log.
                level = logging.DEBUG if reason == told else logging.ERROR
                logger.log(level, "the watcher ended: %s; it is started again in %g s", reason, pause_s)
                told = reason
                self._leaving.wait(pause_s)
        finally:
            for handler in output.handlers:
                handler.close()

    def _run_once(self, output: logging.Logger) -> str:
        """Run the watcher to its end and return how it ended, with its last words if it ended itself."""
        with self._lock:
            if self._leaving.is_set():
                return ""
            try:
                self._process = process = _spawn(self._command, self._environment)
            except (OSError, ValueError) as error:
                return f"cannot be started: {error}"
        logger.info("watcher %d started: %s", process.pid, self._folders)
        assert process.stdout is not None and process.stdin is not None
        last = ""
        with process.stdout as lines:
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                output.info(text)
                last = text or last
        code = process.wait()
        with self._lock, suppress(OSError):
            process.stdin.close()
        if code < 0:
            return f"signal {-code}"
        return f"exit code {code}: {last}" if last else f"exit code {code}"


def _make_command(folders: Sequence[Path], model_dirs: Sequence[Path]) -> list[str]:
    models = [part for path in model_dirs for part in ("--model-dir", str(path))]
    command = [sys.executable, "-P", "-m", "stembridge.cli", "watch", "--of-daemon", *models]
    return [*command, "--", *map(str, folders)]


def _make_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the watcher's environment: the daemon's home, and lines that come at once, as UTF-8."""
    made = cleaned_environment(environ)
    made |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    return made | ({"STEMBRIDGE_HOME": str(settings.home)} if settings.home is not None else {})


def _spawn(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined,unused-ignore]
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        **options,
    )


def _open_log(path: Path) -> logging.Logger:
    """Return what writes the watcher's lines into its own log, with the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=5_000_000, backupCount=1, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    output = logging.Logger("watch")
    output.addHandler(handler)
    return output
