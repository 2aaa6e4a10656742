"""A daemon in this process: jobs and errands are done at once, and no network is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes import FakeSeparator
from splits import split_to_end
from stembridge.errors import Busy, JobNotFound, StembridgeError
from stembridge.estimate import speed_name
from stembridge.mixdown.render import render_remix
from stembridge.reaper.errands import KINDS
from stembridge.reaper.house import Errand
from stembridge.settings import Settings, load_settings
from stembridge.stages import run_to_end
from stembridge.types import (
    ErrorInfo,
    Job,
    JobRequest,
    JobState,
    Precision,
    Progress,
    RemixRequest,
    SplitResult,
)
from stembridge_daemon import admission


class FakeHouse:
    """A `House` whose jobs and errands are done the moment they are submitted, unless they are held.

    Parameters
    ----------
    home : root of all its folders
    costs : seconds per second of audio and pass, by `speed_name`; what is not there never ran here
    models : models that are here; None means all

    Attributes
    ----------
    holds_jobs, holds_errands : what is submitted waits until `finish_jobs` or `finish_errands`
    faults : what a job or errand fails with, by the name of its source file or by its kind
    max_errands : so many may be held at once; None means any number
    held : the seconds of each `hold`
    """

    def __init__(
        self, home: Path, *, costs: dict[str, float] | None = None, models: set[str] | None = None
    ) -> None:
        self.costs = {} if costs is None else costs
        self.models = models
        self.jobs: dict[str, Job] = {}
        self.errands: dict[str, Errand] = {}
        self.kinds: list[str] = []
        self.separator = FakeSeparator()
        self.holds_jobs = False
        self.holds_errands = False
        self.faults: dict[str, StembridgeError] = {}
        self.max_errands: int | None = None
        self.held: list[float] = []
        self._errands_held: dict[str, tuple[str, dict[str, Any]]] = {}
        self._settings = load_settings(home=home, environ={})

    @property
    def settings(self) -> Settings:
        return self._settings

    def submit(self, request: JobRequest, job_id: str) -> Job:
        if job_id not in self.jobs:
            if isinstance(request, RemixRequest):
                request = admission.admit_remix(request, self._settings)
                self.jobs[job_id] = Job(job_id, None, JobState.QUEUED, created=0.0, remix=request)
            else:
                self.jobs[job_id] = Job(job_id, request, JobState.QUEUED, created=0.0)
            if not self.holds_jobs:
                self.finish_jobs(job_id)
        return self.jobs[job_id]

    def run_job(self, job_id: str, progress: Progress) -> None:
        """Let a job that waits be running and so far."""
        self.jobs[job_id] = replace(self.jobs[job_id], state=JobState.RUNNING, progress=progress)

    def finish_jobs(self, *job_ids: str) -> None:
        """Do these jobs to their end, or all that are not final."""
        for job_id in job_ids or [job.id for job in self.jobs.values() if not job.state.is_final]:
            self.jobs[job_id] = self._do_job(self.jobs[job_id])

    def _do_job(self, job: Job) -> Job:
        try:
            self._fail(Path(job.source).name)
            result = self._do_request(job)
        except StembridgeError as error:
            return replace(job, state=JobState.FAILED, error=_tell(error))
        return replace(job, state=JobState.DONE, result=result)

    def _do_request(self, job: Job) -> SplitResult:
        if job.remix is not None:
            return run_to_end(render_remix(job.remix, job.id, self._settings))
        result, _ = split_to_end(job.split, self.separator, job_id=job.id)
        return result

    def _fail(self, name: str) -> None:
        if name in self.faults:
            raise self.faults[name]

    def find_job(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def list_jobs(self, limit: int) -> tuple[Job, ...]:
        return tuple(reversed(self.jobs.values()))[:limit]

    def cancel_job(self, job_id: str) -> None:
        if job_id not in self.jobs:
            raise JobNotFound(f"no job {job_id!r}")
        if not self.jobs[job_id].state.is_final:
            self.jobs[job_id] = replace(self.jobs[job_id], state=JobState.CANCELLED)

    def cost_of(self, model: str, precision: Precision) -> float | None:
        return self.costs.get(speed_name(model, precision))

    def has_model(self, model: str) -> bool:
        return self.models is None or model in self.models

    def signature_of(self, path: str) -> str:
        return admission.source_signature(path)

    def hold(self, seconds: float) -> None:
        self.held.append(seconds)

    def start_errand(self, kind: str, arguments: dict[str, Any]) -> str:
        if self.max_errands is not None and len(self._errands_held) >= self.max_errands:
            raise Busy(f"{self.max_errands} errands run already", "try again in a moment")
        self.kinds.append(kind)
        errand_id = f"errand {len(self.kinds)}"
        self.errands[errand_id] = Errand(errand_id, text=f"{kind} goes on")
        self._errands_held[errand_id] = kind, arguments
        if not self.holds_errands:
            self.finish_errands()
        return errand_id

    def finish_errands(self) -> None:
        """Do all that is held."""
        for errand_id, (kind, arguments) in self._errands_held.items():
            self.errands[errand_id] = self._do_errand(errand_id, kind, arguments)
        self._errands_held.clear()

    def forget_errands(self) -> None:
        """Be restarted: what ran aside is lost."""
        self.errands.clear()
        self._errands_held.clear()

    def _do_errand(self, errand_id: str, kind: str, arguments: dict[str, Any]) -> Errand:
        try:
            self._fail(kind)
            if kind == "fetch_model" and self.models is not None:
                self.models.add(arguments["model"])
                return Errand(errand_id, result={"files": []})
            result = KINDS[kind](self._settings, lambda _text, _part: None, **arguments)
        except StembridgeError as error:
            return Errand(errand_id, error=_tell(error))
        return Errand(errand_id, result=result)

    def find_errand(self, errand_id: str) -> Errand | None:
        return self.errands.get(errand_id)


def _tell(error: StembridgeError) -> ErrorInfo:
    return ErrorInfo(error.code, error.message, error.hint)
