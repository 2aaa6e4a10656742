"""The courier: a note in a file becomes a reply in a file, whatever becomes of the daemon meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from daemon_harness import DaemonHarness, wait_until
from stembridge import daemon_process
from stembridge.client import Client
from stembridge.errors import DaemonUnavailable
from stembridge.reaper import courier
from stembridge.reaper.courier import carry

NOTE = {"v": 1, "say": "cancel", "row": "none of ours"}


class Echo(Client):
    """A client whose daemon answers each note with the note, after what a test wants to happen before."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.before: Callable[[], None] = lambda: None

    def reaper(self, note: bytes) -> bytes:
        self.asked.append(msgspec.json.decode(note))
        self.before()
        return b'{"v":1,"orders":[],"echo":' + note + b"}"


class Session:
    """A script's files, as it writes and reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a session"
        self.folder.mkdir()
        self.request = self.folder / "request.json"
        self.status = self.folder / "status.json"
        self._threads: list[threading.Thread] = []

    def write(self, number: int, note: Any = NOTE) -> None:
        draft = self.folder / "request.json.tmp"
        draft.write_bytes(msgspec.json.encode({"n": number, "note": note}))
        draft.replace(self.request)

    def read(self) -> tuple[int, Any]:
        """Return the number that was answered last and the reply, (0, None) before."""
        try:
            said = msgspec.json.decode(self.status.read_bytes())
        except FileNotFoundError:
            return 0, None
        return said["n"], said["reply"]

    def await_reply(self, number: int) -> Any:
        wait_until(lambda: self.read()[0] == number, f"the reply to note {number}")
        return self.read()[1]

    def take_away(self) -> None:
        """Close the session as a script does: the folder stays where something is left in it."""
        self.request.unlink()
        self.status.unlink(missing_ok=True)

    def carry(self, client: Client, *, leave_s: float = 60.0) -> threading.Thread:
        thread = threading.Thread(
            target=carry, args=(client, self.request, self.status), kwargs={"leave_s": leave_s}
        )
        thread.start()
        self._threads.append(thread)
        return thread

    def close(self) -> None:
        if self.request.exists():
            self.take_away()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path)
    yield session
    session.close()


def test_each_note_is_answered_once_under_its_number(session: Session) -> None:
    echo = Echo()
    session.write(1, {"say": "first"})
    session.carry(echo)
    assert session.await_reply(1)["echo"] == {"say": "first"}
    session.write(2, {"say": "second", "text": "Ünï\n"})
    assert session.await_reply(2)["echo"] == {"say": "second", "text": "Ünï\n"}
    session.write(2, {"say": "second, once more"})
    session.write(3, {"say": "third"})
    session.await_reply(3)
    assert [note["say"] for note in echo.asked] == ["first", "second", "third"]


def test_a_reply_that_could_not_be_written_is_written_later(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, tries = Path.replace, iter(range(70))

    def replace_as_windows_does(self: Path, target: Path) -> Path:
        if target == session.status and next(tries, None) is not None:
            raise PermissionError("the file is used by another process")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_as_windows_does)
    monkeypatch.setattr(courier, "LOOK_S", 0.0001)
    session.write(1, {"say": "first"})
    session.carry(Echo())
    assert session.await_reply(1)["echo"] == {"say": "first"}
    assert sorted(path.name for path in session.folder.iterdir()) == [
        "request.json",
        "status.json",
        "status.lock",
    ]


def test_a_reply_that_is_never_written_leaves_no_draft(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def replace_as_windows_does(self: Path, target: Path) -> Path:
        if target == session.status:
            raise PermissionError("the file is used by another process")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_as_windows_does)
    monkeypatch.setattr(courier, "LOOK_S", 0.0001)
    session.write(1)
    thread = session.carry(Echo(), leave_s=0.05)
    thread.join(10)
    assert not thread.is_alive()
    assert sorted(path.name for path in session.folder.iterdir()) == ["request.json", "status.lock"]


def test_the_number_counts_not_its_size(session: Session) -> None:
    echo = Echo()
    session.write(7)
    session.carry(echo)
    session.await_reply(7)
    session.write(1)
    session.await_reply(1)
    assert len(echo.asked) == 2


@pytest.mark.parametrize(
    "half",
    [b"", b'{"n": 2, "no', b'{"n": 2}', b"\xff\xfe", b'{"n": "2", "note": {}}', b"[" * 100_000, b"[1]"],
    ids=["empty", "cut", "no note", "no text", "no number", "deep", "a list"],
)
def test_a_request_that_is_not_whole_is_waited_for(
    session: Session, half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    read = courier._read

    def look(path: Path) -> Any:
        looks.append(path)
        return read(path)

    monkeypatch.setattr(courier, "_read", look)
    echo = Echo()
    session.write(1)
    session.carry(echo)
    session.await_reply(1)
    session.request.write_bytes(half)
    seen = len(looks)
    wait_until(lambda: len(looks) > seen + 2, "the courier to have looked at it")
    session.write(2)
    session.await_reply(2)
    assert len(echo.asked) == 2


def test_a_reply_appears_whole(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a script reads is the reply to one note: the file is replaced, never written."""
    session.write(1)
    session.carry(Echo())
    session.await_reply(1)
    with session.status.open("rb") as before:
        session.write(2, {"long": "x" * 100_000})
        session.await_reply(2)
        assert msgspec.json.decode(before.read())["n"] == 1
    assert sorted(path.name for path in session.folder.iterdir()) == [
        "request.json", "status.json", "status.lock",
    ]  # fmt: skip


