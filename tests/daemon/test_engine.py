"""The grid of segments for every length, batches over items, and what is heard early, with small models."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stembridge_daemon.worker.separators import engine
from stembridge_daemon.worker.separators.base import Block, SeparationPlan
from stembridge_daemon.worker.separators.engine import Answer, EngineMember, Grid

Audio = NDArray[np.float32]

RATE = 100
SOURCES = ("a", "b")

INPUTS: dict[str, Callable[[int], Callable[[int], int]]] = {
    "fixed": lambda segment: lambda _: segment,
    "longer than a segment": lambda segment: lambda _: segment + 7,
    "any": lambda _: lambda frames: frames,
    "the next of some": lambda _: lambda frames: -(-frames // 8) * 8 + 3,
}


class ArrayReader:
    """A mixture in memory with nothing around it, normalised as it lies."""

    mean, deviation = 0.0, 1.0 - engine.DEVIATION_FLOOR

    def __init__(self, frames: int, seed: int = 0) -> None:
        self.audio = np.random.default_rng(seed).standard_normal((2, frames)).astype(np.float32)
        self.channels, self.frames = self.audio.shape

    def read(self, start: int, frames: int) -> Audio:
        out = np.zeros((2, frames), np.float32)
        begin, end = max(start, 0), min(start + frames, self.frames)
        if begin < end:
            out[:, begin - start : end - start] = self.audio[:, begin:end]
        return out


class Model:
    """Gives sources that depend on their place in the input, and remembers what it was asked for.

    Parameters
    ----------
    segment, wanted : of the member
    limit : segments at once
    weights : of the member
    gain : of all that it gives
    is_plain : it gives multiples of what it hears, wherever that stands
    remarks : one for each batch
    """

    def __init__(
        self,
        segment: int = 40,
        wanted: str = "fixed",
        *,
        limit: int = 1,
        weights: tuple[float, ...] = (1.0, 1.0),
        gain: float = 1.0,
        is_plain: bool = False,
        remarks: Sequence[str] = (),
    ) -> None:
        self.batches: list[Audio] = []
        self.answers: list[weakref.ref[Audio]] = []
        self.asked: list[tuple[int, ...]] = []
        self.most_held = 0
        self._gain = gain
        self._is_plain = is_plain
        self._remarks = iter(remarks)
        self.limit = limit
        self.member = EngineMember(self.run, segment, INPUTS[wanted](segment), weights, lambda: self.limit)

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    def run(self, batch: Audio, sources: Sequence[int]) -> Answer:
        assert batch.flags.c_contiguous and batch.dtype == np.float32
        self.batches.append(batch.copy())
        self.asked.append(tuple(sources))
        stems = [self._gain * (1 + source) * batch for source in sources]
        if not self._is_plain:
            place = np.cos(0.3 * np.arange(batch.shape[2]))
            mean = batch.mean(axis=(1, 2), keepdims=True)
            stems = [np.tanh(stem) * place + mean for stem in stems]
        remark = next(self._remarks, "")
        answer = np.stack(stems, axis=1).astype(np.float32)
        self.answers = [one for one in self.answers if one() is not None]
        self.answers.append(weakref.ref(answer))
        self.most_held = max(
            self.most_held, sum(len(found) for one in self.answers if (found := one()) is not None)
        )
        return Answer(answer, (remark,) if remark else (), not remark)


def separate(
    models: Sequence[Model], readers: Sequence[ArrayReader], plan: SeparationPlan
) -> Iterator[Block]:
    members = [model.member for model in models]
    wanted = engine.wanted_of(plan, SOURCES)
    steps = 0
    for block in engine.separate(members, readers, RATE, wanted):
        steps += not block.is_early
        yield block
    assert steps == engine.count_steps(members, [reader.frames for reader in readers], RATE, wanted)


def join(blocks: Sequence[Block], item: int = 0) -> Audio:
    """Return the stems of an item, having seen that its blocks lie in a row."""
    at, found = 0, []
    for block in blocks:
        if block.item == item and not block.is_early:
            assert block.start == at
            at += block.stems.shape[2]
            found.append(block.stems)
    return np.concatenate(found, axis=2)


def grid_of(frames: int, segment: int, overlap: float, wanted: str) -> Grid | None:
    stride = int((1 - overlap) * segment)
    return Grid(frames, segment, stride, INPUTS[wanted](segment)) if stride else None


@settings(max_examples=300, deadline=None)
@given(
    frames=st.integers(1, 700),
    segment=st.integers(1, 90),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.61, 0.9]),
    wanted=st.sampled_from(list(INPUTS)),
)
def test_any_length_has_the_fewest_segments_that_share_what_was_asked(
    frames: int, segment: int, overlap: float, wanted: str
) -> None:
    grid = grid_of(frames, segment, overlap, wanted)
    if grid is None:
        return
    spans = [grid.span(index) for index in range(grid.count)]
    shared = segment - grid.stride
    assert shared >= overlap * segment - 1e-9
    assert spans[0][0] == 0 and spans[-1][1] == frames
    assert all(0 < end - start <= segment for start, end in spans)
    assert all(start == index * grid.stride for index, (start, _) in enumerate(spans[:-1]))
    assert all(before[1] - after[0] >= shared for before, after in pairwise(spans))
    assert [start for start, _ in spans] == sorted({start for start, _ in spans})
    # One segment less could not reach the end.
    assert grid.count == 1 or segment + (grid.count - 2) * grid.stride < frames
    if wanted in ("fixed", "longer than a segment") and frames >= segment:
        assert spans[-1][1] - spans[-1][0] == segment
    if wanted == "any" and grid.count > 1:
        assert spans[-1][0] == (grid.count - 1) * grid.stride


@settings(max_examples=200, deadline=None)
@given(
    frames=st.integers(1, 500),
    segment=st.integers(1, 90),
    overlap=st.sampled_from([0.0, 0.25, 0.61, 0.9]),
    wanted=st.sampled_from(list(INPUTS)),
    place=st.tuples(st.integers(0, 499), st.integers(1, 499)),
)
def test_the_weights_of_all_segments_on_a_frame_are_one_and_none_is_forgotten(
    frames: int, segment: int, overlap: float, wanted: str, place: tuple[int, int]
) -> None:
    grid = grid_of(frames, segment, overlap, wanted)
    if grid is None:
        return
    total = np.zeros(frames)
    for index in range(grid.count):
        start, end = grid.span(index)
        assert (grid.fade(index) > 0).all()
        total[start:end] += grid.fade(index)
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    begin = min(place[0], frames - 1)
    end = min(begin + place[1], frames)
    touching = [
        index for index in range(grid.count) if grid.span(index)[0] < end and grid.span(index)[1] > begin
    ]
    assert list(grid.covering(begin, end)) == touching


@pytest.mark.parametrize("wanted", INPUTS)
@pytest.mark.parametrize("shifts", [0, 2])
def test_batches_give_what_single_segments_give(wanted: str, shifts: int) -> None:
    readers = [ArrayReader(frames, frames) for frames in (333, 12, 41, 0, 100)]
    plan = SeparationPlan(SOURCES, shifts=shifts, seed=3)

    def run(limit: int) -> tuple[list[Block], list[Model]]:
        models = [
            Model(40, wanted, limit=limit, weights=(1.0, 0.5)),
            Model(25, "any", limit=limit, weights=(0.2, 1.0)),
            Model(40, wanted, limit=limit, gain=0.3),
        ]
        return list(separate(models, readers, plan)), models

    single, alone = run(1)
    assert {size for model in alone for size in model.sizes} == {1}
    for limit in (2, 3, 16):
        blocks, models = run(limit)
        assert max(size for model in models for size in model.sizes) > 1
        assert all(size <= limit for model in models for size in model.sizes)
        assert [(block.item, block.start) for block in blocks] == [
            (block.item, block.start) for block in single
        ]
        for block, other in zip(blocks, single, strict=True):
            np.testing.assert_array_equal(block.stems, other.stems)


@pytest.mark.parametrize("wanted", INPUTS)
@pytest.mark.parametrize(("shifts", "overlap"), [(0, 0.25), (0, 0.0), (3, 0.61)])
def test_models_that_give_back_what_they_hear_give_the_mixture(
    wanted: str, shifts: int, overlap: float
) -> None:
    plan = SeparationPlan(SOURCES, overlap, shifts, 5)
    for frames in (1, 39, 40, 41, 70, 71, 333):
        reader = ArrayReader(frames)
        models = [
            Model(40, wanted, weights=(1.0, 0.5), is_plain=True),
            Model(33, "any", weights=(0.2, 1.0), is_plain=True),
        ]
        stems = join(list(separate(models, [reader], plan)))
        want = np.stack([reader.audio, 2 * reader.audio])
        np.testing.assert_allclose(stems, want, rtol=1e-5, atol=1e-6)


def test_short_items_share_a_batch_and_are_told_one_after_the_other() -> None:
    model = Model(40, limit=4)
    readers = [ArrayReader(30, 1), ArrayReader(35, 2), ArrayReader(90, 3)]
    blocks = list(separate([model], readers, SeparationPlan(SOURCES)))
    assert model.sizes == [4, 1]
    assert [block.item for block in blocks] == [0, 1, 2, 2, 2]
    for item, reader in enumerate(readers):
        [*alone] = separate([Model(40)], [reader], SeparationPlan(SOURCES))
        np.testing.assert_array_equal(join(blocks, item), join(alone))


def test_segments_of_other_lengths_do_not_share_a_batch() -> None:
    model = Model(40, "any", limit=8)
    list(separate([model], [ArrayReader(75), ArrayReader(40)], SeparationPlan(SOURCES)))
    assert [batch.shape[::2] for batch in model.batches] == [(3, 40), (1, 15)]


def test_a_limit_that_falls_is_kept_from_the_next_batch_on() -> None:
    model = Model(40, limit=4)
    blocks = separate([model], [ArrayReader(400)], SeparationPlan(SOURCES))
    next(blocks)
    model.limit = 1
    rest = list(blocks)
    assert model.sizes == [4] + [1] * (len(rest) + 1 - 4)


def test_no_more_is_held_than_a_batch_of_each_member_whatever_the_length() -> None:
    held = []
    for frames in (500, 5_000):
        models = [Model(40, limit=4), Model(30, limit=4)]
        for _ in separate(models, [ArrayReader(frames)], SeparationPlan(SOURCES, shifts=2)):
            pass
        held.append([model.most_held for model in models])
        assert all(size <= 4 for model in models for size in model.sizes)
    assert held[0] == held[1]
    assert all(most <= 2 * 4 * 2 for most in held[1])


def test_no_more_is_held_where_lengths_of_segments_come_back_late() -> None:
    model = Model(40, "any", limit=4)
    readers = [ArrayReader(41 + frames) for frames in [*range(9)] * 4]
    list(separate([model], readers, SeparationPlan(SOURCES)))
    assert model.most_held <= 2 * 4


def test_long_answers_make_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HELD_BYTES", 3 * 4 * 2 * 2 * 40)
    model = Model(40, limit=16)
    list(separate([model], [ArrayReader(300)], SeparationPlan(SOURCES)))
    assert max(model.sizes) == 3
    monkeypatch.setattr(engine, "HELD_BYTES", 1)
    model = Model(40, limit=16)
    list(separate([model], [ArrayReader(300)], SeparationPlan(SOURCES)))
    assert set(model.sizes) == {1}


def test_a_member_is_asked_only_for_the_stems_that_it_counts_in() -> None:
    models = [Model(weights=(1.0, 0.0)), Model(weights=(0.0, 1.0)), Model(weights=(0.5, 0.0))]
    reader = ArrayReader(100)
    both = join(list(separate(models, [reader], SeparationPlan(SOURCES))))
    assert [set(model.asked) for model in models] == [{(0,)}, {(1,)}, {(0,)}]
    models = [Model(weights=(1.0, 0.0)), Model(weights=(0.0, 1.0)), Model(weights=(0.5, 0.0))]
    second = join(list(separate(models, [reader], SeparationPlan(("b",)))))
    np.testing.assert_array_equal(second[0], both[1])
    assert [len(model.batches) > 0 for model in models] == [False, True, False]


def test_what_a_batch_remarks_comes_once_with_its_first_block() -> None:
    model = Model(40, limit=2, remarks=["memory ran out"])
    blocks = list(separate([model], [ArrayReader(160)], SeparationPlan(SOURCES)))
    assert [block.remarks for block in blocks] == [("memory ran out",)] + [()] * (len(blocks) - 1)
    assert [block.is_repeatable for block in blocks] == [False] * 2 + [True] * (len(blocks) - 2)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    place=st.integers(0, 299),
    shifts=st.integers(0, 2),
    wanted=st.sampled_from(list(INPUTS)),
    origin=st.integers(0, 100),
    limit=st.integers(1, 4),
)
def test_what_is_heard_early_comes_first_and_changes_nothing(
    frames: tuple[int, int], place: int, shifts: int, wanted: str, origin: int, limit: int
) -> None:
    readers = [ArrayReader(each, each) for each in frames]
    plan = SeparationPlan(SOURCES, shifts=shifts, seed=1, origin=origin, beyond=13)

    def run(plan: SeparationPlan) -> tuple[list[Block], int]:
        models = [
            Model(40, wanted, limit=limit, weights=(1.0, 0.5)),
            Model(30, "any", limit=limit, weights=(0.2, 1.0)),
        ]
        blocks = list(separate(models, readers, plan))
        return blocks, sum(sum(model.sizes) for model in models)

    plain, segments = run(plan)
    heard, again = run(replace(plan, listen_from=place))
    assert again == segments == len(plain)
    early = heard[: len(heard) - len(plain)]
    assert all(block.is_early for block in early)
    assert [block.item for block in early] == [item for item, each in enumerate(frames) if place < each]
    for block in early:
        assert block.stems.dtype == np.float32
        assert 0 <= block.start <= place < block.start + block.stems.shape[2] <= frames[block.item]
    for block, other in zip(heard[len(early) :], plain, strict=True):
        assert (block.item, block.start, block.is_early) == (other.item, other.start, False)
        np.testing.assert_array_equal(block.stems, other.stems)


def test_only_the_segment_that_is_heard_runs_before_it_is() -> None:
    model = Model(40)
    reader = ArrayReader(400)
    blocks = separate([model], [reader], SeparationPlan(SOURCES, listen_from=185))
    early = next(blocks)
    # Of the segments that hold frame 185, at 150 and 180, the later one has more to hear.
    assert (early.start, early.stems.shape[2]) == (180, 40)
    assert model.sizes == [1]
    np.testing.assert_array_equal(model.batches[0][0], reader.audio[:, 180:220])
    assert join([early, *blocks]).shape == (2, 2, 400)


def test_what_is_heard_early_is_the_mean_of_members_and_shifts_and_becomes_the_result_where_alone() -> None:
    models = [Model(100, weights=(1.0, 0.25)), Model(100, "any", weights=(0.5, 1.0))]
    reader = ArrayReader(90)
    early, *row = separate(models, [reader], SeparationPlan(SOURCES, listen_from=0))
    assert early.start == 0
    np.testing.assert_array_equal(early.stems, join(row))
