"""What the daemon does with calls, worker reports and time; what becomes of a job is `scheduler.advance`'s.

Records live in memory while they are not final; `flush` writes what has changed in one transaction. Nobody
is told `accepted`, and no worker gets an order, before that transaction has ended well.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import zmq

from stembridge import __version__, catalog, protocol
from stembridge.errors import (
    Busy,
    IdConflict,
    JobNotFound,
    Leaving,
    ModelError,
    ProtocolError,
    RequestError,
    StorageFailed,
)
from stembridge.estimate import pass_seconds, speed_name
from stembridge.manifest import work_folder
from stembridge.protocol import DaemonStatus, Reply, ServiceCall
from stembridge.settings import Settings
from stembridge.types import ErrorInfo, Job, JobState, RemixRequest, SplitRequest, SplitResult
from stembridge.work_folders import remove_folder
from stembridge_daemon import admission, scheduler
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.jobstore import JobStore
from stembridge_daemon.lane import Lane
from stembridge_daemon.scheduler import Instruction, JobKind, JobRecord
from stembridge_daemon.supervisor import Died, WorkerState
from stembridge_daemon.worker_messages import (
    CancelJob,
    JobDone,
    JobEarly,
    JobError,
    JobPaused,
    JobProgress,
    JobStopped,
    Load,
    LocatedModel,
    Models,
    Ready,
    Report,
    RunRemix,
    RunSplit,
    Task,
)

logger = logging.getLogger(__name__)


@dataclass
class _Unsaved:
    """What the next transaction has to write."""

    new: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    stories: list[tuple[str, str]] = field(default_factory=list)
    speeds: dict[tuple[str, str], float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.stories or self.speeds)


class Service:
    """The daemon's jobs, whoever asks and whoever works.

    Parameters
    ----------
    lanes : where each kind of job runs
    on_change : called with a job whenever its state or progress has changed
    wall_clock, clock : seconds since the epoch for display, and monotonic seconds for everything else
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        lanes: Iterable[Lane],
        *,
        endpoint: str,
        on_change: Callable[[Job], None],
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._lanes = {lane.kind: lane for lane in lanes}
        self._endpoint = endpoint
        self._on_change = on_change
        self._wall_clock = wall_clock
        self._clock = clock
        self._started = clock()
        self._live: dict[str, JobRecord] = {record.id: record for record in store.unfinished()}
        self._unsaved = _Unsaved()
        self._leave_by: float | None = None
        for record in list(self._live.values()):
            if record.state is JobState.RUNNING:
                self._apply(record, scheduler.LostPlace() if record.is_paused else scheduler.Interrupted())

    @property
    def is_over(self) -> bool:
        """Whether the daemon was told to leave and nothing holds it any more."""
        return self._leave_by is not None and not any(lane.running for lane in self._lanes.values())

    @property
    def sockets(self) -> list[zmq.Socket[Any]]:
        """What becomes readable when `hear` has something to take note of."""
        return [lane.supervisor.socket for lane in self._lanes.values()]

    @property
    def uncommitted(self) -> int:
        """How many new jobs the next transaction will write."""
        return len(self._unsaved.new)

    def preload(self, model: str) -> None:
        """Have ``model`` loaded and warmed as soon as the worker is up."""
        try:
            files = admission.locate_model(model, None, self._settings)
        except ModelError as error:
            logger.info("nothing to preload: %s", error)
        else:
            self._lanes[JobKind.SPLIT].warm_up(Load(LocatedModel.of(files)))

    def hold(self, seconds: float) -> None:
        """Let no worker begin a step for so long; see `Supervisor.hold`."""
        for lane in self._lanes.values():
            lane.supervisor.hold(seconds)

    def answer(self, call: ServiceCall, origin: str) -> Reply:
        """Return the reply to ``call``.

        Raises
        ------
        StembridgeError
            What the asker did wrong, or what keeps the daemon from doing it.
        """
        match call:
            case protocol.Ping():
                return protocol.Pong()
            case protocol.Hello(versions=versions):
                if protocol.VERSION not in versions:
                    theirs = ", ".join(map(str, versions))
                    raise ProtocolError(
                        protocol.version_sentence("client", "daemon", theirs), "update the older of the two"
                    )
                return protocol.Welcome(version=protocol.VERSION, server=__version__, pid=os.getpid())
            case protocol.Split() | protocol.Remix():
                return self._accept(call, origin)
            case protocol.Get(id=job_id):
                record = self._find(job_id)
                return protocol.JobReply(job=replace(record.as_job(), story=self._store.story(job_id)))
            case protocol.List(limit=limit, prefix=prefix):
                newest = self._store.newest(max(1, min(limit, 1000)), prefix)
                return protocol.Jobs(
                    jobs=tuple(self._live.get(record.id, record).as_job() for record in newest)
                )
            case protocol.Cancel(id=job_id):
                return self._ask(job_id, scheduler.CancelAsked())
            case protocol.Pause(id=job_id):
                return self._ask(job_id, scheduler.PauseAsked())
            case protocol.Resume(id=job_id):
                return self._ask(job_id, scheduler.ResumeAsked())
            case protocol.Status():
                return protocol.StatusReply(status=self._status())
            case protocol.Stop(grace_s=grace_s):
                self.leave(grace_s)
                return protocol.Stopping()

    def leave(self, grace_s: float) -> None:
        """Begin to end: no new jobs; what runs is finished within ``grace_s`` seconds or requeued."""
        logger.info("leaving within %g s", grace_s)
        self._leave_by = self._clock() + max(0.0, grace_s)

    def hear(self) -> None:
        """Take note of what the workers have said."""
        for lane in self._lanes.values():
            for report in lane.supervisor.receive():
                self._on_report(lane, report)

    def tick(self) -> None:
        """Do what is due: hand out the next jobs, watch the workers, unload what is idle, leave."""
        for lane in self._lanes.values():
            lane.supervisor.check()
            if self._leave_by is not None:
                lane.hurry(self._clock() - self._leave_by, self._settings.stop_grace_s)
            elif lane.running is None:
                self._dispatch(lane)

    def flush(self) -> None:
        """Commit everything that has changed.

        Raises
        ------
        StorageFailed
            Nothing was written; new jobs are forgotten, changes of older ones are kept for the next time.
        """
        if not self._unsaved:
            return
        unsaved = self._unsaved
        try:
            for job_id in unsaved.new:
                self._store.add(self._live[job_id])
            for job_id in unsaved.changed.difference(unsaved.new):
                self._store.save(self._live[job_id])
            for job_id, text in unsaved.stories:
                self._store.tell(job_id, text)
            for (model, device), cost in unsaved.speeds.items():
                self._store.save_speed(model, device, cost)
            if unsaved.new:
                failpoint("front-before-commit")
            self._store.commit()
        except sqlite3.Error as error:
            self._store.rollback()
            self._forget_new()
            raise StorageFailed(
                f"the job table cannot be written: {error}", f"make room at {self._settings.state_dir}"
            ) from None
        self._unsaved = _Unsaved()
        if unsaved.new:
            failpoint("front-after-commit")
        for job_id in unsaved.changed:
            if self._live[job_id].state.is_final:
                failpoint("front-after-done")
                del self._live[job_id]

    def close(self) -> None:
        """Write the last changes; jobs that still run, or that a worker has put aside, are requeued."""
        for lane in self._lanes.values():
            if lane.running is not None:
                self._release(lane, lane.running, scheduler.Interrupted())
            self._requeue_aside(lane)
        self.flush()

    def _ask(self, job_id: str, event: scheduler.Event) -> Reply:
        """Return what becomes of a job by what a client wants of it."""
        return protocol.JobReply(job=self._apply(self._find(job_id), event).as_job())

    def _accept(self, call: protocol.Split | protocol.Remix, origin: str) -> Reply:
        if not re.fullmatch(protocol.ID_PATTERN, call.id):
            raise RequestError(f"job id {call.id[:80]!r}", "1 to 64 of 0-9 A-Z a-z _ -")
        known = self._live.get(call.id) or self._store.get(call.id)
        if known is not None:
            admission.check_rights(call.request, origin)
            signature = self._signature_now(call, known)
            if admission.request_digest(call.request, signature) != known.digest:
                raise IdConflict(f"job id {call.id} belongs to another request", "choose a fresh id")
            # Until it is committed, a job that was sent twice is as much in the balance as the first time.
            return protocol.Accepted(job=known.as_job(), duplicate=call.id not in self._unsaved.new)
        if self._leave_by is not None:
            raise Leaving("the daemon is leaving", "try again in a moment")
        kind = JobKind.REMIX if isinstance(call, protocol.Remix) else JobKind.SPLIT
        waiting = list(self._queued(kind))
        if len(waiting) >= self._settings.max_queue:
            paused = sum(job.is_paused for job in waiting)
            raise Busy(
                f"{len(waiting)} jobs are waiting" + (f", {paused} of them paused" if paused else ""),
                "try again when some are done"
                + (", or resume or cancel those (stembridge jobs)" if paused else ""),
            )
        request = admission.admit(call.request, self._settings, origin)
        signature = admission.request_signature(request, self._settings)
        record = JobRecord(
            id=call.id,
            digest=admission.request_digest(call.request, signature),
            request=request,
            signature=signature,
            origin=origin,
            created=self._wall_clock(),
        )
        self._live[call.id] = record
        self._unsaved.new.append(call.id)
        job = record.as_job()
        logger.info("job %s accepted: %s of %s with %s", job.id, record.kind, job.source, job.tool)
        return protocol.Accepted(job=job)

    def _signature_now(self, call: protocol.Split | protocol.Remix, known: JobRecord) -> str:
        """Return the signature of what a known job is asked for again; its own where that has gone."""
        try:
            return admission.request_signature(call.request, self._settings)
        except RequestError:
            return known.signature

    def _queued(self, kind: JobKind) -> Iterable[JobRecord]:
        """Yield the jobs of one kind that no worker has, in their order."""
        return (job for job in self._live.values() if job.state is JobState.QUEUED and job.kind is kind)

    def _waiting(self, kind: JobKind) -> Iterable[JobRecord]:
        """Yield those of them that are not paused."""
        return (job for job in self._queued(kind) if not job.is_paused)

    def _find(self, job_id: str) -> JobRecord:
        record = self._live.get(job_id) or self._store.get(job_id)
        if record is None:
            raise JobNotFound(f"no job {job_id[:80]!r}", "stembridge jobs lists them")
        return record

    def _advance(self, job_id: str, event: scheduler.Event) -> None:
        record = self._live.get(job_id)
        if record is not None:
            self._apply(record, event)

    def _on_report(self, lane: Lane, report: Report | Died) -> None:
        match report:
            case Died():
                self._on_death(lane, report)
            case Ready():
                lane.note_ready()
            case Models():
                lane.models = report
            case JobProgress(id=job_id, progress=progress):
                self._advance(job_id, scheduler.Progressed(progress))
            case JobEarly(id=job_id, early=early):
                self._advance(job_id, scheduler.Heard(early))
            case JobPaused(id=job_id):
                lane.note_pause(job_id)
            case JobDone(id=job_id, result=result):
                failpoint("front-before-done")
                self._note_speed(lane, job_id, result)
                self._release(lane, job_id, scheduler.Finished(result))
            case JobError(id=job_id, error=error):
                self._release(lane, job_id, scheduler.Failed(error))
            case JobStopped(id=job_id):
                self._release(lane, job_id, scheduler.Stopped())

    def _release(self, lane: Lane, job_id: str, event: scheduler.Event) -> None:
        lane.release(job_id)
        self._advance(job_id, event)

    def _requeue_aside(self, lane: Lane) -> None:
        """Put the jobs back whose places have ended with the worker."""
        for job_id in lane.aside:
            self._advance(job_id, scheduler.LostPlace())
        lane.aside.clear()

    def _apply(self, record: JobRecord, event: scheduler.Event) -> JobRecord:
        transition = scheduler.advance(record, event)
        after = transition.record
        for instruction in transition.instructions:
            match instruction:
                case Instruction.SAVE:
                    self._live[after.id] = after
                    self._unsaved.changed.add(after.id)
                case Instruction.TELL_CANCEL:
                    self._lanes[after.kind].supervisor.send(CancelJob(after.id))
                case Instruction.TELL_PAUSE:
                    self._lanes[after.kind].pause(after.id)
                case Instruction.CLEAN:
                    remove_folder(work_folder(after.request.out, after.id))
        if transition.story:
            self._unsaved.stories.append((after.id, transition.story))
            logger.info("job %s: %s", after.id, transition.story)
        if after is not record:
            if after.id in self._live:
                self._live[after.id] = after
            self._on_change(after.as_job())
        return after

    def _dispatch(self, lane: Lane) -> None:
        resumed = next((job_id for job_id in lane.aside if self._is_to_go_on(job_id)), None)
        waiting = next(iter(self._waiting(lane.kind)), None) if lane.has_room else None
        if resumed is not None:
            # As with a job that is handed out: what the table does not know yet is not done.
            self.flush()
            lane.resume(resumed)
        elif waiting is None:
            lane.rest(self._settings.keep_alive_s)
        elif lane.supervisor.state is WorkerState.ABSENT:
            lane.supervisor.start()
        elif lane.supervisor.state is WorkerState.IDLE:
            self._hand_out(lane, waiting)

    def _is_to_go_on(self, job_id: str) -> bool:
        record = self._live[job_id]
        return not record.is_paused and not record.cancel_asked

    def _hand_out(self, lane: Lane, waiting: JobRecord) -> None:
        # While the table cannot be written nothing is handed out, and this raises before anything is said.
        self.flush()
        worker = f"worker {lane.supervisor.pid}"
        try:
            order = self._make_order(waiting)
        except RequestError as error:
            taken = scheduler.advance(waiting, scheduler.Taken(worker)).record
            self._apply(taken, scheduler.Failed(ErrorInfo(error.code, error.message, error.hint)))
            return
        self._apply(waiting, scheduler.Taken(worker))
        try:
            self.flush()
        except StorageFailed:
            self._live[waiting.id] = waiting
            self._on_change(waiting.as_job())
            raise
        lane.take(waiting.id, order)
        failpoint("front-after-dispatch")

    def _make_order(self, record: JobRecord) -> Task:
        match record.request:
            case SplitRequest() as request:
                files = admission.locate_model(request.model, request.model_dir, self._settings)
                return RunSplit(record.id, request, LocatedModel.of(files))
            case RemixRequest() as request:
                admission.check_unchanged(request, record.signature, self._settings)
                return RunRemix(record.id, request)

    def _on_death(self, lane: Lane, death: Died) -> None:
        job_id = lane.note_death(death)
        self._requeue_aside(lane)
        if job_id is not None:
            is_ours = self._leave_by is not None
            self._advance(job_id, scheduler.Interrupted() if is_ours else scheduler.WorkerDied(death.reason))
        elif lane.gives_up():
            error = ErrorInfo(
                "internal",
                f"the worker cannot start ({death.reason}): {lane.supervisor.last_words()}",
                "stembridge doctor names what is missing",
            )
            for record in list(self._waiting(lane.kind)):
                taken = scheduler.advance(record, scheduler.Taken("no worker")).record
                self._apply(taken, scheduler.Failed(error))

    def _note_speed(self, lane: Lane, job_id: str, result: SplitResult) -> None:
        record = self._live.get(job_id)
        if record is None or result.separate_s <= 0 or result.audio_s <= 0:
            return
        if isinstance(record.request, SplitRequest):
            model = catalog.find_model(record.request.model)
            cost = result.separate_s / pass_seconds(model, record.request, result.audio_s)
            name = speed_name(record.request.model, record.request.precision)
            self._unsaved.speeds[name, lane.models.device] = cost

    def _forget_new(self) -> None:
        for job_id in self._unsaved.new:
            del self._live[job_id]
            self._unsaved.changed.discard(job_id)
        self._unsaved.new.clear()
        self._unsaved.stories = [
            (job_id, text) for job_id, text in self._unsaved.stories if job_id in self._live
        ]

    def _status(self) -> DaemonStatus:
        counts = {state.value: 0 for state in JobState} | self._store.counts()
        return DaemonStatus(
            pid=os.getpid(),
            version=__version__,
            protocol=protocol.VERSION,
            uptime_s=round(self._clock() - self._started, 1),
            endpoint=self._endpoint,
            home=str(self._settings.home or ""),
            jobs=counts,
            workers=tuple(lane.status() for lane in self._lanes.values()),
            speeds=self._store.speeds(),
            paused=sum(record.is_paused for record in self._live.values()),
        )
