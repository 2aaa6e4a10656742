"""A plugin in a chain: the preset's values are what is heard, at its sample, however the audio is cut."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from plugins.fixture import build_plugin, needs_fixture
from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError
from stembridge.plugins.hosted import make_opener
from stembridge.plugins.process import Deadlines, Description, PluginProcess
from stembridge.settings import Settings, load_settings

pytestmark = needs_fixture

RATE = 48_000
FLUSH_FRAMES = 32_768
"""Silence that brings out all that a plugin and its host hold back."""
PATIENT = Deadlines(60.0, 60.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture in every variant that a test here opens."""
    folder = tmp_path_factory.mktemp("vst3")
    build_plugin(folder)
    build_plugin(folder, "Honest", delay_frames=480, reported_frames=480)
    build_plugin(folder, "Late", delay_frames=500, reported_frames=480)
    build_plugin(folder, "Early", delay_frames=380, reported_frames=480)
    build_plugin(folder, "Silent about it", delay_frames=77)
    build_plugin(folder, "Boaster", reported_frames=40_000)
    build_plugin(folder, "Bragger", delay_frames=100, reported_frames=200_000)
    build_plugin(folder, "Liar", reported_frames=500_000)
    build_plugin(folder, "Sleeper", delay_frames=40_000)
    build_plugin(folder, "Sleeping", delay_frames=90_000, reported_frames=10)
    build_plugin(folder, "Mono", channels=1)
    build_plugin(folder, "Stereo", channels=2)
    build_plugin(folder, "Pair", classes=2)
    return folder


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, environ={}, plugin_dirs=(folder,))


def noise(channels: int = 2, frames: int = 30_000) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(5).standard_normal((channels, frames))).astype(np.float32)


def cut(signal: NDArray[np.float32], length: int) -> Iterator[NDArray[np.float32]]:
    for start in range(0, signal.shape[1], length):
        yield signal[:, start : start + length]


def run_plugin(
    settings: Settings,
    effect: PluginEffect,
    signal: NDArray[np.float32],
    notes: list[str] | None = None,
    length: int = 4096,
) -> NDArray[np.float32]:
    """Return what comes out for ``signal``, given in blocks of ``length``, in as many frames as went in."""
    opener = make_opener(settings, [] if notes is None else notes, PATIENT)
    padded = np.concatenate((signal, np.zeros((len(signal), FLUSH_FRAMES), np.float32)), axis=1)
    with closing(opener(effect, RATE, len(signal))) as hosted:
        made = np.concatenate([hosted.process(block) for block in cut(padded, length)], axis=1)
    assert made.dtype == np.float32 and made.flags.c_contiguous
    assert not made[:, signal.shape[1] :].any()
    return made[:, : signal.shape[1]]


@pytest.mark.parametrize(
    ("channels", "block_frames", "length"), [(2, 512, 37), (1, 512, 777), (2, 512, 100_000), (2, 100, 4096)]
)
def test_the_result_does_not_depend_on_the_cuts(
    channels: int, block_frames: int, length: int, settings: Settings
) -> None:
    signal = noise(channels)
    effect = PluginEffect("Honest.vst3", parameters={"gain": 0.5}, block_frames=block_frames)
    assert np.array_equal(run_plugin(settings, effect, signal, length=length), 0.5 * signal)


def test_a_block_is_not_written_into(settings: Settings) -> None:
    signal = noise()
    signal.flags.writeable = False
    assert np.array_equal(run_plugin(settings, PluginEffect("Fixture.vst3"), signal), signal)


def test_reported_latency_is_taken_off_and_nothing_is_said(settings: Settings) -> None:
    notes: list[str] = []
    assert np.array_equal(run_plugin(settings, PluginEffect("Honest.vst3"), noise(), notes), noise())
    assert notes == []


