"""Notifications on the desktop, where the system has a command for them; many events become one.

What is shown contains names of files, which anybody may have chosen. Text goes to the command as arguments
or, where those would be read as code, in its environment; no shell and no script is ever made of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Protocol

from stembridge.text import one_line, shorten

LEAST_GAP_S = 10.0
LONGEST_GAP_S = 600.0
"""Between two notifications: doubled as long as events go on, so that a backlog of hours shows a few."""
HANG_S = 30.0
_END_S = 1.0
_NAME_CELLS, _TEXT_CELLS = 50, 180
_TOAST_TITLE, _TOAST_TEXT = "STEMBRIDGE_TOAST_TITLE", "STEMBRIDGE_TOAST_TEXT"
_APPLESCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)
_POWERSHELL = "WindowsPowerShell/v1.0/powershell.exe"
_CENTER = "Windows.UI.Notifications.ToastNotificationManager"
# A toast needs an application that the start menu knows; Windows PowerShell is one on every machine.
_TOAST = f"""
$ErrorActionPreference = 'Stop'
$null = [{_CENTER}, Windows.UI.Notifications, ContentType=WindowsRuntime]
$page = [{_CENTER}]::GetTemplateContent('ToastText02')
$texts = $page.GetElementsByTagName('text')
$null = $texts.Item(0).AppendChild($page.CreateTextNode($env:{_TOAST_TITLE}))
$null = $texts.Item(1).AppendChild($page.CreateTextNode($env:{_TOAST_TEXT}))
$toast = [Windows.UI.Notifications.ToastNotification]::new($page)
$id = '{{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}}\\WindowsPowerShell\\v1.0\\powershell.exe'
[{_CENTER}]::CreateToastNotifier($id).Show($toast)
"""


class Running(Protocol):
    """A process that shows a notification."""

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


Run = Callable[[Sequence[str], Mapping[str, str]], Running]
"""Starts a command, with that much beside our own environment, and does not wait for it."""


@dataclass(frozen=True, slots=True)
class _News:
    title: str
    text: str
    is_failure: bool


class Notifier:
    """Tells a person what became of files, and is never in the way of whoever calls.

    Parameters
    ----------
    is_on : the user's own choice
    clock : monotonic seconds
    run, find, environ, platform : how a command is started and found, and on which system
    """

    def __init__(
        self,
        is_on: bool = True,
        clock: Callable[[], float] = time.monotonic,
        run: Run | None = None,
        find: Callable[[str], str | None] = shutil.which,
        environ: Mapping[str, str] | None = None,
        platform: str = sys.platform,
    ) -> None:
        self._clock = clock
        self._run = run or _start
        self._make = _find_command(platform, find, os.environ if environ is None else environ)
        self._is_on = is_on and self._make is not None
        self._gathered: list[_News] = []
        self._running: Running | None = None
        self._shown_at: float | None = None
        self._gap_s = LEAST_GAP_S

    @property
    def is_available(self) -> bool:
        """Whether notifications are wanted and this system has a way to show them."""
        return self._is_on

    def done(self, name: str, folder: str) -> None:
        """Tell that a file is done, and where its stems are."""
        text = shorten(one_line(folder), _TEXT_CELLS, one_line(Path(folder).name))
        self._take(_News(f"{_fit(name)} is done", text, is_failure=False))

    def failed(self, name: str, cause: str) -> None:
        """Tell that a file has failed, and why."""
        self._take(_News(f"{_fit(name)} has failed", cause, is_failure=True))

    def next_due(self) -> float | None:
        """Return when, by the clock, `flush` has something to do; None where it has nothing."""
        self._reap(self._clock())
        if self._running is not None:
            return (self._shown_at or 0.0) + HANG_S
        return self._next_at(self._clock()) if self._gathered else None

    def flush(self) -> None:
        """Show what was gathered, if it is time."""
        now = self._clock()
        self._reap(now)
        if self._gathered and self._running is None and now >= self._next_at(now):
            self._show(now)

    def close(self) -> None:
        """Show what is left, and end the command that shows it if it takes longer than a moment."""
        self._end_running()
        if self._gathered and self._is_on:
            self._show(self._clock())
            self._end_running()

    def _take(self, news: _News) -> None:
        if not self._is_on:
            return
        if self._shown_at is not None and self._clock() >= self._shown_at + 2 * self._gap_s:
            self._gap_s = LEAST_GAP_S
        self._gathered.append(news)
        self.flush()

    def _next_at(self, now: float) -> float:
        return now if self._shown_at is None else self._shown_at + self._gap_s

    def _show(self, now: float) -> None:
        assert self._make is not None
        title, text = _summarise(self._gathered)
        if len(self._gathered) > 1:
            self._gap_s = min(2 * self._gap_s, LONGEST_GAP_S)
        self._gathered.clear()
        self._shown_at = now
        try:
            self._running = self._run(*self._make(title, text))
        except (OSError, ValueError):
            self._is_on = False

    def _reap(self, now: float) -> None:
        if self._running is None:
            return
        if self._running.poll() is None:
            if now < (self._shown_at or 0.0) + HANG_S:
                return
            self._running.kill()
            self._running.wait()
        self._running = None

    def _end_running(self) -> None:
        if self._running is None:
            return
        try:
            self._running.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None


def _summarise(news: Sequence[_News]) -> tuple[str, str]:
    """Return title and text of one notification, each one line that fits."""
    if len(news) == 1:
        title, text = news[0].title, news[0].text
    else:
        failures = [one for one in news if one.is_failure]
        done = len(news) - len(failures)
        parts = [f"{done} file{'s' * (done != 1)} done"] * bool(done)
        parts += [f"{len(failures)} failed"] * bool(failures)
        title = ", ".join(parts)
        text = f"{failures[-1].title}: {failures[-1].text}" if failures else f"last: {news[-1].text}"
    return title, shorten(one_line(text), _TEXT_CELLS)


def _fit(name: str) -> str:
    return shorten(one_line(name), _NAME_CELLS)


_Make = Callable[[str, str], tuple[list[str], dict[str, str]]]
"""Title and text to a command and what its environment gets."""


def _find_command(
    platform: str, find: Callable[[str], str | None], environ: Mapping[str, str]
) -> _Make | None:
    """Return what makes this system's command, or None where it has none or nobody would see it."""
    if platform == "win32":
        # By its name alone it would be looked for first in the folder where we stand, maybe a watched one.
        system = PureWindowsPath(environ.get("SYSTEMROOT") or "C:\\Windows")
        name, compose = str(system / "System32" / _POWERSHELL), _compose_toast
    elif platform == "darwin":
        name, compose = "osascript", _compose_applescript
    else:
        if not environ.get("DISPLAY") and not environ.get("WAYLAND_DISPLAY"):
            return None
        name, compose = "notify-send", _compose_notify_send
    program = find(name)
    return None if program is None else lambda title, text: compose(program, title, text)


def _compose_notify_send(program: str, title: str, text: str) -> tuple[list[str], dict[str, str]]:
    # The text is markup, and notify-send itself turns \n and the like into what they stand for.
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\\", "\\\\")
    return [program, "--app-name=Stembridge", "--", title, shown], {}


def _compose_applescript(program: str, title: str, text: str) -> tuple[list[str], dict[str, str]]:
    lines = [part for line in _APPLESCRIPT for part in ("-e", line)]
    # osascript ends its own options at the first argument that is none.
    return [program, *lines, f"Stembridge: {title}", text], {}


def _compose_toast(program: str, title: str, text: str) -> tuple[list[str], dict[str, str]]:
    options = ["-NoProfile", "-NonInteractive", "-WindowStyle", "Hidden", "-Command", _TOAST]
    return [program, *options], {_TOAST_TITLE: title, _TOAST_TEXT: text}


def _start(command: Sequence[str], more: Mapping[str, str]) -> Running:
    options: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        options = {"creationflags": subprocess.CREATE_NO_WINDOW}  # type: ignore[attr-defined,unused-ignore]
    return subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **more},
        **options,
    )
