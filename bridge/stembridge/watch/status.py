"""What is going on in a watched folder, in a file there that a person or a script can read."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stembridge.small_file import put_small_file, read_small_file
from stembridge.watch.processes import is_running_since

STATUS_FILE = "stembridge-status.json"
LAYOUT = 1
"""Raised when a reader of older files would misread new ones."""
MOST_FILES = 200
FRESH_S = 60.0
"""A status that is older was left by a watcher that has ended without saying so."""
CHANGE_S = 1.0
"""What became of files is written so often at most."""
PROGRESS_S = 5.0
"""So often at most where only progress has changed: folders are synchronised, and disks wear."""
HEARTBEAT_S = 20.0
"""An unchanged status is written so often, because only a fresh one tells that somebody watches."""
_RETRY_S = 5.0
_TEMPORARY = f".{STATUS_FILE}.new"
_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class FileStatus:
    """How one dropped file stands.

    Parameters
    ----------
    file : its name relative to the watched folder, with slashes
    state : 'settling', 'waiting', 'waiting for model', 'splitting', 'remixing', 'done', 'failed' or 'same'
    detail : one line: why it waits, what went wrong, or which file it is the same as
    job : id of the split
    result : folder of the stems, relative to the watched folder, with slashes
    remixes : folders of the remixes, likewise
    error_code : code of what went wrong; see `stembridge.errors`
    hint : what to do about it
    at : wall-clock seconds since the epoch of the last change of state; 0 where that was not noted
    """

    file: str
    state: str
    detail: str = ""
    job: str = ""
    result: str = ""
    remixes: tuple[str, ...] = ()
    error_code: str = ""
    hint: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class NowStatus(FileStatus):
    """A file that is being worked on; ``fraction`` is 0 to 1, both it and ``eta_s`` None while unknown."""

    stage: str = ""
    fraction: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class WatchStatus:
    """One watched folder.

    Parameters
    ----------
    folder : absolute path of the watched folder on ``machine``
    updated : wall-clock seconds since the epoch when this was written
    pid, machine, version : the watcher
    is_watching : False once the watcher has ended in order
    daemon : what is wrong with the daemon, or ''
    counts : number of files by state
    now : what is being worked on
    files : how files stand, the newest change first; `MOST_FILES` of them are written
    notes : what else a person should know: a folder that cannot be read, events that the system withholds
    """

    folder: str
    updated: float
    pid: int
    machine: str
    version: str
    is_watching: bool = True
    daemon: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    now: tuple[NowStatus, ...] = ()
    files: tuple[FileStatus, ...] = ()


def machine_name() -> str:
    """Return the name by which a watcher of this machine is known to those of others."""
    return platform.node() or "unknown"


def write_status(root: Path, status: WatchStatus) -> str:
    """Put ``status`` into the watched folder by one rename; return '' or, in one line, why it is not there.

    The folder itself is never made: one that is gone may be a drive that comes back.
    """
    try:
        put_small_file(root / STATUS_FILE, _encode(status), through=root / _TEMPORARY)
    except OSError as error:
        return f"{STATUS_FILE} cannot be written: {error.strerror or error}"
    return ""


def read_status(root: Path) -> WatchStatus | None:
    """Return what the watched folder's file says, or None where there is none that can be read."""
    try:
        document = json.loads(read_small_file(root / STATUS_FILE, _MOST_BYTES))
        for entry in (*document["now"], *document["files"]):
            if "at" in entry:
                entry["at"] = _seconds(entry["at"])
        document["updated"] = _seconds(document["updated"])
        return msgspec.convert(document, WatchStatus)
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def is_fresh(status: WatchStatus, now: float | None = None) -> bool:
    """Return whether somebody watches the folder whose status this is; ``now`` is seconds since the epoch."""
    now = time.time() if now is None else now
    # One from the future comes from a machine whose clock is ahead.
    return status.is_watching and abs(now - status.updated) < FRESH_S