def test_a_second_courier_leaves_at_once(session: Session) -> None:
    first, second = Echo(), Echo()
    session.write(1)
    session.carry(first)
    session.await_reply(1)
    latecomer = session.carry(second)
    latecomer.join(10)
    assert not latecomer.is_alive()
    session.write(2)
    session.await_reply(2)
    assert (len(first.asked), len(second.asked)) == (2, 0)


def test_a_courier_leaves_when_nothing_comes_and_the_next_goes_on(session: Session) -> None:
    echo = Echo()
    session.write(1)
    thread = session.carry(echo, leave_s=0.05)
    thread.join(10)
    assert not thread.is_alive() and session.read()[0] == 1
    assert session.request.exists(), "a session that goes on keeps its files"
    session.write(2)
    session.carry(echo)
    session.await_reply(2)


def test_a_courier_that_outlives_its_script_leaves_and_takes_all_with_it(session: Session) -> None:
    session.write(1)
    thread = session.carry(Echo())
    session.await_reply(1)
    session.take_away()
    thread.join(10)
    assert not thread.is_alive()
    assert not session.folder.exists()


def test_a_script_that_closes_while_it_is_answered_leaves_nothing(session: Session) -> None:
    echo = Echo()
    echo.before = session.take_away
    session.write(1)
    thread = session.carry(echo)
    thread.join(10)
    assert not thread.is_alive() and not session.folder.exists()


def test_what_is_not_ours_in_the_folder_stays(session: Session) -> None:
    other = session.folder / "mine.txt"
    other.touch()
    session.write(1)
    thread = session.carry(Echo())
    session.await_reply(1)
    session.take_away()
    thread.join(10)
    assert [path.name for path in session.folder.iterdir()] == ["mine.txt"]


def test_without_a_daemon_the_script_is_told_in_words(session: Session) -> None:
    echo = Echo()

    def fail() -> None:
        raise DaemonUnavailable("stembridged ended with code 1", "stembridge doctor shows more")

    echo.before = fail
    session.write(1)
    session.carry(echo)
    error = session.await_reply(1)["error"]
    assert error == {
        "code": "unavailable",
        "message": "stembridged ended with code 1",
        "hint": "stembridge doctor shows more",
    }
    echo.before = lambda: None
    session.write(2)
    assert "error" not in session.await_reply(2)


def test_a_reader_that_forbids_the_reply_for_a_moment_is_waited_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([True, True, True])
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target == session.status and next(refusals, False):
            raise PermissionError
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(courier, "LOOK_S", 0.001)
    session.write(1)
    session.carry(Echo())
    session.await_reply(1)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start_courier(session: Session) -> subprocess.Popen[bytes]:
    words = ["reaper", "run", "--request", str(session.request), "--status", str(session.status)]
    program = "from stembridge.cli import run; run()"
    return subprocess.Popen([sys.executable, "-c", program, *words])


def test_the_command_starts_a_daemon_and_finds_the_next_one(
    daemon: DaemonHarness, session: Session, processes: list[subprocess.Popen[bytes]]
) -> None:
    assert daemon_process.find(daemon.settings) is None
    session.write(1)
    processes.append(start_courier(session))
    assert session.await_reply(1) == {"v": 1, "orders": []}
    first = daemon_process.find(daemon.settings)
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    session.write(2)
    assert session.await_reply(2) == {"v": 1, "orders": []}
    second = daemon_process.find(daemon.settings)
    assert second is not None and second.pid != first.pid
    daemon.adopt()
    session.write(3, {"v": 7, "say": "act"})
    refusal = session.await_reply(3)["error"]
    assert refusal["code"] == "bad_protocol"
    assert "version 7" in refusal["message"] and "speaks 1" in refusal["message"]
    session.take_away()
    assert processes[0].wait(20) == 0
    assert not session.folder.exists()


def test_the_command_says_what_keeps_a_daemon_from_starting(
    daemon: DaemonHarness, session: Session, processes: list[subprocess.Popen[bytes]]
) -> None:
    daemon.settings.config_file.parent.mkdir(parents=True, exist_ok=True)
    session.write(1)
    job_table = daemon.settings.job_table
    job_table.parent.mkdir(parents=True, exist_ok=True)
    job_table.write_bytes(b"this is no database" * 100)
    processes.append(start_courier(session))
    error = session.await_reply(1)["error"]
    assert error["code"] == "unavailable"
    assert "stembridged ended" in error["message"] and error["hint"]
