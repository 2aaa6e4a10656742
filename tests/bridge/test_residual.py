"""The residual's way into the stems: what each policy promises, and that the cut into blocks is not heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals import make_music, make_noise
from stembridge.dsp.resample import count_frames, resample_blocks
from stembridge.dsp.residual import check_policy, find_residual, route_residual
from stembridge.errors import RequestError
from stembridge.synthesis import STEM_NAMES, make_song
from stembridge.types import ResidualPolicy

Signal = NDArray[np.float64]

MODEL_HZ = 44_100
FOLDS = [policy for policy in ResidualPolicy if policy.is_fold]
NAMES = ("other", *(f"stem{index}" for index in range(11)))


def cut(mixture: Signal, stems: Signal, sizes: Sequence[int]) -> Iterator[tuple[Signal, Signal]]:
    edges = [0, *np.cumsum(sizes), mixture.shape[1]]
    for begin, end in pairwise(edges):
        yield mixture[:, begin:end], stems[:, :, begin:end]


def route(
    policy: ResidualPolicy,
    mixture: Signal,
    stems: Signal,
    *,
    rate: int = 48_000,
    model_rate: int = MODEL_HZ,
    sizes: Sequence[int] = (),
    names: Sequence[str] | None = None,
) -> Signal:
    routed = list(
        route_residual(
            policy,
            cut(mixture, stems, sizes),
            NAMES[: len(stems)] if names is None else names,
            sample_rate=rate,
            model_rate=model_rate,
        )
    )
    assert policy is ResidualPolicy.OWN or rate <= model_rate or all(b.flags.c_contiguous for b in routed)
    assert [block.shape for block in routed] == [block.shape for _, block in cut(mixture, stems, sizes)]
    return np.concatenate(routed, axis=2)


def make_stems(count: int, channels: int, frames: int, seed: int, level: float = 0.25) -> Signal:
    return make_noise(frames, count * channels, seed=seed, level=level).reshape(count, channels, frames)


def in_db(ratio: float) -> float:
    return float(10 * np.log10(max(ratio, 1e-99)))


def sdr_db(truth: Signal, estimate: Signal) -> float:
    return in_db(float(np.sum(truth**2)) / max(float(np.sum((truth - estimate) ** 2)), 1e-99))


def hear_at_model_rate(signal: Signal, rate: int) -> Signal:
    """Return what is left of ``signal`` on the way to the model's rate and back."""
    frames = signal.shape[1]
    down = resample_blocks([signal], len(signal), rate, MODEL_HZ, frames=count_frames(frames, rate, MODEL_HZ))
    back = resample_blocks(list(down), len(signal), MODEL_HZ, rate, frames=frames)
    return np.concatenate(list(back), axis=1)


def band_energy(signal: Signal, rate: int, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(signal * np.hanning(signal.shape[-1]))) ** 2
    pitch_hz = np.fft.rfftfreq(signal.shape[-1], 1 / rate)
    return float(power[..., (pitch_hz >= low_hz) & (pitch_hz < high_hz)].sum())


