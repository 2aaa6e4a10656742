"""Jobs and their story in sqlite (WAL, full sync): what is committed here survives any kill."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from stembridge.errors import StembridgeError
from stembridge.types import (
    ErrorInfo,
    JobRequest,
    JobState,
    RemixRequest,
    SplitRequest,
    SplitResult,
    StoryLine,
)
from stembridge_daemon.scheduler import JobKind, JobRecord

_Stored = TypeVar("_Stored", SplitResult, ErrorInfo)

SCHEMA_VERSION = 3
"""2 differs from 1 in what its rows may hold: jobs of the kind 'remix', which a daemon of 1 cannot read.

3 adds ``is_paused``.
"""
_SCHEMA = """
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  digest TEXT NOT NULL,
  request BLOB NOT NULL,
  signature TEXT NOT NULL,
  origin TEXT NOT NULL,
  created REAL NOT NULL,
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  crashes INTEGER NOT NULL,
  interruptions INTEGER NOT NULL,
  cancel_asked INTEGER NOT NULL,
  result BLOB,
  error BLOB,
  is_paused INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_state ON jobs (state, seq);
CREATE TABLE story (job TEXT NOT NULL, at REAL NOT NULL, text TEXT NOT NULL);
CREATE INDEX story_by_job ON story (job);
CREATE TABLE speeds (
  model TEXT NOT NULL, device TEXT NOT NULL, cost REAL NOT NULL, PRIMARY KEY (model, device)
);
"""
_ADD_PAUSE = "ALTER TABLE jobs ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;"
_REQUESTS: dict[JobKind, type[JobRequest]] = {JobKind.SPLIT: SplitRequest, JobKind.REMIX: RemixRequest}
_COLUMNS = (
    "id, kind, digest, request, signature, origin, created, state, attempt, crashes, interruptions, "
    "cancel_asked, result, error, is_paused"
)


class JobStore:
    """The job table. Nothing is durable, and nobody may be told of it, before `commit` has returned.

    Parameters
    ----------
    path : the database file; made where it is missing
    clock : wall clock in seconds, for display only; order comes from ``seq``

    Raises
    ------
    StembridgeError
        The file is no job table, or one of a newer version.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level="DEFERRED")
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
            elif version < SCHEMA_VERSION:
                self._db.executescript(f"BEGIN;{_ADD_PAUSE}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StembridgeError(
                f"job table {path} cannot be used: {error}", "move that file away; jobs in it are then lost"
            ) from None
        if version > SCHEMA_VERSION:
            self._db.close()
            raise StembridgeError(
                f"job table {path} has schema {version}, this daemon knows {SCHEMA_VERSION}",
                "pip install -U stembridge",
            )

    def close(self) -> None:
        self._db.close()

    def commit(self) -> None:
        self._db.commit()

    def rollback(self) -> None:
        self._db.rollback()

    def add(self, record: JobRecord) -> None:
        marks = ", ".join("?" * 15)
        self._db.execute(f"INSERT INTO jobs ({_COLUMNS}) VALUES ({marks})", _row(record))
        self.tell(record.id, "accepted")

    def save(self, record: JobRecord) -> None:
        assignments = ", ".join(f"{name.strip()} = ?" for name in _COLUMNS.split(","))
        self._db.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*_row(record), record.id))

    def tell(self, job_id: str, text: str) -> None:
        """Add one line to a job's story."""
        self._db.execute("INSERT INTO story VALUES (?, ?, ?)", (job_id, self._clock(), text))

    def get(self, job_id: str) -> JobRecord | None:
        rows = self._select("WHERE id = ?", job_id)
        return rows[0] if rows else None

    def story(self, job_id: str) -> tuple[StoryLine, ...]:
        rows = self._db.execute("SELECT at, text FROM story WHERE job = ? ORDER BY rowid", (job_id,))
        return tuple(StoryLine(at, text) for at, text in rows)

    def unfinished(self) -> list[JobRecord]:
        """Return the jobs that are queued or were running, oldest first."""
        return self._select("WHERE state IN ('queued', 'running') ORDER BY seq")

    def newest(self, limit: int, prefix: str = "") -> list[JobRecord]:
        """Return the newest jobs whose id begins with ``prefix``, newest first."""
        where = "WHERE substr(id, 1, ?) = ? ORDER BY seq DESC LIMIT ?"
        return self._select(where, len(prefix), prefix, limit)

    def counts(self) -> dict[str, int]:
        """Return the number of jobs per state."""
        return dict(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())

    def save_speed(self, model: str, device: str, cost: float) -> None:
        """Remember what one second of audio costs ``model`` on ``device``, in seconds per pass.

        ``model`` is as `stembridge.estimate.speed_name` has it.
        """
        self._db.execute("INSERT OR REPLACE INTO speeds VALUES (?, ?, ?)", (model, device, cost))

    def speeds(self) -> dict[str, float]:
        rows = self._db.execute("SELECT model, device, cost FROM speeds").fetchall()
        return {f"{model} on {device}": cost for model, device, cost in rows}

    def _select(self, where: str, *values: object) -> list[JobRecord]:
        with closing(self._db.execute(f"SELECT {_COLUMNS} FROM jobs {where}", values)) as rows:
            return [_record(row) for row in rows]


def _row(record: JobRecord) -> tuple[object, ...]:
    encode = msgspec.json.encode
    return (
        record.id,
        record.kind.value,
        record.digest,
        encode(record.request),
        record.signature,
        record.origin,
        record.created,
        record.state.value,
        record.attempt,
        record.crashes,
        record.interruptions,
        int(record.cancel_asked),
        encode(record.result) if record.result else None,
        encode(record.error) if record.error else None,
        int(record.is_paused),
    )


def _record(row: tuple[Any, ...]) -> JobRecord:
    values = dict(zip((name.strip() for name in _COLUMNS.split(",")), row, strict=True))
    kind = JobKind(values.pop("kind"))
    return JobRecord(
        **values
        | {
            "request": msgspec.json.decode(values["request"], type=_REQUESTS[kind]),
            "state": JobState(values["state"]),
            "cancel_asked": bool(values["cancel_asked"]),
            "is_paused": bool(values["is_paused"]),
            "result": _decoded(values["result"], SplitResult),
            "error": _decoded(values["error"], ErrorInfo),
        }
    )


def _decoded(blob: bytes | None, kind: type[_Stored]) -> _Stored | None:
    return msgspec.json.decode(blob, type=kind) if blob else None
