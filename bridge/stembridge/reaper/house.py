"""What the desk asks of the daemon it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from stembridge.settings import Settings
from stembridge.types import ErrorInfo, Job, JobRequest, Precision


@dataclass(frozen=True, slots=True)
class Errand:
    """Something that needs libraries or time which the daemon's front does not have, done by a process aside.

    ``result`` is None while it goes on; ``error`` says why there will be none.
    """

    id: str
    text: str = ""
    fraction: float | None = None
    result: Any = None
    error: ErrorInfo | None = None

    @property
    def is_over(self) -> bool:
        return self.result is not None or self.error is not None


class House(Protocol):
    """The daemon, as the desk sees it."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        ...

    def submit(self, request: JobRequest, job_id: str) -> Job:
        """Accept a split or a remix; the same id and request again give the same job.

        Raises
        ------
        StembridgeError
            What is wrong with the request.
        """
        ...

    def find_job(self, job_id: str) -> Job | None:
        """Return the job as it is now."""
        ...

    def list_jobs(self, limit: int) -> tuple[Job, ...]:
        """Return the newest jobs, newest first."""
        ...

    def cancel_job(self, job_id: str) -> None:
        """Cancel a job that is not final yet."""
        ...

    def cost_of(self, model: str, precision: Precision) -> float | None:
        """Return the seconds that ``model`` took here per second of audio and pass; None before that."""
        ...

    def has_model(self, model: str) -> bool:
        """Tell whether the model's files are here."""
        ...

    def signature_of(self, path: str) -> str:
        """Return what tells one state of a file from another.

        Raises
        ------
        SourceError
            There is no such file.
        """
        ...

    def hold(self, seconds: float) -> None:
        """Let no new segment start for so long, unless this is said again."""
        ...

    def start_errand(self, kind: str, arguments: dict[str, Any]) -> str:
        """Start one of `stembridge.reaper.errands`, or find the one that does the same; return its id."""
        ...

    def find_errand(self, errand_id: str) -> Errand | None:
        """Return how an errand stands; None where the daemon has been restarted since."""
        ...
