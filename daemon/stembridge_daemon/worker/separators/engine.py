"""Streaming overlap-add: any number of models over a mixture of any length, in flat memory.

The segment grid, the triangular weights, the padding with real context, the trim, the random shifts and the
weighting of a bag are those of ``demucs.apply.apply_model`` (demucs 4.1.0), so that each named source agrees
with it; the sums differ only in being taken in float64, segment by segment, instead of over whole tracks.
No torch here: a model is a function from (n, channels, frames) to (n, sources, channels, frames).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from stembridge.errors import RequestError
from stembridge_daemon.worker.separators.base import Block, MixtureReader, SeparationPlan


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of one batch.

    Parameters
    ----------
    stems : (n, wanted, channels, frames)
    remarks : what a user is to be told of this batch: one line each
    is_repeatable : the same batch gives the same samples again on this machine
    """

    stems: NDArray[np.float32]
    remarks: tuple[str, ...] = ()
    is_repeatable: bool = True


Run = Callable[[NDArray[np.float32], Sequence[int]], Answer]
"""Takes normalised mixtures (n, channels, frames) and the indices of the wanted sources."""

LONGEST_SHIFT_S = 0.5
"""``demucs.apply.apply_model``: shifts are drawn between 0 and half a second."""

DEVIATION_FLOOR = 1e-8
"""``demucs.api.Separator.separate_tensor``: keeps silence from being divided by zero."""


@dataclass(frozen=True, slots=True)
class EngineMember:
    """One model of a bag as the engine sees it.

    Parameters
    ----------
    run : runs the model on a batch
    segment_frames : length of a segment
    input_frames : gives the length of input that the model wants for a segment of so many frames
    weights : weight of this model for each of the separator's sources
    batch_limit : gives the most segments that `run` takes at once; asked before each batch
    """

    run: Run
    segment_frames: int
    input_frames: Callable[[int], int]
    weights: tuple[float, ...]
    batch_limit: Callable[[], int] = lambda: 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plan with its sources as indices into the separator's."""

    plan: SeparationPlan
    indices: tuple[int, ...]


def wanted_of(plan: SeparationPlan, sources: Sequence[str]) -> Wanted:
    """Return the plan with the indices of its sources.

    Raises
    ------
    RequestError
        A source that the separator does not know, or an overlap or a number of shifts out of range.
    """
    for source in plan.sources:
        if source not in sources:
            raise RequestError(f"no source {source!r}", f"the model knows {', '.join(sources)}")
    if not 0 <= plan.overlap < 1:
        raise RequestError(f"overlap {plan.overlap}", "0 <= overlap < 1")
    if plan.shifts < 0:
        raise RequestError(f"shifts {plan.shifts}", "0 or more")
    return Wanted(plan, tuple(sources.index(source) for source in plan.sources))


