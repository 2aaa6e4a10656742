"""A worker and its work: jobs of one kind in a process of their own, whatever happens to the other kind."""

from __future__ import annotations

import time
from collections.abc import Callable

from stembridge.protocol import WorkerStatus
from stembridge_daemon.scheduler import JobKind
from stembridge_daemon.supervisor import Died, Supervisor, WorkerState
from stembridge_daemon.worker_messages import CancelJob, Load, Models, Role, Task

MAX_START_FAILURES = 3
"""A worker that dies this often before it is ready will not become ready."""

_ROLES = {JobKind.SPLIT: Role.SEPARATE, JobKind.REMIX: Role.RENDER}


class Lane:
    """Where jobs of one kind run, one after the other.

    Parameters
    ----------
    device : where this worker computes, until it says so itself
    clock : monotonic seconds
    """

    def __init__(
        self,
        kind: JobKind,
        supervisor: Supervisor,
        *,
        device: str = "cpu",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self.supervisor = supervisor
        self.running: str | None = None
        """The job that the worker has."""
        self.models = Models((), 0, device)
        self._clock = clock
        self._idle_since = clock()
        self._warm_up: Load | None = None
        self._start_failures = 0
        self._is_stopping_job = False

    def warm_up(self, order: Load) -> None:
        """Start the worker, and have a model loaded before anybody asks for it."""
        self._warm_up = order
        self.supervisor.start()

    def take(self, job_id: str, order: Task) -> None:
        """Give the worker, which is idle, a job."""
        self.running = job_id
        self.supervisor.send(order, is_job=True)

    def release(self) -> None:
        """Note that the worker has let go of its job."""
        self.running = None
        self._idle_since = self._clock()
        self.supervisor.set_idle()

    def note_ready(self) -> None:
        """Note that the worker has come up."""
        self._start_failures = 0

    def note_death(self, death: Died) -> str | None:
        """Return the job that died with the worker, if it had one."""
        self.models = Models((), 0, self.models.device)
        job_id, self.running = self.running, None
        if job_id is None and not death.was_asked:
            self._start_failures += 1
        return job_id

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
        elif 0 <= keep_alive_s < self._clock() - self._idle_since:
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
        )
