"""How late a plugin really is: noise goes in, and where its copy comes out is looked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVEL_DB = -30.0
"""Loud enough for a gate to be open, low enough for limiters and compressors to leave it alone."""
LONGEST_S = 0.25
"""The largest error that is surely found, either way; the noise is at least four times as long."""
LEAST_SHARE = 0.8
"""Of the response's energy, in one sample: a moved copy has nearly all, a Butterworth filter 0.69 at most."""


def probe_noise(sample_rate: int, channels: int) -> NDArray[np.float32]:
    """Return the noise that `find_lateness` knows again: white, the same in every channel, seeded."""
    frames = 1 << int(np.ceil(np.log2(4 * LONGEST_S * sample_rate)))
    level = 10.0 ** (LEVEL_DB / 20.0)
    noise = level * np.random.default_rng(480).standard_normal(frames)
    return np.tile(noise.astype(np.float32), (channels, 1))


def find_lateness(given: NDArray[np.float32], made: NDArray[np.float32]) -> int:
    """Return by how many frames ``made`` is later than ``given``; 0 where that cannot be told with certainty.

    The response from one to the other is estimated as the cross-correlation with the white input, channel by
    channel. It counts as a move only where one sample holds `LEAST_SHARE` of what comes out, and
    where all channels that sound agree: one side that is late on purpose is no error.

    Parameters
    ----------
    given, made : (channels, frames), the same shape
    """
    found = {
        _lateness(before.astype(np.float64), after.astype(np.float64))
        for before, after in zip(given, made, strict=True)
        if after.any()
    }
    return found.pop() if len(found) == 1 else 0


def _lateness(given: NDArray[np.float64], made: NDArray[np.float64]) -> int:
    frames = len(given)
    # Twice the length, so that nothing wraps around.
    spectrum = np.fft.rfft(made, 2 * frames) * np.conj(np.fft.rfft(given, 2 * frames))
    correlation = np.fft.irfft(spectrum, 2 * frames)
    peak = int(np.abs(correlation).argmax())
    late = peak if peak < frames else peak - 2 * frames
    heard = made[max(0, late) : frames + min(0, late)]
    sent = given[max(0, -late) : frames - max(0, late)]
    share = correlation[peak] ** 2 / float((sent @ sent) * (heard @ heard) or np.inf)
    return late if abs(late) <= frames // 2 and share >= LEAST_SHARE else 0
