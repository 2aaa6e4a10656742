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
from stembridge.headers.chunks import read_caf
from stembridge.headers.header import Unsplittable, truncation
from stembridge.headers.kind import FFMPEG_KINDS, AudioKind, find_kind
from stembridge.source_file import check_source_file

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
        kind = find_kind(str(path))
        if kind is None or kind.name not in FFMPEG_KINDS:
            return Wholeness("", probe(str(path)).is_length_stated)
        with path.open("rb") as file:
            return Wholeness("", _check_length(file, kind, shown))
    except SourceError as error:
        is_final = isinstance(error, Unsplittable)
        return Wholeness(error.message, is_length_stated=False, hint=error.hint, is_final=is_final)
    except OSError as error:
        fault = f"{shown} cannot be read: {error.strerror}"
        return Wholeness(fault, is_length_stated=False, hint="check the file and its rights")


def _check_length(file: BinaryIO, kind: AudioKind, shown: str) -> bool:
    """Return whether the header of a file that only ffmpeg reads says how long it is.

    Raises
    ------
    SourceError : it does, and more than there is
    """
    size = file.seek(0, os.SEEK_END)
    match kind.name:
        case "M4A":
            return _check_boxes(file, size, shown)
        case "ALAC in CAF":
            audio = read_caf(file, size, shown).audio
            if audio and sum(audio) > size:
                raise truncation(shown, f"{audio[1]} bytes of audio", str(max(0, size - audio[0])))
            return audio is not None
    return False


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
