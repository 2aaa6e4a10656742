"""Streaming overlap-add: any number of models over mixtures of any length, in flat memory.

A lane is one member of the bag under one shift: segments over the whole of an item. There are as few of them
as the overlap allows (`Grid`); the triangular weights, the padding with real context, the trim, the random
shifts and the weighting of a bag are those of ``demucs.apply.apply_model`` (demucs 4.1.0), so that each named
source agrees with stock modules on the same grid; the sums differ only in being taken in float64, segment by
segment, instead of over whole tracks.
No torch here: a model is a function from (n, channels, frames) to (n, sources, channels, frames).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, islice, pairwise
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

HELD_BYTES = 2**30
"""Batches are small enough that what one batch of each member gives takes no more memory than this."""


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


@dataclass(frozen=True, slots=True)
class Grid:
    """The fewest segments over ``frames`` frames of which neighbours share at least the asked overlap.

    They lie ``stride`` apart. The last one would be shorter; where the model wants more input than that, it
    begins so much earlier, up to the length of a segment, and hears audio instead of padding: with models of
    a fixed length it is a whole one, flush with the end.

    Parameters
    ----------
    frames : of all segments together, at least 1
    segment_frames, stride : a frame lies in more than one segment where the stride is the shorter one
    input_frames : as in `EngineMember`
    """

    frames: int
    segment_frames: int
    stride: int
    input_frames: Callable[[int], int]

    @property
    def count(self) -> int:
        return -(-max(0, self.frames - self.segment_frames) // self.stride) + 1

    def span(self, index: int) -> tuple[int, int]:
        """Return where a segment begins and ends."""
        start = index * self.stride
        if index < self.count - 1:
            return start, start + self.segment_frames
        short = self.frames - start
        missing = min(self.input_frames(short), self.segment_frames) - short
        return start - min(max(0, missing), start), self.frames

    def covering(self, begin: int, end: int) -> range:
        """Return the indices of the segments that touch the frames from ``begin`` to ``end``."""
        last = self.count - 1
        first = min(max(0, (begin - self.segment_frames) // self.stride + 1), last)
        stop = min(-(-end // self.stride), last)
        return range(first, stop + (self.span(last)[0] < end))

    def fade(self, index: int) -> NDArray[np.float64]:
        """Return the triangular weight of a segment over the sum of all that lie on its frames."""
        start, end = self.span(index)
        triangle = _triangle(self.segment_frames)
        total = np.zeros(end - start)
        for other in self.covering(start, end):
            first, last = self.span(other)
            inside = slice(max(first, start) - start, min(last, end) - start)
            total[inside] += triangle[max(first, start) - first : min(last, end) - first]
        return triangle[: end - start] / total


def _triangle(frames: int) -> NDArray[np.float64]:
    """Return 1, 2, ... up to the middle and down again; only ratios of these weights count."""
    rising = frames // 2
    return np.concatenate([np.arange(1, rising + 1), np.arange(frames - rising, 0, -1)]).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Lane:
    """One member under one shift, over the whole of which an item is a part.

    Parameters
    ----------
    item : which of the readers this is for
    member : the model
    grid : its segments
    start : item frame at which the grid begins
    indices : of the sources that the member has a say in, among the separator's
    shares : what the lane counts in the mean of each of them, by their rows among the wanted ones
    due : which segments touch the item
    """

    item: int
    member: EngineMember
    grid: Grid
    start: int
    indices: tuple[int, ...]
    shares: tuple[tuple[int, float], ...]
    due: range

    def segment(self, index: int) -> _Segment:
        first, end = self.grid.span(index)
        return _Segment(self, index, self.start + first, end - first)


@dataclass(frozen=True, slots=True)
class _Segment:
    """One segment of a lane: ``frames`` frames from the item's frame ``position`` on."""

    lane: _Lane
    index: int
    position: int
    frames: int

    @property
    def input_frames(self) -> int:
        return self.lane.member.input_frames(self.frames)

    @property
    def lead(self) -> int:
        """Frames that the model hears before the segment's own."""
        return (self.input_frames - self.frames) // 2

    def fits(self, other: _Segment) -> bool:
        """Return whether both can go through the same model at once."""
        return self.lane.member is other.lane.member and self.input_frames == other.input_frames


def count_steps(
    members: Sequence[EngineMember], frames: Sequence[int], sample_rate: int, wanted: Wanted
) -> int:
    """Return the number of segments, and so of blocks, for items of so many frames."""
    return sum(
        len(lane.due)
        for item, each in enumerate(frames)
        for lane in _make_lanes(members, item, each, sample_rate, wanted)
    )


