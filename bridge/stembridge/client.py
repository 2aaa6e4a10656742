"""Client of the daemon: submit, get, events, wait, cancel. Every call has a deadline and may come twice."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import zmq

from stembridge import daemon_process, protocol
from stembridge.errors import DaemonUnavailable, JobCancelled, ProtocolError, from_wire
from stembridge.protocol import Call, DaemonStatus, Reply
from stembridge.settings import Settings, load_settings
from stembridge.transport import connect, read_connection
from stembridge.types import Job, JobRequest, JobState, RemixRequest

FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 10.0
SILENCE_S = 2.0
"""Without an event for this long a watcher asks for the truth, which re-registers it as well."""

_Answer = TypeVar("_Answer", bound=Reply)


def new_job_id() -> str:
    """Return a fresh job id; a client that keeps it can come back for the job after any crash."""
    import uuid

    return uuid.uuid4().hex


class Client:
    """One client of this user's daemon; use it from one thread.

    Parameters
    ----------
    settings : where the daemon is looked for; None means the settings in force
    start : start a daemon where none runs
    deadline_s : seconds that one call may take in all
    """

    def __init__(
        self, settings: Settings | None = None, *, start: bool = True, deadline_s: float = 30.0
    ) -> None:
        self.settings = settings or load_settings()
        self._start = start
        self._deadline_s = deadline_s
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._numbers = itertools.count(1)
        self._missed: deque[protocol.Event] = deque()
        self._heard_at: dict[str, float] = {}
        self._prefix = os.urandom(4).hex()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._drop_socket()
        self._context.term()

    def submit(self, request: JobRequest, job_id: str | None = None, *, watch: bool = False) -> Job:
        """Hand a split or a remix to the daemon; when this returns the job survives any crash.

        Raises
        ------
        RequestError, SourceError, ModelError, PresetError, OutputError, Busy
            The daemon refused; no job was made.
        DaemonUnavailable
            No daemon answered within the deadline.
        """
        return self._call(_order(request, job_id or new_job_id(), watch=watch), protocol.Accepted).job

    def get(self, job_id: str, *, watch: bool = False) -> Job:
        """Return the truth about one job, with its story."""
        return self._call(protocol.Get(id=job_id, watch=watch), protocol.JobReply).job

    def jobs(self, limit: int = 50, prefix: str = "") -> tuple[Job, ...]:
        """Return the newest jobs, newest first; with ``prefix`` those whose id begins so."""
        return self._call(protocol.List(limit=limit, prefix=prefix), protocol.Jobs).jobs

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job: at once where it waits, within one step where it runs."""
        return self._call(protocol.Cancel(id=job_id), protocol.JobReply).job

    def pause(self, job_id: str) -> Job:
        """Let a job wait until it is resumed, with what it has; other jobs go on meanwhile."""
        return self._call(protocol.Pause(id=job_id), protocol.JobReply).job

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on where it stopped, as soon as the job that runs now has ended."""
        return self._call(protocol.Resume(id=job_id), protocol.JobReply).job

    def status(self) -> DaemonStatus:
        return self._call(protocol.Status(), protocol.StatusReply).status

    def ping(self) -> None:
        self._call(protocol.Ping(), protocol.Pong)

    def hello(self) -> protocol.Welcome:
        """Return the daemon's version, or raise `ProtocolError` where no version is common to both."""
        return self._call(protocol.Hello(versions=(protocol.VERSION,)), protocol.Welcome)

    def stop(self, grace_s: float) -> None:
        """Tell the daemon to leave: a running job is finished within the grace or requeued."""
        self._call(protocol.Stop(grace_s=grace_s), protocol.Stopping)

    def reaper(self, note: bytes) -> bytes:
        """Return what the daemon's desk answers to a note from REAPER, both as JSON."""
        return self._call(protocol.Reaper(note=note), protocol.Orders).reply

    def events(self, *job_ids: str) -> Iterator[Job]:
        """Yield each job now and at every change, each the last time in a final state.

        A daemon that is restarted in between is found (or started) again.
        """
        waiting = set(job_ids)
        yield from self._look_again(job_ids, waiting)
        while waiting:
            event = self._missed.popleft() if self._missed else self._receive(SILENCE_S)
            if event is None:
                self._reopen_if_moved()
                yield from self._look_again(job_ids, waiting)
            elif isinstance(event, protocol.Event) and event.job.id in waiting:
                if event.job.state.is_final:
                    waiting.discard(event.job.id)
                yield event.job

    def next_change(self, job_ids: Collection[str], timeout_s: float) -> Job | None:
        """Return one of these jobs as it is now, or None where nothing is heard for ``timeout_s`` seconds.

        For whoever follows jobs that come and go, call by call. A job is told of at least every `SILENCE_S`
        seconds, changed or not: what was missed, in a daemon's restart too, is heard by then.

        Raises
        ------
        JobNotFound
            The daemon knows one of them not, or not any more.
        DaemonUnavailable
            No daemon answered within the deadline.
        """
        limit = time.monotonic() + timeout_s
        self._heard_at = {job_id: at for job_id, at in self._heard_at.items() if job_id in job_ids}
        while True:
            while self._missed:
                job = self._missed.popleft().job
                if job.id in job_ids:
                    self._heard_at[job.id] = time.monotonic()
                    return job
            now = time.monotonic()
            due = {job_id: self._heard_at.get(job_id, -math.inf) + SILENCE_S for job_id in job_ids}
            silent = [job_id for job_id in due if due[job_id] <= now]
            if silent:
                self._reopen_if_moved()
                job = self._get_truth(silent[0])
                self._heard_at[job.id] = time.monotonic()
                return job
            reply = self._receive(max(0.0, min((limit, *due.values())) - now))
            if isinstance(reply, protocol.Event):
                self._missed.append(reply)
            elif time.monotonic() >= limit:
                return None

    def _look_again(self, job_ids: Sequence[str], waiting: set[str]) -> Iterator[Job]:
        for job_id in job_ids:
            if job_id in waiting:
                job = self._get_truth(job_id)
                if job.state.is_final:
                    waiting.discard(job_id)
                yield job

    def _get_truth(self, job_id: str) -> Job:
        """Return a job as it is now, and be told of its changes from now on."""
        job = self.get(job_id, watch=True)
        # What came before this reply is older than it.
        self._missed = deque(event for event in self._missed if event.job.id != job_id)
        return job

    def wait(self, job_id: str, timeout_s: float | None = None) -> Job:
        """Return the job once it is done.

        Raises
        ------
        StembridgeError
            The job's own error, where it failed; `JobCancelled` where somebody cancelled it.
        TimeoutError
            It was not final within ``timeout_s`` seconds; it goes on.
        """
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        for job in self.events(job_id):
            if job.state.is_final:
                return raise_if_not_done(job)
            if limit is not None and time.monotonic() > limit:
                break
        paused = f": it is paused (stembridge jobs resume {job_id})" if job.is_paused else ""
        raise TimeoutError(f"job {job_id} is not final after {timeout_s} s{paused}")

    def _call(self, call: Call, answer: type[_Answer]) -> _Answer:
        number = f"{self._prefix}-{next(self._numbers)}"
        frames = protocol.encode(protocol.with_number(call, number))
        deadline = time.monotonic() + self._deadline_s
        wait_s = FIRST_WAIT_S
        while time.monotonic() < deadline:
            self._open().send_multipart(frames)
            reply = self._reply_to(number, min(wait_s, deadline - time.monotonic()))
            if isinstance(reply, protocol.Error):
                raise from_wire(reply.code, reply.message, reply.hint)
            if isinstance(reply, answer):
                return reply
            self._drop_socket()
            wait_s = min(wait_s * 1.5, LONGEST_WAIT_S)
        raise DaemonUnavailable(
            f"the daemon did not answer a {type(call).__name__.lower()} within {self._deadline_s:g} s",
            "stembridge daemon status, then stembridge daemon logs",
        )

    def _reply_to(self, number: str, timeout_s: float) -> Reply | None:
        limit = time.monotonic() + timeout_s
        while (left := limit - time.monotonic()) > 0:
            reply = self._receive(left)
            if isinstance(reply, protocol.Event):
                self._missed.append(reply)
            elif reply is not None and reply.call == number:
                return reply
        return None

    def _receive(self, timeout_s: float) -> Reply | None:
        socket = self._open()
        if not socket.poll(int(timeout_s * 1000) + 1):
            return None
        return protocol.decode_reply(socket.recv_multipart())

    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            connection = daemon_process.find(self.settings)
            if connection is None:
                if not self._start:
                    raise DaemonUnavailable("no daemon is running", "stembridge daemon start")
                connection = daemon_process.find_or_start(self.settings)
            if connection.protocol != protocol.VERSION:
                raise ProtocolError(
                    protocol.version_sentence("daemon", "client", str(connection.protocol)),
                    "stembridge daemon stop, then again",
                )
            self._endpoint = connection.endpoint, connection.pid
            self._socket = connect(self._context, connection)
        return self._socket

    def _reopen_if_moved(self) -> None:
        if self._socket is None:
            return
        connection = read_connection(self.settings.connection_file)
        if connection is None or (connection.endpoint, connection.pid) != self._endpoint:
            self._drop_socket()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _order(request: JobRequest, job_id: str, *, watch: bool) -> protocol.Split | protocol.Remix:
    """Return the call by which ``request`` becomes a job."""
    if isinstance(request, RemixRequest):
        return protocol.Remix(id=job_id, request=request, watch=watch)
    return protocol.Split(id=job_id, request=request, watch=watch)


def raise_if_not_done(job: Job) -> Job:
    """Return a job that is done; raise what a failed or cancelled one ended with."""
    if job.state is JobState.CANCELLED:
        raise JobCancelled(f"job {job.id} was cancelled")
    if job.error is not None:
        raise from_wire(job.error.code, job.error.message, job.error.hint)
    return job
