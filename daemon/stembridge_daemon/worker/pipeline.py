"""One split from file to published folder: read, separate, and hand over to `stembridge.closing`.

`run_split` is a generator: it yields its progress, and closing it between any two yields is the cancel. All
that becomes the set lies in one hidden work folder beside the result, until one rename makes that the result.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io, disk, manifest, transcode
from stembridge.closing import (
    COMPLEMENT,
    Original,
    OriginalScan,
    SetPlan,
    check_plan,
    describe_set,
    finish_set,
    storable,
    write_set,
)
from stembridge.delivery import check_delivery, check_listen_from
from stembridge.dsp import grid
from stembridge.dsp.resample import StreamResampler, count_frames
from stembridge.errors import ModelError, RequestError, SourceError
from stembridge.plane_file import PlaneFile
from stembridge.publishing import find_published, work_folder
from stembridge.stages import Stages
from stembridge.types import Early, Precision, Progress, Region, SplitRequest, SplitResult
from stembridge.work_folders import early_folder
from stembridge_daemon.failpoints import failpoint
from stembridge_daemon.worker.layout import Layout, SecondsResampler, lay_out_alone, lay_out_on_source
from stembridge_daemon.worker.listening import EarlyStems
from stembridge_daemon.worker.separators.base import Block, PrecisionChoice, SeparationPlan, Separator

# Where each stage begins on the way from 0 to 1. Separating takes nearly all of the time with any real model.
_STAGES = Stages(
    decode=0.0,
    check=0.004,
    read=0.005,
    separate=0.02,
    close=0.95,
    verify=0.98,
    mp3=0.995,
    session=0.998,
    publish=0.999,
)

_log = logging.getLogger(__name__)

Width = TypeVar("Width", np.float32, np.float64)


@dataclass(slots=True)
class _Mixture:
    """Some channels of the mixture at the model's rate, as `MixtureReader` promises it.

    Frame 0 is frame ``first`` of ``samples``.
    """

    rows: tuple[int, ...]
    channels: int
    frames: int
    mean: float
    deviation: float
    samples: PlaneFile
    first: int

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        samples = self.samples.read(start + self.first, frames, self.rows)
        return samples if len(samples) == self.channels else np.repeat(samples, self.channels, axis=0)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """The names of a set: the sources that are separated, in the result's order, and what closes them."""

    sources: tuple[str, ...]
    closing_name: str | None
    policy: str


@dataclass(frozen=True, slots=True)
class _Task:
    """One job after everything that can be known before reading the audio."""

    request: SplitRequest
    separator: Separator
    choice: PrecisionChoice
    plan: SetPlan
    layout: Layout
    clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _StemPlanes:
    """The stems at the source's own rate, one file of planes per group of channels."""

    stems: int
    groups: tuple[tuple[int, ...], ...]
    planes: list[PlaneFile]

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """Return (stems, channels, frames)."""
        out = np.empty((self.stems, sum(map(len, self.groups)), frames), np.float32)
        for group, planes in zip(self.groups, self.planes, strict=True):
            out[:, list(group)] = planes.read(start, frames).reshape(self.stems, len(group), frames)
        return out


