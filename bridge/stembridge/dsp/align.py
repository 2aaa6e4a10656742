"""Where stems that came from elsewhere lie against their mixture: delay, polarity, and whether that is sure.

The model is mixture = sum of h_i * stem_i + rest, each h_i a delay and a sign. Per frequency the h_i are the
least squares over short spectra (Welch, Hann), all stems at once: stems that are displaced by different
amounts and bleed into one another do not disturb each other. A stem's delay is read from the phase of its
h_i, weighted by the inverse of its variance (Hannan and Thomson, "Estimating group delay", Biometrika
60 (1973)); for least squares that is the energy which the stem takes out of the rest over what stays.

Long spectra over the whole reach find whole frames, short ones at those places the fraction; then everything
is read again where it lies, since a window that sees another cut of the signal adds noise. The standard error
is a jackknife over stretches of time.

A wrong correction is worse than none: what does not agree with itself over time, over frequency, with and
without the other stems and against the next best place is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import uniform_filter1d
from scipy.signal import oaconvolve, resample_poly

from stembridge.dsp.delay_line import Reader, advance

Values = NDArray[np.float64]
Complex = NDArray[np.complex128]
Spectra = NDArray[np.complex64]

REACH_FRAMES = 4096
"""Delays up to this many frames to both sides are found, up to 66 kHz; twice as many per octave above.

93 ms at 44.1 kHz. Farther off a stem is placed only where one place stands out; see `FAR_S`.
"""

FAR_S = 30.0
"""Delays up to this many seconds to both sides are found where the music does not repeat."""

ALIGNED_FRAMES = 0.05
"""A delay below this is left alone; at 0.05 frames the error lies about 29 dB below the stem."""

SURE_FRAMES = 0.0025
"""The largest standard error of a delay that is applied: four of them are the 0.01 frames promised."""

KNOWN_FRAMES = 0.05
"""The largest standard error of a delay of which it can be said that it is none."""

NOT_IN_MIXTURE = "too little of it is in the mixture"
"""How the reason begins where the mixture does not hold the stem at any place."""

# Sizes of spectra up to 66 kHz; they double per octave above, so that the windows keep their seconds.
_LONG, _SHORT = 16_384, 4_096
# Above, nothing is to be trusted: lossy coding ends there, and the interpolator of `advance` does.
_TOP_HZ, _TOP_OF_RATE = 20_000.0, 0.45
_IS_SILENT = "silent: there is nothing to place"
_PIECES, _PIECE_BLOCKS = 12, 50
_FOLDS = 12
_LEAST_BLOCKS = 24
_SILENT = 1e-8
_COHERENT = 0.3
_CLEAR = 1.5
_BEYOND_DOUBT = 2.5
_RIVALS, _RIVAL_HEIGHT = 5, 0.6
_SEGMENT_S = 0.5
_BETTER_SHARE, _BETTER_DB = 0.8, 0.5
_SETTLINGS, _SETTLED_FRAMES = 6, 0.002
_SPAN_FRAMES = 1.5
_DRIFT_FRAMES = 0.015
_HEIR_FRAMES = 0.1
_DRIFTING = 20.0
# The search beyond the reach: its rate, the width of bands made equally loud, the share of a stem's energy
# that must lie within the mixture, how much higher the best place must be than any other, and how much of
# the mixture, around its middle, is looked at.
_FAR_HZ, _FAR_BAND_HZ, _FAR_SHARE, _FAR_CLEAR = 4_000, 40.0, 0.25, 1.5
_FAR_BLOCK, _FAR_SPAN_S = 1 << 18, 600.0
# Correlations are read this many times as densely: a peak between two lags loses 3 % at most, not 36 %.
_FAR_FINE = 4
# A stem repeats where another place is at least this share as high as the one where it was found.
_REPEATS = 0.85


class Decision(StrEnum):
    """What becomes of a stem: left alone, moved by its own delay, moved by the other stems', or refused."""

    ALIGNED = "aligned"
    CORRECTED = "corrected"
    INHERITED = "inherited"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where one stem lies.

    Parameters
    ----------
    delay_frames : how late the stem is, negative where it is early
    delay_se : standard error of the stem's own measurement in frames, inf where there is none
    polarity : 1 or -1
    decision : delay and polarity are to be applied where this is CORRECTED or INHERITED
    reason : one clause, '' where the figures say it all
    """

    delay_frames: float
    delay_se: float
    polarity: int
    decision: Decision
    reason: str = ""

    @property
    def is_applied(self) -> bool:
        return self.decision in (Decision.CORRECTED, Decision.INHERITED)


@dataclass(frozen=True, slots=True)
class _Answers:
    """Least squares per frequency: answers and weights (bins, stems), the rest's power (bins,)."""

    answers: Complex
    weights: Values
    rest: Values


@dataclass(frozen=True, slots=True)
class _Fit:
    """What the phases of one stem's answer say.

    ``fault`` is what speaks against it, '' if nothing does; ``coherence``, 0..1, the share of the stem's
    energy that the mixture needs.
    """

    delay: float
    se: float
    polarity: int
    coherence: float
    fault: str


