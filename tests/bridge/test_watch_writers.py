"""Whether a file is open for writing, and that nobody is hurt or held up by the question."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stembridge.watch import writers
from stembridge.watch.writers import is_being_written

LIMIT_S = 30

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="leases are of Linux")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "song.wav"
    path.write_bytes(bytes(8192))
    return path


@on_linux
@pytest.mark.parametrize("mode", ["r+b", "ab", "wb"])
def test_a_file_is_being_written_from_opening_to_closing(path: Path, mode: str) -> None:
    assert is_being_written(path) is False
    with path.open(mode):
        assert is_being_written(path) is True
        assert is_being_written(path) is True
    assert is_being_written(path) is False


@on_linux
def test_readers_are_no_writers(path: Path) -> None:
    with path.open("rb"):
        assert is_being_written(path) is False


@on_linux
def test_a_writer_in_another_process_is_seen_by_another_name(path: Path) -> None:
    link = path.with_name("link.wav")
    link.symlink_to(path)
    program = "import sys; file = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline()
        assert is_being_written(link) is True
        writer.communicate()
    assert is_being_written(link) is False


@on_linux
def test_who_has_a_file_for_itself_may_write_it(path: Path) -> None:
    program = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert is_being_written(path) is True
        holder.communicate()
    assert is_being_written(path) is False


@on_linux
def test_who_writes_into_a_mapping_is_a_writer_though_the_file_is_closed(path: Path) -> None:
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    assert is_being_written(path) is True
    mapped.close()
    assert is_being_written(path) is False


@on_linux
def test_a_writer_who_comes_during_the_question_does_not_end_the_process(path: Path) -> None:
    """The lease is broken while it is held: the system signals its holder, which by default ends it."""
    program = """
import fcntl, subprocess, sys
from pathlib import Path
from stembridge.watch import writers

ask = fcntl.fcntl
def let_a_writer_come(descriptor, order, *arguments):
    if order == fcntl.F_SETLEASE and arguments == (fcntl.F_UNLCK,):
        attempt = "import os, sys; os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)"
        came = subprocess.run([sys.executable, "-c", attempt, sys.argv[1]], stderr=subprocess.PIPE)
        print("BlockingIOError" in came.stderr.decode())
    return ask(descriptor, order, *arguments)

fcntl.fcntl = let_a_writer_come
print(writers.is_being_written(Path(sys.argv[1])))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["True", "False"]), done.stderr


@on_linux
@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.ENOLCK])
def test_where_no_lease_is_given_nobody_can_tell(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.fcntl", refuse_with(number))
    assert is_being_written(path) is None


@on_linux
def test_a_share_that_refuses_all_leases_tells_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.fcntl", refuse_with(errno.EAGAIN))
    assert is_being_written(path) is True
    monkeypatch.setattr(writers, "is_network_share", lambda asked: asked == path)
    assert is_being_written(path) is None


@on_linux
def test_a_fifo_in_the_place_of_a_file_holds_nobody_up(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    assert is_being_written(path) is not True


@on_linux
def test_nothing_is_left_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - iterdir() keeps one open itself
    is_being_written(path)
    with path.open("r+b"):
        is_being_written(path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_of_a_missing_file_nobody_can_tell(path: Path) -> None:
    path.unlink()
    assert is_being_written(path) is None


def refuse_with(number: int) -> Callable[..., Any]:
    def refuse(*arguments: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse
