"""`preview`: stems without a model's weights, by signal processing of the last century and this one.

Soft masks on a short-time spectrum share every bin out among the four sources. They come from

- harmonic against percussive parts by running medians along time and frequency: D. FitzGerald,
  "Harmonic/percussive separation using median filtering", DAFx 2010; below `_LOW_HZ` the median along time
  looks ahead and back instead of around, so that a bass note counts from its first moment while a kick,
  which is gone within the median's reach, does not;
- pitch lines of the voice and the bass: the best path (Viterbi) through harmonic sums, after J. Salamon and
  E. Gomez, "Melody extraction from polyphonic music signals", IEEE TASLP 20 (2012). What lies in the middle
  of the panorama and moves (glides, vibrato) is taken for a voice, what stands still and to the side is not;
- the panorama: mid and side are masked apart;
- priors per frequency band, then fitted to the segment itself: each source's band levels and local shapes
  are read again from the first masks, as in kernel additive modelling (A. Liutkus et al., IEEE TSP 62, 2014).

It was tuned by hand and by coordinate descent on songs of `stembridge.synthesis` with seeds 0-9;
``benchmarks/preview_quality.py`` gives its figures on seeds 100-119. Those songs are plainer than recordings:
on real music it is worse, it confuses voices with other lead instruments, and it is far below any trained
model. It is for trying things out where no model can be had, and is called a preview wherever one looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from stembridge.errors import ModelError, RequestError
from stembridge.types import Precision
from stembridge_daemon.worker.separators.base import Block, MixtureReader, PrecisionChoice, SeparationPlan

Values = NDArray[np.float32]
Spectra = NDArray[np.complex64]

SOURCES = ("drums", "bass", "other", "vocals")
DRUMS, BASS, OTHER, VOCALS = range(4)
MID, SIDE = range(2)

_SAMPLE_RATE = 44100
_WINDOW = 4096
_HOP = _WINDOW // 4
_CONTEXT = 2 * _WINDOW

_FREQUENCIES = np.fft.rfftfreq(_WINDOW, 1 / _SAMPLE_RATE).astype(np.float32)

# All constants below were tuned on seeds 0-9 of the synthesised songs. Widths are in steps or bins.
_TIME_WIDTH = 21
_FREQUENCY_WIDTH = 23
_LOW_WIDTH = 15
_LOW_HZ = 200.0
_LOW_BINS = int(np.searchsorted(_FREQUENCIES, 3 * _LOW_HZ))
_STEADY_WIDTH = 41
_STEADY_SHARE = 0.9

_PRIOR_HZ = (44.0, 88.0, 177.0, 354.0, 707.0, 1414.0, 2828.0, 5657.0, 11000.0)
_PRIORS_DB = (
    (0, -6, -3, -1, -9, -6, 0, 6, 9),
    (0, 6, 0, -14, -20, -21, -27, -35, -40),
    (-30, -20, -1, 0, -3, -3, -6, -6, -6),
    (-40, -17, -2, 0, 3, 0, 0, -3, -3),
)
_SIDE_DB = (-1.0, -25.0, 0.0, -12.0)

_VOICE_HZ = (70.0, 800.0)
_BASS_HZ = (33.0, 190.0)


class PreviewSeparator:
    """The separator without weights; see the module for how and how well.

    The plan's ``shifts`` and ``seed`` have no effect: nothing here is random, and the step of the spectrum is
    short against what a shift would average out. ``sha256`` is empty, since there is no file to name.

    Parameters
    ----------
    segment_s : the longest stretch one step looks at, in seconds; long enough for a few bars of music

    Raises
    ------
    RequestError : a segment of less than a second
    """

    name: str = "preview"
    sources: tuple[str, ...] = SOURCES
    sample_rate: int = _SAMPLE_RATE
    channels: int = 2
    sha256: str = ""
    is_deterministic: bool = True

    def __init__(self, segment_s: float = 12.0) -> None:
        if segment_s < 1.0:
            raise RequestError(f"segment of {segment_s} s for preview", "at least 1 s")
        self.segment_frames = round(segment_s * _SAMPLE_RATE)

    def warm_up(self) -> None:
        """Make the tables that all segments share."""
        split_segment(np.ones((self.channels, _HOP), dtype=np.float32))

    def choose_precision(self, asked: Precision) -> PrecisionChoice:
        """Return full precision without a word: half is a model's to have, and nobody waits longer for it.

        Settings ask for half once and for all, so that every preview would warn of it.
        """
        return PrecisionChoice(Precision.FULL)

    def count_steps(self, frames: Sequence[int], plan: SeparationPlan) -> int:
        """Return how many blocks `separate` will yield; 0 for an item without frames."""
        return sum(len(self._starts(each, plan)) for each in frames)

    def separate(self, readers: Sequence[MixtureReader], plan: SeparationPlan) -> Iterator[Block]:
        """Yield one block per segment; the blocks cover each item once and in order.

        With ``listen_from``, the last segment of each item that has this frame in its core comes first.

        The four sources sum to the mixture to float32's accuracy. Segments overlap by ``plan.overlap`` of
        their core and are blended with triangular weights; the last one is moved back to end with the whole
        that the plan speaks of.
        No read is longer than ``segment_frames``.

        Raises
        ------
        RequestError : a mixture that is not of two channels, an overlap outside 0 <= overlap < 1
        ModelError : a source that preview does not know
        """
        for reader in readers:
            if reader.channels != self.channels:
                raise RequestError(
                    f"preview splits 2 channels, not {reader.channels}", "make it stereo first"
                )
        if unknown := [source for source in plan.sources if source not in SOURCES]:
            raise ModelError(f"preview has no source {unknown[0]!r}", f"it has {', '.join(SOURCES)}")
        grids = [self._starts(reader.frames, plan) for reader in readers]
        return self._run(readers, grids, plan)

    def _run(
        self, readers: Sequence[MixtureReader], grids: Sequence[list[int]], plan: SeparationPlan
    ) -> Iterator[Block]:
        heard: dict[tuple[int, int], Values] = {}
        place = plan.listen_from
        for item, (reader, starts) in enumerate(zip(readers, grids, strict=True)):
            if place is None or not 0 <= place < reader.frames:
                continue
            start = max(start for start in starts if start <= place)
            stems = heard[item, start] = self._hear(reader, start, plan)
            inside = stems[..., max(0, -start) : reader.frames - start]
            yield Block(max(0, start), np.ascontiguousarray(inside), item, is_early=True)
        for item, (reader, starts) in enumerate(zip(readers, grids, strict=True)):
            held: NDArray[np.float64] = np.zeros((1, self.channels, 0))
            held_weight = np.zeros(0)
            for start, following in pairwise((*starts, reader.frames)):
                known = heard.pop((item, start), None)
                stems = self._hear(reader, start, plan) if known is None else known
                ramp = np.arange(1.0, stems.shape[-1] + 1)
                weight = np.minimum(ramp, ramp[::-1])
                blend = stems.astype(np.float64) * weight
                blend[..., : held_weight.size] += held
                weight[: held_weight.size] += held_weight
                final = following - start
                # What lies before the item belongs to another region.
                first = min(max(0, -start), final)
                done = blend[..., first:final] / weight[first:final]
                yield Block(max(0, start), done.astype(np.float32), item)
                held, held_weight = blend[..., final:], weight[final:]

    def _hear(self, reader: MixtureReader, start: int, plan: SeparationPlan) -> Values:
        """Return the wanted stems of the segment whose core begins at ``start``."""
        frames = min(self._core, reader.frames + plan.beyond - start)
        stems = split_segment(reader.read(start - _CONTEXT, frames + 2 * _CONTEXT))
        chosen = [SOURCES.index(source) for source in plan.sources]
        return stems[chosen, :, _CONTEXT : _CONTEXT + frames]

    @property
    def _core(self) -> int:
        """What a segment gives stems for, in frames."""
        return self.segment_frames - 2 * _CONTEXT

    def _starts(self, frames: int, plan: SeparationPlan) -> list[int]:
        """Return the first frame of each segment's core that touches the item, counted from the item's."""
        if not 0 <= plan.overlap < 1:
            raise RequestError(f"overlap {plan.overlap}", "0 <= overlap < 1")
        hop = max(1, round(self._core * (1.0 - plan.overlap)))
        last = max(0, plan.whole_frames(frames) - self._core)
        starts = [start - plan.origin for start in (*range(0, last, hop), last)]
        return [start for start in starts if -self._core < start < frames] if frames > 0 else []


def split_segment(mixture: Values) -> Values:
    """Return the stems (4, 2, frames), in the order of `SOURCES`, of a mixture (2, frames) at 44.1 kHz.

    They sum to the mixture. The masks see the mixture at a fixed level (scaled by a power of two), so that
    the mixture's own gain does not matter.
    """
    peak = float(np.max(np.abs(mixture), initial=0.0))
    if peak == 0.0:
        return np.zeros((len(SOURCES), *mixture.shape), dtype=np.float32)
    scale = np.float32(2.0 ** np.clip(np.floor(np.log2(peak)), -100, 100))
    left, right = to_spectra(mixture / scale)
    half = np.float32(np.sqrt(0.5))
    mid_side = np.asarray(np.stack([left + right, left - right]) * half, dtype=np.complex64)
    masked = estimate_masks(mid_side) * mid_side
    mid, side = masked[:, MID], masked[:, SIDE]
    left_right = np.asarray(np.stack([mid + side, mid - side], axis=1) * half, dtype=np.complex64)
    return np.asarray(to_signals(left_right, mixture.shape[1]) * scale)


def to_spectra(signals: Values) -> Spectra:
    """Return Hann-windowed spectra (channels, steps, bins) of signals (channels, frames)."""
    frames = signals.shape[1]
    padded = np.pad(signals, ((0, 0), (_WINDOW, 2 * _WINDOW)))
    steps = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW, axis=1)
    return np.asarray(fft.rfft(steps[:, : frames + _WINDOW + _HOP : _HOP] * _window()))


def to_signals(spectra: Spectra, frames: int) -> Values:
    """Return the signals (..., frames) of spectra (..., steps, bins): the inverse of `to_spectra`."""
    # Squared Hann windows a quarter apart add up to 1.5.
    pieces = fft.irfft(spectra, _WINDOW) * (_window() / np.float32(1.5))
    *outer, steps, _ = pieces.shape
    signals = np.zeros((*outer, steps + 3, _HOP), dtype=np.float32)
    for quarter in range(4):
        part = pieces[..., quarter * _HOP : (quarter + 1) * _HOP]
        signals[..., quarter : quarter + steps, :] += part
    return np.ascontiguousarray(signals.reshape(*outer, -1)[..., _WINDOW : _WINDOW + frames])


def estimate_masks(mid_side: Spectra) -> Values:
    """Return masks (sources, 2, steps, bins) in 0..1 for mid and side, which sum to one over the sources."""
    power = np.abs(mid_side) ** 2
    level = np.sqrt(power[MID] + power[SIDE])
    percussive = _percussiveness(level)
    harmonic = 1 - percussive
    central = _centredness(power)
    voice, is_sung = _follow_voice(level, percussive, central)
    bass = _follow_bass(level, harmonic)

    share = np.stack([np.asarray(_prior(source)) * np.ones_like(level) for source in range(4)])
    share[DRUMS] *= percussive
    share[BASS] *= harmonic * (0.035 + bass)
    share[OTHER] *= harmonic * (1 - 0.95 * voice)
    share[VOCALS] *= (harmonic + 0.24 * percussive) * (0.048 + voice) * (0.16 + is_sung[:, None])
    side = 10 ** (np.array(_SIDE_DB, dtype=np.float32) / 10)
    shares = np.stack([share, share * side[:, None, None]], axis=1)
    shares[BASS, MID] *= 0.05 + central
    shares[OTHER, MID] *= 1 + 3.2 * (1 - central)
    shares[VOCALS, MID] *= 0.05 + central**1.5
    shares = _fit_bands(shares, power)
    shares = _fit_shapes(shares, power)
    return _normalise(shares)


def _percussiveness(level: Values) -> Values:
    """Return how percussive each bin is, 0..1."""
    harmonic = _median_over_time(level, _TIME_WIDTH) ** 2.5
    percussive = _running_median(level, _FREQUENCY_WIDTH) ** 2.5
    share = percussive / (harmonic + percussive + np.float32(1e-20))
    low = level[:, :_LOW_BINS]
    around = _median_over_time(low, _LOW_WIDTH)
    reach = _LOW_WIDTH // 2
    padded = np.pad(around, ((reach, reach), (0, 0)), mode="edge")
    lasting = np.maximum(padded[: len(low)], padded[2 * reach :])
    dying = 1 - np.minimum(lasting / (low + np.float32(1e-20)), 1) ** 2
    blend = 1 / (1 + (_FREQUENCIES[:_LOW_BINS] / _LOW_HZ) ** 6)
    share[:, :_LOW_BINS] = blend * dying + (1 - blend) * share[:, :_LOW_BINS]
    return np.asarray(share)


def _centredness(power: Values) -> Values:
    """Return 1 where a bin lies in the middle of the panorama, 0 where its side is as strong as its mid."""
    padded = np.pad(power, ((0, 0), (0, 0), (1, 1)), mode="edge")
    mid, side = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    return np.asarray(np.clip((mid - 0.8 * side) / (mid + side + np.float32(1e-20)), 0, 1))


def _follow_voice(level: Values, percussive: Values, central: Values) -> tuple[Values, Values]:
    """Return the voice's comb (steps, bins) in 0..1 and how surely each step is sung, (steps,)."""
    steady = _median_over_time(level, _STEADY_WIDTH) / (level + np.float32(1e-20))
    moving = 1 - _STEADY_SHARE * np.minimum(steady, 1) ** 2
    evidence = np.sqrt(level * central * moving) * (_FREQUENCIES > 180) * (1 - 0.7 * percussive)
    salience = _standardise(evidence) @ _voice_templates().T
    salience = salience / (salience.std() + 1e-9)
    path = _best_path(3.2 * salience, jump_cost=1.0)
    heard = np.take_along_axis(salience, path[:, None], axis=1)[:, 0]
    is_sung = np.asarray(1 / (1 + np.exp(-3 * (heard - 2.5))), dtype=np.float32)
    return np.asarray(_voice_combs()[path] * is_sung[:, None]), is_sung


