"""Markers and loops of an AIFF file as the RIFF chunks that say the same.

Layout: Audio Interchange File Format 1.3 (Apple, 1989): COMM, MARK and INST; AIFF-C has the same three.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

from stembridge.wavfile import Chunk

MAX_BYTES = 2**20
"""The most bytes of a chunk that are read."""
MAX_CHUNKS = 1_000


class Markers(NamedTuple):
    """``cue ``, ``LIST`` ``adtl`` and ``smpl`` as far as the file has markers and loops.

    Parameters
    ----------
    frames : frames in the file; 0 where the header does not tell
    remarks : one line for each thing that could not be read
    """

    chunks: tuple[Chunk, ...]
    frames: int
    remarks: tuple[str, ...]


def read_markers(file: BinaryIO, size: int) -> Markers:
    """Return the markers of an AIFF or AIFF-C file of ``size`` bytes, read from its start."""
    found: dict[bytes, bytes] = {}
    refused: list[str] = []
    offset = 12
    for _ in range(MAX_CHUNKS):
        file.seek(offset)
        head = file.read(8)
        if len(head) < 8:
            break
        name, length = struct.unpack(">4sI", head)
        if name in (b"COMM", b"MARK", b"INST"):
            if length > min(MAX_BYTES, size - offset - 8):
                refused.append(f"{name.decode()!r} of {length} bytes cannot be read; left out")
            else:
                found.setdefault(name, file.read(length))
        offset += 8 + length + length % 2
    common = found.get(b"COMM", b"")
    frames = struct.unpack_from(">I", common, 2)[0] if len(common) >= 6 else 0
    markers, remark = _split_markers(found.get(b"MARK", b"\0\0"))
    remarks = (*refused, *remark)
    if not markers:
        return Markers((), frames, remarks)
    points = b"".join(
        struct.pack("<II4sIII", number, place, b"data", 0, 0, place) for number, (place, _) in markers.items()
    )
    labels = b"".join(
        struct.pack("<4sII", b"labl", 5 + len(text), number) + text + bytes(1 + (1 + len(text)) % 2)
        for number, (_, text) in markers.items()
    )
    loops = _encode_loops(found.get(b"INST", b""), markers)
    chunks = (
        Chunk(b"cue ", struct.pack("<I", len(markers)) + points),
        Chunk(b"LIST", b"adtl" + labels),
        *([Chunk(b"smpl", loops)] if loops else ()),
    )
    return Markers(chunks, frames, remarks)


def _split_markers(data: bytes) -> tuple[dict[int, tuple[int, bytes]], tuple[str, ...]]:
    """Return frame and name by the marker's number, and a remark if some lack."""
    count = int.from_bytes(data[:2], "big")
    markers: dict[int, tuple[int, bytes]] = {}
    offset = 2
    for read in range(count):
        if offset + 7 > len(data):
            return markers, (f"'MARK': {count} markers are claimed, {read} were read",)
        number, place, length = struct.unpack_from(">HIB", data, offset)
        markers.setdefault(number, (place, data[offset + 7 : offset + 7 + length]))
        # The name and its length byte fill whole words.
        offset += 7 + length + (1 + length) % 2
    return markers, ()


def _encode_loops(data: bytes, markers: Mapping[int, tuple[int, bytes]]) -> bytes:
    """Return a smpl chunk of INST's note and loops, or b'' where it has no loop that can be placed."""
    if len(data) < 20:
        return b""
    loops = b""
    for number, offset in enumerate((8, 14)):
        mode, first, last = struct.unpack_from(">HHH", data, offset)
        if mode not in (1, 2) or first not in markers or last not in markers:
            continue
        begin, end = markers[first][0], markers[last][0]
        if begin < end:
            # A marker stands between frames, smpl names the last frame that is played.
            loops += struct.pack("<6I", number, mode - 1, begin, end - 1, 0, 0)
    return struct.pack("<9I", 0, 0, 0, data[0], 0, 0, 0, len(loops) // 24, 0) + loops if loops else b""
