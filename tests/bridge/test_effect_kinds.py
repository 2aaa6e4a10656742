"""The table of effects against pedalboard itself: what is neutral, what is linear, what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
import pytest

from effect_streams import make_noise, run
from stembridge.effects import page
from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.effects.kinds import (
    KINDS,
    REFUSED,
    Choice,
    EffectKind,
    File,
    Parameter,
    Switch,
    Value,
    chain_is_linear,
    check_effect,
    drop_neutral,
    is_neutral,
)
from stembridge.effects.processors import open_builtin
from stembridge.errors import PresetError

DOCS = Path(__file__).parents[2] / "docs"

AUDIBLE: Mapping[str, Mapping[str, Value]] = {
    "gain": {"gain_db": -3.0},
    "compressor": {"threshold_db": -30.0, "ratio": 4.0},
    "gate": {"threshold_db": -10.0, "ratio": 3.0},
    "limiter": {"ceiling_db": -15.0},
    "ladder": {"cutoff_hz": 900.0, "resonance": 0.3},
    "peak": {"gain_db": 6.0},
    "low_shelf": {"gain_db": -6.0},
    "high_shelf": {"gain_db": 6.0},
    "delay": {"delay_ms": 50.0, "feedback": 0.3},
    "chorus": {"feedback": 0.2},
    "phaser": {"feedback": 0.2},
    "width": {"side_gain_db": 3.0},
}
"""Values with which an effect is heard, where its defaults are not."""


def make_effect(kind: EffectKind, impulse: Path, **values: Value) -> Effect:
    files = {one.name: str(impulse) for one in kind.parameters if isinstance(one, File)}
    return Effect(kind.name, {**files, **AUDIBLE.get(kind.name, {}), **values})


def process_once(effect: Effect, samples: Any, sample_rate: int = 48000) -> Any:
    """Return what the processor itself gives for one block."""
    processor = open_builtin(effect, sample_rate, samples.shape[0])
    out = processor.process(samples)
    processor.close()
    return out


@pytest.fixture(scope="module")
def impulse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("impulse") / "room.wav"
    decay = np.exp(-np.arange(4000) / 800)
    write_impulse(path, make_noise(2, 4000, seed=9) * decay.astype(np.float32))
    return path


def write_impulse(path: Path, samples: Any, sample_rate: int = 48000) -> None:
    with pedalboard.io.AudioFile(str(path), "w", sample_rate, samples.shape[0], bit_depth=32) as file:
        file.write(np.ascontiguousarray(samples))


def test_every_class_of_pedalboard_is_offered_or_refused() -> None:
    bases = {"Plugin", "PluginContainer", "ExternalPlugin"}
    there = {
        name
        for name, one in vars(pedalboard).items()
        if isinstance(one, type) and issubclass(one, pedalboard.Plugin) and not name.startswith("_")
    }
    offered = {kind.class_name for kind in KINDS.values() if kind.class_name}
    assert there - bases <= offered | set(REFUSED)
    assert not offered & set(REFUSED)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", [one for one in KINDS.values() if one.neutral], ids=lambda one: one.name)
def test_a_neutral_effect_gives_every_sample_back(kind: EffectKind, channels: int, impulse: Path) -> None:
    noise = make_noise(channels, 30_000, level=2.0)
    quiet = make_noise(channels, 30_000, level=1e-6)
    draw = np.random.default_rng(7)
    for turn in range(6):
        others = {
            one.name: round(float(draw.uniform(one.low, one.high)), 3)
            for one in kind.parameters
            if isinstance(one, Parameter) and turn
        }
        switches = {one.name: turn % 2 == 1 for one in kind.parameters if isinstance(one, Switch)}
        effect = make_effect(kind, impulse, **{**others, **switches, **(kind.neutral or {})})
        assert is_neutral(effect)
        for samples in (noise, quiet, np.zeros_like(noise)):
            assert np.array_equal(process_once(effect, samples), samples), effect


@pytest.mark.parametrize("kind", [one for one in KINDS.values() if one.neutral], ids=lambda one: one.name)
def test_one_value_off_neutral_is_heard(kind: EffectKind, impulse: Path) -> None:
    noise = make_noise(2, 30_000)
    for name in kind.neutral or {}:
        parameter = kind.parameter(name)
        other = True if isinstance(parameter, Switch) else getattr(parameter, "high", 0.0)
        if kind.neutral and kind.neutral[name] == other:
            other = 0.5
        effect = make_effect(kind, impulse, **{**(kind.neutral or {}), name: other})
        assert not is_neutral(effect), effect
        assert not np.array_equal(process_once(effect, noise), noise), effect


@pytest.mark.parametrize("kind", [one for one in KINDS.values() if not one.neutral], ids=lambda one: one.name)
def test_what_has_no_neutral_setting_is_never_called_neutral(kind: EffectKind, impulse: Path) -> None:
    effect = make_effect(kind, impulse)
    assert not is_neutral(effect)
    assert not np.array_equal(run(effect, make_noise(2, 30_000)), make_noise(2, 30_000))


ORACLES: Mapping[str, tuple[Effect, Callable[[], Any]]] = {
    "gain": (Effect("gain", {"gain_db": -7}), lambda: pedalboard.Gain(-7)),
    "compressor": (
        Effect(
            "compressor",
            {"threshold_db": -31, "ratio": 5, "attack_ms": 3, "release_ms": 40, "linked": False},
        ),
        lambda: pedalboard.Compressor(threshold_db=-31, ratio=5, attack_ms=3, release_ms=40),
    ),
    "gate": (
        Effect("gate", {"threshold_db": -11, "ratio": 3, "attack_ms": 3, "release_ms": 40, "linked": False}),
        lambda: pedalboard.NoiseGate(threshold_db=-11, ratio=3, attack_ms=3, release_ms=40),
    ),
    "limiter": (
        Effect("limiter", {"ceiling_db": -13, "release_ms": 40, "lookahead_ms": 3}),
        lambda: pedalboard.BrickwallLimiter(ceiling_db=-13, release_ms=40, lookahead_ms=3),
    ),
    "low_cut": (Effect("low_cut", {"cutoff_hz": 300}), lambda: pedalboard.HighpassFilter(300)),
    "high_cut": (Effect("high_cut", {"cutoff_hz": 300}), lambda: pedalboard.LowpassFilter(300)),
    "two poles": (
        Effect("low_cut", {"cutoff_hz": 300, "poles": 2}),
        lambda: pedalboard.Pedalboard([pedalboard.HighpassFilter(300), pedalboard.HighpassFilter(300)]),
    ),
    "peak": (
        Effect("peak", {"cutoff_hz": 700, "gain_db": 5, "q": 2}),
        lambda: pedalboard.PeakFilter(cutoff_frequency_hz=700, gain_db=5, q=2),
    ),
    "low_shelf": (
        Effect("low_shelf", {"cutoff_hz": 700, "gain_db": 5, "q": 0.5}),
        lambda: pedalboard.LowShelfFilter(cutoff_frequency_hz=700, gain_db=5, q=0.5),
    ),
    "high_shelf": (
        Effect("high_shelf", {"cutoff_hz": 700, "gain_db": 5, "q": 0.5}),
        lambda: pedalboard.HighShelfFilter(cutoff_frequency_hz=700, gain_db=5, q=0.5),
    ),
    "ladder": (
        Effect("ladder", {"mode": "bpf24", "cutoff_hz": 700, "resonance": 0.4, "drive": 2}),
        lambda: pedalboard.LadderFilter(
            mode=pedalboard.LadderFilter.Mode.BPF24, cutoff_hz=700, resonance=0.4, drive=2
        ),
    ),
    "chorus": (
        Effect("chorus", {"rate_hz": 3, "depth": 0.4, "centre_delay_ms": 11, "feedback": 0.3, "mix": 0.6}),
        lambda: pedalboard.Chorus(rate_hz=3, depth=0.4, centre_delay_ms=11, feedback=0.3, mix=0.6),
    ),
    "phaser": (
        Effect("phaser", {"rate_hz": 3, "depth": 0.4, "centre_hz": 900, "feedback": 0.3, "mix": 0.6}),
        lambda: pedalboard.Phaser(rate_hz=3, depth=0.4, centre_frequency_hz=900, feedback=0.3, mix=0.6),
    ),
    "delay": (
        Effect("delay", {"delay_ms": 125, "feedback": 0.3, "mix": 0.6}),
        lambda: pedalboard.Delay(delay_seconds=0.125, feedback=0.3, mix=0.6),
    ),
    "reverb": (
        Effect("reverb", {"mix": 0.2, "dry": 0.8, "room_size": 0.7, "damping": 0.3, "width": 0.6}),
        lambda: pedalboard.Reverb(
            wet_level=0.2, dry_level=0.4, room_size=0.7, damping=0.3, width=0.6, freeze_mode=0
        ),
    ),
    "bitcrush": (Effect("bitcrush", {"bit_depth": 5}), lambda: pedalboard.Bitcrush(5)),
    "resample": (
        Effect("resample", {"rate_hz": 6000, "quality": "linear"}),
        lambda: pedalboard.Resample(6000, pedalboard.Resample.Quality.Linear),
    ),
    "clip": (Effect("clip", {"threshold_db": -9}), lambda: pedalboard.Clipping(-9)),
    "distortion": (Effect("distortion", {"drive_db": 12}), lambda: pedalboard.Distortion(12)),
    "invert": (Effect("invert"), pedalboard.Invert),
}
"""An effect of ours, and the same in pedalboard's own words."""


