"""Alignment: what is applied is right to 0.01 frames, everything else is left alone or refused by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, lfilter

from stembridge.dsp.align import Alignment, Decision, choose_stretches, estimate_alignments
from stembridge.dsp.delay_line import Reader, make_reader
from stembridge.synthesis import STEM_NAMES, make_song
from stembridge_daemon.worker.separators.preview import split_segment

Signal = NDArray[np.float64]

RATE = 22_050
PROMISED_FRAMES = 0.01


@cache
def song(seed: int) -> tuple[Signal, ...]:
    """Return four stems, (2, frames); nobody writes to them."""
    return tuple(make_song(seed, seconds=5.0, sample_rate=RATE).stems.values())


@cache
def far_song() -> tuple[Signal, ...]:
    return tuple(make_song(3, seconds=14.0, sample_rate=RATE).stems.values())


def displace(signal: Signal, frames: float) -> Signal:
    """Return ``signal`` late by ``frames``, by turning the phases of its whole spectrum."""
    whole = int(np.floor(frames))
    length = signal.shape[1]
    size = 1 << (length + 8_192).bit_length()
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size * (frames - whole))
    signal = np.fft.irfft(np.fft.rfft(signal, size) * turn, size)[:, :length] if frames != whole else signal
    return make_reader(signal)(-whole, length)


def level(signal: Signal) -> float:
    return float(np.sqrt(np.mean(signal**2)))


def estimate(mixture: Signal, stems: Sequence[Signal], rate: int = RATE) -> tuple[Alignment, ...]:
    return estimate_alignments(
        make_reader(mixture), [make_reader(stem) for stem in stems], rate, mixture.shape[1]
    )


# --- stems as separators and transports leave them ------------------------------------------------------


def perfect(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    return list(stems)


def bleeding(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    shares = draw.uniform(0, 0.2, (len(stems), len(stems)))
    return [
        stem + sum(share * each for share, each in zip(row, stems, strict=True) if each is not stem)
        for row, stem in zip(shares, stems, strict=True)
    ]


def noisy(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    return [
        stem + 10 ** (draw.uniform(-40, -20) / 20) * level(stem) * draw.standard_normal(stem.shape)
        for stem in stems
    ]


def wrong_in_a_band(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    out = []
    for stem in stems:
        cycles = np.fft.rfftfreq(stem.shape[1])
        low = draw.uniform(0, 0.3)
        spectrum = np.fft.rfft(draw.standard_normal(stem.shape)) * ((cycles > low) & (cycles < low + 0.2))
        error = np.fft.irfft(spectrum, stem.shape[1])
        out.append(stem + 10 ** (draw.uniform(-30, -10) / 20) * level(stem) / level(error) * error)
    return out


def at_other_gains(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    return [10 ** (draw.uniform(-4, 4) / 20) * stem for stem in stems]


def masked(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    """Return what masks on the mixture's spectrum leave, as most separators work: errors sum to zero."""
    size, hop = 2_048, 512
    window = np.hanning(size + 1)[:-1]

    def spectra(signal: Signal) -> NDArray[np.complex128]:
        padded = np.pad(signal, ((0, 0), (size, size)))
        return np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop] * window)

    levels = [np.abs(spectra(stem)) for stem in stems]
    levels = [each * np.exp(draw.normal(0, 0.6, each.shape)) + 1e-9 for each in levels]
    mixture = spectra(np.sum(stems, axis=0))
    out = []
    for each in levels:
        pieces = np.fft.irfft(mixture * each / np.sum(levels, axis=0), size) * window / 1.5
        signal = np.zeros((len(stems[0]), pieces.shape[1] * hop + size))
        for step in range(pieces.shape[1]):
            signal[:, step * hop : step * hop + size] += pieces[:, step]
        out.append(signal[:, size : size + stems[0].shape[1]])
    return out


