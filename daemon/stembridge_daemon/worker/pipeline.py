"""One split from file to published folder: read, separate, close the sum, verify, publish.

`run_split` is a generator: it yields its progress, and closing it between any two yields is the cancel. All
that it writes lies in one hidden work folder beside the result, until one rename makes that the result.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge import __version__, audio_io, disk, manifest, null_test, wavfile
from stembridge.dsp import grid
from stembridge.dsp.resample import StreamResampler, count_frames
from stembridge.errors import ExactnessError, ModelError, OutputError, RequestError, SourceError
from stembridge.types import Progress, Region, SplitRequest, SplitResult
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.plane_file import PlaneFile
from stembridge_daemon.worker.separators.base import SeparationPlan, Separator

LOUD_RESIDUAL_DB = -20.0
"""Above this level re mixture the residual of a full set is worth a warning."""


# Where each stage begins on the way from 0 to 1. Separating takes nearly all of the time with any real model.
_STAGE_BEGINS = {"read": 0.0, "separate": 0.02, "close": 0.95, "verify": 0.98, "publish": 0.999}
_STAGES = (*_STAGE_BEGINS, "")

_FLOAT_GRIDS = (grid.COARSEST_BITS, grid.STEM_BITS)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Original:
    """What one pass over the source has found; ``grid_bits`` is None where its samples are on no grid."""

    sha256_pcm: str
    grid_bits: int | None


@dataclass(slots=True)
class _Mixture:
    """The mixture at the model's rate, as `MixtureReader` promises it."""

    channels: int
    frames: int
    mean: float
    deviation: float
    samples: PlaneFile
    context: int

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        return self.samples.read(start + self.context, frames)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """The names of a set: the sources that are separated, in the result's order, and what closes them."""

    sources: tuple[str, ...]
    closing_name: str
    policy: str


@dataclass(frozen=True, slots=True)
class _Task:
    """One job after everything that can be known before reading the audio."""

    job_id: str
    request: SplitRequest
    separator: Separator
    delivery: _Delivery
    info: audio_io.SourceInfo
    region: Region
    clock: Callable[[], float]

    @property
    def out(self) -> Path:
        return Path(self.request.out)

    @property
    def name(self) -> str:
        return manifest.source_name(self.request.source)

    @property
    def final(self) -> Path:
        return self.out / manifest.folder_name(self.name, self.request.model, self.job_id)


@dataclass(frozen=True, slots=True)
class _ClosedSet:
    """The written files and what was found while writing them."""

    stems: tuple[manifest.StemEntry, ...]
    mixture: manifest.StemEntry | None
    grid: manifest.GridEntry
    claims: manifest.Claims
    level_db: float | None


