"""The watcher's loop, with real files, a real ledger, and a daemon that does at once what it is told."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from daemon_harness import wait_until
from stembridge import catalog, manifest, model_store
from stembridge.errors import (
    Busy,
    DaemonUnavailable,
    IdConflict,
    JobNotFound,
    RequestError,
    SourceError,
    StembridgeError,
)
from stembridge.settings import Settings, load_settings
from stembridge.types import (
    ErrorInfo,
    Job,
    JobRequest,
    JobState,
    Progress,
    RemixRequest,
    SplitRequest,
    SplitResult,
)
from stembridge.watch import folder as folder_module
from stembridge.watch import ledger as ledger_module
from stembridge.watch import status as status_module
from stembridge.watch import watcher as watcher_module
from stembridge.watch.dropped import Dropped
from stembridge.watch.failures import note_path
from stembridge.watch.ledger import Ledger
from stembridge.watch.life import FileRow, FileState
from stembridge.watch.notifying import Notifier
from stembridge.watch.parts import Parts
from stembridge.watch.settling import choose_rules
from stembridge.watch.status import STATUS_FILE, read_status
from stembridge.watch.watcher import News, Watcher


class FakeDaemon:
    """Jobs as files in a folder, so that they outlive the process; a job is done when it is first asked for.

    ``refusals`` and ``failures`` name files whose jobs are refused or fail, ``pauses`` those whose jobs are
    paused; with ``is_holding`` none ends.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.refusals: dict[str, StembridgeError] = {}
        self.failures: dict[str, ErrorInfo] = {}
        self.pauses: set[str] = set()
        self.warnings: tuple[str, ...] = ()
        self.is_holding = False
        self.problem: StembridgeError | None = None
        self.most_at_once = 0

    def submit(self, request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job:
        assert job_id is not None and watch
        self._check()
        digest = json.dumps(asdict(request))
        if self._file(job_id).exists():
            if json.loads(self._file(job_id).read_text())["digest"] != digest:
                raise IdConflict(job_id)
            return self.get(job_id)
        refusal = self.refusals.get(Path(request.source).name)
        if refusal is not None:
            raise refusal
        if not Path(request.source).exists():
            raise SourceError(f"{request.source!r} does not exist")
        self._write(job_id, {"digest": digest, "state": "queued", "source": request.source})
        self.most_at_once = max(self.most_at_once, len(self.jobs("queued")))
        return self._job(job_id)

    def get(self, job_id: str, *, watch: bool = False) -> Job:
        self._check()
        if not self._file(job_id).exists():
            raise JobNotFound(job_id)
        return self._job(job_id)

    def cancel(self, job_id: str) -> Job:
        self._write(job_id, self._read(job_id) | {"state": "cancelled"})
        return self._job(job_id)

    def next_change(self, job_ids: Collection[str], timeout_s: float) -> Job | None:
        self._check()
        for job_id in job_ids:
            job = self.get(job_id)
            if not self.is_holding and not job.is_paused and not job.state.is_final:
                self._finish(job_id)
            if self._job(job_id).state.is_final:
                return self._job(job_id)
        threading.Event().wait(min(timeout_s, 0.01))
        return None

    def jobs(self, state: str = "") -> list[str]:
        """Return the ids of all jobs, or of those in a state."""
        ids = sorted(path.stem for path in self.place.glob("*.json"))
        return [job_id for job_id in ids if state in ("", self._read(job_id)["state"])]

    def forget(self) -> None:
        """Be another daemon that knows nothing."""
        for path in self.place.glob("*.json"):
            path.unlink()

    def _check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def _finish(self, job_id: str) -> None:
        kept = self._read(job_id)
        name = Path(kept["source"]).name
        if name in self.failures:
            self._write(job_id, kept | {"state": "failed", "error": asdict(self.failures[name])})
            return
        if not Path(kept["source"]).exists():
            error = asdict(ErrorInfo("bad_source", f"{name} does not exist"))
            self._write(job_id, kept | {"state": "failed", "error": error})
            return
        out = Path(json.loads(kept["digest"])["out"]) / job_id
        out.mkdir(parents=True, exist_ok=True)
        (out / manifest.FILE_NAME).touch()
        self._write(job_id, kept | {"state": "done", "folder": str(out)})

    def _job(self, job_id: str) -> Job:
        kept = self._read(job_id)
        fields = json.loads(kept["digest"])
        is_remix = "preset" in fields
        result = None
        if "folder" in kept:
            result = SplitResult(kept["folder"], 1.0, 1.0, 2.0, None, self.warnings)
        return Job(
            job_id,
            None if is_remix else SplitRequest(**fields),
            JobState(kept["state"]),
            0.0,
            remix=RemixRequest(**fields) if is_remix else None,
            result=result,
            progress=Progress("separate", 0.5, 9.0),
            error=ErrorInfo(**kept["error"]) if "error" in kept else None,
            is_paused=Path(fields["source"]).name in self.pauses,
        )

    def _file(self, job_id: str) -> Path:
        return self.place / f"{job_id}.json"

    def _read(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._file(job_id).read_text())
        return found

    def _write(self, job_id: str, kept: dict[str, Any]) -> None:
        hidden = self.place / f"{job_id}.new"
        hidden.write_text(json.dumps(kept))
        hidden.replace(self._file(job_id))


@dataclass
class Bench:
    """A folder to be watched, and the daemon that outlives its watchers."""

    root: Path
    settings: Settings
    daemon: FakeDaemon

    def __post_init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.shown: list[Job] = []
        self.rows: list[FileRow] = []

    def make_watcher(
        self, *more_roots: Path, parts: Parts | None = None, is_patient: bool = False
    ) -> Watcher:
        return Watcher(
            [self.root, *more_roots],
            self.settings,
            self.daemon,
            tell=self._tell,
            show=self.shown.append,
            say=self.said.append,
            notifier=Notifier(is_on=False),
            parts=parts or Parts(),
            is_patient=is_patient,
        )

    def work_off(self, *more_roots: Path, parts: Parts | None = None) -> bool:
        """Watch until nothing is left to do, and tell whether something failed or waits."""
        watcher = self.make_watcher(*more_roots, parts=parts)
        limit = threading.Timer(LIMIT_S, watcher.stop)
        limit.start()
        try:
            watcher.run(once=True)
        finally:
            limit.cancel()
            watcher.close()
        assert not watcher.is_stopped, f"after {LIMIT_S:g} s there was still something to do"
        return watcher.has_unfinished

    @contextmanager
    def watching(
        self, *more_roots: Path, parts: Parts | None = None, is_patient: bool = False
    ) -> Iterator[None]:
        """Have the folder watched by a thread for the length of the block."""
        started: list[Watcher] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                watcher = self.make_watcher(*more_roots, parts=parts, is_patient=is_patient)
                started.append(watcher)
                try:
                    watcher.run()
                finally:
                    watcher.close()
            except (AssertionError, OSError, StembridgeError, LookupError, TypeError) as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: bool(started or failed), "the watcher to start")
        try:
            yield
        finally:
            for watcher in started:
                watcher.stop()
            thread.join(20)
        assert not failed, failed

    def wait_for(self, name: str, state: str) -> None:
        wait_until(lambda: (name, state) in self.told, f"{name} to be told of as {state}", 20.0)

    def wait_for_job(self) -> None:
        """Wait until one job is at the daemon, and the watcher has looked once more at its file."""
        wait_until(lambda: len(self.daemon.jobs("queued")) == 1, "the job", 20.0)
        wait_until(lambda: self.counts().get("splitting") == 1, "the status to say so", 20.0)

    def states(self) -> dict[str, str]:
        """Return the state of each file, as the status file says."""
        status = read_status(self.root)
        assert status is not None
        return {file.file: file.state for file in status.files}

    def counts(self) -> Mapping[str, int]:
        """Return how many files are in each state, as the status file says."""
        status = read_status(self.root)
        return {} if status is None else status.counts

    def at_work(self) -> list[tuple[str, str, float | None]]:
        """Return file, stage and seconds left of what is at work, as the status file says."""
        status = read_status(self.root)
        return [] if status is None else [(one.file, one.stage, one.eta_s) for one in status.now]

    def result(self, name: str) -> Path:
        status = read_status(self.root)
        assert status is not None
        (result,) = {file.result for file in status.files if file.file == name}
        return self.root / result

    def note(self, name: str) -> str:
        return note_path(self.root, name).read_text("utf-8")

    def drop(self, name: str, *, seed: int = 0) -> Path:
        """Put a recording into the folder, another one for each seed."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (200, 2))
        hidden = path.with_name(".being-dropped.wav")
        soundfile.write(hidden, samples, 44100)
        hidden.rename(path)
        return path

    def wish(self, place: str, text: str) -> None:
        (self.root / place).write_text(text, "utf-8")

    def _tell(self, news: News) -> None:
        self.told.append((news.row.name, news.row.state.value))
        self.rows.append(news.row)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have folders scanned and statuses written more often than a disk should bear."""
    monkeypatch.setattr(folder_module, "LOCAL_SCAN_S", 0.2)
    for module in (status_module, watcher_module):
        monkeypatch.setattr(module, "CHANGE_S", 0.1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "drop"
    root.mkdir()
    settings = load_settings(home=tmp_path / "home", environ={})
    made = Bench(root, settings, FakeDaemon(tmp_path / "daemon"))
    made.wish("stembridge.toml", QUICK)
    return made


LIMIT_S = 30.0
QUICK = 'model = "preview"\n[watch]\nquiet_s = 0.1\nnotify = false\n'


def touch(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000_000))


