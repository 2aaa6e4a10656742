"""The job table: what was committed comes back, and what is no table of ours is refused."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from stembridge.errors import StembridgeError
from stembridge.types import ErrorInfo, JobState, Region, RemixRequest, SplitRequest, SplitResult
from stembridge_daemon.jobstore import SCHEMA_VERSION, JobStore
from stembridge_daemon.scheduler import JobRecord

REQUEST = SplitRequest(
    source="/m/曲 'a\"\n$.wav",
    out="/m/stems",
    model="htdemucs",
    stems=("vocals",),
    region=Region(3, 5),
    overlap=0.1,
    shifts=2,
    seed=7,
)


def record(job_id: str) -> JobRecord:
    return JobRecord(job_id, "digest", REQUEST, "1-2", "local", created=12.5)


def test_a_record_comes_back_as_it_was_after_the_file_is_opened_again(tmp_path: Path) -> None:
    finished = replace(
        record("b"),
        state=JobState.DONE,
        attempt=2,
        crashes=1,
        interruptions=3,
        cancel_asked=True,
        is_paused=True,
        result=SplitResult("/m/stems/x", 1.5, 0.5, 0.75, -31.5, ("loud",)),
    )
    failed = replace(record("c"), state=JobState.FAILED, error=ErrorInfo("bad_source", "no file", "look"))
    store = JobStore(tmp_path / "jobs.sqlite", clock=lambda: 99.0)
    for item in (record("a"), record("b"), record("c")):
        store.add(item)
    store.save(finished)
    store.save(failed)
    store.tell("b", "done")
    store.save_speed("htdemucs", "cpu", 0.5)
    store.commit()
    store.close()

    store = JobStore(tmp_path / "jobs.sqlite")
    assert [store.get(name) for name in "abc"] == [record("a"), finished, failed]
    assert [job.id for job in store.newest(2)] == ["c", "b"]
    assert store.unfinished() == [record("a")]
    assert [(line.at, line.text) for line in store.story("b")] == [(99.0, "accepted"), (99.0, "done")]
    assert store.counts() == {"queued": 1, "done": 1, "failed": 1}
    assert store.speeds() == {"htdemucs on cpu": 0.5}
    store.close()


def test_splits_and_remixes_come_back_as_what_they_were(tmp_path: Path) -> None:
    request = RemixRequest("/m/set", "/m/out", "karaoke", ("vocals.gain_db=-3",), stems_out=True, speed=0.8)
    remix = replace(record("remix"), request=request)
    store = JobStore(tmp_path / "jobs.sqlite")
    for item in (record("split"), remix):
        store.add(item)
    store.save(replace(remix, state=JobState.RUNNING))
    store.commit()
    store.close()
    store = JobStore(tmp_path / "jobs.sqlite")
    assert store.unfinished() == [record("split"), replace(remix, state=JobState.RUNNING)]
    assert [item.as_job().remix for item in store.unfinished()] == [None, request]
    assert [item.as_job().request for item in store.unfinished()] == [REQUEST, None]
    store.close()


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_table_is_used_on_and_then_refused_by_what_wrote_it(version: int, tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store = JobStore(path)
    store.add(record("old"))
    store.commit()
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE jobs DROP COLUMN is_paused")
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    store = JobStore(path)
    assert store.unfinished() == [record("old")]
    store.save(replace(record("old"), is_paused=True))
    store.commit()
    store.close()
    store = JobStore(path)
    assert store.unfinished() == [replace(record("old"), is_paused=True)]
    store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


def test_what_was_not_committed_is_not_there(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    store.add(record("a"))
    store.rollback()
    assert store.get("a") is None
    store.close()


def test_commits_are_synced_and_journaled(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs.sqlite")
    assert (tmp_path / "jobs.sqlite-wal").exists()
    store.close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_file_that_is_no_job_table_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StembridgeError, match="cannot be used"):
        JobStore(path)
    assert path.read_bytes() == b"not a database" * 100


def test_a_table_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    JobStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StembridgeError, match="schema 99"):
        JobStore(path)
