"""The nouns: what the parts of Stembridge hand to each other. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a source: first frame and number of frames, at the source's own rate."""

    start: int
    frames: int


CATCH_ALL = "other"
"""The stem that takes the residual in under `ResidualPolicy.OTHER`."""


class ResidualPolicy(StrEnum):
    """Where the part goes that the model gave to no stem; see `stembridge.dsp.residual`."""

    OWN = "own"
    EQUAL = "equal"
    TF = "tf"
    OTHER = "other"
    HF_ENVELOPE = "hf_envelope"

    @property
    def is_fold(self) -> bool:
        """Whether the stems take in all of the residual, so that no file of its own is left."""
        return self in (ResidualPolicy.EQUAL, ResidualPolicy.TF, ResidualPolicy.OTHER)


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a stem stands in its file: container and subtype by libsndfile's names, and the name's ending."""

    container: str
    subtype: str
    suffix: str


AUTO_FORMAT = "auto"
"""24-bit WAV for integer sources whose stems all fit it, else 32-bit float WAV."""

FILE_FORMATS = {
    "wav16": FileFormat("WAV", "PCM_16", ".wav"),
    "wav24": FileFormat("WAV", "PCM_24", ".wav"),
    "wav32f": FileFormat("WAV", "FLOAT", ".wav"),
    "aiff16": FileFormat("AIFF", "PCM_16", ".aiff"),
    "aiff24": FileFormat("AIFF", "PCM_24", ".aiff"),
    "flac16": FileFormat("FLAC", "PCM_16", ".flac"),
    "flac24": FileFormat("FLAC", "PCM_24", ".flac"),
}
"""Forms that can be asked for by name, beside `AUTO_FORMAT`."""

DOUBLE_FORMAT = FileFormat("WAV", "DOUBLE", ".wav")
"""What a file gets whose samples no 32-bit float holds."""


FILE_NAMES = "{name} - {stem}"
"""What stems are called if nothing else is asked for, without the ending."""

SESSIONS = ("rpp", "dawproject", "aaf")
"""Kinds of session files that open a set in a DAW; see `stembridge.sessions`."""


class Precision(StrEnum):
    """How a model computes: all in float32, or its core in 16 bits. The sum of the stems is exact in both."""

    FULL = "full"
    HALF = "half"


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """One source to be split into stems.

    Parameters
    ----------
    source : absolute path of the audio file
    out : absolute path of the folder that receives the result folder
    model : official name of a model, or 'preview'
    stems : sources to deliver beside the residual; empty means all that the model knows
    two_stems : one source to deliver with its complement ``no_<source>``; excludes ``stems``
    region : part of the source to split; None means all of it
    overlap : share of a segment that overlaps the next, 0 <= overlap < 1
    shifts : number of seeded random shifts that are averaged; 0 means none
    seed : seed of the shifts
    model_dir : folder with model files, searched before the usual ones; local clients only
    format : a name of `FILE_FORMATS`, or `AUTO_FORMAT`
    exact_float : the closing file of a source at full float precision is a 64-bit one
    residual : where the residual goes; anything but its own file needs all stems
    mono : stems of which the mid alone is delivered; their side goes to the residual
    mp3 : add an MP3 of each stem to listen to, outside of every claim
    on_source_grid : the segments lie on one grid from the source's first frame, and normalisation is the
        whole source's, so that neighbouring and later regions of one source, and a split of all of it, give
        the same stems sample for sample where they overlap; the region must start on a whole second
    file_names : what stems are called, without the ending: text with ``{stem}``, and with ``{name}``,
        ``{model}`` and ``{job8}`` as in the name of the result folder
    sessions : kinds of `SESSIONS` to be written beside the stems
    precision : how the model computes; where a machine has no half precision it is full, with a warning
    listen_from : frame of the source, inside the region, whose segment is separated first and can be heard
        before the job is done, see `Early`; None means that nobody listens
    """

    source: str
    out: str
    model: str
    stems: tuple[str, ...] = ()
    two_stems: str | None = None
    region: Region | None = None
    overlap: float = 0.25
    shifts: int = 0
    seed: int = 0
    model_dir: str | None = None
    format: str = AUTO_FORMAT
    exact_float: bool = False
    residual: ResidualPolicy = ResidualPolicy.OWN
    mono: tuple[str, ...] = ()
    mp3: bool = False
    on_source_grid: bool = False
    file_names: str = FILE_NAMES
    sessions: tuple[str, ...] = ()
    precision: Precision = Precision.FULL
    listen_from: int | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """The sources that the separator has to deliver; empty means all."""
        return (self.two_stems,) if self.two_stems is not None else self.stems


@dataclass(frozen=True, slots=True)
class RemixRequest:
    """One finished set to be remixed with one preset.

    Parameters
    ----------
    source : absolute path of a result folder
    out : absolute path of the folder that receives the result folder
    preset : name of a preset, or absolute path of its file
    changes : 'vocals.gain_db=-3': values that stand in place of the preset's own
    stems_out : deliver every stem that is heard beside the remix
    format : a name of `FILE_FORMATS`, or `AUTO_FORMAT` for that of the set
    mp3 : add an MP3 of the remix to listen to, outside of every claim
    report : add a page that shows what was changed
    speed : also deliver a copy at so many times the speed, same pitch; 1 means none; outside of every claim
    pitch : semitones by which that copy is moved, 0 means none
    file_names : what the files are called, as in `SplitRequest`; ``{model}`` is the preset, as in the name of
        the result folder, and so is ``{stem}`` of the remix itself
    sessions : kinds of `SESSIONS` to be written beside the files
    """

    source: str
    out: str
    preset: str
    changes: tuple[str, ...] = ()
    stems_out: bool = False
    format: str = AUTO_FORMAT
    mp3: bool = False
    report: bool = False
    speed: float = 1.0
    pitch: float = 0.0
    file_names: str = FILE_NAMES
    sessions: tuple[str, ...] = ()


JobRequest = SplitRequest | RemixRequest
"""What can become a job of the daemon."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is: ``fraction`` in 0..1, ``eta_s`` in seconds or None while unknown."""

    stage: str
    fraction: float
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class EarlyStem:
    """One stem of an `Early`: absolute path of a complete WAV."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Early:
    """What can be heard of a running split: one segment's stems, before they are closed to an exact sum.

    ``start`` and ``frames`` are those of the source, at its own rate. The files go away with the job's
    hidden folder; the final stems may differ near the segment's ends, where its neighbours fade in.
    """

    start: int
    frames: int
    sample_rate: int
    stems: tuple[EarlyStem, ...]


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as it travels on the wire and stands in the job store; see `stembridge.errors`."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class SplitResult:
    """What a finished job reports.

    ``separate_s`` is the time inside the separator (0 where there was none), ``total_s`` the whole job, in s;
    ``audio_s`` is the length of the item; ``residual_db`` the residual's level re mixture (None where the
    set has no residual or the mixture is silent).
    """

    folder: str
    audio_s: float
    separate_s: float
    total_s: float
    residual_db: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One event in a job's life; ``at`` is wall-clock seconds since the epoch, for display only."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as everyone outside the daemon sees it.

    A split has ``request``, a remix has ``remix``, and none has both. ``early`` is there while the job runs
    and has something to hear; a job that ``is_paused`` keeps its state and does not go on.
    """

    id: str
    request: SplitRequest | None
    state: JobState
    created: float
    progress: Progress | None = None
    attempt: int = 0
    result: SplitResult | None = None
    error: ErrorInfo | None = None
    story: tuple[StoryLine, ...] = ()
    remix: RemixRequest | None = None
    early: Early | None = None
    is_paused: bool = False

    @property
    def split(self) -> SplitRequest:
        """The request of a split, for whoever knows that this is one."""
        assert self.request is not None, f"job {self.id} is no split"
        return self.request

    @property
    def source(self) -> str:
        """What is worked on: the file that is split, or the folder of the set that is remixed."""
        return self._asked.source

    @property
    def out(self) -> str:
        """The folder that receives the result folder."""
        return self._asked.out

    @property
    def tool(self) -> str:
        """What the source is worked on with: the model of a split, the preset of a remix."""
        return self.remix.preset if self.remix is not None else self.split.model

    @property
    def _asked(self) -> JobRequest:
        return self.remix if self.remix is not None else self.split
