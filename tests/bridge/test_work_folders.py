"""Work folders: one process at a time is at each, and what a crash leaves the next job takes away."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon_harness import wait_until
from fakes import FakeSeparator
from signals import make_noise, to_ints, write_pcm
from splits import make_request, split_to_end
from stembridge import file_lock, work_folders
from stembridge.cli import main
from stembridge.errors import OutputError
from stembridge.file_lock import FileLock, is_locked
from stembridge.manifest import work_folder as work_path
from stembridge.publishing import work_folder
from stembridge.work_folders import remove_folder, sweep

PROGRAM = """
import sys
from pathlib import Path
from stembridge.publishing import work_folder
with work_folder(Path(sys.argv[1]), sys.argv[2]) as work:
    (work / "planes").mkdir()
    (work / "planes" / "a").write_bytes(bytes(1000))
    print("there", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_folders, "PATIENCE_S", 0.0)


@contextmanager
def another_process(out: Path, job_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is at a job in ``out`` until its stdin ends."""
    command = [sys.executable, "-c", PROGRAM, str(out), job_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"there"
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_is_there_while_its_job_runs_and_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with work_folder(out, "one") as work:
        assert work == work_path(out, "one") and work.is_dir()
        with work_folder(out, "two") as other:
            (other / "x").touch()
        assert work.is_dir() and not other.exists()
        work.rename(out / "result")
    assert [path.name for path in out.iterdir()] == ["result"]
    with pytest.raises(ZeroDivisionError), work_folder(tmp_path / "other" / "out", "one"):
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_two_processes_are_never_at_the_same_job(tmp_path: Path) -> None:
    with another_process(tmp_path / "out", "one"):
        with (
            pytest.raises(OutputError, match=r"another process is at the same job in '.*out' .wait"),
            work_folder(tmp_path / "out", "one"),
        ):
            pass
        with work_folder(tmp_path / "out", "two"):
            pass
        remove_folder(work_path(tmp_path / "out", "one"))
        assert (work_path(tmp_path / "out", "one") / "planes" / "a").stat().st_size == 1000


def test_the_next_process_waits_for_one_that_is_just_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_folders, "PATIENCE_S", 60.0)
    with another_process(tmp_path, "one") as process:
        assert process.stdin is not None
        process.stdin.close()
        with work_folder(tmp_path, "one") as work:
            assert list(work.iterdir()) == []
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_leaves_the_next_job_takes_away(tmp_path: Path) -> None:
    for job_id in ("one", "two"):
        with another_process(tmp_path, job_id) as process:
            process.kill()
            process.wait()
        assert (work_path(tmp_path, job_id) / "planes" / "a").exists(), "there is nothing to take away"
        with another_process(tmp_path, "running"), work_folder(tmp_path, "two") as work:
            left = {work_path(tmp_path, "running").name, work.name}
            assert {path.name for path in tmp_path.iterdir()} == left | {f"{name}.lock" for name in left}
            assert list(work.iterdir()) == []
        # The second process was killed as well.
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_remix_that_is_killed_is_cleaned_up_by_the_next_one(tmp_path: Path, home: Path) -> None:
    song = write_pcm(tmp_path / "song.wav", to_ints(make_noise(20 * 44_100, 2), 16), 44_100, 16)
    folder = split_to_end(make_request(song, tmp_path / "sets"), FakeSeparator())[0].folder
    out = tmp_path / "out"
    command = "import sys; from stembridge.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["remix", folder, "--preset", "karaoke", "--out", str(out)]
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: any(out.glob(".stembridge-*/planes")), "the remix to begin")
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    (left,) = out.glob(".stembridge-*/")
    assert main([*arguments[:3], "acapella", *arguments[4:]]) == 0
    assert not left.exists()
    (made,) = out.iterdir()
    assert "acapella" in made.name


def leave(out: Path, job_id: str, said: str | None) -> Path:
    """Make what a crash leaves, with a lock that says ``said``, or without one."""
    work = work_path(out, job_id)
    work.mkdir(parents=True)
    if said is not None:
        work.with_name(f"{work.name}.lock").write_text(said)
    return work


def test_only_what_a_process_of_this_machine_left_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = leave(tmp_path, "ours", platform.node())
    kept = [leave(tmp_path, "theirs", "another"), leave(tmp_path, "old", None), leave(tmp_path, "new", "")]
    linked = leave(tmp_path, "linked", None)
    linked.with_name(f"{linked.name}.lock").symlink_to(tmp_path / f"{ours.name}.lock")
    named = tmp_path / ".stembridge-mine"
    named.mkdir()
    (tmp_path / ".stembridge-mine.lock").write_text(platform.node())
    sweep(tmp_path)
    assert not ours.exists() and not ours.with_name(f"{ours.name}.lock").exists()
    assert all(path.is_dir() for path in (*kept, linked, named))
    unnamed = leave(tmp_path, "unnamed", "")
    monkeypatch.setattr(platform, "node", lambda: "")
    sweep(tmp_path)
    assert unnamed.is_dir()
    sweep(tmp_path / "no such folder")


def test_the_folder_of_a_job_that_ended_is_removed_with_its_lock_or_without(tmp_path: Path) -> None:
    for said in (platform.node(), None, ""):
        remove_folder(leave(tmp_path, "job", said))
        assert list(tmp_path.iterdir()) == []
    remove_folder(work_path(tmp_path / "never", "job"))
    assert list(tmp_path.iterdir()) == []


def test_a_share_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, *, is_shared: bool) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file_lock, "_try_lock", refuse)
    kept = leave(tmp_path, "ours", platform.node())
    with work_folder(tmp_path, "one") as work:
        assert work.is_dir()
    assert kept.is_dir() and not work.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lock_that_is_removed_is_nobodys(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire() and not second.acquire()
    stale = os.open(tmp_path / "lock", os.O_RDWR)
    first.write("longer")
    first.write("one")
    assert first.read() == "one"
    first.remove()
    assert not (tmp_path / "lock").exists()
    assert not second.acquire(creates=False) and not (tmp_path / "lock").exists()
    os.close(stale)
    assert second.acquire() and is_locked(tmp_path / "lock") and second.read() == ""
    second.release()
    assert second.acquire(creates=False)
    second.release()


def test_who_waited_for_a_lock_that_was_removed_has_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    whole = file_lock._try_lock
    seen: list[int] = []

    def remove_before(fd: int, *, is_shared: bool) -> bool:
        if not seen:
            first.remove()
        seen.append(fd)
        return whole(fd, is_shared=is_shared)

    monkeypatch.setattr(file_lock, "_try_lock", remove_before)
    assert second.acquire()
    assert len(seen) == 2 and is_locked(path)
    second.remove()
