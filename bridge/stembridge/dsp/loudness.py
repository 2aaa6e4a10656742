"""Integrated loudness after ITU-R BS.1770-4 (10/2015), from blocks, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log10, pi, tan

import numpy as np
from numpy.typing import NDArray
from scipy.signal import sosfilt

from stembridge.errors import SourceError

_OFFSET_LU = -0.691
"""So that a 997 Hz sine at 0 dBFS in one channel reads -3.01 LKFS: BS.1770-4, annex 1, equation 2."""

_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_STEPS_PER_BLOCK = 4
_BINS_PER_LU = 100
_LOUDEST_LUFS = 30.0


def design_k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """Return BS.1770's two filters as second-order sections (2, 6) for any sample rate in Hz.

    The standard prints coefficients at 48 kHz alone. The analogue prototypes behind them (frequency, gain,
    Q) are those of B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES
    convention 145 (2018), transformed bilinearly; at 48 kHz they give the printed numbers.
    """
    shelf = tan(pi * 1681.974450955533 / sample_rate)
    shelf_q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    a0 = 1 + shelf / shelf_q + shelf**2
    pre = [
        (high + band * shelf / shelf_q + shelf**2) / a0,
        2 * (shelf**2 - high) / a0,
        (high - band * shelf / shelf_q + shelf**2) / a0,
        1.0,
        2 * (shelf**2 - 1) / a0,
        (1 - shelf / shelf_q + shelf**2) / a0,
    ]
    low = tan(pi * 38.13547087602444 / sample_rate)
    low_q = 0.5003270373238773
    a0 = 1 + low / low_q + low**2
    rlb = [1.0, -2.0, 1.0, 1.0, 2 * (low**2 - 1) / a0, (1 - low / low_q + low**2) / a0]
    return np.array([pre, rlb])


class LoudnessMeter:
    """Integrated loudness of what has been added so far.

    The gate works on a histogram of the 400 ms blocks in bins of 0.01 LU, each with the sum of its powers,
    so that an hour costs what a second costs; the reading is exact but for blocks within 0.01 LU of the
    relative gate.

    Parameters
    ----------
    channels : number of channels of every block
    sample_rate : frames per second
    weights : gain of each channel's power (table 3: 1.0 left, right and centre, 1.41 surround, 0 for
        the LFE); None means 1.0 for all
    """

    def __init__(self, channels: int, sample_rate: int, weights: Sequence[float] | None = None) -> None:
        self._weights = np.ones(channels) if weights is None else np.asarray(weights, dtype=np.float64)
        self._sos = design_k_weighting(sample_rate)
        self._state = np.zeros((2, channels, 2))
        self._step_frames = round(sample_rate / 10)
        self._carry = np.zeros(0)
        self._recent = np.zeros(0)
        bins = round((_LOUDEST_LUFS - _ABSOLUTE_GATE_LUFS) * _BINS_PER_LU)
        self._counts = np.zeros(bins, dtype=np.int64)
        self._powers = np.zeros(bins)

    def add(self, block: NDArray[np.floating]) -> None:
        """Take in the next block, (channels, frames), full scale 1.0; any number of frames.

        Raises
        ------
        SourceError : another number of channels than promised, or a sample that is not finite
        """
        channels = self._weights.size
        if block.ndim != 2 or block.shape[0] != channels:
            raise SourceError(f"block of shape {block.shape} for a meter of {channels} channels")
        if block.shape[1] == 0:
            return
        weighted, self._state = sosfilt(self._sos, block.astype(np.float64), axis=1, zi=self._state)
        power = np.concatenate([self._carry, self._weights @ weighted**2])
        if not np.isfinite(power[-1]):
            raise SourceError("a sample is not a finite number", "mend the file or its decoder")
        whole = power.size // self._step_frames
        self._carry = power[whole * self._step_frames :].copy()
        steps = power[: whole * self._step_frames].reshape(whole, self._step_frames).mean(axis=1)
        steps = np.concatenate([self._recent, steps])
        self._recent = steps[-(_STEPS_PER_BLOCK - 1) :].copy()
        if steps.size >= _STEPS_PER_BLOCK:
            self._count(np.lib.stride_tricks.sliding_window_view(steps, _STEPS_PER_BLOCK).mean(axis=1))

    def _count(self, powers: NDArray[np.float64]) -> None:
        audible = powers[powers > 10 ** ((_ABSOLUTE_GATE_LUFS - _OFFSET_LU) / 10)]
        lufs = _OFFSET_LU + 10 * np.log10(audible)
        bins = ((lufs - _ABSOLUTE_GATE_LUFS) * _BINS_PER_LU).astype(np.int64)
        bins = np.minimum(bins, self._counts.size - 1)
        np.add.at(self._counts, bins, 1)
        np.add.at(self._powers, bins, audible)

    def read(self) -> float:
        """Return the integrated loudness in LUFS; -inf for silence and for less than 0.4 s."""
        if not self._counts.any():
            return -inf
        ungated = _OFFSET_LU + 10 * log10(self._powers.sum() / self._counts.sum())
        gate = int((ungated + _RELATIVE_GATE_LU - _ABSOLUTE_GATE_LUFS) * _BINS_PER_LU)
        gate = min(max(0, gate), self._counts.size - 1)
        return _OFFSET_LU + 10 * log10(self._powers[gate:].sum() / self._counts[gate:].sum())
