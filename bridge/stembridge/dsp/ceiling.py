"""A true-peak ceiling as one gain curve, so that everything that makes up a mix can be turned down alike.

Every frame asks for the reduction that its waveform needs. The most that is asked for within the look-ahead
is held, let go at a steady rate and smoothed by a Hann window no wider than the hold: so the curve is smooth
and reduces no frame by less than it asks for. Where nothing is asked for it is exactly 1.

What reaches within some 5 % of half the sample rate, hard clipping or unfiltered noise, no meter draws as
another does: there an ideal sinc, endlessly long, may still read up to 0.7 dB above the ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from scipy.signal import fftconvolve

from stembridge.dsp.true_peak import REACH_FRAMES, Signal, Windows, find_peaks, peak_windows

LOOK_AHEAD_S = 0.0025
"""The curve begins to fall twice this long before a peak and has fallen this long before it."""

RELEASE_DB_PER_S = 20.0

_MARGIN_DB = 0.04
"""Against what lies between the points of the grid, a curve that bends the waveform, and other meters."""

_FACTOR = 16
_HOP_FRAMES = 16_384

Curve = NDArray[np.float64]


def limit_gains(blocks: Iterable[Signal], *, sample_rate: int, ceiling_dbtp: float) -> Iterator[Curve]:
    """Yield the gains, one per frame, that keep a signal's true peak below a ceiling.

    They come at most about 50 000 frames behind the blocks and do not depend on how these are cut.

    Parameters
    ----------
    blocks : (channels, frames) each, full scale 1.0
    sample_rate : Hz
    ceiling_dbtp : dBTP, read at 16 times the sample rate

    Raises
    ------
    SourceError : a sample is not finite
    """
    reach = max(1, round(LOOK_AHEAD_S * sample_rate))
    # The curve is held and smoothed across the ends, too: the first frame may be the loudest.
    silence = np.zeros(2 * reach)
    asked = _ask_reductions(blocks, 10 ** ((ceiling_dbtp - _MARGIN_DB) / 20))
    # What is asked for begins a frame early, with what rings before the first.
    asked = chain([silence[1:]], asked, [silence])
    held = _hold_reductions(asked, reach, RELEASE_DB_PER_S / sample_rate)
    for reduction_db in _smooth_reductions(held, reach):
        yield 10 ** (reduction_db / -20)


def _ask_reductions(blocks: Iterable[Signal], ceiling: float) -> Iterator[Curve]:
    """Yield in dB what the waveform from each frame to the next asks for, from before the first one on.

    The frame at its end is turned down as well, since what is held falls no faster than the release.
    """
    blocks = iter(blocks)
    first = next(blocks, None)
    if first is None:
        return
    silence = np.zeros((first.shape[0], REACH_FRAMES))
    for window in _cut(chain([first], blocks), peak_windows(first.shape[0]), silence):
        excess = np.maximum(find_peaks(window, ceiling, _FACTOR) / ceiling, 1.0)
        yield 20 * np.log10(excess.astype(np.float64))


def _hold_reductions(asked: Iterable[Curve], reach: int, release_db: float) -> Iterator[Curve]:
    """Yield the largest reduction within ``reach`` frames; from there it falls by ``release_db`` a frame.

    They begin and end ``reach`` frames inside of what is asked for.
    """
    carry = 0.0
    for window in _cut_curve(asked, reach):
        held = maximum_filter1d(window, 2 * reach + 1)[reach:-reach]
        if carry or held.any():
            fall = release_db * np.arange(1, held.size + 1)
            held = np.maximum(np.maximum.accumulate(held + fall), carry) - fall
            held = np.maximum(held, 0.0)
            carry = float(held[-1])
        yield held


def _smooth_reductions(held: Iterable[Curve], reach: int) -> Iterator[Curve]:
    """Yield the reductions under a Hann window of ``reach`` frames to both sides, from ``reach`` on."""
    hann = np.hanning(2 * reach + 3)[1:-1]
    hann /= hann.sum()
    for window in _cut_curve(held, reach):
        if not window.any():
            yield np.zeros(window.size - 2 * reach)
            continue
        # What a transform rounds is no reduction.
        is_reduced = maximum_filter1d(window, 2 * reach + 1)[reach:-reach] > 0
        yield np.where(is_reduced, np.maximum(fftconvolve(window, hann, "valid"), 0.0), 0.0)


def _cut_curve(parts: Iterable[Curve], reach: int) -> Iterator[Curve]:
    """Yield overlapping windows of a curve, ``reach`` frames to both sides of each hop."""
    windows = Windows(hop=_HOP_FRAMES, margin=2 * reach)
    for window in _cut((part[None] for part in parts), windows, np.zeros((1, 0))):
        yield window[0]


def _cut(blocks: Iterable[Signal], windows: Windows, end: Signal) -> Iterator[Signal]:
    for block in blocks:
        yield from windows.add(block)
    yield from windows.rest(end)
