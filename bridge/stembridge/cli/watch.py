"""`stembridge watch`: what is dropped into a folder comes out as stems."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from stembridge.client import Client
from stembridge.errors import RequestError
from stembridge.settings import Settings, load_settings
from stembridge.text import clock, one_line
from stembridge.types import Job, JobState

if TYPE_CHECKING:
    from stembridge.watch.watcher import News, Watcher

EXIT_PARTLY = 3
LEAVE_S = 10.0
"""After the end of stdin; nothing is lost where the process has to be ended."""
DEADLINE_S = 10.0
"""A daemon that is silent for so long is taken for one that is not there, and tried again later."""


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Work off what is there, then end.")
@click.option("--json", "as_json", is_flag=True, help="What happens to files as JSON lines on stdout.")
@click.option("--no-notify", is_flag=True, help="No notifications on the desktop.")
@click.option("--of-daemon", is_flag=True, hidden=True, help="End with stdin, and never start a daemon.")
@click.option(
    *("--model-dir", "model_dirs"),
    multiple=True,
    hidden=True,
    type=click.Path(path_type=Path),
    help="Where the daemon looks for models.",
)
def watch(
    folders: tuple[Path, ...],
    once: bool,
    as_json: bool,
    no_notify: bool,
    of_daemon: bool,
    model_dirs: tuple[Path, ...],
) -> int:
    """Split each file that is dropped into DIR, as soon as it is whole.

    Results come into DIR/stems, what went wrong into DIR/failed; how all files stand is in
    DIR/stembridge-status.json. A stembridge.toml in DIR, a folder's name (karaoke, acapella, a preset) or a
    NAME.stembridge.toml beside a file says what is to be made of it.

    Exit codes: 0 ended, 1 cannot be watched, 2 usage, 3 some files failed, or wait for their model or for
    their folder (with --once), 69 no daemon (with --once), 75 watched already, 130 cancelled (with --once).
    """
    from stembridge.local_job import ended_like_ctrl_c
    from stembridge.progress import progress_shown
    from stembridge.watch.life import FileState
    from stembridge.watch.notifying import Notifier
    from stembridge.watch.parts import Parts
    from stembridge.watch.watcher import Watcher

    settings = load_settings(model_dirs=model_dirs or None)
    # resolve() would follow links.
    roots = list(dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders))  # noqa: PTH100
    for root in () if of_daemon else roots:
        _check_root(root, settings)
    # What the observer says while it ends is no business of who looks on.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    with (
        ended_like_ctrl_c(),
        Client(settings, start=not of_daemon, deadline_s=DEADLINE_S) as client,
        progress_shown(is_on=not as_json and not of_daemon) as show,
    ):
        screen = _Screen(show, has_many=len(roots) > 1, as_json=as_json)
        watcher = Watcher(
            roots,
            settings,
            client,
            tell=screen.tell,
            show=screen.show,
            say=screen.say,
            notifier=Notifier(is_on=not no_notify),
            parts=Parts(),
            is_patient=of_daemon,
        )
        has_ended = threading.Event()
        try:
            if of_daemon:
                _end_with_stdin(watcher, has_ended)
            if not as_json:
                screen.announce(roots, "" if of_daemon else "; Ctrl-C ends it")
            watcher.run(once=once)
            if once and not as_json:
                screen.conclude(watcher.count(FileState.WAITING_FOR_MODEL))
        except KeyboardInterrupt:
            screen.write_error("stopped; what the daemon has taken goes on, the rest waits for the next time")
            return 130 if once else 0
        finally:
            watcher.close()
            has_ended.set()
    return EXIT_PARTLY if once and watcher.has_unfinished else 0


def _check_root(root: Path, settings: Settings) -> None:
    """Refuse a folder that is not there, but for one that may come: a drive that was seen before."""
    from stembridge.watch.ledger import ledger_path

    if root.exists() and not root.is_dir():
        raise RequestError(f"{str(root)!r} is a file", "name a folder")
    if not root.exists() and not ledger_path(settings, root).exists():
        raise RequestError(f"{str(root)!r} is not there", "make the folder first, or name another")


def _end_with_stdin(watcher: Watcher, has_ended: threading.Event) -> None:
    """Stop the watcher when whoever holds the other end of stdin is gone, whatever it is busy with."""

    def follow() -> None:
        # The file itself, not sys.stdin: its lock would be held when the interpreter ends.
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        watcher.stop()
        if not has_ended.wait(LEAVE_S):
            # A share that does not answer may hold it for ever, and with it the folder's lock.
            os._exit(1)

    threading.Thread(target=follow, name="end-with-stdin", daemon=True).start()


class _Screen:
    """Lines on stdout, one per news, and progress on stderr, which makes way for them."""

    def __init__(self, show: Callable[[Job], None], *, has_many: bool, as_json: bool) -> None:
        self._show = show
        self._has_many = has_many
        self._as_json = as_json
        self._running: dict[str, Job] = {}
        self._ends: dict[tuple[Path, str], str] = {}
        """How each file ended that was told of."""

    def show(self, job: Job) -> None:
        self._running[job.id] = job
        if job.state.is_final:
            del self._running[job.id]
        self._show(job)

    def announce(self, roots: list[Path], more: str) -> None:
        for root in roots:
            self.write_error(f"watching {str(root)!r}{more}")

    def conclude(self, waiting: int) -> None:
        """Say what became of all, ``waiting`` of which wait for their models."""
        found = Counter(self._ends.values())
        counts = (
            (found["done"], "done"),
            (found["same"], "the same as before"),
            (found["failed"], "failed"),
            (waiting, "waits for its model" if waiting == 1 else "wait for their models"),
        )
        told = ", ".join(f"{count} {what}" for count, what in counts if count)
        self.write_error(told or "nothing to do")

    def tell(self, news: News) -> None:
        if news.row.state.is_over:
            self._ends[news.folder, news.row.name] = news.row.state.value
        self._make_way(_json_line(news) if self._as_json else self._line(news), sys.stdout)

    def say(self, problem: str) -> None:
        self.write_error(f"waiting: {problem}" if problem else "all is well again")

    def write_error(self, line: str) -> None:
        self._make_way(f"stembridge: {one_line(line)}", sys.stderr)

    def _make_way(self, line: str, stream: TextIO) -> None:
        running = next(iter(self._running.values()), None)
        if running is not None:
            # A final state takes all bars off the screen.
            self._show(replace(running, state=JobState.CANCELLED))
        print(line, file=stream, flush=True)
        if running is not None:
            self._show(running)

    def _line(self, news: News) -> str:
        from stembridge.watch.life import FileState

        row = news.row
        name = one_line(f"{news.folder.name}/{row.name}" if self._has_many else row.name)
        match row.state:
            case FileState.DONE:
                results = ", ".join(map(_shown(news.folder), row.results))
                warnings = (f"\n    {one_line(warning)}" for warning in row.warnings)
                return f"{name}: done in {clock(row.spent_s)}: {results}{''.join(warnings)}"
            case FileState.SAME if row.same_as == row.name:
                results = ", ".join(map(_shown(news.folder), row.results))
                remedy = "; delete that folder and touch the file to split it again"
                return f"{name}: the same as before: {results}{remedy}"
            case FileState.SAME:
                results = ", ".join(map(_shown(news.folder), row.results))
                return f"{name}: the same as {one_line(row.same_as)}, see {results}"
            case FileState.FAILED | FileState.WAITING_FOR_MODEL if row.error is not None:
                hint = f" ({row.error.hint})" if row.error.hint else ""
                return f"{name}: {row.state.value}: {one_line(row.error.message + hint)}"
            case _:
                return f"{name}: taken"


def _shown(folder: Path) -> Callable[[str], str]:
    """Return what shortens a result folder to its place in the watched one."""
    return lambda result: one_line(os.path.relpath(result, folder))


def _json_line(news: News) -> str:
    row = news.row
    error = row.error
    return json.dumps(
        {
            "folder": str(news.folder),
            "file": row.name,
            "state": row.state.value,
            "job": row.job,
            "results": list(row.results),
            "same_as": row.same_as,
            "error": error and {"code": error.code, "message": error.message, "hint": error.hint},
            "warnings": list(row.warnings),
            "seconds": round(row.spent_s, 2),
            "at": datetime.fromtimestamp(row.changed).astimezone().isoformat(timespec="seconds"),
        }
    )