def _follow_bass(level: Values, harmonic: Values) -> Values:
    """Return the bass line's comb (steps, bins) in 0..1."""
    evidence = np.sqrt(level * harmonic) * (_FREQUENCIES < 1500)
    salience = _standardise(evidence) @ _bass_templates().T
    path = _best_path(4 * salience / (salience.std() + 1e-9), jump_cost=0.5)
    return np.asarray(_bass_combs()[path])


def _fit_bands(shares: Values, power: Values) -> Values:
    """Return the shares weighted by the band levels that each source shows in this very segment.

    The ratio of what a source gets to what was expected of it, both smoothed over about half an octave,
    enters with the power 0.4.
    """
    found = _smooth_bands((_normalise(shares) * power).sum(axis=2))
    expected = _smooth_bands(shares.sum(axis=2))
    return np.asarray(shares * ((found / (expected + 1e-30)) ** 0.4)[:, :, None, :])


def _fit_shapes(shares: Values, power: Values) -> Values:
    """Return the shares of drums and other once more filtered by what each must look like.

    What drums got and is not broad in frequency, and what other got and is not long in time, loses up to
    6 dB. Kicks and toms are narrow: below 300 Hz drums are left alone.
    """
    got = np.sqrt((_normalise(shares) * power).sum(axis=1))
    broad = _running_median(got[DRUMS], _FREQUENCY_WIDTH)
    broad[:, _FREQUENCIES < 300] = got[DRUMS][:, _FREQUENCIES < 300]
    long = _median_over_time(got[OTHER], _TIME_WIDTH)
    fitted = shares.copy()
    for source, shape in ((DRUMS, broad), (OTHER, long)):
        ratio = np.clip(shape / (got[source] + np.float32(1e-20)), np.sqrt(0.1), 10)
        fitted[source] *= ratio**1.25
    return fitted


