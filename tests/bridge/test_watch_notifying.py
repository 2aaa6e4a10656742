"""Notifications: what is shown and when, whatever a file is called, and that nobody waits for them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import TimeoutExpired

import pytest

from daemon_harness import wait_until
from stembridge.watch.notifying import HANG_S, LEAST_GAP_S, LONGEST_GAP_S, Notifier

DESKTOP = {"DISPLAY": ":0"}
EVIL = [
    "$(touch pwned).wav",
    "`touch pwned`.wav",
    "'; touch pwned; '.wav",
    '" & (do shell script "touch pwned") & ".wav',
    "$env:PATH;Remove-Item x.wav",
    "-i.wav",
    "--action=x.wav",
    "%s%n.wav",
    "</text></toast>.wav",
]


class Shown:
    """A command that shows a notification until it is told to end."""

    def __init__(self, command: Sequence[str], more: Mapping[str, str]) -> None:
        self.command = list(command)
        self.more = dict(more)
        self.code: int | None = 0
        self.was_killed = False

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.was_killed, self.code = True, -9

    def wait(self, timeout: float | None = None) -> int:
        if self.code is None:
            raise TimeoutExpired(self.command, timeout or 0)
        return self.code


class Screen:
    """A desktop that keeps what was shown, and a clock that a test sets."""

    def __init__(self, platform: str = "linux", environ: Mapping[str, str] = DESKTOP) -> None:
        self.shown: list[Shown] = []
        self.now = 100.0
        self.hangs = False
        self.platform = platform
        self.environ = environ

    def notifier(self, is_on: bool = True) -> Notifier:
        return Notifier(
            is_on, lambda: self.now, self._run, lambda name: f"/bin/{name}", self.environ, self.platform
        )

    def _run(self, command: Sequence[str], more: Mapping[str, str]) -> Shown:
        one = Shown(command, more)
        one.code = None if self.hangs else 0
        self.shown.append(one)
        return one

    @property
    def texts(self) -> list[list[str]]:
        return [one.command[-2:] for one in self.shown]


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_one_file_is_told_at_once(screen: Screen) -> None:
    notifier = screen.notifier()
    notifier.done("beat.wav", "stems/beat__htdemucs__12345678")
    assert screen.shown[0].command == [
        "/bin/notify-send",
        "--app-name=Stembridge",
        "--",
        "beat.wav is done",
        "stems/beat__htdemucs__12345678",
    ]
    screen.now += LEAST_GAP_S
    notifier.failed("bad.wav", "it promises more")
    assert screen.texts[1] == ["bad.wav has failed", "it promises more"]


def test_a_burst_becomes_one(screen: Screen) -> None:
    notifier = screen.notifier()
    for number in range(13):
        notifier.done(f"{number}.wav", f"stems/{number}")
    notifier.failed("bad.wav", "it promises more")
    assert len(screen.shown) == 1
    due = notifier.next_due()
    assert due == 100 + LEAST_GAP_S
    screen.now = due
    notifier.flush()
    assert screen.texts[1] == ["12 files done, 1 failed", "bad.wav has failed: it promises more"]
    assert notifier.next_due() is None


@pytest.mark.parametrize(
    ("done", "failed", "title"),
    [(2, 0, "2 files done"), (1, 1, "1 file done, 1 failed"), (0, 3, "3 failed"), (1, 0, "last.wav is done")],
)
def test_what_a_burst_says(screen: Screen, done: int, failed: int, title: str) -> None:
    notifier = screen.notifier()
    notifier.done("first.wav", "stems/first")
    for _ in range(failed):
        notifier.failed("bad.wav", "why")
    for _ in range(done):
        notifier.done("last.wav", "stems/last")
    screen.now += LEAST_GAP_S
    notifier.flush()
    assert screen.texts[1][0] == title


def test_a_backlog_of_hours_shows_a_few(screen: Screen) -> None:
    notifier = screen.notifier()
    for number in range(3600):
        screen.now += 1
        notifier.done(f"{number}.wav", "stems")
        notifier.flush()
    assert 6 <= len(screen.shown) <= 15
    gap = notifier.next_due()
    assert gap is None or gap <= screen.now + LONGEST_GAP_S
    screen.now += 3 * LONGEST_GAP_S
    notifier.flush()
    count = len(screen.shown)
    screen.now += 2 * LONGEST_GAP_S
    notifier.done("next day.wav", "stems")
    assert len(screen.shown) == count + 1
    notifier.done("and another.wav", "stems")
    assert notifier.next_due() == screen.now + LEAST_GAP_S


def test_nothing_is_due_where_nothing_happened(screen: Screen) -> None:
    notifier = screen.notifier()
    assert notifier.next_due() is None
    notifier.flush()
    notifier.close()
    assert screen.shown == []


def test_a_command_that_hangs_is_ended_and_nobody_waits(screen: Screen) -> None:
    screen.hangs = True
    notifier = screen.notifier()
    notifier.done("a.wav", "stems/a")
    notifier.done("b.wav", "stems/b")
    screen.now += LEAST_GAP_S
    notifier.flush()
    assert len(screen.shown) == 1
    due = notifier.next_due()
    assert due == 100 + HANG_S
    screen.now = due
    screen.hangs = False
    notifier.flush()
    assert screen.shown[0].was_killed and screen.texts[1][0] == "b.wav is done"


def test_at_the_end_what_is_left_is_shown_and_nothing_runs_on(screen: Screen) -> None:
    notifier = screen.notifier()
    for name in ("a.wav", "b.wav", "c.wav"):
        notifier.done(name, "stems")
    screen.hangs = True
    notifier.close()
    assert screen.texts[1][0] == "2 files done"
    assert screen.shown[1].was_killed


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), OSError("no process"), ValueError("a NUL")])
def test_a_command_that_cannot_be_started_is_given_up(error: Exception) -> None:
    tries = []

    def run(command: Sequence[str], more: Mapping[str, str]) -> Shown:
        tries.append(command)
        raise error

    notifier = Notifier(True, lambda: 0.0, run, lambda name: name, DESKTOP, "linux")
    notifier.done("a.wav", "stems")
    notifier.failed("b.wav", "why")
    notifier.close()
    assert len(tries) == 1 and not notifier.is_available and notifier.next_due() is None


@pytest.mark.parametrize("is_on", [True, False])
def test_it_is_the_users_choice(screen: Screen, is_on: bool) -> None:
    notifier = screen.notifier(is_on)
    notifier.done("a.wav", "stems")
    notifier.close()
    assert notifier.is_available is is_on and len(screen.shown) == is_on


def test_where_nobody_sees_a_desktop_nothing_is_shown() -> None:
    assert not Screen(environ={}).notifier().is_available
    assert Screen(environ={"WAYLAND_DISPLAY": "wayland-0"}).notifier().is_available
    assert Screen("darwin", {}).notifier().is_available and Screen("win32", {}).notifier().is_available


def test_a_powershell_that_lies_in_a_folder_of_ours_is_never_asked_for() -> None:
    asked: list[str] = []

    def find(name: str) -> str:
        asked.append(name)
        return name

    Notifier(find=find, environ={"SYSTEMROOT": "D:\\Win"}, platform="win32")
    Notifier(find=find, environ={}, platform="win32")
    ending = "System32\\WindowsPowerShell\\v1.0\\powershell.exe"
    assert asked == [f"D:\\Win\\{ending}", f"C:\\Windows\\{ending}"]


def test_where_there_is_no_command_nothing_is_shown() -> None:
    notifier = Notifier(True, find=lambda _name: None, environ=DESKTOP, platform="linux")
    notifier.done("a.wav", "stems")
    notifier.close()
    assert not notifier.is_available


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_no_name_becomes_code_or_an_option(platform: str, name: str) -> None:
    screen, plain = Screen(platform), Screen(platform)
    screen.notifier().failed(name, name)
    plain.notifier().failed("a.wav", "why")
    (shown,), (usual,) = screen.shown, plain.shown
    assert len(shown.command) == len(usual.command)
    if platform == "win32":
        # Nothing of it is in what PowerShell reads as a script, which takes it from the environment.
        assert shown.command == usual.command
        assert all(f"($env:{variable})" in shown.command[-1] for variable in shown.more)
        assert shown.more == {
            "STEMBRIDGE_TOAST_TITLE": f"{name} has failed",
            "STEMBRIDGE_TOAST_TEXT": name,
        }
    else:
        assert shown.command[:-2] == usual.command[:-2]
        assert name in shown.command[-2]
    if platform == "linux":
        assert shown.command[-3] == "--"
    if platform == "darwin":
        assert not shown.command[-2].startswith("-")


def test_markup_and_escapes_are_shown_as_they_are(screen: Screen) -> None:
    screen.notifier().done("a.wav", r'C:\new\<b>R&B</b> <img src="x">')
    assert screen.texts[0][1] == r'C:\\new\\&lt;b&gt;R&amp;B&lt;/b&gt; &lt;img src="x"&gt;'


def test_a_long_or_broken_name_stays_a_line(screen: Screen) -> None:
    notifier = screen.notifier()
    notifier.done("n" * 5000 + "\n\x1b[2J\udce9.wav", "f" * 5000)
    title, text = screen.texts[0]
    assert len(title) <= 80 and len(text) <= 200
    assert title.isprintable() and text.isprintable() and title.endswith("... is done")


def test_where_the_stems_are_is_told_to_the_end(screen: Screen) -> None:
    screen.notifier().done("a.wav", "/very/long" * 40 + "/stems/a__htdemucs__12345678")
    assert screen.texts[0][1].endswith("...a__htdemucs__12345678")


def test_a_real_command_gets_the_text_unread_by_any_shell(tmp_path: Path) -> None:
    program = tmp_path / "notify-send"
    told = tmp_path / "told"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(told)!r} + '.new', 'w').write(json.dumps(sys.argv[1:]))\n"
        f"os.rename({str(told)!r} + '.new', {str(told)!r})\n"
    )
    program.chmod(0o755)
    notifier = Notifier(True, find=lambda _name: str(program), environ=DESKTOP, platform="linux")
    notifier.done("$(touch pwned) 'x' \"y\".wav", "stems")
    wait_until(told.exists, "the command to run")
    notifier.close()
    options = json.loads(told.read_text())
    assert options == ["--app-name=Stembridge", "--", "$(touch pwned) 'x' \"y\".wav is done", "stems"]
    assert not (Path.cwd() / "pwned").exists()


def test_a_real_command_that_hangs_is_gone_after_the_end(tmp_path: Path) -> None:
    program = tmp_path / "notify-send"
    pid_file = tmp_path / "pid"
    program.write_text(
        f"#!{sys.executable}\nimport os, time\n"
        f"open({str(pid_file)!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"os.rename({str(pid_file)!r} + '.new', {str(pid_file)!r})\ntime.sleep(600)\n"
    )
    program.chmod(0o755)
    notifier = Notifier(True, find=lambda _name: str(program), environ=DESKTOP, platform="linux")
    notifier.done("a.wav", "stems")
    wait_until(pid_file.exists, "the command to run")
    notifier.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
