"""A chain at work: where its samples lie, that no block size is heard, and what must not be delivered."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pedalboard
import pytest
from pedalboard_native._internal import AddLatency

from effect_streams import Samples, cut, group_channels, make_noise, refuse_plugin, run
from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.effects.kinds import KINDS, Value
from stembridge.effects.stream import OpenPlugin, run_chain
from stembridge.errors import EffectError, PluginError

PLUGIN = PluginEffect("fake.vst3")

HEARD: Mapping[str, Mapping[str, Value]] = {
    "gain": {"gain_db": -3.0},
    "gate": {"threshold_db": -10.0},
    "limiter": {"ceiling_db": -15.0},
    "peak": {"gain_db": 6.0},
    "low_shelf": {"gain_db": -6.0},
    "high_shelf": {"gain_db": 6.0},
    "delay": {"delay_ms": 50.0},
    "ladder": {"cutoff_hz": 5000.0},
    "resample": {"rate_hz": 24000.0},
    "bitcrush": {"bit_depth": 12.0},
    "width": {"mid_gain_db": -1.0, "side_gain_db": 3.0},
}
"""Values of what is neutral, or not heard, at its defaults."""


class LatePlugin:
    """A plugin that is late, says so, and is waited for by pedalboard: it gives less at first."""

    name = "late"

    def __init__(self, frames: int) -> None:
        self._inner = AddLatency(frames)

    def process(self, block: Samples) -> Samples:
        return self._inner.process(block, 48000, buffer_size=block.shape[1], reset=False)

    def close(self) -> None:
        self._inner.reset()


class FaultyPlugin:
    """A plugin that does something to what it was given; it remembers how long each was."""

    name = "faulty"

    def __init__(self, change: Any = lambda block: block) -> None:
        self._change = change
        self.blocks: list[int] = []
        self.is_closed = False

    def process(self, block: Samples) -> Samples:
        assert block.flags.c_contiguous
        self.blocks.append(block.shape[1])
        out: Samples = self._change(block)
        return out

    def close(self) -> None:
        self.is_closed = True


def opener(*plugins: Any) -> OpenPlugin:
    """Return what opens these, one after the other."""
    waiting = iter(plugins)
    return lambda effect, sample_rate, channels: next(waiting)


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Effect]:
    """One effect of every kind, with values that are heard."""
    room = tmp_path_factory.mktemp("impulse") / "room.wav"
    impulse = make_noise(2, 3000, seed=9) * np.exp(-np.arange(3000) / 600).astype(np.float32)
    with pedalboard.io.AudioFile(str(room), "w", 48000, 2, bit_depth=32) as file:
        file.write(impulse)
    made = {name: Effect(name, HEARD.get(name, {})) for name in KINDS}
    return made | {"convolution": Effect("convolution", {"impulse_response": str(room), "mix": 0.5})}


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("sample_rate", [44100, 48000, 96000])
@pytest.mark.parametrize("name", KINDS)
def test_no_block_size_is_heard_at_any_rate_and_layout(
    name: str, sample_rate: int, channels: int, effects: dict[str, Effect]
) -> None:
    samples = make_noise(channels, 20_003)
    whole = run(effects[name], samples, sample_rate=sample_rate)
    assert whole.shape == samples.shape
    assert whole.dtype == np.float32
    assert not np.array_equal(whole, samples)
    for frames in (511, 8192, (1, 2, 0, 3, 8191, 8192, 1)):
        assert np.array_equal(run(effects[name], samples, sample_rate=sample_rate, frames=frames), whole)
    if channels == 6:
        for rows in group_channels(6):
            alone = run(effects[name], samples[list(rows)], sample_rate=sample_rate)
            assert np.array_equal(alone, whole[list(rows)]), rows


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("name", KINDS)
def test_a_stem_of_a_few_samples_begins_as_a_long_one_does(
    name: str, frames: int, effects: dict[str, Effect]
) -> None:
    """Arrays as short as that are taken for interleaved ones, or refused, by pedalboard."""
    samples = make_noise(2, frames)
    padded = np.pad(samples, ((0, 0), (0, 9000)))
    assert np.array_equal(run(effects[name], samples), run(effects[name], padded)[:, :frames])


def test_no_samples_give_no_samples() -> None:
    assert run(Effect("clip"), make_noise(2, 1)[:, :0]).shape == (2, 0)


@pytest.mark.parametrize("name", KINDS)
def test_what_comes_out_lies_where_it_was(name: str, effects: dict[str, Effect]) -> None:
    """The whole of a chain's effect begins with the stem: filters lag by their phase alone."""
    samples = np.pad(make_noise(2, 4000), ((0, 0), (5000, 5000)))
    out = run(effects[name], samples)
    spectrum = np.fft.rfft(out[0]) * np.fft.rfft(samples[0]).conj()
    likeness = np.abs(np.fft.irfft(spectrum))
    lag = (int(np.argmax(likeness)) + 7000) % 14_000 - 7000
    far = 336 if name == "chorus" else 3
    assert abs(lag) <= far, lag
    ahead = 120 if name == "resample" else 0
    assert np.abs(out[:, : 5000 - ahead]).max() < 1e-6


