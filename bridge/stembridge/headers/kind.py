"""What kind of audio file a file is, by its first bytes alone; names and endings say nothing.

What is not listed here is not handed to any decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, NamedTuple

from stembridge.headers.chunks import W64_RIFF, is_alac_caf
from stembridge.headers.mp3 import is_mpeg_audio, skip_id3

LIBRARY_KINDS = ("WAV", "RF64", "BW64", "W64", "AIFF", "CAF", "FLAC", "OGG", "MP3")
"""Kinds that are read through soundfile."""

FFMPEG_KINDS = ("M4A", "AAC", "WavPack", "ALAC in CAF")
"""Kinds that are read through ffmpeg.

ALAC in CAF is one because libsndfile 1.2.2 decodes it wrongly without a word: loud 24-bit stereo, and
anything of more than two channels.
"""

_HEAD_BYTES = 40
_MOST_TAGS = 16


class AudioKind(NamedTuple):
    """A kind of `LIBRARY_KINDS` or `FFMPEG_KINDS`, and the offset at which it begins, behind an ID3v2 tag."""

    name: str
    begin: int


def find_kind(path: str) -> AudioKind | None:
    """Return the kind of a regular file, None where it is none that is read here.

    Raises
    ------
    OSError : the file cannot be read
    """
    with Path(path).open("rb") as file:
        return find_kind_of(file)


def find_kind_of(file: BinaryIO) -> AudioKind | None:
    """Return the kind of an open file."""
    begin = 0
    file.seek(begin)
    head = file.read(_HEAD_BYTES)
    for _ in range(_MOST_TAGS):
        tag = skip_id3(head)
        if not tag:
            break
        begin += tag
        file.seek(begin)
        head = file.read(_HEAD_BYTES)
    name = _name_stream(head) if begin else _name_file(head) or _name_stream(head)
    return AudioKind(name, begin) if name else None


def _name_file(head: bytes) -> str | None:
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return {b"RF64": "RF64", b"BW64": "BW64"}.get(head[:4], "WAV")
    if head[:16] == W64_RIFF:
        return "W64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[:4] == b"caff":
        return "ALAC in CAF" if is_alac_caf(head) else "CAF"
    if head[:4] == b"OggS":
        return "OGG"
    if head[4:8] == b"ftyp":
        return "M4A"
    return "WavPack" if head[:4] == b"wvpk" else None


def _name_stream(head: bytes) -> str | None:
    """Name what may stand behind an ID3v2 tag."""
    if head[:4] == b"fLaC":
        return "FLAC"
    if is_mpeg_audio(head):
        return "MP3"
    # ADTS: twelve bits of sync, one of version, and two of layer that are 0 (ISO/IEC 13818-7, 6.2).
    if len(head) >= 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return None
