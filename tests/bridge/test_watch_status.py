"""The status file of a watched folder: what stands in it, how often it is written, who else watches."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time as real_time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from full_disk import full_disk
from stembridge.watch.status import (
    CHANGE_S,
    FRESH_S,
    HEARTBEAT_S,
    MOST_FILES,
    PROGRESS_S,
    STATUS_FILE,
    FileStatus,
    NowStatus,
    StatusFile,
    WatchStatus,
    find_other_watcher,
    is_fresh,
    machine_name,
    read_status,
    write_status,
)

NOON = 1_790_000_000.0
DONE = FileStatus(
    "karaoke/Ünï 歌 \U0001f3b5.wav", "done", job="w-1", result="stems/x", remixes=("stems/y",), at=NOON - 9
)
BAD = FileStatus("a\nb.wav", "failed", "it promises more", error_code="bad_source", hint="export it", at=NOON)
BUSY = NowStatus("c.wav", "splitting", job="w-2", at=NOON - 2, stage="separate", fraction=0.25, eta_s=7.0)
STATUS = WatchStatus(
    folder="/music/drop",
    updated=NOON,
    pid=7,
    machine="studio",
    version="1",
    daemon="no daemon answers",
    counts={"done": 1, "failed": 1, "splitting": 1},
    notes=("'private' cannot be read",),
    now=(BUSY,),
    files=(BAD, DONE),
)


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOON + self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def kept(tmp_path: Path, time: Time) -> StatusFile:
    return StatusFile(tmp_path, time, time.wall)


def shown(root: Path) -> dict[str, Any]:
    document = json.loads((root / STATUS_FILE).read_text("utf-8"))
    assert isinstance(document, dict)
    return document


def files_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert write_status(tmp_path, STATUS) == ""
    assert read_status(tmp_path) == STATUS
    assert files_in(tmp_path) == [STATUS_FILE]


def test_a_script_finds_plain_json(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    document = shown(tmp_path)
    assert document["layout"] == 1 and document["is_watching"] is True
    assert document["counts"] == {"done": 1, "failed": 1, "splitting": 1}
    bad, done = document["files"]
    assert bad["file"] == "a\nb.wav" and bad["hint"] == "export it" and "job" not in bad
    assert done["file"] == DONE.file and done["result"] == "stems/x" and done["remixes"] == ["stems/y"]
    assert document["now"][0]["fraction"] == 0.25 and document["now"][0]["stage"] == "separate"


def test_a_person_finds_a_line_per_file_and_a_time_with_its_zone(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    text = (tmp_path / STATUS_FILE).read_text("utf-8")
    assert "Ünï 歌 \U0001f3b5.wav" in text
    (line,) = [line for line in text.splitlines() if "Ünï" in line]
    assert '"done"' in line and '"stems/x"' in line
    assert shown(tmp_path)["updated"][:10] in ("2026-09-20", "2026-09-21", "2026-09-22")
    assert shown(tmp_path)["updated"][-6] in "+-"


def test_a_file_that_settles_has_no_time(tmp_path: Path) -> None:
    settling = replace(STATUS, files=(FileStatus("a.wav", "settling", "quiet for 1.2 of 2 s"),))
    write_status(tmp_path, settling)
    assert "at" not in shown(tmp_path)["files"][0]
    assert read_status(tmp_path) == settling


def test_a_name_that_is_no_text_comes_back_as_it_was(tmp_path: Path) -> None:
    odd = replace(STATUS, files=(FileStatus("caf\udce9.wav", "failed", at=NOON),))
    assert write_status(tmp_path, odd) == ""
    assert (tmp_path / STATUS_FILE).read_bytes().decode()
    assert read_status(tmp_path) == odd


def test_the_newest_files_stand_there_and_all_are_counted(tmp_path: Path) -> None:
    many = tuple(FileStatus(f"{number}.wav", "done", at=NOON - number) for number in range(MOST_FILES + 50))
    write_status(tmp_path, replace(STATUS, files=many, counts={"done": len(many)}))
    found = read_status(tmp_path)
    assert found is not None and found.files == many[:MOST_FILES]
    assert found.counts == {"done": MOST_FILES + 50}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        "{}",
        '{"now": [], "files": [{}], "updated": "x"}',
        '{"now": 1, "files": 1, "updated": 1}',
        '{"now": [3], "files": [], "updated": "2026-01-01T00:00:00+00:00"}',
        '{"now": [], "files": [], "updated": "2026-01-01T00:00:00+00:00", "pid": "x"}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_file_that_says_nothing_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / STATUS_FILE).write_bytes(text.encode(errors="surrogateescape"))
    assert read_status(tmp_path) is None


def test_where_there_is_no_file_there_is_no_status(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    (tmp_path / STATUS_FILE).mkdir()
    assert read_status(tmp_path) is None


def test_who_reads_meanwhile_always_finds_all_of_it(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    files = tuple(FileStatus(f"{number}.wav", "done", at=NOON) for number in range(MOST_FILES))
    is_over = threading.Event()
    torn: list[bytes] = []

    def look() -> None:
        while not is_over.is_set():
            text = (tmp_path / STATUS_FILE).read_bytes()
            if not text.endswith(b"\n}\n"):
                torn.append(text)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(60):
        write_status(tmp_path, replace(STATUS, files=files[number:], pid=number))
    is_over.set()
    reader.join()
    assert torn == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    root = tmp_path / "drop"
    root.mkdir()
    (root / f".{STATUS_FILE}.new").symlink_to(victim)
    (root / STATUS_FILE).symlink_to(victim)
    assert write_status(root, STATUS) == ""
    assert victim.read_text() == "mine" and read_status(root) == STATUS


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00", "9999-12-31T23:59:59", "now", "", 3, None, "2026-13-01T00:00:00"]
)
@pytest.mark.parametrize("key", ["updated", "at"])
def test_a_time_that_is_none_is_no_status_or_one_that_is_not_fresh(
    tmp_path: Path, key: str, moment: object
) -> None:
    write_status(tmp_path, STATUS)
    document = shown(tmp_path)
    (document if key == "updated" else document["files"][0])[key] = moment
    (tmp_path / STATUS_FILE).write_text(json.dumps(document))
    status = read_status(tmp_path)
    assert status is None or key == "at" or not is_fresh(status, NOON)
    assert key == "at" or find_other_watcher(tmp_path, machine="laptop") == ""


def test_a_folder_that_is_gone_is_not_made(tmp_path: Path) -> None:
    gone = tmp_path / "drive"
    assert "cannot be written" in write_status(gone, STATUS)
    assert not gone.exists()


def test_a_full_disk_is_told_and_what_stood_there_stays(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    with full_disk():
        problem = write_status(tmp_path, replace(STATUS, pid=8))
    assert problem.startswith(f"{STATUS_FILE} cannot be written: ") and "\n" not in problem
    assert read_status(tmp_path) == STATUS
    assert files_in(tmp_path) == [STATUS_FILE]


def test_what_cannot_be_replaced_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / STATUS_FILE).mkdir()
    assert "cannot be written" in write_status(tmp_path, STATUS)
    assert files_in(tmp_path) == [STATUS_FILE]


def test_changes_are_written_once_per_second(tmp_path: Path, kept: StatusFile, time: Time) -> None:
    assert kept.next_due() is None
    assert kept.offer(STATUS) == ""
    assert shown(tmp_path)["counts"]["done"] == 1
    for done in range(2, 10):
        time.now += 0.1
        kept.offer(replace(STATUS, counts={"done": done}))
        assert shown(tmp_path)["counts"]["done"] == 1
    due = kept.next_due()
    assert due == 1000 + CHANGE_S
    time.now = due
    kept.flush()
    assert shown(tmp_path)["counts"] == {"done": 9}


def test_progress_alone_is_written_less_often(tmp_path: Path, kept: StatusFile, time: Time) -> None:
    kept.offer(STATUS)
    time.now += 2 * CHANGE_S
    on = replace(STATUS, now=(replace(BUSY, fraction=0.5, eta_s=3.0, stage="write"),))
    kept.offer(on)
    assert shown(tmp_path)["now"][0]["fraction"] == 0.25
    assert kept.next_due() == 1000 + PROGRESS_S
    kept.offer(replace(on, now=(replace(on.now[0], state="remixing"),)))
    assert shown(tmp_path)["now"][0]["state"] == "remixing" and shown(tmp_path)["now"][0]["fraction"] == 0.5


def test_a_status_without_change_stays_fresh_and_is_not_written_for_nothing(
    tmp_path: Path, kept: StatusFile, time: Time
) -> None:
    kept.offer(STATUS)
    first = (tmp_path / STATUS_FILE).read_bytes()
    while time.now < 1000 + HEARTBEAT_S - 1:
        time.now += 1
        kept.offer(replace(STATUS, updated=time.now))
    assert (tmp_path / STATUS_FILE).read_bytes() == first
    time.now = 1000 + HEARTBEAT_S
    kept.offer(STATUS)
    found = read_status(tmp_path)
    assert found is not None and found.updated == NOON + 1000 + HEARTBEAT_S
    assert HEARTBEAT_S < FRESH_S / 2


def test_a_disk_that_was_full_gets_the_status_later(tmp_path: Path, kept: StatusFile, time: Time) -> None:
    with full_disk():
        assert "cannot be written" in kept.offer(STATUS)
    due = kept.next_due()
    assert due is not None and due > time.now
    assert "cannot be written" in kept.offer(replace(STATUS, pid=8))
    assert not (tmp_path / STATUS_FILE).exists()
    time.now = due
    assert kept.flush() == "" and kept.problem == ""
    assert shown(tmp_path)["pid"] == 8


def test_a_watcher_that_ends_says_so(tmp_path: Path, kept: StatusFile) -> None:
    kept.offer(STATUS)
    kept.close()
    found = read_status(tmp_path)
    assert found is not None and not found.is_watching and found.now == () and found.files == STATUS.files


def test_a_watcher_that_never_had_a_status_leaves_none(tmp_path: Path, kept: StatusFile) -> None:
    kept.flush()
    kept.close()
    assert files_in(tmp_path) == []


def test_another_machine_that_watches_is_named(tmp_path: Path) -> None:
    write_status(tmp_path, STATUS)
    told = find_other_watcher(tmp_path, machine="laptop", wall_clock=lambda: NOON + 12)
    assert told == f"{str(tmp_path)!r} is watched by studio (process 7)"
    assert find_other_watcher(tmp_path, machine="laptop", wall_clock=lambda: NOON - 12)
    assert find_other_watcher(tmp_path, wall_clock=lambda: NOON)


def test_another_process_of_this_machine_that_watches_is_named(tmp_path: Path) -> None:
    now = real_time.time()
    theirs = replace(STATUS, machine=machine_name(), pid=os.getppid(), updated=now)
    write_status(tmp_path, theirs)
    told = find_other_watcher(tmp_path)
    assert told.startswith(f"{str(tmp_path)!r} is watched by process {os.getppid()} of another user or home")
    for nobody in (
        replace(theirs, pid=os.getpid()),
        replace(theirs, pid=1 << 40),
        replace(theirs, is_watching=False),
        replace(theirs, updated=now - FRESH_S - 1),
    ):
        write_status(tmp_path, nobody)
        assert find_other_watcher(tmp_path) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began is asked of Linux")
def test_a_process_that_began_after_the_status_was_written_only_has_its_number(tmp_path: Path) -> None:
    theirs = replace(STATUS, machine=machine_name(), pid=os.getppid(), updated=NOON)
    write_status(tmp_path, theirs)
    with_its_number = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        now = real_time.time()
        write_status(tmp_path, replace(theirs, pid=with_its_number.pid, updated=now - 10))
        assert find_other_watcher(tmp_path) == ""
        write_status(tmp_path, replace(theirs, pid=with_its_number.pid, updated=now + 1))
        assert find_other_watcher(tmp_path) != ""
    finally:
        with_its_number.kill()
        with_its_number.communicate()


@pytest.mark.parametrize(
    ("there", "machine", "age_s"),
    [
        (STATUS, "laptop", FRESH_S + 1),
        (STATUS, "laptop", -FRESH_S - 1),
        (replace(STATUS, is_watching=False), "laptop", 1.0),
    ],
    ids=["old", "future", "ended"],
)
def test_what_is_no_other_watcher(tmp_path: Path, there: WatchStatus, machine: str, age_s: float) -> None:
    write_status(tmp_path, there)
    assert find_other_watcher(tmp_path, machine=machine, wall_clock=lambda: NOON + age_s) == ""


def test_an_unwatched_folder_has_no_other_watcher(tmp_path: Path) -> None:
    assert find_other_watcher(tmp_path) == ""


def test_a_machine_without_a_name_still_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", str)
    assert machine_name() == "unknown"