def masked_and_coded(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    return [stem + 10**-1.5 * level(stem) * draw.standard_normal(stem.shape) for stem in masked(draw, stems)]


def at_another_rate_and_back(draw: np.random.Generator, stems: Sequence[Signal]) -> list[Signal]:
    up = RATE * 160 / 147
    return [
        make_reader(soxr.resample(soxr.resample(stem.T, RATE, up), up, RATE).T)(0, stem.shape[1])
        for stem in stems
    ]


Transport = Callable[[np.random.Generator, Sequence[Signal]], list[Signal]]
TRANSPORTS: tuple[Transport, ...] = (
    perfect, bleeding, noisy, wrong_in_a_band, at_other_gains, masked, masked_and_coded,
    at_another_rate_and_back,
)  # fmt: skip


def draw_delay(draw: np.random.Generator) -> float:
    delay = draw.uniform(-2048, 2048)
    return float(delay if draw.random() < 0.6 else round(delay))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_applied_is_right(transport: Transport) -> None:
    """Seven sets of four stems per transport: all at one place, each at its own, or one elsewhere."""
    draw = np.random.default_rng(TRANSPORTS.index(transport))
    found: Counter[tuple[str, Decision]] = Counter()
    for case in range(7):
        true = song(case % 4)
        stems = transport(draw, true)
        delays = [draw_delay(draw)] * 4
        if case % 3 == 1:
            delays = [draw_delay(draw) for _ in true]
        elif case % 3 == 2:
            delays[draw.integers(4)] = draw_delay(draw)
        polarities = draw.choice([-1, 1], 4)
        given = [
            polarity * displace(stem, delay)
            for polarity, stem, delay in zip(polarities, stems, delays, strict=True)
        ]
        aligned = estimate(np.sum(true, axis=0), given)
        for name, one, delay, polarity in zip(STEM_NAMES, aligned, delays, polarities, strict=True):
            found[name, one.decision] += 1
            told = f"{transport.__name__} {case} {name}: {delay} {polarity} gave {one}"
            assert one.decision is not Decision.ALIGNED, told
            assert bool(one.reason) == (one.decision in (Decision.REFUSED, Decision.INHERITED)), told
            if one.is_applied:
                assert abs(one.delay_frames - delay) <= PROMISED_FRAMES, told
                assert one.polarity == polarity, told
    applied = sum(
        count
        for (name, decision), count in found.items()
        if decision is not Decision.REFUSED and name != "bass"
    )
    assert applied >= 17, found


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_stems_in_their_place_are_left_there(transport: Transport) -> None:
    draw = np.random.default_rng(50 + TRANSPORTS.index(transport))
    for seed in range(7):
        true = song(seed % 4)
        stems = transport(draw, true)
        aligned = estimate(np.sum(true, axis=0), stems)
        assert not any(one.is_applied for one in aligned), aligned
        assert sum(one.decision is Decision.ALIGNED for one in aligned) >= 3, aligned


def test_output_of_a_separator_is_left_there() -> None:
    """The one that needs no model, on songs at its own rate."""
    for seed in (11, 12):
        mixture = make_song(seed, seconds=4.0, sample_rate=44_100).mixture
        stems = split_segment(mixture.astype(np.float32)).astype(np.float64)
        assert [one.decision for one in estimate(mixture, list(stems), 44_100)] == [Decision.ALIGNED] * 4


# --- what must be refused -------------------------------------------------------------------------------


def refused(one: Alignment) -> str:
    """Return why; fail if it was not refused."""
    assert one.decision is Decision.REFUSED, one
    assert not one.is_applied
    return one.reason


@pytest.mark.parametrize("delay", [0.0, 700.0])
def test_a_stem_of_another_recording_is_refused_and_the_others_are_not(delay: float) -> None:
    stems = [displace(stem, delay) for stem in song(0)]
    stems[3] = displace(song(1)[3], delay)
    *others, foreign = estimate(np.sum(song(0), axis=0), stems)
    assert "too little of it is in the mixture" in refused(foreign)
    for one in others[:1] + others[2:]:
        assert delay or one.decision is Decision.ALIGNED, one
        assert abs(one.delay_frames - delay) < PROMISED_FRAMES


def test_stems_of_another_song_are_all_refused() -> None:
    for one in estimate(np.sum(song(2), axis=0), song(3)):
        refused(one)


def test_noise_is_refused() -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(song(0)[0].shape)
    (one,) = estimate(np.sum(song(0), axis=0), [noise])
    assert "too little of it is in the mixture" in refused(one)


def test_a_silent_stem_goes_where_the_others_go() -> None:
    silent = np.zeros_like(song(0)[0])
    mixture = np.sum(song(0), axis=0)
    for delay, decision in ((0.0, Decision.ALIGNED), (512.0, Decision.INHERITED)):
        *_, one = estimate(mixture, [*(displace(stem, delay) for stem in song(0)), silent])
        assert (one.delay_frames, one.polarity, one.decision) == (delay, 1, decision)
    (alone,) = estimate(mixture, [silent])
    assert (alone.decision, alone.reason) == (Decision.ALIGNED, "silent: there is nothing to place")
    for one in estimate(silent, song(0)):
        assert refused(one) == "the mixture is silent"


@pytest.mark.parametrize("frames", [1, 17, RATE // 5])
def test_an_item_too_short_to_tell_is_refused(frames: int) -> None:
    stems = [displace(stem, 100.0)[:, RATE : RATE + frames] for stem in song(0)]
    mixture = np.sum([stem[:, RATE : RATE + frames] for stem in song(0)], axis=0)
    for one in estimate(mixture, stems):
        assert refused(one) == "the item is too short to measure it"


@pytest.mark.parametrize("speed", [44_100 / 44_056, 1 + 1e-4, 1 + 1e-5])
def test_a_stem_at_another_speed_is_refused(speed: float) -> None:
    true = song(1)
    frames = true[0].shape[1]
    stems = [make_reader(soxr.resample(stem.T, RATE, RATE * speed).T)(-400, frames) for stem in true]
    for one in estimate(np.sum(true, axis=0), stems):
        refused(one)


def test_a_stem_whose_delay_jumps_is_refused() -> None:
    stems = [displace(stem, 300.0) for stem in song(0)]
    half = stems[0].shape[1] // 2
    stems[0] = np.concatenate([stems[0][:, :half], displace(stems[0], 0.5)[:, half:]], axis=1)
    drums, *_ = estimate(np.sum(song(0), axis=0), stems)
    refused(drums)


def test_a_filter_that_turns_phases_is_no_delay() -> None:
    """A causal equaliser delays every frequency by another amount: none of them is the stem's."""
    numerator, denominator = butter(2, 0.3)
    filtered = [lfilter(numerator, denominator, displace(stem, 200.0)) for stem in song(0)]
    for one in estimate(np.sum(song(0), axis=0), filtered):
        refused(one)


def test_phases_that_are_all_turned_alike_are_no_delay() -> None:
    def turned(signal: Signal) -> Signal:
        spectrum = np.fft.rfft(displace(signal, 200.0), 1 << 18)
        return np.asarray(np.fft.irfft(spectrum * np.exp(0.3j), 1 << 18)[:, : signal.shape[1]])

    for one in estimate(np.sum(song(0), axis=0), [turned(stem) for stem in song(0)]):
        assert "phase is turned" in refused(one)


def test_a_stem_that_holds_too_much_of_another_is_not_turned_over() -> None:
    """Least squares alone would take the surplus out again by a negative answer for the bass."""
    drums, bass, other, vocals = song(2)
    stems = [displace(stem, 400.0) for stem in (drums + 1.7 * bass, bass, other, vocals)]
    for one in estimate(np.sum(song(2), axis=0), stems):
        assert one.polarity == 1 or not one.is_applied


def test_music_that_repeats_within_the_reach_is_not_moved() -> None:
    """A loop of 0.1 s is the same one loop later."""
    loops = [np.tile(stem[:, RATE : RATE + 2_205], (1, 60)) for stem in song(3)]
    for one in estimate(np.sum(loops, axis=0), [displace(loop, 1_000.0) for loop in loops]):
        assert not one.is_applied, one


def test_a_stem_that_is_given_twice_is_not_placed_by_chance() -> None:
    true = song(0)
    stems = [displace(stem, 150.0) for stem in (true[0], true[1], true[3], true[3])]
    for one in estimate(np.sum(true, axis=0), stems):
        assert not one.is_applied or abs(one.delay_frames - 150.0) < PROMISED_FRAMES


# --- a stem among others --------------------------------------------------------------------------------


def steady_bass(frames: int) -> Signal:
    time = np.arange(frames) / RATE
    tone = sum(np.sin(2 * np.pi * 55.0 * k * time) / k for k in (1, 2, 3))
    return 0.1 * np.stack([tone, tone])


def test_a_steady_bass_inherits_what_the_others_agree_on() -> None:
    draw = np.random.default_rng(4)
    drums, _, other, vocals = song(0)
    frames = drums.shape[1]
    true = (drums, steady_bass(frames + 4_096)[:, 2_048:-2_048], other, vocals)
    for polarity in (1, -1):
        stems = noisy(draw, [displace(stem, 1_105.0) for stem in true])
        stems[1] = polarity * stems[1]
        bass = estimate(np.sum(true, axis=0), stems)[1]
        assert bass.decision is Decision.INHERITED, bass
        assert (bass.delay_frames, bass.polarity) == (1_105.0, polarity)
        assert bass.reason == "as the other stems are"
    assert not estimate(np.sum(true, axis=0), [stems[1]])[0].is_applied


@pytest.mark.parametrize("delay", [1_205.0, 1_305.5, 1_105.5, 1_104.3, 1_095.0])
def test_a_bass_elsewhere_does_not_inherit(delay: float) -> None:
    """Half a period away, and so near that only its phase tells."""
    draw = np.random.default_rng(5)
    drums, _, other, vocals = song(0)
    true = (drums, steady_bass(drums.shape[1]), other, vocals)
    stems = noisy(draw, [displace(stem, 1_105.0) for stem in true])
    stems[1] = noisy(draw, [displace(true[1], delay)])[0]
    bass = estimate(np.sum(true, axis=0), stems)[1]
    assert not bass.is_applied or abs(bass.delay_frames - delay) < PROMISED_FRAMES, bass


@pytest.mark.parametrize(("seed", "stem"), [(1, 3), (2, 2)])
def test_a_delay_that_is_not_known_to_a_hundredth_is_refused(seed: int, stem: int) -> None:
    """One stem against all others: what five seconds tell of it is not enough."""
    (one,) = estimate(np.sum(song(seed), axis=0), [displace(song(seed)[stem], 77.25)])
    assert abs(one.delay_frames - 77.25) < 5 * one.delay_se
    assert one.delay_se > 0.0025
    assert "is known to" in refused(one)


@pytest.mark.parametrize("delay", [0.06, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, -0.12, -0.7])
def test_a_stem_of_which_little_is_known_is_not_called_aligned(delay: float) -> None:
    """Each of four stems against all others: aligned is said up to 0.05 frames and four errors of 0.05."""
    for seed in range(4):
        mixture = np.sum(song(seed), axis=0)
        for stem in song(seed):
            (one,) = estimate(mixture, [displace(stem, delay)])
            if one.decision is Decision.ALIGNED:
                assert abs(delay) <= 0.05 + 4 * 0.05, one
                assert abs(one.delay_frames - delay) <= max(PROMISED_FRAMES, 4 * one.delay_se)
                assert one.delay_se <= 0.05
            elif one.is_applied:
                assert abs(one.delay_frames - delay) <= PROMISED_FRAMES, one


@pytest.mark.parametrize(("seed", "stem", "delay"), [(2, 1, 0.8), (1, 1, 0.3), (3, 2, 0.3)])
def test_a_delay_that_may_be_none_is_refused_by_its_error(seed: int, stem: int, delay: float) -> None:
    true = tuple(make_song(seed, seconds=6.0, sample_rate=RATE).stems.values())
    (one,) = estimate(np.sum(true, axis=0), [displace(true[stem], delay)])
    assert one.delay_se > 0.05
    assert "its delay is known to" in refused(one)


@pytest.mark.parametrize("speed", [1e-5, 3e-6])
def test_a_drifting_stem_inherits_nothing_from_stems_that_do_not_drift(speed: float) -> None:
    true = song(1)
    stems = noisy(np.random.default_rng(0), [displace(stem, 300.0) for stem in true])
    drifting = soxr.resample(stems[0].T, RATE, RATE * (1 + speed)).T
    stems[0] = make_reader(drifting)(0, stems[0].shape[1])
    drums, *others = estimate(np.sum(true, axis=0), stems)
    assert "changes along the item" in refused(drums)
    assert all(one.is_applied for one in others[1:])


# --- beyond the reach -----------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [6_000, 44_100, 110_250])
@pytest.mark.parametrize("sign", [1, -1])
def test_stems_far_off_are_placed(delay: int, sign: int) -> None:
    """Up to five seconds of fourteen."""
    true = far_song()
    for one in estimate(np.sum(true, axis=0), [displace(stem, sign * delay) for stem in true]):
        assert one.decision in (Decision.CORRECTED, Decision.INHERITED), one
        assert one.delay_frames == sign * delay


@pytest.mark.parametrize(("index", "delay"), [(0, 6_000.0), (3, -44_100.25)])
def test_one_stem_far_off_does_not_move_the_others(index: int, delay: float) -> None:
    true = far_song()
    given = [displace(stem, delay) if at == index else stem for at, stem in enumerate(true)]
    for at, one in enumerate(estimate(np.sum(true, axis=0), given)):
        if at == index:
            assert one.decision is Decision.CORRECTED, one
            assert abs(one.delay_frames - delay) < PROMISED_FRAMES
        else:
            assert one.decision is Decision.ALIGNED, one


@pytest.mark.parametrize("delay", [6_000.0, -30_000.0, 50_000.0])
@pytest.mark.parametrize("turns", [2, 8])
def test_a_loop_far_off_is_refused_rather_than_placed_a_turn_off(delay: float, turns: int) -> None:
    loops = [np.tile(stem[:, RATE : 3 * RATE], (1, turns)) for stem in song(3)]
    for one in estimate(np.sum(loops, axis=0), [displace(loop, delay) for loop in loops]):
        assert not one.is_applied or abs(one.delay_frames - delay) < PROMISED_FRAMES, one
        assert turns == 2 or not one.is_applied, one


PERIOD = 11_025


@cache
def drum_loop(frames: int, period: int = PERIOD) -> Signal:
    """Return one hit over and over, none in the first and the last second."""
    beat = np.zeros((2, period))
    decay = 0.3 * np.exp(-np.arange(4_000) / 800)
    beat[:, :4_000] = decay * np.random.default_rng(0).standard_normal((2, 4_000))
    first = -(-RATE // period)
    turns = frames // period - 2 * first
    loop = np.zeros((2, frames))
    loop[:, first * period : (first + turns) * period] = np.tile(beat, (1, turns))
    return loop


@pytest.mark.parametrize("delay", [10_000.0, -9_000.0, -9_000.4, 30.0])
@pytest.mark.parametrize("period", [PERIOD, 11_023])
def test_a_loop_is_not_moved_to_another_turn(delay: float, period: int) -> None:
    """Alone, noisy, turned over, or beside vocals in their place: nothing tells the turn."""
    vocals = far_song()[3]
    loop = drum_loop(vocals.shape[1], period)
    mixture, late = vocals + loop, displace(loop, delay)
    draw = np.random.default_rng(0)
    for given in ([late], noisy(draw, [late]), [-late], [late, vocals], [vocals, -late]):
        found = estimate(mixture, given)
        assert not any(one.is_applied for one in found), found
        told = [one for one in found if "it repeats about every" in one.reason]
        assert len(told) == 1, found
        said = int(refused(told[0]).split()[4])
        assert abs(said - round(said / period) * period) <= 2 < said
        assert told[0].reason.endswith("frames: which turn it belongs to is not sure")


@pytest.mark.parametrize("delay", [10_000.0, -9_000.0, 300.0])
def test_a_loop_goes_where_a_stem_that_does_not_repeat_goes(delay: float) -> None:
    """Beside vocals as late as it is; where a third stem repeats, the two bear each other's place out."""
    vocals = far_song()[3]
    loop, other = drum_loop(vocals.shape[1]), drum_loop(vocals.shape[1], 14_000)[::-1]
    for true in ((loop, vocals), (loop, vocals, other)):
        found = estimate(np.sum(true, axis=0), [displace(stem, delay) for stem in true])
        decisions = [Decision.INHERITED, Decision.CORRECTED, Decision.INHERITED]
        assert [one.decision for one in found] == decisions[: len(true)], found
        assert {one.delay_frames for one in found} == {delay}


def test_a_loop_in_its_place_is_left_there() -> None:
    vocals = far_song()[3]
    loop = drum_loop(vocals.shape[1])
    for given in ([loop], [loop, vocals], noisy(np.random.default_rng(0), [loop, vocals])):
        for one in estimate(vocals + loop, given):
            assert one.decision is Decision.ALIGNED, one


def test_a_steady_bass_does_not_follow_one_stem_that_is_far_off() -> None:
    """Drums alone are late: what the others agree on is no place beyond the reach."""
    true = list(far_song())
    true[1] = steady_bass(true[0].shape[1])
    stems = [displace(true[0], 30_000.0), *true[1:]]
    bass = estimate(np.sum(true, axis=0), stems)[1]
    assert not bass.is_applied, bass


def test_what_is_not_found_tells_the_reach() -> None:
    foreign = estimate(np.sum(song(0), axis=0), [*song(0)[:3], song(1)[3]])[3]
    assert "more than 30 s off, or more than 186 ms off where no one place stands out" in refused(foreign)


def test_two_stems_are_placed() -> None:
    mixture, vocals = np.sum(song(1), axis=0), song(1)[3]
    for one in estimate(mixture, [-displace(stem, -77.25) for stem in (vocals, mixture - vocals)]):
        assert one.decision is Decision.CORRECTED, one
        assert abs(one.delay_frames + 77.25) < PROMISED_FRAMES
        assert one.polarity == -1


def test_one_stem_alone_is_placed_in_a_longer_item() -> None:
    true = make_song(1, seconds=30.0, sample_rate=RATE).stems
    (one,) = estimate(np.sum(list(true.values()), axis=0), [displace(true["drums"], 1_105.0)])
    assert (one.delay_frames, one.polarity, one.decision) == (1_105.0, 1, Decision.CORRECTED)


@pytest.mark.parametrize("delay", [0.03, -0.04])
def test_less_than_a_twentieth_of_a_frame_is_left_alone(delay: float) -> None:
    for one in estimate(np.sum(song(0), axis=0), [displace(stem, delay) for stem in song(0)]):
        assert one.decision is Decision.ALIGNED
        assert abs(one.delay_frames - delay) < PROMISED_FRAMES


def test_polarity_alone_is_corrected() -> None:
    stems = [-song(0)[0], *song(0)[1:]]
    drums, *others = estimate(np.sum(song(0), axis=0), stems)
    assert (drums.delay_frames, drums.polarity, drums.decision) == (0.0, -1, Decision.CORRECTED)
    assert {one.decision for one in others} == {Decision.ALIGNED}


@pytest.mark.parametrize(("rate", "delay"), [(8_000, 1_000.25), (96_000, 8_000.5), (192_000, -16_000.0)])
def test_other_rates_and_mono(rate: int, delay: float) -> None:
    stems = [
        stem[:1]
        for stem in make_song(5, seconds=8.0 if rate < 48_000 else 6.0, sample_rate=rate).stems.values()
    ]
    for name, one in zip(
        STEM_NAMES,
        estimate(np.sum(stems, axis=0), [displace(stem, delay) for stem in stems], rate),
        strict=True,
    ):
        if name != "bass":
            assert one.is_applied, one
        assert not one.is_applied or abs(one.delay_frames - delay) < PROMISED_FRAMES


def test_a_long_item_is_measured_where_its_stems_sound() -> None:
    """Eight minutes of which the voice sings twice, and reads that stay few and short."""
    true = song(0)
    period = true[0].shape[1]
    frames = 100 * period
    longest, total = [0], [0]

    def looped(stem: Signal, gap: Callable[[int], bool]) -> Reader:
        def read(start: int, length: int) -> Signal:
            longest[0] = max(longest[0], length)
            total[0] += length
            out = np.zeros((2, length))
            for turn in range(start // period, (start + length) // period + 1):
                if 0 <= turn < 100 and gap(turn):
                    out += make_reader(stem)(start - turn * period, length)
            return out

        return read

    def always(turn: int) -> bool:
        return True

    def seldom(turn: int) -> bool:
        return turn in (17, 71)

    parts = [looped(stem, seldom if index == 3 else always) for index, stem in enumerate(true)]

    def mixture(start: int, length: int) -> Signal:
        return np.asarray(np.sum([read(start, length) for read in parts], axis=0))

    def late(read: Reader) -> Reader:
        return lambda start, length: -read(start - 921, length)

    for one in estimate_alignments(mixture, [late(read) for read in parts], RATE, frames):
        assert (one.delay_frames, one.polarity) == (921.0, -1)
        assert one.is_applied
    assert longest[0] < 20 * RATE


def test_stretches_lie_where_every_stem_sounds() -> None:
    frames, step = 1_000_000, 100
    steady = make_reader(np.random.default_rng(0).standard_normal((1, frames)))

    def rare(start: int, length: int) -> Signal:
        place = np.arange(start, start + length)
        return np.where((place > 700_000) & (place < 715_000), 1.0, 0.0)[None]

    stretches = choose_stretches([steady, rare], frames, margin=4_096, step=step)
    starts = [start for start, _ in stretches]
    assert starts == sorted(set(starts))
    assert {length for _, length in stretches} == {5_000}
    assert len(stretches) == 12
    assert sum(695_000 < start < 715_000 for start in starts) >= 2
    assert min(starts) < frames / 3 < 2 * frames / 3 < max(starts)
    assert choose_stretches([steady], 50_000, margin=1_000, step=step) == [(1_000, 48_000)]