@pytest.mark.parametrize("name", ORACLES)
def test_an_effect_streamed_is_pedalboards_own_in_one_piece(name: str) -> None:
    effect, make = ORACLES[name]
    check_effect(effect)
    noise = make_noise(2, 50_001)
    expected = make().process(noise, 48000, buffer_size=8192, reset=True)
    assert np.array_equal(run(effect, noise, frames=777), expected)


def test_every_kind_of_pedalboards_has_an_oracle() -> None:
    ours = {"width", "convolution"}
    assert {effect.kind for effect, _ in ORACLES.values()} == set(KINDS) - ours


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda one: one.name)
def test_both_ends_of_every_range_give_sound_that_can_be_heard(kind: EffectKind, impulse: Path) -> None:
    noise = make_noise(2, 20_000, level=0.5)
    for one in kind.parameters:
        if isinstance(one, Parameter):
            ends: tuple[Value, ...] = (one.low, one.high, one.default)
        else:
            ends = one.options if isinstance(one, Choice) else (True, False)
        for value in ends if not isinstance(one, File) else ():
            effect = make_effect(kind, impulse, **{one.name: value})
            check_effect(effect)
            out = run(effect, noise)
            assert np.isfinite(out).all()
            assert 0 < np.abs(out).max() < 150, effect


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda one: one.name)
def test_every_parameter_is_heard(kind: EffectKind, impulse: Path) -> None:
    bursts = make_noise(2, 40_000, level=0.5) * np.repeat([1, 0.1, 1, 0.1], 10_000).astype(np.float32)
    plain = run(make_effect(kind, impulse), bursts)
    for one in kind.parameters:
        if not isinstance(one, File):
            heard = [
                run(make_effect(kind, impulse, **{one.name: value}), bursts) for value in other_values(one)
            ]
            assert not all(np.array_equal(out, plain) for out in heard), one.name


