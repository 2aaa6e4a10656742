"""The watcher that a daemon keeps running: started again when it ends, and gone with its daemon."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from daemon_harness import DaemonHarness, is_alive, wait_until
from stembridge.catalog import find_model
from stembridge.cli import main
from stembridge.daemon_process import cleaned_environment
from stembridge.settings import load_settings
from stembridge.synthesis import make_song
from stembridge.watch.status import WatchStatus, read_status, write_status
from stembridge_daemon import watching
from stembridge_daemon.watching import WatchChild

ACTOR = f"""#!{sys.executable}
'''Stands in for the watcher: notes that it runs, and does what its first argument says.'''
import json, os, pathlib, sys
runs, what = pathlib.Path(sys.argv[1]), sys.argv[2]
with runs.open("a") as file:
    said = dict(pid=os.getpid(), home=os.environ.get("STEMBRIDGE_HOME"), shell=os.environ.get("STEMBRIDGE_X"))
    print(json.dumps(said), file=file)
print("watching, r\\u00e9ally")
if what == "crash" and len(runs.read_text().splitlines()) < 4:
    os.kill(os.getpid(), 9)
if what == "refuse":
    print("stembridge: it is watched already", file=sys.stderr)
    sys.exit(75)
sys.stdin.read()
if what == "stay":
    import signal
    signal.pause()
print("left in order")
"""

Start = Callable[..., WatchChild]


class Actors:
    """Watch children whose watcher does as a test says."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(home=folder / "home", environ={})
        self.program = folder / "actor"
        self.program.write_text(ACTOR)
        self.program.chmod(0o755)
        self.record = folder / "runs"
        self.record.touch()
        self.children: list[WatchChild] = []

    def start(self, what: str, **options: Any) -> WatchChild:
        command = [str(self.program), str(self.record), what]
        child = WatchChild([Path("/drop")], self.settings, command=command, pauses_s=(0.01,), **options)
        self.children.append(child)
        child.start()
        return child

    @property
    def runs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def await_runs(self, count: int) -> list[int]:
        wait_until(lambda: len(self.runs) >= count, f"{count} starts")
        return [run["pid"] for run in self.runs]

    @property
    def log(self) -> str:
        return self.settings.watch_log_file.read_text("utf-8")


@pytest.fixture
def actors(tmp_path: Path) -> Iterator[Actors]:
    made = Actors(tmp_path)
    yield made
    for child in made.children:
        child.close(10)


def test_a_watcher_runs_until_its_daemon_leaves(actors: Actors) -> None:
    child = actors.start("watch")
    (pid,) = actors.await_runs(1)
    wait_until(lambda: "watching" in actors.log, "its first line")
    child.close(30)
    assert not is_alive(pid) and len(actors.runs) == 1
    assert [line.split(" ", 2)[2] for line in actors.log.splitlines()] == [
        "watching, réally",
        "left in order",
    ]


def test_one_that_crashes_is_started_again_and_told_of_once(
    actors: Actors, caplog: pytest.LogCaptureFixture
) -> None:
    child = actors.start("crash")
    pids = actors.await_runs(4)
    child.close(30)
    assert not any(map(is_alive, pids)) and len(set(pids)) == 4
    told = [record for record in caplog.records if "signal 9" in record.getMessage()]
    assert [record.levelno for record in told if record.levelno >= logging.WARNING] == [logging.ERROR]
    assert told[0].getMessage() == "the watcher ended: signal 9; it is started again in 0.01 s"


def test_one_that_may_not_watch_is_tried_again_with_its_reason_in_the_log(
    actors: Actors, caplog: pytest.LogCaptureFixture
) -> None:
    child = actors.start("refuse")
    actors.await_runs(2)
    child.close(30)
    assert "the watcher ended: exit code 75: stembridge: it is watched already" in caplog.text


def test_one_that_cannot_be_started_costs_the_daemon_nothing(
    actors: Actors, caplog: pytest.LogCaptureFixture
) -> None:
    actors.program.unlink()
    child = actors.start("watch")
    wait_until(lambda: "cannot be started" in caplog.text, "a word about it")
    child.close(30)


def test_pauses_grow_and_begin_anew_after_a_sound_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasted = [0.0, 0.0, 0.0, 500.0, 0.0]
    now = [0.0]
    paused: list[float] = []
    child = WatchChild([tmp_path], load_settings(home=tmp_path, environ={}), clock=lambda: now[0])

    def run_once(_output: logging.Logger) -> str:
        now[0] += lasted[len(paused)]
        return "exit code 1"

    def pause(seconds: float | None = None) -> bool:
        assert seconds is not None
        paused.append(seconds)
        if len(paused) == len(lasted):
            child._leaving.set()
        return True

    monkeypatch.setattr(child, "_run_once", run_once)
    monkeypatch.setattr(child._leaving, "wait", pause)
    child.start()
    child._thread.join(10)
    assert paused == [1.0, 2.0, 5.0, 1.0, 2.0]


def test_one_that_does_not_leave_is_killed(actors: Actors) -> None:
    child = actors.start("stay")
    (pid,) = actors.await_runs(1)
    child.close(0.2)
    assert not is_alive(pid)


def test_one_that_was_never_started_can_be_closed(tmp_path: Path) -> None:
    WatchChild([], load_settings(home=tmp_path, environ={})).close(1)
    assert not list(tmp_path.iterdir())


