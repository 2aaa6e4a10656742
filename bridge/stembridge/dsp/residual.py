"""Where the residual goes: into which stems, if any, and how much of it.

The residual r = x - sum(s_i) is what a separator gave to no stem. It stays by itself, or the stems take it in
(a fold), or they take in the band alone that the model never heard. All of it is float64 and says only where
samples go; that stems and mixture close as integers is `stembridge.dsp.grid`'s part.

Mixtures are (channels, frames), stacks (stems, channels, frames).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import log2
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import firwin, kaiser_beta, oaconvolve

from stembridge.dsp.resample import PAD_FRAMES, StreamResampler, count_frames
from stembridge.errors import RequestError
from stembridge.types import CATCH_ALL, ResidualPolicy

Signal = NDArray[np.float64]

_WINDOW_S = 2048 / 48_000
"""Length of a spectral window: 43 ms tell a bass note from its octave and end close to a drum stroke."""

_TF_SEGMENT_HOPS = 32

_HF_BAND = (12_000 / 22_050, 20_000 / 22_050)
"""Band whose envelope stands for the band above, as shares of the model's highest frequency: 12 to 20 kHz
at 44.1 kHz. With oracle stems of two synthetic songs at 96 kHz it took drums from 19 to 39 and from 18 to
43 dB SDR."""

_HF_EDGE = 1_000 / 22_050
"""Width of the band's edges, in the same unit: 20 kHz is where the resampler begins to fall as well."""

_HF_STOP_DB = 120.0
"""How far a tone outside of the band is down in the envelope; see `_HF_SILENCE`."""

_HF_SILENCE = 1e-11
"""Power in the band re all of a stem's below which it is not heard there: more than the filter leaks."""

_FFT_NOISE = 1e-26
"""Power re the loudest of a segment below which the filter's output is its FFT's rounding, not a stem."""

_HF_STEP_S = 1 / 3_000
_HF_SMOOTH_STEPS = 15
"""Half the Hann window that smooths the power, in steps: 10 ms in all. Over them noise 8 kHz wide tells its
power to about 1/sqrt(8000 Hz x 5 ms) = 16 %, and a stroke still stands apart from the next."""

_HF_SEGMENT_S = 1.5


class _Route(Protocol):
    """What one policy does to one segment, given the signal around it.

    ``segment`` frames are routed at a time, and up to ``context`` frames before and behind them are seen;
    fewer only where the signal begins or ends. ``context`` is at most ``segment``.
    """

    segment: int
    context: int

    def route(self, mixture: Signal, stems: Signal, lead: int, frames: int) -> Signal:
        """Return ``frames`` frames of the stems, the first of which is frame ``lead`` of the arguments."""


def check_policy(policy: ResidualPolicy, names: Sequence[str]) -> None:
    """Refuse stems with which ``policy`` has no meaning.

    Raises
    ------
    RequestError : nothing to fold into, or no stem named `CATCH_ALL` where the policy needs it
    """
    if policy is not ResidualPolicy.OWN and not names:
        raise RequestError(f"residual policy {policy} without stems", f"use {ResidualPolicy.OWN}")
    if policy is ResidualPolicy.OTHER and CATCH_ALL not in names:
        raise RequestError(
            f"residual policy {policy} needs a stem named {CATCH_ALL}; there are {', '.join(names)}",
            f"use {ResidualPolicy.OWN} or {ResidualPolicy.EQUAL}",
        )


def route_residual(
    policy: ResidualPolicy,
    blocks: Iterable[tuple[Signal, Signal]],
    names: Sequence[str],
    *,
    sample_rate: int,
    model_rate: int,
) -> Iterator[Signal]:
    """Yield the stems of each block after routing, one stack per block and of its shape.

    `ResidualPolicy.OWN` leaves the stems as they are. ``EQUAL`` gives r/K to each of K stems, the orthogonal
    projection onto the stacks that sum to x (Wisdom et al., Differentiable consistency constraints for
    improved deep speech enhancement, ICASSP 2019, arXiv 1811.08521): the squared error of all stems together
    falls by |r|^2/K, whatever the truth.
    ``OTHER`` gives all of it to the stem of that name. ``TF`` divides every bin of r's spectrum as the
    stems' powers stand to each other there, equally where they are all 0. ``HF_ENVELOPE`` routes only what
    is lost on the way to the model's rate and back, by the stems' envelopes just below; where the model
    heard everything the stems stay as they are.

    Whatever the cut into blocks, the samples are the same to the last bit. ``TF`` and ``HF_ENVELOPE`` look
    ahead by up to two segments, ``OWN``, ``EQUAL`` and ``OTHER`` not at all; nothing grows with the length.

    Parameters
    ----------
    policy : what to do
    blocks : mixture (channels, frames) and stems (stems, channels, frames), of any number of frames
    names : the stems' names in the order of the stack
    sample_rate : Hz, of the blocks
    model_rate : Hz, at which the model heard the mixture

    Raises
    ------
    RequestError : as `check_policy`
    """
    check_policy(policy, names)
    if policy is ResidualPolicy.EQUAL:
        return (stems + find_residual(mixture, stems) / len(stems) for mixture, stems in blocks)
    if policy is ResidualPolicy.OTHER:
        taker = list(names).index(CATCH_ALL)
        return (_add_to(stems, taker, find_residual(mixture, stems)) for mixture, stems in blocks)
    if policy is ResidualPolicy.TF:
        return _route_segments(blocks, _Spectra(sample_rate))
    if policy is ResidualPolicy.HF_ENVELOPE and sample_rate > model_rate:
        return _route_segments(blocks, _Envelopes(sample_rate, model_rate))
    return (stems for _, stems in blocks)


