"""Which regions of a source are separated for the items that play it.

A region begins a whole number of seconds after the source's start and ends a whole number before its end, so
that start offsets, counted from either side, only lose an integer and stay the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from stembridge.types import Region

SHORT_S = 15.0
"""A source of at most this length is split as a whole."""
MOST = 0.6
"""A source of which this share is needed is split as a whole."""
JOINED_S = 8.0
"""Spans that lie closer than a segment of the model share a region: the gap costs nothing."""


REACH_S = 0.05
"""What REAPER's resampler may look at beyond what is played: 768 points at 22050 Hz, and some to spare."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A file as REAPER reads it: frames per channel and their rate in Hz."""

    frames: int
    rate: int

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


def plan_regions(
    spans: Sequence[tuple[float, float]], extent: Extent, handles_s: float
) -> tuple[Region | None, ...]:
    """Return for each span of seconds the region that covers it with handles; None stands for the whole file.

    Spans that are covered by one region get equal ones.
    """
    joined: list[list[float]] = []
    for first, last in sorted(spans):
        if joined and first - joined[-1][1] <= JOINED_S + 2 * handles_s:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    regions = [(first, last, _cover(first, last, extent, handles_s)) for first, last in joined]
    if sum(region.frames for _, _, region in regions) >= MOST * extent.frames or extent.seconds <= SHORT_S:
        return (None,) * len(spans)
    return tuple(
        next(region for first, last, region in regions if first <= span[0] and span[1] <= last)
        for span in spans
    )


def _cover(first_s: float, last_s: float, extent: Extent, handles_s: float) -> Region:
    handles_s = max(handles_s, REACH_S)
    before_s = max(0, floor(first_s - handles_s))
    behind_s = max(0, floor(extent.seconds - last_s - handles_s))
    start = before_s * extent.rate
    return Region(start, extent.frames - behind_s * extent.rate - start)