def separate(
    members: Sequence[EngineMember], readers: Sequence[MixtureReader], sample_rate: int, wanted: Wanted
) -> Iterator[Block]:
    """Yield one block per segment; put in a row they cover each item once, an item after the other.

    Segments of one model and one length run together, as many as it takes, whichever items they are of; the
    blocks of a batch come one after another. With ``listen_from``, an early block of each item that has this
    frame comes first, made of the last segment of each lane that covers it.

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
    lanes = [
        _make_lanes(members, item, reader.frames, sample_rate, wanted) for item, reader in enumerate(readers)
    ]
    items = [
        _Item(_NormalMixture.of(reader, wanted.plan), each, len(wanted.indices))
        for reader, each in zip(readers, lanes, strict=True)
    ]
    batches = _Batches(items)
    if wanted.plan.listen_from is not None:
        first = [item.segments_at(wanted.plan.listen_from) for item in items]
        batches.run_all(list(chain.from_iterable(first)))
        for item, segments in zip(items, first, strict=True):
            if segments:
                yield item.listen(segments, [batches.parts[segment].stems for segment in segments])
    for segment, final, part in batches.run_in_row():
        item = items[segment.lane.item]
        stems = item.add(segment, part.stems, final)
        yield Block(
            final - stems.shape[-1], stems, segment.lane.item, False, part.remarks, part.is_repeatable
        )


def _make_lanes(
    members: Sequence[EngineMember], item: int, frames: int, sample_rate: int, wanted: Wanted
) -> list[_Lane]:
    """Return the lanes that count for the wanted sources.

    The shifts are drawn for every member in the bag's order, whether it runs or not, so that a stem does not
    depend on which others were asked for.
    """
    plan = wanted.plan
    draw = random.Random(plan.seed)
    longest_shift = int(LONGEST_SHIFT_S * sample_rate)
    totals = [sum(member.weights[index] for member in members) for index in wanted.indices]
    lanes = []
    for member in members:
        # A shift by `offset` moves the grid's origin in front of the item by what is left of the half second.
        starts = [draw.randint(0, longest_shift) - longest_shift for _ in range(plan.shifts)] or [0]
        rows = [row for row, index in enumerate(wanted.indices) if member.weights[index]]
        if frames <= 0 or not rows:
            continue
        stride = int((1 - plan.overlap) * member.segment_frames)
        if stride < 1:
            raise RequestError(f"overlap {plan.overlap}", "too close to 1 for this model's segments")
        indices = tuple(wanted.indices[row] for row in rows)
        shares = [
            member.weights[index] / totals[row] / len(starts)
            for row, index in zip(rows, indices, strict=True)
        ]
        for start in starts:
            whole = plan.whole_frames(frames) - start
            grid = Grid(whole, member.segment_frames, stride, member.input_frames)
            before = plan.origin - start
            due = grid.covering(before, before + frames)
            lanes.append(
                _Lane(item, member, grid, -before, indices, tuple(zip(rows, shares, strict=True)), due)
            )
    return lanes


class _Item:
    """One mixture on its way: what its lanes have added up so far from the first frame on that is not final.

    Parameters
    ----------
    mixture : what the models hear
    lanes : of this item
    stems : how many are wanted
    """

    def __init__(self, mixture: _NormalMixture, lanes: Sequence[_Lane], stems: int) -> None:
        self.mixture = mixture
        self.lanes = lanes
        self._stems = stems
        self._final = 0
        self._sums: NDArray[np.float64] | None = None

    @property
    def frames(self) -> int:
        return self.mixture.reader.frames

    def due(self) -> Iterator[tuple[_Segment, int]]:
        """Yield the segments by their positions, each with the frame up to which all is final after it."""
        rows = [map(lane.segment, lane.due) for lane in self.lanes]
        segments = merge(*rows, key=lambda segment: segment.position)
        for segment, following in pairwise(chain(segments, (None,))):
            final = self.frames if following is None else min(max(0, following.position), self.frames)
            assert segment is not None
            yield segment, final

    def segments_at(self, frame: int) -> list[_Segment]:
        """Return the last segment of each lane that covers a frame; none where the item has no such frame."""
        if not 0 <= frame < self.frames:
            return []
        places = ((lane, frame - lane.start) for lane in self.lanes)
        return [lane.segment(lane.grid.covering(place, place + 1)[-1]) for lane, place in places]

    def listen(self, segments: Sequence[_Segment], stems: Sequence[NDArray[np.float32]]) -> Block:
        """Return the mean of one segment per lane over the item's frames that lie in all of them."""
        start = max(0, *(segment.position for segment in segments))
        end = min(self.frames, *(segment.position + segment.frames for segment in segments))
        sums = self._zeros(end - start)
        for segment, found in zip(segments, stems, strict=True):
            inside = slice(start - segment.position, end - segment.position)
            for stem, (row, share) in zip(found, segment.lane.shares, strict=True):
                sums[row] += stem[:, inside].astype(np.float64) * share
        return Block(start, self.mixture.restore(sums), segments[0].lane.item, is_early=True)

    def add(self, segment: _Segment, stems: NDArray[np.float32], final: int) -> NDArray[np.float32]:
        """Add the next due segment's stems and return those of the item that end at ``final``.

        All lanes write into one buffer: their segments come by their positions, so that none ends further
        than the longest one behind the first frame that is not final.
        """
        if self._sums is None:
            self._sums = self._zeros(max(lane.grid.segment_frames for lane in self.lanes))
        # What lies before the item is there for the shift's sake, or belongs to another region.
        unused = max(0, -segment.position)
        first = segment.position + unused - self._final
        inside = slice(first, first + segment.frames - unused)
        fade = segment.lane.grid.fade(segment.index)[unused:]
        for stem, (row, share) in zip(stems, segment.lane.shares, strict=True):
            self._sums[row, :, inside] += stem[:, unused:] * (share * fade)
        done = self.mixture.restore(_take(self._sums, final - self._final))
        self._final = final
        if final == self.frames:
            self._sums = None
        return done

    def _zeros(self, frames: int) -> NDArray[np.float64]:
        return np.zeros((self._stems, self.mixture.reader.channels, frames))


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
class _Part:
    """What became of one segment: stems (its lane's indices, channels, frames) without the padding."""

    stems: NDArray[np.float32]
    remarks: tuple[str, ...]
    is_repeatable: bool