def test_a_watcher_sees_its_daemons_home_and_nothing_of_its_shell(
    actors: Actors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMBRIDGE_X", "steers it")
    actors.start("watch")
    actors.await_runs(1)
    assert actors.runs[0]["home"] == str(actors.settings.home) and actors.runs[0]["shell"] is None


def test_a_watcher_can_reach_the_desktop() -> None:
    desktop = {"DISPLAY": ":0", "WAYLAND_DISPLAY": "w", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}
    assert cleaned_environment(desktop | {"PYTHONPATH": "/evil"}) == desktop


def test_the_command_is_this_installations_own() -> None:
    command = watching._make_command([Path("/a b"), Path("/c")], [Path("/m"), Path("/n")])
    assert command[:3] == [sys.executable, "-P", "-m"]
    models = ["--model-dir", "/m", "--model-dir", "/n"]
    assert command[3:] == ["stembridge.cli", "watch", "--of-daemon", *models, "--", "/a b", "/c"]


def drop(root: Path, name: str, seed: int) -> None:
    made = make_song(seed, seconds=0.6)
    soundfile.write(root / name, made.mixture.T, made.sample_rate, subtype="PCM_24")


def await_done(root: Path, name: str) -> WatchStatus:
    """Return the status of a folder once it says that a file is done."""
    found: list[WatchStatus] = []

    def is_done() -> bool:
        status = read_status(root)
        found[:] = [status] if status is not None else []
        return any(one.file == name and one.state == "done" for status in found for one in status.files)

    wait_until(is_done, f"{name} to be done")
    return found[0]


def test_another_daemon_takes_a_folder_over_when_the_first_is_killed(
    daemon: DaemonHarness, tmp_path: Path
) -> None:
    root = tmp_path / "drop"
    root.mkdir()
    (root / "stembridge.toml").write_text('model = "preview"\n')
    first = daemon.start("--watch", str(root))
    drop(root, "one.wav", 1)
    status = await_done(root, "one.wav")
    worker = daemon.worker_pid()
    daemon.kill(first)
    wait_until(lambda: not is_alive(status.pid), "the watcher to end with its daemon")
    wait_until(lambda: not is_alive(worker), "the worker to end with its daemon")
    drop(root, "two.wav", 2)
    second = daemon.start("--watch", str(root))
    again = await_done(root, "two.wav")
    assert again.is_watching and again.pid != status.pid and is_alive(again.pid)
    assert again.counts["done"] == 2 and again.daemon == ""
    results = sorted(path.name for path in (root / "stems").iterdir())
    assert [name.split("__")[0] for name in results] == ["one", "two"]
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    assert not is_alive(again.pid)
    left = read_status(root)
    assert left is not None and not left.is_watching
    assert "done" in daemon.settings.watch_log_file.read_text()


def test_folders_of_the_settings_are_watched(daemon: DaemonHarness, tmp_path: Path) -> None:
    root = tmp_path / "drop"
    root.mkdir()
    daemon.home.mkdir()
    daemon.settings.config_file.write_text(f"watch_dirs = [{json.dumps(str(root))}]\n")
    daemon.start()
    (root / "one.stembridge.toml").write_text('model = "preview"\n')
    drop(root, "one.wav", 1)
    assert await_done(root, "one.wav").folder == str(root)


def test_its_log_and_what_it_watches_are_shown(
    daemon: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["daemon", "logs", "--watch"]) == 69
    assert "watch_dirs" in capsys.readouterr().err
    daemon.start()
    folders = [tmp_path / name for name in ("busy", "left", "new", "empty")]
    for folder in folders:
        folder.mkdir()
    daemon.settings.watch_log_file.write_text("one\ntwo\n")
    daemon.settings.config_file.write_text(
        f"watch_dirs = {json.dumps([str(folder) for folder in folders])}\n"
    )
    now = WatchStatus("", time.time(), 1, "studio", "1", counts={"done": 3, "failed": 0, "splitting": 1})
    write_status(folders[0], now)
    write_status(folders[1], replace(now, is_watching=False))
    write_status(folders[3], replace(now, counts={"done": 0}))
    assert main(["daemon", "status"]) == 0
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"watches {folders[0]}: 3 done, 1 splitting",
        f"watches {folders[1]}: 3 done, 1 splitting (not watched now)",
        f"watches {folders[2]}: no status yet",
        f"watches {folders[3]}: no files yet",
    ]
    assert main(["daemon", "logs", "--watch", "-n", "1"]) == 0
    assert capsys.readouterr().out == "two\n"
    assert main(["daemon", "logs", "--watch", "--worker"]) == 2
    assert "one log at a time" in capsys.readouterr().err


def test_what_it_was_told_to_watch_is_shown(
    daemon: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "drop"
    root.mkdir()
    daemon.start("--watch", str(root))
    wait_until(lambda: read_status(root) is not None, "its first status")
    assert main(["daemon", "status"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"watches {root}: no files yet"


def test_one_that_cannot_have_a_name_costs_the_daemon_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    child = WatchChild([Path("a\0b")], load_settings(home=tmp_path, environ={}), pauses_s=(0.01,))
    child.start()
    wait_until(lambda: "cannot be started" in caplog.text, "a word about it")
    child.close(30)


def test_models_are_looked_for_where_the_daemon_was_told_to(daemon: DaemonHarness, tmp_path: Path) -> None:
    models, root = tmp_path / "models of mine", tmp_path / "drop"
    models.mkdir()
    root.mkdir()
    (root / "stembridge.toml").write_text('model = "htdemucs"\n')
    (models / f"{find_model('htdemucs').members[0].signature}.th").touch()
    drop(root, "one.wav", 1)
    daemon.start("--watch", str(root), "--model-dir", str(models))
    states: set[str] = set()

    def has_had_its_turn() -> bool:
        status = read_status(root)
        states.update(one.state for one in (status.files if status is not None else ()))
        return bool(states & {"done", "failed", "splitting"})

    wait_until(has_had_its_turn, "its turn")
    assert "waiting for model" not in states
