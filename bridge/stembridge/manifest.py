"""stems.json, version 1: what makes a folder of stems checkable, and the names inside and of that folder.

The JSON Schema is docs/stems.schema.json. No numpy here: a client's start-up imports this module.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stembridge.delivery import FORBIDDEN_IN_NAMES, MAX_FILE_NAME_BYTES, NAME_FIELDS
from stembridge.errors import OutputError, SourceError
from stembridge.small_file import read_small_file
from stembridge.types import FILE_NAMES

FILE_NAME = "stems.json"
SCHEMA = "stembridge.stems/1"
MAX_NAME_BYTES = 180
MAX_BYTES = 32 << 20
"""No manifest is longer; a remix's holds the states of its plugins."""

STEM_ORDER = ("drums", "bass", "other", "vocals", "guitar", "piano")
"""The order of stems in every result; sources that are not named here follow in the model's own order."""

RESIDUAL = "residual"
MIXTURE = "mixture"
LISTENING_FOLDER = "mp3"

SUBTYPES = ("PCM_16", "PCM_24", "FLOAT", "DOUBLE")
"""How samples may stand in a file of a set, by libsndfile's names."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
# Inside a JSON string the quotes would be escaped, so only the key itself can match.
_SEAL = re.compile(rb'"seal": "[0-9a-f]*"')
_NO_SEAL = b'"seal": ""'
_FIELD = re.compile(rf"\{{({'|'.join(NAME_FIELDS)})\}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Generator:
    version: str


@dataclass(frozen=True, slots=True)
class RegionEntry:
    start: int
    frames: int


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """The original. ``frames`` is the file's length; ``sha256_pcm`` covers the region.

    ``sha256_pcm`` is the sha256 of the region's samples as interleaved little-endian float64, the integer i
    of a b-bit word as i / 2^(b - 1), -0.0 as 0.0: the same for every container and word length that carry
    the same samples. ``groups`` are the channels that were separated together, as indices from 0.
    """

    path: str
    sha256_pcm: str
    sample_rate: int
    frames: int
    channels: int
    subtype: str
    region: RegionEntry
    groups: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ModelEntry:
    name: str
    sha256: str
    precision: str
    shifts: int
    seed: int
    overlap: float


@dataclass(frozen=True, slots=True)
class GridEntry:
    """Every sample is a multiple of 2^-bits: in all files but the last, and in the last, the closing one.

    ``residual_bits`` is None where the source has full float precision and so stands on no grid.
    """

    stem_bits: int
    residual_bits: int | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What is claimed of the set and verified on the written files.

    Parameters
    ----------
    exact_f64 : float64 sums are the mixture in any order
    exact_f32_any_order : float32 sums are the mixture in any order
    positive_max, negative_max : largest sum of the positive and of the negated negative values at any sample
    max_error : largest error of a float64 sum in any order that the null test sums, full scale = 1;
        0 where exact
    inexact_samples : samples whose float64 sum is not proven exact in any order
    """

    exact_f64: bool
    exact_f32_any_order: bool
    positive_max: float
    negative_max: float
    max_error: float
    inexact_samples: int = 0


@dataclass(frozen=True, slots=True)
class ResidualEntry:
    """``level_db`` is the residual's energy re mixture; None for a complement, or where one of them is 0.

    Where the stems have taken the residual in, that is its level before; the files cannot tell it any more.
    """

    policy: str
    level_db: float | None


@dataclass(frozen=True, slots=True)
class StemEntry:
    """One file.

    ``sha256`` covers the audio data: interleaved, little-endian, in the file's own width; ``sha256_file``
    covers every byte of the file.
    """

    name: str
    file: str
    subtype: str
    sha256: str
    sha256_file: str


@dataclass(frozen=True, slots=True)
class ListeningEntry:
    """An MP3 of one stem, to listen to: no part of the sum and of no claim."""

    name: str
    file: str


@dataclass(frozen=True, slots=True)
class AlignmentEntry:
    """What was found of a stem that came from elsewhere, and what was done.

    ``delay_frames`` is how much later than the mixture it was, at the mixture's rate; ``delay_se`` is the
    standard error of that, None where nothing could be measured; ``polarity`` is 1 or -1; ``decision`` is a
    value of `stembridge.dsp.align.Decision`.
    """

    name: str
    delay_frames: float
    delay_se: float | None
    polarity: int
    decision: str
    reason: str