@pytest.mark.parametrize("latency", [1, 480, 1105, 8192, 20_000])
def test_a_late_plugin_in_a_chain_is_waited_for(latency: int) -> None:
    around = (Effect("compressor"), PLUGIN, Effect("delay", {"delay_ms": 3.0}), Effect("limiter"))
    without = Chain(tuple(effect for effect in around if effect is not PLUGIN), 0.7)
    for frames in (1, 5000, 30_000):
        samples = make_noise(2, frames)
        late = run(Chain(around, 0.7), samples, frames=700, open_plugin=opener(LatePlugin(latency)))
        assert np.array_equal(late, run(without, samples))


def test_two_groups_of_different_latency_come_back_together() -> None:
    samples = make_noise(6, 30_000)
    plugins = [LatePlugin(frames) for frames in (100, 20_000, 1, 9000)]
    assert np.array_equal(run(PLUGIN, samples, open_plugin=opener(*plugins)), samples)


def test_the_dry_share_is_of_the_same_sample() -> None:
    samples = make_noise(2, 30_000)
    half = run(Chain((PLUGIN, Effect("invert")), 0.5), samples, open_plugin=opener(LatePlugin(1105)))
    assert not half.any()
    samples = make_noise(2, 30_000, level=0.05)
    quarter = run(Chain((Effect("limiter"), Effect("invert")), 0.25), samples)
    assert np.array_equal(quarter, samples * np.float32(0.5))


def test_a_neutral_chain_hands_the_samples_on() -> None:
    samples = make_noise(2, 30_000)
    idle = Chain((Effect("gain"), Effect("reverb", {"mix": 0}), Effect("compressor", {"ratio": 1})), 0.3)
    for is_extended in (False, True):
        assert np.array_equal(run(idle, samples, frames=(0, 5, 0), is_extended=is_extended), samples)
    assert np.array_equal(run(Chain((PLUGIN,), 0.0), samples), samples)


def test_the_same_chain_twice_is_the_same_to_the_bit(effects: dict[str, Effect]) -> None:
    chain = Chain(tuple(effects.values()), 0.8)
    samples = make_noise(2, 40_000)
    assert np.array_equal(run(chain, samples), run(chain, samples, frames=100))


def test_stems_at_the_same_time_do_not_hear_each_other(effects: dict[str, Effect]) -> None:
    chain = Chain(tuple(effects.values()))
    stems = [make_noise(2, 20_000, seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda stem: run(chain, stem, frames=500), stems))
    for stem, out in zip(stems, together, strict=True):
        assert np.array_equal(run(chain, stem), out)