def run_split(
    job_id: str,
    request: SplitRequest,
    separator: Separator,
    *,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Generator[Progress, None, SplitResult]:
    """Split one source and publish the result folder; yield `Progress`, return `SplitResult`.

    A result of the same job that is already there and verifies is returned as it is.

    Parameters
    ----------
    clock : monotonic seconds, for times and the ETA
    now : seconds since the epoch, for the manifest

    Raises
    ------
    SourceError : the source cannot be split, or changed meanwhile
    ModelError : an unknown stem, or a separator that does not deliver what it promises
    OutputError : the result cannot be written
    ExactnessError : the written files do not hold what would be claimed
    """
    began = clock()
    delivery = choose_stems(request, separator)
    published = _find_published(job_id, request)
    if published:
        return published
    info = audio_io.probe(request.source)
    if info.channels not in (1, separator.channels):
        raise SourceError(
            f"{info.path!r} has {info.channels} channels, {separator.name} takes {separator.channels}",
            "choose another model",
        )
    region = audio_io.check_region(info, request.region)
    task = _Task(job_id, request, separator, delivery, info, region, clock)
    out = task.out
    with _work_folder(task) as work:
        temporary = work / "planes"
        with ExitStack() as stack:
            with _writing(out):
                temporary.mkdir()
                mixture_planes = stack.enter_context(PlaneFile(temporary, "mixture", separator.channels))
                rows = len(delivery.sources) * info.channels
                stem_planes = stack.enter_context(PlaneFile(temporary, "stem", rows))
            original, mixture = yield from _read_source(task, mixture_planes)
            after_s = 3 * (clock() - began)
            separate_s = yield from _separate(task, mixture, stem_planes, after_s)
            closed = yield from _close(task, original, stem_planes, work)
        with _writing(out):
            shutil.rmtree(temporary)
        document = _describe(task, original, closed, manifest.timestamp(now()))
        yield from _verify(work, document)
        yield _progress("publish", 0.0)
        failpoint("pipeline-before-manifest")
        with _writing(out):
            manifest.write_manifest(work, document)
            disk.sync_folder(work)
            failpoint("pipeline-before-rename")
            _publish(work, task.final)
            disk.sync_folder(out)
        failpoint("pipeline-after-rename")
    _log.info("published %s", task.final)
    return SplitResult(
        folder=str(task.final),
        audio_s=region.frames / info.sample_rate,
        separate_s=separate_s,
        total_s=clock() - began,
        residual_db=closed.level_db,
        warnings=document.warnings,
    )


def choose_stems(request: SplitRequest, separator: Separator) -> _Delivery:
    """Return what is delivered: ``stems`` and a residual, or one of ``two_stems`` and its complement.

    Raises
    ------
    ModelError : the model does not know a source that was asked for
    RequestError : ``stems`` and ``two_stems`` are both given
    """
    if request.stems and request.two_stems is not None:
        raise RequestError("stems and two_stems exclude each other", "give one of them")
    asked = request.stems if request.two_stems is None else (request.two_stems,)
    for source in asked:
        if source not in separator.sources:
            raise ModelError(
                f"{separator.name} knows no stem {source!r}", f"it knows {', '.join(separator.sources)}"
            )
    chosen = manifest.order_stems(tuple(s for s in separator.sources if s in asked or not asked))
    if request.two_stems is not None:
        return _Delivery(chosen, f"no_{request.two_stems}", "complement")
    return _Delivery(chosen, manifest.RESIDUAL, "own")


def _find_published(job_id: str, request: SplitRequest) -> SplitResult | None:
    name = manifest.source_name(request.source)
    final = Path(request.out) / manifest.folder_name(name, request.model, job_id)
    if not os.path.lexists(final):
        return None
    hint = "move it away or choose another folder with --out"
    try:
        document = manifest.read_manifest(final)
    except SourceError as error:
        raise OutputError(f"{str(final)!r} exists and is no result of this job", hint) from error
    if document.job != job_id or document.source.path != _storable(request.source):
        raise OutputError(f"{str(final)!r} exists and is the result of another job", hint)
    report = null_test.check_result(final)
    if not report.holds:
        raise OutputError(f"{str(final)!r} exists and was changed: {report.failures[0]}", hint)
    return SplitResult(
        folder=str(final),
        audio_s=report.frames / report.sample_rate,
        separate_s=0.0,
        total_s=0.0,
        residual_db=document.residual.level_db,
        warnings=document.warnings,
    )


@contextmanager
def _work_folder(task: _Task) -> Iterator[Path]:
    """Make the hidden work folder; on the way out remove it, and the folders above it that were made here."""
    info, out = task.info, task.out
    work = manifest.work_folder(out, task.job_id)
    with _writing(out):
        made = [folder for folder in (out, *out.parents) if not folder.exists()]
        disk.check_free(
            out,
            disk.estimate_disk(
                frames=task.region.frames,
                channels=info.channels,
                stems=len(task.delivery.sources) + info.is_lossy,
                model_frames=count_frames(task.region.frames, info.sample_rate, task.separator.sample_rate)
                + 2 * task.separator.segment_frames,
                double_residual=info.grid_bits is None or info.grid_bits > grid.STEM_BITS,
            ),
        )
        if work.exists():
            _log.warning("removing what a crash left: %s", work)
            shutil.rmtree(work)
    try:
        with _writing(out):
            work.mkdir(parents=True)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for folder in made:
            try:
                folder.rmdir()
            except OSError:
                break


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn what the system says about writing into an `OutputError` of one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write into {str(folder)!r}: {reason}",
            "check room and rights, or choose another with --out",
        ) from error


def _progress(stage: str, done: float, eta_s: float | None = None) -> Progress:
    begin = _STAGE_BEGINS[stage]
    end = _STAGE_BEGINS.get(_STAGES[_STAGES.index(stage) + 1], 1.0)
    return Progress(stage, begin + (end - begin) * min(done, 1.0), eta_s)


