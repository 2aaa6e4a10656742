"""How late a plugin really is: noise goes in, and where its copy comes out is looked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVEL_DB = -30.0
"""Loud enough for a gate to be open, low enough for limiters and compressors to leave it alone."""
LONGEST_S = 0.25
"""The largest error looked for, either way."""
LEAST_SHARE = 0.5
"""Of the whole response's energy, in one sample: a moved copy has nearly all there, no filter or room has."""


def probe_noise(sample_rate: int, channels: int) -> NDArray[np.float32]:
    """Return the noise that `find_lateness` knows again: white, the same in every channel, seeded."""
    frames = 1 << int(np.ceil(np.log2(4 * LONGEST_S * sample_rate)))
    level = 10.0 ** (LEVEL_DB / 20.0)
    noise = level * np.random.default_rng(480).standard_normal(frames)
    return np.tile(noise.astype(np.float32), (channels, 1))


def find_lateness(given: NDArray[np.float32], made: NDArray[np.float32]) -> int:
    """Return by how many frames ``made`` is later than ``given``; 0 where that cannot be told with certainty.

    The response from one to the other is estimated as the circular cross-correlation over the power of the
    white input, of both channels' sums. It counts as a move only where one sample holds `LEAST_SHARE` of its
    energy, after what the estimate itself scatters (1/frames of the total per sample) is taken off.

    Parameters
    ----------
    given, made : (channels, frames), the same shape
    """
    x = given.sum(axis=0, dtype=np.float64)
    y = made.sum(axis=0, dtype=np.float64)
    power = float(x @ x)
    if not power or not float(y @ y):
        return 0
    frames = len(x)
    response = np.fft.irfft(np.fft.rfft(y, 2 * frames) * np.conj(np.fft.rfft(x, 2 * frames)), 2 * frames)
    response /= power
    peak = int(np.abs(response).argmax())
    late = peak if peak < frames else peak - 2 * frames
    share = response[peak] ** 2 * power / float(y @ y)
    return late if share >= LEAST_SHARE else 0