def find_residual(mixture: Signal, stems: Signal) -> Signal:
    """Return (channels, frames) of what ``mixture`` holds beyond the sum of ``stems``."""
    # Not stems.sum(axis=0): in blocks of one frame numpy adds many stems in another order.
    residual = mixture.copy()
    for stem in stems:
        residual -= stem
    return residual


def _add_to(stems: Signal, index: int, signal: Signal) -> Signal:
    routed = stems.copy()
    routed[index] += signal
    return routed


def _route_segments(blocks: Iterable[tuple[Signal, Signal]], route: _Route) -> Iterator[Signal]:
    """Route segment after segment, counted from the first frame, and yield the result cut as ``blocks`` are.

    Segments lie where they lie whatever the blocks are, so that the result does not depend on them.
    """
    held: list[Signal] = []
    held_frames = lead = 0
    sizes: deque[int] = deque()
    ready: Signal | None = None
    for mixture, stems in blocks:
        sizes.append(mixture.shape[1])
        # A copy: the caller may fill the same array again before this is used.
        held.append(np.concatenate([mixture[None], stems]))
        held_frames += mixture.shape[1]
        ready = stems[:, :, :0] if ready is None else ready
        needed = lead + route.segment + route.context
        if held_frames >= needed:
            signal = np.concatenate(held, axis=2)
            routed = [ready]
            begin = 0
            while held_frames - begin >= needed:
                seen = signal[:, :, begin : begin + needed]
                routed.append(route.route(seen[0], seen[1:], lead, route.segment))
                begin += lead + route.segment - route.context
                lead = route.context
                needed = lead + route.segment + route.context
            held = [signal[:, :, begin:].copy()]
            held_frames -= begin
            ready = np.concatenate(routed, axis=2)
        while sizes and sizes[0] <= ready.shape[2]:
            size = sizes.popleft()
            yield ready[:, :, :size].copy()
            ready = ready[:, :, size:]
    if ready is None:
        return
    signal = np.concatenate(held, axis=2)
    routed = [ready]
    for start in range(lead, held_frames, route.segment):
        frames = min(route.segment, held_frames - start)
        begin = max(0, start - route.context)
        seen = signal[:, :, begin : start + frames + route.context]
        routed.append(route.route(seen[0], seen[1:], start - begin, frames))
    ready = np.concatenate(routed, axis=2)
    for size in sizes:
        yield ready[:, :, :size].copy()
        ready = ready[:, :, size:]


