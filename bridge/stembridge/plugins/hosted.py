"""A plugin as one effect of a chain: opened as a preset says, checked, and put at the right sample."""

from __future__ import annotations

import difflib
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stembridge.effects.chain import PluginEffect
from stembridge.errors import PluginError
from stembridge.plugins.folders import resolve
from stembridge.plugins.probe import LEVEL_DB, MOST_REPORTED_S, count_probe_frames, find_lateness, probe_noise
from stembridge.plugins.process import REMEDY, USUAL, Deadlines, PluginProcess, RunningPlugins
from stembridge.settings import Settings

EXCHANGE_FRAMES = 8192
"""What is gathered before the child is asked: each exchange has a price, whatever its length."""


class HostedPlugin:
    """A plugin in its own process, as a processor of a chain.

    Parameters
    ----------
    effect : what the preset asks for; raw values and state are applied before the first sample
    path : its bundle
    sample_rate, channels : of the audio; one or two channels
    deadlines : what the plugin may take
    shift_frames : how late the output is beyond what the plugin reports; negative when it is early
    running : gets its process, until that is closed

    Raises
    ------
    PluginError
        From here and from `process`: the plugin cannot be opened, crashed, hung, or gave NaN.
    """

    def __init__(
        self,
        effect: PluginEffect,
        path: Path,
        sample_rate: int,
        channels: int,
        deadlines: Deadlines = USUAL,
        shift_frames: int = 0,
        running: RunningPlugins | None = None,
    ) -> None:
        self._sample_rate = sample_rate
        self._channels = channels
        self._block_frames = effect.block_frames
        self._gather_frames = math.ceil(EXCHANGE_FRAMES / effect.block_frames) * effect.block_frames
        self._skip = max(0, shift_frames)
        self._waiting = np.zeros((channels, max(0, -shift_frames)), np.float32)
        self._given = 0
        self.layout = "plain"
        self.reported_frames = 0
        self._process = PluginProcess(path, deadlines, running)
        try:
            self._set_up(effect)
        except BaseException:
            self.close()
            raise

    def process(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what has come out by now, (channels, frames); what is held back comes with later blocks."""
        waiting = np.concatenate((self._waiting, block), axis=1)
        full = waiting.shape[1] // self._gather_frames * self._gather_frames
        self._waiting = waiting[:, full:]
        made = [
            self._exchange(waiting[:, start : start + self._gather_frames])
            for start in range(0, full, self._gather_frames)
        ]
        joined = np.concatenate(made, axis=1) if made else np.zeros((self._channels, 0), np.float32)
        skipped = min(self._skip, joined.shape[1])
        self._skip -= skipped
        return np.ascontiguousarray(joined[:, skipped:])

    def close(self) -> None:
        """End the plugin's process."""
        self._process.close()

    def _set_up(self, effect: PluginEffect) -> None:
        description = self._process.open(effect.plugin)
        self.name = description.name
        if not description.is_effect:
            raise PluginError(f'plugin "{self.name}" is an instrument', "a chain takes effects alone")
        if effect.parameters:
            known = [parameter.name for parameter in self._process.list_parameters()]
            _check_parameters(self.name, effect.parameters, known)
        self._process.apply(effect.state, effect.parameters)

    def _exchange(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = self._process.process(block, self._sample_rate, self._block_frames)
        self.layout = answer.layout
        self.reported_frames = answer.reported_frames
        is_sound = np.isfinite(answer.samples).all(axis=0)
        if not is_sound.all():
            frame = self._given + int(is_sound.argmin())
            raise PluginError(
                f'plugin "{self.name}" gave NaN or infinity at frame {frame}',
                "change its parameters, or do without it",
            )
        self._given += answer.samples.shape[1]
        return answer.samples


@dataclass(frozen=True, slots=True)
class Probed:
    """What a plugin really does, apart from what it says; of a silent one nobody knows how late it is."""

    name: str
    layout: str
    reported_frames: int
    late_frames: int
    is_silent: bool


def make_opener(
    settings: Settings, notes: list[str], deadlines: Deadlines = USUAL, running: RunningPlugins | None = None
) -> Callable[[PluginEffect, int, int], HostedPlugin]:
    """Return the function that opens plugins for a chain: effect, sample rate, channels -> processor.

    Each effect is first opened apart and probed, once per rate and number of channels; what there is to say
    of it (a misreported latency, one instance per side) is added to ``notes``, each sentence once.

    Parameters
    ----------
    settings : says which folders are allowed
    notes : gets the sentences
    deadlines : what a plugin may take
    running : gets every process, so that all of them can be ended from another thread

    Raises
    ------
    PluginError
        From the returned function: not allowed, not there, an unknown parameter or one outside 0..1, a state
        that it does not take, or a fault of the plugin.
    """
    probed: dict[tuple[object, ...], Probed] = {}
    # Stems may be rendered side by side.
    probing = threading.Lock()

    def open_plugin(effect: PluginEffect, sample_rate: int, channels: int) -> HostedPlugin:
        path = resolve(effect.path, settings)
        parameters = tuple(sorted(effect.parameters.items()))
        key = (path, effect.plugin, parameters, effect.state, effect.block_frames, sample_rate, channels)
        is_moved = effect.latency == "auto"
        with probing:
            if key not in probed:
                probed[key] = probe_plugin(effect, path, sample_rate, channels, deadlines, running)
            found = probed[key]
            notes.extend(note for note in describe_probe(found, is_moved) if note not in notes)
        shift_frames = found.late_frames if is_moved else 0
        return HostedPlugin(effect, path, sample_rate, channels, deadlines, shift_frames, running)

    return open_plugin


def probe_plugin(
    effect: PluginEffect,
    path: Path,
    sample_rate: int,
    channels: int,
    deadlines: Deadlines,
    running: RunningPlugins | None = None,
) -> Probed:
    """Return what an instance of its own makes of noise at -30 dBFS, long enough for what it reports.

    Raises
    ------
    PluginError
        It cannot be used, or reports more latency than can be checked.
    """
    reported_frames = 0
    while True:
        noise = probe_noise(sample_rate, channels, reported_frames)
        with closing(HostedPlugin(effect, path, sample_rate, channels, deadlines, running=running)) as hosted:
            made = hosted.process(noise)
        reported_frames = hosted.reported_frames
        if reported_frames > MOST_REPORTED_S * sample_rate:
            raise PluginError(
                f'plugin "{hosted.name}" reports {reported_frames} frames of latency, more than '
                f"{MOST_REPORTED_S:g} s",
                REMEDY,
            )
        if count_probe_frames(sample_rate, reported_frames) <= noise.shape[1]:
            late_frames = find_lateness(noise, made)
            return Probed(hosted.name, hosted.layout, reported_frames, late_frames, not made.any())


def describe_probe(found: Probed, is_moved: bool) -> list[str]:
    """Return what a user must know about a plugin, as sentences."""
    said = []
    if found.layout == "dual mono":
        said.append(f"{found.name} takes one channel: left and right go through an instance each, unlinked")
    if found.layout == "mono on both sides":
        said.append(f"{found.name} takes stereo alone: a mono signal goes to both sides, their mean is kept")
    if found.is_silent:
        said.append(
            f"{found.name} gave silence for noise at {LEVEL_DB:g} dBFS: whether the {found.reported_frames} "
            "frames of latency that it reports are right cannot be told"
        )
    if found.late_frames:
        actual = found.reported_frames + found.late_frames
        how_far = f"{abs(found.late_frames)} frames {'late' if found.late_frames > 0 else 'early'}"
        remedy = "moved back into place" if is_moved else 'latency = "auto" moves it'
        said.append(
            f"{found.name} reports {found.reported_frames} frames of latency and has {actual}: its output is "
            f"{how_far}; {remedy}"
        )
    return said


def check_name(plugin: str, name: str, known: list[str]) -> None:
    """Raise `PluginError` where a plugin has no parameter of that name, with those that it has."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        raise PluginError(
            f'plugin "{plugin}" has no parameter {name}',
            f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}",
        )


def _check_parameters(plugin: str, wanted: Mapping[str, float], known: list[str]) -> None:
    for name, value in wanted.items():
        check_name(plugin, name, known)
        if not 0.0 <= value <= 1.0:
            raise PluginError(
                f'plugin "{plugin}": {name} = {value} is no raw value',
                "raw values go from 0 to 1; `stembridge plugins show` prints them",
            )