def test_an_extended_stem_ends_with_its_last_echo() -> None:
    samples = np.zeros((2, 10_000), np.float32)
    samples[:, 4000] = 0.5
    echoes = Effect("delay", {"delay_ms": 1000, "feedback": 0.1, "mix": 1})
    out = run(echoes, samples, sample_rate=8000, is_extended=True)
    heard = np.flatnonzero(out[0])
    assert heard.tolist()[:5] == [12_000, 20_000, 28_000, 36_000, 44_000]
    assert out.shape[1] == 44_001, "the fifth echo, 0.5e-4, is the last above -100 dBFS"
    trimmed = run(echoes, np.pad(samples, ((0, 0), (0, 5000))), sample_rate=8000)
    assert np.array_equal(out[:, :15_000], trimmed)


@pytest.mark.parametrize("name", KINDS)
def test_an_extended_stem_begins_as_a_trimmed_one(name: str, effects: dict[str, Effect]) -> None:
    samples = make_noise(2, 20_003)
    trimmed = run(effects[name], samples)
    extended = run(effects[name], samples, is_extended=True, frames=511)
    assert np.array_equal(extended[:, :20_003], trimmed)
    if extended.shape[1] > 20_003:
        assert np.abs(extended[:, -1]).max() >= 1e-5
    has_tail = KINDS[name].tail != "none"
    assert (extended.shape[1] > 20_003) == has_tail, KINDS[name].tail


def test_an_echo_of_a_plugin_is_waited_for() -> None:
    echo = pedalboard.Delay(delay_seconds=1.875, mix=1)
    plugin = FaultyPlugin(lambda block: echo.process(block, 8000, buffer_size=8192, reset=False))
    samples = make_noise(2, 4000)
    out = run(PLUGIN, samples, sample_rate=8000, is_extended=True, open_plugin=opener(plugin))
    assert out.shape[1] == 4000 + 15_000
    assert np.array_equal(out[:, 15_000:], samples)


def test_a_late_plugin_makes_no_stem_longer() -> None:
    samples = make_noise(2, 20_003)
    out = run(PLUGIN, samples, is_extended=True, open_plugin=opener(LatePlugin(5000)))
    assert np.array_equal(out, samples)


def test_a_tail_that_never_ends_is_faded_after_half_a_minute() -> None:
    samples = make_noise(1, 8000)
    echoes = Effect("delay", {"delay_ms": 2500, "feedback": 0.95, "mix": 1})
    out = run(echoes, samples, sample_rate=8000, is_extended=True)
    assert 31 * 8000 - 8 <= out.shape[1] <= 31 * 8000
    last, before = np.abs(out[0, -400:]).max(), np.abs(out[0, -30_000:-8000]).max()
    assert before > 0.1
    assert 0 < last < 0.1 * before
    hum = run(PLUGIN, samples, sample_rate=8000, is_extended=True, open_plugin=opener(FaultyPlugin(hum_on)))
    assert 31 * 8000 - 8 <= hum.shape[1] <= 31 * 8000
    assert abs(hum[0, -1]) < 1e-3


def hum_on(block: Samples) -> Samples:
    return block + np.float32(0.01)


def test_no_length_makes_the_memory_grow(effects: dict[str, Effect]) -> None:
    chain = Chain((effects["limiter"], effects["compressor"], effects["delay"]), 0.5)

    def measure_peak(seconds: int) -> int:
        block = make_noise(2, 48_000)
        tracemalloc.start()
        stream = run_chain(
            chain,
            (block for _ in range(seconds)),
            channels=2,
            sample_rate=48000,
            frames=seconds * 48_000,
            groups=[(0, 1)],
            is_extended=True,
            open_plugin=refuse_plugin,
        )
        frames = sum(out.shape[1] for out in stream)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert frames >= seconds * 48_000
        return peak

    assert measure_peak(40) < 1.2 * measure_peak(5)


