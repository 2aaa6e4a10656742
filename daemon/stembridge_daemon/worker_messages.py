"""What front and worker say to each other: one JSON object a line over the worker's stdin and stdout."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from stembridge.model_store import ModelFiles
from stembridge.types import Early, ErrorInfo, Progress, RemixRequest, SplitRequest, SplitResult

LONGEST_HOLD_S = 10.0
"""A hold that nobody renews ends by itself, so that a client that died stalls no queue."""


class Role(StrEnum):
    """What a worker process is there for."""

    SEPARATE = "separate"
    RENDER = "render"


class _Line(msgspec.Struct, frozen=True, tag_field="t", tag=str.lower, omit_defaults=True):
    pass


class LocatedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model and where the front found its files; see `stembridge.model_store.ModelFiles`."""

    name: str
    folder: str | None = None
    members: tuple[str, ...] = ()
    bag: str | None = None

    @classmethod
    def of(cls, files: ModelFiles) -> LocatedModel:
        return cls(
            files.name,
            str(files.folder) if files.folder else None,
            tuple(map(str, files.members)),
            str(files.bag) if files.bag else None,
        )

    def files(self) -> ModelFiles:
        return ModelFiles(
            self.name,
            Path(self.folder) if self.folder else None,
            tuple(map(Path, self.members)),
            Path(self.bag) if self.bag else None,
        )


class RunSplit(_Line, frozen=True):
    id: str
    request: SplitRequest
    model: LocatedModel


class RunRemix(_Line, frozen=True):
    id: str
    request: RemixRequest


Task = RunSplit | RunRemix
"""An order that is a job."""


class Load(_Line, frozen=True):
    """Load and warm a model before anybody asks for it."""

    model: LocatedModel


class CancelJob(_Line, frozen=True):
    id: str


class PauseJob(_Line, frozen=True):
    """Put the job aside at its next step, with all it has; other jobs may run meanwhile."""

    id: str


class ResumeJob(_Line, frozen=True):
    """Go on with a job that was put aside, where it stopped."""

    id: str


class Hold(_Line, frozen=True):
    """Begin no step for so many seconds from now, or until the next `Hold` says otherwise; 0 lifts it."""

    seconds: float

    @classmethod
    def of(cls, seconds: float) -> Hold:
        """Return a hold of 0 to `LONGEST_HOLD_S` seconds."""
        return cls(min(seconds, LONGEST_HOLD_S) if seconds > 0 else 0.0)


Order = RunSplit | RunRemix | Load | CancelJob | PauseJob | ResumeJob | Hold


class Ready(_Line, frozen=True):
    """The worker takes orders."""


class Models(_Line, frozen=True):
    """The models resident now, how many loads there have been in this process, and the device they use."""

    names: tuple[str, ...]
    loads: int
    device: str


class JobProgress(_Line, frozen=True):
    id: str
    progress: Progress


class JobEarly(_Line, frozen=True):
    """There is something to hear of the job."""

    id: str
    early: Early


class JobPaused(_Line, frozen=True):
    """The job was put aside; the worker is free for another."""

    id: str


class JobDone(_Line, frozen=True):
    id: str
    result: SplitResult


class JobError(_Line, frozen=True):
    id: str
    error: ErrorInfo


class JobStopped(_Line, frozen=True):
    """The job was cancelled and its work folder is gone."""

    id: str


Report = Ready | Models | JobProgress | JobEarly | JobPaused | JobDone | JobError | JobStopped

_encoder = msgspec.json.Encoder()
order_decoder: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
report_decoder: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)


def encode_line(message: Order | Report) -> bytes:
    """Return ``message`` as one line, its newline included."""
    return _encoder.encode(message) + b"\n"
