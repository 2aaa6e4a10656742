"""Stems of noise, and what a chain makes of them: shared by the tests of effects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stembridge.effects.chain import Chain, Effect, PluginEffect
from stembridge.effects.processors import BlockProcessor
from stembridge.effects.stream import OpenPlugin, run_chain

Samples = NDArray[np.float32]


def make_noise(channels: int, frames: int, seed: int = 1, level: float = 0.2) -> Samples:
    """Return noise of another loudness on every channel, that nobody can write to."""
    loudness = level * 0.7 ** np.arange(channels)[:, None]
    noise = np.random.default_rng(seed).standard_normal((channels, frames)) * loudness
    samples = noise.astype(np.float32)
    samples.setflags(write=False)
    return samples


def group_channels(channels: int) -> list[tuple[int, ...]]:
    """Return pairs and singles, as 5.1 has them: front, centre, LFE, surround."""
    groups: dict[int, list[tuple[int, ...]]] = {1: [(0,)], 2: [(0, 1)], 6: [(0, 1), (2,), (3,), (4, 5)]}
    return groups[channels]


def cut(samples: Samples, frames: int | Sequence[int]) -> Iterator[Samples]:
    """Hand out blocks of one length, or of these, the last as long as what is left."""
    total = samples.shape[1]
    if isinstance(frames, int):
        edges = [*range(0, total, frames), total]
    else:
        edges = [0, *np.cumsum(frames).tolist(), total]
    for start, stop in pairwise(edges):
        yield samples[:, start:stop]


def refuse_plugin(effect: PluginEffect, sample_rate: int, channels: int) -> BlockProcessor:
    raise AssertionError(f"no plugin was asked for: {effect}")


def run(
    chain: Chain | Effect | PluginEffect,
    samples: Samples,
    *,
    sample_rate: int = 48000,
    frames: int | Sequence[int] = 100_000,
    is_extended: bool = False,
    open_plugin: OpenPlugin = refuse_plugin,
) -> Samples:
    """Return all that `run_chain` gives for a stem cut into blocks."""
    channels = samples.shape[0]
    stream = run_chain(
        chain if isinstance(chain, Chain) else Chain((chain,)),
        cut(samples, frames),
        channels=channels,
        sample_rate=sample_rate,
        frames=samples.shape[1],
        groups=group_channels(channels),
        is_extended=is_extended,
        open_plugin=open_plugin,
    )
    blocks = list(stream)
    assert all(block.flags.c_contiguous for block in blocks)
    return np.concatenate([np.zeros((channels, 0), np.float32), *blocks], axis=1)