def run_split(
    job_id: str,
    request: SplitRequest,
    separator: Separator,
    *,
    hear: Callable[[Early], None] = lambda early: None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Generator[Progress, None, SplitResult]:
    """Split one source and publish the result folder; yield `Progress`, return `SplitResult`.

    A result of the same job that is already there and verifies is returned as it is.

    Parameters
    ----------
    hear : gets what can be heard before the end, as soon as its files are whole
    clock : monotonic seconds, for times and the ETA
    now : seconds since the epoch, for the manifest

    Raises
    ------
    SourceError : the source cannot be split, or changed meanwhile
    ModelError : an unknown stem, or a separator that does not deliver what it promises
    RequestError : options that exclude each other, or that this source rules out
    OutputError : the result cannot be written
    ExactnessError : the written files do not hold what would be claimed
    """
    began = clock()
    delivery = choose_stems(request, separator)
    published = _find_published(job_id, request)
    if published:
        return published
    out = Path(request.out)
    with work_folder(out, job_id) as work:
        temporary = work / "planes"
        with disk.writing(out):
            temporary.mkdir()
        with disk.writing(out):
            info = yield from _STAGES.tell("decode", transcode.open_source(request.source, temporary))
        region = audio_io.check_region(info, request.region)
        check_listen_from(request.listen_from, region)
        if request.precision is not Precision.FULL:
            # The first time, the model is held against itself for seconds.
            yield _STAGES.at("check", 0.0)
        choice = separator.choose_precision(request.precision)
        plan = _plan_set(job_id, request, separator, delivery, info, region, choice.precision)
        lay_out = lay_out_on_source if request.on_source_grid else lay_out_alone
        task = _Task(request, separator, choice, plan, lay_out(info, region, separator), clock)
        _check_room(task)
        with ExitStack() as stack:
            began_to_read = clock()
            original, mixtures = yield from _read_source(task, temporary, stack)
            after_s = 3 * (clock() - began_to_read)
            early = EarlyStems(plan, task.layout, request.listen_from, early_folder(work))
            stems, separated = yield from _separate(task, mixtures, early, hear, temporary, stack, after_s)
            written = yield from _STAGES.tell(
                "close",
                write_set(plan, original, stems, work),
                after_each=lambda: failpoint("pipeline-mid-write"),
            )
        with disk.writing(out):
            shutil.rmtree(temporary)
        document = describe_set(plan, original, written, manifest.timestamp(now()))
        document = separated.amend(document, choice, request.precision)
        document = yield from finish_set(
            plan,
            written,
            document,
            work,
            _STAGES,
            before_each=lambda step: failpoint(f"pipeline-before-{step}"),
        )
        failpoint("pipeline-after-rename")
    _log.info("published %s", plan.final)
    return SplitResult(
        folder=str(plan.final),
        audio_s=region.frames / info.sample_rate,
        separate_s=separated.seconds,
        total_s=clock() - began,
        residual_db=written.level_db,
        warnings=document.warnings,
    )


def choose_stems(request: SplitRequest, separator: Separator) -> _Delivery:
    """Return what is delivered: ``stems`` and what closes them, or one of ``two_stems`` and its complement.

    Raises
    ------
    ModelError : the model does not know a source that was asked for
    RequestError : options that exclude each other
    """
    if request.stems and request.two_stems is not None:
        raise RequestError("stems and two_stems exclude each other", "give one of them")
    for source in request.asked:
        if source not in separator.sources:
            raise ModelError(
                f"{separator.name} knows no stem {source!r}", f"it knows {', '.join(separator.sources)}"
            )
    asked = request.asked
    chosen = manifest.order_stems(tuple(s for s in separator.sources if s in asked or not asked))
    check_delivery(
        file_format=request.format,
        residual=request.residual,
        mono=request.mono,
        stems=chosen,
        is_full=len(chosen) == len(separator.sources) and request.two_stems is None,
    )
    if request.two_stems is not None:
        return _Delivery(chosen, f"no_{request.two_stems}", COMPLEMENT)
    return _Delivery(chosen, None if request.residual.is_fold else manifest.RESIDUAL, request.residual.value)


def _plan_set(
    job_id: str,
    request: SplitRequest,
    separator: Separator,
    delivery: _Delivery,
    info: audio_io.SourceInfo,
    region: Region,
    precision: Precision,
) -> SetPlan:
    if max(map(len, info.groups)) > separator.channels:
        raise SourceError(
            f"{info.path!r} has pairs of channels, {separator.name} takes {separator.channels}",
            "choose another model",
        )
    plan = SetPlan(
        job_id=job_id,
        out=Path(request.out),
        name=manifest.source_name(request.source),
        info=info,
        region=region,
        model=manifest.ModelEntry(
            name=request.model,
            sha256=separator.sha256,
            precision=precision.value,
            shifts=request.shifts,
            seed=request.seed,
            overlap=request.overlap,
        ),
        stems=delivery.sources,
        closing_name=delivery.closing_name,
        policy=delivery.policy,
        model_rate=separator.sample_rate,
        is_full=len(delivery.sources) == len(separator.sources),
        is_deterministic=separator.is_deterministic,
        format=request.format,
        exact_float=request.exact_float,
        mono=request.mono,
        mp3=request.mp3,
        file_names=request.file_names,
        sessions=request.sessions,
    )
    check_plan(plan)
    return plan


def _check_room(task: _Task) -> None:
    info, region = task.plan.info, task.plan.region
    need = disk.estimate_disk(
        frames=region.frames,
        channels=info.channels,
        stems=len(task.plan.stems) + task.plan.has_mixture,
        model_frames=task.layout.laid,
        double_residual=info.grid_bits is None or info.grid_bits > grid.STEM_BITS,
    )
    if task.request.listen_from is not None:
        separator = task.separator
        segment = count_frames(separator.segment_frames, separator.sample_rate, info.sample_rate)
        samples = min(segment, region.frames) * info.channels * len(task.plan.names)
        need = replace(need, peak_bytes=need.peak_bytes + 4 * samples)
    disk.check_free(task.plan.out, need)


def _find_published(job_id: str, request: SplitRequest) -> SplitResult | None:
    name = manifest.source_name(request.source)
    final = Path(request.out) / manifest.folder_name(name, request.model, job_id)
    document = find_published(final, job_id, storable(request.source))
    if document is None:
        return None
    return SplitResult(
        folder=str(final),
        audio_s=document.source.region.frames / document.source.sample_rate,
        separate_s=0.0,
        total_s=0.0,
        residual_db=document.residual.level_db,
        warnings=document.warnings,
    )


def _read_source(
    task: _Task, folder: Path, stack: ExitStack
) -> Generator[Progress, None, tuple[Original, list[_Mixture]]]:
    """Decode the source once: hash it, find its grid, and lay down the mixture at the model's rate.

    Mean and deviation are those of the region at the model's rate; on the source's grid those of all the
    source at its own, so that they are the same for every region and cost no resampling.
    """
    info, region, layout = task.plan.info, task.plan.region, task.layout
    stream = layout.resample_mixture(info.channels)
    scan = OriginalScan(info)
    statistics = [_Statistics() for _ in info.groups]
    with disk.writing(task.plan.out):
        planes = stack.enter_context(PlaneFile(folder, "mixture", info.channels))

    def measure(samples: NDArray[np.float32]) -> None:
        if samples.size:
            for group, found in zip(info.groups, statistics, strict=True):
                found.add(samples[list(group)].mean(axis=0, dtype=np.float64))

    def lay_down(block: NDArray[np.float64]) -> None:
        samples = block.astype(np.float32)
        if not layout.is_on_source_grid:
            item = count_frames(region.frames, layout.source_rate, layout.model_rate)
            measure(_cut(samples, planes.frames, layout.context, item))
        with disk.writing(task.plan.out):
            planes.append(samples)

    read = Region(0, info.frames) if layout.is_on_source_grid else layout.heard
    position = read.start
    for block in audio_io.read_blocks(info, read):
        if layout.is_on_source_grid:
            measure(block.astype(np.float32))
        inside = _cut(block, position, region.start, region.frames)
        if inside.size:
            scan.add(inside)
        lay_down(stream.push(_cut(block, position, layout.heard.start, layout.heard.frames)))
        position += block.shape[1]
        yield _STAGES.at("read", (position - read.start) / read.frames)
        failpoint("pipeline-read")
    lay_down(stream.finish())
    mixtures = [
        _Mixture(
            group,
            task.separator.channels,
            layout.frames,
            found.mean,
            found.deviation(),
            planes,
            layout.context - layout.lead,
        )
        for group, found in zip(info.groups, statistics, strict=True)
    ]
    return scan.finish(), mixtures


def _cut(block: NDArray[Width], position: int, start: int, frames: int) -> NDArray[Width]:
    """Return what of a block from frame ``position`` on lies in ``frames`` frames from ``start`` on."""
    return block[:, max(0, start - position) : max(0, start + frames - position)]


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


@dataclass(slots=True)
class _Row:
    """The stems of one group of channels on their way: ``position`` is the frame that is due.

    Without a ``stream`` they have the source's rate as they come.
    """

    mixture: _Mixture
    planes: PlaneFile
    stream: StreamResampler | SecondsResampler | None
    position: int = 0


@dataclass(slots=True)
class _Pace:
    """How many steps are done, and how long the others will take; an early block is no step.

    Blocks of a batch come at once, after the time of all.
    """

    steps: int
    done: int = 0
    durations: list[float] = field(default_factory=list)

    @property
    def fraction(self) -> float:
        return self.done / max(self.steps, 1)

    @property
    def left_s(self) -> float:
        rest = self.durations[1:]
        is_batched = not rest or min(rest) <= 0.1 * max(rest)
        # The first step also pays for what is set up once.
        counted = self.durations if is_batched else rest
        return max(0, self.steps - self.done) * sum(counted) / len(counted)


@dataclass(slots=True)
class _Separated:
    """What separating came to beside the stems: its time, and what the separator said of its steps."""

    seconds: float = 0.0
    remarks: Counter[str] = field(default_factory=Counter)
    is_repeatable: bool = True

    def hear(self, block: Block) -> None:
        self.remarks.update(block.remarks)
        self.is_repeatable &= block.is_repeatable

    def amend(
        self, document: manifest.Manifest, choice: PrecisionChoice, asked: Precision
    ) -> manifest.Manifest:
        """Return the manifest of the set with what was said: each thing once, with how often."""
        said = [f"{text} ({times} times)" if times > 1 else text for text, times in self.remarks.items()]
        if choice.reason:
            said.insert(
                0, f"computed in {choice.precision} precision, {asked} was asked for: {choice.reason}"
            )
        return replace(
            document,
            warnings=(*document.warnings, *said),
            deterministic=document.deterministic and self.is_repeatable,
        )


def _separate(
    task: _Task,
    mixtures: list[_Mixture],
    early: EarlyStems,
    hear: Callable[[Early], None],
    folder: Path,
    stack: ExitStack,
    after_s: float,
) -> Generator[Progress, None, tuple[_StemPlanes, _Separated]]:
    """Lay down every stem at the source's own rate, a step of the separator per yield.

    Parameters
    ----------
    hear : gets what can be heard before the end
    after_s : what the stages after this one are expected to take
    """
    separator, request, out = task.separator, task.request, task.plan.out
    plan = SeparationPlan(
        tuple(source for source in separator.sources if source in task.plan.stems),
        request.overlap,
        request.shifts,
        request.seed,
        origin=task.layout.origin,
        beyond=task.layout.beyond,
        precision=task.choice.precision,
        listen_from=early.frame,
    )
    is_native = separator.sample_rate == task.plan.info.sample_rate
    rows = []
    with disk.writing(out):
        for mixture in mixtures:
            name = "stem-" + "-".join(map(str, mixture.rows))
            planes = stack.enter_context(PlaneFile(folder, name, len(task.plan.stems) * len(mixture.rows)))
            stream = None if is_native else task.layout.resample_stems(planes.planes)
            rows.append(_Row(mixture, planes, stream))
    pace = _Pace(separator.count_steps([mixture.frames for mixture in mixtures], plan))
    separated = _Separated()
    blocks = separator.separate(mixtures, plan)
    with closing(blocks) if isinstance(blocks, Generator) else ExitStack():
        while True:
            began = task.clock()
            block = next(blocks, None)
            pace.durations.append(task.clock() - began)
            if block is None:
                break
            separated.hear(block)
            if not 0 <= block.item < len(rows):
                raise ModelError(
                    f"{separator.name} returned stems of item {block.item}, there are {len(rows)}",
                    "report this with the model's name",
                )
            row = rows[block.item]
            found = _take_block(task, row, block, plan)
            if block.is_early:
                told = early.add(block.item, block.start, found)
                if told is not None:
                    hear(told)
            else:
                pace.done += 1
                row.position += found.shape[-1]
                flat = found.reshape(row.planes.planes, -1)
                with disk.writing(out):
                    row.planes.append(row.stream.push(flat.astype(np.float64)) if row.stream else flat)
            yield _STAGES.at("separate", pace.fraction, pace.left_s + after_s)
    for row in rows:
        if row.position != row.mixture.frames:
            raise ModelError(
                f"{separator.name} returned {row.position} of {row.mixture.frames} frames",
                "report this with the model's name",
            )
        if row.stream is not None:
            with disk.writing(out):
                row.planes.append(row.stream.finish())
    separated.seconds = sum(pace.durations)
    groups = tuple(mixture.rows for mixture in mixtures)
    return _StemPlanes(len(task.plan.stems), groups, [row.planes for row in rows]), separated


def _take_block(
    task: _Task, row: _Row, block: Block, plan: SeparationPlan
) -> NDArray[np.float32] | NDArray[np.float64]:
    """Return a block's stems in the order of the set, with as many channels as the group has.

    Raises
    ------
    ModelError : it is not the block that was due, or holds what is no sample
    """
    separator = task.separator
    shape = (len(plan.sources), separator.channels, block.stems.shape[-1])
    start = block.start if block.is_early else row.position
    if block.start != start or block.stems.shape != shape:
        raise ModelError(
            f"{separator.name} returned {block.stems.shape} from frame {block.start}, "
            f"{shape} from frame {start} was due",
            "report this with the model's name",
        )
    if not np.isfinite(block.stems).all():
        raise ModelError(
            f"{separator.name} returned NaN or Inf before frame {start + shape[-1]}", "try another model"
        )
    found = block.stems[[plan.sources.index(source) for source in task.plan.stems]]
    if len(row.mixture.rows) < separator.channels:
        middle: NDArray[np.float64] = found.mean(axis=1, keepdims=True, dtype=np.float64)
        return middle
    return found
