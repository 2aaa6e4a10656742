"""What a WAV stem says of itself, in a chunk of its own, so that it is known without its stems.json.

Standard library only: the daemon's front and clients read tags too. Layout: RIFF and RF64 as in
`stembridge.wavfile`; the chunk holds one JSON object in ASCII.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

CHUNK_NAME = b"stmb"
SCHEMA = "stembridge.stem/1"
MAX_BYTES = 4_096
"""No tag is longer; a longer chunk of that name is none of ours."""
MAX_CHUNKS = 1_000
"""How many chunks are looked at: ours is the first one behind the audio, or among a DAW's own."""

_MAX_32 = 0xFFFFFFFF
_LAST_BYTE = 2**62
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StemTag:
    """Which stem of which job a file is, and where it stands in its source.

    Parameters
    ----------
    stem : its name, one of the names in stems.json, or 'mixture'
    source : `sha256_pcm` of the region of the source, as in stems.json
    start, frames : the region, in frames of the source
    rate : of source and stem, Hz
    """

    job: str
    stem: str
    source: str
    start: int
    frames: int
    rate: int

    def encode(self) -> bytes:
        """Return the content of the chunk: the same tag gives the same bytes."""
        return json.dumps({**asdict(self), "schema": SCHEMA}, separators=(",", ":")).encode("ascii")


def read_tag(path: Path) -> StemTag | None:
    """Return the tag of a WAV file, RIFF or RF64; None where it has none, or none that can be understood.

    At most `MAX_CHUNKS` heads of chunks and `MAX_BYTES` of content are read, whatever the file claims.

    Raises
    ------
    OSError : the file cannot be read
    """
    with path.open("rb") as file:
        content = _find_chunk(file)
    return None if content is None else _decode(content)


def _find_chunk(file: BinaryIO) -> bytes | None:
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return None
    long_data_bytes = _MAX_32
    for _ in range(MAX_CHUNKS):
        entry = file.read(8)
        if len(entry) < 8:
            return None
        name, length = struct.unpack("<4sI", entry)
        start = file.tell()
        if name == CHUNK_NAME:
            content = file.read(min(length, MAX_BYTES))
            return content if len(content) == length else None
        if name == b"ds64":
            long_data_bytes = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        elif name == b"data" and length == _MAX_32 and head[:4] != b"RIFF":
            length = long_data_bytes
        if start + length > _LAST_BYTE:
            return None
        file.seek(start + length)
        # Some programs forget the pad byte.
        if length % 2 and file.read(1) not in (b"\0", b""):
            file.seek(start + length)
    return None


def _decode(content: bytes) -> StemTag | None:
    try:
        found = json.loads(content.decode("ascii"))
    # A deep nest of brackets is no valid tag either.
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.pop("schema", None) != SCHEMA:
        return None
    try:
        tag = StemTag(**found)
    except TypeError:
        return None
    return tag if _is_sound(tag) else None


def _is_sound(tag: StemTag) -> bool:
    texts, numbers = (tag.job, tag.stem, tag.source), (tag.start, tag.frames, tag.rate)
    return (
        all(isinstance(text, str) and text for text in texts)
        and all(type(number) is int for number in numbers)
        and _SHA256.fullmatch(tag.source) is not None
        and tag.start >= 0
        and tag.frames >= 1
        and tag.rate >= 1
    )
