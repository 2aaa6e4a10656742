"""The ledger of a watched folder: rows come back after any end, one process holds it, a full disk passes."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from stembridge.errors import Busy, RequestError, StembridgeError
from stembridge.file_lock import is_locked
from stembridge.settings import Settings, load_settings
from stembridge.types import ErrorInfo, RemixRequest, SplitRequest
from stembridge.watch import ledger as ledger_module
from stembridge.watch.dropped import Signature
from stembridge.watch.ledger import Ledger, check_apart, ledger_path, lock_folder
from stembridge.watch.life import FileRow, FileState, RemixEnd

SIGNATURE = Signature(2**64 - 1, 2**128 - 1, 3, 32_503_680_000 * 10**9, -5)
"""Of a file system with inodes of 128 bits, on which somebody has set the year 3000."""
ROW = FileRow("sub/song.wav", SIGNATURE, "a" * 64, FileState.WAITING, 1.0)
FULL_ROW = FileRow(
    name="söng 'x'\n.wav",
    signature=SIGNATURE,
    sha256="b" * 64,
    state=FileState.FAILED,
    changed=2.5,
    digest="wish",
    job="w-1",
    split=SplitRequest("/drop/ö.wav", "/drop/stems", "preview", stems=("drums",)),
    remixes=(RemixRequest("", "/drop/stems", "karaoke"),),
    folder="/drop/stems/x",
    ends=(RemixEnd("/r"), RemixEnd(error=ErrorInfo("bad_preset", "none"))),
    error=ErrorInfo("bad_preset", "none", "name one"),
    same_as="other.wav",
    attempt=2,
    spent_s=1.25,
    is_noted=True,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", environ={})


@contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()


def read_rows(path: Path) -> dict[str, FileRow]:
    with opened(path) as ledger:
        return {row.name: row for row in ledger.newest()}


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    no_text = replace(ROW, name=os.fsdecode(b"caf\xe9.wav"))
    with opened(path) as ledger:
        for row in (ROW, FULL_ROW, no_text):
            ledger.save(row)
        ledger.note_device(2**63)
        assert ledger.commit() == ""
    assert read_rows(path) == {row.name: row for row in (ROW, FULL_ROW, no_text)}
    with opened(path) as ledger:
        assert ledger.root_device == 2**63


def test_what_was_delivered_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.note_delivered(["a" * 64, "b" * 64])
        assert ledger.is_delivered("a" * 64) and not ledger.is_delivered("c" * 64)
        assert ledger.commit() == ""
        ledger.note_delivered(["a" * 64])
    with opened(path) as ledger:
        assert ledger.is_delivered("a" * 64) and ledger.is_delivered("b" * 64)
        assert not ledger.is_delivered("c" * 64)


def test_what_is_not_committed_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        ledger.save(ROW)
        ledger.commit()
        ledger.forget(ROW.name)
        ledger.save(FULL_ROW)
        assert read_rows(path) == {ROW.name: ROW}
        ledger.commit()
        assert read_rows(path) == {FULL_ROW.name: FULL_ROW}


def test_names_are_found_by_state_in_order_and_by_content(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with opened(path) as ledger:
        for name in ("b", "c", "a"):
            ledger.save(replace(ROW, name=name))
        ledger.save(replace(ROW, name="b", sha256="b" * 64))
        assert ledger.names(FileState.WAITING) == ["b", "c", "a"]
        ledger.save(replace(ROW, name="c", state=FileState.DONE, changed=9.0))
        assert ledger.names(FileState.WAITING) == ["b", "a"]
        assert ledger.count(FileState.WAITING, FileState.DONE) == len(ledger) == 3
        assert [row.name for row in ledger.done_alike("a" * 64)] == ["c"]
        assert list(ledger.done_alike("b" * 64)) == []
        for name in ("b", "a"):
            ledger.save(replace(ROW, name=name, state=FileState.SAME))
        assert [row.name for row in ledger.done_alike("a" * 64)] == ["a", "b", "c"]
        ledger.save(replace(ROW, name="c", state=FileState.DONE, changed=9.0))
        assert next(ledger.newest()).name == "c"
        ledger.forget("b")
        assert [row.name for row in ledger.done_alike("a" * 64)] == ["c", "a"]
        assert ledger.get("b") is None
    with opened(path) as ledger:
        assert next(row.name for row in ledger.newest()) == "c"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files there")
def test_a_full_disk_is_waited_out(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "ledger.sqlite"
    many = [replace(ROW, name=f"{number}.wav") for number in range(500)]
    with opened(path) as ledger:
        ledger.save(ROW)
        ledger.commit()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        try:
            for row in many:
                ledger.save(row)
            assert "cannot be written" in ledger.commit()
            assert ledger.get("7.wav") is not None
            assert "cannot be written" in ledger.commit()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert read_rows(path) == {ROW.name: ROW}
        assert ledger.commit() == ""
    assert len(read_rows(path)) == 501


def test_a_file_that_is_no_ledger_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"something else " * 100)
    with pytest.raises(StembridgeError, match=r"ledger\.sqlite cannot be used"):
        Ledger(path)
    assert path.read_bytes() == b"something else " * 100


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StembridgeError, match="has schema 99"):
        Ledger(path)


def test_a_folder_has_one_ledger_by_whatever_path_it_is_named(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "link").symlink_to("drop")
    assert ledger_path(settings, tmp_path / "link") == ledger_path(settings, tmp_path / "drop")
    (tmp_path / "other" / "drop").mkdir(parents=True)
    assert ledger_path(settings, tmp_path / "other" / "drop") != ledger_path(settings, tmp_path / "drop")


def test_a_folder_is_watched_once(tmp_path: Path, settings: Settings) -> None:
    root = tmp_path / "drop"
    root.mkdir()
    lock = lock_folder(settings, root)
    try:
        with pytest.raises(Busy, match="is watched already"):
            lock_folder(settings, root)
    finally:
        lock.release()
    lock_folder(settings, root).release()


@pytest.mark.skipif(sys.platform == "win32", reason="what is locked cannot be read there")
def test_a_folder_inside_a_watched_one_is_refused(tmp_path: Path, settings: Settings) -> None:
    inner = tmp_path / "drop" / "inner"
    inner.mkdir(parents=True)
    beside = tmp_path / "dropped"
    beside.mkdir()
    lock = lock_folder(settings, inner)
    try:
        with pytest.raises(RequestError, match=r"inner.* lies in .*drop'"):
            lock_folder(settings, tmp_path / "drop")
        lock_folder(settings, beside).release()
    finally:
        lock.release()
    lock_folder(settings, tmp_path / "drop").release()


def test_folders_of_one_command_lie_apart(tmp_path: Path) -> None:
    (tmp_path / "drop" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("drop/inner")
    check_apart([tmp_path / "drop", tmp_path / "dropped"])
    for other in ("drop", "drop/inner", "link"):
        with pytest.raises(RequestError, match="lies in"):
            check_apart([tmp_path / "drop", tmp_path / "elsewhere", tmp_path / other])


def test_of_two_that_begin_at_once_one_sees_the_other(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer, inner = tmp_path / "drop", tmp_path / "drop" / "inner"
    inner.mkdir(parents=True)
    refused = []

    def begin_another(path: Path) -> bool:
        monkeypatch.setattr(ledger_module, "is_locked", is_locked)
        with pytest.raises(RequestError, match="lies in"):
            lock_folder(settings, inner)
        refused.append(inner)
        return is_locked(path)

    lock_folder(settings, tmp_path / "elsewhere").release()
    monkeypatch.setattr(ledger_module, "is_locked", begin_another)
    lock_folder(settings, outer).release()
    assert refused == [inner]


def test_a_ledger_that_cannot_be_opened_is_not_to_be_moved_away(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StembridgeError, match="room"):
        Ledger(tmp_path / "file" / "ledger.sqlite")
    (tmp_path / "folder.sqlite").mkdir()
    with pytest.raises(StembridgeError, match="room"):
        Ledger(tmp_path / "folder.sqlite")
