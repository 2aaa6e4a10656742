"""Sample-rate conversion that keeps every sample in its place: soxr VHQ, padded before and cropped after.

soxr VHQ is linear-phase and compensates its own delay; measured against analytic tones it is off by less
than 1e-8 sample. What it cannot do is to begin or end: without samples beyond the item its filter rings at
both ends and its output is a few frames short or long. So every stream gets a lead and a tail by odd
reflection and is cropped to exactly the frames that were asked for.

Where the ratio of the rates is no ratio of small numbers, soxr counts its place between two frames in units
so coarse that it drifts: 44,056 to 44,100 Hz by 1.5e-6 frames a second (soxr 1.1.0). There a fresh stream
takes over every few seconds, begun where frames of both rates coincide and heard once it has swung in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import gcd

import numpy as np
import soxr
from numpy.typing import NDArray

from stembridge.errors import AlignmentError

Signal = NDArray[np.float64]

PAD_FRAMES = 2048
"""Frames of the lower of the two rates that stand before and after every stream."""

# What soxr is fed at a time: it works on copies, which stay in the cache up to about this size.
_CHUNK_FRAMES = 16_384

_EXACT_STEP = 1_400
"""Up to this step, in frames of either rate, soxr does not drift: on 309 pairs of rates from 8 to 192 kHz
with a step of 1,000 to 1,400 it moved by at most 3e-11 frames a second, beyond 2,000 by up to 6e-5."""

_LEG_FRAMES = 2**19
"""Output frames that one stream is heard for where it drifts, up to twice the rate: less than 1e-4 frames of
drift, of which 1,900 random pairs had at most 1.3e-10 frames per output frame there; above that it grows."""


def count_frames(frames: int, rate_in: int, rate_out: int) -> int:
    """Return how many frames at ``rate_out`` cover ``frames`` frames at ``rate_in``: the next integer up."""
    return -(-frames * rate_out // rate_in)


def reach_frames(rate_in: int, rate_out: int) -> int:
    """Return how many frames at ``rate_in`` beyond its ends a stream uses: 0 where nothing is resampled."""
    return 0 if rate_in == rate_out else PAD_FRAMES * max(1, -(-rate_in // rate_out))


class StreamResampler:
    """A stream that is pushed in at one rate and comes out at another, cropped to the frames asked for.

    Frame 0 of the output lies at the same instant as input frame ``origin``. At equal rates the samples pass
    unchanged.

    Parameters
    ----------
    channels : channels of every block
    rate_in, rate_out : Hz
    origin : frames pushed before the frame that is the output's frame 0: real context
    first : first frame to come out, negative for context before frame 0
    frames : number of frames to come out
    """

    def __init__(
        self, channels: int, rate_in: int, rate_out: int, *, origin: int = 0, first: int = 0, frames: int
    ) -> None:
        self._channels = channels
        self._left = frames
        self._is_identity = rate_in == rate_out
        self._is_started = False
        self._held: list[Signal] = []
        self._held_frames = 0
        if self._is_identity:
            self._skip = origin + first
            return
        common = gcd(rate_in, rate_out)
        step_in, step_out = rate_in // common, rate_out // common
        self._pad = reach_frames(rate_in, rate_out)
        # Input frame `origin` must fall on an output frame: lead + origin is a multiple of step_in.
        self._lead = -(-(self._pad + origin) // step_in) * step_in - origin
        self._skip = (self._lead + origin) // step_in * step_out + first
        self._stream = _Relay(channels, rate_in, rate_out, context=self._pad)

    def push(self, block: Signal) -> Signal:
        """Return what is finished after ``block``, both (channels, frames); the result may have 0 frames."""
        if self._is_identity:
            return self._crop(block)
        self._held.append(block)
        self._held_frames += block.shape[1]
        keep = self._pad + 1
        if self._held_frames < keep + (0 if self._is_started else self._lead + 1):
            return np.empty((self._channels, 0))
        held = np.concatenate(self._held, axis=1) if len(self._held) > 1 else block
        # The last frames wait: they are what the tail is reflected from.
        ready, rest = held[:, :-keep], held[:, -keep:].copy()
        self._held, self._held_frames = [rest], keep
        return self._feed(self._begin(held, ready), last=False)

    def finish(self) -> Signal:
        """Return the last frames, (channels, frames).

        Raises
        ------
        AlignmentError : what was pushed does not reach the last frame asked for
        """
        if not self._is_identity:
            rest = np.concatenate(self._held, axis=1) if self._held else np.empty((self._channels, 0))
            if rest.shape[1] == 0 and not self._is_started:
                raise AlignmentError("a stream of 0 frames cannot be resampled")
            tail = _reflect(rest[:, ::-1], self._pad)[:, ::-1]
            out = self._feed(np.concatenate([self._begin(rest, rest), tail], axis=1), last=True)
        else:
            out = np.empty((self._channels, 0))
        if self._left:
            raise AlignmentError(f"a resampled stream ended {self._left} frames early")
        return out

    def _begin(self, held: Signal, ready: Signal) -> Signal:
        if self._is_started:
            return ready
        self._is_started = True
        return np.concatenate([_reflect(held, self._lead), ready], axis=1)

    def _feed(self, block: Signal, *, last: bool) -> Signal:
        interleaved = np.ascontiguousarray(block.T)
        starts = range(0, len(interleaved), _CHUNK_FRAMES)
        parts = [
            part
            for start in starts
            for part in self._stream.feed(
                interleaved[start : start + _CHUNK_FRAMES], last=last and start == starts[-1]
            )
        ]
        return self._crop(np.concatenate(parts).T) if parts else np.empty((self._channels, 0))

    def _crop(self, block: Signal) -> Signal:
        begin = min(self._skip, block.shape[1])
        self._skip -= begin
        end = min(begin + self._left, block.shape[1])
        self._left -= end - begin
        return np.ascontiguousarray(block[:, begin:end])


@dataclass(slots=True)
class _Leg:
    """One of soxr's streams: output frames ``begin`` to ``end`` are its own, ``next`` comes out next."""

    stream: soxr.ResampleStream
    next: int
    begin: int
    end: int | None = None
    held: list[Signal] = field(default_factory=list)

    def feed(self, chunk: Signal, *, last: bool) -> None:
        """Hold what of its own comes out."""
        out = self.stream.resample_chunk(chunk, last=last).reshape(-1, chunk.shape[1])
        first, self.next = self.next, self.next + len(out)
        own = out[max(0, self.begin - first) : None if self.end is None else max(0, self.end - first)]
        if len(own):
            self.held.append(own)


