"""How late a plugin really is: noise goes in, and where its copy comes out is looked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVEL_DB = -30.0
"""Loud enough for a gate to be open, low enough for limiters and compressors to leave it alone."""
LONGEST_S = 0.25
"""The largest error that is surely found, either way, whatever is reported."""
MOST_REPORTED_S = 10.0
"""Of latency: no probe is long enough for more."""
LEAST_FRAMES = 1024
"""Of noise that both went in and came out: fewer prove nothing."""
LEAST_SHARE = 0.8
"""Of the response's energy, in one sample: a moved copy has nearly all, a Butterworth filter 0.69 at most."""


def count_probe_frames(sample_rate: int, reported_frames: int = 0) -> int:
    """Return how much noise a plugin needs that reports so much latency: 1 s, or twice that and more."""
    longest_frames = LONGEST_S * sample_rate
    return 1 << int(np.ceil(np.log2(max(4 * longest_frames, 2 * (reported_frames + longest_frames)))))


def probe_noise(sample_rate: int, channels: int, reported_frames: int = 0) -> NDArray[np.float32]:
    """Return the noise that `find_lateness` knows again: white, the same in every channel, seeded."""
    frames = count_probe_frames(sample_rate, reported_frames)
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
    given, made : (channels, frames); ``made`` may be the shorter one
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
    start, stop = max(0, late), min(len(made), frames + late)
    if stop - start < LEAST_FRAMES:
        return 0
    heard, sent = made[start:stop], given[start - late : stop - late]
    share = correlation[peak] ** 2 / float((sent @ sent) * (heard @ heard) or np.inf)
    return late if share >= LEAST_SHARE else 0
