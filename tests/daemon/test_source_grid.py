"""Regions on the grid of their source: neighbours, extensions and the whole have the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fakes import FakeSeparator
from model_files import one_thread, small_demucs, small_hdemucs, small_htdemucs, write_bag, write_th
from signals import make_music, make_noise, to_ints, write_float, write_pcm
from splits import make_request, read_set, split_to_end
from stembridge.audio_io import probe, read_blocks
from stembridge.catalog import find_model
from stembridge.dsp.resample import StreamResampler, count_frames, reach_frames
from stembridge.errors import AlignmentError, RequestError
from stembridge.model_store import locate
from stembridge.types import Region
from stembridge_daemon.worker.layout import SecondsResampler, lay_out_on_source
from stembridge_daemon.worker.models import load_separator
from stembridge_daemon.worker.separators import engine
from stembridge_daemon.worker.separators.base import Block, MixtureReader, SeparationPlan, Separator
from stembridge_daemon.worker.separators.preview import SOURCES, PreviewSeparator

Audio = NDArray[np.float32]
Signal = NDArray[np.float64]

SECONDS = 5
MODEL_HZ = 44_100
HTDEMUCS_SEGMENT = int(7.8 * MODEL_HZ)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


class WindowReader:
    """Frames ``origin`` to ``origin + frames`` of a whole, and no more than ``context`` around them.

    Mean and deviation are the whole's.
    """

    def __init__(self, whole: Audio, origin: int, frames: int, context: int) -> None:
        self._whole = whole
        self._origin = origin
        self._context = context
        self.channels = whole.shape[0]
        self.frames = frames
        average = whole.mean(axis=0, dtype=np.float64)
        self.mean, self.deviation = float(average.mean()), float(average.std(ddof=1))

    @property
    def beyond(self) -> int:
        return int(self._whole.shape[1]) - self._origin - self.frames

    def read(self, start: int, frames: int) -> Audio:
        out = np.zeros((self.channels, frames), np.float32)
        first, end = start + self._origin, start + self._origin + frames
        begin, stop = max(first, 0), min(end, self._whole.shape[1])
        if begin < stop:
            assert self._origin - self._context <= begin
            assert stop <= self._origin + self.frames + self._context
            out[:, begin - first : stop - first] = self._whole[:, begin:stop]
        return out


def join(blocks: Iterator[Block], frames: int) -> Audio:
    """Return the stems of blocks that lie in a row and cover ``frames`` frames."""
    found = list(blocks)
    ends = np.cumsum([0, *(block.stems.shape[2] for block in found)])
    assert [block.start for block in found] == ends[:-1].tolist() and ends[-1] == frames
    return np.concatenate([block.stems for block in found], axis=2)


def place_forward(gain: float) -> engine.Run:
    """Return a model that hears where in its input a sample stands, and all of the input everywhere."""

    def run(batch: Audio, indices: Sequence[int]) -> engine.Answer:
        place = np.cos(0.1 * gain * np.arange(batch.shape[2]))
        mean = batch.mean(axis=(1, 2), keepdims=True)
        stems = [np.tanh((1 + index) * gain * batch) * place + mean for index in indices]
        return engine.Answer(np.stack(stems, axis=1).astype(np.float32))

    return run


def make_members(segments: tuple[int, int]) -> list[engine.EngineMember]:
    """Return a bag of two: one fills its last input up to a segment, one hears a little to both sides."""
    first, second = segments
    return [
        engine.EngineMember(place_forward(1.0), first, lambda _: first, (1.0, 0.5)),
        engine.EngineMember(place_forward(0.7), second, lambda frames: frames + 10 - frames % 2, (0.25, 0.5)),
    ]


@settings(max_examples=100, deadline=None)
@given(
    whole=st.integers(2, 900),
    cut=st.tuples(st.integers(0, 900), st.integers(1, 900)),
    segments=st.tuples(st.integers(20, 150), st.integers(20, 150)),
    overlap=st.sampled_from([0.0, 0.1, 0.25, 0.6]),
    shifts=st.integers(0, 2),
    silence=st.integers(0, 900),
)
def test_any_part_of_any_grid_is_the_same_part_of_the_whole(
    whole: int,
    cut: tuple[int, int],
    segments: tuple[int, int],
    overlap: float,
    shifts: int,
    silence: int,
) -> None:
    mixture = 0.3 + np.random.default_rng(whole).standard_normal((2, whole)).astype(np.float32)
    mixture[:, silence : silence + 200] = 0.0
    origin = min(cut[0], whole - 1)
    frames = min(cut[1], whole - origin)
    members = make_members(segments)
    context = max(member.input_frames(member.segment_frames) for member in members)

    def run(reader: WindowReader, origin: int) -> tuple[Audio, int]:
        plan = SeparationPlan(("a", "b"), overlap, shifts, 5, origin=origin, beyond=reader.beyond)
        wanted = engine.wanted_of(plan, ("a", "b"))
        blocks = list(engine.separate(members, [reader], 200, wanted))
        assert len(blocks) == engine.count_steps(members, [reader.frames], 200, wanted)
        return join(iter(blocks), reader.frames), len(blocks)

    everything, steps = run(WindowReader(mixture, 0, whole, whole), 0)
    part, fewer = run(WindowReader(mixture, origin, frames, context), origin)
    np.testing.assert_array_equal(part, everything[..., origin : origin + frames])
    lanes = 2 * max(1, shifts)
    stride = min(int((1 - overlap) * segment) for segment in segments)
    assert fewer <= min(steps, lanes * (1 + (frames + max(segments)) // stride))


@pytest.mark.parametrize("edge", [0, 2_048])
def test_five_seconds_of_four_minutes_cost_two_or_three_segments(edge: int) -> None:
    member = engine.EngineMember(place_forward(1.0), HTDEMUCS_SEGMENT, lambda frames: frames, (1.0,))
    whole = 240 * MODEL_HZ
    counts = set()
    for second in range(1, 234):
        frames = 5 * MODEL_HZ + 2 * edge
        origin = second * MODEL_HZ - edge
        plan = SeparationPlan(("a",), origin=origin, beyond=whole - origin - frames)
        counts.add(engine.count_steps([member], [frames], MODEL_HZ, engine.wanted_of(plan, ("a",))))
    assert counts == {2, 3}
    plan = SeparationPlan(("a",), beyond=whole - 5 * MODEL_HZ)
    assert engine.count_steps([member], [5 * MODEL_HZ], MODEL_HZ, engine.wanted_of(plan, ("a",))) == 1


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize(("origin", "frames"), [(0, 30_000), (44_100, 30_000), (88_200, 44_300)])
def test_preview_has_one_grid_too(overlap: float, origin: int, frames: int) -> None:
    separator = PreviewSeparator(1.0)
    mixture = make_music(132_500, 2, MODEL_HZ).astype(np.float32)
    parts = []
    for reader, begin in (
        (WindowReader(mixture, 0, 132_500, 0), 0),
        (WindowReader(mixture, origin, frames, separator.segment_frames), origin),
    ):
        plan = SeparationPlan(SOURCES, overlap, origin=begin, beyond=reader.beyond)
        blocks = list(separator.separate([reader], plan))
        assert len(blocks) == separator.count_steps([reader.frames], plan)
        parts.append((join(iter(blocks), reader.frames), len(blocks)))
    (everything, steps), (part, fewer) = parts
    np.testing.assert_array_equal(part, everything[..., origin : origin + frames])
    assert fewer < steps


@pytest.mark.parametrize("rates", [(48_000, 44_100), (44_100, 96_000), (8_000, 44_100), (44_056, 44_100)])
def test_a_second_comes_out_the_same_wherever_the_stream_begins(rates: tuple[int, int]) -> None:
    rate_in, rate_out = rates
    signal = make_noise(5 * rate_in + 1_234, 2)
    frames = count_frames(signal.shape[1], *rates)
    whole = resample_seconds(signal, rates, origin=0, frames=frames, block=16_384)
    straight = StreamResampler(2, *rates, frames=frames)
    wanted = np.concatenate([straight.push(signal), straight.finish()], axis=1)
    # At the odd rate a stream drifts, within a second less than within five.
    assert np.abs(whole - wanted).max() < (1e-8 if rate_in != 44_056 else 1e-4)
    reach = reach_frames(*rates)
    for second, length in ((1, rate_out), (2, 2 * rate_out), (3, frames - 3 * rate_out)):
        begin = second * rate_in - reach
        end = min(signal.shape[1], begin + reach + -(-length // rate_out) * rate_in + reach)
        part = resample_seconds(signal[:, begin:end], rates, origin=reach, frames=length, block=997)
        np.testing.assert_array_equal(part, whole[:, second * rate_out :][:, :length])


def resample_seconds(
    signal: Signal, rates: tuple[int, int], *, origin: int, frames: int, block: int
) -> Signal:
    stream = SecondsResampler(2, *rates, origin=origin, frames=frames)
    blocks = [stream.push(signal[:, at : at + block]) for at in range(0, signal.shape[1], block)]
    return np.concatenate([*blocks, stream.finish()], axis=1)


def lay_down(source: Path, region: Region) -> tuple[Signal, int]:
    """Return the mixture that is laid down for a region, and where in the whole's it begins."""
    info = probe(str(source))
    layout = lay_out_on_source(info, region, FakeSeparator())
    stream = layout.resample_mixture(info.channels)
    blocks = [stream.push(block) for block in read_blocks(info, layout.heard)]
    mixture = np.concatenate([*blocks, stream.finish()], axis=1)
    assert mixture.shape[1] == layout.laid
    return mixture, region.start // info.sample_rate * MODEL_HZ - layout.context


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_a_model_sees_the_mixture_of_the_whole_wherever_it_may_look(tmp_path: Path, rate: int) -> None:
    source = make_source(tmp_path, rate)
    whole, _ = lay_down(source, Region(0, SECONDS * rate + 77))
    for region in regions_of(rate):
        part, begin = lay_down(source, region)
        np.testing.assert_array_equal(part, whole[:, begin : begin + part.shape[1]])
        reach = FakeSeparator().segment_frames
        assert begin <= max(0, region.start / rate * MODEL_HZ - reach)
        end = (region.start + region.frames) / rate * MODEL_HZ + reach
        assert begin + part.shape[1] >= min(whole.shape[1], end)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