def _read_source(task: _Task, planes: PlaneFile) -> Generator[Progress, None, tuple[_Original, _Mixture]]:
    """Decode the source once: hash it, find its grid, and lay down the mixture at the model's rate."""
    info, region, separator = task.info, task.region, task.separator
    rate_in, rate_out = info.sample_rate, separator.sample_rate
    reach = count_frames(separator.segment_frames, rate_out, rate_in)
    before = min(region.start, reach)
    after = min(info.frames - region.start - region.frames, reach)
    context = before * rate_out // rate_in
    item = count_frames(region.frames, rate_in, rate_out)
    beyond = max(0, (region.frames + after) * rate_out // rate_in - item)
    stream = StreamResampler(
        info.channels, rate_in, rate_out, origin=before, first=-context, frames=context + item + beyond
    )
    pcm_hash = audio_io.PcmHash()
    statistics = _Statistics()
    candidates = [info.grid_bits] if info.grid_bits is not None else list(_FLOAT_GRIDS)
    position = -before
    total = before + region.frames + after
    for block in audio_io.read_blocks(info, Region(region.start - before, total)):
        end = position + block.shape[1]
        inside = block[:, max(0, -position) : max(0, min(end, region.frames) - position)]
        if inside.size:
            pcm_hash.update(inside)
            if info.grid_bits is None:
                candidates = [bits for bits in candidates if grid.is_on_grid(inside, bits)]
        position = end
        _lay_down(stream.push(block), planes, statistics, context, item)
        yield _progress("read", (position + before) / total)
        failpoint("pipeline-read")
    _lay_down(stream.finish(), planes, statistics, context, item)
    original = _Original(pcm_hash.hexdigest(), candidates[0] if candidates else None)
    mixture = _Mixture(separator.channels, item, statistics.mean, statistics.deviation(), planes, context)
    return original, mixture


def _lay_down(
    block: NDArray[np.float64], planes: PlaneFile, statistics: _Statistics, context: int, item: int
) -> None:
    begin = planes.frames - context
    samples = block.astype(np.float32)
    inside = samples[:, max(0, -begin) : max(0, item - begin)]
    if inside.size:
        statistics.add(inside.mean(axis=0, dtype=np.float64))
    if len(samples) < planes.planes:
        samples = np.repeat(samples, planes.planes, axis=0)
    with _writing(planes.folder):
        planes.append(samples)


class _Statistics:
    """Mean and deviation of a stream of blocks (Chan, Golub and LeVeque, 1979, equations 2.1)."""

    def __init__(self) -> None:
        self.mean = 0.0
        self._count = 0
        self._squares = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        mean = float(values.mean())
        delta, count = mean - self.mean, self._count + len(values)
        self._squares += float(((values - mean) ** 2).sum()) + delta**2 * self._count * len(values) / count
        self.mean += delta * len(values) / count
        self._count = count

    def deviation(self) -> float:
        """Return the deviation with N - 1 in the denominator; 0 for a single frame."""
        return float(np.sqrt(self._squares / (self._count - 1))) if self._count > 1 else 0.0


def _separate(
    task: _Task, mixture: _Mixture, planes: PlaneFile, after_s: float
) -> Generator[Progress, None, float]:
    """Lay down every stem at the source's own rate; return the seconds spent inside the separator.

    ``after_s`` is what the stages after this one are expected to take.
    """
    info, separator, request, delivery, clock = (
        task.info,
        task.separator,
        task.request,
        task.delivery,
        task.clock,
    )
    wanted = tuple(source for source in separator.sources if source in delivery.sources)
    order = [wanted.index(source) for source in delivery.sources]
    plan = SeparationPlan(wanted, request.overlap, request.shifts, request.seed)
    steps = separator.count_steps(mixture.frames, plan)
    rows = len(wanted) * info.channels
    stream = StreamResampler(rows, separator.sample_rate, info.sample_rate, frames=task.region.frames)
    is_native = separator.sample_rate == info.sample_rate
    durations: list[float] = []
    position = 0
    blocks = separator.separate(mixture, plan)
    with closing(blocks) if isinstance(blocks, Generator) else ExitStack():
        while True:
            began = clock()
            block = next(blocks, None)
            durations.append(clock() - began)
            if block is None:
                break
            shape = (len(wanted), separator.channels, block.stems.shape[-1])
            if block.start != position or block.stems.shape != shape:
                raise ModelError(
                    f"{separator.name} returned {block.stems.shape} from frame {block.start}, "
                    f"{shape} from frame {position} was due",
                    "report this with the model's name",
                )
            position += shape[-1]
            if not np.isfinite(block.stems).all():
                raise ModelError(
                    f"{separator.name} returned NaN or Inf before frame {position}", "try another model"
                )
            stems = block.stems[order]
            if info.channels < separator.channels:
                stems = stems.mean(axis=1, keepdims=True, dtype=np.float64)
            flat = stems.reshape(rows, shape[-1])
            with _writing(planes.folder):
                planes.append(flat if is_native else stream.push(flat.astype(np.float64)))
            left = max(0, steps - len(durations))
            # The first step also pays for what is set up once.
            measured = durations[1:] or durations
            eta_s = left * sum(measured) / len(measured) + after_s
            yield _progress("separate", len(durations) / max(steps, 1), eta_s)
    if position != mixture.frames:
        raise ModelError(
            f"{separator.name} returned {position} of {mixture.frames} frames",
            "report this with the model's name",
        )
    if not is_native:
        with _writing(planes.folder):
            planes.append(stream.finish())
    return sum(durations)


def _close(
    task: _Task, original: _Original, planes: PlaneFile, work: Path
) -> Generator[Progress, None, _ClosedSet]:
    """Write the set, on the finest grid and in the narrowest width that can carry it."""
    source_bits = original.grid_bits
    stem_bits = grid.STEM_BITS
    is_double = source_bits is None or source_bits > grid.STEM_BITS
    while True:
        closed, needs_double, fitting = yield from _write_set(
            task, original, planes, work, stem_bits=stem_bits, is_double=is_double
        )
        if stem_bits == grid.STEM_BITS and fitting != stem_bits:
            stem_bits = fitting
        elif needs_double and not is_double:
            is_double = True
        else:
            return closed
        with _writing(work.parent):
            for entry in (*closed.stems, *((closed.mixture,) if closed.mixture else ())):
                (work / entry.file).unlink()


def _write_set(
    task: _Task,
    original: _Original,
    planes: PlaneFile,
    work: Path,
    *,
    stem_bits: int,
    is_double: bool,
) -> Generator[Progress, None, tuple[_ClosedSet, bool, int]]:
    """Write every file once; return the set, whether its residual needs 64 bits, and the grid that fits."""
    info, region, delivery, source_bits = task.info, task.region, task.delivery, original.grid_bits
    names = (*delivery.sources, delivery.closing_name, *((manifest.MIXTURE,) if info.is_lossy else ()))
    sum_files = len(delivery.sources) + 1
    out = work.parent
    positive = negative = max_error = energy = residual_energy = 0.0
    inexact = 0
    fits_float32 = True
    pcm_hash = audio_io.PcmHash()
    with ExitStack() as stack:
        with _writing(out):
            writers = [
                stack.enter_context(
                    wavfile.WavWriter(
                        work / manifest.file_name(task.name, stem),
                        sample_rate=info.sample_rate,
                        channels=info.channels,
                        frames=region.frames,
                        subtype="DOUBLE" if is_double and stem == delivery.closing_name else "FLOAT",
                    )
                )
                for stem in names
            ]
        position = 0
        for mixture, ints in _read_again(task, original):
            frames = mixture.shape[1]
            stems = planes.read(position, frames).astype(np.float64).reshape(-1, info.channels, frames)
            if source_bits is None or ints is None:
                closed = grid.close_floats(mixture, stems)
            else:
                closed = grid.close_integers(ints, source_bits, stems, stem_bits)
            pcm_hash.update(mixture)
            with _writing(out):
                for writer, block in zip(writers, (*closed.stems, closed.residual, mixture), strict=False):
                    writer.write(block)
            positive, negative = max(positive, closed.positive_max), max(negative, closed.negative_max)
            max_error, inexact = max(max_error, closed.max_error), inexact + closed.inexact_samples
            fits_float32 &= closed.residual_fits_float32
            energy += grid.sum_squares(mixture)
            residual_energy += grid.sum_squares(closed.residual)
            position += frames
            yield _progress("close", position / region.frames)
            failpoint("pipeline-mid-write")
        for writer in writers:
            with _writing(out):
                writer.close()
            # Bringing a long file to a slow disk takes its time; each one shows that the job moves.
            yield _progress("close", 1.0)
    if pcm_hash.hexdigest() != original.sha256_pcm:
        raise SourceError(f"{info.path!r} changed while it was split", "run it again")
    entries = [
        manifest.StemEntry(stem, writer.path.name, writer.subtype, writer.sha256)
        for stem, writer in zip(names, writers, strict=True)
    ]
    bits = None if source_bits is None else max(source_bits, stem_bits)
    closed_set = _ClosedSet(
        stems=tuple(entries[:sum_files]),
        mixture=entries[sum_files] if info.is_lossy else None,
        grid=manifest.GridEntry(stem_bits, bits),
        claims=manifest.Claims(
            exact_f64=grid.claims_float64(bits, positive, negative) if bits is not None else inexact == 0,
            exact_f32_any_order=bits is not None
            and not is_double
            and grid.claims_float32(bits, positive, negative),
            positive_max=positive,
            negative_max=negative,
            max_error=max_error,
            inexact_samples=inexact,
        ),
        level_db=null_test.level_db(residual_energy, energy) if delivery.policy == "own" else None,
    )
    fitting = stem_bits
    if source_bits is not None:
        fitting = grid.fitting_bits(source_bits, positive, negative, len(delivery.sources))
    return closed_set, not fits_float32, fitting


def _read_again(
    task: _Task, original: _Original
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64] | None]]:
    """Yield the source's blocks as samples, and as integers where it stands on a grid."""
    if original.grid_bits is None:
        for block in audio_io.read_blocks(task.info, task.region):
            yield block, None
    else:
        for ints in audio_io.read_int_blocks(task.info, task.region, original.grid_bits):
            yield ints.astype(np.float64) * 2.0**-original.grid_bits, ints


