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
from fakes import FakeSeparator
from splits import make_request, split_to_end
from stembridge import protocol
from stembridge.errors import Busy, JobNotFound, Leaving, ModelError, PresetError, StorageFailed
from stembridge.reaper.desk import Desk
from stembridge.settings import load_settings
from stembridge.transport import Listener, connect
from stembridge.types import (
    Early,
    EarlyStem,
    Job,
    JobState,
    Progress,
    RemixRequest,
    SplitRequest,
    SplitResult,
)
from stembridge_daemon.jobstore import JobStore
from stembridge_daemon.lane import Lane
from stembridge_daemon.scheduler import JobKind
from stembridge_daemon.server import Events, Server
from stembridge_daemon.service import Service
from stembridge_daemon.supervisor import Died, Supervisor, WorkerState
from stembridge_daemon.worker_messages import (
    JobDone,
    JobEarly,
    JobPaused,
    JobProgress,
    JobStopped,
    Order,
    Report,
)


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
        log = self.settings.worker_log_file
        self.lanes = [Lane(kind, Supervisor(command, {}, log, self.context)) for kind in JobKind]
        self.seen: list[Job] = []
        self.service = self.make_service()
        source = folder / "song.wav"
        soundfile.write(source, np.zeros((100, 2)), 44100)
        self.request = SplitRequest(str(source), str(folder / "out"), "preview")
        self.folder = folder

    def make_service(self) -> Service:
        return Service(self.settings, self.store, self.lanes, endpoint="test", on_change=self.seen.append)

    def split(self, job_id: str) -> protocol.Reply:
        return self.service.answer(protocol.Split(id=job_id, request=self.request), "local")

    def remix_call(self, job_id: str, *, watch: bool = False) -> protocol.Remix:
        """Return the call for a remix of a set that is made for it."""
        result, _ = split_to_end(make_request(self.folder / "song.wav", self.folder), FakeSeparator())
        request = RemixRequest(result.folder, str(self.folder / "out"), "karaoke")
        return protocol.Remix(id=job_id, request=request, watch=watch)

    def state(self, job_id: str) -> JobState:
        reply = self.service.answer(protocol.Get(id=job_id), "local")
        assert isinstance(reply, protocol.JobReply)
        return reply.job.state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for lane in bench.lanes:
        lane.supervisor.close(timeout_s=1.0)
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

    def has_failed(job_id: str) -> bool:
        bench.service.hear()
        bench.service.tick()
        bench.service.flush()
        return bench.state(job_id) is JobState.FAILED

    wait_until(lambda: has_failed("job"), "the job to fail", 30)
    error = bench.seen[-1].error
    assert error is not None and "no such library" in error.message and "stembridge doctor" in error.hint
    assert [lane.supervisor.starts for lane in bench.lanes] == [3, 0]
    bench.split("again")
    wait_until(lambda: has_failed("again"), "the next job to fail", 30)
    assert bench.lanes[0].supervisor.starts == 6, "the next job has its own three tries"


def test_a_render_worker_that_cannot_start_fails_remixes_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.lanes[0].supervisor, "start", lambda: None)
    bench.split("split")
    bench.service.answer(bench.remix_call("remix"), "local")
    bench.service.flush()

    def has_failed() -> bool:
        bench.service.hear()
        bench.service.tick()
        bench.service.flush()
        return bench.state("remix") is JobState.FAILED

    wait_until(has_failed, "the remix to fail", 30)
    assert bench.lanes[1].supervisor.starts == 3
    assert bench.state("split") is JobState.QUEUED, "a worker that was never tried was given up"


def test_only_failures_in_a_row_make_a_worker_that_cannot_start(bench: Bench) -> None:
    lane, death = bench.lanes[0], Died("exit code 1", was_asked=False)
    for _ in range(2):
        lane.note_death(death)
    lane.note_ready()
    for _ in range(2):
        lane.note_death(death)
        lane.note_death(Died("exit code 0", was_asked=True))
    assert not lane.gives_up()
    lane.note_death(death)
    assert lane.gives_up()


def test_a_worker_is_idle_from_the_end_of_its_job_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now, stopped = [100.0], []
    supervisor = bench.lanes[0].supervisor
    lane = Lane(JobKind.SPLIT, supervisor, clock=lambda: now[-1])
    monkeypatch.setattr(supervisor, "stop", lambda: stopped.append(now[-1]))
    supervisor.state = WorkerState.IDLE
    now.append(5000.0)
    lane.running = "job"
    lane.release("job")
    for at in (5000.0, 5300.0, 5301.0):
        now.append(at)
        lane.rest(keep_alive_s=300.0)
    assert stopped == [5301.0]
    lane.rest(keep_alive_s=-1)
    assert stopped == [5301.0], "it was to be kept for ever"
    supervisor.state = WorkerState.ABSENT