# --- every policy ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    policy=st.sampled_from(list(ResidualPolicy)),
    count=st.integers(1, 5),
    channels=st.integers(1, 3),
    frames=st.one_of(st.integers(1, 3), st.integers(4, 30_000)),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_no_cut_into_blocks_is_heard(
    policy: ResidualPolicy, count: int, channels: int, frames: int, seed: int, data: st.DataObject
) -> None:
    stems = make_stems(count, channels, frames, seed)
    mixture = make_noise(frames, channels, seed=seed // 2 + 1)
    kept = mixture.copy(), stems.copy()
    edges = sorted(data.draw(st.lists(st.integers(0, frames), max_size=6)))
    sizes = np.diff([0, *edges]).tolist()
    # 8 kHz: segments are short, so that 30,000 frames hold several.
    whole = route(policy, mixture, stems, rate=8_000, model_rate=5_512)
    assert np.array_equal(whole, route(policy, mixture, stems, rate=8_000, model_rate=5_512, sizes=sizes))
    assert np.array_equal(mixture, kept[0])
    assert np.array_equal(stems, kept[1])
    if policy.is_fold:
        assert np.abs(whole.sum(axis=0) - mixture).max() < 1e-12


@pytest.mark.parametrize("policy", ResidualPolicy)
def test_blocks_of_one_frame_give_what_one_block_gives(policy: ResidualPolicy) -> None:
    stems, mixture = make_stems(12, 1, 5_000, 1), make_noise(5_000, 1, seed=2)
    singles = route(policy, mixture, stems, rate=8_000, model_rate=5_512, sizes=[1] * 4_999)
    assert np.array_equal(singles, route(policy, mixture, stems, rate=8_000, model_rate=5_512))


@pytest.mark.parametrize("policy", FOLDS)
@pytest.mark.parametrize("frames", [1, 2, 3, 1_023, 1_024, 1_025, 2_048, 70_001])
@pytest.mark.parametrize("rate", [8_000, 48_000, 96_000])
def test_folded_stems_sum_to_the_mixture_from_first_to_last(
    policy: ResidualPolicy, frames: int, rate: int
) -> None:
    stems, mixture = make_stems(4, 2, frames, 3), make_noise(frames, 2, seed=4)
    routed = route(policy, mixture, stems, rate=rate)
    assert np.abs(routed.sum(axis=0) - mixture).max() < 1e-12


@pytest.mark.parametrize("policy", FOLDS)
@pytest.mark.parametrize("level", [2.0**16, 1e-30, 1e-160, 5e-324])
def test_a_fold_closes_at_any_level(policy: ResidualPolicy, level: float) -> None:
    stems, mixture = make_stems(3, 1, 9_000, 5, level), make_noise(9_000, 1, seed=6, level=level)
    routed = route(policy, mixture, stems)
    assert np.abs(routed.sum(axis=0) - mixture).max() <= max(1e-14 * level, 1e-320)


@pytest.mark.parametrize("policy", ResidualPolicy)
def test_nothing_looks_ahead_farther_than_a_few_seconds(policy: ResidualPolicy) -> None:
    frames, asked, given_back, farthest = 1_000, 0, 0, 0

    def feed() -> Iterator[tuple[Signal, Signal]]:
        nonlocal asked, farthest
        for _ in range(200):
            farthest = max(farthest, asked - given_back)
            asked += frames
            yield np.zeros((1, frames)), np.zeros((2, 1, frames))

    for block in route_residual(policy, feed(), ("drums", "other"), sample_rate=8_000, model_rate=4_000):
        given_back += block.shape[2]
    assert given_back == 200 * frames
    assert farthest <= (30_000 if policy in (ResidualPolicy.TF, ResidualPolicy.HF_ENVELOPE) else 0)


@pytest.mark.parametrize("policy", ResidualPolicy)
def test_a_caller_may_fill_the_same_array_again(policy: ResidualPolicy) -> None:
    stems, mixture = make_stems(2, 1, 12_000, 7), make_noise(12_000, 1, seed=8)

    def feed() -> Iterator[tuple[Signal, Signal]]:
        block, stack = np.empty((1, 1_000)), np.empty((2, 1, 1_000))
        for begin in range(0, 12_000, 1_000):
            block[:] = mixture[:, begin : begin + 1_000]
            stack[:] = stems[:, :, begin : begin + 1_000]
            yield block, stack

    routed = route_residual(policy, feed(), ("other", "b"), sample_rate=8_000, model_rate=5_512)
    together = np.concatenate([block.copy() for block in routed], axis=2)
    assert np.array_equal(together, route(policy, mixture, stems, rate=8_000, model_rate=5_512))


@pytest.mark.parametrize("policy", [ResidualPolicy.TF, ResidualPolicy.HF_ENVELOPE])
def test_time_run_backwards_gives_the_same_backwards(policy: ResidualPolicy) -> None:
    """What follows the stems over time follows them from neither side: no delay, no early or late share."""
    # Whole hops and whole steps: the grids fall on themselves when turned around.
    frames = 46 * 2_048
    strokes = np.exp(-((np.arange(frames) - np.array([[20_000], [50_300]])) ** 2) / (2 * 300.0**2))
    stems = make_stems(2, 1, frames, 9) * strokes[:, None]
    mixture = stems.sum(axis=0) + make_noise(frames, 1, seed=10)
    ahead = route(policy, mixture, stems, rate=96_000)
    behind = route(policy, mixture[:, ::-1], stems[:, :, ::-1], rate=96_000)[:, :, ::-1]
    inside = slice(10_000, -10_000)
    assert np.abs(ahead - stems)[:, :, inside].max() > 0.05
    assert np.abs(ahead - behind)[:, :, inside].max() < 1e-7


@pytest.mark.parametrize("policy", [*FOLDS, ResidualPolicy.HF_ENVELOPE])
def test_channels_keep_to_themselves(policy: ResidualPolicy) -> None:
    stems, mixture = make_stems(2, 2, 30_000, 11), make_noise(30_000, 2, seed=12)
    mixture[1] = stems[:, 1].sum(axis=0)
    routed = route(policy, mixture, stems)
    assert np.abs(routed[:, 1] - stems[:, 1]).max() < 1e-12
    assert np.abs(routed[:, 0] - stems[:, 0]).max() > 0.01


@pytest.mark.parametrize("policy", ResidualPolicy)
def test_nothing_in_gives_nothing_out(policy: ResidualPolicy) -> None:
    assert list(route_residual(policy, [], ("other",), sample_rate=48_000, model_rate=MODEL_HZ)) == []
    empty = np.zeros((2, 0)), np.zeros((1, 2, 0))
    routed = list(route_residual(policy, [empty, empty], ("other",), sample_rate=48_000, model_rate=MODEL_HZ))
    assert [block.shape for block in routed] == [(1, 2, 0)] * 2


def test_other_needs_a_stem_of_that_name() -> None:
    with pytest.raises(RequestError, match="named other; there are drums, bass"):
        # Before the first block is asked for.
        route_residual(
            ResidualPolicy.OTHER, iter([]), ("drums", "bass"), sample_rate=48_000, model_rate=MODEL_HZ
        )


@pytest.mark.parametrize("policy", [policy for policy in ResidualPolicy if policy is not ResidualPolicy.OWN])
def test_no_stems_take_nothing_in(policy: ResidualPolicy) -> None:
    with pytest.raises(RequestError, match="without stems"):
        check_policy(policy, ())
    check_policy(ResidualPolicy.OWN, ())


# --- own, equal, other ----------------------------------------------------------------------------------


def test_own_leaves_every_sample() -> None:
    stems, mixture = make_stems(4, 2, 5_000, 13), make_noise(5_000, 2, seed=14)
    assert np.array_equal(route(ResidualPolicy.OWN, mixture, stems), stems)


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 6),
    channels=st.integers(1, 2),
    frames=st.integers(1, 400),
    error=st.floats(1e-3, 10.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_shares_lower_the_total_error_by_the_theorem(
    count: int, channels: int, frames: int, error: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.standard_normal((count, channels, frames))
    estimate = truth + error * draw.standard_normal((count, 1, 1)) * draw.standard_normal(truth.shape)
    mixture = truth.sum(axis=0)
    routed = route(ResidualPolicy.EQUAL, mixture, estimate)
    before, after = float(np.sum((truth - estimate) ** 2)), float(np.sum((truth - routed) ** 2))
    fall = float(np.sum(find_residual(mixture, estimate) ** 2)) / count
    assert after <= before
    assert before - after == pytest.approx(fall, rel=1e-6)


def test_other_takes_all_and_the_rest_nothing() -> None:
    stems, mixture = make_stems(3, 2, 5_000, 15), make_noise(5_000, 2, seed=16)
    routed = route(ResidualPolicy.OTHER, mixture, stems, names=("drums", "other", "vocals"))
    assert np.array_equal(routed[[0, 2]], stems[[0, 2]])
    assert np.abs(routed[1] - (mixture - stems[0] - stems[2])).max() < 1e-12


# --- tf -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", STEM_NAMES)
@pytest.mark.parametrize("bleed", [0.003, 0.03])
def test_tf_keeps_the_silence_that_the_model_left(silent: str, bleed: float) -> None:
    rate, hushed = 44_100, slice(40_000, 130_000)
    song = make_song(3, seconds=4.0, sample_rate=rate)
    index = STEM_NAMES.index(silent)
    truth = np.stack(list(song.stems.values()))
    truth[index, :, hushed] = 0.0
    mixture = truth.sum(axis=0)
    # Each stem a little low and with bleed, as separators leave them.
    estimate = 0.95 * truth + bleed * (mixture - truth)
    routed = route(ResidualPolicy.TF, mixture, estimate, rate=rate, names=STEM_NAMES)
    level = [float(np.sum(stack[index, :, hushed] ** 2)) for stack in (estimate, routed)]
    assert in_db(level[1] / level[0]) <= 1.0


def test_a_stem_of_zeros_stays_one_under_tf() -> None:
    stems, mixture = make_stems(3, 2, 60_000, 17), make_noise(60_000, 2, seed=18)
    stems[1] = 0.0
    stems[2, :, 20_000:50_000] = 0.0
    routed = route(ResidualPolicy.TF, mixture, stems)
    assert not routed[1].any()
    # A window reaches 2,047 frames beyond what sounds.
    assert not routed[2, :, 22_048:47_952].any()
    assert routed[2, :, 19_000:20_500].any()


def test_tf_gives_each_pitch_to_the_stem_that_plays_it() -> None:
    time = np.arange(96_000) / 48_000
    pitches = (437.0, 1_911.0, 7_003.0)
    tones = np.stack([np.sin(2 * np.pi * pitch * time)[None] for pitch in pitches])
    estimate = np.array([0.9, 0.8, 1.1])[:, None, None] * tones
    routed = route(ResidualPolicy.TF, tones.sum(axis=0), estimate)
    for tone, stem in zip(tones, routed, strict=True):
        assert sdr_db(tone[:, 3_000:-3_000], stem[:, 3_000:-3_000]) > 60.0


def test_tf_shares_by_power() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(48_000) / 48_000)[None]
    stems = np.stack([0.6 * tone, 0.3 * tone])
    gain = route(ResidualPolicy.TF, 1.0 * tone, stems) - stems
    inside = slice(3_000, -3_000)
    assert np.abs(gain[0] - 0.08 * tone)[:, inside].max() < 1e-9
    assert np.abs(gain[1] - 0.02 * tone)[:, inside].max() < 1e-9


def test_tf_shares_equally_where_no_stem_sounds() -> None:
    mixture = make_noise(20_000, 2, seed=19)
    routed = route(ResidualPolicy.TF, mixture, np.zeros((4, 2, 20_000)))
    assert np.abs(routed - mixture / 4).max() < 1e-12


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000, 192_000])
def test_tf_hears_with_the_same_sharpness_at_every_rate(rate: int) -> None:
    time = np.arange(rate) / rate
    tones = np.stack([np.sin(2 * np.pi * pitch * time)[None] for pitch in (500.0, 700.0)])
    routed = route(ResidualPolicy.TF, tones.sum(axis=0), 0.5 * tones, rate=rate)
    inside = slice(rate // 10, -rate // 10)
    assert sdr_db(tones[0][:, inside], routed[0][:, inside]) > 40.0
    # A stem that sounds in the second half only takes in nothing 0.1 s before.
    late = tones.copy()
    late[1, :, : rate // 2] = 0.0
    routed = route(ResidualPolicy.TF, 2.0 * tones[0], late, rate=rate)
    assert not routed[1, :, : int(0.4 * rate)].any()


# --- hf_envelope ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 44_056, 44_100])
def test_where_the_model_heard_everything_hf_envelope_changes_nothing(rate: int) -> None:
    stems, mixture = make_stems(2, 2, 5_000, 20), make_noise(5_000, 2, seed=21)
    assert np.array_equal(route(ResidualPolicy.HF_ENVELOPE, mixture, stems, rate=rate), stems)


@pytest.mark.parametrize("frames", [1, 2, 3, 1_001])
def test_hf_envelope_stands_short_items(frames: int) -> None:
    stems, mixture = make_stems(2, 2, frames, 22), make_noise(frames, 2, seed=23)
    routed = route(ResidualPolicy.HF_ENVELOPE, mixture, stems, rate=96_000)
    assert np.abs(routed).max() < 4.0


@pytest.mark.parametrize("seed", [0, 1])
def test_what_the_model_could_not_hear_goes_to_the_drums(seed: int) -> None:
    rate = 96_000
    song = make_song(seed, seconds=4.0, sample_rate=rate)
    truth = np.stack(list(song.stems.values()))
    mixture = truth.sum(axis=0)
    oracle = np.stack([hear_at_model_rate(stem, rate) for stem in truth])
    routed = route(ResidualPolicy.HF_ENVELOPE, mixture, oracle, rate=rate, names=STEM_NAMES)
    gain_db = [sdr_db(t, r) - sdr_db(t, o) for t, o, r in zip(truth, oracle, routed, strict=True)]
    assert gain_db[0] > 15.0
    assert min(gain_db) > -6.0
    equal = route(ResidualPolicy.EQUAL, mixture, oracle, rate=rate, names=STEM_NAMES)
    assert sdr_db(truth[0], routed[0]) > sdr_db(truth[0], equal[0]) + 12.0
    high = [band_energy(s, rate, 22_100, 48_000) for s in (truth[0] - routed[0], truth[0])]
    assert in_db(high[1] / high[0]) > 15.0


def test_strokes_close_to_each_other_get_each_their_own_high_end() -> None:
    rate, frames = 96_000, 48_000
    truth = np.zeros((2, 1, frames))
    for index, begin in ((0, 20_000), (1, 22_400), (0, 24_800)):
        truth[index, 0, begin : begin + 960] = make_noise(960, 1, seed=begin)[0]
    mixture = truth.sum(axis=0)
    oracle = np.stack([hear_at_model_rate(stem, rate) for stem in truth])
    routed = route(ResidualPolicy.HF_ENVELOPE, mixture, oracle, rate=rate)
    for index in (0, 1):
        assert sdr_db(truth[index], oracle[index]) < 5.0
        assert sdr_db(truth[index], routed[index]) > 30.0


@pytest.mark.parametrize("rate", [48_000, 88_200, 96_000, 192_000])
def test_hf_envelope_touches_nothing_below_20_khz(rate: int) -> None:
    frames = 2 * rate
    stems = np.stack([make_music(frames, 1, rate, seed=seed) for seed in (1, 2)])
    stems += make_stems(2, 1, frames, 24, 0.01)
    # The model's own mistakes, far larger than what it could not hear.
    mixture = stems.sum(axis=0) + make_music(frames, 1, rate, seed=3) + make_noise(frames, 1, seed=25)
    moved = route(ResidualPolicy.HF_ENVELOPE, mixture, stems, rate=rate) - stems
    left = find_residual(mixture, stems)
    low = band_energy(moved, rate, 0, 19_500) / band_energy(left, rate, 0, 19_500)
    assert in_db(low) < -80.0
    high = band_energy(left - moved.sum(axis=0), rate, 22_100, rate) / band_energy(left, rate, 22_100, rate)
    assert in_db(high) < -80.0


def test_what_the_stems_hold_up_there_is_not_given_twice() -> None:
    rate = 96_000
    stems = make_stems(2, 1, rate, 26)
    routed = route(ResidualPolicy.HF_ENVELOPE, stems.sum(axis=0), stems, rate=rate)
    assert np.abs(routed - stems).max() < 1e-12


def test_without_a_stem_just_below_the_high_end_stays_in_the_residual() -> None:
    rate = 96_000
    time = np.arange(rate) / rate
    mixture = make_noise(rate, 1, seed=27)
    # A bass has no envelope up there, whatever a filter lets through of it.
    bass = 0.5 * np.sin(2 * np.pi * 61.0 * time) * np.hanning(rate)
    for stems in (np.zeros((2, 1, rate)), np.stack([bass[None], np.zeros((1, rate))])):
        routed = route(ResidualPolicy.HF_ENVELOPE, mixture, stems, rate=rate)
        assert np.array_equal(routed, stems)


def test_a_stem_below_the_band_gets_nothing_beside_one_in_it() -> None:
    rate = 96_000
    time = np.arange(rate) / rate
    stems = np.stack([np.sin(2 * np.pi * pitch * time)[None] for pitch in (10_500.0, 13_000.0, 21_500.0)])
    stems[1] *= 0.01
    mixture = stems.sum(axis=0) + make_noise(rate, 1, seed=28)
    moved = route(ResidualPolicy.HF_ENVELOPE, mixture, stems, rate=rate) - stems
    inside = slice(5_000, -5_000)
    energy = (moved[:, :, inside] ** 2).sum(axis=(1, 2))
    assert in_db(energy[0] / energy[1]) < -60.0
    assert in_db(energy[2] / energy[1]) < -60.0


@pytest.mark.parametrize(
    ("policy", "frames", "late"),
    [(ResidualPolicy.TF, 131_572, 3_072), (ResidualPolicy.HF_ENVELOPE, 440_000, 34_240)],
)
def test_a_later_start_moves_everything_and_changes_nothing(
    policy: ResidualPolicy, frames: int, late: int
) -> None:
    """Segments lie elsewhere in what is heard; hops and steps do not."""
    rate = 96_000 if policy is ResidualPolicy.HF_ENVELOPE else 48_000
    stems, mixture = make_stems(2, 1, frames, 30), make_noise(frames, 1, seed=31)
    begin = np.zeros((3, 1, late))
    moved = route(
        policy,
        np.concatenate([begin[0], mixture], axis=1),
        np.concatenate([begin[1:], stems], axis=2),
        rate=rate,
    )
    # Before the first frame a resampler supposes more than zeros.
    inside = slice(5_000, -5_000) if policy is ResidualPolicy.HF_ENVELOPE else slice(None)
    there = moved[:, :, late:][:, :, inside]
    assert np.abs(there - route(policy, mixture, stems, rate=rate)[:, :, inside]).max() < 1e-12


def test_seams_between_segments_are_not_heard() -> None:
    rate = 96_000
    frames = 4 * rate
    time = np.arange(frames) / rate
    stems = make_stems(2, 1, frames, 29)
    high = 0.1 * np.sin(2 * np.pi * 30_011.0 * time)[None]
    moved = route(ResidualPolicy.HF_ENVELOPE, stems.sum(axis=0) + high, stems, rate=rate) - stems
    inside = slice(10_000, -10_000)
    assert np.abs(moved.sum(axis=0) - high)[:, inside].max() < 1e-9
