"""Watched folders with the real daemon and real events: by inotify, and by an observer that polls."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

import fake_worker
from daemon_harness import DaemonHarness, is_alive, wait_until
from signals import make_music, to_ints, write_pcm
from stembridge.client import Client
from stembridge.errors import JobNotFound, StembridgeError
from stembridge.null_test import check_result
from stembridge.types import JobState, SplitRequest
from stembridge.watch.failures import note_path
from stembridge.watch.notifying import Notifier
from stembridge.watch.parts import Parts
from stembridge.watch.status import read_status
from stembridge.watch.watcher import News, Watcher

RATE = 44100
SETTINGS = 'model = "preview"\n[watch]\nquiet_s = 0.3\nscan_s = 600\nnotify = false\n'
"""Nothing is scanned in time, but where something asks for it: what is found is found by events."""


def _poll() -> BaseObserver:
    return PollingObserver(timeout=0.1)


@pytest.fixture(params=[None, _poll], ids=["inotify", "polling"])
def observer_factory(request: pytest.FixtureRequest) -> Callable[[], BaseObserver] | None:
    factory: Callable[[], BaseObserver] | None = request.param
    return factory


class Watched:
    """A folder, and what its watcher has told of."""

    def __init__(self, root: Path, harness: DaemonHarness) -> None:
        self.root = root
        self.harness = harness
        self.told: list[News] = []
        root.mkdir()
        (root / "stembridge.toml").write_text(SETTINGS, "utf-8")

    @contextmanager
    def watching(self, observer_factory: Callable[[], BaseObserver] | None = None) -> Iterator[None]:
        started: list[Watcher] = []
        failed: list[StembridgeError | OSError] = []

        def run() -> None:
            try:
                with self.harness.client() as client:
                    watcher = self._make_watcher(client, observer_factory)
                    started.append(watcher)
                    try:
                        watcher.run()
                    finally:
                        watcher.close()
            except (StembridgeError, OSError) as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        # A first status is written after the first scan: what comes now comes by events.
        wait_until(lambda: bool(failed) or read_status(self.root) is not None, "the watcher to watch")
        try:
            yield
        finally:
            for watcher in started:
                watcher.stop()
            thread.join(30)
        assert not failed, failed

    def _make_watcher(self, client: Client, observer_factory: Callable[[], BaseObserver] | None) -> Watcher:
        return Watcher(
            [self.root],
            self.harness.settings,
            client,
            tell=self.told.append,
            show=lambda _job: None,
            say=lambda _line: None,
            notifier=Notifier(is_on=False),
            parts=Parts(observer_factory=observer_factory),
        )

    def wait_for(self, name: str, state: str) -> News:
        def is_told() -> bool:
            return any((news.row.name, news.row.state.value) == (name, state) for news in self.told)

        wait_until(is_told, f"{name} to be {state}")
        return next(news for news in self.told if news.row.name == name and news.row.state.value == state)

    def result_of(self, name: str) -> Path:
        folder = Path(self.wait_for(name, "done").row.folder)
        assert check_result(folder).holds, name
        return folder

    def results(self) -> list[str]:
        return sorted(path.name for path in (self.root / "stems").iterdir())


@pytest.fixture
def watched(tmp_path: Path, daemon: DaemonHarness) -> Watched:
    daemon.start()
    return Watched(tmp_path / "drop", daemon)


def record(path: Path, *, seed: int = 0) -> Path:
    """Write a short recording beside all watched folders' reach, ready to be moved or copied in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_pcm(path, to_ints(make_music(4000, 2, RATE, seed=seed), 24), RATE, 24)


def test_files_are_done_however_they_come(
    watched: Watched, tmp_path: Path, observer_factory: Callable[[], BaseObserver] | None
) -> None:
    outside = record(tmp_path / "outside" / "moved in.wav", seed=1)
    album = tmp_path / "album"
    record(album / "one.wav", seed=2)
    record(album / "two" / "zwei ü.wav", seed=3)
    hidden = record(tmp_path / "renamed.wav", seed=4)
    with watched.watching(observer_factory):
        record(watched.root / "written.wav", seed=5)
        outside.rename(watched.root / outside.name)
        album.rename(watched.root / "album")
        shutil.move(hidden, watched.root / "upload.part")
        (watched.root / "upload.part").rename(watched.root / "uploaded.wav")
        for name in ("written.wav", outside.name, "album/one.wav", "album/two/zwei ü.wav", "uploaded.wav"):
            watched.result_of(name)
    assert len(watched.results()) == 5