class _Batches:
    """Runs segments before it is their turn, where others go with them, and keeps ``parts`` until then."""

    def __init__(self, items: Sequence[_Item]) -> None:
        self.parts: dict[_Segment, _Part] = {}
        self._items = items
        self._members = len({id(lane.member) for item in items for lane in item.lanes})

    def run_all(self, segments: Sequence[_Segment]) -> None:
        """Run all of some segments."""
        for segment in segments:
            if segment not in self.parts:
                self._run(segment, segments, self._limit(segment))

    def run_in_row(self) -> Iterator[tuple[_Segment, int, _Part]]:
        """Yield each item's due segments, see `_Item.due`, with what became of them."""
        source = chain.from_iterable(item.due() for item in self._items)
        ahead: deque[tuple[_Segment, int]] = deque()
        while True:
            if not ahead:
                ahead.extend(islice(source, 1))
            if not ahead:
                return
            segment, final = ahead[0]
            if segment not in self.parts:
                limit = self._limit(segment)
                # What waits for its turn is at most as much as all members have within this reach.
                ahead.extend(islice(source, max(0, limit * self._members - len(ahead))))
                self._run(segment, [other for other, _ in ahead], limit)
            ahead.popleft()
            yield segment, final, self.parts.pop(segment)

    def _limit(self, segment: _Segment) -> int:
        channels = self._items[segment.lane.item].mixture.reader.channels
        samples = len(segment.lane.indices) * channels * segment.input_frames
        held = HELD_BYTES // (4 * samples * self._members)
        return max(1, min(segment.lane.member.batch_limit(), held))

    def _run(self, first: _Segment, others: Iterable[_Segment], limit: int) -> None:
        """Run a segment, and with it those of the others that fit, up to ``limit`` in all."""
        waiting = (one for one in others if one != first and one not in self.parts and one.fits(first))
        batch = [first, *islice(waiting, limit - 1)]
        heard = [
            self._items[one.lane.item].mixture.read(one.position - one.lead, one.input_frames)
            for one in batch
        ]
        answer = first.lane.member.run(np.stack(heard), first.lane.indices)
        for place, (one, stems) in enumerate(zip(batch, answer.stems, strict=True)):
            self.parts[one] = _Part(
                stems[..., one.lead : one.lead + one.frames],
                answer.remarks if place == 0 else (),
                answer.is_repeatable,
            )


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