class _Relay:
    """soxr's VHQ stream; where it drifts, fresh streams that take over from each other.

    A leg begins at a multiple of `step_in` input frames, where an output frame lies too, and is heard from
    ``context`` input frames later, when the silence before it is out of its filter's reach; so long the leg
    before it goes on. Which leg gives which frame hangs on the frame's number alone.
    """

    def __init__(self, channels: int, rate_in: int, rate_out: int, *, context: int) -> None:
        self._channels = channels
        self._rates = rate_in, rate_out
        common = gcd(rate_in, rate_out)
        self._step_in, self._step_out = rate_in // common, rate_out // common
        self._context = context
        self._period: int | None = None
        if max(self._step_in, self._step_out) > _EXACT_STEP:
            ratio = rate_out / rate_in
            # Measured: the drift grows up to four times the rate, falls where soxr takes one more stage of
            # doubling, and grows again.
            heard = int(_LEG_FRAMES / max(1.0, min(2.0, ratio / 2), ratio / 8))
            self._period = max(1, heard // self._step_out) * self._step_in
        self._fed = 0
        self._legs = [_Leg(self._open(), next=0, begin=0)]

    def feed(self, chunk: Signal, *, last: bool) -> list[Signal]:
        """Return what is finished after ``chunk``, both (frames, channels), in parts."""
        if self._period is not None:
            until = self._period - self._fed % self._period
            if len(chunk) > until:
                return self.feed(chunk[:until], last=False) + self.feed(chunk[until:], last=last)
            if self._fed and until == self._period:
                self._begin_leg()
        self._fed += len(chunk)
        finished: list[Signal] = []
        for leg in self._legs:
            leg.feed(chunk, last=last)
        while True:
            leg = self._legs[0]
            finished += leg.held
            leg.held.clear()
            if leg.end is None or leg.next < leg.end:
                return finished
            self._legs.pop(0)

    def _begin_leg(self) -> None:
        first = self._fed // self._step_in * self._step_out
        begin = first + self._context * self._step_out // self._step_in
        self._legs[-1].end = begin
        self._legs.append(_Leg(self._open(), next=first, begin=begin))

    def _open(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(*self._rates, self._channels, dtype="float64", quality="VHQ")


def resample_blocks(
    blocks: Iterable[Signal], channels: int, rate_in: int, rate_out: int, *, frames: int
) -> Iterator[Signal]:
    """Yield ``blocks`` (channels, frames) at ``rate_out``, ``frames`` frames in all."""
    stream = StreamResampler(channels, rate_in, rate_out, frames=frames)
    for block in blocks:
        yield stream.push(block)
    yield stream.finish()


def _reflect(signal: Signal, frames: int) -> Signal:
    """Return ``frames`` frames to stand before ``signal``: its odd reflection, then that one's first value.

    Odd reflection is not repeated where the signal is shorter than the lead: a steep ramp of three frames
    would grow without bound.
    """
    usable = min(frames, signal.shape[1] - 1)
    mirrored = 2.0 * signal[:, :1] - signal[:, usable:0:-1]
    edge = mirrored[:, :1] if usable else signal[:, :1]
    return np.concatenate([np.repeat(edge, frames - usable, axis=1), mirrored], axis=1)
