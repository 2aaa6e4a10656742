"""Which frames of a source a split reads, and where they lie at the model's rate.

A region is laid out on its own, or on the grid of its source: then its stems are, sample for sample, those of
a split of the whole source. For that every float on the way must come out of the same operations, so the
resamplers begin anew at every whole second of the source, where frames of both rates coincide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stembridge.audio_io import SourceInfo
from stembridge.dsp.resample import StreamResampler, count_frames, reach_frames
from stembridge.errors import RequestError
from stembridge.types import Region
from stembridge_daemon.worker.separators.base import Separator

Signal = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layout:
    """A region, what is read around it, and its mixture at the model's rate.

    Parameters
    ----------
    source_rate, model_rate : Hz
    region : what is delivered, at the source's rate
    heard : what is resampled for it, at the source's rate
    before : frames of ``heard`` before the region, or before the whole second that ``laid`` begins with
    laid : frames of the mixture at the model's rate
    context : how many of them lie before the region
    lead : how many of these are separated with it: resampling the stems needs them
    frames : frames that are separated
    origin, beyond : frames of the source's grid before and behind them; 0 where the region has its own grid
    is_on_source_grid : the segments lie on one grid from the source's first frame
    """

    source_rate: int
    model_rate: int
    region: Region
    heard: Region
    before: int
    laid: int
    context: int
    lead: int
    frames: int
    origin: int = 0
    beyond: int = 0
    is_on_source_grid: bool = False

    def resample_mixture(self, channels: int) -> StreamResampler | SecondsResampler:
        """Return the stream that takes ``heard`` and gives ``laid`` frames."""
        rates = self.source_rate, self.model_rate
        if self.is_on_source_grid:
            return SecondsResampler(channels, *rates, origin=self.before, frames=self.laid)
        return StreamResampler(channels, *rates, origin=self.before, first=-self.context, frames=self.laid)

    def resample_stems(self, planes: int) -> StreamResampler | SecondsResampler:
        """Return the stream that takes what was separated and gives the region's frames."""
        kind = SecondsResampler if self.is_on_source_grid else StreamResampler
        return kind(planes, self.model_rate, self.source_rate, origin=self.lead, frames=self.region.frames)

    def locate(self, frame: int) -> int:
        """Return the frame that is separated at the instant of a frame of the source, or just before."""
        return self.lead + (frame - self.region.start) * self.model_rate // self.source_rate

    def find_covered(self, start: int, frames: int) -> tuple[int, int]:
        """Return first frame and number of the region's frames that lie in a stretch of what is separated."""
        first = count_frames(max(0, start - self.lead), self.model_rate, self.source_rate)
        last = (start + frames - 1 - self.lead) * self.source_rate // self.model_rate
        return first, min(last + 1, self.region.frames) - first

    def resample_stretch(self, planes: int, start: int, frames: int) -> StreamResampler:
        """Return the stream that takes a stretch of what was separated and gives what it covers."""
        first, covered = self.find_covered(start, frames)
        origin = self.lead - start
        return StreamResampler(
            planes, self.model_rate, self.source_rate, origin=origin, first=first, frames=covered
        )


