"""Processes aside for what the front cannot do itself: it loads no numeric library and never waits.

Each runs `stembridge.reaper.errands` with its arguments on stdin and says how it stands on stdout, one JSON
object a line; both are files, so that nobody ever waits for the other.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stembridge.daemon_process import cleaned_environment
from stembridge.errors import Busy
from stembridge.reaper.house import Errand
from stembridge.settings import Settings
from stembridge.types import ErrorInfo

logger = logging.getLogger(__name__)

_ENDINGS = ("in", "out", "err")
MAX_RUNNING = 4
MAX_KEPT = 64
PASSING = ("fetch_model",)
"""Errands whose end says nothing of how things stand now: asked for again, they run again."""


class _Line(msgspec.Struct, frozen=True):
    """What an errand says: how far it is, or what came of it."""

    text: str = ""
    fraction: float | None = None
    result: Any = None
    error: ErrorInfo | None = None


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    output: Path
    last: Errand


class Errands:
    """The errands of one daemon; `close` ends those that run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.state_dir / "errands"
        self._running: dict[str, _Running] = {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, kind: str, arguments: dict[str, Any]) -> str:
        """Start an errand and return its id; one with the same arguments that has not failed is the same one.

        One of `PASSING` is the same only while it runs.

        Raises
        ------
        Busy
            As many run as may.
        """
        told = msgspec.json.encode([kind, arguments])
        errand_id = hashlib.sha256(told).hexdigest()[:16]
        known = self.find(errand_id)
        if known is not None and known.error is None and not (known.is_over and kind in PASSING):
            return errand_id
        if sum(1 for one in self._running.values() if one.process.poll() is None) >= MAX_RUNNING:
            raise Busy(f"{MAX_RUNNING} errands run already", "try again in a moment")
        self._forget_oldest()
        self._folder.mkdir(parents=True, exist_ok=True)
        given, output, trace = (self._folder / f"{errand_id}.{end}" for end in _ENDINGS)
        given.write_bytes(told)
        command = [sys.executable, "-P", "-m", "stembridge.reaper.errands"]
        if self._settings.home is not None:
            command += ["--home", str(self._settings.home)]
        for folder in self._settings.model_dirs:
            command += ["--model-dir", str(folder)]
        with given.open("rb") as stdin, output.open("wb") as stdout, trace.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=cleaned_environment(os.environ),
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        logger.info("errand %s: %s, process %d", errand_id, kind, process.pid)
        self._running[errand_id] = _Running(process, output, Errand(errand_id))
        return errand_id

    def find(self, errand_id: str) -> Errand | None:
        """Return how an errand stands, or None where this daemon has not started it."""
        running = self._running.get(errand_id)
        if running is None:
            return None
        if not running.last.is_over:
            # Asked before the output is read: what a process that has ended wrote is all there.
            code = running.process.poll()
            running.last = _read_output(errand_id, running.output, code)
            if code:
                trace = running.output.with_suffix(".err").read_text("utf-8", "replace")
                logger.error("errand %s ended with code %d: %s", errand_id, code, trace.strip())
        return running.last

    def close(self) -> None:
        """End what runs and remove what was written for it."""
        for running in self._running.values():
            if running.process.poll() is None:
                running.process.kill()
            running.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _forget_oldest(self) -> None:
        over = [name for name, one in self._running.items() if one.process.poll() is not None]
        for name in over[: max(0, len(self._running) - MAX_KEPT + 1)]:
            del self._running[name]
            for end in _ENDINGS:
                (self._folder / f"{name}.{end}").unlink(missing_ok=True)


def _read_output(errand_id: str, path: Path, code: int | None) -> Errand:
    try:
        # What stands behind the last newline is not whole yet.
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        lines = []
    last = next(_understood(reversed(lines)), _Line())
    if code is None:
        # Over once its process is: one that is started again must not find the one before still there.
        return Errand(errand_id, last.text, last.fraction)
    if last.result is None and last.error is None:
        error = ErrorInfo("internal", f"an errand ended with code {code}", "stembridge daemon logs")
        return Errand(errand_id, error=error)
    return Errand(errand_id, last.text, last.fraction, last.result, last.error)


def _understood(lines: Iterable[bytes]) -> Iterator[_Line]:
    """Yield what is said in ``lines``; a library may have printed something of its own in between."""
    for line in lines:
        with suppress(msgspec.MsgspecError):
            yield msgspec.json.decode(line, type=_Line)
