"""The gain that is the same for all of a remix: as loud as the original, and below a true-peak ceiling."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from math import inf, isfinite, log10
from pathlib import Path

import numpy as np

from stembridge import disk
from stembridge.dsp import grid
from stembridge.dsp.ceiling import limit_gains
from stembridge.dsp.loudness import LoudnessMeter
from stembridge.mixdown.mixing import Mix, MixBlock, Signal
from stembridge.mixdown.side_by_side import read_ahead
from stembridge.plane_file import PlaneFile

MAX_MATCH_DB = 12.0
"""What loudness alone may change: more would be a mistake of the preset, or silence."""


_MISSED_DB = 0.1
"""What a match may miss without a word."""


def match_levels(mix: Mix, match: str) -> Generator[float, None, tuple[float, str]]:
    """Return the gain in dB that brings a remix to its original's level, and a note or ''.

    The gain is at most `MAX_MATCH_DB` either way, and 0 where one of the two is silent. Yields the fraction
    that is done.

    Parameters
    ----------
    match : 'lufs' or 'rms'
    """
    before, after = yield from _measure_levels(mix, match)
    if not isfinite(before - after):
        return 0.0, "the original or the remix is silent: nothing to match"
    gain_db = before - after
    if abs(gain_db) <= MAX_MATCH_DB:
        return gain_db, ""
    capped_db = MAX_MATCH_DB if gain_db > 0 else -MAX_MATCH_DB
    return capped_db, f"matching the original asks for {gain_db:+.1f} dB: {capped_db:+.0f} dB were given"


def _measure_levels(mix: Mix, match: str) -> Generator[float, None, tuple[float, float]]:
    """Return the levels in dB of the original and of a remix, -inf for both where one is silent.

    Loudness is not defined for less than 0.4 s and for what is very quiet: there RMS stands for it. Both are
    measured over the original's length: a tail behind it has nothing to be held against, and must not make
    what comes before it louder.
    """
    mix = replace(mix, frames=mix.source.frames)
    weights = mix.source.loudness_weights
    meters = [LoudnessMeter(mix.source.channels, mix.source.sample_rate, weights) for _ in range(2)]
    energies = [0.0, 0.0]
    position = 0
    with closing(read_ahead(mix.read(is_compared=True))) as blocks:
        for block in blocks:
            if block.original is None:
                raise AssertionError("the original was not read")
            for index, signal in enumerate((block.original, block.remix)):
                energies[index] += grid.sum_squares(signal)
                if match == "lufs":
                    meters[index].add(signal)
            position += block.remix.shape[1]
            yield position / mix.frames
    before, after = (meter.read() for meter in meters)
    if isfinite(before) and isfinite(after):
        return before, after
    if not all(energies):
        return -inf, -inf
    before, after = (10 * log10(energy / mix.frames) for energy in energies)
    return before, after


def hold_ceiling(
    mix: Mix, ceiling_dbtp: float, match: str, planes: PlaneFile, out: Path
) -> Generator[float, None, tuple[Mix, float, str]]:
    """Return the mix below a ceiling, the most in dB that it takes off, and a note or ''.

    The note tells by how much a remix that was matched is below its original by now.

    Parameters
    ----------
    match : what the remix was matched by: 'lufs', 'rms' or ''
    planes : one empty plane, which gets the curve
    out : folder that is named where the disk does not take it
    """
    mix, reduction_db = yield from _draw_curve(mix, ceiling_dbtp, planes, out)
    if not match or reduction_db == 0.0:
        return mix, reduction_db, ""
    before, after = yield from _measure_levels(mix, match)
    is_missed = before - after > _MISSED_DB
    note = f"the ceiling leaves the remix {before - after:.1f} dB below the original" if is_missed else ""
    return mix, reduction_db, note


def _draw_curve(
    mix: Mix, ceiling_dbtp: float, planes: PlaneFile, out: Path
) -> Generator[float, None, tuple[Mix, float]]:
    """Return the mix below a ceiling, and the most in dB that it takes off: the mix itself where that is 0.

    Parameters
    ----------
    planes : one empty plane, which gets the curve
    out : folder that is named where the disk does not take it
    """
    done = 0

    def feed(blocks: Iterator[MixBlock]) -> Iterator[Signal]:
        nonlocal done
        for block in blocks:
            done += block.remix.shape[1]
            yield block.remix

    lowest = 1.0
    with closing(read_ahead(mix.read())) as blocks:
        curve = limit_gains(feed(blocks), sample_rate=mix.source.sample_rate, ceiling_dbtp=ceiling_dbtp)
        for gains in curve:
            # As it will be read: what float32 rounds to 1 takes nothing off.
            stored = gains.astype(np.float32)
            with disk.writing(out):
                planes.append(stored[np.newaxis])
            lowest = min(lowest, float(stored.min(initial=1.0)))
            yield done / mix.frames
    if planes.frames != mix.frames:
        raise ValueError(f"a curve of {planes.frames} frames for {mix.frames}")
    if lowest == 1.0:
        return mix, 0.0
    return replace(mix, curve=planes), -20 * log10(lowest)
