"""One loop for clients and workers: calls in, replies and events out; control is never behind work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import zmq

from stembridge import protocol
from stembridge.errors import StembridgeError, StorageFailed
from stembridge.protocol import Call, Reply
from stembridge.transport import Listener
from stembridge.types import Job
from stembridge_daemon.service import Service

if TYPE_CHECKING:
    from stembridge.reaper.desk import Desk

logger = logging.getLogger(__name__)

POLL_MS = 500
MAX_CALLS_PER_ROUND = 256


class Events:
    """Who watches which job, and the newest state they have not been sent yet."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[bytes]] = {}
        self._pending: dict[str, Job] = {}

    def watch(self, job_id: str, client: bytes) -> None:
        self._watchers.setdefault(job_id, set()).add(client)

    def note(self, job: Job) -> None:
        """Keep ``job`` for `take`; an older state of it that nobody was sent is replaced."""
        if job.id in self._watchers:
            self._pending[job.id] = job

    def take(self) -> list[tuple[bytes, Job]]:
        """Return what is to be sent now; the watchers of a final job are forgotten."""
        due = [(client, job) for job in self._pending.values() for client in self._watchers[job.id]]
        for job in self._pending.values():
            if job.state.is_final:
                del self._watchers[job.id]
        self._pending.clear()
        return due

    def forget(self, job_id: str) -> None:
        """Forget a job that came to nothing."""
        self._watchers.pop(job_id, None)
        self._pending.pop(job_id, None)

    def drop(self, client: bytes) -> None:
        """Forget a client that is gone."""
        for job_id, clients in list(self._watchers.items()):
            clients.discard(client)
            if not clients:
                del self._watchers[job_id]
                self._pending.pop(job_id, None)


class Server:
    """Serves one listener until the service is over.

    ``open_desk`` is called for the first note from REAPER: whoever has none waits for no desk.
    """

    def __init__(
        self,
        listener: Listener,
        service: Service,
        events: Events,
        open_desk: Callable[[], Desk],
    ) -> None:
        self._listener = listener
        self._service = service
        self._events = events
        self._open_desk = open_desk
        self._is_storage_down = False

    @cached_property
    def _desk(self) -> Desk:
        return self._open_desk()

    def run(self) -> None:
        """Serve until the service was told to leave and nothing holds it any more."""
        poller = zmq.Poller()
        poller.register(self._listener.socket, zmq.POLLIN)
        for socket in self._service.sockets:
            poller.register(socket, zmq.POLLIN)
        while not self._service.is_over:
            poller.poll(POLL_MS)
            try:
                self.round()
            except Exception:
                # Whatever one round runs into, the next one serves; the trace is in the log.
                logger.exception("a round failed")

    def round(self) -> None:
        """Take what has come, decide, commit, and only then answer."""
        self._service.hear()
        replies = self._answer_calls()
        failure = self._flush()
        for client, reply in replies:
            if failure is not None and _depends_on_commit(reply):
                if isinstance(reply, protocol.Accepted):
                    self._events.forget(reply.job.id)
                refusal = protocol.Error(code=failure.code, message=failure.message, hint=failure.hint)
                self._send(client, protocol.with_number(refusal, reply.call))
            else:
                self._send(client, reply)
        try:
            self._service.tick()
        except StorageFailed as error:
            self._note_storage(error)
        self._flush()
        for client, job in self._events.take():
            self._send(client, protocol.Event(job=job))

    def _answer_calls(self) -> list[tuple[bytes, Reply]]:
        replies: list[tuple[bytes, Reply]] = []
        for _ in range(MAX_CALLS_PER_ROUND):
            try:
                client, *frames = self._listener.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            reply = self._answer(client, frames)
            if reply is not None:
                replies.append((client, reply))
        return replies

    def _answer(self, client: bytes, frames: list[bytes]) -> Reply | None:
        if not protocol.is_ours(frames):
            logger.warning("%d frames that are no message of ours were dropped", len(frames))
            return None
        number = protocol.number_of(frames)
        try:
            call = protocol.decode_call(frames)
            reply = self._serve(call)
            match call, reply:
                case (
                    protocol.Split(watch=True) | protocol.Remix(watch=True) | protocol.Get(watch=True),
                    protocol.Accepted(job=job) | protocol.JobReply(job=job),
                ) if not job.state.is_final:
                    self._events.watch(job.id, client)
        except StembridgeError as error:
            reply = protocol.Error(code=error.code, message=error.message, hint=error.hint)
        except Exception:
            # The daemon stays up whatever one call does to it; the trace is in the log.
            logger.exception("a call failed")
            reply = protocol.Error(
                code="internal", message="the daemon failed on this call", hint="stembridge daemon logs"
            )
        return protocol.with_number(reply, number)

    def _serve(self, call: Call) -> Reply:
        if not isinstance(call, protocol.Reaper):
            return self._service.answer(call, self._listener.origin)
        before = self._service.uncommitted
        reply = self._desk.answer(call.note)
        return protocol.Orders(reply=reply, makes_jobs=self._service.uncommitted > before)

    def _flush(self) -> StorageFailed | None:
        try:
            self._service.flush()
        except StorageFailed as error:
            self._note_storage(error)
            return error
        if self._is_storage_down:
            logger.info("the job table can be written again")
            self._is_storage_down = False
        return None

    def _note_storage(self, error: StorageFailed) -> None:
        if not self._is_storage_down:
            logger.error("%s", error)
            self._is_storage_down = True

    def _send(self, client: bytes, message: Reply) -> None:
        try:
            frames = protocol.encode(message)
        except StembridgeError as error:
            refusal = protocol.Error(code=error.code, message=error.message, hint=error.hint)
            frames = protocol.encode(protocol.with_number(refusal, message.call))
        try:
            self._listener.socket.send_multipart([client, *frames], zmq.NOBLOCK)
        except zmq.Again:
            logger.debug("a slow client missed a message")
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._events.drop(client)


def _depends_on_commit(reply: Reply) -> bool:
    """Tell whether a reply promises jobs that are not committed yet."""
    match reply:
        case protocol.Accepted(duplicate=is_duplicate):
            return not is_duplicate
        case protocol.Orders(makes_jobs=makes_jobs):
            return makes_jobs
    return False