MARK = np.float32(0.9)
"""Where the stem is as loud as this, some plugins fail."""


def give_nan(block: Samples) -> Samples:
    return np.where(np.abs(block) == MARK, np.float32(np.nan), block)


def give_infinity(block: Samples) -> Samples:
    return np.where(np.abs(block) == MARK, np.float32(-np.inf), block)


def give_mono(block: Samples) -> Samples:
    return block[:1]


def give_silence(block: Samples) -> Samples:
    return np.zeros_like(block)


def give_one_more(block: Samples) -> Samples:
    return np.pad(block, ((0, 0), (0, 1)))


def give_nothing(block: Samples) -> Samples:
    return block[:, :0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (give_nan, r"gave NaN or infinity at 1\.500 s"),
        (give_infinity, r"gave NaN or infinity at 1\.500 s"),
        (give_mono, r"gave an array of \(1, 8192\) for 2 channels"),
        (give_silence, r"turned a live stem into silence"),
        (give_one_more, r"gave more samples than it got"),
        (give_nothing, r"holds samples back for ever"),
    ],
)
def test_what_must_not_be_delivered_is_named_with_its_effect(change: Any, sentence: str) -> None:
    chain = Chain((Effect("invert"), PLUGIN, Effect("clip")), 0.5)
    samples = np.pad(make_noise(2, 20_000, level=0.05), ((0, 0), (0, 10_000)))
    samples[1, 12_000] = MARK
    plugin = FaultyPlugin(change)
    with pytest.raises(EffectError, match=rf"^plugin faulty \(number 2 of the chain\) {sentence}"):
        run(chain, samples, sample_rate=8000, open_plugin=opener(plugin))
    assert plugin.is_closed


def test_a_built_in_that_swallows_a_stem_is_named() -> None:
    late = Effect("delay", {"delay_ms": 5000, "mix": 1})
    with pytest.raises(EffectError, match=r"^effect delay \(number 1 of the chain\) turned a live stem"):
        run(late, make_noise(2, 30_000))
    assert run(late, make_noise(2, 30_000), is_extended=True).shape[1] == 30_000 + 240_000


def test_one_dead_pair_of_a_layout_is_silence_out_of_a_live_stem() -> None:
    plugins = [FaultyPlugin(), FaultyPlugin(), FaultyPlugin(give_silence), FaultyPlugin()]
    with pytest.raises(EffectError, match="turned a live stem into silence"):
        run(PLUGIN, make_noise(6, 9000), open_plugin=opener(*plugins))
    assert all(plugin.is_closed for plugin in plugins)


def test_silence_of_a_silent_stem_of_muted_mids_or_of_few_bits_is_no_fault() -> None:
    quiet = make_noise(2, 9000, level=5e-5)
    assert np.abs(quiet).max() < 10 ** (-70 / 20)
    assert not run(PLUGIN, quiet, open_plugin=opener(FaultyPlugin(give_silence))).any()
    assert not run(Effect("reverb"), np.zeros((2, 9000), np.float32)).any()
    alike = np.repeat(make_noise(1, 9000), 2, axis=0)
    assert not run(Effect("width", {"mute_mid": True}), alike).any()
    assert not run(Effect("bitcrush", {"bit_depth": 6.0}), make_noise(2, 9000, level=8e-4)).any()


def test_a_silent_stem_is_a_fault_before_its_last_block_is_handed_out() -> None:
    """Whoever counts samples, and stops where they are all there, must not miss it."""
    samples = make_noise(2, 30_000)
    stream = run_chain(
        Chain((PLUGIN,)),
        cut(samples, 9000),
        channels=2,
        sample_rate=48000,
        frames=30_000,
        groups=[(0, 1)],
        is_extended=False,
        open_plugin=opener(FaultyPlugin(give_silence)),
    )
    frames = 0
    with pytest.raises(EffectError):
        while frames < 30_000:
            frames += next(stream).shape[1]
    assert frames < 30_000