def test_stems_come_back_to_the_sources_rate_as_the_whole_does_to_the_last_bit(
    tmp_path: Path, rate: int
) -> None:
    info = probe(str(make_source(tmp_path, rate)))
    stems = make_noise(count_frames(info.frames, rate, MODEL_HZ), 2)

    def bring_back(region: Region) -> Signal:
        layout = lay_out_on_source(info, region, FakeSeparator())
        stream = layout.resample_stems(2)
        found = stream.push(stems[:, layout.origin : layout.origin + layout.frames])
        return np.concatenate([found, stream.finish()], axis=1)

    whole = bring_back(Region(0, info.frames))
    odd = [Region(rate, frames) for frames in (1, 997, rate // 3 + 1, rate - 1, rate + 1, 2 * rate - 5)]
    for region in regions_of(rate) + odd:
        part = whole[:, region.start : region.start + region.frames]
        np.testing.assert_array_equal(bring_back(region), part)


def test_seconds_that_were_not_pushed_are_missed() -> None:
    stream = SecondsResampler(1, 48_000, 44_100, origin=0, frames=2 * 44_100)
    stream.push(make_noise(60_000, 1))
    with pytest.raises(AlignmentError):
        stream.finish()


@cache
def music_of(rate: int, channels: int) -> NDArray[np.int64]:
    """Return music on a constant, with a silent stretch, whose halves differ in level."""
    music = make_music(SECONDS * rate + 77, channels, rate) + 0.02
    music[:, : music.shape[1] // 2] *= 0.2
    music[:, 2 * rate : 2 * rate + rate // 3] = 0.0
    return to_ints(music, 24)


def make_source(folder: Path, rate: int, *, channels: int = 2) -> Path:
    return write_pcm(folder / f"x{rate}.wav", music_of(rate, channels), rate, 24)


def split(
    source: Path, separator: Separator, region: Region | None, **fields: Any
) -> tuple[dict[str, Signal], int]:
    """Return the stems of a region on its source's grid, and how many steps they took."""
    out = source.parent / f"out {region}"
    result, told = split_to_end(
        make_request(source, out, region=region, on_source_grid=True, **fields), separator
    )
    return read_set(result.folder)[1], sum(progress.stage == "separate" for progress in told)


def assert_part(part: dict[str, Signal], whole: dict[str, Signal], start: int) -> None:
    assert list(part) == list(whole) and len(part) > 2
    for name, stem in part.items():
        np.testing.assert_array_equal(stem, whole[name][:, start : start + stem.shape[1]], err_msg=name)


def regions_of(rate: int) -> list[Region]:
    """Return a beginning, two neighbours that overlap, and an end."""
    end = SECONDS * rate + 77
    return [
        Region(0, rate // 2),
        Region(rate, rate + rate // 3),
        Region(2 * rate, 2 * rate),
        Region(4 * rate, end - 4 * rate),
    ]


@pytest.mark.parametrize(
    ("rate", "channels"), [(44_100, 2), (44_056, 2), (48_000, 1), (96_000, 2), (8_000, 2)]
)
def test_stems_of_a_region_are_those_of_the_whole(tmp_path: Path, rate: int, channels: int) -> None:
    source = make_source(tmp_path, rate, channels=channels)
    whole, steps = split(source, FakeSeparator(), None)
    assert steps == -(-count_frames(SECONDS * rate + 77, rate, MODEL_HZ) // 20_000)
    for region in regions_of(rate):
        part, fewer = split(source, FakeSeparator(), region)
        assert_part(part, whole, region.start)
        assert fewer <= 2 + (region.frames / rate + 0.6) * MODEL_HZ / 20_000


def test_of_a_lossy_file_too(tmp_path: Path) -> None:
    music = make_music(3 * 48_000, 2, 48_000)
    source = write_float(tmp_path / "x.ogg", music, 48_000, "VORBIS", "OGG")
    whole, _ = split(source, FakeSeparator(), None)
    part, _ = split(source, FakeSeparator(), Region(48_000, 48_000))
    assert_part(part, whole, 48_000)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_all_of_a_source_is_split_as_without_a_grid(tmp_path: Path, rate: int) -> None:
    source = make_source(tmp_path, rate)
    on_grid, _ = split(source, FakeSeparator(), None)
    plain, _ = split_to_end(make_request(source, tmp_path / "plain"), FakeSeparator())
    for name, stem in read_set(plain.folder)[1].items():
        # Resampled in other pieces, a sample may round to the other side.
        assert np.abs(on_grid[name] - stem).max() <= (0 if rate == MODEL_HZ else 2 * 2.0**-23)


class MomentsSeparator(FakeSeparator):
    """Remembers what a model would normalise with."""

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        self.moments = readers[0].mean, readers[0].deviation
        yield from super().separate(readers, plan)


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_the_whole_source_normalises_every_region(tmp_path: Path, rate: int) -> None:
    source = make_source(tmp_path, rate)
    separator = MomentsSeparator()
    split(source, separator, None)
    whole = separator.moments
    for region in regions_of(rate):
        split(source, separator, region)
        assert separator.moments == whole
    split_to_end(make_request(source, tmp_path / "plain"), separator)
    plain = separator.moments
    assert plain == (whole if rate == MODEL_HZ else pytest.approx(whole, rel=1e-3))


def _htdemucs(folder: Path) -> Separator:
    write_th(small_htdemucs(1), folder, "955717e8")
    return _load("htdemucs", folder)


def _two_members(folder: Path) -> Separator:
    """Of two kinds and of two segment lengths."""
    write_th(small_demucs(5), folder, "ab12cd34", with_checksum=False)
    write_th(small_hdemucs(7, segment=0.7), folder, "ab12cd35", with_checksum=False)
    weights = [[1.0, 0.5, 0.2, 1.0], [0.3, 1.0, 0.2, 2.0]]
    write_bag(folder, "hdemucs_mmi", ["ab12cd34", "ab12cd35"], weights=weights)
    return _load("hdemucs_mmi", folder)


def _load(name: str, folder: Path) -> Separator:
    files = locate(find_model(name), [folder])
    assert files is not None
    return load_separator(name, files, stems=())


@pytest.mark.parametrize(
    ("make", "rate", "overlap", "shifts"),
    [
        (_htdemucs, 44_100, 0.25, 0),
        (_htdemucs, 44_100, 0.1, 2),
        (_htdemucs, 48_000, 0.25, 2),
        (_htdemucs, 96_000, 0.1, 0),
        (_two_members, 44_100, 0.25, 2),
        (_two_members, 48_000, 0.1, 0),
    ],
)
def test_a_real_model_gives_a_region_as_it_gives_the_whole(
    tmp_path: Path, make: Callable[[Path], Separator], rate: int, overlap: float, shifts: int
) -> None:
    separator = make(tmp_path)
    source = make_source(tmp_path, rate)
    options = {"overlap": overlap, "shifts": shifts, "seed": 3}
    whole, steps = split(source, separator, None, **options)
    beginning, one, two, end = regions_of(rate)
    parts = {}
    for region in (beginning, one, two, end):
        parts[region], fewer = split(source, separator, region, **options)
        assert fewer < steps
        assert_part(parts[region], whole, region.start)
    shared = one.start + one.frames - two.start
    for name, stem in parts[two].items():
        np.testing.assert_array_equal(parts[one][name][:, -shared:], stem[:, :shared])


@pytest.mark.parametrize("start", [1, 44_100, 48_001])
def test_a_region_that_begins_within_a_second_is_refused(tmp_path: Path, start: int) -> None:
    source = make_source(tmp_path, 48_000)
    before = start - start % 48_000
    with pytest.raises(RequestError, match=f"region from frame {start} of .* {before}"):
        split(source, FakeSeparator(), Region(start, 1_000))
    assert not list(tmp_path.glob("out*/*"))