@dataclass(frozen=True, slots=True)
class RemixEntry:
    """How a remix came about; its files sum to the remix, not to the original.

    Parameters
    ----------
    preset : its name, as it was asked for
    text : the preset as it was rendered, as TOML, changes included
    of_job : job of the set that was remixed
    of_sha256_pcm : `SourceEntry.sha256_pcm` of that set: of the original
    of_frames : frames of that set; what the remix has beyond them are tails
    of_start : frame of the original at which that set, and so the remix, begins
    untouched : files whose samples are those of the set, bit for bit
    gain_db : one gain on everything, to match the original's loudness; 0 where none was asked for
    reduction_db : the most that the common ceiling took off, 0 where it took nothing
    notes : what a listener should know of effects and plugins, one line each
    """

    preset: str
    text: str
    of_job: str
    of_sha256_pcm: str
    of_frames: int
    of_start: int = 0
    untouched: tuple[str, ...] = ()
    gain_db: float = 0.0
    reduction_db: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """stems.json as a whole.

    Parameters
    ----------
    mixture : a lossy source, or floats that ffmpeg has decoded: what the stems sum to, and no part of the sum
    mono : stems of which the mid alone was delivered
    near_mono : stems with next to nothing in their side
    listening : MP3s of the stems, outside of every claim
    alignment : of stems that came from elsewhere; empty where they were separated here
    remix : of a remix alone: ``source`` is then the remix (its path is still the original's), and ``mixture``
        the remix's file where stems stand beside it
    seal : sha256 of the rest of this document; see `seal_text`
    """

    generator: Generator
    job: str
    created: str
    source: SourceEntry
    model: ModelEntry
    grid: GridEntry
    claims: Claims
    residual: ResidualEntry
    stems: tuple[StemEntry, ...]
    deterministic: bool
    mixture: StemEntry | None = None
    warnings: tuple[str, ...] = ()
    mono: tuple[str, ...] = ()
    near_mono: tuple[str, ...] = ()
    listening: tuple[ListeningEntry, ...] = ()
    alignment: tuple[AlignmentEntry, ...] = ()
    remix: RemixEntry | None = None
    seal: str = ""
    schema: str = SCHEMA


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``stems.json`` into ``folder``, sealed, and flush it to the disk.

    Raises
    ------
    OutputError : it would be longer than what is read
    """
    bare = msgspec.json.format(msgspec.json.encode(replace(manifest, seal="")), indent=2) + b"\n"
    text = seal_text(bare)
    if len(text) > MAX_BYTES:
        raise OutputError(
            f"{FILE_NAME} would have {len(text) >> 20} MiB, and {MAX_BYTES >> 20} MiB are read",
            "the states of the plugins are too long: leave one out",
        )
    with (folder / FILE_NAME).open("xb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def seal_text(text: bytes) -> bytes:
    """Return the text of a manifest with the sha256 of itself, as it is with an empty seal, in that place."""
    bare = _SEAL.sub(_NO_SEAL, text, count=1)
    digest = hashlib.sha256(bare).hexdigest()
    return bare.replace(_NO_SEAL, _NO_SEAL[:-1] + digest.encode() + b'"', 1)


def is_sealed(folder: Path) -> bool:
    """Tell whether ``stems.json`` is, byte for byte, what was written.

    Raises
    ------
    OSError : it cannot be read, or is no regular file of up to `MAX_BYTES`
    """
    text = read_small_file(folder / FILE_NAME, MAX_BYTES)
    return _SEAL.search(text) is not None and seal_text(text) == text


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a result folder.

    Raises
    ------
    SourceError : no manifest there, not readable, not of this version, or a value that cannot be
    """
    path = folder / FILE_NAME
    shown = repr(str(path))
    try:
        text = read_small_file(path, MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        fault = f"{str(folder)!r} is no folder" if folder.is_file() else f"{shown} does not exist"
        raise SourceError(fault, "give a result folder: one that holds stems.json") from error
    except OSError as error:
        raise SourceError(f"{shown} cannot be read: {error.strerror or error}", "check its rights") from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"{shown} is not a manifest: {error}", "split the source again") from error
    wrong = find_fault(manifest)
    if wrong:
        raise SourceError(f"{shown} is not valid: {wrong}", "split the source again")
    return manifest


