"""The table's effects at work: each is opened for one group of channels and given block after block."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import pedalboard
from numpy.typing import NDArray

from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.effects.kinds import KINDS, Choice, Parameter, Switch, Value
from stembridge.effects.linked import LinkedDynamics
from stembridge.effects.sides import SideBalance
from stembridge.errors import EffectError

MAX_IMPULSE_S = 20.0
_PLUGIN_PAUSE_S = 2.0
"""An echo of a plugin is not known."""
_IMPULSE_GAIN = 8.0
"""JUCE scales an impulse response to an energy of 1/64 (`normaliseImpulseResponse`, factor 0.125)."""

Block = NDArray[np.float32]


class BlockProcessor(Protocol):
    """One effect on its way through a stem."""

    name: str

    def process(self, block: Block) -> Block:
        """Return what comes out: what is held back now comes out of a later block."""
        ...

    def close(self) -> None: ...


class PedalboardProcessor:
    """One of pedalboard's effects, or some in a row, that remember what they heard."""

    def __init__(self, name: str, plugins: list[Any], sample_rate: int) -> None:
        self.name = name
        self._board = pedalboard.Pedalboard(plugins) if len(plugins) > 1 else plugins[0]
        self._sample_rate = sample_rate

    def process(self, block: Block) -> Block:
        out = self._board.process(block, self._sample_rate, buffer_size=block.shape[1], reset=False)
        return cast(Block, out)

    def close(self) -> None:
        self._board.reset()


class ImpulseProcessor:
    """An impulse response, mixed with the dry signal; neither changes its level by the other's."""

    def __init__(self, inner: PedalboardProcessor, mix: float) -> None:
        self.name = inner.name
        self._inner = inner
        self._dry = np.float32(1 - mix)
        self._wet = np.float32(_IMPULSE_GAIN * mix)

    def process(self, block: Block) -> Block:
        return self._dry * block + self._wet * self._inner.process(block)

    def close(self) -> None:
        self._inner.close()


def open_builtin(effect: Effect, sample_rate: int, channels: int) -> BlockProcessor:
    """Return an effect of the table, ready for a group of ``channels``.

    Raises
    ------
    EffectError
        A corner lies above what the rate holds, or an impulse response is none.
    """
    kind = KINDS[effect.kind]
    values = kind.settle(effect.values)
    _check_corner(effect.kind, values, sample_rate)
    if effect.kind == "width":
        mid_gain_db = -np.inf if values["mute_mid"] else float(values["mid_gain_db"])
        return SideBalance(mid_gain_db, float(values["side_gain_db"]))
    if effect.kind == "convolution":
        inner = PedalboardProcessor(
            effect.kind, [_open_impulse(str(values["impulse_response"]))], sample_rate
        )
        return ImpulseProcessor(inner, float(values["mix"]))
    count = int(values.get("poles", 1))
    plugins = [_open_plugin(effect.kind, values) for _ in range(count)]
    processor = PedalboardProcessor(effect.kind, plugins, sample_rate)
    return LinkedDynamics(processor) if values.get("linked") and channels > 1 else processor


def find_pause_s(chain: Chain) -> float:
    """Return how long a chain may be silent before its next echo."""
    pause_s = 0.0
    for effect in chain.effects:
        if isinstance(effect, PluginEffect):
            pause_s += _PLUGIN_PAUSE_S
        elif effect.kind == "delay":
            pause_s += float(KINDS["delay"].settle(effect.values)["delay_ms"]) / 1000
        elif effect.kind == "convolution":
            pause_s += MAX_IMPULSE_S
    return pause_s


def _open_plugin(name: str, values: dict[str, Value]) -> Any:
    kind = KINDS[name]
    plugin_class = getattr(pedalboard, kind.class_name)
    given: dict[str, Any] = {}
    for parameter in kind.parameters:
        if not parameter.attribute:
            continue
        value = values[parameter.name]
        if isinstance(parameter, Parameter):
            given[parameter.attribute] = float(value) * parameter.scale
        elif isinstance(parameter, Choice):
            members = getattr(plugin_class, parameter.members).__members__
            word = str(value).replace("_", "")
            given[parameter.attribute] = next(one for name, one in members.items() if name.lower() == word)
        elif isinstance(parameter, Switch):
            given[parameter.attribute] = value
    return plugin_class(**given)


def _check_corner(name: str, values: dict[str, Value], sample_rate: int) -> None:
    """Refuse a corner that the rate has no room for: pedalboard's filters are undefined there."""
    for parameter in ("cutoff_hz", "centre_hz"):
        if parameter in values and float(values[parameter]) >= 0.48 * sample_rate:
            raise EffectError(
                f"{name}.{parameter} = {values[parameter]:g} is above what {sample_rate} Hz audio holds",
                f"at most {0.48 * sample_rate:.0f}",
            )


def _open_impulse(path: str) -> Any:
    remedy = f"a WAV, AIFF or FLAC of one channel or two, up to {MAX_IMPULSE_S:g} s"
    try:
        with pedalboard.io.AudioFile(path) as file:
            seconds = file.frames / file.samplerate
            if file.num_channels > 2 or not 0 < seconds <= MAX_IMPULSE_S:
                raise EffectError(
                    f"impulse_response = {path!r} has {file.num_channels} channels and {seconds:.1f} s",
                    remedy,
                )
            samples = file.read(file.frames)
            rate = file.samplerate
    except (OSError, ValueError, RuntimeError) as error:
        raise EffectError(f"impulse_response = {path!r}: {error}", remedy) from None
    if not np.isfinite(samples).all() or not samples.any():
        raise EffectError(f"impulse_response = {path!r} holds silence, NaN or infinity", remedy)
    return pedalboard.Convolution(np.ascontiguousarray(samples), mix=1.0, sample_rate=float(rate))
