"""A watched folder, its watcher in a process that tests start and kill, and what came of what was dropped."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from daemon_harness import FOLLOWS_PARENT
from drop_writers import Drop, Writers
from stembridge.manifest import FILE_NAME, read_manifest
from stembridge.null_test import check_result
from stembridge.settings import Settings
from stembridge.watch.failures import FAILED
from stembridge.watch.ledger import ledger_path
from stembridge.watch.status import WatchStatus, read_status

RESULTS = "stems"
SETTINGS_FILE = "stembridge.toml"

_PROGRAM = f"""{FOLLOWS_PARENT}
{{seam}}
from stembridge.cli import main
sys.exit(main(["watch", "--no-notify", *{{arguments!r}}]))
"""

NO_LEASE = """
import functools
from stembridge.watch import parts
parts.Parts = functools.partial(parts.Parts, is_written=lambda path: None)
"""
"""Before a watcher's start: nobody can tell whether a file is being written, as on macOS and on shares."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the files that were dropped.

    Parameters
    ----------
    whole : files with exactly one result that nulls, has the writer's samples and comes from one job
    partial : results whose samples are not those that the writer meant
    missed, twice : files without a result, and with more than one
    broken : results that do not null
    foreign : results of what nobody dropped
    failed : notes in ``failed/``
    torn : results that were seen before their manifest
    spare_jobs : jobs at the daemon beyond one for each file
    """

    whole: int
    partial: int = 0
    missed: int = 0
    twice: int = 0
    broken: int = 0
    foreign: int = 0
    failed: int = 0
    torn: int = 0
    spare_jobs: int = 0


class DropFolder:
    """A folder, its watcher, and what stands in it; `close` ends the watcher.

    Parameters
    ----------
    settings : whose daemon does the work
    root : the watched folder; made here
    watch_table : lines of the table [watch] in its settings
    """

    def __init__(self, settings: Settings, root: Path, *, watch_table: str = "") -> None:
        self.settings = settings
        self.root = root
        self.log_file = root.with_name(f"{root.name}.log")
        self.process: subprocess.Popen[bytes] | None = None
        root.mkdir(parents=True)
        text = f'model = "preview"\n\n[watch]\nnotify = false\n{watch_table}\n'
        (root / SETTINGS_FILE).write_text(text, "utf-8")

    def __enter__(self) -> DropFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *flags: str, seam: str = "", is_awaited: bool = True) -> subprocess.Popen[bytes]:
        """Start a watcher, once no other one runs, and wait until it says that it watches.

        Parameters
        ----------
        seam : lines of Python that the process runs before the command
        """
        self.kill()
        environment = {**os.environ, "STEMBRIDGE_HOME": str(self.settings.home)}
        program = _PROGRAM.format(parent=os.getpid(), seam=seam, arguments=[*flags, str(self.root)])
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.process = process
        if is_awaited:
            self.wait_until(self._is_watched, "the watcher to start")
        return process

    def finish(self, *flags: str, seam: str = "", limit_s: float = 120.0) -> int:
        """Return the exit code of a watcher that works off what is there, having waited for it."""
        return self.start("--once", *flags, seam=seam, is_awaited=False).wait(limit_s)

    def run_for(self, seconds: float) -> None:
        """Return after that long, or as soon as the watcher has ended by itself."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def is_ended(self) -> bool:
        """Tell whether the watcher that was started last has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        """End the watcher as `kill -9` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, limit_s: float = 20.0) -> int:
        """Return the exit code of the watcher, told to end as a session's end tells it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(limit_s)
        self.process = None
        return code

    def status(self) -> WatchStatus | None:
        return read_status(self.root)

    def state(self, name: str) -> str:
        """Return the state of a file by the status in the folder, '' where it is not mentioned."""
        status = self.status()
        files = (*status.now, *status.files) if status else ()
        return next((one.state for one in files if one.file == name), "")

    def note(self, name: str) -> str:
        """Return what ``failed/`` says of a file, '' where it says nothing."""
        try:
            return (self.root / FAILED / f"{name}.txt").read_text("utf-8")
        except FileNotFoundError:
            return ""

    def notes(self) -> list[str]:
        """Return the names of all notes, relative to ``failed/``."""
        folder = self.root / FAILED
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.txt"))

    def results(self) -> list[Path]:
        """Return the result folders that can be seen."""
        try:
            with os.scandir(self.root / RESULTS) as entries:
                return sorted(Path(entry.path) for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return []

    def result_of(self, name: str) -> Path | None:
        """Return the newest result of a file."""
        of_file = [path for path in self.results() if self._source_name(path) == name]
        return max(of_file, key=lambda path: path.stat().st_mtime_ns, default=None)

    def wait_until(self, is_true: Callable[[], bool], what: str, limit_s: float = 90.0) -> None:
        """Return once ``is_true``; fail where that takes too long or the watcher ends before."""
        deadline = time.monotonic() + limit_s
        while not is_true():
            if self.is_ended() and not is_true():
                raise AssertionError(f"the watcher ended before {what}: {self._log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {limit_s:.0f} s for {what}: {self._log_tail()}")
            time.sleep(0.05)

    def wait_for_results(self, count: int, limit_s: float = 90.0) -> None:
        """Return once that many result folders can be seen."""
        self.wait_until(lambda: len(self.results()) >= count, f"{count} results", limit_s)

    def tally(self, drops: Sequence[Drop], onlooker: Onlooker | None = None) -> Tally:
        """Return what became of ``drops``, every result read back and summed."""
        meant = {drop.name: drop.sha256_pcm for drop in drops}
        verdicts: dict[str, list[bool]] = {}
        partial = broken = foreign = 0
        for folder in self.results():
            name = self._source_name(folder)
            if name not in meant:
                foreign += 1
                continue
            is_null = check_result(folder).holds
            is_meant = read_manifest(folder).source.sha256_pcm == meant[name]
            broken += not is_null
            partial += not is_meant
            verdicts.setdefault(name, []).append(is_null and is_meant)
        return Tally(
            whole=sum(each == [True] for each in verdicts.values()),
            partial=partial,
            missed=len(meant) - len(verdicts),
            twice=sum(len(each) > 1 for each in verdicts.values()),
            broken=broken,
            foreign=foreign,
            failed=len(self.notes()),
            torn=onlooker.torn if onlooker else 0,
            spare_jobs=max(0, self.count_jobs() - len(meant)),
        )

    def count_jobs(self) -> int:
        """Return how many splits watchers have handed to this daemon, whatever became of them."""
        with closing(sqlite3.connect(f"file:{self.settings.job_table}?mode=ro", uri=True)) as table:
            (count,) = table.execute("SELECT COUNT(*) FROM jobs WHERE id LIKE 'w-%'").fetchone()
        return int(count)

    def count_found(self) -> int:
        """Return how many files the ledger knows."""
        path = ledger_path(self.settings, self.root)
        if not path.exists():
            return 0
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as ledger:
            (count,) = ledger.execute("SELECT COUNT(*) FROM files").fetchone()
        return int(count)

    def _source_name(self, folder: Path) -> str:
        source = Path(read_manifest(folder).source.path)
        return source.relative_to(self.root).as_posix() if source.is_relative_to(self.root) else str(source)

    def _is_watched(self) -> bool:
        status = self.status()
        return status is not None and self.process is not None and status.pid == self.process.pid

    def log_text(self) -> str:
        """Return what watchers of this folder have printed so far."""
        return self.log_file.read_text("utf-8", "replace")

    def _log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-12:])


def kill_while_dropping(
    folder: DropFolder,
    outside: Path,
    drops: Sequence[Drop],
    *,
    seed: int,
    kills: int,
    longest_s: float,
    writers: int,
    seam: str = "",
) -> Tally:
    """Return what became of ``drops`` whose watcher was killed again and again while they came.

    Parameters
    ----------
    outside : a folder on the same volume
    seed : of the moments of the kills; some come before a watcher has begun to watch
    longest_s : how long a watcher lives at most once it watches
    writers : number of programs that write at a time
    """
    draw = random.Random(seed)
    limit_s = 60.0 + 2.0 * len(drops)
    with Onlooker(folder) as onlooker, Writers(folder.root, outside, drops, count=writers) as dropping:
        for kill in range(kills):
            folder.start(seam=seam, is_awaited=kill % 4 > 0)
            folder.run_for(draw.uniform(0.1, longest_s))
            folder.kill()
        folder.start(seam=seam)
        dropping.finish(limit_s)
        folder.wait_for_results(len(drops), limit_s)
        folder.stop()
        # One more that looks at everything: what it finds to do would be done twice.
        folder.finish(seam=seam, limit_s=limit_s)
        return folder.tally(drops, onlooker)


class Onlooker:
    """A thread that looks at every result folder as soon as it can be seen, as a DAW's browser does.

    Attributes
    ----------
    torn : folders that were visible without their manifest
    """

    def __init__(self, folder: DropFolder) -> None:
        self._folder = folder
        self._seen: set[Path] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="onlooker")
        self.torn = 0

    def __enter__(self) -> Onlooker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.02):
            for path in self._folder.results():
                if path not in self._seen:
                    self._seen.add(path)
                    self.torn += not (path / FILE_NAME).is_file()