@dataclass(slots=True)
class _Lane:
    """One member under one shift: a row of segments over the whole's frames from ``start`` to its end.

    ``share`` is what the lane counts in the mean of each wanted source: (wanted, 1, 1). The next segment is
    that at ``offset``; from ``stop`` on they lie behind the item.
    """

    member: EngineMember
    start: int
    frames: int
    stride: int
    share: NDArray[np.float64]
    offset: int
    stop: int

    @property
    def position(self) -> int:
        """Item frame at which the next segment begins."""
        return self.start + self.offset

    @property
    def is_done(self) -> bool:
        return self.offset >= self.stop

    def count_segments(self) -> int:
        return -(-(self.stop - self.offset) // self.stride)


def count_steps(
    members: Sequence[EngineMember], frames: Sequence[int], sample_rate: int, wanted: Wanted
) -> int:
    """Return the number of segments, and so of blocks, for items of so many frames."""
    return sum(
        lane.count_segments() for each in frames for lane in _make_lanes(members, each, sample_rate, wanted)
    )


def separate(
    members: Sequence[EngineMember], readers: Sequence[MixtureReader], sample_rate: int, wanted: Wanted
) -> Iterator[Block]:
    """Yield one block per segment; put in a row they cover each item once, an item after the other.

    Parameters
    ----------
    members : all models of the bag, in its order
    readers : the mixture of each item
    sample_rate : of the models, in Hz
    wanted : the plan and the indices of its sources

    Raises
    ------
    RequestError
        An overlap outside 0 <= overlap < 1, or so close to 1 that segments do not advance.
    """
    for item, reader in enumerate(readers):
        yield from _separate_item(members, item, reader, sample_rate, wanted)


def _separate_item(
    members: Sequence[EngineMember], item: int, reader: MixtureReader, sample_rate: int, wanted: Wanted
) -> Iterator[Block]:
    lanes = _make_lanes(members, reader.frames, sample_rate, wanted)
    longest = max((lane.member.segment_frames for lane in lanes), default=0)
    # All lanes write into one buffer: the lane that lags most goes next, so that no segment ends further
    # than the longest segment behind the first frame that is not final.
    sums = np.zeros((len(wanted.indices), reader.channels, longest), dtype=np.float64)
    mixture = _NormalMixture.of(reader, wanted.plan)
    final = 0
    while True:
        waiting = [lane for lane in lanes if not lane.is_done]
        if not waiting:
            return
        lane = min(waiting, key=lambda one: one.position)
        _run_segment(lane, mixture, wanted.indices, sums, final)
        lane.offset += lane.stride
        reached = min((one.position for one in lanes if not one.is_done), default=reader.frames)
        reached = min(max(reached, final), reader.frames)
        yield Block(final, mixture.restore(_take(sums, reached - final)), item)
        final = reached


def _make_lanes(
    members: Sequence[EngineMember], frames: int, sample_rate: int, wanted: Wanted
) -> list[_Lane]:
    """Return the lanes that count for the wanted sources, each at its first segment that touches the item.

    The shifts are drawn for every member in the bag's order, whether it runs or not, so that a stem does not
    depend on which others were asked for.
    """
    plan = wanted.plan
    draw = random.Random(plan.seed)
    longest_shift = int(LONGEST_SHIFT_S * sample_rate)
    weights = np.array([[member.weights[index] for index in wanted.indices] for member in members])
    totals = weights.sum(axis=0)
    lanes = []
    for member, row in zip(members, weights, strict=True):
        # A shift by `offset` moves the grid's origin in front of the item by what is left of the half second.
        starts = [draw.randint(0, longest_shift) - longest_shift for _ in range(plan.shifts)] or [0]
        if frames <= 0 or not row.any():
            continue
        stride = int((1 - plan.overlap) * member.segment_frames)
        if stride < 1:
            raise RequestError(f"overlap {plan.overlap}", "too close to 1 for this model's segments")
        share = (row / totals / len(starts))[:, None, None]
        for start in starts:
            before = plan.origin - start
            skipped = max(0, (before - member.segment_frames) // stride + 1)
            lanes.append(
                _Lane(
                    member,
                    -before,
                    plan.whole_frames(frames) - start,
                    stride,
                    share,
                    offset=skipped * stride,
                    stop=before + frames,
                )
            )
    return lanes


def _run_segment(
    lane: _Lane, mixture: _NormalMixture, indices: Sequence[int], sums: NDArray[np.float64], final: int
) -> None:
    """Run the lane's next segment and add it to ``sums``, whose first frame is item frame ``final``."""
    member = lane.member
    frames = min(member.segment_frames, lane.frames - lane.offset)
    surplus = member.input_frames(frames) - frames
    heard = mixture.read(lane.position - surplus // 2, frames + surplus)
    answer = member.run(heard[None], indices).stems[0][..., surplus // 2 : surplus // 2 + frames]
    # What lies before the item is there for the shift's sake, or belongs to another region.
    unused = max(0, -lane.position)
    if unused >= frames:
        return
    first = lane.position + unused - final
    fade = _fade_in_sum(lane, frames)[unused:]
    sums[..., first : first + frames - unused] += answer[..., unused:] * (lane.share * fade)


def _fade_in_sum(lane: _Lane, frames: int) -> NDArray[np.float64]:
    """Return the triangular weight of the lane's next segment over the sum of all that lie on its frames."""
    segment, stride, offset = lane.member.segment_frames, lane.stride, lane.offset
    triangle = _triangle(segment)
    total = np.zeros(frames)
    first = max(0, (offset - segment) // stride + 1) * stride
    for other in range(first, min(offset + frames, lane.frames), stride):
        start, end = max(other, offset), min(other + segment, offset + frames)
        total[start - offset : end - offset] += triangle[start - other : end - other]
    return triangle[:frames] / total


def _triangle(frames: int) -> NDArray[np.float64]:
    """Return 1, 2, ... up to the middle and down again; only ratios of these weights count."""
    rising = frames // 2
    return np.concatenate([np.arange(1, rising + 1), np.arange(frames - rising, 0, -1)]).astype(np.float64)


def _take(sums: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Return the first ``frames`` frames of ``sums`` and move the rest to the front."""
    taken = sums[..., :frames].copy()
    if frames == 0:
        return taken
    rest = sums.shape[-1] - frames
    sums[..., :rest] = sums[..., frames:].copy()
    sums[..., rest:] = 0
    return taken


@dataclass(frozen=True, slots=True)
class _NormalMixture:
    """The mixture as the models take it: (x - mean) / (deviation + 1e-8); `restore` is the way back.

    The whole of which the reader's frames are a part lies from frame ``begin`` to ``end``.
    """

    reader: MixtureReader
    mean: np.float32
    deviation: np.float32
    begin: int
    end: int

    @classmethod
    def of(cls, reader: MixtureReader, plan: SeparationPlan) -> _NormalMixture:
        # One frame has no deviation (torch.std gives nan, and stock demucs then nothing but nan).
        deviation = reader.deviation if isfinite(reader.deviation) else 0.0
        scale = np.float32(deviation + DEVIATION_FLOOR)
        return cls(reader, np.float32(reader.mean), scale, -plan.origin, reader.frames + plan.beyond)

    def read(self, start: int, frames: int) -> NDArray[np.float32]:
        """Return normalised samples; where the reader has no audio beyond the whole they are 0, not -mean.

        Beyond the whole, zeros without a break up to the edge stand for 'no audio': stock demucs pads after
        it has normalised.
        """
        samples = self.reader.read(start, frames)
        normal = (samples - self.mean) / self.deviation
        sounding = np.flatnonzero(samples.any(axis=0))
        first, last = (int(sounding[0]), int(sounding[-1]) + 1) if sounding.size else (frames, 0)
        head = min(max(self.begin - start, 0), frames)
        tail = min(max(self.end - start, 0), frames)
        normal[:, : min(first, head)] = 0
        normal[:, max(last, tail) :] = 0
        return normal

    def restore(self, stems: NDArray[np.float64]) -> NDArray[np.float32]:
        return (stems * self.deviation + self.mean).astype(np.float32)