def _normalise(shares: Values) -> Values:
    lifted = shares + np.float32(1e-25)
    return np.asarray(lifted / lifted.sum(axis=0))


def _standardise(evidence: Values) -> Values:
    return np.asarray(evidence / (np.sqrt(np.mean(evidence**2)) + 1e-20))


def _running_median(values: Values, width: int) -> Values:
    """Return the median over ``width`` (odd) neighbours along the last axis, ends mirrored."""
    padded = np.pad(values, ((0, 0), (width // 2, width // 2)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    medians = np.empty_like(values)
    # In slices that stay in the processor's cache; scipy.ndimage.median_filter takes four times as long.
    for row in range(0, len(values), 64):
        part = np.partition(windows[row : row + 64], width // 2, axis=-1)
        medians[row : row + 64] = part[..., width // 2]
    return medians


def _median_over_time(values: Values, width: int) -> Values:
    return np.ascontiguousarray(_running_median(np.ascontiguousarray(values.T), width).T)


def _smooth_bands(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean over 19 % of each bin's frequency to both sides, along the last axis."""
    bins = values.shape[-1]
    sums = np.zeros((*values.shape[:-1], bins + 1))
    np.cumsum(values, axis=-1, dtype=np.float64, out=sums[..., 1:])
    centre = np.arange(bins)
    reach = np.maximum(2, (0.19 * centre).astype(np.int64))
    low, high = np.maximum(0, centre - reach), np.minimum(bins, centre + reach + 1)
    return np.asarray((sums[..., high] - sums[..., low]) / (high - low))


def _best_path(scores: NDArray[np.floating], jump_cost: float) -> NDArray[np.int64]:
    """Return the row of states (steps,) of highest score (steps, states) less jumps (Viterbi).

    A jump costs ``jump_cost`` per state, at most that of 12 states.
    """
    steps, states = scores.shape
    ladder = np.arange(states)
    cost = jump_cost * np.minimum(np.abs(ladder[:, None] - ladder), 12)
    origin = np.zeros((steps, states), dtype=np.int64)
    best = scores[0].astype(np.float64)
    for step in range(1, steps):
        reached = best - cost
        origin[step] = reached.argmax(axis=1)
        best = reached[ladder, origin[step]] + scores[step]
    path = np.empty(steps, dtype=np.int64)
    path[-1] = best.argmax()
    for step in range(steps - 1, 0, -1):
        path[step - 1] = origin[step, path[step]]
    return path


def _combs(
    pitches_hz: NDArray[np.float64], harmonics: int, widening: float, decay: float, top_hz: float
) -> Values:
    """Return combs (pitches, bins) of bells of 12 Hz plus ``widening`` of the frequency."""
    combs = np.zeros((pitches_hz.size, _FREQUENCIES.size), dtype=np.float32)
    for harmonic in range(1, harmonics + 1):
        centre = harmonic * pitches_hz[:, None]
        bell = np.exp(-0.5 * ((_FREQUENCIES - centre) / (12.0 + widening * centre)) ** 2)
        np.maximum(combs, decay ** (harmonic - 1) * bell * (centre < top_hz), out=combs)
    return combs


def _pitches(bounds_hz: tuple[float, float], per_octave: int) -> NDArray[np.float64]:
    low, high = bounds_hz
    return np.asarray(low * 2 ** (np.arange(int(np.log2(high / low) * per_octave)) / per_octave))


@lru_cache
def _prior(source: int) -> Values:
    octaves = np.log2(np.maximum(_FREQUENCIES, 20.0))
    prior_db = np.interp(octaves, np.log2(_PRIOR_HZ), _PRIORS_DB[source])
    return np.asarray(10 ** (prior_db / 10), dtype=np.float32)


@lru_cache
def _window() -> Values:
    return np.hanning(_WINDOW + 1)[:-1].astype(np.float32)


@lru_cache
def _voice_templates() -> Values:
    templates = _combs(_pitches(_VOICE_HZ, 48), 12, 0.0115, 0.75, 5000.0)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    return np.asarray(templates - templates.mean(axis=1, keepdims=True))


@lru_cache
def _voice_combs() -> Values:
    return _combs(_pitches(_VOICE_HZ, 48), 40, 0.0115, 1.0, 9000.0)


@lru_cache
def _bass_templates() -> Values:
    templates = _combs(_pitches(_BASS_HZ, 24), 8, 0.009, 0.8, 1500.0)
    return np.asarray(templates / np.linalg.norm(templates, axis=1, keepdims=True))


@lru_cache
def _bass_combs() -> Values:
    return _combs(_pitches(_BASS_HZ, 24), 30, 0.009, 1.0, 4000.0)