def test_a_worker_that_has_put_jobs_aside_is_not_idle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now, stopped = [100.0], []
    supervisor = bench.lanes[0].supervisor
    lane = Lane(JobKind.SPLIT, supervisor, clock=lambda: now[-1])
    monkeypatch.setattr(supervisor, "stop", lambda: stopped.append(now[-1]))
    supervisor.state = WorkerState.IDLE
    lane.running = "job"
    lane.note_pause("job")
    now.append(9000.0)
    lane.rest(keep_alive_s=300.0)
    lane.release("job")
    for at in (9000.0, 9300.0, 9301.0):
        now.append(at)
        lane.rest(keep_alive_s=300.0)
    assert stopped == [9301.0]
    supervisor.state = WorkerState.ABSENT


class Talk:
    """The worker that splits, played by a test: what it was told, and what it says next."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Order] = []
        self._says: list[Report | Died] = []
        self._bench = bench
        self.supervisor = bench.lanes[0].supervisor
        self.supervisor.state = WorkerState.IDLE
        monkeypatch.setattr(self.supervisor, "send", self._send)
        monkeypatch.setattr(self.supervisor, "receive", self._receive)

    def say(self, *reports: Report | Died) -> None:
        """Have the service hear that, and do what is due."""
        self._says += reports
        self._bench.service.hear()
        self._bench.service.tick()
        self._bench.service.flush()

    def split(self, *job_ids: str) -> None:
        for job_id in job_ids:
            self._bench.split(job_id)
        self.say()

    def ask(self, *calls: protocol.ServiceCall) -> None:
        for call in calls:
            self._bench.service.answer(call, "local")
        self.say()

    def put_aside(self, job_id: str) -> None:
        self.ask(protocol.Pause(id=job_id))
        self.say(JobPaused(job_id))

    def kinds(self) -> list[str]:
        """Return what was told since the last time this was asked, as 'RunSplit a'."""
        told = [f"{type(order).__name__} {getattr(order, 'id', '')}" for order in self.told]
        self.told.clear()
        return told

    def _send(self, order: Order, *, is_job: bool = False) -> None:
        self.told.append(order)
        if is_job:
            self.supervisor.state = WorkerState.BUSY

    def _receive(self) -> list[Report | Died]:
        says, self._says = self._says, []
        return says


@pytest.fixture
def talk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    talk = Talk(bench, monkeypatch)
    yield talk
    monkeypatch.undo()
    talk.supervisor.state = WorkerState.ABSENT


def test_a_resumed_job_comes_first_but_never_before_the_one_that_runs(talk: Talk) -> None:
    talk.split("a", "b", "c")
    assert talk.kinds() == ["RunSplit a"]
    talk.ask(protocol.Pause(id="a"), protocol.Pause(id="a"))
    assert talk.kinds() == ["PauseJob a"]
    talk.say(JobPaused("a"))
    assert talk.kinds() == ["RunSplit b"]
    talk.ask(protocol.Resume(id="a"))
    assert talk.kinds() == []
    talk.say(JobStopped("b"))
    assert talk.kinds() == ["ResumeJob a"]


def test_a_job_that_is_resumed_before_the_worker_has_put_it_aside_goes_on_at_once(talk: Talk) -> None:
    talk.split("a", "b")
    talk.ask(protocol.Pause(id="a"), protocol.Resume(id="a"), protocol.Pause(id="a"), protocol.Resume(id="a"))
    assert talk.kinds() == ["RunSplit a", "PauseJob a"], "a worker that is told twice would pause it twice"
    talk.say(JobPaused("a"))
    assert talk.kinds() == ["ResumeJob a"]
    assert talk.supervisor.state is WorkerState.BUSY
    talk.ask(protocol.Pause(id="a"))
    assert talk.kinds() == ["PauseJob a"]


def test_a_job_that_is_cancelled_is_not_taken_up_again(talk: Talk) -> None:
    talk.split("a", "b")
    talk.put_aside("a")
    talk.ask(protocol.Resume(id="a"), protocol.Cancel(id="a"))
    talk.kinds()
    talk.say(JobStopped("b"))
    assert "ResumeJob a" not in talk.kinds()
    talk.say(JobStopped("a"))
    assert talk.kinds() == []


def test_a_resumed_job_waits_until_that_is_written(bench: Bench, talk: Talk) -> None:
    talk.split("a")
    talk.put_aside("a")
    talk.kinds()
    bench.store.is_full = True
    with pytest.raises(StorageFailed):
        talk.ask(protocol.Resume(id="a"))
    assert talk.kinds() == []
    bench.store.is_full = False
    talk.say()
    assert talk.kinds() == ["ResumeJob a"]


def test_five_jobs_put_aside_hold_up_the_others_until_one_of_them_goes_on(talk: Talk) -> None:
    names = ["a", "b", "c", "d", "e"]
    talk.split(*names, "last")
    for name in names:
        assert talk.kinds()[-1] == f"RunSplit {name}"
        talk.put_aside(name)
    assert talk.kinds() == ["PauseJob e"]
    assert talk.supervisor.state is WorkerState.IDLE, "a worker at no job would be taken for hung"
    talk.ask(protocol.Resume(id="c"))
    assert talk.kinds() == ["ResumeJob c"]
    talk.put_aside("c")
    assert talk.kinds() == ["PauseJob c"]
    talk.ask(protocol.Cancel(id="d"))
    talk.say(JobStopped("d"))
    assert talk.kinds() == ["CancelJob d", "RunSplit last"]


def test_what_is_paused_while_it_waits_is_counted_and_not_failed_with_those_that_wait(
    bench: Bench, talk: Talk
) -> None:
    bench.settings = replace(bench.settings, max_queue=2)
    bench.service = bench.make_service()
    talk.supervisor.state = WorkerState.STARTING
    talk.split("a", "b")
    with pytest.raises(Busy, match=r"^2 jobs are waiting \(try again when some are done\)$"):
        bench.split("c")
    talk.ask(protocol.Pause(id="a"))
    with pytest.raises(Busy, match=r"2 jobs are waiting, 1 of them paused .* or resume or cancel those"):
        bench.split("c")
    talk.supervisor.state = WorkerState.STARTING
    talk.say(*[Died("exit code 1", was_asked=False)] * 3)
    assert (bench.state("a"), bench.state("b")) == (JobState.QUEUED, JobState.FAILED)


def test_what_can_be_heard_early_is_told_at_once_and_gone_with_the_end(bench: Bench, talk: Talk) -> None:
    early = Early(0, 44_100, 44_100, (EarlyStem("vocals", "/out/.x/early-001.wav"),))
    talk.split("a")
    talk.say(JobEarly("a", early))
    assert bench.seen[-1].early == early
    talk.say(JobProgress("a", Progress("separate", 0.5)))
    assert bench.seen[-1].early == early
    talk.say(JobDone("a", SplitResult("/out/x", 1.0, 0.0, 1.0, None)))
    assert bench.seen[-1].state is JobState.DONE and bench.seen[-1].early is None


def test_a_hold_reaches_both_workers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[float] = []
    for lane in bench.lanes:
        monkeypatch.setattr(lane.supervisor, "hold", held.append)
    bench.service.hold(3.0)
    assert held == [3.0, 3.0]


def test_a_daemon_that_leaves_takes_no_more_jobs(bench: Bench) -> None:
    bench.split("job")
    bench.service.flush()
    bench.service.answer(protocol.Stop(grace_s=5.0), "local")
    with pytest.raises(Leaving):
        bench.split("late")
    assert isinstance(bench.split("job"), protocol.Accepted)
    assert bench.service.is_over


def test_what_only_this_machine_may_ask_is_no_others_by_a_known_id_either(bench: Bench) -> None:
    call = bench.remix_call("mine")
    preset = bench.folder / "mine.toml"
    preset.write_text('[preset]\nname = "Mine"\nuse = "a test"\n[stems.vocals]\nmute = true\n')
    call = protocol.Remix(id="mine", request=replace(call.request, preset=str(preset)))
    with pytest.raises(PresetError, match="from another machine"):
        bench.service.answer(call, "lan")
    assert isinstance(bench.service.answer(call, "local"), protocol.Accepted)
    with pytest.raises(PresetError, match="from another machine"):
        bench.service.answer(call, "lan")
    elsewhere = protocol.Split(id="split", request=replace(bench.request, model_dir=str(bench.folder)))
    with pytest.raises(ModelError, match="from another machine"):
        bench.service.answer(elsewhere, "lan")


class Clerk(Desk):
    """A desk that takes ids of jobs to make for notes, and answers at the length that a note asks for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def answer(self, note: bytes) -> bytes:
        if note.startswith(b"long "):
            return bytes(int(note.split()[1]))
        if note == b"break":
            raise ZeroDivisionError
        for job_id in note.decode().split():
            self._bench.split(job_id)
        return b"orders for " + note


