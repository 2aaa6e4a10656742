"""True peak: against sines whose peak is known, against a spectrum padded to 16 times, and block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import resample_poly

from stembridge.dsp.true_peak import FACTORS, REACH_FRAMES, TruePeakMeter, Windows
from stembridge.errors import SourceError
from stembridge.synthesis import make_song

Signal = NDArray[np.float64]


def read_peak(signal: Signal, factor: int = 64) -> float:
    """Return the true peak of (channels, frames), added as one block, as a factor."""
    meter = TruePeakMeter(signal.shape[0], factor)
    meter.add(signal)
    return meter.read()


def decibels(value: float) -> float:
    return 20 * float(np.log10(value))


def pad_spectrum(signal: Signal, factor: int = 16) -> Signal:
    """Return the band-limited waveform through a signal that ends in silence."""
    quiet = np.pad(signal, ((0, 0), (2000, 2000)))
    spectrum = np.fft.rfft(quiet, axis=1)
    return np.asarray(np.fft.irfft(spectrum, quiet.shape[1] * factor, axis=1) * factor)


def _sine(cycles_per_frame: float, phase: float, frames: int = 6000) -> Signal:
    """Return a sine of amplitude 1 that comes and goes smoothly."""
    fade = np.minimum(1, np.minimum(np.arange(frames), np.arange(frames)[::-1]) / 1000)
    return np.asarray(
        np.sin(np.pi / 2 * fade) ** 2 * np.sin(2 * np.pi * cycles_per_frame * np.arange(frames) + phase)
    )[None]


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.1251, 1 / 6, 0.25, 1 / 3, 0.4, 0.4167, 0.45])
@pytest.mark.parametrize("phase", [0.0, 0.3, np.pi / 4, 1.3])
def test_sines_read_what_they_are_between_their_samples(share: float, phase: float) -> None:
    assert decibels(read_peak(_sine(share, phase))) == pytest.approx(0.0, abs=0.01)


def test_a_quarter_rate_sine_reads_3_db_above_its_samples() -> None:
    # BS.1770-4, annex 2: at a quarter of the rate and 45 degrees no sample comes nearer than 3.01 dB.
    sine = _sine(0.25, np.pi / 4)
    assert decibels(float(np.abs(sine).max())) == pytest.approx(-3.01, abs=0.001)
    assert decibels(read_peak(sine, 4)) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_grid_misses_what_lies_between_its_points_and_no_more(factor: int) -> None:
    """All peaks of this sine lie half a step beside the grid; BS.1770-4, annex 2, attachment 1."""
    sine = _sine(0.4, np.pi / 2 - np.pi * 0.4 / factor)
    assert decibels(read_peak(sine, factor)) == pytest.approx(
        decibels(np.cos(np.pi * 0.4 / factor)), abs=0.008
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_music_reads_what_its_spectrum_says(seed: int) -> None:
    """What reaches half of the sample rate is taken out first: there meters differ."""
    song = make_song(seed, seconds=3.0, sample_rate=44100).mixture
    spectrum = np.fft.rfft(song, axis=1)
    spectrum[:, round(0.88 * spectrum.shape[1]) :] = 0
    song = np.fft.irfft(spectrum, song.shape[1], axis=1) * np.hanning(song.shape[1])
    expected = decibels(float(np.abs(pad_spectrum(song)).max()))
    assert decibels(read_peak(song, 16)) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_full_band_noise_reads_no_less_than_any_meter_says(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(2, 20_000))
    reading = decibels(read_peak(noise, 16))
    for waveform in (pad_spectrum(noise), resample_poly(noise, 16, 1, axis=1)):
        assert decibels(float(np.abs(waveform).max())) - 0.3 <= reading


def test_the_peak_of_any_channel_counts_and_so_does_a_negative_one() -> None:
    six = np.zeros((6, 500))
    six[4, 250] = -0.7
    assert read_peak(six) == pytest.approx(0.7, rel=1e-6)


@pytest.mark.parametrize("place", [0, 1, 31, 32, 16_383, 16_384, 16_385, 19_998, 19_999])
def test_a_peak_is_found_wherever_it_lies(place: int) -> None:
    """Two equal samples reach 4 / pi of their value between them; at the ends they stand alone."""
    signal = np.zeros((1, 20_000))
    signal[0, place : place + 2] = 0.5
    expected = 0.5 if place == 19_999 else 2 / np.pi
    assert read_peak(signal) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("edge", [0, -1])
def test_what_rings_over_an_abrupt_end_is_read(edge: int) -> None:
    tone = np.tile([1.0, 1.0, -1.0, -1.0], 50)[None]
    cut = tone[:, 1:-1] if edge else tone
    rung = np.abs(pad_spectrum(cut)).max()
    assert read_peak(cut) >= 0.97 * rung


@pytest.mark.parametrize("block_frames", [1, 7, 4096, 16_384, 100_000])
def test_blocks_of_any_size_read_the_same(block_frames: int) -> None:
    song = make_song(5, seconds=1.0, sample_rate=20_000).mixture
    meter = TruePeakMeter(2)
    for start in range(0, song.shape[1], block_frames):
        meter.add(song[:, start : start + block_frames])
    assert meter.read() == read_peak(song)


def test_a_reading_does_not_disturb_what_follows() -> None:
    song = make_song(6, seconds=1.0, sample_rate=44100).mixture
    meter = TruePeakMeter(2)
    meter.add(song[:, :20_000])
    first = meter.read()
    assert first == meter.read() == read_peak(song[:, :20_000])
    meter.add(song[:, 20_000:])
    assert meter.read() == max(first, read_peak(song))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 400),
    loud=st.floats(0.001, 1000.0),
    factor=st.sampled_from(FACTORS),
)
def test_passing_over_quiet_stretches_changes_no_reading(
    seed: int, frames: int, loud: float, factor: int
) -> None:
    """A signal as loud as itself is read as it is behind a louder start, which makes most of it skipped."""
    draw = np.random.default_rng(seed)
    signal = draw.normal(size=(2, frames)) * loud * draw.choice([0.01, 0.4, 1.0], frames)
    alone = read_peak(signal, factor)
    # A louder start is known before the next stretch of windows is looked at, and only then.
    click = np.zeros((2, 20_000))
    for share, expected in ((0.999, alone), (1.001, 1.001 * alone)):
        click[:, 100] = share * alone
        both = read_peak(np.concatenate([click, signal], axis=1), factor)
        assert both == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("factor", FACTORS)
def test_no_waveform_rises_out_of_what_is_passed_over(factor: int) -> None:
    """Samples of one size, their signs those of a sinc, reach highest between them, many times their size."""
    places = np.arange(-REACH_FRAMES, REACH_FRAMES) + 0.5
    rising = np.sign(np.sinc(places))[None]
    alone = read_peak(rising, factor)
    assert alone > 2.5
    click = np.zeros((1, 20_000))
    click[0, 100] = 0.999 * alone
    assert read_peak(np.concatenate([click, rising], axis=1), factor) == pytest.approx(alone, rel=1e-6)


def test_silence_has_no_peak() -> None:
    assert read_peak(np.zeros((2, 1000))) == 0.0
    assert TruePeakMeter(2).read() == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number_is_refused(bad: float) -> None:
    signal = np.zeros((1, 20_000))
    signal[0, 17] = bad
    with pytest.raises(SourceError, match="not a finite number"):
        read_peak(signal)


def test_windows_hold_every_frame_once_and_leave_the_blocks_alone() -> None:
    ramp = np.arange(100.0)[None]
    windows = Windows(hop=16, margin=5)
    block = ramp[:, :10].copy()
    found = windows.add(block)
    block[:] = -1
    found += windows.add(ramp[:, 10:])
    found += windows.rest(np.zeros((1, 5)))
    assert np.concatenate([window[0, :-5] for window in found]).tolist() == ramp[0].tolist()
    assert [window.shape[1] for window in found] == [21] * 6 + [9]