def test_what_lies_there_is_worked_off_once(bench: Bench) -> None:
    bench.drop("song.wav", seed=1)
    bench.drop("sub/söng.wav", seed=2)
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done", "sub/söng.wav": "done"}
    assert len(bench.daemon.jobs()) == 2
    assert bench.result("song.wav").is_dir()
    bench.told.clear()
    assert not bench.work_off()
    assert bench.told == [] and len(bench.daemon.jobs()) == 2


def test_a_file_that_is_dropped_while_the_folder_is_watched_is_done(bench: Bench) -> None:
    with bench.watching():
        bench.drop("song.wav")
        bench.wait_for("song.wav", "done")
        bench.drop("later/other.wav", seed=1)
        bench.wait_for("later/other.wav", "done")
    status = read_status(bench.root)
    assert status is not None and not status.is_watching and status.counts["done"] == 2


def test_at_most_two_splits_are_at_the_daemon(bench: Bench) -> None:
    for number in range(7):
        bench.drop(f"{number}.wav", seed=number)
    assert not bench.work_off()
    assert len(bench.daemon.jobs("done")) == 7
    assert bench.daemon.most_at_once == 2


def test_a_file_whose_job_is_paused_lets_others_by_and_is_done_when_it_is_resumed(bench: Bench) -> None:
    paused = [f"{number}.wav" for number in range(4)]
    bench.daemon.pauses = set(paused)
    with bench.watching():
        for seed, name in enumerate(paused):
            bench.drop(name, seed=seed)
        wait_until(lambda: bench.counts().get("splitting") == 4, "all of them to be asked for", 20.0)
        bench.drop("other.wav", seed=4)
        bench.wait_for("other.wav", "done")
        left = [(name, "paused", None) for name in paused]
        wait_until(lambda: bench.at_work() == left, "the status to say so", 20.0)
        bench.daemon.pauses = set()
        for name in paused:
            bench.wait_for(name, "done")


