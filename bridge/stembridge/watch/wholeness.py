"""Whether a file holds all that its header promises.

Cut in half, most kinds of file open and read as if nothing were missing: what the header says is held against
what is there, as a split would do. M4A is read by ffmpeg alone, so its boxes are walked here.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stembridge.audio_io import probe
from stembridge.errors import SourceError
from stembridge.headers.chunks import read_aiff, read_caf, read_riff, read_w64
from stembridge.headers.header import Unsplittable, truncation
from stembridge.headers.kind import FFMPEG_KINDS, AudioKind, find_kind_of
from stembridge.source_file import check_source_file

_FLAC_TOTAL_AT = 18
_FLAC_TOTAL_MASK = (1 << 36) - 1
_MOST_BOXES = 100_000


@dataclass(frozen=True, slots=True)
class Wholeness:
    """What a file says of its own length.

    Parameters
    ----------
    fault : why it cannot be all of a recording, as a split would say it; '' where nothing speaks against it
    is_length_stated : its header says how long it is, so that a missing end would have shown
    hint : what to do about the fault
    is_final : nothing that may still be written makes it one that can be split
    """

    fault: str
    is_length_stated: bool
    hint: str = ""
    is_final: bool = False


def examine(path: Path) -> Wholeness:
    """Return whether a file holds what its header promises."""
    shown = repr(str(path))
    try:
        check_source_file(str(path))
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            kind = find_kind_of(file)
            is_stated = kind is not None and _check_length(file, size, kind, shown)
        if kind is None or kind.name not in FFMPEG_KINDS:
            probe(str(path))
    except SourceError as error:
        is_final = isinstance(error, Unsplittable)
        return Wholeness(error.message, is_length_stated=False, hint=error.hint, is_final=is_final)
    except OSError as error:
        fault = f"{shown} cannot be read: {error.strerror}"
        return Wholeness(fault, is_length_stated=False, hint="check the file and its rights")
    return Wholeness("", is_stated)


def _check_length(file: BinaryIO, size: int, kind: AudioKind, shown: str) -> bool:
    """Return whether the header says how long the file is.

    Raises
    ------
    SourceError : it does, and more than there is
    """
    match kind.name:
        case "FLAC":
            file.seek(kind.begin + _FLAC_TOTAL_AT)
            return int.from_bytes(file.read(8), "big") & _FLAC_TOTAL_MASK > 0
        case "M4A":
            return _check_boxes(file, size, shown)
        case "WAV" | "RF64" | "BW64":
            audio = read_riff(file, size, shown).audio
        case "W64":
            audio = read_w64(file, size).audio
        case "AIFF":
            audio = read_aiff(file, size, shown).audio
        case "CAF" | "ALAC in CAF":
            audio = read_caf(file, size, shown).audio
        case _:
            return False
    if audio and sum(audio) > size:
        raise truncation(shown, f"{audio[1]} bytes of audio", str(max(0, size - audio[0])))
    return audio is not None


def _check_boxes(file: BinaryIO, size: int, shown: str) -> bool:
    """Return whether every box of an M4A file says where it ends (ISO/IEC 14496-12, 4.2).

    Raises
    ------
    SourceError : the file ends within a box, or the one is missing that says what the others hold
    """
    names = set()
    at = 0
    is_stated = True
    for _ in range(_MOST_BOXES):
        if at >= size:
            break
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            raise truncation(shown, "a box of 8 bytes and more", str(len(head)))
        length, name = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            length = struct.unpack_from(">Q", head, 8)[0]
        elif length == 0:
            length, is_stated = size - at, False
        if length < 8:
            raise SourceError(f"{shown} is damaged: a box of {length} bytes", "copy or export it again")
        if at + length > size:
            raise truncation(shown, f"a box of {length} bytes", str(size - at))
        names.add(name)
        at += length
    if b"moov" not in names:
        raise SourceError(f"{shown} is not finished: it has no moov box", "copy or export it again")
    # Fragments can go on behind the last one.
    return is_stated and b"moof" not in names