class _Spectra:
    """`ResidualPolicy.TF`: bin by bin, as the stems' powers |S_i|^2 stand to each other.

    Sine windows over frames that overlap by half, before and behind: sin^2 + cos^2 = 1 gives the residual
    back where the shares add to 1, and the second window fades out what a change of shares does at a frame's
    ends. More overlap would cost twice the time for a part that lies 20 to 40 dB below the mixture. A stem of
    nothing but zeros gets nothing, however small the others are: a floor would give it a share.
    """

    def __init__(self, sample_rate: int) -> None:
        self._hop = 2 ** max(4, round(log2(_WINDOW_S * sample_rate)) - 1)
        self.segment = _TF_SEGMENT_HOPS * self._hop
        self.context = self._hop
        self._window = np.sin(np.pi * (np.arange(2 * self._hop) + 0.5) / (2 * self._hop))

    def route(self, mixture: Signal, stems: Signal, lead: int, frames: int) -> Signal:
        hop = self._hop
        hops = -(-frames // hop)
        count, channels, given = stems.shape
        around = np.zeros((1 + count, channels, (hops + 2) * hop))
        begin = hop - lead
        around[0, :, begin : begin + given] = find_residual(mixture, stems)
        around[1:, :, begin : begin + given] = stems
        framed = np.lib.stride_tricks.sliding_window_view(around, 2 * hop, axis=2)[:, :, ::hop]
        spectra = rfft(framed * self._window, axis=3)
        power = spectra[1:].real ** 2
        power += spectra[1:].imag ** 2
        total = power.sum(axis=0)
        shares = np.full(power.shape, 1.0 / count)
        np.divide(power, total, out=shares, where=total > 0.0)
        parts = irfft(shares * spectra[0], 2 * hop, axis=3)
        parts *= self._window
        joined = parts[:, :, 1:, :hop] + parts[:, :, :-1, hop:]
        return np.asarray(
            stems[:, :, lead : lead + frames] + joined.reshape(count, channels, -1)[:, :, :frames]
        )


class _Envelopes:
    """`ResidualPolicy.HF_ENVELOPE`: the band that the model never heard, by the envelope of the band below.

    h = r - up(down(r)) is linear in r = x - sum(s_i), so what the stems hold up there is taken off. Channel
    by channel, stem i gets h e_i / sum(e) with e_i its smoothed power in `_HF_BAND`; where no stem is heard
    there, none gets anything. The band-pass is a symmetric FIR filter and the smoothing a symmetric window:
    both without delay, as a stroke's high end must not come late to its own stem.
    """

    def __init__(self, sample_rate: int, model_rate: int) -> None:
        self._rate = sample_rate
        self._model_rate = model_rate
        highest_hz = model_rate / 2
        low_hz, high_hz = (share * highest_hz for share in _HF_BAND)
        edge_hz = _HF_EDGE * highest_hz
        # Kaiser's estimate of the length: Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd ed.,
        # eq. 7.76.
        taps = (_HF_STOP_DB - 7.95) / (2.285 * 2 * np.pi * edge_hz / sample_rate)
        self._reach = int(np.ceil(taps / 2))
        self._band_pass = firwin(
            2 * self._reach + 1,
            [low_hz - edge_hz / 2, high_hz + edge_hz / 2],
            window=("kaiser", kaiser_beta(_HF_STOP_DB)),
            pass_zero=False,
            fs=sample_rate,
        )
        self._step = max(1, round(_HF_STEP_S * sample_rate))
        smooth = np.hanning(2 * _HF_SMOOTH_STEPS + 2)[1:-1]
        self._smooth = smooth / smooth.sum()
        self.context = max(
            self._reach + self._step * _HF_SMOOTH_STEPS, PAD_FRAMES * -(-sample_rate // model_rate)
        )
        self.segment = -(-max(self.context, round(_HF_SEGMENT_S * sample_rate)) // self._step) * self._step

    def route(self, mixture: Signal, stems: Signal, lead: int, frames: int) -> Signal:
        unheard = self._find_unheard(find_residual(mixture, stems), lead, frames)
        return np.asarray(stems[:, :, lead : lead + frames] + self._share(stems, lead, frames) * unheard)

    def _find_unheard(self, residual: Signal, lead: int, frames: int) -> Signal:
        """Return the part of the residual that does not survive the way to the model's rate and back."""
        channels, given = residual.shape
        lead_down = lead * self._model_rate // self._rate
        frames_down = count_frames(given - lead, self._rate, self._model_rate)
        down = StreamResampler(
            channels,
            self._rate,
            self._model_rate,
            origin=lead,
            first=-lead_down,
            frames=lead_down + frames_down,
        )
        heard = np.concatenate([down.push(residual), down.finish()], axis=1)
        up = StreamResampler(channels, self._model_rate, self._rate, origin=lead_down, frames=frames)
        back = np.concatenate([up.push(heard), up.finish()], axis=1)
        return np.asarray(residual[:, lead : lead + frames] - back)

    def _share(self, stems: Signal, lead: int, frames: int) -> Signal:
        """Return each stem's share, (stems, channels, frames): between 0 and 1, in all 0 or 1."""
        steps = -(-frames // self._step)
        power = self._smooth_power(stems, lead, steps, self._band_pass)
        total = self._smooth_power(stems, lead, steps)
        power *= power > np.maximum(
            _HF_SILENCE * total, _FFT_NOISE * total.max(axis=2, initial=0.0, keepdims=True)
        )
        heard = power.sum(axis=0)
        shares = np.zeros(power.shape)
        np.divide(power, heard, out=shares, where=heard > 0.0)
        slope = (np.arange(self._step) + 0.5) / self._step
        between = shares[:, :, :-1, None] + np.diff(shares, axis=2)[:, :, :, None] * slope
        return np.asarray(between.reshape(*shares.shape[:2], -1)[:, :, :frames])

    def _smooth_power(self, stack: Signal, lead: int, steps: int, taps: Signal | None = None) -> Signal:
        """Return the power around the edges of ``steps`` steps, one more than there are steps."""
        taps = np.ones(1) if taps is None else taps
        reach = len(taps) // 2
        before = self._step * _HF_SMOOTH_STEPS + reach
        behind = before + self._step * steps
        around = np.zeros((*stack.shape[:2], before + behind))
        seen = stack[:, :, max(0, lead - before) : lead + behind]
        begin = max(0, before - lead)
        around[:, :, begin : begin + seen.shape[2]] = seen
        band = oaconvolve(around, taps[None, None], mode="valid", axes=2) if reach else around
        power = np.square(band).reshape(*stack.shape[:2], -1, self._step).mean(axis=3)
        windows = np.lib.stride_tricks.sliding_window_view(power, 2 * _HF_SMOOTH_STEPS, axis=2)
        return np.asarray(np.einsum("ijkl,l->ijk", windows, self._smooth))
