"""A signal moved by a whole or a broken number of frames."""

from __future__ import annotations

from collections.abc import Callable
from math import floor

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

Signal = NDArray[np.float64]
Reader = Callable[[int, int], Signal]
"""``read(start, frames)`` returns (channels, frames) for any ``start``, 0 where there are no samples."""

TAPS = 160
"""Length of the interpolating filter: below 0.45 of the sample rate it is off by less than -100 dB."""

_KAISER_BETA = 0.1102 * (120.0 - 8.7)
"""120 dB: Kaiser, "Nonrecursive digital filter design using the I0-sinh window function" (1974)."""


def make_reader(signal: Signal) -> Reader:
    """Return a reader of ``signal``, (channels, frames), that is 0 before and after it."""

    def read(start: int, frames: int) -> Signal:
        out = np.zeros((signal.shape[0], frames))
        begin, end = max(0, start), min(signal.shape[1], start + frames)
        if begin < end:
            out[:, begin - start : end - start] = signal[:, begin:end]
        return out

    return read


def design_interpolator(fraction: float) -> Signal:
    """Return (`TAPS`,) coefficients; convolved with a signal they give its value ``fraction`` frames later.

    A sinc under a Kaiser window. With ``valid`` convolution the result's frame 0 belongs to the signal's
    frame ``TAPS // 2 - 1``.

    Parameters
    ----------
    fraction : 0 <= fraction < 1, in frames
    """
    place = np.arange(TAPS) - TAPS // 2 + fraction
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1.0 - (place / (TAPS // 2)) ** 2, 0.0, 1.0)))
    return np.asarray(np.sinc(place) * window / np.i0(_KAISER_BETA))


def advance(read: Reader, delay_frames: float, polarity: int = 1) -> Reader:
    """Return a reader whose frame n is what ``read`` has at n + ``delay_frames``, times ``polarity``.

    A whole delay copies samples; a broken one interpolates them. Nothing is held between two reads.

    Parameters
    ----------
    read : the signal that is late by ``delay_frames`` (early where that is negative)
    polarity : 1 or -1
    """
    whole = floor(delay_frames)
    fraction = delay_frames - whole
    if not fraction:
        return lambda start, frames: polarity * read(start + whole, frames)
    taps = polarity * design_interpolator(fraction)[None]

    def read_between(start: int, frames: int) -> Signal:
        around = read(start + whole - TAPS // 2 + 1, frames + TAPS - 1)
        return np.asarray(oaconvolve(around, taps, mode="valid", axes=1))

    return read_between
