"""Resampling: exact lengths, no delay, no dependence on the block size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from signals import make_noise
from stembridge.dsp.resample import StreamResampler, count_frames, resample_blocks
from stembridge.errors import AlignmentError

Signal = NDArray[np.float64]

MODEL_HZ = 44_100
RATES = (8_000, 11_025, 22_050, 32_000, 44_056, 44_100, 47_952, 48_000, 88_200, 96_000, 176_400, 192_000)


def resample(signal: Signal, rate_in: int, rate_out: int, frames: int, block: int = 4_000) -> Signal:
    blocks = (signal[:, start : start + block] for start in range(0, signal.shape[1], block))
    return np.concatenate(
        list(resample_blocks(blocks, len(signal), rate_in, rate_out, frames=frames)), axis=1
    )


def make_tone(frames: int, rate: int, pitch_hz: float) -> Signal:
    return np.asarray(np.sin(2 * np.pi * pitch_hz * np.arange(frames) / rate + 0.3)[None])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frames", [1, 2, 3, 17, 1_001, 48_001])
def test_there_and_back_has_the_length_asked_for(rate: int, frames: int) -> None:
    signal = make_noise(frames, 2, seed=frames)
    there = resample(signal, rate, MODEL_HZ, count_frames(frames, rate, MODEL_HZ))
    back = resample(there, MODEL_HZ, rate, frames)
    assert back.shape == signal.shape
    assert np.abs(back).max() < 4.0
    if rate == MODEL_HZ:
        assert np.array_equal(back, signal)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_arrives_without_delay(rate: int) -> None:
    frames = rate
    pitch_hz = 0.3 * min(rate, MODEL_HZ)
    out = resample(make_tone(frames, rate, pitch_hz), rate, MODEL_HZ, count_frames(frames, rate, MODEL_HZ))[0]
    wanted = make_tone(len(out), MODEL_HZ, pitch_hz)[0]
    inside = slice(8_000, -8_000)
    phases = [
        np.sum(x[inside] * np.exp(-2j * np.pi * pitch_hz * np.arange(len(x)) / MODEL_HZ)[inside])
        for x in (out, wanted)
    ]
    delay = -np.angle(phases[0] / phases[1]) / (2 * np.pi * pitch_hz) * MODEL_HZ
    assert abs(delay) < 1e-4
    assert np.abs(out - wanted)[inside].max() < 1e-4


@pytest.mark.parametrize("rate", [8_000, 44_056, 48_000, 192_000])
def test_context_places_frame_0_where_it_was(rate: int) -> None:
    pitch_hz = 0.2 * min(rate, MODEL_HZ)
    signal = make_tone(3 * rate, rate, pitch_hz)
    for origin in (0, 1, 777, rate + 13):
        stream = StreamResampler(1, rate, MODEL_HZ, origin=origin, first=-100, frames=5_100)
        out = np.concatenate([stream.push(signal), stream.finish()], axis=1)[0]
        assert len(out) == 5_100
        time = origin / rate + np.arange(-100, 5_000) / MODEL_HZ
        wanted = np.sin(2 * np.pi * pitch_hz * time + 0.3)
        begin = 100 + 4_000 if origin < rate else 0
        assert np.abs(out - wanted)[begin:].max() < 1e-4


def test_the_block_size_changes_nothing() -> None:
    signal = make_noise(30_000, 2)
    outs = [resample(signal, 48_000, MODEL_HZ, 27_563, block) for block in (1, 999, 30_000)[1:]]
    assert np.array_equal(outs[0], outs[1])


def test_an_argument_is_not_written_to() -> None:
    signal = make_noise(9_000, 1)
    kept = signal.copy()
    resample(signal, 48_000, MODEL_HZ, 8_000)
    assert np.array_equal(signal, kept)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_stream_that_ends_early_is_refused(rate: int) -> None:
    stream = StreamResampler(1, rate, MODEL_HZ, frames=100_000)
    stream.push(make_noise(500, 1))
    with pytest.raises(AlignmentError, match="early"):
        stream.finish()


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(AlignmentError, match="0 frames"):
        StreamResampler(1, 48_000, MODEL_HZ, frames=1).finish()


def test_the_ends_go_on_by_odd_reflection() -> None:
    ramp = np.linspace(-0.5, 0.5, 9_601)[None]
    out = resample(ramp, 48_000, MODEL_HZ, 8_821)
    assert np.abs(out - np.linspace(-0.5, 0.5, 8_821)).max() < 1e-6
