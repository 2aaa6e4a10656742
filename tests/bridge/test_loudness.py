"""Integrated loudness: against pyloudnorm, against the standard's own figures, and block by block."""

from __future__ import annotations

from math import inf

import numpy as np
import pyloudnorm
import pytest
from numpy.typing import NDArray

from stembridge.dsp.loudness import LoudnessMeter, design_k_weighting
from stembridge.errors import SourceError
from stembridge.synthesis import make_song


def _sine(seconds: float, sample_rate: int, hz: float = 997.0, level_db: float = 0.0) -> NDArray[np.float64]:
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.asarray(10 ** (level_db / 20) * np.sin(2 * np.pi * hz * t))


def loudness_of(signal: NDArray[np.float64], sample_rate: int) -> float:
    """Return the integrated loudness of (channels, frames) added as one block, in LUFS."""
    meter = LoudnessMeter(signal.shape[0], sample_rate)
    meter.add(signal)
    return meter.read()


def test_weighting_at_48_khz_is_the_printed_one() -> None:
    # BS.1770-4, annex 1, tables 1 and 2.
    printed = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    assert design_k_weighting(48000) == pytest.approx(np.array(printed), abs=1e-8)


@pytest.mark.parametrize("sample_rate", [22050, 44100, 48000, 96000, 192000])
def test_full_scale_sine_in_one_channel_reads_minus_3_01(sample_rate: int) -> None:
    stereo = np.stack([_sine(3.0, sample_rate), np.zeros(3 * sample_rate)])
    assert loudness_of(stereo, sample_rate) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("sample_rate", [44100, 48000, 96000])
def test_agrees_with_pyloudnorm_on_a_song_with_a_quiet_half(sample_rate: int) -> None:
    song = make_song(3, seconds=6.0, sample_rate=sample_rate).mixture
    quiet_then_loud = np.concatenate([0.02 * song, song], axis=1)
    ours = loudness_of(quiet_then_loud, sample_rate)
    theirs = pyloudnorm.Meter(sample_rate).integrated_loudness(quiet_then_loud.T)
    assert ours == pytest.approx(theirs, abs=0.1)


def test_relative_gate_leaves_out_what_is_more_than_10_lu_down() -> None:
    # EBU Tech 3341, case 3: 10 s at -36, 60 s at -23, 10 s at -36 dBFS in both channels read -23.0 LUFS.
    parts = [_sine(s, 48000, 1000.0, level) for s, level in ((10.0, -36.0), (60.0, -23.0), (10.0, -36.0))]
    mono = np.concatenate(parts)
    assert loudness_of(np.stack([mono, mono]), 48000) == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize("block_frames", [1, 777, 4410, 100_000])
def test_blocks_of_any_size_read_the_same(block_frames: int) -> None:
    song = make_song(1, seconds=1.5, sample_rate=8000).mixture
    meter = LoudnessMeter(2, 8000)
    for start in range(0, song.shape[1], block_frames):
        meter.add(song[:, start : start + block_frames])
    assert meter.read() == pytest.approx(loudness_of(song, 8000), abs=1e-9)


def test_surround_channels_count_by_their_weight() -> None:
    tone = _sine(1.0, 48000, level_db=-20.0)[None]
    meter = LoudnessMeter(1, 48000, weights=(1.41,))
    meter.add(tone)
    assert meter.read() - loudness_of(tone, 48000) == pytest.approx(10 * np.log10(1.41), abs=1e-6)


def test_silence_and_less_than_400_ms_have_no_loudness() -> None:
    assert loudness_of(np.zeros((2, 48000)), 48000) == -inf
    for sample_rate in (8000, 48000, 96000):
        assert loudness_of(_sine(0.39, sample_rate)[None], sample_rate) == -inf
        assert loudness_of(_sine(0.41, sample_rate)[None], sample_rate) > -inf
    assert loudness_of(np.zeros((2, 0)), 48000) == -inf


def test_louder_than_the_scale_still_reads() -> None:
    loud = 1000.0 * _sine(1.0, 48000)[None]
    assert loudness_of(loud, 48000) == pytest.approx(-3.01 + 60.0, abs=0.05)


def test_samples_that_cannot_be_measured_are_refused() -> None:
    meter = LoudnessMeter(2, 48000)
    with pytest.raises(SourceError, match=r"\(1, 100\)"):
        meter.add(np.zeros((1, 100)))
    with pytest.raises(SourceError, match="finite"):
        meter.add(np.array([[0.0, np.nan, 0.0], [0.0, 0.0, 0.0]]))


def test_the_meter_leaves_the_block_as_it_was() -> None:
    block = np.full((2, 48000), 0.25, dtype=np.float32)
    before = block.copy()
    LoudnessMeter(2, 48000).add(block)
    assert np.array_equal(block, before)
