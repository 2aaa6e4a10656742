"""How late something is, told to the sample, and never of an effect that is meant to sound so."""

from __future__ import annotations

import numpy as np
import pedalboard
import pytest
import scipy.signal
from numpy.typing import NDArray

from stembridge.plugins.probe import find_lateness, probe_noise

RATE = 48_000
KEPT = (
    pedalboard.LowpassFilter(300),
    pedalboard.LowpassFilter(12_000),
    pedalboard.HighpassFilter(100),
    pedalboard.LadderFilter(cutoff_hz=8000),
    pedalboard.PeakFilter(1000, 12),
    pedalboard.HighShelfFilter(3000, -18),
    pedalboard.Reverb(room_size=0.9, wet_level=1.0, dry_level=0.0),
    pedalboard.Chorus(mix=1.0),
    pedalboard.Phaser(mix=1.0),
    pedalboard.Compressor(-50, 8),
    pedalboard.Distortion(30),
    pedalboard.Delay(0.1, mix=0.5),
    pedalboard.PitchShift(3),
    pedalboard.Bitcrush(6),
)


def moved(noise: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return ``noise`` that much later, silence in its place."""
    made = np.zeros_like(noise)
    if frames >= 0:
        made[:, frames:] = noise[:, : noise.shape[1] - frames]
    else:
        made[:, :frames] = noise[:, -frames:]
    return made


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
@pytest.mark.parametrize("frames", [0, 1, -1, 20, -100, 480, 1105, -1999])
def test_a_move_is_found_to_the_sample(frames: int, rate: int) -> None:
    noise = probe_noise(rate, 2)
    assert find_lateness(noise, moved(noise, frames)) == frames
    assert find_lateness(noise, -0.3 * moved(noise, frames)) == frames


@pytest.mark.parametrize("frames", [-40_000, 0, 40_000, 60_000])
def test_a_large_move_is_found_where_enough_comes_out(frames: int) -> None:
    noise = probe_noise(RATE, 1, 40_000)
    made = moved(noise, frames)[:, : noise.shape[1] - 40_000]
    assert find_lateness(noise, made) == frames
    assert find_lateness(noise, made[:, :500]) == 0


@pytest.mark.parametrize("effect", KEPT, ids=lambda effect: type(effect).__name__)
def test_what_an_effect_is_meant_to_do_is_no_lateness(effect: pedalboard.Plugin) -> None:
    noise = probe_noise(RATE, 2)
    assert find_lateness(noise, effect.process(noise, RATE)) == 0


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("cutoff", [0.2, 0.5, 0.7, 0.9])
def test_a_steep_filter_is_no_lateness(cutoff: float, order: int) -> None:
    noise = probe_noise(RATE, 2)
    made = scipy.signal.sosfilt(scipy.signal.butter(order, cutoff, output="sos"), noise)
    assert find_lateness(noise, made.astype(np.float32)) == 0


def test_a_move_is_found_under_a_mild_effect() -> None:
    noise = probe_noise(RATE, 2)
    coloured = pedalboard.PeakFilter(2000, 3).process(noise, RATE)
    assert find_lateness(noise, moved(coloured, 333)) == 333


def test_silence_and_one_side_that_is_late_on_purpose_are_no_lateness() -> None:
    noise = probe_noise(RATE, 2)
    assert find_lateness(noise, np.zeros_like(noise)) == 0
    assert find_lateness(noise[:, :0], noise[:, :0]) == 0
    for left, right in ((0, 400), (400, 0), (300, 400), (400, 300)):
        assert find_lateness(noise, np.concatenate((moved(noise[:1], left), moved(noise[1:], right)))) == 0
    muted = np.concatenate((moved(noise[:1], 400), np.zeros_like(noise[1:])))
    assert find_lateness(noise, muted) == 400


def test_the_noise_is_at_its_level_and_the_same_every_time() -> None:
    noise = probe_noise(RATE, 2)
    level_db = 20 * np.log10(np.sqrt(np.mean(noise[0].astype(np.float64) ** 2)))
    assert level_db == pytest.approx(-30.0, abs=0.1)
    assert np.array_equal(noise, probe_noise(RATE, 2)) and np.array_equal(noise[0], noise[1])
