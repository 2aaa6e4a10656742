"""What is ours among the effects: linked dynamics, mid and side, impulse responses of any loudness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pedalboard
import pytest
from numpy.typing import NDArray

from effect_streams import Samples, make_noise, run
from stembridge.effects.chain import Effect
from stembridge.errors import EffectError

DYNAMICS = [
    (Effect("compressor", {"threshold_db": -30, "ratio": 6}), pedalboard.Compressor(-30, 6, 1, 100)),
    (Effect("gate", {"threshold_db": -10, "ratio": 3}), pedalboard.NoiseGate(-10, 3, 1, 100)),
]


def make_swelling(channels: int) -> Samples:
    """Return noise that swells and fades, one channel much quieter than the other."""
    swell = 0.5 + 0.5 * np.sin(np.arange(60_000) / 3000)
    return (make_noise(channels, 60_000) * swell * np.geomspace(1, 0.1, channels)[:, None]).astype(np.float32)


@pytest.mark.parametrize(("effect", "stock"), DYNAMICS)
def test_linked_dynamics_leave_the_image_where_it_is(effect: Effect, stock: pedalboard.Plugin) -> None:
    samples = make_swelling(2)
    out = run(effect, samples)
    loud = np.abs(samples[1]) > 1e-3
    gains = out[:, loud].astype(np.float64) / samples[:, loud]
    assert np.abs(gains[0] / gains[1] - 1).max() < 1e-6
    assert gains.min() < 0.5, "it did something"
    alone = stock.process(samples, 48000)[:, loud] / samples[:, loud]
    assert np.abs(alone[0] / alone[1] - 1).max() > 0.5, "pedalboard moves the image"
    unlinked = Effect(effect.kind, {**effect.values, "linked": False})
    assert np.array_equal(run(unlinked, samples), stock.process(samples, 48000))


@pytest.mark.parametrize(("effect", "stock"), DYNAMICS)
def test_linked_dynamics_are_pedalboards_own_of_the_loudest_channel(
    effect: Effect, stock: pedalboard.Plugin
) -> None:
    mono = make_swelling(1)
    expected = stock.process(mono, 48000)
    assert np.array_equal(run(effect, mono), expected)
    alike = run(effect, np.repeat(mono, 2, axis=0))
    assert np.abs(alike - expected).max() < 1e-7
    quieter = run(effect, np.concatenate([0.3 * mono, -mono]).astype(np.float32))
    assert np.abs(quieter[1] + expected[0]).max() < 1e-7
    assert np.abs(quieter[0] - 0.3 * expected[0]).max() < 1e-7


def test_what_no_threshold_reaches_is_not_touched_when_it_is_linked() -> None:
    samples = make_noise(2, 30_000, level=0.01)
    samples = np.concatenate([samples, np.zeros((2, 20_000), np.float32), samples], axis=1)
    assert np.array_equal(run(Effect("compressor", {"threshold_db": 0}), samples), samples)
    # JUCE's gate opens over its attack, and then is a factor of exactly 1
    gated = run(Effect("gate", {"threshold_db": -100, "attack_ms": 0.1}), samples[:, :30_000])
    assert np.array_equal(gated[:, 1000:], samples[:, 1000:30_000])


def balance(samples: Samples, mid: float, side: float) -> NDArray[np.float64]:
    left, right = samples.astype(np.float64)
    same, apart = mid * (left + right) / 2, side * (left - right) / 2
    return np.stack([same + apart, same - apart])


def test_width_is_levels_of_mid_and_side() -> None:
    samples = make_noise(2, 9000)
    out = run(Effect("width", {"mid_gain_db": -6, "side_gain_db": 3}), samples)
    exact = balance(samples, 10 ** (-6 / 20), 10 ** (3 / 20))
    assert (np.abs(out - exact) <= 0.501 * np.spacing(np.abs(out))).all(), "rounded once"
    sides = run(Effect("width", {"mute_mid": True, "mid_gain_db": 6}), samples)
    assert np.abs(sides - balance(samples, 0, 1)).max() < 1e-7
    assert np.array_equal(sides[0], -sides[1])


def test_a_channel_without_a_partner_is_all_mid() -> None:
    samples = make_noise(6, 9000)
    out = run(Effect("width", {"mid_gain_db": -6}), samples)
    quieter = np.float64(10 ** (-6 / 20)) * samples
    assert np.abs(out[2:4] - quieter[2:4]).max() < 1e-7
    assert np.abs(out[4:] - balance(samples[4:], 10 ** (-6 / 20), 1)).max() < 1e-7
    muted = run(Effect("width", {"mute_mid": True}), samples)
    assert not muted[2:4].any()
    assert muted[:2].any() and muted[4:].any()


def write_impulse(path: Path, samples: Samples, sample_rate: int = 48000) -> str:
    with pedalboard.io.AudioFile(str(path), "w", sample_rate, samples.shape[0], bit_depth=32) as file:
        file.write(samples)
    return str(path)


@pytest.mark.parametrize("loudness", [1.0, 0.01])
def test_an_impulse_response_is_as_loud_as_a_single_sample_whatever_its_file(
    tmp_path: Path, loudness: float
) -> None:
    one = np.zeros((1, 200), np.float32)
    one[0, 50] = loudness
    path = write_impulse(tmp_path / "late.wav", one)
    samples = make_noise(2, 20_000)
    late = np.pad(samples, ((0, 0), (50, 0)))[:, :20_000]
    wet = run(Effect("convolution", {"impulse_response": path}), samples)
    assert np.abs(wet - late).max() < 2e-6
    mixed = run(Effect("convolution", {"impulse_response": path, "mix": 0.25}), samples)
    assert np.abs(mixed - (0.75 * samples + 0.25 * late)).max() < 2e-6
    extended = run(Effect("convolution", {"impulse_response": path}), samples, is_extended=True)
    assert extended.shape[1] == 20_050


def test_an_impulse_response_of_two_channels_is_of_left_and_right(tmp_path: Path) -> None:
    two = np.zeros((2, 200), np.float32)
    two[0, 0] = two[1, 100] = 1
    samples = make_noise(2, 20_000)
    path = write_impulse(tmp_path / "wide.wav", two)
    out = run(Effect("convolution", {"impulse_response": path}), samples)
    assert np.abs(out[0] - samples[0]).max() < 2e-6
    assert np.abs(out[1, 100:] - samples[1, :-100]).max() < 2e-6


def test_a_late_echo_of_an_impulse_response_is_waited_for(tmp_path: Path) -> None:
    late = np.zeros((1, 8 * 8000), np.float32)
    late[0, -1] = 1
    path = write_impulse(tmp_path / "late.wav", late, 8000)
    samples = make_noise(1, 4000)
    out = run(Effect("convolution", {"impulse_response": path}), samples, sample_rate=8000, is_extended=True)
    assert out.shape[1] == 4000 + 8 * 8000 - 1


def test_an_impulse_response_is_brought_to_the_rate_of_the_stem(tmp_path: Path) -> None:
    one = np.zeros((1, 4800), np.float32)
    one[0, 2400] = 1
    samples = np.zeros((1, 20_000), np.float32)
    samples[0, 100] = 1
    path = write_impulse(tmp_path / "half.wav", one, 24000)
    out = run(Effect("convolution", {"impulse_response": path}), samples)
    assert abs(int(np.argmax(np.abs(out))) - 4900) <= 1


def test_what_is_no_impulse_response_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no audio")
    silence = write_impulse(tmp_path / "silence.wav", np.zeros((1, 100), np.float32))
    empty = write_impulse(tmp_path / "empty.wav", np.zeros((1, 0), np.float32))
    long = write_impulse(tmp_path / "long.wav", np.ones((1, 21 * 8000), np.float32), 8000)
    wide = write_impulse(tmp_path / "wide.wav", np.ones((3, 100), np.float32))
    for path, why in (
        (str(text), "Failed to open"),
        (silence, "holds silence, NaN or infinity"),
        (empty, "has 1 channels and 0.0 s"),
        (long, "has 1 channels and 21.0 s"),
        (wide, "has 3 channels and 0.0 s"),
    ):
        with pytest.raises(
            EffectError, match=r"WAV, AIFF or FLAC of one channel or two, up to 20 s"
        ) as caught:
            run(Effect("convolution", {"impulse_response": path}), make_noise(1, 100))
        assert caught.value.message.startswith(f"impulse_response = {path!r}")
        assert why in caught.value.message