class Counter:
    """A server over a bench's service, and one client before it; nothing happens but in `ask`."""

    def __init__(self, bench: Bench) -> None:
        self.listener = Listener(bench.context, bench.settings, "test")
        self.events = Events()
        self.server = Server(self.listener, bench.service, self.events, lambda: Clerk(bench))
        self.socket = connect(bench.context, self.listener.connection)

    def ask(self, *calls: protocol.Call) -> list[protocol.Reply]:
        """Send calls in one go and return the replies."""
        for number, call in enumerate(calls):
            self.socket.send_multipart(protocol.encode(protocol.with_number(call, str(number))))
        replies: list[protocol.Reply] = []

        def is_answered() -> bool:
            self.server.round()
            while self.socket.poll(0):
                replies.append(protocol.decode_reply(self.socket.recv_multipart()))
            return len(replies) == len(calls)

        assert self.listener.socket.poll(10_000)
        wait_until(is_answered, "the replies")
        return sorted(replies, key=lambda reply: int(reply.call))

    def close(self) -> None:
        self.socket.close(0)
        self.listener.close()


@pytest.fixture
def counter(bench: Bench) -> Iterator[Counter]:
    counter = Counter(bench)
    yield counter
    counter.close()


def test_a_note_that_makes_jobs_is_answered_once_they_are_written(bench: Bench, counter: Counter) -> None:
    (reply,) = counter.ask(protocol.Reaper(note=b"first second"))
    assert isinstance(reply, protocol.Orders)
    assert (reply.reply, reply.makes_jobs) == (b"orders for first second", True)
    assert [record.id for record in bench.store.newest(9)] == ["second", "first"]