def test_a_preset_is_applied_to_the_finished_set(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.wish("song.wav.stembridge.toml", 'preset = "karaoke"\n')
    assert not bench.work_off()
    split, remix = bench.daemon.jobs()
    assert remix == f"{split}-r1"
    status = read_status(bench.root)
    assert status is not None
    (file,) = status.files
    assert (bench.root / file.result).name == split
    assert [(bench.root / folder).name for folder in file.remixes] == [remix]


def test_a_remix_that_fails_is_noted_with_the_place_of_the_stems(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.wish("song.wav.stembridge.toml", 'preset = "karaoke"\n')
    refuse = bench.daemon.submit

    def submit(request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job:
        if isinstance(request, RemixRequest):
            raise StembridgeError("the effect is out of order", "take another")
        return refuse(request, job_id, watch=watch)

    bench.daemon.submit = submit  # type: ignore[method-assign]
    assert bench.work_off()
    assert "the effect is out of order" in bench.note("song.wav")
    assert str(bench.result("song.wav")) in bench.note("song.wav")


def test_a_renamed_or_copied_file_is_not_done_again(bench: Bench) -> None:
    song = bench.drop("song.wav")
    assert not bench.work_off()
    shutil.copyfile(song, bench.root / "copy.wav")
    song.rename(bench.root / "renamed.wav")
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 1
    assert bench.states() == {"song.wav": "done", "copy.wav": "same", "renamed.wav": "same"}
    assert bench.result("copy.wav") == bench.result("song.wav")


def test_two_copies_dropped_at_once_are_done_once(bench: Bench) -> None:
    shutil.copyfile(bench.drop("a.wav"), bench.root / "b.wav")
    bench.drop("c.wav", seed=1)
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 2
    assert sorted(bench.states().values()) == ["done", "done", "same"]


def test_the_same_file_with_another_wish_is_done_anew(bench: Bench) -> None:
    shutil.copyfile(bench.drop("a.wav"), bench.root / "b.wav")
    bench.wish("b.wav.stembridge.toml", "mp3 = true\n")
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 2


def test_other_bytes_under_a_known_name_are_done(bench: Bench) -> None:
    song = bench.drop("song.wav", seed=1)
    kept = song.stat()
    assert not bench.work_off()
    bench.drop("song.wav", seed=2)
    # Of the same length, and with the time set back as some programs do.
    os.utime(song, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert not bench.work_off()
    assert len(bench.daemon.jobs("done")) == 2


def test_a_file_whose_result_was_removed_is_done_again_when_it_is_touched(bench: Bench) -> None:
    song = bench.drop("song.wav")
    assert not bench.work_off()
    touch(song)
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 1
    shutil.rmtree(bench.result("song.wav"))
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 1
    touch(song)
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 2 and bench.result("song.wav").is_dir()


def test_other_wishes_for_a_done_file_wait_until_it_is_touched_or_dropped_again(bench: Bench) -> None:
    song = bench.drop("song.wav")
    assert not bench.work_off()
    first = bench.result("song.wav")
    bench.wish("song.stembridge.toml", "mp3 = true\n")
    bench.told.clear()
    assert not bench.work_off()
    assert bench.told == [] and len(bench.daemon.jobs()) == 1
    touch(song)
    assert not bench.work_off()
    assert bench.told == [("song.wav", "waiting"), ("song.wav", "done")]
    assert len(bench.daemon.jobs()) == 2 and bench.result("song.wav") != first and first.is_dir()
    bench.wish("song.stembridge.toml", "mp3 = false\n")
    kept = song.stat()
    shutil.copy2(song, song.with_name(".copy.wav"))
    song.with_name(".copy.wav").replace(song)
    assert song.stat().st_mtime_ns == kept.st_mtime_ns
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 3


def test_a_done_file_that_is_touched_with_the_wishes_of_before_is_told_as_the_same(bench: Bench) -> None:
    song = bench.drop("song.wav")
    shutil.copyfile(song, bench.root / "copy.wav")
    assert not bench.work_off()
    bench.told.clear()
    bench.rows.clear()
    touch(song)
    touch(bench.root / "copy.wav")
    assert not bench.work_off()
    assert {(row.name, row.state) for row in bench.rows} == {
        ("song.wav", FileState.SAME),
        ("copy.wav", FileState.SAME),
    }
    (result,) = {folder for row in bench.rows for folder in row.results}
    assert len({row.same_as for row in bench.rows}) == 1
    assert Path(result) == bench.result("song.wav") and len(bench.daemon.jobs()) == 1
    assert sorted(bench.states().values()) == ["done", "same"]


def test_a_touched_file_waits_for_wishes_that_are_just_being_saved(bench: Bench) -> None:
    song = bench.drop("song.wav")
    assert not bench.work_off()
    bench.wish("song.stembridge.toml", "mp3 = tr")
    touch(song)
    bench.told.clear()
    is_asked, is_saved = threading.Event(), threading.Event()

    def is_written(path: Path) -> bool:
        if path.name != "song.stembridge.toml" or is_saved.is_set():
            return False
        is_asked.set()
        return True

    with bench.watching(parts=Parts(is_written=is_written)):
        assert is_asked.wait(20.0)
        bench.wish("song.stembridge.toml", "mp3 = false\n")
        is_saved.set()
        bench.wait_for("song.wav", "same")
    assert bench.told == [("song.wav", "same")] and len(bench.daemon.jobs()) == 1


def test_a_file_that_can_never_be_split_is_noted_with_its_own_remedy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = dataclasses.replace(choose_rules(is_network=False, quiet_s=0.1), unsplittable_s=0.1)
    monkeypatch.setattr(folder_module, "choose_rules", lambda **asked: rules)
    soundfile.write(bench.root / "wide.wav", np.zeros((100, 10)), 44100)
    assert bench.work_off()
    assert "10 channels" in bench.note("wide.wav")
    assert "split it into files of fewer channels" in bench.note("wide.wav")


def test_what_a_job_warns_of_is_told_and_is_no_failure(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.daemon.warnings = ("no AAF: a package is not here", "the residual is loud")
    assert not bench.work_off()
    status = read_status(bench.root)
    assert status is not None
    (file,) = status.files
    assert file.state == "done" and not file.error_code
    assert file.detail == "no AAF: a package is not here; the residual is loud"
    assert bench.rows[-1].warnings == bench.daemon.warnings
    assert not note_path(bench.root, "song.wav").exists()


def test_a_failure_is_noted_and_tried_again_when_the_file_is_touched(bench: Bench) -> None:
    song = bench.drop("song.wav")
    bench.daemon.failures["song.wav"] = ErrorInfo("bad_source", "too silent", "sing louder")
    assert bench.work_off()
    assert "too silent" in bench.note("song.wav") and "sing louder" in bench.note("song.wav")
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "failed"} and len(bench.daemon.jobs()) == 1
    bench.daemon.failures.clear()
    touch(song)
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"}
    assert not note_path(bench.root, "song.wav").exists()


def test_a_job_that_the_daemon_refuses_fails_the_file_and_no_other(bench: Bench) -> None:
    bench.drop("bad.wav", seed=1)
    bench.drop("good.wav", seed=2)
    bench.daemon.refusals["bad.wav"] = RequestError("not today", "tomorrow")
    assert bench.work_off()
    assert bench.states() == {"bad.wav": "failed", "good.wav": "done"}
    assert "not today" in bench.note("bad.wav")


def test_what_the_daemon_refuses_or_has_done_already_makes_room_at_once(bench: Bench) -> None:
    bench.wish("stembridge.toml", QUICK + "scan_s = 600\n")
    names = [f"{number}.wav" for number in range(24)]
    for number, name in enumerate(names):
        bench.drop(name, seed=number)
        bench.daemon.refusals[name] = RequestError("not today", "tomorrow")
    with bench.watching():
        for name in names:
            bench.wait_for(name, "failed")
    bench.daemon.refusals.clear()
    for name in names:
        touch(bench.root / name)
    assert not bench.work_off()
    ledger = ledger_module.ledger_path(bench.settings, bench.root)
    for path in ledger.parent.glob("*.sqlite*"):
        path.unlink()
    bench.told.clear()
    with bench.watching():
        for name in names:
            bench.wait_for(name, "done")


def test_a_wrong_wish_fails_with_its_line_until_it_is_mended(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.wish("song.wav.stembridge.toml", "\nmodl = 1\n")
    assert bench.work_off()
    assert "line 2" in bench.note("song.wav") and bench.daemon.jobs() == []
    bench.wish("song.wav.stembridge.toml", "mp3 = true\n")
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"}


@pytest.mark.parametrize("place", ["stembridge.toml", "song.stembridge.toml"])
def test_settings_that_are_just_being_saved_are_waited_for(bench: Bench, place: str) -> None:
    bench.wish("stembridge.toml", QUICK)
    saving = threading.Event()
    parts = Parts(is_written=lambda path: path.name == place and saving.is_set())
    with bench.watching(parts=parts):
        bench.drop("before.wav")
        bench.wait_for("before.wav", "done")
        saving.set()
        bench.wish(place, "model = ")
        bench.drop("song.wav", seed=1)

        def is_waited_for() -> bool:
            status = read_status(bench.root)
            return status is not None and any("just being saved" in note for note in status.notes)

        wait_until(is_waited_for, "the note on it")
        assert bench.states()["song.wav"] == "waiting"
        bench.wish(place, QUICK if place == "stembridge.toml" else 'model = "preview"\nseed = 7\n')
        saving.clear()
        bench.wait_for("song.wav", "done")
        wait_until(lambda: not is_waited_for(), "the note to go")
    assert ("song.wav", "failed") not in bench.told


def test_settings_that_were_saved_just_before_the_file_came_apply_to_it(bench: Bench) -> None:
    bench.wish("stembridge.toml", QUICK.replace("0.1", "0.4"))
    late = threading.Event()

    def is_written(path: Path) -> bool:
        if path.name == "song.wav" and not late.is_set():
            # The sidecar is copied after its song, and is there in part when the song is whole.
            late.set()
            bench.wish("song.stembridge.toml", "model = ")
            hidden = threading.Timer(0.2, bench.wish, ("song.stembridge.toml", 'model = "mdx"\n'))
            hidden.start()
            timers.append(hidden)
        return False

    timers: list[threading.Timer] = []
    bench.drop("song.wav")
    assert bench.work_off(parts=Parts(is_written=is_written))
    for timer in timers:
        timer.join()
    assert bench.states() == {"song.wav": "waiting for model"}
    assert ("song.wav", "failed") not in bench.told


def test_a_file_waits_for_its_model_and_not_in_the_way_of_others(bench: Bench) -> None:
    bench.drop("a.wav", seed=1)
    bench.drop("b.wav", seed=2)
    bench.wish("a.wav.stembridge.toml", 'model = "htdemucs"\n')
    assert bench.work_off()
    assert bench.states() == {"a.wav": "waiting for model", "b.wav": "done"}
    assert ("a.wav", "waiting for model") in bench.told
    bench.told.clear()
    assert bench.work_off()
    assert bench.told == []
    bench.wish("a.wav.stembridge.toml", 'model = "preview"\n')
    assert not bench.work_off()
    assert bench.states()["a.wav"] == "done"


def test_a_model_that_has_come_lets_its_files_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.drop("a.wav")
    bench.wish("a.wav.stembridge.toml", 'model = "htdemucs"\n')
    assert bench.work_off()
    monkeypatch.setattr(model_store, "locate", lambda *_: object())
    assert not bench.work_off()
    assert bench.states() == {"a.wav": "done"}


def test_a_model_that_is_there_twice_is_waited_for_until_one_is_removed(bench: Bench) -> None:
    models = bench.settings.model_dirs[0]
    models.mkdir(parents=True)
    signature = catalog.find_model("htdemucs").members[0].signature
    twice = [models / f"{signature}-{digits * 8}.th" for digits in "ab"]
    for file in twice:
        file.touch()
    bench.wish("stembridge.toml", QUICK)
    bench.wish("song.stembridge.toml", 'model = "htdemucs"')
    bench.drop("song.wav")
    assert bench.work_off()
    status = read_status(bench.root)
    assert status is not None
    (waits,) = status.files
    assert waits.state == "waiting for model" and "remove all but one" in waits.hint
    twice[0].unlink()
    assert not bench.work_off()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no such names there")
def test_a_name_that_is_no_text_fails_by_name(bench: Bench) -> None:
    song = bench.drop("song.wav")
    song.rename(os.fsdecode(os.fsencode(bench.root) + b"/caf\xe9.wav"))
    assert bench.work_off()
    (note,) = (bench.root / "failed").iterdir()
    assert "not all of it is UTF-8" in note.read_text("utf-8")
    assert not bench.work_off()


def test_an_unreadable_file_fails_until_its_rights_have_changed(bench: Bench) -> None:
    song = bench.drop("song.wav")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "hash_drop", _refuse_to_read)
        assert bench.work_off()
    assert "'song.wav' cannot be read: Permission denied" in bench.note("song.wav")
    assert bench.work_off() is False and bench.states() == {"song.wav": "failed"}
    song.chmod(0o600)
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"}


def _refuse_to_read(file: Dropped) -> str:
    raise PermissionError(errno.EACCES, "Permission denied", str(file.path))


def test_our_own_stems_are_left_alone(bench: Bench) -> None:
    song = bench.drop("song.wav")
    shutil.copyfile(song, bench.root / "stem.wav")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "is_own", lambda path: path.name == "stem.wav")
        assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"}


def test_a_daemon_that_is_not_there_is_waited_for(bench: Bench) -> None:
    bench.daemon.problem = DaemonUnavailable("no daemon is running", "start it")
    with bench.watching():
        bench.drop("song.wav")
        wait_until(lambda: any("no daemon" in line for line in bench.said), "the watcher to say it", 20.0)
        wait_until(lambda: "no daemon" in _daemon_line(bench.root), "the status to say it", 20.0)
        bench.daemon.problem = None
        bench.wait_for("song.wav", "done")
        wait_until(lambda: bench.said[-1:] == [""], "the watcher to say that all is well", 20.0)
    assert len(bench.daemon.jobs()) == 1


def _daemon_line(root: Path) -> str:
    status = read_status(root)
    return "" if status is None else status.daemon


def test_once_ends_where_there_is_no_daemon(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.daemon.problem = DaemonUnavailable("no daemon is running", "start it")
    with pytest.raises(DaemonUnavailable):
        bench.work_off()
    bench.daemon.problem = None
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 1


def test_a_busy_daemon_is_waited_for_even_once(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.daemon.problem = Busy("512 jobs are waiting", "later")

    def relent(problem: str) -> None:
        if problem:
            bench.daemon.problem = None

    bench.said = _Calling(relent)
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"}


def test_while_a_daemon_takes_no_more_the_end_of_its_jobs_is_heard(bench: Bench) -> None:
    submit = bench.daemon.submit

    def take_one(request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job:
        if bench.daemon.jobs():
            raise Busy("no room", "later")
        return submit(request, job_id, watch=watch)

    bench.daemon.submit = take_one  # type: ignore[method-assign]
    bench.daemon.is_holding = True
    bench.drop("a.wav", seed=1)
    bench.drop("b.wav", seed=2)
    with bench.watching():
        wait_until(lambda: "no room" in _daemon_line(bench.root), "the status to say it", 20.0)
        bench.daemon.is_holding = False
        wait_until(lambda: any(state == "done" for _, state in bench.told), "the first to be done", 20.0)
        bench.daemon.submit = submit  # type: ignore[method-assign]
        bench.wait_for("a.wav", "done")
        bench.wait_for("b.wav", "done")


class _Calling(list[str]):
    """Lines that were said, each handed on."""

    def __init__(self, call: Callable[[str], None]) -> None:
        super().__init__()
        self._call = call

    def append(self, line: str) -> None:
        super().append(line)
        self._call(line)


def test_a_daemon_that_has_lost_its_jobs_is_asked_again(bench: Bench) -> None:
    bench.daemon.is_holding = True
    with bench.watching():
        bench.drop("song.wav")
        bench.wait_for_job()
        (job_id,) = bench.daemon.jobs()
        bench.daemon.forget()
        wait_until(lambda: bench.daemon.jobs("queued") == [job_id], "the job to be asked for again", 20.0)
        bench.daemon.is_holding = False
        bench.wait_for("song.wav", "done")


def test_a_job_that_the_daemon_has_lost_with_its_file_is_shown_no_more(bench: Bench) -> None:
    bench.drop("a.wav")
    bench.daemon.is_holding = True
    with bench.watching():
        wait_until(lambda: len(bench.shown) > 0, "the job to be shown")
        (bench.root / "a.wav").unlink()
        bench.daemon.forget()
        wait_until(lambda: bench.shown[-1].state.is_final, "an end of it to be shown")


def test_a_file_that_is_overwritten_while_it_is_split_is_done_as_it_is_now(bench: Bench) -> None:
    bench.daemon.is_holding = True
    with bench.watching():
        bench.drop("song.wav", seed=1)
        bench.wait_for_job()
        bench.drop("song.wav", seed=2)
        bench.daemon.failures["song.wav"] = ErrorInfo("bad_source", "changed while it was read")
        bench.daemon.is_holding = False
        wait_until(lambda: bench.daemon.jobs("failed") != [], "the first job to fail", 20.0)
        bench.daemon.failures.clear()
        bench.wait_for("song.wav", "done")
    assert not note_path(bench.root, "song.wav").exists()
    assert ("song.wav", "failed") not in bench.told


def test_a_file_that_is_overwritten_as_it_is_asked_for_is_done_as_it_is_now(bench: Bench) -> None:
    bench.drop("song.wav", seed=1)
    submit = bench.daemon.submit

    def overwrite(request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job:
        job = submit(request, job_id, watch=watch)
        if len(bench.daemon.jobs()) == 1:
            bench.drop("song.wav", seed=2)
        return job

    bench.daemon.submit = overwrite  # type: ignore[method-assign]
    assert not bench.work_off()
    assert len(bench.daemon.jobs("cancelled")) == len(bench.daemon.jobs("done")) == 1
    assert bench.result("song.wav").name in bench.daemon.jobs("done")


def test_a_job_that_was_decided_for_other_bytes_is_never_asked_for(bench: Bench) -> None:
    bench.daemon.problem = DaemonUnavailable("no daemon is running", "start it")
    with bench.watching():
        bench.drop("song.wav", seed=1)
        wait_until(lambda: any("no daemon" in line for line in bench.said), "the watcher to say it", 20.0)
    bench.drop("song.wav", seed=2)
    bench.daemon.problem = None
    with bench.watching():
        bench.wait_for("song.wav", "done")
    (job_id,) = bench.daemon.jobs()
    assert bench.result("song.wav").name == job_id


def test_a_file_that_comes_back_unchanged_after_its_job_has_failed_has_another_try(bench: Bench) -> None:
    album = bench.drop("album/song.wav").parent
    bench.daemon.is_holding = True
    with bench.watching():
        bench.wait_for_job()
        album.rename(bench.root.with_name("album"))
        bench.daemon.is_holding = False
        wait_until(lambda: len(bench.daemon.jobs("failed")) == 1, "the job to fail", 20.0)
        wait_until(lambda: bench.counts().get("splitting") == 0, "the watcher to hear of it", 20.0)
        bench.root.with_name("album").rename(album)
        bench.wait_for("album/song.wav", "done")


def test_settings_that_were_wrong_for_all_are_mended_for_all(bench: Bench) -> None:
    for number in range(120):
        bench.drop(f"{number}.wav", seed=number)
    bench.wish("stembridge.toml", QUICK.replace("model", "modl"))
    with bench.watching():
        wait_until(lambda: bench.counts().get("failed") == 120, "all to fail", 20.0)
        bench.wish("stembridge.toml", QUICK)
        wait_until(lambda: bench.counts().get("done") == 120, "all to be done", 30.0)
    assert list((bench.root / "failed").glob("*")) == []


def test_a_file_that_is_removed_while_it_is_split_leaves_no_note(bench: Bench) -> None:
    bench.daemon.is_holding = True
    with bench.watching():
        song = bench.drop("song.wav", seed=1)
        bench.wait_for_job()
        song.rename(bench.root / "renamed.wav")
        bench.daemon.is_holding = False
        bench.wait_for("renamed.wav", "done")
    assert bench.states() == {"renamed.wav": "done"}
    assert not (bench.root / "failed").exists()


def test_a_folder_that_goes_and_comes_back_is_done_with_what_it_brings(bench: Bench) -> None:
    away = bench.root.with_name("away")
    bench.daemon.is_holding = True
    with bench.watching():
        bench.drop("first.wav", seed=1)
        bench.wait_for_job()
        bench.root.rename(away)
        bench.daemon.is_holding = False
        wait_until(lambda: any("is gone" in line for line in bench.said), "the watcher to say it", 20.0)
        wait_until(lambda: bench.daemon.jobs("failed") != [], "the job to fail", 20.0)
        away.rename(bench.root)
        bench.wait_for("first.wav", "done")
        bench.drop("second.wav", seed=2)
        bench.wait_for("second.wav", "done")
        wait_until(lambda: bench.said[-1:] == [""], "the watcher to say that all is well", 20.0)
    assert not (bench.root / "failed").exists()
    assert sum("is gone" in line for line in bench.said) == 1


def test_an_empty_place_where_a_drive_was_mounted_is_left_alone(bench: Bench) -> None:
    bench.drop("song.wav")
    assert not bench.work_off()
    ledger = Ledger(next((bench.settings.state_dir / "watch").glob("*.sqlite")))
    ledger.note_device(ledger.root_device + 1)
    ledger.close()
    for path in list(bench.root.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # A watcher that ended after the drive had gone, and a job, may have left so much.
    (bench.root / "stems").mkdir()
    (bench.root / "failed").mkdir()
    (bench.root / STATUS_FILE).touch()
    assert bench.work_off()
    assert sorted(path.name for path in bench.root.iterdir()) == ["failed", STATUS_FILE, "stems"]
    assert any("not mounted" in line for line in bench.said)
    bench.wish("stembridge.toml", QUICK)
    bench.drop("song.wav")
    assert not bench.work_off()


def test_a_ledger_that_cannot_be_written_holds_new_jobs_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Ledger.commit
    is_full = threading.Event()
    is_full.set()

    def fail_where_a_job_begins(ledger: Ledger) -> str:
        has_begun = ledger.count(FileState.SPLITTING) > 0
        return "no room" if is_full.is_set() and has_begun else commit(ledger)

    monkeypatch.setattr(Ledger, "commit", fail_where_a_job_begins)
    monkeypatch.setattr(folder_module, "RETRY_S", 0.2)
    with bench.watching():
        bench.drop("song.wav")
        wait_until(lambda: "no room" in bench.said, "the watcher to say it", 20.0)
        assert bench.daemon.jobs() == []
        is_full.clear()
        bench.wait_for("song.wav", "done")
    assert len(bench.daemon.jobs()) == 1


def test_two_folders_take_turns(bench: Bench, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "stembridge.toml").write_text(QUICK)
    for number in range(4):
        shutil.move(bench.drop(f"o{number}.wav", seed=10 + number), other)
        bench.drop(f"d{number}.wav", seed=number)
    assert not bench.work_off(other)
    done = [name[0] for name, state in bench.told if state == "done"]
    assert done in (list("dodododo"), list("odododod"))
    assert len(list((other / "stems").iterdir())) == 4


def test_a_watched_folder_is_refused_to_a_second_watcher(bench: Bench) -> None:
    watcher = bench.make_watcher()
    try:
        with pytest.raises(Busy, match="is watched already"):
            bench.make_watcher()
    finally:
        watcher.close()


def test_one_that_is_patient_watches_the_others_and_comes_back_to_what_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    first = bench.make_watcher()
    others = [tmp_path / name for name in ("other", "other/inner", "missing")]
    others[1].mkdir(parents=True)
    with bench.watching(*others, is_patient=True):
        (others[0] / "stembridge.toml").write_text(QUICK)
        bench.drop("other.wav").rename(others[0] / "other.wav")
        bench.wait_for("other.wav", "done")
        (said,) = {line for line in bench.said if line}
        assert f"{str(bench.root)!r} is watched already" in said
        assert "inner' lies in " in said and "missing' is gone" in said
        first.close()
        others[2].mkdir()
        (others[2] / "stembridge.toml").write_text(QUICK)
        bench.drop("one.wav", seed=1)
        bench.drop("late.wav", seed=2).rename(others[2] / "late.wav")
        bench.wait_for("one.wav", "done")
        bench.wait_for("late.wav", "done")
        assert "inner' lies in " in bench.said[-1] and "watched already" not in bench.said[-1]


def test_a_backlog_is_read_before_it_is_done_and_idle_costs_nothing(bench: Bench) -> None:
    for number in range(300):
        bench.drop(f"{number}.wav", seed=number)
    bench.daemon.is_holding = True
    with bench.watching():
        wait_until(lambda: len(bench.told) == 300, "all files to be taken", 20.0)
        assert len(bench.daemon.jobs()) <= 2


def test_what_cannot_go_on_is_waited_for_without_haste(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.drop("a.wav", seed=1)
    bench.drop("wrong.wav", seed=2)
    bench.wish("wrong.wav.stembridge.toml", "modl = 1\n")
    bench.daemon.is_holding = True
    is_full = True
    commit = Ledger.commit

    def fail_where_there_is_news(ledger: Ledger) -> str:
        has_news = ledger.count(FileState.SPLITTING, FileState.FAILED) > 0
        return "no room" if is_full and has_news else commit(ledger)

    monkeypatch.setattr(Ledger, "commit", fail_where_there_is_news)
    with stepped(bench) as watcher:
        step_until(watcher, lambda: bench.counts().get("failed") == bench.counts().get("splitting") == 1)
        assert "no room" in bench.said and has_rest(watcher)
        assert bench.daemon.jobs() == [] and not note_path(bench.root, "wrong.wav").exists()
        is_full = False
    bench.root.rename(bench.root.with_name("away"))
    with stepped(bench) as watcher:
        watcher.step()
        assert "is gone" in bench.said[-1] and has_rest(watcher)


@contextmanager
def stepped(bench: Bench) -> Iterator[Watcher]:
    watcher = bench.make_watcher()
    try:
        yield watcher
    finally:
        watcher.close()


def step_until(watcher: Watcher, is_true: Callable[[], bool]) -> None:
    """Do what `Watcher.run` does until something is so."""
    deadline = time.monotonic() + LIMIT_S
    while not is_true():
        assert time.monotonic() < deadline
        watcher.step()
        watcher._wait()


def has_rest(watcher: Watcher) -> bool:
    """Tell whether a watcher that has just done all that it can do sleeps until something happens."""
    watcher.step()
    now = time.monotonic()
    return watcher._next_due(now) > now


def test_a_system_that_lets_no_daemon_start_is_waited_out(bench: Bench) -> None:
    submit = bench.daemon.submit

    def refuse(request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job:
        bench.daemon.submit = submit  # type: ignore[method-assign]
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.daemon.submit = refuse  # type: ignore[method-assign]
    with bench.watching():
        bench.drop("song.wav")
        bench.wait_for("song.wav", "done")
    assert any("No space left on device" in line for line in bench.said)


def test_a_done_file_that_cannot_be_read_for_a_while_stays_done(bench: Bench) -> None:
    song = bench.drop("song.wav")
    assert not bench.work_off()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module, "hash_drop", _refuse_to_read)
        song.chmod(0o600)
        assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"}
    song.chmod(0o640)
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"} and len(bench.daemon.jobs()) == 1


@pytest.mark.parametrize("moment", [0, 1])
def test_a_file_that_is_away_for_a_moment_as_it_is_asked_for_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    looks = iter(number != moment for number in range(100))
    monkeypatch.setattr(watcher_module, "_is_unchanged", lambda *_: next(looks))
    bench.drop("song.wav")
    assert not bench.work_off()
    assert bench.states() == {"song.wav": "done"} and len(bench.daemon.jobs("done")) == 1


def test_without_its_ledger_a_folder_has_missing_results_made_anew(bench: Bench) -> None:
    bench.drop("a.wav", seed=1)
    bench.drop("b.wav", seed=2)
    assert not bench.work_off()
    shutil.rmtree(bench.result("a.wav"))
    for path in (bench.settings.state_dir / "watch").glob("*.sqlite*"):
        path.unlink()
    assert not bench.work_off()
    assert bench.result("a.wav").is_dir() and bench.result("b.wav").is_dir()
    assert len(bench.daemon.jobs()) == 3


def test_a_note_that_cannot_be_written_delays_no_other(bench: Bench) -> None:
    names = [f"{number}.wav" for number in range(5)]
    for number, name in enumerate(names):
        bench.drop(name, seed=number)
    bench.wish("stembridge.toml", QUICK.replace("model", "modl"))
    for name in names[:4]:
        (note_path(bench.root, name) / "in the way").mkdir(parents=True)
    assert bench.work_off()
    assert "modl" in bench.note(names[4])


def test_copies_whose_result_is_gone_are_not_looked_through_for_each_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = bench.drop("0.wav")
    for number in range(1, 40):
        shutil.copyfile(song, bench.root / f"{number}.wav")
    assert not bench.work_off()
    shutil.rmtree(bench.result("0.wav"))
    for number in range(20):
        touch(bench.root / f"{number}.wav")
    has_set = folder_module.has_set
    looked: list[str] = []

    def look(folder: str) -> bool:
        looked.append(folder)
        return has_set(folder)

    monkeypatch.setattr(folder_module, "has_set", look)
    assert not bench.work_off()
    assert len(bench.daemon.jobs()) == 2 and bench.result("19.wav").is_dir()
    assert len(looked) < 20 * 8


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no such names there")
def test_a_folder_whose_name_is_no_text_is_refused_by_name(bench: Bench) -> None:
    bench.root = Path(os.fsdecode(os.fsencode(bench.root) + b"\xe9"))
    bench.root.mkdir()
    with pytest.raises(RequestError, match=r"udce9.*not all of it is UTF-8"):
        bench.make_watcher()


def test_a_model_that_is_not_known_any_more_is_named(bench: Bench) -> None:
    bench.drop("song.wav")
    bench.wish("stembridge.toml", QUICK.replace("preview", "htdemucs"))
    assert bench.work_off()
    assert bench.states() == {"song.wav": "waiting for model"}
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(catalog._BY_NAME, "htdemucs")
        assert bench.work_off()
    assert "unknown model 'htdemucs'" in bench.note("song.wav")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_killed_at_any_step_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    steps = 0
    while True:
        place = tmp_path / str(steps)
        root = place / "drop"
        root.mkdir(parents=True)
        bench = Bench(root, load_settings(home=place / "home", environ={}), FakeDaemon(place / "daemon"))
        bench.wish("stembridge.toml", QUICK)
        shutil.copyfile(bench.drop("a.wav", seed=1), root / "copy.wav")
        bench.drop("remixed.wav", seed=2)
        bench.wish("remixed.wav.stembridge.toml", 'preset = "karaoke"\n')
        bench.drop("wrong.wav", seed=3)
        bench.wish("wrong.wav.stembridge.toml", "modl = 1\n")
        bench.drop("bad.wav", seed=4)
        bench.daemon.failures["bad.wav"] = ErrorInfo("bad_source", "too silent")
        is_killed = _run_and_kill(bench, steps)
        if not is_killed:
            break
        bench.work_off()
        states = bench.states()
        assert sorted((states.pop("a.wav"), states.pop("copy.wav"))) == ["done", "same"], steps
        assert states == {"remixed.wav": "done", "wrong.wav": "failed", "bad.wav": "failed"}, steps
        assert len(bench.daemon.jobs()) == 4, steps
        assert len(list((root / "stems").iterdir())) == 3, steps
        assert "line 1" in bench.note("wrong.wav") and "too silent" in bench.note("bad.wav"), steps
        steps += 1
    assert steps > 20


def _run_and_kill(bench: Bench, steps: int) -> bool:
    """Work off a folder in a process that is killed after so many steps; tell whether it came to that."""
    child = os.fork()
    if child == 0:
        left = steps

        def tick() -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        def step(call: Callable[..., Any]) -> Callable[..., Any]:
            def stepped(*arguments: Any, **named: Any) -> Any:
                tick()
                result = call(*arguments, **named)
                tick()
                return result

            return stepped

        class Database(sqlite3.Connection):
            def commit(self) -> None:
                tick()
                super().commit()
                tick()

        connect = functools.partial(sqlite3.connect, factory=Database)
        setattr(ledger_module, "sqlite3", SimpleNamespace(**vars(sqlite3) | {"connect": connect}))  # noqa: B010
        for place, name in (
            (FakeDaemon, "submit"),
            (FakeDaemon, "_finish"),
            (folder_module, "write_note"),
            (folder_module, "remove_note"),
        ):
            setattr(place, name, step(getattr(place, name)))
        code = 1
        try:
            bench.work_off()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)