def test_a_slow_writer_is_waited_for(
    watched: Watched, tmp_path: Path, observer_factory: Callable[[], BaseObserver] | None
) -> None:
    whole = record(tmp_path / "song.wav").read_bytes()
    first = record(tmp_path / "first.wav", seed=1)
    with watched.watching(observer_factory):
        with (watched.root / "song.wav").open("wb") as slow:
            slow.write(whole[: len(whole) // 2])
            slow.flush()
            shutil.copyfile(first, watched.root / "first.wav")
            watched.result_of("first.wav")
            slow.write(whole[len(whole) // 2 :])
        folder = watched.result_of("song.wav")
    assert [news.row.state.value for news in watched.told if news.row.name == "song.wav"] == [
        "waiting",
        "done",
    ]
    assert check_result(folder).holds


def test_a_change_of_a_done_file_is_done_too(
    watched: Watched, observer_factory: Callable[[], BaseObserver] | None
) -> None:
    with watched.watching(observer_factory):
        record(watched.root / "song.wav", seed=1)
        watched.result_of("song.wav")
        watched.told.clear()
        record(watched.root / "song.wav", seed=2)
        watched.result_of("song.wav")
    assert len(watched.results()) == 2


def test_a_recreated_folder_is_watched_again(
    watched: Watched, tmp_path: Path, observer_factory: Callable[[], BaseObserver] | None
) -> None:
    with watched.watching(observer_factory):
        record(watched.root / "song.wav", seed=1)
        watched.result_of("song.wav")
        watched.root.rename(tmp_path / "old")
        watched.root.mkdir()
        shutil.copyfile(tmp_path / "old" / "stembridge.toml", watched.root / "stembridge.toml")
        record(watched.root / "new.wav", seed=2)
        watched.result_of("new.wav")


def test_a_daemon_that_is_killed_meanwhile_costs_nothing(watched: Watched, daemon: DaemonHarness) -> None:
    with watched.watching():
        for number in range(4):
            record(watched.root / f"{number}.wav", seed=number)
        watched.wait_for("0.wav", "waiting")
        daemon.kill(daemon.processes[-1])
        daemon.start()
        for number in range(4):
            watched.result_of(f"{number}.wav")
    assert len(watched.results()) == 4


def test_a_preset_beside_the_file_gives_a_remix_too(watched: Watched) -> None:
    (watched.root / "song.wav.stembridge.toml").write_text('preset = "karaoke"\n')
    record(watched.root / "song.wav")
    with watched.watching():
        row = watched.wait_for("song.wav", "done").row
    assert [check_result(Path(folder)).holds for folder in row.results] == [True, True]


def test_what_is_dragged_out_of_a_result_does_not_come_in_again(watched: Watched) -> None:
    (watched.root / "song.wav.stembridge.toml").write_text(
        'format = "flac24"\nmp3 = true\npreset = "karaoke"\n'
    )
    record(watched.root / "song.wav", seed=1)
    with watched.watching():
        row = watched.wait_for("song.wav", "done").row
    dragged = [path for folder in row.results for path in Path(folder).rglob("*.*") if path.suffix != ".json"]
    assert {path.suffix for path in dragged} == {".flac", ".mp3"}
    for number, path in enumerate(dragged):
        shutil.copyfile(path, watched.root / f"{number}{path.suffix}")
    record(watched.root / "zuletzt.wav", seed=2)
    watched.told.clear()
    with watched.watching():
        watched.result_of("zuletzt.wav")
    assert {news.row.name for news in watched.told} == {"zuletzt.wav"}


def test_changes_of_jobs_come_one_by_one_across_a_restart(tmp_path: Path, daemon: DaemonHarness) -> None:
    gate = tmp_path / "gate"
    daemon.start(worker=fake_worker.command(gate))
    source = write_pcm(tmp_path / "long.wav", to_ints(make_music(3 * RATE, 2, RATE), 16), RATE, 16)
    request = SplitRequest(str(source), str(tmp_path / "out"), "preview", seed=fake_worker.GATED)
    with daemon.client() as client:
        for job_id in ("first", "second"):
            client.submit(request, job_id, watch=True)
        assert client.next_change(["first"], 0.0) is not None
        heard = {"first": JobState.QUEUED, "second": JobState.QUEUED}
        daemon.kill(daemon.processes[-1])
        daemon.start(worker=fake_worker.command(gate))
        gate.touch()

        def is_over() -> bool:
            job = client.next_change(list(heard), 1.0)
            if job is not None:
                heard[job.id] = job.state
            return set(heard.values()) == {JobState.DONE}

        wait_until(is_over, "both jobs to be done")
        with pytest.raises(JobNotFound, match="third"):
            client.next_change(["third"], 1.0)


def test_without_any_change_the_time_passes(tmp_path: Path, daemon: DaemonHarness) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    source = write_pcm(tmp_path / "long.wav", to_ints(make_music(3 * RATE, 2, RATE), 16), RATE, 16)
    request = SplitRequest(str(source), str(tmp_path / "out"), "preview", seed=fake_worker.GATED)
    with daemon.client() as client:
        client.submit(request, "held", watch=True)
        wait_until(lambda: client.next_change(["held"], 0.5) is None, "the job to stand at its gate")
        assert client.next_change([], 0.0) is None
        client.cancel("held")


class Command:
    """`stembridge watch` as people start it."""

    def __init__(
        self, arguments: Sequence[str], harness: DaemonHarness, stdin: int = subprocess.DEVNULL
    ) -> None:
        environment = {**os.environ, "STEMBRIDGE_HOME": str(harness.home)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stembridge.cli", "watch", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
        )

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


def test_once_works_off_what_is_there(watched: Watched) -> None:
    record(watched.root / "song.wav", seed=1)
    code, out, err = Command([str(watched.root), "--once"], watched.harness).finish()
    assert code == 0, err
    taken, done = out.splitlines()
    assert taken == "song.wav: taken"
    assert done.startswith("song.wav: done in ") and done.endswith(f"stems/{watched.results()[0]}")
    assert "watching" in err
    assert "1 done" in err.splitlines()[-1]
    code, out, err = Command([str(watched.root), "--once"], watched.harness).finish()
    assert (code, out) == (0, "") and "nothing to do" in err.splitlines()[-1]


def test_once_says_by_its_code_that_something_failed(watched: Watched) -> None:
    record(watched.root / "song.wav", seed=1)
    record(watched.root / "wrong.wav", seed=2)
    (watched.root / "wrong.wav.stembridge.toml").write_text("modl = 1\n")
    code, out, err = Command([str(watched.root), "--once", "--json"], watched.harness).finish()
    assert code == 3, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert {(line["file"], line["state"]) for line in lines} == {
        ("song.wav", "waiting"),
        ("wrong.wav", "waiting"),
        ("wrong.wav", "failed"),
        ("song.wav", "done"),
    }
    (failed,) = (line for line in lines if line["state"] == "failed")
    assert "modl" in failed["error"]["message"]
    assert note_path(watched.root, "wrong.wav").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, daemon: DaemonHarness) -> None:
    code, _, err = Command([str(tmp_path / "nowhere")], daemon).finish()
    assert code == 1 and "nowhere' is not there" in err
    (tmp_path / "file").touch()
    code, _, err = Command([str(tmp_path / "file")], daemon).finish()
    assert code == 1 and "file' is a file" in err
    (tmp_path / "drop" / "inner").mkdir(parents=True)
    code, _, err = Command([str(tmp_path / "drop"), str(tmp_path / "drop" / "inner")], daemon).finish()
    assert code == 1 and "lies in" in err


def test_a_second_watcher_of_a_folder_leaves_with_75(watched: Watched) -> None:
    with watched.watching():
        code, _, err = Command([str(watched.root)], watched.harness).finish()
    assert code == 75 and "is watched already" in err


def test_so_does_one_of_another_home(watched: Watched, tmp_path: Path) -> None:
    elsewhere = DaemonHarness(tmp_path / "another home")
    with watched.watching():
        wait_until(lambda: read_status(watched.root) is not None, "the first to say that it watches")
        code, _, err = Command([str(watched.root)], elsewhere).finish()
    assert code == 75 and f"is watched by process {os.getpid()} of another user or home" in err


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_when_it_is_told_to(watched: Watched, number: signal.Signals) -> None:
    command = Command([str(watched.root)], watched.harness)
    wait_until(lambda: read_status(watched.root) is not None, "the watcher to watch")
    command.process.send_signal(number)
    code, _, err = command.finish()
    assert code == 0 and "goes on" in err
    status = read_status(watched.root)
    assert status is not None and not status.is_watching


def test_that_of_a_daemon_ends_with_its_stdin_and_starts_none(tmp_path: Path, daemon: DaemonHarness) -> None:
    watched = Watched(tmp_path / "drop", daemon)
    record(watched.root / "song.wav")
    command = Command([str(watched.root), "--of-daemon"], daemon, stdin=subprocess.PIPE)

    def has_told() -> bool:
        status = read_status(watched.root)
        return status is not None and "no daemon is running" in status.daemon

    wait_until(has_told, "the watcher to miss the daemon")
    daemon.start()
    wait_until(lambda: (watched.root / "stems").is_dir() and watched.results() != [], "the result")
    assert command.process.stdin is not None
    command.process.stdin.close()
    command.process.stdin = None
    code, out, err = command.finish()
    assert code == 0 and "song.wav: taken" in out
    assert "watching" in err and "Ctrl-C" not in err
    assert not is_alive(command.process.pid)


HUNG = """
import threading
from stembridge.cli import watch

class Hung:
    def stop(self):
        print("told to stop", flush=True)

watch.LEAVE_S = 0.05
watch._end_with_stdin(Hung(), threading.Event())
threading.Event().wait()
"""


def test_that_of_a_daemon_ends_with_its_stdin_even_where_it_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNG],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "told to stop\n", "")