def other_values(one: Parameter | Switch | Choice) -> list[Value]:
    if isinstance(one, Choice):
        return [option for option in one.options if option != one.default]
    if isinstance(one, Switch):
        return [not one.default]
    return [float(round(one.high)) if one.is_whole else 0.31 * one.low + 0.69 * one.high]


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda one: one.name)
def test_linear_is_what_does_to_a_sum_what_it_does_to_the_parts(kind: EffectKind, impulse: Path) -> None:
    one, other = make_noise(2, 40_000, seed=1), make_noise(2, 40_000, seed=2)
    effect = make_effect(kind, impulse)
    parts = run(effect, one).astype(np.float64) + run(effect, other)
    error_db = 20 * np.log10(np.abs(parts - run(effect, one + other)).max() + 1e-20)
    assert (error_db < -85) == kind.is_linear, error_db
    assert error_db < -85 or error_db > -60
    assert chain_is_linear(Chain((effect,))) == kind.is_linear


def test_a_chain_is_linear_where_all_of_it_is() -> None:
    low_cut, clip = Effect("low_cut"), Effect("clip")
    idle = Effect("compressor", {"ratio": 1})
    assert chain_is_linear(Chain())
    assert chain_is_linear(Chain((low_cut, idle), 0.5))
    assert not chain_is_linear(Chain((low_cut, clip)))
    assert not chain_is_linear(Chain((low_cut, PluginEffect("a.vst3"))))


