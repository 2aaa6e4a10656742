"""A terminal for programs that behave differently on one, and what a person would see on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from types import TracebackType

LIMIT_S = 60.0
_STEP = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """Runs one `stembridge` command with stderr, and stdout unless ``is_piped``, on a terminal."""

    def __init__(self, *arguments: str, columns: int = 80, is_piped: bool = False) -> None:
        self._seen = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {name: text for name, text in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from stembridge.cli import run; run()", *arguments],
            stdin=slave,
            stdout=subprocess.PIPE if is_piped else slave,
            stderr=slave,
            env={**environment, "TERM": "xterm"},
        )
        os.close(slave)

    def read_until(self, is_enough: Callable[[str], bool]) -> str:
        """Return all that was written so far, once it ``is_enough`` or the command has ended."""
        while not is_enough(self.text):
            try:
                block = os.read(self._master, 65536)
            except OSError:
                break
            if not block:
                break
            self._seen += block
        return self.text

    @property
    def text(self) -> str:
        return self._seen.decode("utf-8", "replace")

    def finish(self) -> tuple[int, str, list[str]]:
        """Return the exit code, what went into the pipe, and the lines on the screen."""
        self.read_until(lambda text: False)
        piped = self.process.stdout.read() if self.process.stdout is not None else b""
        return self.process.wait(LIMIT_S), piped.decode(), screen_of(self.text)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._master)


def screen_of(text: str) -> list[str]:
    """Return the lines that stand on a screen of any height after ``text``; colours are dropped."""
    lines, row = [""], 0
    for step in _STEP.finditer(text):
        match step.group(2), step.group():
            case "A", _:
                row = max(0, row - int(step.group(1) or 1))
            case "K", _:
                lines[row] = ""
            case None, "\r":
                # What follows overwrites: rich always clears the line as well.
                pass
            case None, "\n":
                row += 1
                lines += [""] * (row - len(lines) + 1)
            case None, words:
                lines[row] += words
    return lines
