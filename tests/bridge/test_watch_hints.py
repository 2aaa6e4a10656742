"""What the real system tells of real folders, and that what it does not tell is known to be missing."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from stembridge.watch.hints import RETRY_S, Hint, Hints

LIMIT_S = 20.0


def make_polling() -> BaseObserver:
    return PollingObserver(timeout=0.05)


@pytest.fixture(params=["native", "polling"])
def observer_factory(request: pytest.FixtureRequest) -> Callable[[], BaseObserver] | None:
    return make_polling if request.param == "polling" else None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    return folder


@pytest.fixture
def hints(root: Path, observer_factory: Callable[[], BaseObserver] | None) -> Iterator[Hints]:
    made = Hints([root], observer_factory)
    yield made
    made.close()


def collect(hints: Hints, is_enough: Callable[[list[Hint]], bool]) -> list[Hint]:
    """Return the hints that come until they are enough."""
    came: list[Hint] = []
    deadline = time.monotonic() + LIMIT_S
    while not is_enough(came):
        assert time.monotonic() < deadline, f"only these came: {came}"
        hints.wait(deadline - time.monotonic())
        came += hints.take()
    return came


def await_path(hints: Hints, path: Path) -> list[Hint]:
    return collect(hints, lambda came: any(hint.path == path for hint in came))


def await_closed(hints: Hints, path: Path) -> list[Hint]:
    return collect(hints, lambda came: Hint(path, is_closed=True) in came)


def test_a_file_that_is_written_is_told_of(hints: Hints, root: Path) -> None:
    assert hints.problem == ""
    path = root / "Größe – 愛\n.wav"
    path.write_bytes(b"x")
    await_path(hints, path)


def test_files_in_new_folders_are_told_of(hints: Hints, root: Path) -> None:
    path = root / "a" / "b" / "c" / "song.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    await_path(hints, path)


def test_a_file_that_is_renamed_in_counts_as_closed(hints: Hints, root: Path) -> None:
    (root / "song.wav.part").write_bytes(b"x")
    (root / "seen.wav").write_bytes(b"x")
    await_path(hints, root / "seen.wav")
    (root / "song.wav.part").rename(root / "song.wav")
    await_closed(hints, root / "song.wav")


def test_a_file_that_is_gone_is_told_of(
    hints: Hints, root: Path, observer_factory: Callable[[], BaseObserver] | None
) -> None:
    path = root / "song.wav"
    path.write_bytes(b"x")
    # Nothing of its writing must be left that could be taken for its end.
    is_closing_told = observer_factory is None and sys.platform == "linux"
    (await_closed if is_closing_told else await_path)(hints, path)
    path.unlink()
    collect(hints, lambda came: Hint(path, is_closed=False) in came)


def test_a_folder_that_is_moved_in_brings_its_files(hints: Hints, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for index in range(20):
        (outside / f"{index}.wav").write_bytes(b"x")
    outside.rename(root / "inside")
    wanted = {root / "inside" / f"{index}.wav" for index in range(20)}
    collect(hints, lambda came: wanted <= {hint.path for hint in came})


def test_names_that_are_never_taken_are_not_told_of(hints: Hints, root: Path) -> None:
    for name in (".work/song.wav", "song.wav.download/song.wav", "song.txt", "~song.wav", "song.wav.part"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (root / "last.wav").write_bytes(b"x")
    assert {hint.path for hint in await_path(hints, root / "last.wav")} == {root / "last.wav"}


class ToldObserver(PollingObserver):
    """An observer that tells nothing of its own accord."""

    def schedule(self, event_handler: FileSystemEventHandler, *arguments: Any, **named: Any) -> ObservedWatch:
        self.handler = event_handler
        return super().schedule(FileSystemEventHandler(), *arguments, **named)


def test_each_file_is_told_of_once_with_the_last_that_happened(root: Path) -> None:
    observer = ToldObserver()
    hints = Hints([root], lambda: observer)
    a, b, c = (str(root / name) for name in ("a.wav", "b.wav", "c.wav"))
    events: list[FileSystemEvent] = [
        *(FileCreatedEvent(a), FileModifiedEvent(a), FileClosedEvent(a)),
        *(FileClosedEvent(b), FileModifiedEvent(b)),
        *(FileMovedEvent("", c), FileMovedEvent(b, os.fsencode(a)), FileMovedEvent(c, "")),
    ]
    try:
        for event in events:
            observer.handler.dispatch(event)
        assert hints.wait(0.0)
        assert hints.take() == [
            Hint(Path(b), is_closed=False),
            Hint(Path(a), is_closed=True),
            Hint(Path(c), is_closed=False),
        ]
        assert hints.take() == []
    finally:
        hints.close()


@pytest.mark.skipif(sys.platform != "linux", reason="closing is told of by inotify alone")
def test_closing_after_writing_is_told_of_and_after_reading_is_not(root: Path) -> None:
    hints = Hints([root])
    try:
        path = root / "song.wav"
        with path.open("wb") as file:
            file.write(b"x")
            file.flush()
            assert not any(hint.is_closed for hint in await_path(hints, path))
        await_closed(hints, path)
        for _ in range(100):
            path.read_bytes()
        (root / "last.wav").write_bytes(b"x")
        assert {hint.path for hint in await_closed(hints, root / "last.wav")} == {root / "last.wav"}
        with path.open("ab") as file:
            file.write(b"x")
        await_closed(hints, path)
    finally:
        hints.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is told of as made")
def test_a_file_that_is_moved_in_from_elsewhere_counts_as_closed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"x")
    hints = Hints([root])
    try:
        (tmp_path / "song.wav").rename(root / "song.wav")
        await_closed(hints, root / "song.wav")
    finally:
        hints.close()


def await_watched(hints: Hints, root: Path) -> None:
    """Drop files until one is told of: it takes the system a moment to tell that the old folder is gone."""
    deadline = time.monotonic() + LIMIT_S
    for index in count():
        hints.renew()
        path = root / f"{index}.wav"
        path.write_bytes(b"x")
        hints.wait(0.2)
        if any(hint.path.parent == root for hint in hints.take()):
            return
        assert time.monotonic() < deadline, "the folder is not watched anew"


def test_a_folder_that_is_made_again_is_watched_again(hints: Hints, root: Path) -> None:
    assert not hints.renew()
    for _ in range(3):
        shutil.rmtree(root)
        hints.take()
        root.mkdir()
        await_watched(hints, root)
        assert hints.problem == ""


def test_a_folder_that_is_replaced_is_watched_again_and_a_scan_is_due(
    hints: Hints, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    root.rename(tmp_path / "old")
    other.rename(root)
    assert hints.renew() and not hints.renew()
    (root / "song.wav").write_bytes(b"x")
    await_path(hints, root / "song.wav")


def test_a_folder_that_was_away_is_watched_again_and_a_scan_is_due(
    hints: Hints, root: Path, tmp_path: Path
) -> None:
    root.rename(tmp_path / "away")
    assert not hints.renew()
    (tmp_path / "away").rename(root)
    assert hints.renew() and not hints.renew()
    (root / "song.wav").write_bytes(b"x")
    await_path(hints, root / "song.wav")


def test_a_folder_that_comes_late_is_watched_then(
    tmp_path: Path, observer_factory: Callable[[], BaseObserver] | None
) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    roots[0].mkdir()
    hints = Hints(roots, observer_factory)
    try:
        assert hints.problem == "" and not hints.renew()
        roots[1].mkdir()
        assert hints.renew() and not hints.renew()
        for root in roots:
            (root / "song.wav").write_bytes(b"x")
            await_path(hints, root / "song.wav")
        shutil.rmtree(roots[0])
        hints.renew()
        assert hints.problem == ""
        (roots[1] / "more.wav").write_bytes(b"x")
        await_path(hints, roots[1] / "more.wav")
    finally:
        hints.close()


class FullObserver(PollingObserver):
    """An observer for which the system has no room at first."""

    is_full = True

    def __init__(self) -> None:
        super().__init__(timeout=0.05)

    def schedule(self, *arguments: Any, **named: Any) -> ObservedWatch:
        if self.is_full:
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return super().schedule(*arguments, **named)


def test_a_system_that_watches_no_more_folders_is_named_and_asked_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    hints = Hints([root], FullObserver, lambda: now)
    try:
        assert str(root) in hints.problem and "fs.inotify.max_user_watches" in hints.problem
        # Not before some time has passed: all of the folder is walked for each answer.
        monkeypatch.setattr(FullObserver, "is_full", False)
        assert not hints.renew() and "fs.inotify.max_user_watches" in hints.problem
        now += RETRY_S
        assert hints.renew() and hints.problem == ""
        (root / "song.wav").write_bytes(b"x")
        await_path(hints, root / "song.wav")
    finally:
        hints.close()


def test_a_system_without_room_for_a_watcher_is_asked_again(root: Path) -> None:
    is_full = True

    def make_observer() -> BaseObserver:
        if is_full:
            raise OSError(errno.EMFILE, "inotify instance limit reached")
        return make_polling()

    hints = Hints([root], make_observer)
    try:
        assert "fs.inotify.max_user_instances" in hints.problem
        is_full = False
        # Another folder in its place is asked for at once.
        root.rename(root.with_name("old"))
        root.mkdir()
        assert hints.renew() and hints.problem == ""
    finally:
        hints.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the lines are of watchdog's inotify")
def test_events_that_are_lost_make_a_scan_due_and_no_noise(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hints = Hints([root])
    try:
        logger = logging.getLogger("watchdog.observers.inotify_c")
        logger.warning("Inotify queue overflowed; filesystem events were lost")
        assert hints.wait(LIMIT_S) and hints.take() == []
        assert hints.renew() and not hints.renew()
        assert caplog.records == []
        logger.warning("something else")
        assert [record.getMessage() for record in caplog.records] == ["something else"]
    finally:
        hints.close()
    logger.warning("an overflow of somebody else")
    assert len(caplog.records) == 2


def test_waiting_ends_by_waking_and_by_time(root: Path) -> None:
    hints = Hints([root], make_polling)
    try:
        assert hints.wait(0.0) is False
        waker = threading.Timer(0.01, hints.wake)
        waker.start()
        assert hints.wait(LIMIT_S) is True
        waker.join()
        assert hints.wait(0.0) is True, "until it is taken"
        assert hints.take() == []
        assert hints.wait(0.0) is False
    finally:
        hints.close()


def test_folders_that_come_and_go_fast_hold_nothing_up(hints: Hints, root: Path) -> None:
    for index in range(30):
        (root / str(index) / "a" / "b" / "c").mkdir(parents=True)
        if index % 2:
            shutil.rmtree(root / str(index))
    (root / "28" / "a" / "last.wav").write_bytes(b"x")
    await_path(hints, root / "28" / "a" / "last.wav")


def test_what_watchdog_warns_of_such_folders_is_not_shown(root: Path) -> None:
    hints = Hints([root], make_polling)
    hints.close()
    place = ("inotify_c.py", 1, "watchdog.observers.inotify_c")
    warnings.warn_explicit("folders" * 2000, RuntimeWarning, *place)
    with pytest.raises(RuntimeWarning):
        warnings.warn_explicit("something of ours", RuntimeWarning, "ours.py", 1, "stembridge.ours")


def test_closing_ends_every_thread(root: Path, observer_factory: Callable[[], BaseObserver] | None) -> None:
    before = threading.active_count()
    hints = Hints([root], observer_factory)
    assert threading.active_count() > before
    hints.close()
    assert threading.active_count() == before
    hints.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such names")
def test_a_name_that_is_no_utf8_is_told_of_as_it_is_scanned(hints: Hints, root: Path) -> None:
    path = root / os.fsdecode(b"caf\xe9.wav")
    path.write_bytes(b"x")
    await_path(hints, path)
