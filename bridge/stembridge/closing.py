"""The end of every split: close the sum, write the files, read them back, publish the folder.

Whoever has stems of a source, at the source's own rate and length, comes here: `write_set` closes and writes
them, `describe_set` says what was made, `finish_set` holds every claim against the files and makes the folder
visible by one rename. All work lies in the hidden folder of `stembridge.publishing` until then.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stembridge import __version__, audio_io, disk, manifest, null_test
from stembridge.carried import Carried, choose_chunks, read_carried, tags_of
from stembridge.dsp import grid
from stembridge.dsp.residual import route_residual
from stembridge.errors import RequestError, SourceError
from stembridge.publishing import publish, verify_files, write_listening_copies
from stembridge.sessions.writing import add_sessions
from stembridge.stages import Stages
from stembridge.stem_file import MP3_CHANNELS, open_writer
from stembridge.stem_tag import StemTag
from stembridge.types import (
    AUTO_FORMAT,
    DOUBLE_FORMAT,
    FILE_FORMATS,
    FILE_NAMES,
    FileFormat,
    Progress,
    Region,
    ResidualPolicy,
)
from stembridge.wavfile import WIDTH_OF_SUBTYPE, Chunk

Signal = NDArray[np.float64]
Ints = NDArray[np.int64]

COMPLEMENT = "complement"
"""What a manifest says of the residual where one stem and its complement are all there is."""

LOUD_RESIDUAL_DB = -20.0
"""Above this level re mixture the residual of a full set is worth a warning."""

NEAR_MONO_DB = -40.0
"""At most this much energy in the side re mid makes a stem near mono."""

FLOAT_FORMAT = FILE_FORMATS["wav32f"]
"""What a file gets whose samples do not fit the format that was asked for."""

_FLOAT_GRIDS = (grid.COARSEST_BITS, grid.STEM_BITS)
BITS_OF_SUBTYPE = {
    subtype: 8 * width - 1 for subtype, width in WIDTH_OF_SUBTYPE.items() if subtype.startswith("PCM")
}
"""Grid of each integer subtype."""

_MAX_FLAC_HZ = 655_350
_MAX_AIFF_BYTES = 0xFFFFFFFF - (1 << 20)


class StemBlocks(Protocol):
    """The stems before closure, at the source's own rate."""

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """Return (stems, channels, frames) from frame ``start`` of the region on."""
        ...


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What a set is to be, known before its first sample is written.

    Parameters
    ----------
    out : folder that gets the result folder
    name : as `stembridge.manifest.source_name` gives it
    stems : names of the stems, in the order of the result
    closing_name : name of the file that closes the sum; None where the stems take the residual in
    policy : where the residual goes: a value of `ResidualPolicy`, or `COMPLEMENT`
    format : a name of `FILE_FORMATS`, or `AUTO_FORMAT`
    exact_float, mono, mp3, file_names, sessions : as in `stembridge.types.SplitRequest`
    model_rate : Hz; above half of it the stems hold nothing
    is_full : the stems are all that the model knows, so that a loud residual is worth a warning
    """

    job_id: str
    out: Path
    name: str
    info: audio_io.SourceInfo
    region: Region
    model: manifest.ModelEntry
    stems: tuple[str, ...]
    closing_name: str | None
    policy: str
    model_rate: int
    is_full: bool
    is_deterministic: bool = True
    format: str = AUTO_FORMAT
    exact_float: bool = False
    mono: tuple[str, ...] = ()
    mp3: bool = False
    file_names: str = FILE_NAMES
    sessions: tuple[str, ...] = ()

    @property
    def final(self) -> Path:
        return self.out / manifest.folder_name(self.name, self.model.name, self.job_id)

    def name_file(self, stem: str, suffix: str) -> str:
        """Return the name of a stem's file."""
        return manifest.file_name(
            self.name,
            stem,
            suffix,
            template=self.file_names,
            model=self.model.name,
            job_id=self.job_id,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All files of the sum, in order."""
        return self.stems if self.closing_name is None else (*self.stems, self.closing_name)

    @property
    def is_fold(self) -> bool:
        return self.closing_name is None

    @property
    def has_mixture(self) -> bool:
        """Whether the source is delivered as decoded, because nothing else can tell what the stems sum to.

        Lossy sources are; so are floats that ffmpeg has decoded, whose null a hash alone may not prove.
        """
        info = self.info
        return info.is_lossy or (info.read_path != info.path and info.grid_bits is None)

    @property
    def routing(self) -> ResidualPolicy:
        """What is done to the stems before the sum is closed."""
        return ResidualPolicy.OWN if self.policy == COMPLEMENT else ResidualPolicy(self.policy)


@dataclass(frozen=True, slots=True)
class Original:
    """What one pass over the source has found; ``grid_bits`` is None where its samples are on no grid."""

    sha256_pcm: str
    grid_bits: int | None


class OriginalScan:
    """Finds hash and grid of a source's region while its blocks pass by."""

    def __init__(self, info: audio_io.SourceInfo) -> None:
        self._hash = audio_io.PcmHash()
        self._is_known = info.grid_bits is not None
        self._candidates = [info.grid_bits] if info.grid_bits is not None else list(_FLOAT_GRIDS)

    def add(self, block: Signal) -> None:
        """Take in the next (channels, frames) of the region."""
        self._hash.update(block)
        if not self._is_known:
            self._candidates = [bits for bits in self._candidates if grid.is_on_grid(block, bits)]

    def finish(self) -> Original:
        return Original(self._hash.hexdigest(), self._candidates[0] if self._candidates else None)


@dataclass(frozen=True, slots=True)
class WrittenSet:
    """The files in the work folder and what was found while they were written."""

    stems: tuple[manifest.StemEntry, ...]
    mixture: manifest.StemEntry | None
    grid: manifest.GridEntry
    claims: manifest.Claims
    level_db: float | None
    near_mono: tuple[str, ...]
    remarks: tuple[str, ...]
    tags: Mapping[str, str]


def check_plan(plan: SetPlan) -> None:
    """Refuse what this source's channels rule out; the rest is `stembridge.delivery.check_delivery`'s.

    Raises
    ------
    RequestError : MP3 copies of more channels than MP3 holds
    """
    if plan.mp3 and plan.info.channels > MP3_CHANNELS:
        raise RequestError(
            f"MP3 copies of {plan.info.channels} channels", f"MP3 holds {MP3_CHANNELS}: leave out --mp3"
        )


def write_set(
    plan: SetPlan, original: Original, stems: StemBlocks, work: Path
) -> Generator[float, None, WrittenSet]:
    """Write every file of the set, in the format that can carry it; yield the fraction that is done.

    Files are written as if the likeliest format fitted; where a sample turns out not to fit, they are removed
    and written again in a wider one.

    Raises
    ------
    SourceError : the source is not the one that was scanned any more
    ExactnessError : a stem's sample is NaN, infinite or beyond the grid
    OutputError : the disk does not take the files
    """
    attempt = _first_attempt(plan, original)
    carried = read_carried(plan.info.read_path)
    while True:
        try:
            found = yield from _write_files(plan, original, stems, work, attempt, carried)
            better = attempt.widened(plan, original, found)
        except _DoesNotFit:
            better = replace(attempt, stem_bits=grid.STEM_BITS, file_format=FLOAT_FORMAT, is_outgrown=True)
        if better == attempt:
            return _conclude(plan, original, attempt, found, carried)
        with disk.writing(plan.out):
            for file in _files(plan, work, attempt):
                file.path.unlink()
        attempt = better


def describe_set(plan: SetPlan, original: Original, written: WrittenSet, created: str) -> manifest.Manifest:
    """Return the manifest of a written set; ``created`` as `stembridge.manifest.timestamp` gives it."""
    info, region = plan.info, plan.region
    return manifest.Manifest(
        generator=manifest.Generator(__version__),
        job=plan.job_id,
        created=created,
        source=manifest.SourceEntry(
            path=storable(info.path),
            sha256_pcm=original.sha256_pcm,
            sample_rate=info.sample_rate,
            frames=info.frames,
            channels=info.channels,
            subtype=info.subtype,
            region=manifest.RegionEntry(region.start, region.frames),
            groups=info.groups,
        ),
        model=plan.model,
        grid=written.grid,
        claims=written.claims,
        residual=manifest.ResidualEntry(plan.policy, written.level_db),
        stems=written.stems,
        deterministic=plan.is_deterministic,
        mixture=written.mixture,
        warnings=(*info.remarks, *written.remarks, *_warn(plan, written)),
        mono=plan.mono,
        near_mono=written.near_mono,
    )


def finish_set(
    plan: SetPlan,
    written: WrittenSet,
    document: manifest.Manifest,
    work: Path,
    stages: Stages,
    *,
    before_each: Callable[[str], None] = lambda step: None,
) -> Generator[Progress, None, manifest.Manifest]:
    """Verify a written set, add what was asked for beside it, publish it; return its manifest.

    Parameters
    ----------
    document : as `describe_set` gives it
    stages : has 'verify', 'mp3', 'session' and 'publish'
    before_each : called with 'manifest' and with 'rename' just before that is done

    Raises
    ------
    ExactnessError : a claim does not hold
    OutputError : something of that name is there already, or the disk does not take it
    """
    yield from stages.tell("verify", verify_files(work, document))
    if plan.mp3:
        copying = write_listening_copies(work, document.stems, plan.region.frames, written.tags)
        document = replace(document, listening=(yield from stages.tell("mp3", copying)))
    document = yield from add_sessions(plan.sessions, work, plan.final, document, stages, name=plan.name)
    yield from publish(work, plan.final, document, stages, before_each)
    return document


def tell_inexact(claims: manifest.Claims, remedy: str = "") -> tuple[str, ...]:
    """Return a line on what the sum of a set is not, none where it is exact in every width.

    Parameters
    ----------
    remedy : what to say of sums that are not exact in 64 bits either
    """
    if not claims.exact_f64:
        error_db = null_test.decibels(claims.max_error)
        measured = f"off by up to {error_db:.0f} dBFS" if claims.max_error else "exact in every order tried"
        proven = f"64-bit mixing is proven exact but for {claims.inexact_samples} samples"
        return (f"{proven}, measured {measured}{remedy}",)
    if not claims.exact_f32_any_order:
        return ("sums are exact in 64-bit mixing, in 32-bit mixing they are rounded",)
    return ()


def has_room(subtype: str, lowest: float, highest: float) -> bool:
    """Tell whether samples of that range, which stand on the grid of ``subtype``, fit into it."""
    bits = BITS_OF_SUBTYPE.get(subtype)
    return bits is None or (lowest >= -1.0 and highest <= 1.0 - 2.0**-bits)


def find_obstacle(
    file_format: FileFormat, source_bits: int | None, *, sample_rate: int, channels: int, frames: int
) -> str:
    """Return what keeps a file of such samples from being of that format, '' where nothing does.

    Parameters
    ----------
    source_bits : grid that the file has to hold; None where the samples are on no grid
    """
    bits = BITS_OF_SUBTYPE.get(file_format.subtype)
    if bits is not None and (source_bits is None or source_bits > bits):
        return f"{name_format(file_format)} is coarser than the source"
    if file_format.container == "FLAC" and sample_rate > _MAX_FLAC_HZ:
        return f"FLAC ends at {_MAX_FLAC_HZ} Hz"
    if file_format.container == "AIFF" and 3 * channels * frames > _MAX_AIFF_BYTES:
        return "AIFF ends at 4 GiB"
    return ""


def name_format(file_format: FileFormat) -> str:
    """Return the name by which ``file_format`` is asked for."""
    return next(name for name, known in FILE_FORMATS.items() if known == file_format)


def storable(path: str) -> str:
    """Return ``path`` as JSON can hold it: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(path).decode(errors="backslashreplace")


class _DoesNotFit(Exception):
    """A sample is beyond what the format of the files holds."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """How the files are written: grid of the stems, format of the files, which of them are 64-bit ones.

    ``remark`` says why it is not the format that was asked for; ``is_outgrown`` that a sample did not fit it.
    """

    stem_bits: int
    file_format: FileFormat
    wide: frozenset[str]
    remark: str = ""
    is_outgrown: bool = False

    def holds(self, lowest: float, highest: float) -> bool:
        """Tell whether the format has room for samples of that range, which stand on its grid."""
        return has_room(self.file_format.subtype, lowest, highest)

    def widened(self, plan: SetPlan, original: Original, found: _Found) -> _Attempt:
        """Return what carries all that was found: this attempt itself where it does."""
        if original.grid_bits is not None and self.stem_bits == grid.STEM_BITS:
            stem_bits = grid.fitting_bits(
                original.grid_bits, found.positive_max, found.negative_max, len(plan.stems)
            )
            if stem_bits != self.stem_bits:
                return replace(self, stem_bits=stem_bits)
        return replace(self, wide=self.wide | found.beyond_float32)


@dataclass(slots=True)
class _Found:
    """What writing the files has found."""

    entries: tuple[manifest.StemEntry, ...] = ()
    remarks: tuple[str, ...] = ()
    near_mono: tuple[str, ...] = ()
    beyond_float32: frozenset[str] = frozenset()
    peak: float = 0.0
    positive_max: float = 0.0
    negative_max: float = 0.0
    max_error: float = 0.0
    inexact_samples: int = 0
    energy: float = 0.0
    residual_energy: float = 0.0

    def add(
        self, plan: SetPlan, attempt: _Attempt, mixture: Signal, closed: grid.ClosedBlock, peak: float
    ) -> None:
        self.peak = max(self.peak, peak)
        self.positive_max = max(self.positive_max, closed.positive_max)
        self.negative_max = max(self.negative_max, closed.negative_max)
        self.max_error = max(self.max_error, closed.max_error)
        self.inexact_samples += closed.inexact_samples
        self.energy += grid.sum_squares(mixture)
        if attempt.file_format.subtype != "FLOAT":
            # What an integer format has room for, a float32 holds.
            return
        self.beyond_float32 |= {
            name
            for name, values in zip(plan.names, closed.files, strict=True)
            if name not in self.beyond_float32 and not grid.fits_float32(values)
        }


def _first_attempt(plan: SetPlan, original: Original) -> _Attempt:
    info, source_bits = plan.info, original.grid_bits
    is_integer = info.grid_bits is not None and not info.is_lossy
    is_fine = source_bits is None or source_bits > grid.STEM_BITS
    remark = ""
    if plan.format == AUTO_FORMAT:
        chosen = FILE_FORMATS["wav24"] if is_integer and not is_fine else FLOAT_FORMAT
    else:
        chosen = FILE_FORMATS[plan.format]
        obstacle = find_obstacle(
            chosen,
            source_bits,
            sample_rate=info.sample_rate,
            channels=info.channels,
            frames=plan.region.frames,
        )
        if obstacle:
            chosen, remark = FLOAT_FORMAT, f"{obstacle}: written as 32-bit float WAV"
    stem_bits = min(grid.STEM_BITS, BITS_OF_SUBTYPE.get(chosen.subtype, grid.STEM_BITS))
    wide = set()
    if is_fine and (source_bits is not None or plan.exact_float):
        wide.add(plan.names[-1])
    if plan.has_mixture and info.subtype == "DOUBLE":
        wide.add(manifest.MIXTURE)
    return _Attempt(stem_bits, chosen, frozenset(wide), remark)


@dataclass(frozen=True, slots=True)
class _File:
    """One file of the set, as it is about to be written."""

    name: str
    format: FileFormat
    path: Path


def _files(plan: SetPlan, work: Path, attempt: _Attempt) -> list[_File]:
    names = (*plan.names, *((manifest.MIXTURE,) if plan.has_mixture else ()))
    formats = [DOUBLE_FORMAT if name in attempt.wide else attempt.file_format for name in names]
    return [
        _File(name, chosen, work / plan.name_file(name, chosen.suffix))
        for name, chosen in zip(names, formats, strict=True)
    ]


def _write_files(
    plan: SetPlan,
    original: Original,
    stems: StemBlocks,
    work: Path,
    attempt: _Attempt,
    carried: Carried,
) -> Generator[float, None, _Found]:
    info, region, source_bits = plan.info, plan.region, original.grid_bits
    files = _files(plan, work, attempt)
    found = _Found()
    pcm_hash = audio_io.PcmHash()
    widths = _Widths(plan)
    with ExitStack() as stack:
        writers = []
        for file in files:
            chunks, remarks = _carry(plan, original, file, carried)
            found.remarks = tuple(dict.fromkeys((*found.remarks, *remarks)))
            with disk.writing(plan.out):
                writer = open_writer(
                    file.path,
                    file.format,
                    sample_rate=info.sample_rate,
                    channels=info.channels,
                    frames=region.frames,
                    channel_mask=info.channel_mask,
                    chunks=chunks,
                    tags=tags_of(carried.tags, file.name),
                )
            writers.append(stack.enter_context(writer))
        position = 0
        for mixture, ints, routed, leftover in _read_routed(plan, original, stems):
            if source_bits is None or ints is None:
                is_wide = plan.names[-1] in attempt.wide
                closed = grid.close_floats(mixture, routed, is_wide=is_wide, is_fold=plan.is_fold)
            else:
                closed = grid.close_integers(
                    ints, source_bits, routed, attempt.stem_bits, is_fold=plan.is_fold
                )
            blocks = [*closed.files, mixture][: len(files)]
            lowest = min(float(values.min()) for values in blocks)
            highest = max(float(values.max()) for values in blocks)
            if not attempt.holds(lowest, highest):
                raise _DoesNotFit
            with disk.writing(plan.out):
                for writer, values in zip(writers, blocks, strict=True):
                    writer.write(values)
            found.add(plan, attempt, mixture, closed, max(-lowest, highest))
            found.residual_energy += leftover if plan.is_fold else grid.sum_squares(closed.files[-1])
            widths.add(mixture, closed.files)
            pcm_hash.update(mixture)
            position += mixture.shape[1]
            yield position / region.frames
        for writer in writers:
            with disk.writing(plan.out):
                writer.close()
            # Bringing a long file to a slow disk takes its time; each one shows that the job moves.
            yield 1.0
    if pcm_hash.hexdigest() != original.sha256_pcm:
        raise SourceError(f"{info.path!r} changed while it was split", "run it again")
    found.near_mono = widths.near_mono()
    found.entries = tuple(
        manifest.StemEntry(file.name, file.path.name, file.format.subtype, writer.sha256, writer.sha256_file)
        for file, writer in zip(files, writers, strict=True)
    )
    return found


def _carry(
    plan: SetPlan, original: Original, file: _File, carried: Carried
) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Return the chunks that ``file`` carries, and what a user should know of what it does not carry."""
    tag = StemTag(
        job=plan.job_id,
        stem=file.name,
        source=original.sha256_pcm,
        start=plan.region.start,
        frames=plan.region.frames,
        rate=plan.info.sample_rate,
    )
    return choose_chunks(
        carried,
        file.format,
        tag,
        region_start=plan.region.start,
        frames=plan.region.frames,
        channels=plan.info.channels,
        channel_mask=plan.info.channel_mask,
    )


def _read_routed(
    plan: SetPlan, original: Original, stems: StemBlocks
) -> Iterator[tuple[Signal, Ints | None, Signal, float]]:
    """Yield block by block the mixture, its integers if it has any, and the stems with their policy applied.

    The last figure is the energy of what the stems lacked before.
    """
    waiting: deque[tuple[Signal, Ints | None, float]] = deque()
    mono = [plan.stems.index(name) for name in plan.mono]
    pairs = [list(group) for group in plan.info.groups if len(group) == 2]

    def feed() -> Iterator[tuple[Signal, Signal]]:
        position = 0
        for mixture, ints in _read_again(plan, original):
            stack = stems.read(position, mixture.shape[1]).astype(np.float64)
            position += mixture.shape[1]
            leftover = grid.sum_squares(mixture - stack.sum(axis=0)) if plan.is_fold else 0.0
            waiting.append((mixture, ints, leftover))
            yield mixture, stack

    routed = route_residual(
        plan.routing, feed(), plan.stems, sample_rate=plan.info.sample_rate, model_rate=plan.model_rate
    )
    for stack in routed:
        mixture, ints, leftover = waiting.popleft()
        # Behind the routing, which gives each channel its own share.
        yield mixture, ints, _take_mids(stack, mono, pairs) if mono else stack, leftover


def _take_mids(stack: Signal, stems: list[int], pairs: list[list[int]]) -> Signal:
    """Return a copy of (stems, channels, frames) in which both channels of a pair are their mean."""
    out = stack.copy()
    for index in stems:
        for pair in pairs:
            out[index, pair] = stack[index, pair].mean(axis=0)
    return out


def _read_again(plan: SetPlan, original: Original) -> Iterator[tuple[Signal, Ints | None]]:
    """Yield the source's blocks as samples, and as integers where it stands on a grid."""
    if original.grid_bits is None:
        for block in audio_io.read_blocks(plan.info, plan.region):
            yield block, None
    else:
        for ints in audio_io.read_int_blocks(plan.info, plan.region, original.grid_bits):
            yield ints.astype(np.float64) * 2.0**-original.grid_bits, ints


def _widths(left: Signal, right: Signal) -> Signal:
    """Return the energies of mid and side, times 4, of (stems, frames): (stems, 2)."""
    ends = np.einsum("sf,sf->s", left, left) + np.einsum("sf,sf->s", right, right)
    twice = 2.0 * np.einsum("sf,sf->s", left, right)
    return np.stack([ends + twice, ends - twice], axis=1)


class _Widths:
    """How much of each stem, and of the mixture, lies in the sides of its channel pairs."""

    def __init__(self, plan: SetPlan) -> None:
        self._plan = plan
        self._pairs = [group for group in plan.info.groups if len(group) == 2]
        # One row per stem, the mixture's last: energy of the mid, energy of the side.
        self._energies = np.zeros((len(plan.stems) + 1, 2))

    def add(self, mixture: Signal, files: Signal) -> None:
        stems = len(self._plan.stems)
        for left, right in self._pairs:
            self._energies[:stems] += _widths(files[:stems, left], files[:stems, right])
            self._energies[stems:] += _widths(mixture[left : left + 1], mixture[right : right + 1])

    def near_mono(self) -> tuple[str, ...]:
        """Return the stems that would lose next to nothing in mono; none where the mixture itself is so."""
        mid, side = self._energies.T
        is_narrow = (mid > 0) & (side <= mid * 10.0 ** (NEAR_MONO_DB / 10.0))
        if not self._pairs or is_narrow[-1]:
            return ()
        return tuple(
            name
            for name, narrow in zip(self._plan.stems, is_narrow[:-1], strict=True)
            if narrow and name not in self._plan.mono
        )


def _conclude(
    plan: SetPlan, original: Original, attempt: _Attempt, found: _Found, carried: Carried
) -> WrittenSet:
    source_bits = original.grid_bits
    bits = None if source_bits is None else max(source_bits, attempt.stem_bits)
    sum_files = len(plan.names)
    remark = attempt.remark
    if attempt.is_outgrown and plan.format != AUTO_FORMAT:
        peak_db = null_test.decibels(found.peak)
        remark = f"{plan.format} does not hold a peak of {peak_db:+.1f} dBFS: written as 32-bit float WAV"
    return WrittenSet(
        stems=found.entries[:sum_files],
        mixture=found.entries[sum_files] if plan.has_mixture else None,
        grid=manifest.GridEntry(attempt.stem_bits, bits),
        claims=manifest.Claims(
            exact_f64=(
                found.inexact_samples == 0
                if bits is None
                else grid.claims_float64(bits, found.positive_max, found.negative_max)
            ),
            exact_f32_any_order=bits is not None
            and attempt.wide.isdisjoint(plan.names)
            and grid.claims_float32(bits, found.positive_max, found.negative_max),
            positive_max=found.positive_max,
            negative_max=found.negative_max,
            max_error=found.max_error,
            inexact_samples=found.inexact_samples,
        ),
        level_db=(
            None if plan.policy == COMPLEMENT else null_test.level_db(found.residual_energy, found.energy)
        ),
        near_mono=found.near_mono,
        remarks=((remark,) if remark else ()) + found.remarks,
        tags=carried.tags,
    )


def _warn(plan: SetPlan, written: WrittenSet) -> tuple[str, ...]:
    warnings = []
    level, claims = written.level_db, written.claims
    if level is not None and level > LOUD_RESIDUAL_DB and plan.is_full:
        where = "went to the stems by guess" if plan.is_fold else "is in none of the stems"
        warnings.append(f"the residual is at {level:.1f} dB re mixture: much of this source {where}")
    remedy = "" if plan.exact_float else "; --exact-float closes it with a 64-bit file"
    return (*warnings, *tell_inexact(claims, remedy))
