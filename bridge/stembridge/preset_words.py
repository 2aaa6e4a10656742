"""What a preset does, in words. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.effects.kinds import KINDS, Parameter
from stembridge.presets import Preset, StemChange


def describe_changes(preset: Preset) -> Iterator[str]:
    """Yield what the preset does, one short line for each stem, send and the whole: 'vocals +3 dB'."""
    solo = [stem for stem, change in preset.stems.items() if change.is_solo and not change.is_muted]
    if solo:
        yield f"only {' and '.join(solo)}"
    for stem, change in preset.stems.items():
        if change.is_muted:
            yield f"{stem} muted"
        elif words := _describe_stem(change):
            yield f"{stem} {words}"
    for send in preset.sends:
        gain = [_spell_db(send.gain_db)] if send.gain_db else []
        kinds = ", ".join([*_list_kinds(send.chain), *gain])
        yield f"{send.name}: a stem of its own from {' and '.join(send.levels_db)}{': ' * bool(kinds)}{kinds}"
    if preset.master.chain.effects:
        yield f"all of it {', '.join(_list_kinds(preset.master.chain))}"
    if preset.master.match:
        yield f"as loud as the original ({preset.master.match.upper()})"
    if preset.master.ceiling_dbtp is not None:
        yield f"true peak at most {preset.master.ceiling_dbtp:g} dBTP"
    if preset.is_extended:
        yield "goes on until the last tail has died away"


def describe_effects(preset: Preset) -> Iterator[str]:
    """Yield what each effect does with its values, one line each, by the stem, send or master it is on."""
    for name, chain in preset.chains:
        for index, effect in enumerate(chain.effects):
            yield f"{name}.effects.{index}: {_describe_effect(effect)}"
        if chain.effects and chain.wet != 1:
            yield f"{name}: {chain.wet:.0%} of that, the rest as it was"


def _describe_stem(change: StemChange) -> str:
    words = list(_list_kinds(change.chain))
    if change.gain_db:
        words.append(_spell_db(change.gain_db))
    return ", ".join(words)


def _list_kinds(chain: Chain) -> list[str]:
    kinds = [
        effect.kind if isinstance(effect, Effect) else Path(effect.path).stem for effect in chain.effects
    ]
    return kinds if chain.wet == 1 or not kinds else [*kinds, f"{chain.wet:.0%} wet"]


def _describe_effect(effect: Effect | PluginEffect) -> str:
    if isinstance(effect, PluginEffect):
        values = [f"{name} {value:g}" for name, value in effect.parameters.items()]
        state = [f"a state of {len(effect.state)} bytes"] if effect.state else []
        return f"plugin {effect.plugin or effect.path}: {', '.join([*state, *values]) or 'as it opens'}"
    kind = KINDS[effect.kind]
    settled = _describe_values(effect.kind, kind.settle(effect.values))
    return f"{kind.name}, {kind.what}{': ' * bool(settled)}{settled}"


def _describe_values(kind: str, values: Mapping[str, object]) -> str:
    words = []
    for parameter in KINDS[kind].parameters:
        value = values[parameter.name]
        if isinstance(parameter, Parameter):
            name = parameter.name.rpartition("_")[0] if parameter.unit else parameter.name
            words.append(f"{name} {value:g} {parameter.unit}".rstrip())
        elif isinstance(value, bool):
            words.append(f"{'' if value else 'not '}{parameter.name}")
        else:
            words.append(f"{parameter.name} {value}")
    return ", ".join(words)


def _spell_db(gain_db: float) -> str:
    return f"{gain_db:+g} dB"