@pytest.mark.parametrize(
    ("name", "late", "said"),
    [
        ("Late", 20, "Late reports 480 frames of latency and has 500: its output is 20 frames late"),
        ("Early", -100, "Early reports 480 frames of latency and has 380: its output is 100 frames early"),
        ("Silent about it", 77, "reports 0 frames of latency and has 77: its output is 77 frames late"),
    ],
)
def test_a_misreport_is_told_to_the_sample_and_moved_if_asked(
    name: str, late: int, said: str, settings: Settings
) -> None:
    signal = noise()
    notes: list[str] = []
    left = run_plugin_as_it_is(settings, PluginEffect(f"{name}.vst3"), signal, notes)
    expected = signal[:, -late:] if late < 0 else np.pad(signal, ((0, 0), (late, 0)))
    assert np.array_equal(left[:, : expected.shape[1]], expected)
    (note,) = notes
    assert said in note and note.endswith('latency = "auto" moves it')
    notes.clear()
    moved = run_plugin(settings, PluginEffect(f"{name}.vst3", latency="auto"), signal, notes)
    assert np.array_equal(moved, signal)
    assert said in notes[0] and notes[0].endswith("moved back into place")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Boaster", "Boaster reports 40000 frames of latency and has 0: its output is 40000 frames early"),
        ("Bragger", "reports 200000 frames of latency and has 100: its output is 199900 frames early"),
        ("Sleeper", "Sleeper reports 0 frames of latency and has 40000: its output is 40000 frames late"),
        (
            "Sleeping",
            "Sleeping gave silence for noise at -30 dBFS: whether the 10 frames of latency that it reports "
            "are right cannot be told",
        ),
    ],
)
def test_a_large_misreport_does_not_pass_in_silence(name: str, said: str, settings: Settings) -> None:
    notes: list[str] = []
    make_opener(settings, notes, PATIENT)(PluginEffect(f"{name}.vst3"), RATE, 2).close()
    (note,) = notes
    assert said in note


def test_a_large_misreport_is_moved_if_asked(settings: Settings) -> None:
    signal = noise(frames=50_000)
    effect = PluginEffect("Boaster.vst3", latency="auto")
    padded = np.pad(signal, ((0, 0), (0, FLUSH_FRAMES)))
    with closing(make_opener(settings, [], PATIENT)(effect, RATE, 2)) as hosted:
        made = hosted.process(padded)
    assert np.array_equal(made[:, : signal.shape[1]], signal)


def test_more_latency_than_can_be_checked_is_refused(settings: Settings) -> None:
    with pytest.raises(PluginError, match='"Liar" reports 500000 frames of latency, more than 10 s'):
        make_opener(settings, [], PATIENT)(PluginEffect("Liar.vst3"), RATE, 2)


def run_plugin_as_it_is(
    settings: Settings, effect: PluginEffect, signal: NDArray[np.float32], notes: list[str]
) -> NDArray[np.float32]:
    padded = np.pad(signal, ((0, 0), (0, FLUSH_FRAMES)))
    with closing(make_opener(settings, notes, PATIENT)(effect, RATE, len(signal))) as hosted:
        return hosted.process(padded)


def test_a_plugin_is_probed_once_and_a_note_said_once(settings: Settings) -> None:
    notes: list[str] = []
    opener = make_opener(settings, notes, PATIENT)
    for _ in range(2):
        opener(PluginEffect("Late.vst3"), RATE, 2).close()
    assert len(notes) == 1


def test_a_plugin_in_another_state_is_probed_again(settings: Settings, folder: Path) -> None:
    notes: list[str] = []
    opener = make_opener(settings, notes, PATIENT)
    opener(PluginEffect("Fixture.vst3", state=state_with(folder, gain=1.0)), RATE, 2).close()
    assert notes == []
    opener(PluginEffect("Fixture.vst3", state=state_with(folder, gain=0.0)), RATE, 2).close()
    assert len(notes) == 1 and "gave silence" in notes[0]


def test_an_instrument_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    open_effect = PluginProcess.open

    def open_instrument(process: PluginProcess, plugin: str = "") -> Description:
        return replace(open_effect(process, plugin), is_effect=False)

    monkeypatch.setattr(PluginProcess, "open", open_instrument)
    with pytest.raises(PluginError, match='plugin "Fixture" is an instrument'):
        make_opener(settings, [], PATIENT)(PluginEffect("Fixture.vst3"), RATE, 2)


def test_a_mono_plugin_gets_an_instance_per_side(settings: Settings) -> None:
    notes: list[str] = []
    signal = noise()
    effect = PluginEffect("Mono.vst3", parameters={"gain": 0.25})
    assert np.array_equal(run_plugin(settings, effect, signal, notes), 0.25 * signal)
    assert notes == ["Mono takes one channel: left and right go through an instance each, unlinked"]


def test_a_stereo_plugin_takes_a_mono_stem(settings: Settings) -> None:
    notes: list[str] = []
    signal = noise(1)
    effect = PluginEffect("Stereo.vst3", parameters={"gain": 0.25})
    assert np.array_equal(run_plugin(settings, effect, signal, notes), 0.25 * signal)
    assert notes == ["Stereo takes stereo alone: a mono signal goes to both sides, their mean is kept"]


def test_more_channels_than_it_takes_are_an_error_not_silence(settings: Settings) -> None:
    with pytest.raises(PluginError, match='plugin "Fixture" failed while it processed audio'):
        run_plugin(settings, PluginEffect("Fixture.vst3"), noise(6))