def test_what_changes_nothing_is_dropped() -> None:
    gain, idle, plugin = Effect("gain", {"gain_db": 1}), Effect("gain"), PluginEffect("a.vst3")
    assert drop_neutral(Chain((idle, gain, idle, plugin), 0.5)) == Chain((gain, plugin), 0.5)
    assert drop_neutral(Chain((idle, idle), 0.5)) == Chain()
    assert drop_neutral(Chain((gain,), 0.0)) == Chain()
    assert drop_neutral(Chain()) == Chain()


@pytest.mark.parametrize(
    ("effect", "sentence"),
    [
        (
            Effect("compressor", {"ratio": 0.5}),
            "compressor.ratio = 0.5 is out of range (dB in for one dB out above it: 1 to 100)",
        ),
        (Effect("gain", {"gain_db": 24.5}), "gain.gain_db = 24.5 is out of range (level: -60 to 24 dB)"),
        (Effect("gain", {"gain_db": float("nan")}), "gain.gain_db = nan is no number (level: -60 to 24 dB)"),
        (
            Effect("gain", {"gain_db": float("-inf")}),
            "gain.gain_db = -inf is out of range (level: -60 to 24 dB)",
        ),
        (Effect("gain", {"gain_db": True}), "gain.gain_db = true is no number (level: -60 to 24 dB)"),
        (
            Effect("gain", {"gain_db": "-6.5"}),
            "gain.gain_db = '-6.5' is text: leave out the quotes (level: -60 to 24 dB)",
        ),
        (Effect("gain", {"gain_db": "loud"}), "gain.gain_db = 'loud' is no number (level: -60 to 24 dB)"),
        (
            Effect("low_cut", {"poles": 1.5}),
            "low_cut.poles = 1.5 is no whole number"
            " (6 dB per octave each, and 3 dB at the corner: a whole number, 1 to 8)",
        ),
        (
            Effect("gate", {"linked": 1}),
            "gate.linked = 1 is no truth"
            " (one gain curve for a pair, so that the image stays where it is: true or false)",
        ),
        (
            Effect("resample", {"quality": "best"}),
            "resample.quality = 'best' is none of its words (from full of aliases to clean:"
            " zero_order_hold, linear or windowed_sinc32)",
        ),
        (
            Effect("gain", {"gain": 3}),
            "gain.gain is no parameter of gain (did you mean gain_db? it has gain_db)",
        ),
        (Effect("invert", {"mix": 1}), "invert.mix is no parameter of invert (it has none)"),
        (
            Effect("convolution"),
            "convolution lacks impulse_response"
            " (a WAV, AIFF or FLAC of up to 20 s, one channel or two: the path of a file that is there)",
        ),
        (
            Effect("convolution", {"impulse_response": "nowhere.wav"}),
            "convolution.impulse_response = 'nowhere.wav' is no file"
            " (a WAV, AIFF or FLAC of up to 20 s, one channel or two: the path of a file that is there)",
        ),
        (
            Effect("pitch_shift"),
            "effect 'pitch_shift': pedalboard's PitchShift moves transients by up to 500 samples, so the stem"
            " no longer lies on the others (use stembridge remix --pitch for a practice version)",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(effect: Effect, sentence: str) -> None:
    with pytest.raises(PresetError) as caught:
        check_effect(effect)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("name", "hint"),
    [("compresor", "compressor"), ("HighpassFilter", "low_cut"), ("noise_gate", "gate"), ("revrb", "reverb")],
)
def test_an_unknown_effect_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(PresetError, match=rf"effect '{name}' is not known \(did you mean {hint}\? there are"):
        check_effect(Effect(name))
    with pytest.raises(PresetError, match=r"is not known \(there are gain, compressor.* and plugin\)"):
        check_effect(Effect("zzz"))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why_and_what_instead(name: str) -> None:
    with pytest.raises(PresetError, match=f"pedalboard's {name}"):
        check_effect(Effect(name))


def test_each_allowed_end_is_allowed_and_nothing_beyond() -> None:
    for kind in KINDS.values():
        for one in kind.parameters:
            if isinstance(one, Parameter):
                assert one.low <= one.default <= one.high
                check = [
                    not one.find_fault(value) for value in (one.low, one.high, one.low - 1, one.high + 1)
                ]
                assert check == [True, True, False, False], one.name


def test_the_page_is_the_table() -> None:
    assert (DOCS / "effects.md").read_text("utf-8") == page.write_page()


def test_the_table_needs_no_audio_library() -> None:
    code = "import sys, stembridge.effects.kinds; print('numpy' in sys.modules, 'pedalboard' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
