"""The nouns of a chain: effects of our table, plugins, and their order. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_BLOCK_FRAMES, MAX_BLOCK_FRAMES = 32, 8192
"""What a plugin may be given at once: there is a price per block, and not all plugins take long ones."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect of `stembridge.effects.kinds.KINDS`: its kind, and every parameter that was given."""

    kind: str
    values: Mapping[str, float | bool | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PluginEffect:
    """A VST3 or Audio Unit.

    Parameters
    ----------
    path : file name of the bundle, looked up in the allowed folders, or an absolute path inside one of them
    plugin : which of the plugins in a bundle of several; '' where there is one
    parameters : raw values, 0..1, by the plugin's own names
    state : what the plugin gave as its raw state; applied before ``parameters``; empty means none
    latency : 'reported' trusts what the plugin says; 'auto' moves its output by what was measured
    block_frames : the block that the plugin is given; some sound different with another one
    """

    path: str
    plugin: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)
    state: bytes = b""
    latency: str = "reported"
    block_frames: int = 512


@dataclass(frozen=True, slots=True)
class Chain:
    """Effects in order; ``wet`` is the share of the result in what comes out, 0..1, the rest is dry."""

    effects: tuple[Effect | PluginEffect, ...] = ()
    wet: float = 1.0
