"""Resampling: exact lengths, no delay, no dependence on the block size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals import make_noise
from stembridge.dsp import resample as resample_module
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


@pytest.mark.parametrize("rate", [44_056, 48_000])
def test_blocks_of_no_frames_change_nothing(rate: int) -> None:
    signal = make_noise(9_000, 2)
    frames = count_frames(9_000, rate, MODEL_HZ)
    blocks = [part for edge in range(0, 9_000, 500) for part in (signal[:, :0], signal[:, edge : edge + 500])]
    out = np.concatenate(list(resample_blocks(blocks, 2, rate, MODEL_HZ, frames=frames)), axis=1)
    assert np.array_equal(out, resample(signal, rate, MODEL_HZ, frames))


# --- long streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate_in", "rate_out", "length_s"),
    # Without fresh streams: 4e-4, 2e-4, 2e-4, 1e-3 and 2e-3 frames off at the end; the last two do not drift.
    [
        (44_056, 44_100, 300),
        (44_100, 44_056, 300),
        (167_901, 85_892, 30),
        (47_461, 171_909, 30),
        (8_256, 187_222, 30),
        (47_952, 44_100, 120),
        (48_000, 44_100, 120),
    ],
)
def test_a_long_stream_does_not_drift(rate_in: int, rate_out: int, length_s: int) -> None:
    pitch_hz = int(0.3 * min(rate_in, rate_out))
    second = make_tone(rate_in, rate_in, pitch_hz)
    wanted = make_tone(rate_out, rate_out, pitch_hz)[0]
    probe = np.exp(-2j * np.pi * pitch_hz * np.arange(rate_out) / rate_out)
    stream = StreamResampler(1, rate_in, rate_out, frames=length_s * rate_out)
    rest, seconds, delays = np.zeros(0), 0, []
    for pushed in range(length_s + 1):
        part = stream.push(second) if pushed < length_s else stream.finish()
        rest = np.concatenate([rest, part[0]])
        while rest.size >= rate_out:
            heard, rest = rest[:rate_out], rest[rate_out:]
            seconds += 1
            # The first and the last ring where the tone begins and ends.
            if 1 < seconds < length_s:
                delays.append(float(-np.angle(np.sum(heard * probe) / np.sum(wanted * probe))))
                assert np.abs(heard - wanted).max() < 3e-4
        assert seconds >= pushed - 1
    assert seconds == length_s
    assert rest.size == 0
    assert np.abs(delays).max() / (2 * np.pi * pitch_hz) * rate_out < 1e-4


def resample_in_legs(
    monkeypatch: pytest.MonkeyPatch, signal: Signal, rate_in: int, rate_out: int, frames: int, block: int
) -> Signal:
    """Return what comes out where a fresh stream takes over every few thousand frames."""
    with monkeypatch.context() as patch:
        patch.setattr(resample_module, "_EXACT_STEP", 0)
        patch.setattr(resample_module, "_LEG_FRAMES", 12_000)
        return resample(signal, rate_in, rate_out, frames, block)


@pytest.mark.parametrize(
    ("rate_in", "rate_out", "apart"),
    [
        (48_000, 44_100, 1e-12),
        (44_100, 48_000, 1e-12),
        (22_050, 44_100, 1e-12),
        (44_100, 192_000, 1e-12),
        # Here soxr gives other samples, by as much, to a signal that begins some steps earlier.
        (8_000, 44_100, 1e-9),
        (44_100, 22_050, 1e-9),
        (192_000, 8_000, 1e-9),
    ],
)
def test_where_a_fresh_stream_takes_over_nothing_is_heard(
    rate_in: int, rate_out: int, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = make_noise(150_000, 2, seed=1)
    frames = count_frames(150_000, rate_in, rate_out)
    whole = resample(signal, rate_in, rate_out, frames)
    legs = resample_in_legs(monkeypatch, signal, rate_in, rate_out, frames, 4_000)
    assert np.abs(legs - whole).max() < apart
    for block in (1_013, 150_000):
        assert np.array_equal(legs, resample_in_legs(monkeypatch, signal, rate_in, rate_out, frames, block))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.integers(1, 60_000), near=st.sampled_from([0, 1, 2, 3]), data=st.data())
def test_a_stream_may_end_anywhere_around_a_take_over(
    frames: int, near: int, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Legs of 12,960 frames of input, which begin 2,080 frames before the first pushed one.
    frames = max(1, 12_960 * near - 2_080 + data.draw(st.integers(-3_000, 3_000))) if near else frames
    signal = make_noise(frames, 1, seed=frames)
    wanted = count_frames(frames, 48_000, MODEL_HZ)
    legs = resample_in_legs(
        monkeypatch, signal, 48_000, MODEL_HZ, wanted, data.draw(st.integers(500, 70_000))
    )
    assert legs.shape == (1, wanted)
    assert np.abs(legs - resample(signal, 48_000, MODEL_HZ, wanted)).max() < 1e-12


def test_the_block_size_changes_nothing_where_streams_take_over() -> None:
    signal = make_noise(2_000_000, 1)
    outs = [resample(signal, 44_100, 44_056, 1_990_000, block) for block in (44_100, 777_777)]
    assert np.array_equal(outs[0], outs[1])