@dataclass(slots=True)
class _Stem:
    """One stem under way: it is read ``place`` frames late and seen to lie ``offset`` frames behind that.

    ``base`` is the place around which it is searched for.
    """

    index: int
    read: Reader
    as_given: Spectra
    spectra: Spectra
    base: int
    place: float = 0.0
    offset: float = 0.0
    clarity: float = 0.0
    rivals: list[int] = field(default_factory=list)
    doubt: str = ""

    @property
    def delay(self) -> float:
        return self.place + self.offset


def estimate_alignments(
    mixture: Reader, stems: Sequence[Reader], sample_rate: int, frames: int
) -> tuple[Alignment, ...]:
    """Return where each stem lies against the mixture, measured on at most about 30 s of the item.

    Stems that cannot be placed by themselves, such as a steady bass that looks the same one period later,
    inherit the delay of the others where those agree and the stem's own samples do not speak against it.
    Stems that are not found within `REACH_FRAMES` are sought within `FAR_S` and, where one place stands out,
    judged once more around it; what that does not place, too, is told as it was within the reach.
    A stem that fits about as well anywhere else within `FAR_S`, as a loop does, is not moved by itself.

    Parameters
    ----------
    mixture, stems : readers of equal channels and rate, 0 outside of what they hold
    sample_rate : Hz
    frames : length of the mixture
    """
    near = _Aligner(mixture, stems, sample_rate, frames, [0] * len(stems))
    found = near.decide()
    lost = [
        index
        for index, one in enumerate(found)
        if one.decision is Decision.REFUSED and index not in near.quiet
    ]
    if not near.strangers.intersection(lost):
        return found
    far = _find_far(mixture, [stems[index] for index in lost], sample_rate, frames)
    known = {base for base in far if base is not None}
    if not any(abs(base) > near.reach // 2 for base in known):
        return found
    # Those that are not found by themselves lie where the others do, if these agree.
    known |= {round(one.delay_frames) for one in found if one.decision is not Decision.REFUSED}
    shared = min(known) if max(known) - min(known) <= near.reach // 4 else 0
    bases = [0] * len(stems)
    for index, base in zip(lost, far, strict=True):
        place = shared if base is None else base
        bases[index] = place if abs(place) > near.reach // 2 else 0
    again = _Aligner(mixture, stems, sample_rate, frames, bases).decide()
    is_worse = any(
        one.decision is Decision.REFUSED and before.decision is not Decision.REFUSED
        for one, before in zip(again, found, strict=True)
    )
    return found if is_worse else again


def choose_stretches(
    stems: Sequence[Reader], frames: int, *, margin: int, step: int
) -> list[tuple[int, int]]:
    """Return stretches (start, frames) in order: the whole item, or pieces in which the stems sound.

    Each stem in turn takes the piece of the item's first, middle and last third in which it sounds longest,
    so that also one that is rarely heard is measured, and none at one end alone.

    Parameters
    ----------
    frames : length of the item
    margin : frames at both ends that a displaced stem may lack; passed over in all but short items
    step : frames between two spectra; pieces are `_PIECE_BLOCKS` of them
    """
    length = _PIECE_BLOCKS * step
    margin = min(margin, frames // 16)
    frames -= 2 * margin
    if frames <= _PIECES * length:
        return [(margin, frames)]
    pieces = frames // length
    levels = np.empty((len(stems), pieces, _PIECE_BLOCKS))
    for index, read in enumerate(stems):
        for piece in range(pieces):
            cells = read(margin + piece * length, length).reshape(-1, _PIECE_BLOCKS, step)
            levels[index, piece] = np.einsum("cbf,cbf->b", cells, cells)
    loud = np.percentile(levels, 95, axis=(1, 2), keepdims=True)
    sounding = np.count_nonzero(levels > 1e-3 * loud, axis=2)
    chosen: list[int] = []
    thirds = np.array_split(np.arange(pieces), 3)
    for turn in range(_PIECES):
        stem, third = turn // 3 % len(stems), thirds[turn % 3]
        wanted = np.full(pieces, -1)
        wanted[third] = sounding[stem, third]
        if wanted.max() < _PIECE_BLOCKS // 4:
            wanted = sounding[stem].copy()
        wanted[chosen] = -1
        chosen.append(int(np.argmax(wanted)))
    return [(margin + piece * length, length) for piece in sorted(chosen)]


class _Aligner:
    """One estimate under way. ``live`` are the stems that sound long enough to be measured."""

    def __init__(
        self,
        mixture: Reader,
        stems: Sequence[Reader],
        sample_rate: int,
        frames: int,
        bases: Sequence[int],
    ) -> None:
        self.sample_rate, self.frames = sample_rate, frames
        scale = 1 << max(0, round(np.log2(sample_rate / 48_000)))
        self.long, self.short, self.reach = _LONG * scale, _SHORT * scale, REACH_FRAMES * scale
        # Stems as long as the mixture lack here what they are late by at its end, and early by at its start.
        first, last = max(0, -min(bases, default=0)), frames - max(0, max(bases, default=0))
        if last - first < frames // 8:
            first, last = 0, frames
        near = [advance(read, first + base) for read, base in zip(stems, bases, strict=True)]
        stretches = choose_stretches(near, last - first, margin=self.reach, step=self.short // 2)
        self.stretches = [(first + start, length) for start, length in stretches]
        self.segment = max(1, round(_SEGMENT_S * sample_rate / (self.short // 2)))
        self.bins = int(min(_TOP_OF_RATE, _TOP_HZ / sample_rate) * self.short) + 1
        self.omega = 2 * np.pi * np.arange(self.bins) / self.short
        self.mixture = mixture
        self.mix = self._read(mixture, 0.0)
        loudness = float(_energy(self.mix).sum())
        self.quiet: dict[int, str] = {}
        # Refused for nothing but an error too large to be applied, or other turns that fit as well.
        self.witnesses: set[int] = set()
        # Refused since the mixture does not hold them within the reach.
        self.strangers: set[int] = set()
        self.live: list[_Stem] = []
        for index, (read, base) in enumerate(zip(stems, bases, strict=True)):
            spectra = self._read(read, base)
            energy = _energy(spectra)
            if len(self.mix) < _LEAST_BLOCKS:
                self.quiet[index] = "the item is too short to measure it"
            elif not loudness:
                self.quiet[index] = "the mixture is silent"
            elif float(energy.sum()) <= _SILENT * loudness:
                self.quiet[index] = _IS_SILENT
            elif np.count_nonzero(energy > 1e-4 * energy.max()) < _LEAST_BLOCKS:
                self.quiet[index] = "too little of it sounds to be measured"
            else:
                as_given = self._read(read, 0.0) if base else spectra
                self.live.append(_Stem(index, read, as_given, spectra, base, place=base))

    def decide(self) -> tuple[Alignment, ...]:
        found: dict[int, Alignment] = {}
        if self.live:
            self._search()
            self._settle()
            self._weigh_rivals()
            self._approach(self.live)
            found = self._judge()
            found |= self._doubt_turns(found)
            found |= self._hand_over(found)
        place = self._find_shared(found)
        for index, reason in self.quiet.items():
            if reason is not _IS_SILENT:
                found[index] = Alignment(0.0, inf, 1, Decision.REFUSED, reason)
            elif place is not None:
                found[index] = _inherit(place, inf, 1)
            else:
                found[index] = Alignment(0.0, inf, 1, Decision.ALIGNED, reason)
        return tuple(_round_delay(found[index]) for index in sorted(found))

    # --- spectra ---

    def _read(self, read: Reader, delay: float) -> Spectra:
        """Return short spectra (blocks, channels, bins) of what lies ``delay`` frames later."""
        moved = advance(read, delay)
        return np.concatenate(
            [_spectra(moved, start, length, self.short)[..., : self.bins] for start, length in self.stretches]
        )

    def _move(self, stem: _Stem, place: float) -> None:
        if place != stem.place:
            stem.place, stem.offset = place, 0.0
            stem.spectra = self._read(stem.read, place) if place else stem.as_given

    def _gram(self, folds: int) -> Complex:
        return _gram([stem.spectra for stem in self.live] + [self.mix], folds)

    def _delayed(self, spectra: Spectra, frames: float) -> Spectra:
        return np.asarray(spectra * np.exp(1j * self.omega * frames).astype(np.complex64))

    # --- whole frames ---

    def _search(self) -> None:
        """Place every stem at its clearest peak within the reach; where clear ones agree, also the others."""
        spectra = [
            np.concatenate(
                [
                    _spectra(read, start - self.long // 2, length + self.long, self.long)
                    for start, length in self.stretches
                ]
            )
            for read in [*(advance(stem.read, stem.base) for stem in self.live), self.mixture]
        ]
        blocks = len(spectra[0])
        gram = _gram(spectra, 1)[0]
        del spectra
        joint = _solve(gram, blocks)
        for column, stem in enumerate(self.live):
            alone = _solve(gram[:, [column, -1]][:, :, [column, -1]], blocks)
            lists = [
                _find_peaks(_correlate(answers.answers[:, at], answers.weights[:, at], self.long), self.reach)
                for answers, at in ((joint, column), (alone, 0))
            ]
            lists.sort(key=_clarity, reverse=True)
            stem.clarity = _clarity(lists[0])
            stem.rivals = [
                stem.base + lag
                for peaks in lists
                for lag, height in peaks
                if height >= _RIVAL_HEIGHT * peaks[0][1]
            ]
        clear = [stem.rivals[0] for stem in self.live if stem.clarity >= _CLEAR]
        for stem in self.live:
            best = stem.rivals[0] if stem.rivals else stem.base
            if stem.clarity < _CLEAR and clear and max(clear) - min(clear) <= 2:
                best = clear[0]
            stem.rivals = list(dict.fromkeys([*stem.rivals, *clear, 0]))
            self._move(stem, float(best))

    def _settle(self) -> None:
        """Move every stem by whole frames until its short spectra, too, show their peak where it is read."""
        for _ in range(_SETTLINGS):
            self._solve_here()
            is_settled = True
            for column, stem in enumerate(self.live):
                answer, weight = self.solved.answers[:, column], self.solved.weights[:, column]
                peaks = _find_peaks(_correlate(answer, weight, self.short), self.short // 4)
                if not peaks:
                    stem.clarity = 0.0
                    continue
                high = [(lag, height) for lag, height in peaks if height >= _RIVAL_HEIGHT * peaks[0][1]]
                stem.clarity = min(stem.clarity, _clarity(peaks))
                near = [round(stem.place) + lag for lag, _ in high]
                stem.rivals = list(dict.fromkeys([*near, *stem.rivals]))
                nearest = min((lag for lag, height in high if height >= 0.8 * peaks[0][1]), key=abs)
                if nearest:
                    self._move(stem, stem.place + nearest)
                    is_settled = False
            if is_settled:
                return

    def _approach(self, stems: Collection[_Stem]) -> None:
        """Read ``stems`` where they are seen to lie until none of them moves any more."""
        for _ in range(_SETTLINGS):
            for stem in stems:
                self._move(stem, stem.delay)
            self._solve_here()
            if all(abs(stem.offset) < _SETTLED_FRAMES for stem in stems):
                return

    def _solve_here(self) -> None:
        """Solve for all stems where they are read, and note how far off each is seen to lie."""
        self.gram = self._gram(1)[0]
        self.solved = _solve(self.gram, len(self.mix))
        for column, stem in enumerate(self.live):
            stem.offset = _fit_slope(
                self.solved.answers[:, column], self.solved.weights[:, column], self.omega
            )[0]

    # --- what a place is worth ---

    def _take_others_out(self, stem: _Stem) -> tuple[Spectra, Values]:
        """Return the mixture less the other stems at their best gains, and the weights (bins,) for energies.

        One gain per stem, all fitted together. Weights are the inverse of the rest's power, less where the
        stem adds nothing.
        """
        power = self.gram[:, -1, -1].real
        weights = 1.0 / np.maximum(self.solved.rest, 1e-5 * power + 1e-8 * power.mean() + 1e-300)
        turns = [np.exp(1j * self.omega * each.offset) for each in self.live]
        turn = np.stack([*turns, np.ones(self.bins)], axis=1)
        turned = turn.conj()[:, :, None] * self.gram * turn[:, None, :]
        total = np.einsum("f,fij->ij", weights, turned).real
        gains = np.linalg.lstsq(total[:-1, :-1], total[:-1, -1], rcond=1e-9)[0]
        rest = self.mix
        for column, each in enumerate(self.live):
            if each is not stem:
                rest = rest - np.complex64(gains[column]) * self._delayed(each.spectra, each.offset)
        own = self.solved.weights[:, self.live.index(stem)]
        return rest, weights * own / (1.0 + own)

    def _segments(self, spectra: Spectra, weights: Values) -> Values:
        """Return the weighted energy per half second."""
        energy = np.einsum("bcf,f->b", spectra.real**2 + spectra.imag**2, weights, optimize=True)
        return np.asarray(np.add.reduceat(energy, np.arange(0, len(energy), self.segment)))

    def _segments_without(
        self, rest: Spectra, spectra: Spectra, weights: Values, least_gain: float = -inf
    ) -> Values:
        """Return the energies of ``rest`` once ``spectra`` are taken out at their best gain."""
        cross = np.einsum("bcf,bcf,f->", rest.conj(), spectra, weights, optimize=True).real
        power = np.einsum("bcf,bcf,f->", spectra.conj(), spectra, weights, optimize=True).real
        gain = max(least_gain, float(cross / power)) if power else 0.0
        return self._segments(rest - np.complex64(gain) * spectra, weights)

    def _loud(self, stem: _Stem, weights: Values) -> NDArray[np.bool_]:
        level = self._segments(stem.spectra, weights)
        return np.asarray(level > 0.01 * level.max())

    def _weigh_rivals(self) -> None:
        """Note a doubt about every stem that would fit about as well at its next best place."""
        for stem in self.live:
            if stem.clarity >= _BEYOND_DOUBT:
                continue
            rest, weights = self._take_others_out(stem)
            here = self._segments_without(rest, self._delayed(stem.spectra, stem.offset), weights)
            loud = self._loud(stem, weights)
            for rival in [lag for lag in stem.rivals if abs(lag - stem.delay) > 1][:_RIVALS]:
                spectra = self._read(stem.read, float(rival))
                cross = np.einsum("bcf,bcf->f", spectra.conj(), rest, optimize=True)
                offset = _fit_slope(cross, np.abs(cross) * weights, self.omega)[0]
                if abs(rival + offset - stem.delay) < 0.5:
                    continue
                there = self._segments_without(rest, self._delayed(spectra, offset), weights)
                if not _is_lower(here[loud], there[loud]):
                    stem.doubt = f"it fits at {rival} frames as well as at {stem.delay:.0f}"
                    break

    # --- fractions ---

    def _fit(self) -> list[_Fit]:
        """Return the fits of all stems where they are read, with errors and what contradicts them."""
        parts = self._gram(min(_FOLDS, len(self.mix)))
        self.gram = parts.sum(axis=0)
        blocks = len(self.mix)
        self.solved = _solve(self.gram, blocks)
        folds = [_solve(self.gram - part, blocks - blocks // len(parts)) for part in parts]
        fits = []
        for column, stem in enumerate(self.live):
            answer, weight = self.solved.answers[:, column], self.solved.weights[:, column]
            near, polarity, is_found = _fit_slope(answer, weight, self.omega)
            figures = _examine(answer, weight, self.omega, near)
            left = np.array(
                [_examine(f.answers[:, column], f.weights[:, column], self.omega, near) for f in folds]
            )
            # Efron and Tibshirani, An Introduction to the Bootstrap (1993), equation 11.5.
            spread = (len(parts) - 1) / len(parts) * np.sum((left - left.mean(axis=0)) ** 2, axis=0)
            se, phase_se, bend_se = (float(value) for value in np.sqrt(spread))
            stem.offset = float(figures[0])
            energy = self.gram[:, column, column].real
            coherence = float(np.sum(energy * weight / (1 + weight)) / np.sum(energy))
            if not is_found:
                fault = "no single delay fits it"
            elif abs(figures[1]) > max(0.05, 4 * phase_se):
                fault = "its phase is turned, not only delayed"
            elif abs(figures[2]) > max(0.02, 4 * bend_se):
                fault = "its low and its high frequencies have different delays"
            elif polarity != self._sign_alone(column):
                fault = "its polarity is another with and without the other stems"
            else:
                fault = ""
            known = float(np.sum(weight * self.omega**2))
            least_se = (2 * blocks * known) ** -0.5 if known else inf
            # Between the two, noise explains it: a drifting stem scatters a hundred times more than that.
            if not fault and (se <= SURE_FRAMES or se > _DRIFTING * least_se):
                fault = self._find_drift(parts, column, se)
            fits.append(_Fit(stem.delay, se, polarity, coherence, fault))
        return fits

    def _sign_alone(self, column: int) -> int:
        """Return the sign of the stem's correlation with the mixture, whatever the other stems hold.

        Where others hold more than their part of a stem, least squares takes that out again by a negative
        answer, which is no polarity.
        """
        cross = self.gram[:, column, -1] * np.exp(-1j * self.omega * self.live[column].offset)
        power = self.gram[:, -1, -1].real
        return 1 if np.sum(cross.real / (power + 1e-8 * power.mean())) >= 0 else -1

    def _find_drift(self, parts: Complex, column: int, se: float) -> str:
        """Return what tells of a delay that changes along the item, '' if nothing does.

        Looked at are thirds of the stem's energy; one that holds less than a fiftieth of what is known of
        the delay is passed over. A steady drift of D frames shows as D / 12 in a jackknife over twelve folds
        and moves the outer thirds by D / 3: 2.3 of their standard errors.
        """
        energy = np.cumsum(parts[:, :, column, column].real.sum(axis=1))
        cuts = [int(np.searchsorted(energy, energy[-1] * third / 3)) + 1 for third in (1, 2)]
        known = float(np.sum(self.solved.weights[:, column] * self.omega**2))
        stem = self.live[column]
        least = ALIGNED_FRAMES if abs(stem.delay) < ALIGNED_FRAMES else _DRIFT_FRAMES
        for begin, end in zip([0, *cuts], [*cuts, len(parts)], strict=True):
            share = (end - begin) / len(parts)
            solved = _solve(parts[begin:end].sum(axis=0), int(share * len(self.mix)))
            answer, weight = solved.answers[:, column], solved.weights[:, column]
            part = share * float(np.sum(weight * self.omega**2))
            if part > 0.02 * known:
                off = _fit_slope(answer, weight, self.omega)[0] - stem.offset
                if abs(off) > max(least, 2.2 * se * np.sqrt(known / part)):
                    return f"its delay changes along the item, by {abs(off):.2g} frames and more"
        return ""

    # --- decisions ---

    def _judge(self) -> dict[int, Alignment]:
        """Return by stem what its own samples allow."""
        fits = self._fit()
        return {stem.index: self._judge_stem(stem, fit) for stem, fit in zip(self.live, fits, strict=True)}

    def _judge_stem(self, stem: _Stem, fit: _Fit) -> Alignment:
        decision, reason = Decision.REFUSED, ""
        is_aligned = fit.polarity == 1 and abs(fit.delay) < max(ALIGNED_FRAMES, 4 * fit.se)
        if fit.coherence < _COHERENT:
            self.strangers.add(stem.index)
            reason = (
                f"{NOT_IN_MIXTURE} (coherence {fit.coherence:.2f}): another recording, "
                f"another speed, more than {FAR_S:.0f} s off, or more than "
                f"{1000 * self.reach / self.sample_rate:.0f} ms off where no one place stands out"
            )
        elif fit.fault or stem.doubt:
            reason = fit.fault or stem.doubt
        elif not self._improves(stem, to_move=not is_aligned):
            reason = "the mixture less the other stems is no nearer to it there"
        elif is_aligned and fit.se <= KNOWN_FRAMES:
            decision = Decision.ALIGNED
        elif fit.se > SURE_FRAMES:
            reason = f"its delay is known to {fit.se:.2g} frames only"
            self.witnesses.add(stem.index)
        else:
            decision = Decision.CORRECTED
        return Alignment(fit.delay, fit.se, fit.polarity, decision, reason)

    def _doubt_turns(self, found: Mapping[int, Alignment]) -> dict[int, Alignment]:
        """Return, refused, the stems to be moved that fit about as well at a place outside of the reach.

        A loop is the same one turn later, and only the turns within the reach are weighed by
        `_weigh_rivals`.
        """
        moved = [stem for stem in self.live if found[stem.index].is_applied]
        if not moved:
            return {}
        heights = _correlate_far(self.mixture, [stem.read for stem in moved], self.sample_rate, self.frames)
        out = {}
        for stem, (lags, height) in zip(moved, heights, strict=True):
            period = _find_turn(lags, height, stem.delay, self.sample_rate)
            if period:
                stem.doubt = f"it repeats about every {period} frames: which turn it belongs to is not sure"
                out[stem.index] = replace(found[stem.index], decision=Decision.REFUSED, reason=stem.doubt)
                self.witnesses.add(stem.index)
        return out

    def _improves(self, stem: _Stem, *, to_move: bool) -> bool:
        """Tell whether the stem where it was found leaves less of the mixture than none or one not moved."""
        rest, weights = self._take_others_out(stem)
        loud = self._loud(stem, weights)
        here = self._segments_without(rest, self._delayed(stem.spectra, stem.offset), weights)[loud]
        if not _is_better(here, self._segments(rest, weights)[loud]):
            return False
        if not to_move:
            return True
        return _is_better(here, self._segments_without(rest, stem.as_given, weights, least_gain=0.0)[loud])

    def _hand_over(self, found: dict[int, Alignment]) -> dict[int, Alignment]:
        """Return the stems that were refused by themselves and can lie where the others do.

        With these in place less of the mixture is left for all, so that the others are judged once more.
        """
        place = self._find_shared(found)
        heirs = [stem for stem in self.live if found[stem.index].decision is Decision.REFUSED]
        if place is None or not heirs:
            return {}
        own = {stem.index: stem.delay for stem in heirs}
        for stem in heirs:
            self._move(stem, place)
        self._approach([stem for stem in self.live if stem not in heirs])
        fits = self._fit()
        out = {}
        for stem, fit in zip(self.live, fits, strict=True):
            if stem not in heirs:
                stem.doubt = ""
                again = self._judge_stem(stem, fit)
                out[stem.index] = found[stem.index] if again.decision is Decision.REFUSED else again
            elif self._can_inherit(stem, fit, place, own[stem.index]):
                out[stem.index] = _inherit(place, fit.se, fit.polarity)
        return out

    def _find_shared(self, found: Mapping[int, Alignment]) -> float | None:
        """Return the one delay of all stems that were placed by themselves; None where they differ.

        One of them is not enough among three and more, but another may bear it out that is itself not sure.
        """
        placed = [each for each in found.values() if each.decision is not Decision.REFUSED]
        delays = [each.delay_frames for each in placed]
        if not placed or max(delays) - min(delays) > ALIGNED_FRAMES:
            return None
        weights = np.array([1.0 / (each.delay_se**2 + 1e-10) for each in placed])
        place = float(np.sum(weights * delays) / np.sum(weights))
        for index in self.witnesses:
            one = found[index]
            tolerance = max(4 * SURE_FRAMES, 4 * one.delay_se)
            if one.decision is Decision.REFUSED and abs(one.delay_frames - place) <= tolerance < 0.5:
                placed.append(one)
        if len(placed) < min(2, len(found) - 1):
            return None
        is_aligned = all(each.decision is not Decision.CORRECTED for each in placed)
        return 0.0 if is_aligned else place

    def _can_inherit(self, stem: _Stem, fit: _Fit, place: float, own: float) -> bool:
        if fit.fault or fit.coherence < _COHERENT:
            return False
        if fit.se > _HEIR_FRAMES or abs(fit.delay - place) > max(0.01, 4 * fit.se):
            return False
        rest, weights = self._take_others_out(stem)
        loud = self._loud(stem, weights)
        here = self._segments_without(rest, stem.spectra, weights)[loud]
        if not _is_better(here, self._segments(rest, weights)[loud]):
            return False
        for rival in [own, *stem.rivals][: _RIVALS + 1]:
            if abs(rival - place) > 1.0:
                there = self._segments_without(rest, self._read(stem.read, float(rival)), weights)[loud]
                if here.sum() > 1.05 * there.sum():
                    return False
        return True


def _find_far(mixture: Reader, stems: Sequence[Reader], sample_rate: int, frames: int) -> list[int | None]:
    """Return about where each stem lies within `FAR_S`, in frames; None where no one place stands out."""
    found: list[int | None] = []
    for lags, height in _correlate_far(mixture, stems, sample_rate, frames):
        best = int(np.argmax(height))
        other = np.where(np.abs(lags - lags[best]) > _apart(sample_rate), height, 0.0)
        is_clear = height[best] > 0 and height[best] >= _FAR_CLEAR * other.max(initial=0.0)
        found.append(round(float(lags[best])) if is_clear else None)
    return found


def _find_turn(lags: Values, height: Values, delay: float, sample_rate: int) -> int:
    """Return how many frames from ``delay`` the nearest place lies that is about as high, 0 if none is.

    Parameters
    ----------
    lags, height : (lags,) as `_correlate_far` returns them
    delay : where the stem was found, frames
    """
    spacing = float(lags[1] - lags[0])
    away = np.abs(lags - delay)
    here = float(np.max(height[away <= _FAR_FINE * spacing], initial=0.0))
    rivals = (away > _apart(sample_rate)) & (height >= _REPEATS * here) & (height > 0)
    if not rivals.any():
        return 0
    nearest = float(away[rivals].min())
    peak = rivals & (away <= nearest + _FAR_FINE * spacing)
    return round(float(away[np.argmax(np.where(peak, height, 0.0))]))


def _apart(sample_rate: int) -> float:
    """Return how many frames two peaks of a far correlation must be apart to be two places."""
    return max(sample_rate / _FAR_HZ, REACH_FRAMES / 2 / 44_100 * sample_rate)


def _correlate_far(
    mixture: Reader, stems: Sequence[Reader], sample_rate: int, frames: int
) -> Iterator[tuple[Values, Values]]:
    """Yield for each stem the places within `FAR_S`, in frames, and the height of its correlation there.

    The height of a place is the correlation coefficient of what overlaps there, both signals with all bands
    equally loud, so that a bar of a loop that lies beyond an end does not count for the bar that does not.
    It is 0 where less than `_FAR_SHARE` of the stem overlaps.
    """
    step = max(1, sample_rate // _FAR_HZ)
    rate = sample_rate / step
    reach = round(FAR_S * rate)
    length = -(-min(frames, round(_FAR_SPAN_S * sample_rate)) // step)
    start = (frames // step - length) // 2
    # A stem may hold what lies up to the reach before the mixture's start and after its end.
    size = fft.next_fast_len(length + 3 * reach, real=True)
    own = _whiten(_thin_out(mixture, step, start, length), rate, size)
    spectrum, power = fft.rfft(own, size), fft.rfft(np.sum(own**2, axis=0), size)
    lags = np.arange(-reach, reach + 1)
    inside = fft.rfft(np.ones(length), size)
    for read in stems:
        stem = _whiten(_thin_out(read, step, start - reach, length + 2 * reach), rate, size)
        turned = fft.rfft(stem, size)
        cross = fft.irfft(np.sum(turned * spectrum.conj(), axis=0), size)[lags + reach]
        level = np.sum(stem**2, axis=0)
        sounding = fft.rfft(np.where(level > 0, 1.0, 0.0), size)
        here = fft.irfft(fft.rfft(level, size) * inside.conj(), size)[lags + reach]
        there = fft.irfft(sounding * power.conj(), size)[lags + reach]
        enough = here >= max(_FAR_SHARE * float(level.sum()), 1e-300)
        floor = 1e-6 * float(np.max(there, initial=0.0)) + 1e-300
        scale = np.zeros(len(lags))
        scale[enough] = 1.0 / np.sqrt(here[enough] * np.maximum(there[enough], floor))
        fine = np.asarray(resample_poly(cross, _FAR_FINE, 1), np.float64)
        places = np.arange(len(fine), dtype=np.float64) * (step / _FAR_FINE) - reach * step
        yield places, np.abs(fine) * np.repeat(scale, _FAR_FINE)


def _thin_out(read: Reader, step: int, start: int, length: int) -> Values:
    """Return ``length`` frames from frame ``start`` of what is left where each ``step``-th frame is kept."""
    reach = 8 * step
    taps = np.sinc(np.arange(-reach, reach + 1) / step) * np.hanning(2 * reach + 1) / step
    parts = []
    for begin in range(0, length, max(1, _FAR_BLOCK // step)):
        count = min(max(1, _FAR_BLOCK // step), length - begin)
        around = read((start + begin) * step - reach, (count - 1) * step + 2 * reach + 1)
        parts.append(oaconvolve(around, taps[None], mode="valid", axes=1)[:, ::step])
    return np.concatenate(parts, axis=1)


def _whiten(signal: Values, rate: float, size: int) -> Values:
    """Return ``signal`` with bands of `_FAR_BAND_HZ` equally loud, 0 where it was silent."""
    spectrum = fft.rfft(signal, size)
    power = np.sum(np.abs(spectrum) ** 2, axis=0)
    width = max(1, round(_FAR_BAND_HZ * size / rate))
    smooth = uniform_filter1d(power, width, mode="nearest")
    white = fft.irfft(spectrum / np.sqrt(np.maximum(smooth, 1e-6 * smooth.max()) + 1e-300), size)
    white = white[:, : signal.shape[1]]
    return np.asarray(np.where(np.any(signal, axis=0), white, 0.0))


def _inherit(place: float, se: float, polarity: int) -> Alignment:
    if place == 0.0 and polarity == 1:
        return Alignment(0.0, se, 1, Decision.ALIGNED, "as the other stems are")
    return Alignment(place, se, polarity, Decision.INHERITED, "as the other stems are")


def _round_delay(alignment: Alignment) -> Alignment:
    """Return ``alignment`` with a delay that is a whole number of frames as far as can be told made whole."""
    whole = float(round(alignment.delay_frames))
    if alignment.is_applied and abs(alignment.delay_frames - whole) <= 0.005:
        return replace(alignment, delay_frames=whole)
    return alignment


def _spectra(read: Reader, start: int, frames: int, size: int) -> Spectra:
    """Return Hann-windowed spectra (blocks, channels, size // 2 + 1), half overlapped, at least one."""
    hop = size // 2
    blocks = max(1, frames // hop - 1)
    signal = read(start, (blocks + 1) * hop).astype(np.float32)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    cut = np.lib.stride_tricks.sliding_window_view(signal, size, axis=1)[:, ::hop]
    return np.asarray(fft.rfft(cut.transpose(1, 0, 2) * window))


def _energy(spectra: Spectra) -> Values:
    return np.asarray(np.sum(np.abs(spectra).astype(np.float64) ** 2, axis=(1, 2)))


def _gram(spectra: Sequence[Spectra], folds: int) -> Complex:
    """Return the products of all signals, the first one conjugate, (folds, bins, signals, signals)."""
    stack = np.stack(spectra)
    signals, blocks, _, bins = stack.shape
    edges = np.linspace(0, blocks, folds + 1).astype(int)
    out = np.empty((folds, bins, signals, signals), np.complex128)
    for fold in range(folds):
        part = stack[:, edges[fold] : edges[fold + 1]].reshape(signals, -1, bins)
        part = np.ascontiguousarray(part.transpose(2, 0, 1))
        out[fold] = part.conj() @ part.transpose(0, 2, 1)
    return out


def _solve(gram: Complex, blocks: int) -> _Answers:
    """Return the least squares of the last signal of ``gram`` over the others, per bin.

    The weight of an answer is the energy that its stem takes out of the rest over the energy that stays:
    its phase has the variance 1 / (2 n weight) over n independent spectra. Weights that chance alone gives
    (an F ratio of 4) count as 0.
    """
    stems, cross, power = gram[:, :-1, :-1], gram[:, :-1, -1], gram[:, -1, -1].real
    own = np.einsum("fii->fi", stems).real
    ridge = 1e-9 * own + 1e-13 * own.mean() + 1e-30
    inverse = np.linalg.inv(stems + ridge[:, :, None] * np.eye(own.shape[1]))
    answers = np.einsum("fij,fj->fi", inverse, cross)
    rest = power - np.einsum("fi,fi->f", cross.conj(), answers).real
    # float32 spectra cannot show less.
    rest = np.maximum(rest, 1e-6 * power + 1e-13 * power.mean() + 1e-30)
    weights = np.abs(answers) ** 2 / np.einsum("fii->fi", inverse).real / rest[:, None]
    least = 4.0 / max(1, blocks - own.shape[1])
    return _Answers(answers, np.where(weights > least, weights, 0.0), rest)


def _correlate(answer: Complex, weight: Values, size: int) -> Values:
    """Return the correlation over lags; that of a stem d frames late peaks at -d, modulo ``size``."""
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    spectrum[: len(answer)] = weight * np.exp(1j * np.angle(answer))
    return np.asarray(fft.irfft(spectrum, size))


def _find_peaks(correlation: Values, reach: int) -> list[tuple[int, float]]:
    """Return (delay, height) of the highest extremes of either sign within ``reach``, highest first."""
    delays = np.arange(-reach, reach + 1)
    height = np.abs(correlation[-delays])
    tops = np.flatnonzero((height[1:-1] >= height[:-2]) & (height[1:-1] > height[2:])) + 1
    tops = tops[np.argsort(-height[tops])][: _RIVALS + 1]
    return [(int(delays[top]), float(height[top])) for top in tops]


def _clarity(peaks: Sequence[tuple[int, float]]) -> float:
    """Return how far the highest peak stands above the next one."""
    return peaks[0][1] / peaks[1][1] if len(peaks) > 1 else 0.0


def _fit_slope(answer: Complex, weight: Values, omega: Values) -> tuple[float, int, bool]:
    """Return delay, polarity, and whether the delay was found near 0: the maximum of the likelihood.

    The highest of 25 tries an eighth of a frame apart, then Gauss-Newton.
    """
    phase = np.angle(answer)
    tried = np.linspace(-_SPAN_FRAMES, _SPAN_FRAMES, 25)
    heights = np.cos(phase - tried[:, None] * omega) @ weight
    best = int(np.argmax(np.abs(heights)))
    delay, polarity = float(tried[best]), 1 if heights[best] >= 0 else -1
    if polarity < 0:
        phase = phase + np.pi
    for _ in range(8):
        error = phase - omega * delay
        curve = float(np.sum(weight * omega**2 * np.cos(error)))
        if curve <= 0:
            return delay, polarity, False
        delay += float(np.clip(np.sum(weight * omega * np.sin(error)) / curve, -0.25, 0.25))
    return delay, polarity, abs(delay) <= _SPAN_FRAMES


def _examine(answer: Complex, weight: Values, omega: Values, near: float) -> Values:
    """Return (3,): delay, phase at 0 Hz (0 for a mere delay), delay of the upper less that of the lower half.

    Linear weighted least squares on the phase around the delay ``near``; the halves hold equal information.
    """
    turned = answer * np.exp(-1j * omega * near)
    error = np.angle(turned if np.sum(weight * np.cos(np.angle(turned))) >= 0 else -turned)
    weight = np.where(np.abs(error) < np.pi / 2, weight, 0.0)
    slope, known = weight * omega * error, weight * omega**2
    total = float(known.sum())
    if not total:
        return np.array([near, 0.0, 0.0])
    first = np.array([weight.sum(), np.sum(weight * omega)])
    spread = first[0] * total - first[1] ** 2
    phase = (total * np.sum(weight * error) - first[1] * slope.sum()) / spread if spread > 0 else 0.0
    is_low = np.cumsum(known) <= total / 2
    halves = [slope[half].sum() / max(known[half].sum(), 1e-300) for half in (is_low, ~is_low)]
    return np.array([near + slope.sum() / total, phase, halves[1] - halves[0]])


def _is_lower(one: Values, other: Values) -> bool:
    """Tell whether ``one`` is lower than ``other`` in sum and in four of five segments, five at least."""
    if len(one) < 5 or one.sum() > 0.98 * other.sum():
        return False
    return bool(np.mean(one < other) >= _BETTER_SHARE)


def _is_better(one: Values, other: Values) -> bool:
    """Tell whether ``one`` is lower by half a dB in the median, and in four of five segments."""
    gain_db = 10 * np.log10((other + 1e-30) / (one + 1e-30))
    return bool(np.median(gain_db) >= _BETTER_DB and np.mean(gain_db > 0) >= _BETTER_SHARE)
