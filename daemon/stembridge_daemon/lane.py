"""A worker and its work: jobs of one kind in a process of their own, whatever happens to the other kind."""

from __future__ import annotations

import time
from collections.abc import Callable

from stembridge.protocol import WorkerStatus
from stembridge_daemon.scheduler import JobKind
from stembridge_daemon.supervisor import Died, Supervisor, WorkerState
from stembridge_daemon.worker_messages import CancelJob, Load, Models, PauseJob, ResumeJob, Role, Task

MAX_START_FAILURES = 3
"""A worker that dies this often before it is ready will not become ready."""

MAX_ASIDE = 4
"""More jobs put aside than this hold up the others: each keeps its model, its buffers and its files."""

_ROLES = {JobKind.SPLIT: Role.SEPARATE, JobKind.REMIX: Role.RENDER}


class Lane:
    """Where jobs of one kind run, one after the other.

    Parameters
    ----------
    device : where this worker computes, until it says so itself
    threads : how many threads it computes with on a CPU; 0 where that is not set
    clock : monotonic seconds
    """

    def __init__(
        self,
        kind: JobKind,
        supervisor: Supervisor,
        *,
        device: str = "cpu",
        threads: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.supervisor = supervisor
        self.running: str | None = None
        """The job that the worker is at."""
        self.aside: list[str] = []
        """Jobs that the worker has put aside, in the order of their pauses."""
        self.models = Models((), 0, device)
        self._threads = threads
        self._clock = clock
        self._idle_since = clock()
        self._warm_up: Load | None = None
        self._start_failures = 0
        self._is_stopping_job = False
        self._is_pausing_job = False

    def warm_up(self, order: Load) -> None:
        """Start the worker, and have a model loaded before anybody asks for it."""
        self._warm_up = order
        self.supervisor.start()

    def take(self, job_id: str, order: Task) -> None:
        """Give the worker, which is idle, a job."""
        self._start(job_id, order)

    def resume(self, job_id: str) -> None:
        """Let the worker, which is idle, go on with a job that it has put aside."""
        self.aside.remove(job_id)
        self._start(job_id, ResumeJob(job_id))

    def pause(self, job_id: str) -> None:
        """Have the job put aside, if it is the one that the worker is at; that is said once."""
        if job_id == self.running and not self._is_pausing_job:
            self._is_pausing_job = True
            self.supervisor.send(PauseJob(job_id))

    def note_pause(self, job_id: str) -> None:
        """Note that the worker has put its job aside."""
        self.release(job_id)
        self.aside.append(job_id)

    def release(self, job_id: str) -> None:
        """Note that the worker has let go of a job: the one that it was at, or one of those put aside."""
        if job_id in self.aside:
            self.aside.remove(job_id)
            self._idle_since = self._clock()
        elif job_id == self.running:
            self.running = None
            self._idle_since = self._clock()
            self.supervisor.set_idle()

    def note_ready(self) -> None:
        """Note that the worker has come up."""
        self._start_failures = 0

    def note_death(self, death: Died) -> str | None:
        """Return the job that died with the worker, if it was at one; those put aside stay listed."""
        self.models = Models((), 0, self.models.device)
        job_id, self.running = self.running, None
        if job_id is None and not death.was_asked:
            self._start_failures += 1
        return job_id

    @property
    def has_room(self) -> bool:
        """Whether the worker may be given one more job."""
        return len(self.aside) <= MAX_ASIDE

    def gives_up(self) -> bool:
        """Return whether the worker has failed to start too often; that is then forgotten."""
        if self._start_failures < MAX_START_FAILURES:
            return False
        self._start_failures = 0
        return True

    def rest(self, keep_alive_s: float) -> None:
        """Do without a job what is due: load what was asked for, or end what nobody needs any more."""
        if self.supervisor.state is not WorkerState.IDLE:
            return
        if self._warm_up is not None:
            self.supervisor.send(self._warm_up)
            self._warm_up = None
            self._idle_since = self._clock()
        elif not self.aside and 0 <= keep_alive_s < self._clock() - self._idle_since:
            self.supervisor.stop()

    def hurry(self, late_s: float, grace_s: float) -> None:
        """Stop the job of a daemon that should have left ``late_s`` seconds ago; kill it past ``grace_s``."""
        if self.running is None or late_s < 0:
            return
        if late_s > grace_s:
            self.supervisor.kill("the daemon leaves")
        elif not self._is_stopping_job:
            self._is_stopping_job = True
            self.supervisor.send(CancelJob(self.running))

    def status(self) -> WorkerStatus:
        return WorkerStatus(
            role=_ROLES[self.kind].value,
            device=self.models.device,
            state=self.supervisor.state.value,
            pid=self.supervisor.pid,
            job=self.running,
            models=self.models.names,
            model_loads=self.models.loads,
            starts=self.supervisor.starts,
            paused=tuple(self.aside),
            threads=self._threads,
        )

    def _start(self, job_id: str, order: Task | ResumeJob) -> None:
        self.running = job_id
        self._is_pausing_job = False
        self.supervisor.send(order, is_job=True)
