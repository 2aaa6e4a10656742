"""What a header says that libsndfile does not tell, does not check, or reads wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from stembridge.errors import SourceError

_WINDOW_BYTES = 1 << 18


class Unsplittable(SourceError):
    """No byte that may still come makes a file one that can be split: it is its own header that says so."""


@dataclass(frozen=True, slots=True)
class Splice:
    """How a file is shown to libsndfile where it would stumble over the file as it is.

    Parameters
    ----------
    at, removed, inserted : the ``removed`` bytes from offset ``at`` on are shown as ``inserted``
    padding : zero bytes that are shown after the last byte
    """

    at: int = 0
    removed: int = 0
    inserted: bytes = b""
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's header says.

    Parameters
    ----------
    kind : 'WAV', 'W64', 'AIFF', 'CAF', 'FLAC', 'OGG' or 'MP3'
    audio : offset and promised bytes of the audio data; None where the header leaves its end open
    frames : samples per channel where the header or the stream says them apart from the bytes
    channel_mask : speaker positions as WAVE_FORMAT_EXTENSIBLE numbers them, 0 where the file names none
    speakers : the speaker of each channel where the file may have them in another order than the mask's
    splice : how libsndfile must be shown the file; None as it is
    remarks : what a user should know of this file, one line each
    most_frames : samples per channel that can be there at most, where libsndfile is to say how many there are
    """

    kind: str
    audio: tuple[int, int] | None = None
    frames: int | None = None
    channel_mask: int = 0
    speakers: tuple[str, ...] = ()
    splice: Splice | None = None
    remarks: tuple[str, ...] = ()
    most_frames: int | None = None

    @property
    def is_length_stated(self) -> bool:
        """Whether a missing end would show: the header itself says how long the audio is."""
        # What libsndfile is shown of a FLAC file in another way is the number that its header lacks.
        return self.audio is not None or (self.kind == "FLAC" and self.splice is None)


class FileWindow:
    """Bytes of a file, out of a window that moves with the reader: a walk over a long file stays small.

    Not a mapped file: its pages would count as this process's own memory, and one that is cut off meanwhile
    ends the process.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = 0
        self._held = b""

    def read(self, at: int, count: int) -> bytes:
        """Return ``count`` bytes from offset ``at`` on, fewer at the end of the file."""
        begin = at - self._begin
        if not 0 <= begin <= len(self._held) - count:
            self._file.seek(at)
            self._held = self._file.read(max(count, _WINDOW_BYTES))
            self._begin, begin = at, 0
        return self._held[begin : begin + count]


def contradiction(shown: str, promised: str, found: str) -> SourceError:
    """Return the refusal of a file whose header and content differ."""
    return SourceError(
        f"{shown} contradicts itself: header promises {promised}, {found} are there",
        "copy or export it again",
    )


def truncation(shown: str, promised: str, found: str) -> SourceError:
    """Return the refusal of a file that ends before its header says."""
    return SourceError(
        f"{shown} is truncated: header promises {promised}, {found} are there", "copy or export it again"
    )