def test_a_state_is_restored_and_values_stand_over_it(settings: Settings, folder: Path) -> None:
    signal = noise()
    state = state_with(folder, gain=0.125)
    assert np.array_equal(
        run_plugin(settings, PluginEffect("Fixture.vst3", state=state), signal), 0.125 * signal
    )
    both = PluginEffect("Fixture.vst3", state=state, parameters={"gain": 0.5})
    assert np.array_equal(run_plugin(settings, both, signal), 0.5 * signal)
    mono = PluginEffect("Mono.vst3", state=state)
    assert np.array_equal(run_plugin(settings, mono, signal), 0.125 * signal)


def state_with(folder: Path, gain: float) -> bytes:
    with closing(PluginProcess(folder / "Fixture.vst3", PATIENT)) as process:
        process.open()
        process.apply(b"", {"gain": gain})
        return process.read_state()


@pytest.mark.parametrize("state", [b"no state at all", b"\0" * 500])
def test_a_state_that_is_not_taken_is_refused(state: bytes, settings: Settings) -> None:
    with pytest.raises(PluginError, match='plugin "Fixture" did not take the state of the preset'):
        run_plugin(settings, PluginEffect("Fixture.vst3", state=state), noise())


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        (
            PluginEffect("Fixture.vst3", parameters={"gian": 0.5}),
            "has no parameter gian (did you mean gain?)",
        ),
        (PluginEffect("Fixture.vst3", parameters={"zzz": 0.5}), "it has gain, fault, trigger"),
        (PluginEffect("Fixture.vst3", parameters={"gain": 1.01}), "gain = 1.01 is no raw value"),
        (PluginEffect("Fixture.vst3", parameters={"gain": -0.01}), "from 0 to 1"),
        (PluginEffect("Fixture.vst3", parameters={"gain": float("nan")}), "gain = nan is no raw value"),
        (PluginEffect("Pair.vst3"), '"Pair.vst3" holds 2 plugins'),
        (PluginEffect("Pair.vst3", plugin="Three"), "plugin = one of Pair, Pair Two"),
        (PluginEffect("Fixtur.vst3"), "did you mean Fixture.vst3?"),
        (PluginEffect("/etc/Other.vst3"), "is not on this machine"),
    ],
)
def test_what_cannot_be_done_as_asked_is_refused_in_one_line(
    effect: PluginEffect, words: str, settings: Settings
) -> None:
    with pytest.raises(PluginError) as caught:
        run_plugin(settings, effect, noise())
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_one_plugin_of_two_is_chosen_by_name(settings: Settings) -> None:
    signal = noise()
    assert np.array_equal(run_plugin(settings, PluginEffect("Pair.vst3", "Pair"), signal), signal)
    assert np.array_equal(run_plugin(settings, PluginEffect("Pair.vst3", "Pair Two"), signal), 0.5 * signal)


def test_a_bundle_outside_of_the_allowed_folders_is_never_opened(settings: Settings, tmp_path: Path) -> None:
    outside = build_plugin(tmp_path / "downloads", "Evil", at_load="crash")
    with pytest.raises(PluginError, match="is not in an allowed folder"):
        make_opener(settings, [])(PluginEffect(str(outside)), RATE, 2)


def test_a_file_that_is_no_plugin_is_refused(settings: Settings, folder: Path) -> None:
    (folder / "Text.vst3").write_text("no plugin")
    with pytest.raises(PluginError, match='plugin "Text" failed while it was opened'):
        run_plugin(settings, PluginEffect("Text.vst3"), noise())


@pytest.mark.parametrize("display", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_plugin_sees_no_display(display: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # The fixture aborts where it finds one.
    monkeypatch.setenv(display, ":99")
    assert np.array_equal(run_plugin(settings, PluginEffect("Fixture.vst3"), noise()), noise())


def test_plugins_run_side_by_side_from_any_thread(settings: Settings) -> None:
    signal = noise()
    made: dict[float, NDArray[np.float32]] = {}
    opener = make_opener(settings, [], PATIENT)

    def run(gain: float) -> None:
        with closing(opener(PluginEffect("Honest.vst3", parameters={"gain": gain}), RATE, 2)) as hosted:
            made[gain] = hosted.process(np.pad(signal, ((0, 0), (0, FLUSH_FRAMES))))[:, : signal.shape[1]]

    threads = [threading.Thread(target=run, args=(gain,)) for gain in (0.5, 0.25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for gain in (0.5, 0.25):
        assert np.array_equal(made[gain], np.float32(gain) * signal)
