"""`--start`, `--length` and `--listen-from` as people write them: seconds, minutes, or frames."""

from __future__ import annotations

import re
from fractions import Fraction

from stembridge.delivery import check_listen_from
from stembridge.errors import RequestError, SourceError
from stembridge.types import Region

_FRAMES = re.compile(r"(\d+)f")
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)s?")


def parse_region(start: str | None, length: str | None, *, sample_rate: int, frames: int) -> Region | None:
    """Return the region that the two options name, None where neither is given.

    Parameters
    ----------
    start, length : such as '12.5' (seconds), '1:02.5' or '48000f' (frames); None means the beginning, and to
        the end
    frames : length of the file

    Raises
    ------
    RequestError : not understood, or no audio
    SourceError : beyond the end of the file
    """
    if start is None and length is None:
        return None
    first = 0 if start is None else parse_frames(start, "--start", sample_rate)
    count = max(1, frames - first) if length is None else parse_frames(length, "--length", sample_rate)
    if count < 1:
        raise RequestError(f"--length {length} is no audio", "at least one frame: 1f")
    if first + count > frames:
        given = f"--start {start}" if length is None else f"--start {start or 0} with --length {length}"
        raise SourceError(
            f"{given} goes beyond the end of the file",
            f"it has {frames} frames, {frames / sample_rate:.3f} s; without --length it goes to the end",
        )
    return Region(first, count)


def parse_place(text: str, region: Region, *, sample_rate: int, is_whole: bool) -> int:
    """Return the frame that --listen-from names.

    Parameters
    ----------
    text : as in `parse_region`, from the beginning of the file on
    region : what is split of it
    is_whole : that is all of it

    Raises
    ------
    RequestError : not understood, or outside of what --start and --length name
    SourceError : beyond the end of the file
    """
    place = parse_frames(text, "--listen-from", sample_rate)
    try:
        check_listen_from(place, region)
    except RequestError:
        first, end = region.start / sample_rate, (region.start + region.frames) / sample_rate
        if is_whole:
            raise SourceError(
                f"--listen-from {text} goes beyond the end of the file",
                f"it has {region.frames} frames, {end:.3f} s",
            ) from None
        raise RequestError(
            f"--listen-from {text} lies outside of what is split, {first:.3f} s to {end:.3f} s",
            "it counts from the beginning of the file, as --start does",
        ) from None
    return place


def parse_frames(text: str, option: str, sample_rate: int) -> int:
    """Return a position or length in frames; seconds go to the nearest frame.

    Raises
    ------
    RequestError : not understood; the option and the value are named
    """
    whole = _FRAMES.fullmatch(text)
    if whole:
        return int(whole[1])
    clock = _CLOCK.fullmatch(text)
    if not clock:
        raise RequestError(
            f"{option} {text!r} is no time", "give seconds (12.5), minutes (1:02.5) or frames (48000f)"
        )
    hours, minutes, seconds = (Fraction(part or 0) for part in clock.groups())
    return round((3600 * hours + 60 * minutes + seconds) * sample_rate)
