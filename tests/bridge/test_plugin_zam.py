"""Plugins that others made: Debian's zam-plugins, opened, placed, restored and repeated."""

from __future__ import annotations

import platform
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stembridge.cli import main
from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError
from stembridge.plugins.hosted import make_opener
from stembridge.plugins.process import Deadlines, PluginProcess
from stembridge.settings import Settings, load_settings

VST3 = Path("/usr/lib/vst3")


def reason_to_skip() -> str:
    if platform.system() != "Linux":
        return "zam-plugins are Debian's; macOS and Windows have others"
    return "" if (VST3 / "ZaMaximX2.vst3").exists() else "zam-plugins are not installed"


pytestmark = pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip())

PATIENT = Deadlines(60.0, 60.0)
FRAMES = 40_000
FLUSH_FRAMES = 32_768


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, environ={})


def noise(level: float, channels: int = 2) -> NDArray[np.float32]:
    return (level * np.random.default_rng(9).standard_normal((channels, FRAMES))).astype(np.float32)


def run_plugin(
    settings: Settings,
    effect: PluginEffect,
    signal: NDArray[np.float32],
    rate: int = 48_000,
    length: int = 4096,
) -> tuple[NDArray[np.float32], list[str]]:
    """Return what comes out in the frames of ``signal``, given in blocks of ``length``, and the notes."""
    notes: list[str] = []
    padded = np.pad(signal, ((0, 0), (0, FLUSH_FRAMES)))
    with closing(make_opener(settings, notes, PATIENT)(effect, rate, len(signal))) as hosted:
        blocks = [padded[:, start : start + length] for start in range(0, padded.shape[1], length)]
        made = np.concatenate([hosted.process(block) for block in blocks], axis=1)
    return made[:, : signal.shape[1]], notes


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_a_limiter_with_look_ahead_leaves_quiet_sound_at_its_sample(rate: int, settings: Settings) -> None:
    made, notes = run_plugin(settings, PluginEffect("ZaMaximX2.vst3"), noise(0.03), rate)
    assert np.array_equal(made, noise(0.03)) and notes == []


def test_a_limiter_limits_at_the_raw_value_that_was_given(settings: Settings) -> None:
    effect = PluginEffect("ZaMaximX2.vst3", parameters={"threshold_db": 0.5, "output_ceiling_db": 0.5})
    made, _ = run_plugin(settings, effect, noise(0.3))
    assert not np.array_equal(made, noise(0.3)) and made.any()


def test_a_mono_equaliser_treats_both_sides_alike(settings: Settings) -> None:
    signal = np.repeat(noise(0.1, 1), 2, axis=0)
    effect = PluginEffect("ZamEQ2.vst3", parameters={"boost_cut_1_db": 0.9})
    made, notes = run_plugin(settings, effect, signal)
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made, signal)
    assert notes == ["ZamEQ2 takes one channel: left and right go through an instance each, unlinked"]
    left, _ = run_plugin(settings, effect, signal[:1])
    assert np.array_equal(left[0], made[0])


@pytest.mark.parametrize("name", ["ZamHeadX2", "ZamDelay", "ZamCompX2"])
def test_two_instances_and_two_cuts_give_the_same_samples(name: str, settings: Settings) -> None:
    effect = PluginEffect(f"{name}.vst3")
    first, _ = run_plugin(settings, effect, noise(0.2))
    again, _ = run_plugin(settings, effect, noise(0.2), length=1000)
    assert np.array_equal(first, again) and first.any()


def test_a_state_gives_the_sound_that_its_values_gave(settings: Settings) -> None:
    values = {"threshold_db": 0.4, "ratio": 0.5}
    with closing(PluginProcess(VST3 / "ZamCompX2.vst3", PATIENT)) as process:
        process.open()
        process.apply(b"", values)
        state = process.read_state()
    by_values, _ = run_plugin(settings, PluginEffect("ZamCompX2.vst3", parameters=values), noise(0.3))
    by_state, _ = run_plugin(settings, PluginEffect("ZamCompX2.vst3", state=state), noise(0.3))
    untouched, _ = run_plugin(settings, PluginEffect("ZamCompX2.vst3"), noise(0.3))
    assert np.array_equal(by_values, by_state) and not np.array_equal(by_values, untouched)


def test_a_broken_state_is_refused_and_what_the_host_sets_is_no_parameter(settings: Settings) -> None:
    with pytest.raises(PluginError, match='"ZamCompX2" did not take the state'):
        run_plugin(settings, PluginEffect("ZamCompX2.vst3", state=b"broken" * 40), noise(0.1))
    with pytest.raises(PluginError, match="has no parameter buffer_size_frames"):
        effect = PluginEffect("ZamCompX2.vst3", parameters={"buffer_size_frames": 0.5})
        run_plugin(settings, effect, noise(0.1))


def test_show_prints_neither_meters_nor_what_the_host_sets(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "show", "ZaMaximX2"]) == 0
    shown = capsys.readouterr().out
    assert "ZaMaximX2: Damien Zammit, VST3, Fx|Dynamics|Stereo" in shown
    assert "gain_reduction_db  0.000000  0.000000 dB  (shown by the plugin)" in shown
    snippet = shown[shown.index("[[stems") :]
    assert "release_ms = 0.24242424964904785  # 25.000000 ms" in snippet
    for name in ("buffer_size", "sample_rate", "latency_frames", "current_program", "gain_reduction"):
        assert name not in snippet