def find_fault(manifest: Manifest) -> str:
    """Return in one line what cannot be in ``manifest``, or '' if it is sound in itself."""
    source, region = manifest.source, manifest.source.region
    files = manifest.stems + ((manifest.mixture,) if manifest.mixture else ())
    if manifest.schema != SCHEMA:
        return f"schema is {manifest.schema!r}, not {SCHEMA!r}"
    if source.sample_rate < 1 or source.channels < 1 or source.frames < 1:
        return f"source of {source.frames} frames, {source.channels} channels, {source.sample_rate} Hz"
    if region.start < 0 or region.frames < 1 or region.start + region.frames > source.frames:
        return f"region of {region.frames} frames from {region.start} in {source.frames}"
    if manifest.remix is not None and manifest.remix.of_start < 0:
        return f"remix of a set from {manifest.remix.of_start} on"
    if not manifest.stems:
        return "stems is empty"
    for entry in files:
        if Path(entry.file).name != entry.file or "\\" in entry.file or entry.file in ("", ".", ".."):
            return f"file {entry.file!r} is not a plain name"
        if entry.subtype not in SUBTYPES:
            return f"subtype {entry.subtype!r} of {entry.file!r}"
        for digest in (entry.sha256, entry.sha256_file):
            if not _SHA256.fullmatch(digest):
                return f"sha256 {digest!r} of {entry.file!r}"
    if len({entry.file for entry in files}) < len(files) or len({entry.name for entry in files}) < len(files):
        return "a name or file stands twice in stems"
    bits = manifest.grid.residual_bits
    if not 0 <= manifest.grid.stem_bits <= 31 or (
        bits is not None and not manifest.grid.stem_bits <= bits <= 31
    ):
        return f"grid of {manifest.grid.stem_bits} and {bits} bits"
    if not all(group and all(0 <= c < source.channels for c in group) for group in source.groups):
        return f"groups {source.groups} of {source.channels} channels"
    if not _SHA256.fullmatch(source.sha256_pcm):
        return f"sha256_pcm {source.sha256_pcm!r}"
    return ""


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def job8(job_id: str) -> str:
    """Return the eight hex digits by which file names tell jobs apart."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:8]


def source_name(path: str) -> str:
    """Return the name that a result takes from its source: no folder, no ending, legal on every system."""
    return sanitise_name(Path(path).stem)


def work_folder(out: str | Path, job_id: str) -> Path:
    """Return the hidden folder beside the result in which a job works; only a crash leaves it behind."""
    return Path(out) / f".stembridge-{job8(job_id)}"


def folder_name(name: str, model: str, job_id: str) -> str:
    """Return the name of the result folder; ``name`` as `source_name` gives it."""
    return f"{name}__{sanitise_name(model, 48)}__{job8(job_id)}"


def file_name(
    name: str,
    stem: str,
    suffix: str = ".wav",
    *,
    template: str = FILE_NAMES,
    model: str = "",
    job_id: str = "",
) -> str:
    """Return the name of one stem's file: legal everywhere, at most `MAX_FILE_NAME_BYTES` bytes of UTF-8.

    Files of one set get names that differ wherever their stems' names do: a long ``name`` is cut, the same in
    all of them, a stem's never.

    Parameters
    ----------
    name : as `source_name` gives it
    template : one that `stembridge.delivery.check_file_names` lets through
    """
    values = {
        "stem": sanitise_name(stem, NAME_FIELDS["stem"]),
        "model": sanitise_name(model, NAME_FIELDS["model"]),
        "job8": job8(job_id),
    }
    most_bytes = MAX_FILE_NAME_BYTES - len(suffix)
    if uses := template.count("{name}"):
        longest = _fill(template, {**values, "name": "", "stem": "x" * NAME_FIELDS["stem"]})
        values["name"] = sanitise_name(
            name, min(MAX_NAME_BYTES, (most_bytes - len(longest.encode())) // uses)
        )
    return sanitise_name(_fill(template, values), most_bytes) + suffix


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda found: values[found[1]], template)


def sanitise_name(text: str, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return ``text`` as a file name for Linux, macOS and Windows, at most ``max_bytes`` bytes of UTF-8.

    What is forbidden anywhere becomes '_'; single quotes, `$`, spaces and all scripts stay.
    """
    name = FORBIDDEN_IN_NAMES.sub("_", text)
    if _RESERVED.fullmatch(name) or name.startswith("."):
        name = "_" + name
    name = name.encode()[:max_bytes].decode(errors="ignore").rstrip(" .")
    return name or "audio"


def order_stems(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``names`` in the order of every result."""
    known = [name for name in STEM_ORDER if name in names]
    return (*known, *(name for name in names if name not in STEM_ORDER))