def test_a_stem_that_is_broken_itself_is_not_blamed_on_an_effect() -> None:
    samples = make_noise(2, 30_000).copy()
    samples[1, 20_000] = np.nan
    with pytest.raises(EffectError, match=r"^the stem holds NaN or infinity"):
        run(Effect("clip"), samples, frames=1000)


def test_plugins_are_given_whole_blocks_of_their_own() -> None:
    for block_frames, expected in ((480, 8160), (512, 8192), (10_000, 10_000)):
        plugin = FaultyPlugin()
        run(
            PluginEffect("x", block_frames=block_frames),
            make_noise(2, 30_000),
            frames=77,
            open_plugin=opener(plugin),
        )
        assert set(plugin.blocks) == {expected}


def test_plugins_are_opened_for_each_group_and_closed_whatever_happens() -> None:
    asked: list[tuple[PluginEffect, int, int]] = []
    plugins: list[FaultyPlugin] = []

    def open_plugin(effect: PluginEffect, sample_rate: int, channels: int) -> FaultyPlugin:
        asked.append((effect, sample_rate, channels))
        if len(asked) == 6:
            raise PluginError("it cannot be opened")
        plugins.append(FaultyPlugin())
        return plugins[-1]

    def stream() -> Iterator[Samples]:
        return run_chain(
            Chain((PLUGIN, PLUGIN)),
            cut(make_noise(6, 30_000), 30_000),
            channels=6,
            sample_rate=96000,
            frames=30_000,
            groups=group_channels(6),
            is_extended=False,
            open_plugin=open_plugin,
        )

    with pytest.raises(PluginError):
        next(stream())
    assert asked[:4] == [(PLUGIN, 96000, count) for count in (2, 1, 1, 2)]
    assert len(plugins) == 5
    assert all(plugin.is_closed for plugin in plugins)
    left = stream()
    next(left)
    assert not any(plugin.is_closed for plugin in plugins[5:])
    left.close()  # type: ignore[attr-defined]
    assert all(plugin.is_closed for plugin in plugins)


def test_a_corner_above_what_the_rate_holds_is_named() -> None:
    for effect, name in (
        (Effect("high_cut", {"cutoff_hz": 8000}), "high_cut.cutoff_hz = 8000"),
        (Effect("phaser", {"centre_hz": 7700}), "phaser.centre_hz = 7700"),
    ):
        with pytest.raises(
            EffectError, match=rf"^{name} is above what 16000 Hz audio holds \(at most 7680\)"
        ):
            run(effect, make_noise(2, 100), sample_rate=16000)
        run(effect, make_noise(2, 100), sample_rate=22050)


@pytest.mark.parametrize("groups", [[(0,)], [(0, 1), (1,)], [(0, 1, 2)], [(0,), (2,)]])
def test_groups_that_leave_a_channel_out_or_take_three_are_refused(groups: list[tuple[int, ...]]) -> None:
    channels = 3 if groups == [(0, 1, 2)] else 2
    with pytest.raises(ValueError, match=f"{channels} channels in"):
        next(
            run_chain(
                Chain(),
                iter([make_noise(channels, 10)]),
                channels=channels,
                sample_rate=48000,
                frames=10,
                groups=groups,
                is_extended=False,
                open_plugin=refuse_plugin,
            )
        )


@pytest.mark.parametrize(("channels", "frames"), [(2, 9), (2, 11), (1, 10)])
def test_another_count_of_samples_or_channels_than_promised_is_refused(channels: int, frames: int) -> None:
    with pytest.raises(ValueError, match=r"10|\(2"):
        list(
            run_chain(
                Chain((Effect("clip"),)),
                iter([make_noise(2, 10)]),
                channels=channels,
                sample_rate=48000,
                frames=frames,
                groups=group_channels(channels),
                is_extended=False,
                open_plugin=refuse_plugin,
            )
        )