def test_a_note_whose_jobs_cannot_be_written_is_refused_and_leaves_none(
    bench: Bench, counter: Counter
) -> None:
    bench.store.is_full = True
    (refusal,) = counter.ask(protocol.Reaper(note=b"first second"))
    assert isinstance(refusal, protocol.Error)
    assert refusal.code == "storage" and "disk is full" in refusal.message
    for job_id in ("first", "second"):
        with pytest.raises(JobNotFound):
            bench.state(job_id)
    bench.store.is_full = False
    assert isinstance(counter.ask(protocol.Reaper(note=b"first second"))[0], protocol.Orders)
    assert bench.state("first") is bench.state("second") is JobState.QUEUED


def test_a_note_that_makes_no_job_is_answered_whatever_becomes_of_the_table(
    bench: Bench, counter: Counter
) -> None:
    counter.ask(protocol.Reaper(note=b"old"))
    bench.store.is_full = True
    split = protocol.Split(id="new", request=bench.request)
    refused, answered, again = counter.ask(split, protocol.Reaper(note=b""), protocol.Reaper(note=b"old"))
    assert isinstance(refused, protocol.Error) and refused.code == "storage"
    assert [getattr(reply, "reply", None) for reply in (answered, again)] == [
        b"orders for ",
        b"orders for old",
    ]


def test_whoever_watches_a_split_or_a_remix_is_told_of_it(bench: Bench, counter: Counter) -> None:
    split = protocol.Split(id="split", request=bench.request, watch=True)
    unwatched = protocol.Split(id="unwatched", request=bench.request)
    accepted = counter.ask(split, unwatched, bench.remix_call("remix", watch=True))
    for reply in accepted:
        assert isinstance(reply, protocol.Accepted)
        counter.events.note(reply.job)
    assert [job.id for _, job in counter.events.take()] == ["split", "remix"]


def test_a_reply_that_is_too_long_is_an_error_and_holds_nobody_else_up(counter: Counter) -> None:
    note = f"long {protocol.MAX_BODY_BYTES + 1}".encode()
    before, refusal, after = counter.ask(protocol.Ping(), protocol.Reaper(note=note), protocol.Ping())
    assert isinstance(refusal, protocol.Error)
    assert str(protocol.MAX_BODY_BYTES + 1) in refusal.message
    assert isinstance(before, protocol.Pong) and isinstance(after, protocol.Pong)


def test_a_desk_that_fails_on_a_note_fails_that_note_alone(counter: Counter) -> None:
    failed, after = counter.ask(protocol.Reaper(note=b"break"), protocol.Ping())
    assert isinstance(failed, protocol.Error) and failed.code == "internal"
    assert isinstance(after, protocol.Pong)
