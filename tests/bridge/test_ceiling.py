"""The ceiling: nothing above it, nothing else touched, and no sound of its own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import resample_poly

from stembridge.dsp.ceiling import LOOK_AHEAD_S, RELEASE_DB_PER_S, limit_gains
from stembridge.dsp.true_peak import REACH_FRAMES, TruePeakMeter, find_peaks
from stembridge.errors import SourceError
from stembridge.synthesis import make_song

Signal = NDArray[np.float64]
RATE = 44100


def find_gains(
    signal: Signal, *, ceiling_dbtp: float = -1.0, sample_rate: int = RATE, block_frames: int = 16_384
) -> Signal:
    """Return the gains for (channels, frames), one per frame."""
    blocks = (signal[:, at : at + block_frames] for at in range(0, signal.shape[1], block_frames))
    parts = list(limit_gains(blocks, sample_rate=sample_rate, ceiling_dbtp=ceiling_dbtp))
    assert all(part.dtype == np.float64 and part.ndim == 1 for part in parts)
    return np.concatenate(parts)


def true_peak_db(signal: Signal, factor: int = 16) -> float:
    meter = TruePeakMeter(signal.shape[0], factor)
    meter.add(signal)
    return 20 * float(np.log10(meter.read()))


def other_peaks_db(signal: Signal) -> list[float]:
    """Return the true peak as other meters at 16 times the rate draw the waveform: sharply, and softly."""
    quiet = np.pad(signal, ((0, 0), (2000, 2000)))
    sharp = np.fft.irfft(np.fft.rfft(quiet, axis=1), quiet.shape[1] * 16, axis=1) * 16
    soft = resample_poly(signal, 16, 1, axis=1)
    return [20 * float(np.log10(np.abs(waveform).max())) for waveform in (sharp, soft)]


def _song(seed: int, drive_db: float, seconds: float = 3.0) -> Signal:
    song = make_song(seed, seconds=seconds, sample_rate=RATE).mixture
    return np.asarray(song / np.abs(song).max() * 10 ** (drive_db / 20))


def _bursts(frames: int = 60_000) -> Signal:
    """Return silence, clicks of two samples, tones cut off abruptly and noise, each far above full scale."""
    draw = np.random.default_rng(4)
    signal = np.zeros((2, frames))
    signal[0, 5_000:5_002] = 4.0
    signal[:, 12_000:13_000] = 3 * np.sin(2.7 * np.arange(1000))
    signal[1, 30_000:30_400] = np.repeat(draw.normal(size=100), 4) * 2
    signal[:, -600:] = 2 * np.sin(0.05 * np.arange(600) + 1)
    return signal


@pytest.mark.parametrize("drive_db", [3.0, 9.0, 18.0])
@pytest.mark.parametrize("ceiling_dbtp", [-1.0, -0.1])
def test_driven_music_stays_below_the_ceiling(drive_db: float, ceiling_dbtp: float) -> None:
    song = _song(7, drive_db)
    limited = find_gains(song, ceiling_dbtp=ceiling_dbtp) * song
    assert true_peak_db(limited) <= ceiling_dbtp
    assert true_peak_db(limited, 64) <= ceiling_dbtp + 0.01


@pytest.mark.parametrize("seed", range(1, 5))
def test_other_meters_read_it_below_the_ceiling_too(seed: int) -> None:
    song = _song(seed, 6.0, seconds=2.0)
    assert max(other_peaks_db(find_gains(song) * song)) <= -1.0 + 0.05
    # Hard clipping reaches up to half of the rate, where meters draw what is not there, each another thing.
    clipped = np.clip(_song(seed, 12.0, seconds=2.0), -1, 1)
    assert max(other_peaks_db(find_gains(clipped) * clipped)) <= -1.0 + 0.2


@pytest.mark.parametrize("sample_rate", [8000, 44100, 96000, 192_000])
def test_clicks_and_tones_cut_off_stay_below_the_ceiling_at_any_rate(sample_rate: int) -> None:
    bursts = _bursts()
    limited = find_gains(bursts, sample_rate=sample_rate) * bursts
    assert true_peak_db(limited) <= -1.0
    assert true_peak_db(limited) > -1.1


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 3000),
    channels=st.sampled_from([1, 2, 6]),
    loud=st.floats(0.5, 30.0),
)
def test_anything_stays_below_the_ceiling(seed: int, frames: int, channels: int, loud: float) -> None:
    draw = np.random.default_rng(seed)
    shape = (channels, frames)
    signal = loud * draw.normal(size=shape) * (draw.random(shape) > draw.choice([0.0, 0.9, 0.99]))
    gains = find_gains(signal)
    assert gains.shape == (frames,)
    assert ((gains > 0) & (gains <= 1)).all()
    if signal.any():
        assert true_peak_db(gains * signal) <= -1.0 + 0.02


def test_the_gain_is_no_lower_than_it_must_be() -> None:
    tone = 2 * np.sin(2 * np.pi * 0.1 * np.arange(RATE))[None]
    gains = find_gains(tone)
    assert 20 * np.log10(gains[RATE // 2] * 2) == pytest.approx(-1.0, abs=0.06)
    assert true_peak_db(gains * tone) == pytest.approx(-1.0, abs=0.06)


def test_what_needs_no_gain_is_not_touched() -> None:
    song = _song(8, -1.6)
    assert -1.5 < true_peak_db(song) < -1.1
    assert (find_gains(song) == 1.0).all()
    assert (find_gains(np.zeros((2, 70_000))) == 1.0).all()


def test_one_peak_is_turned_down_around_it_and_nowhere_else() -> None:
    quiet = 0.1 * np.sin(0.1 * np.arange(4 * RATE))[None]
    quiet[0, 2 * RATE] = 2.0
    gains = find_gains(quiet)
    look_ahead = round(LOOK_AHEAD_S * RATE)
    reduced = np.flatnonzero(gains != 1.0)
    fall_s = -20 * np.log10(gains.min()) / RELEASE_DB_PER_S
    # The waveform of one sample rings a few frames to both sides.
    assert 2 * RATE - 2 * look_ahead - 4 <= reduced[0] < 2 * RATE - look_ahead
    assert reduced[-1] <= 2 * RATE + fall_s * RATE + 2 * look_ahead + 4
    assert gains[2 * RATE] == pytest.approx(gains.min(), abs=1e-3)
    assert (np.diff(gains[: 2 * RATE - look_ahead]) <= 0).all()
    release_db = np.diff(20 * np.log10(gains[2 * RATE + look_ahead + 4 :]))
    assert (release_db >= -1e-12).all()
    assert release_db.max() <= 1.001 * RELEASE_DB_PER_S / RATE


def test_the_curve_makes_no_click() -> None:
    """Above 2 kHz the curve itself is 100 dB down and more; a step of the same depth would be 40 dB down."""
    song = np.zeros((1, 3 * RATE))
    song[0, RATE] = 4.0
    curve = find_gains(song)
    spectrum = np.abs(np.fft.rfft((1 - curve) * np.hanning(curve.size)))
    high = round(2000 / RATE * curve.size)
    assert spectrum[high:].max() < 10 ** (-100 / 20) * spectrum.max()


def test_the_curve_has_no_corner() -> None:
    """Its slope turns as a Hann window's integral does; a ramp's would turn within one frame."""
    song = np.zeros((1, RATE))
    song[0, RATE // 2] = 4.0
    reduction_db = -20 * np.log10(find_gains(song))
    look_ahead = round(LOOK_AHEAD_S * RATE)
    assert np.abs(np.diff(reduction_db, 2)).max() < 2 * reduction_db.max() / look_ahead**2


@pytest.mark.parametrize("sample_rate", [400, 8000, RATE])
def test_no_frame_is_turned_down_by_less_than_the_waveform_beside_it_asks_for(sample_rate: int) -> None:
    noise = np.random.default_rng(5).normal(size=(2, 5000)) * np.random.default_rng(6).choice([0, 2], 5000)
    padded = np.pad(noise, ((0, 0), (REACH_FRAMES, REACH_FRAMES)))
    peaks = find_peaks(padded, 0.0, 16).astype(np.float64)
    gains = find_gains(noise, sample_rate=sample_rate)
    most = 10 ** (-1.0 / 20)
    assert peaks.size == gains.size + 1
    assert (gains * peaks[1:] <= most).all()
    assert (gains * peaks[:-1] <= most).all()


@pytest.mark.parametrize("block_frames", [64, 1000, 16_384, 200_000])
def test_the_curve_does_not_depend_on_the_blocks(block_frames: int) -> None:
    song = _song(9, 6.0)
    assert (find_gains(song, block_frames=block_frames) == find_gains(song, block_frames=5000)).all()


def test_all_channels_have_one_curve_made_by_the_loudest() -> None:
    song = _song(10, 6.0)
    louder = find_gains(song[:1])
    both = find_gains(np.concatenate([song[:1], 0.1 * song[1:]]))
    assert (louder == both).all()


def test_memory_is_flat_however_long_the_signal() -> None:
    """Gains come while blocks go in: what is held back does not grow."""
    given_frames = 0

    def blocks() -> Iterator[Signal]:
        nonlocal given_frames
        for _ in range(40):
            given_frames += 16_384
            yield np.full((2, 16_384), 0.5)

    got_frames = 0
    for part in limit_gains(blocks(), sample_rate=RATE, ceiling_dbtp=-1.0):
        got_frames += part.size
        assert given_frames - got_frames <= 50_000
    assert got_frames == 40 * 16_384


@pytest.mark.parametrize("frames", [1, 2, 47, 16_383, 16_384, 16_385, 33_000])
def test_there_are_as_many_gains_as_frames(frames: int) -> None:
    signal = np.full((1, frames), 2.0)
    gains = find_gains(signal)
    assert gains.size == frames
    assert true_peak_db(gains * signal) <= -1.0


def test_nothing_in_gives_nothing() -> None:
    assert list(limit_gains(iter(()), sample_rate=RATE, ceiling_dbtp=-1.0)) == []


def test_the_blocks_are_left_alone() -> None:
    block = _song(11, 6.0, seconds=1.0)
    copy = block.copy()
    list(limit_gains([block], sample_rate=RATE, ceiling_dbtp=-1.0))
    assert (block == copy).all()


def test_a_sample_that_is_no_number_is_refused() -> None:
    with pytest.raises(SourceError, match="not a finite number"):
        find_gains(np.full((1, 100), np.nan))
