"""What a report shows of a remix: levels, loudness and the outline of every signal, read in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log10, sqrt

import numpy as np
from numpy.typing import NDArray

from stembridge.dsp import grid
from stembridge.dsp.loudness import LoudnessMeter
from stembridge.dsp.true_peak import TruePeakMeter
from stembridge.errors import SourceError

MAX_COLUMNS = 1200
"""How many columns an outline has, at most."""

_FACTOR = 16
"""The grid of the ceiling: what it keeps below a level is read below it."""


@dataclass(frozen=True, slots=True)
class SignalFigures:
    """One signal; what is silent stands at -inf.

    Parameters
    ----------
    peak_db, rms_db : dB re full scale; a sine at full scale has an RMS of -3.01
    loudness_lufs : integrated; -inf also below 0.4 s. It and the RMS are those of what lies within the
        original's length, so that a tail behind it makes nothing quieter
    envelope : lowest and highest sample of all channels, per column of equal length
    true_peak_db : dB re full scale; None where it was not asked for
    """

    peak_db: float
    rms_db: float
    loudness_lufs: float
    envelope: tuple[tuple[float, float], ...]
    true_peak_db: float | None = None


@dataclass(frozen=True, slots=True)
class StemFigures:
    """One stem before and after; None where there is none: a return was not there, a mute is no more."""

    name: str
    before: SignalFigures | None
    after: SignalFigures | None
    is_untouched: bool


@dataclass(frozen=True, slots=True)
class RemixFigures:
    """What was measured of a remix while it was rendered.

    Parameters
    ----------
    null_remix : the largest magnitude of the delivered stems' sum - the remix, full scale 1.0
    null_untouched : the same of (remix - original) - the sum of (stem after - stem before)
    reduction_db_max : the most that the ceiling took off
    touching : what was done to all stems alike, as a reader calls it
    """

    original: SignalFigures
    remix: SignalFigures
    difference: SignalFigures
    stems: tuple[StemFigures, ...]
    null_remix: float
    null_untouched: float
    reduction_db_max: float
    touching: tuple[str, ...] = ()


class SignalMeter:
    """Measures one signal, from blocks.

    Parameters
    ----------
    frames : how many the outline has; a signal that ends earlier is silent there
    level_frames : how many of them RMS and loudness are of; all where it is not given
    weights : of the channels' loudness; see `LoudnessMeter`
    has_true_peak : look between the samples, too, which costs more than all of the rest
    """

    def __init__(
        self,
        channels: int,
        sample_rate: int,
        frames: int,
        weights: Sequence[float] | None = None,
        *,
        level_frames: int | None = None,
        has_true_peak: bool = False,
    ) -> None:
        self._loudness = LoudnessMeter(channels, sample_rate, weights)
        self._true_peak = TruePeakMeter(channels, _FACTOR) if has_true_peak else None
        self._level_frames = frames if level_frames is None else min(level_frames, frames)
        self._samples = channels * self._level_frames
        self._energy = 0.0
        columns = min(MAX_COLUMNS, frames)
        self._edges = np.arange(columns + 1) * frames // max(columns, 1)
        self._lows = np.full(columns, inf)
        self._highs = np.full(columns, -inf)
        self._frames = 0

    def add(self, block: NDArray[np.float64]) -> None:
        """Take in the next block, (channels, frames), full scale 1.0; any number of frames.

        Raises
        ------
        SourceError : more frames than promised, another number of channels, or a sample that is not finite
        """
        start, end = self._frames, self._frames + block.shape[1]
        if end > self._edges[-1]:
            raise SourceError(f"{end} frames for a meter of {self._edges[-1]}")
        if start == end:
            return
        levelled = block[:, : max(0, self._level_frames - start)]
        self._loudness.add(levelled)
        if self._true_peak is not None:
            self._true_peak.add(block)
        self._energy += grid.sum_squares(levelled)
        first = int(np.searchsorted(self._edges, start, "right")) - 1
        last = int(np.searchsorted(self._edges, end, "left"))
        cuts = np.maximum(self._edges[first:last] - start, 0)
        lows = np.minimum.reduceat(block.min(axis=0), cuts)
        highs = np.maximum.reduceat(block.max(axis=0), cuts)
        self._lows[first:last] = np.minimum(self._lows[first:last], lows)
        self._highs[first:last] = np.maximum(self._highs[first:last], highs)
        self._frames = end

    def read(self) -> SignalFigures:
        """Return the figures of a signal that has been added as a whole."""
        lows, highs = self._lows.tolist(), self._highs.tolist()
        peak = max(max(highs, default=0.0), -min(lows, default=0.0))
        return SignalFigures(
            peak_db=_decibels(peak),
            rms_db=_decibels(sqrt(self._energy / max(self._samples, 1))),
            loudness_lufs=self._loudness.read(),
            envelope=tuple(zip(lows, highs, strict=True)),
            true_peak_db=None if self._true_peak is None else _decibels(self._true_peak.read()),
        )


def _decibels(value: float) -> float:
    return 20 * log10(value) if value else -inf
