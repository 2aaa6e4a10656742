"""The service with a store that fails and a worker that cannot start: everybody is told, nothing is lost."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import zmq

from daemon_harness import wait_until
from stembridge import protocol
from stembridge.errors import JobNotFound, Leaving, StorageFailed
from stembridge.settings import load_settings
from stembridge.types import Job, JobState, SplitRequest
from stembridge_daemon.jobstore import JobStore
from stembridge_daemon.service import Service
from stembridge_daemon.supervisor import Supervisor


class FullDisk(JobStore):
    """A job table on a disk that may be full."""

    is_full = False

    def commit(self) -> None:
        if self.is_full:
            raise sqlite3.OperationalError("database or disk is full")
        super().commit()


class Bench:
    """A service over real parts, its worker a program that ends at once."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(home=folder / "home", environ={})
        self.store = FullDisk(self.settings.job_table)
        self.context: zmq.Context[Any] = zmq.Context()
        command = [sys.executable, "-c", "import sys; sys.exit('no such library')"]
        self.supervisor = Supervisor(command, {}, self.settings.worker_log_file, self.context)
        self.seen: list[Job] = []
        self.service = self.make_service()
        source = folder / "song.wav"
        soundfile.write(source, np.zeros((100, 2)), 44100)
        self.request = SplitRequest(str(source), str(folder / "out"), "preview")

    def make_service(self) -> Service:
        return Service(
            self.settings, self.store, self.supervisor, endpoint="test", on_change=self.seen.append
        )

    def split(self, job_id: str) -> protocol.Reply:
        return self.service.answer(protocol.Split(id=job_id, request=self.request), "local")

    def state(self, job_id: str) -> JobState:
        reply = self.service.answer(protocol.Get(id=job_id), "local")
        assert isinstance(reply, protocol.JobReply)
        return reply.job.state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.supervisor.close(timeout_s=1.0)
    bench.store.close()
    bench.context.term()


def test_a_job_that_could_not_be_written_is_not_accepted(bench: Bench) -> None:
    bench.split("first")
    bench.service.flush()
    bench.store.is_full = True
    bench.split("second")
    with pytest.raises(StorageFailed, match="disk is full"):
        bench.service.flush()
    with pytest.raises(JobNotFound):
        bench.state("second")
    bench.store.is_full = False
    assert isinstance(bench.split("second"), protocol.Accepted)
    bench.service.flush()
    assert [record.id for record in bench.store.newest(9)] == ["second", "first"]


def test_a_submit_that_came_twice_is_no_duplicate_before_it_is_committed(bench: Bench) -> None:
    # The server refuses what is new where the commit fails; a duplicate would be told that it is accepted.
    replies = [bench.split("job"), bench.split("job")]
    bench.service.flush()
    replies.append(bench.split("job"))
    assert [getattr(reply, "duplicate", None) for reply in replies] == [False, False, True]


def test_a_change_that_could_not_be_written_is_written_later(bench: Bench) -> None:
    bench.split("job")
    bench.service.flush()
    bench.store.is_full = True
    bench.service.answer(protocol.Cancel(id="job"), "local")
    with pytest.raises(StorageFailed):
        bench.service.flush()
    assert bench.state("job") is JobState.CANCELLED
    bench.store.is_full = False
    bench.service.flush()
    stored = bench.store.get("job")
    assert stored is not None and stored.state is JobState.CANCELLED


def test_jobs_of_a_daemon_that_ended_wait_again_in_their_order(bench: Bench) -> None:
    for job_id in ("a", "b", "c"):
        bench.split(job_id)
    bench.service.flush()
    running = bench.store.get("b")
    assert running is not None
    bench.store.save(replace(running, state=JobState.RUNNING, attempt=1))
    bench.store.commit()
    bench.service = bench.make_service()
    bench.service.flush()
    assert [record.id for record in bench.store.unfinished()] == ["a", "b", "c"]
    assert bench.state("b") is JobState.QUEUED
    assert "queued again" in bench.store.story("b")[-1].text


def test_a_worker_that_cannot_start_fails_the_job_with_its_last_words(bench: Bench) -> None:
    bench.split("job")

    def has_failed() -> bool:
        for report in bench.supervisor.receive():
            bench.service.on_report(report)
        bench.service.tick()
        bench.service.flush()
        return bench.state("job") is JobState.FAILED

    wait_until(has_failed, "the job to fail", 30)
    error = bench.seen[-1].error
    assert error is not None and "no such library" in error.message and "stembridge doctor" in error.hint
    assert bench.supervisor.starts == 3


def test_a_daemon_that_leaves_takes_no_more_jobs(bench: Bench) -> None:
    bench.split("job")
    bench.service.flush()
    bench.service.answer(protocol.Stop(grace_s=5.0), "local")
    with pytest.raises(Leaving):
        bench.split("late")
    assert isinstance(bench.split("job"), protocol.Accepted)
    assert bench.service.is_over