def _describe(task: _Task, original: _Original, closed: _ClosedSet, created: str) -> manifest.Manifest:
    info, region, request, separator = task.info, task.region, task.request, task.separator
    return manifest.Manifest(
        generator=manifest.Generator(__version__),
        job=task.job_id,
        created=created,
        source=manifest.SourceEntry(
            path=_storable(info.path),
            sha256_pcm=original.sha256_pcm,
            sample_rate=info.sample_rate,
            frames=info.frames,
            channels=info.channels,
            subtype=info.subtype,
            region=manifest.RegionEntry(region.start, region.frames),
        ),
        model=manifest.ModelEntry(
            name=separator.name,
            sha256=separator.sha256,
            precision="full",
            shifts=request.shifts,
            seed=request.seed,
            overlap=request.overlap,
        ),
        grid=closed.grid,
        claims=closed.claims,
        residual=manifest.ResidualEntry(task.delivery.policy, closed.level_db),
        stems=closed.stems,
        deterministic=separator.is_deterministic,
        mixture=closed.mixture,
        warnings=_warn(task.delivery, separator, closed),
    )


def _warn(delivery: _Delivery, separator: Separator, closed: _ClosedSet) -> tuple[str, ...]:
    warnings = []
    level = closed.level_db
    if level is not None and level > LOUD_RESIDUAL_DB and len(delivery.sources) == len(separator.sources):
        warnings.append(
            f"the residual is at {level:.1f} dB re mixture: much of this source is in none of the stems"
        )
    if not closed.claims.exact_f64:
        error_db = null_test.decibels(closed.claims.max_error)
        warnings.append(
            f"64-bit mixing is exact but for {closed.claims.inexact_samples} samples, "
            f"measured off by up to {error_db:.0f} dBFS"
        )
    elif not closed.claims.exact_f32_any_order:
        warnings.append("sums are exact in 64-bit mixing, in 32-bit mixing they are rounded")
    return tuple(warnings)


def _verify(work: Path, document: manifest.Manifest) -> Generator[Progress, None, None]:
    """Read the written files back and hold every claim against them."""
    # Where the sum is not exact, only the original itself can tell by how much.
    check = null_test.check_files(work, document, use_original=not document.claims.exact_f64)
    while True:
        try:
            yield _progress("verify", next(check))
        except StopIteration as stop:
            report: null_test.NullReport = stop.value
            break
    if not report.holds:
        raise ExactnessError(
            f"the written files do not hold what would be claimed: {report.failures[0]}", "run it again"
        )


def _publish(work: Path, final: Path) -> None:
    # rename would silently replace an empty folder of that name.
    if os.path.lexists(final):
        raise OutputError(f"{str(final)!r} exists", "move it away or choose another folder with --out")
    work.rename(final)


def _storable(path: str) -> str:
    """Return ``path`` as JSON can hold it: bytes that are no UTF-8 are spelled out."""
    return os.fsencode(path).decode(errors="backslashreplace")