def find_other_watcher(root: Path, *, machine: str = "", wall_clock: Callable[[], float] = time.time) -> str:
    """Return, in one line, who else watches this folder, or '' where nobody does.

    No lock reaches from one machine to another through a share or a synchronised folder, nor from one user or
    home to another on the same one; the status does.
    """
    status = read_status(root)
    if status is None or not is_fresh(status, wall_clock()):
        return ""
    if status.machine != (machine or machine_name()):
        return f"{str(root)!r} is watched by {status.machine} (process {status.pid})"
    if status.pid == os.getpid() or not is_running_since(status.pid, status.updated):
        return ""
    return f"{str(root)!r} is watched by process {status.pid} of another user or home on this machine"


class StatusFile:
    """Keeps the file in one watched folder up to date, and no busier than needed.

    Parameters
    ----------
    root : the watched folder
    clock : monotonic seconds
    wall_clock : seconds since the epoch, for ``updated``
    """

    def __init__(
        self,
        root: Path,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._clock = clock
        self._wall_clock = wall_clock
        self._offered: WatchStatus | None = None
        self._written: WatchStatus | None = None
        self._written_at = 0.0
        self._retry_at = 0.0
        self.problem = ""

    def offer(self, status: WatchStatus) -> str:
        """Take the newest status and write it if it is time; return '' or why the last try has failed.

        ``updated`` is put in by this object, so two statuses that differ in nothing else are the same.
        """
        self._offered = replace(status, updated=0.0)
        return self.flush()

    def flush(self) -> str:
        """Write what was offered last if it is time; return '' or why the last try has failed."""
        due = self.next_due()
        if due is not None and due <= self._clock():
            self._write()
        return self.problem

    def next_due(self) -> float | None:
        """Return when, by the clock, `flush` will have something to write; None before the first offer."""
        if self._offered is None:
            return None
        if self.problem:
            return self._retry_at
        if self._written is None:
            return self._clock()
        if self._offered == self._written:
            return self._written_at + HEARTBEAT_S
        if _without_progress(self._offered) == _without_progress(self._written):
            return self._written_at + PROGRESS_S
        return self._written_at + CHANGE_S

    def close(self) -> None:
        """Write what was offered last, and that nobody watches any more."""
        if self._offered is not None:
            self._offered = replace(self._offered, is_watching=False, now=())
            self._write()

    def _write(self) -> None:
        assert self._offered is not None
        now = self._clock()
        self.problem = write_status(self._root, replace(self._offered, updated=self._wall_clock()))
        if self.problem:
            self._retry_at = now + _RETRY_S
        else:
            self._written, self._written_at = self._offered, now


def _without_progress(status: WatchStatus) -> WatchStatus:
    return replace(status, now=tuple(replace(one, stage="", fraction=None, eta_s=None) for one in status.now))


def _encode(status: WatchStatus) -> bytes:
    """Return the file's bytes: JSON with a line per key, and per file in lists of files."""
    document: dict[str, Any] = {"layout": LAYOUT} | _fields(status)
    document["updated"] = _moment(status.updated)
    document["counts"] = dict(status.counts)
    document["now"] = [_entry(one) for one in status.now]
    document["files"] = [_entry(one) for one in status.files[:MOST_FILES]]
    lines = ",\n".join(f"  {_json(key)}: {_block(value)}" for key, value in document.items())
    # A name that is no text becomes an escape that JSON knows.
    return f"{{\n{lines}\n}}\n".encode(errors="backslashreplace")


def _entry(one: FileStatus) -> dict[str, Any]:
    filled = {key: value for key, value in _fields(one).items() if value not in ("", (), None)}
    if isinstance(one, NowStatus) and one.fraction is not None:
        filled["fraction"] = round(one.fraction, 3)
    if filled.pop("at"):
        filled["at"] = _moment(one.at)
    return filled


def _fields(noun: FileStatus | WatchStatus) -> dict[str, Any]:
    return {each.name: getattr(noun, each.name) for each in fields(noun)}


def _block(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"    {_json(one)}" for one in value) + "\n  ]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _moment(seconds: float) -> str:
    """Return a point in time as this place's clocks show it, with its distance from UTC."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