def lay_out_alone(info: SourceInfo, region: Region, separator: Separator) -> Layout:
    """Return the layout of a region whose segments begin where it begins."""
    rate_in, rate_out = info.sample_rate, separator.sample_rate
    reach = count_frames(separator.segment_frames, rate_out, rate_in)
    before = min(region.start, reach)
    after = min(info.frames - region.start - region.frames, reach)
    context = before * rate_out // rate_in
    item = count_frames(region.frames, rate_in, rate_out)
    beyond = max(0, (region.frames + after) * rate_out // rate_in - item)
    edge = reach_frames(rate_out, rate_in)
    lead = min(context, edge)
    return Layout(
        source_rate=rate_in,
        model_rate=rate_out,
        region=region,
        heard=Region(region.start - before, before + region.frames + after),
        before=before,
        laid=context + item + beyond,
        context=context,
        lead=lead,
        frames=lead + item + min(beyond, edge),
    )


def lay_out_on_source(info: SourceInfo, region: Region, separator: Separator) -> Layout:
    """Return the layout of a region whose segments lie on one grid from the source's first frame.

    Raises
    ------
    RequestError : the region does not begin on a whole second, where frames of both rates coincide
    """
    rate_in, rate_out = info.sample_rate, separator.sample_rate
    second, rest = divmod(region.start, rate_in)
    if rest:
        raise RequestError(
            f"region from frame {region.start} of {info.path!r} does not begin on a whole second "
            f"of {rate_in} frames, as the grid of its source wants it",
            f"begin at frame {region.start - rest}",
        )
    whole = count_frames(info.frames, rate_in, rate_out)
    edge = reach_frames(rate_out, rate_in)
    start = second * rate_out
    # Behind its last frame a stream reflects what it has: the edge keeps that out of soxr's last block, so
    # that a region need not end on a whole second too (no bit differed in 540 cuts at nine rates).
    end = min(whole, start + count_frames(region.frames, rate_in, rate_out) + edge)
    lead = min(start, edge)
    first_s = max(0, start - lead - separator.segment_frames) // rate_out
    last_s = -(-(end + separator.segment_frames) // rate_out)
    reach = reach_frames(rate_in, rate_out)
    heard_from = max(0, first_s * rate_in - reach)
    return Layout(
        source_rate=rate_in,
        model_rate=rate_out,
        region=region,
        heard=Region(heard_from, min(info.frames, last_s * rate_in + reach) - heard_from),
        before=first_s * rate_in - heard_from,
        laid=min(whole, last_s * rate_out) - first_s * rate_out,
        context=start - first_s * rate_out,
        lead=lead,
        frames=end - (start - lead),
        origin=start - lead,
        beyond=whole - end,
        is_on_source_grid=True,
    )


class SecondsResampler:
    """A `StreamResampler` that begins anew at every whole second, with real context to both sides.

    soxr rounds its sums as the blocks of its Fourier transforms happen to lie, so what comes out hangs, in
    the last bit, on where a stream began. Here it hangs on the second alone.

    Parameters
    ----------
    channels : channels of every block
    rate_in, rate_out : Hz
    origin : frames pushed before the whole second that is the output's frame 0
    frames : number of frames to come out
    """

    def __init__(self, channels: int, rate_in: int, rate_out: int, *, origin: int, frames: int) -> None:
        self._channels = channels
        self._rates = rate_in, rate_out
        self._reach = reach_frames(rate_in, rate_out)
        self._left = frames
        self._held = [np.empty((channels, 0))]
        self._held_frames = 0
        self._lead = origin
        """Held frames before the second that is due."""

    def push(self, block: Signal) -> Signal:
        """Return what is finished after ``block``, both (channels, frames); the result may have 0 frames."""
        self._held.append(block)
        self._held_frames += block.shape[1]
        due = []
        while self._left and self._held_frames >= self._lead + self._rates[0] + self._reach:
            due.append(self._resample_second())
        return self._join(due)

    def finish(self) -> Signal:
        """Return the last frames, (channels, frames).

        Raises
        ------
        AlignmentError : what was pushed does not reach the last frame asked for
        """
        due = []
        while self._left:
            due.append(self._resample_second())
        return self._join(due)

    def _resample_second(self) -> Signal:
        rate_in, rate_out = self._rates
        held = np.concatenate(self._held, axis=1)
        first = max(0, self._lead - self._reach)
        frames = min(self._left, rate_out)
        stream = StreamResampler(self._channels, *self._rates, origin=self._lead - first, frames=frames)
        around = held[:, first : self._lead + rate_in + self._reach]
        out = self._join([stream.push(around), stream.finish()])
        self._left -= frames
        drop = max(0, self._lead + rate_in - self._reach)
        self._held = [held[:, drop:].copy()]
        self._held_frames -= min(drop, self._held_frames)
        self._lead += rate_in - drop
        return out

    def _join(self, parts: list[Signal]) -> Signal:
        return np.concatenate([np.empty((self._channels, 0)), *parts], axis=1)
