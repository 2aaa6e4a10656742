"""A daemon in this process: jobs and errands are done at once, by a split that knows no network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fakes import FakeSeparator
from splits import split_to_end
from stembridge.errors import StembridgeError
from stembridge.reaper.errands import KINDS
from stembridge.reaper.house import Errand
from stembridge.settings import Settings, load_settings
from stembridge.types import ErrorInfo, Job, JobState, SplitRequest
from stembridge_daemon import admission


class FakeHouse:
    """A `House` whose jobs are done the moment they are submitted.

    Parameters
    ----------
    home : root of all its folders
    costs : seconds per second of audio and pass, by model; what is not there never ran here
    models : models that are here; None means all
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
        self._settings = load_settings(home=home, environ={})

    @property
    def settings(self) -> Settings:
        return self._settings

    def submit(self, request: SplitRequest, job_id: str) -> Job:
        job = Job(job_id, request, JobState.QUEUED, created=0.0)
        try:
            result, _ = split_to_end(request, self.separator, job_id=job_id)
            job = replace(job, state=JobState.DONE, result=result)
        except StembridgeError as error:
            fault = ErrorInfo(error.code, error.message, error.hint)
            job = replace(job, state=JobState.FAILED, error=fault)
        self.jobs[job_id] = job
        return job

    def find_job(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def list_jobs(self, limit: int) -> tuple[Job, ...]:
        return tuple(reversed(self.jobs.values()))[:limit]

    def cancel_job(self, job_id: str) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], state=JobState.CANCELLED)

    def cost_of(self, model: str) -> float | None:
        return self.costs.get(model)

    def has_model(self, model: str) -> bool:
        return self.models is None or model in self.models

    def signature_of(self, path: str) -> str:
        return admission.source_signature(path)

    def hold(self, seconds: float) -> None:
        """Nothing runs that could be held."""

    def start_errand(self, kind: str, arguments: dict[str, Any]) -> str:
        self.kinds.append(kind)
        errand_id = f"errand {len(self.kinds)}"
        try:
            result = KINDS[kind](self._settings, lambda _text, _part: None, **arguments)
            self.errands[errand_id] = Errand(errand_id, result=result)
        except StembridgeError as error:
            fault = ErrorInfo(error.code, error.message, error.hint)
            self.errands[errand_id] = Errand(errand_id, error=fault)
        return errand_id

    def find_errand(self, errand_id: str) -> Errand | None:
        return self.errands.get(errand_id)
