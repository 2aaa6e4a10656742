"""Headers of files made of chunks: WAV, RF64, BW64, W64, AIFF, AIFC and CAF.

Sources: Microsoft, mmreg.h (fmt); EBU Tech 3306 (RF64) and ITU-R BS.2088 (BW64); Sony Wave64 as Sonic Foundry
described it; Apple, Audio Interchange File Format 1.3 and Apple Core Audio Format Specification 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from stembridge.channel_layout import CORE_AUDIO_ORDERS
from stembridge.errors import SourceError
from stembridge.headers.header import Header, Splice, contradiction

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_HEAD_BYTES = 24

_UNKNOWN_LENGTH = 0xFFFFFFFF
_FORMAT_EXTENSIBLE = 0xFFFE
_REST_BYTES = 1 << 20
_MOST_CHUNKS = 100_000
_RIFF_MAX = (1 << 32) + 8
_CORE_AUDIO_BITMAP = 1 << 16
_CORE_AUDIO_SPEAKERS = (1 << 18) - 1


def read_riff(file: BinaryIO, size: int, shown: str) -> Header:
    """Return what a WAV, RF64 or BW64 header says; libsndfile knows BW64 only by the name of RF64.

    Raises
    ------
    SourceError : no chunk of audio, more behind it than chunks, or a plain WAV above 4 GiB, whose lengths
        cannot be right
    """
    magic = _read_at(file, 0, 4)
    order = ">" if magic == b"RIFX" else "<"
    mask, wide = 0, None
    audio: tuple[int, int] | None = None
    for name, offset, length in _walk_chunks(file, size, 12, f"{order}4sI"):
        if name == b"ds64":
            wide = struct.unpack("<8xQ", _read_at(file, offset, 16))[0]
        elif name == b"fmt ":
            mask = _read_mask(_read_at(file, offset, min(length, 40)), order)
        elif name == b"data":
            # Without ds64, a stream's writer did not know how much would come.
            if length != _UNKNOWN_LENGTH:
                audio = (offset, length)
            elif wide is not None:
                audio = (offset, wide)
            break
    else:
        raise _silence(shown)
    if magic in (b"RIFF", b"RIFX") and size > _RIFF_MAX:
        raise SourceError(
            f"{shown} has {size} bytes, more than a WAV header can count",
            "export it as RF64 or W64, or as several files",
        )
    if audio:
        _check_rest(file, size, audio, f"{order}4sI", shown)
    splice = Splice(0, 4, b"RF64") if magic == b"BW64" else None
    return Header("WAV", audio, channel_mask=mask, splice=splice)


def read_w64(file: BinaryIO, size: int) -> Header:
    """Return what a Wave64 header says: chunks named by GUIDs, with lengths that count their own head.

    libsndfile takes all that follows as audio: the chunks behind the audio are hidden from it.
    """
    mask = 0
    offset = 40
    for _ in range(_MOST_CHUNKS):
        if offset + _W64_HEAD_BYTES > size:
            break
        guid, length = struct.unpack("<16sQ", _read_at(file, offset, _W64_HEAD_BYTES))
        body = offset + _W64_HEAD_BYTES
        if guid[:4] == b"data" and guid[4:] == _W64_TAIL:
            end = offset + max(length, _W64_HEAD_BYTES)
            rest = end + -end % 8
            is_chunk = (
                _read_at(file, rest, _W64_HEAD_BYTES)[10:16] == _W64_TAIL[-6:] if rest < size else False
            )
            splice = Splice(end, size - end) if is_chunk else None
            return Header("W64", (body, end - body), channel_mask=mask, splice=splice)
        if guid[:4] == b"fmt " and guid[4:] == _W64_TAIL:
            mask = _read_mask(_read_at(file, body, 40), "<")
        offset += max(length + -length % 8, _W64_HEAD_BYTES)
    return Header("W64", (size, 0), channel_mask=mask)


def read_aiff(file: BinaryIO, size: int, shown: str) -> Header:
    """Return what an AIFF or AIFC header says.

    Raises
    ------
    SourceError : no chunk of audio, or more behind it than chunks
    """
    frames: int | None = None
    audio: tuple[int, int] | None = None
    mask = 0
    speakers: tuple[str, ...] = ()
    for name, offset, length in _walk_chunks(file, size, 12, ">4sI"):
        if name == b"COMM" and length >= 18:
            frames = struct.unpack(">2xI", _read_at(file, offset, 6))[0]
        elif name == b"CHAN":
            mask, speakers = _read_core_audio_layout(file, offset, length)
        elif name == b"SSND":
            skipped = struct.unpack(">I", _read_at(file, offset, 4))[0]
            audio = (offset + 8 + skipped, max(0, length - 8 - skipped))
            _check_rest(file, size, audio, ">4sI", shown)
    if audio is None:
        raise _silence(shown)
    return Header("AIFF", audio, frames, mask, speakers)


def read_caf(file: BinaryIO, size: int, shown: str) -> Header:
    """Return what a CAF header says.

    Where the data chunk's length is -1 (the rest of the file) libsndfile is shown the length that it has.

    Raises
    ------
    SourceError : no chunk of audio, or more behind it than chunks
    """
    audio: tuple[int, int] | None = None
    splice = None
    mask = 0
    speakers: tuple[str, ...] = ()
    for name, offset, length in _walk_chunks(file, size, 8, ">4sQ"):
        if name == b"chan":
            mask, speakers = _read_core_audio_layout(file, offset, length)
        elif name == b"data":
            found = length
            if length == (1 << 64) - 1:
                found = size - offset
                splice = Splice(offset - 8, 8, struct.pack(">Q", found))
            # The audio follows a count of edits.
            audio = (offset + 4, max(0, found - 4))
            _check_rest(file, size, audio, ">4sQ", shown)
    if audio is None:
        raise _silence(shown)
    return Header("CAF", audio, None, mask, speakers, splice)


def is_alac_caf(head: bytes) -> bool:
    """Tell whether the first 32 bytes are those of a CAF file that holds Apple Lossless."""
    return head[:4] == b"caff" and head[8:12] == b"desc" and head[28:32] == b"alac"


def _walk_chunks(file: BinaryIO, size: int, offset: int, head: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset of the body, and promised length of each chunk, up to what cannot be one."""
    head_bytes = struct.calcsize(head)
    # CAF's chunks follow each other without a byte in between.
    even = head_bytes == 8
    for _ in range(_MOST_CHUNKS):
        if offset + head_bytes > size:
            return
        name, length = struct.unpack(head, _read_at(file, offset, head_bytes))
        if not _is_name(name):
            return
        offset += head_bytes
        yield name, offset, length
        offset += length + (length % 2 if even else 0)


