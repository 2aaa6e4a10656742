"""The daemon as the desk for REAPER sees it."""

from __future__ import annotations

from typing import Any

from stembridge import catalog, protocol
from stembridge.errors import JobNotFound, ModelError
from stembridge.estimate import measured_cost
from stembridge.reaper.house import Errand
from stembridge.settings import Settings
from stembridge.types import Job, JobRequest, Precision, RemixRequest
from stembridge_daemon import admission
from stembridge_daemon.errands import Errands
from stembridge_daemon.service import Service


class FrontHouse:
    """Does what `stembridge.reaper.house.House` promises, by the service's own calls.

    Parameters
    ----------
    origin : where the listener's clients are, as the service wants to know it
    """

    def __init__(self, settings: Settings, service: Service, errands: Errands, origin: str) -> None:
        self._settings = settings
        self._service = service
        self._errands = errands
        self._origin = origin

    @property
    def settings(self) -> Settings:
        return self._settings

    def submit(self, request: JobRequest, job_id: str) -> Job:
        call: protocol.Split | protocol.Remix
        if isinstance(request, RemixRequest):
            call = protocol.Remix(id=job_id, request=request)
        else:
            call = protocol.Split(id=job_id, request=request)
        reply = self._service.answer(call, self._origin)
        assert isinstance(reply, protocol.Accepted)
        return reply.job

    def find_job(self, job_id: str) -> Job | None:
        try:
            reply = self._service.answer(protocol.Get(id=job_id), self._origin)
        except JobNotFound:
            return None
        assert isinstance(reply, protocol.JobReply)
        return reply.job

    def list_jobs(self, limit: int) -> tuple[Job, ...]:
        reply = self._service.answer(protocol.List(limit=limit), self._origin)
        assert isinstance(reply, protocol.Jobs)
        return reply.jobs

    def cancel_job(self, job_id: str) -> None:
        self._service.answer(protocol.Cancel(id=job_id), self._origin)

    def cost_of(self, model: str, precision: Precision) -> float | None:
        reply = self._service.answer(protocol.Status(), self._origin)
        assert isinstance(reply, protocol.StatusReply)
        device = reply.status.workers[0].device
        return measured_cost(catalog.find_model(model), precision, reply.status.speeds, device)

    def has_model(self, model: str) -> bool:
        try:
            admission.locate_model(model, None, self._settings)
        except ModelError:
            return False
        return True

    def signature_of(self, path: str) -> str:
        return admission.source_signature(path)

    def hold(self, seconds: float) -> None:
        self._service.hold(seconds)

    def start_errand(self, kind: str, arguments: dict[str, Any]) -> str:
        return self._errands.start(kind, arguments)

    def find_errand(self, errand_id: str) -> Errand | None:
        return self._errands.find(errand_id)