def _silence(shown: str) -> SourceError:
    # What libsndfile finds all the same, no promise could be held against.
    return SourceError(
        f"{shown} cannot be read as audio: it has no chunk of audio", "copy or export it again"
    )


def _check_rest(file: BinaryIO, size: int, audio: tuple[int, int], head: str, shown: str) -> None:
    """Refuse a file whose audio goes on where its header says that it ends.

    Behind the audio there may be chunks, an ID3v1 tag, or zeros that some writers fill files up with.
    """
    end = audio[0] + audio[1]
    head_bytes = struct.calcsize(head)
    if end + head_bytes > size:
        return
    # Not every writer puts the byte behind an odd length.
    for begin in (end + end % 2, end):
        name, length = struct.unpack(head, _read_at(file, begin, head_bytes))
        if _is_name(name) and (begin + head_bytes + length <= size + 1 or name[:3] == b"TAG"):
            return
    if not _read_at(file, end, min(size - end, _REST_BYTES)).strip(b"\0"):
        return
    raise contradiction(shown, f"{audio[1]} bytes of audio", f"{size - end} more")


def _is_name(name: bytes) -> bool:
    return all(0x20 <= octet <= 0x7E for octet in name) and name != b"    "


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Return ``count`` bytes, with zeros for those behind the file's end."""
    file.seek(offset)
    return file.read(count).ljust(count, b"\0")


def _read_mask(fmt: bytes, order: str) -> int:
    if len(fmt) < 40 or struct.unpack_from(f"{order}H", fmt)[0] != _FORMAT_EXTENSIBLE:
        return 0
    mask: int = struct.unpack_from(f"{order}I", fmt, 20)[0]
    return mask


def _read_core_audio_layout(file: BinaryIO, offset: int, length: int) -> tuple[int, tuple[str, ...]]:
    """Return mask or speakers of an AudioChannelLayout; descriptions of single channels are not taken up."""
    if length < 12:
        return 0, ()
    tag, bitmap = struct.unpack(">II", _read_at(file, offset, 8))
    if tag == _CORE_AUDIO_BITMAP:
        return bitmap & _CORE_AUDIO_SPEAKERS, ()
    return 0, CORE_AUDIO_ORDERS.get(tag, ())
