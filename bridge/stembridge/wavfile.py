"""A deterministic RIFF writer: the same samples and chunks give the same bytes.

libsndfile's own float files carry a PEAK chunk with a clock in it, it keeps hardly any chunk of a source, and
above 4 GiB its WAV is silently cut. Layout: Multimedia Programming Interface and Data Specifications 1.0
(1991) and its revision of 1994 (fact, demanded of every format tag but PCM's, hence of
WAVE_FORMAT_EXTENSIBLE too); WAVE_FORMAT_EXTENSIBLE: Microsoft, mmreg.h; RF64 and ds64: EBU Tech 3306. The
JUNK chunk keeps the place of ds64.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stembridge.errors import ExactnessError

WIDTH_OF_SUBTYPE = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4, "DOUBLE": 8}
"""Bytes per sample of each subtype that can be written, by libsndfile's names."""

_FORMAT_PCM = 1
_FORMAT_IEEE_FLOAT = 3
_FORMAT_EXTENSIBLE = 0xFFFE
# The rest of KSDATAFORMAT_SUBTYPE_PCM and _IEEE_FLOAT after the two bytes of the format (ksmedia.h).
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_MAX_32 = 0xFFFFFFFF
_DS64_BYTES = 28


LEADING_CHUNKS = (b"bext", b"iXML")
"""Chunks that stand before the audio, as recorders write them; all others stand behind it.

libsndfile 1.2.2 steps over these two, but loses its way in some LIST, smpl, acid and other chunks: behind the
audio that costs nobody the samples.
"""


class Chunk(NamedTuple):
    """A RIFF chunk: four bytes of name, and what stands in it."""

    name: bytes
    data: bytes


def encode_header(
    sample_rate: int,
    channels: int,
    frames: int,
    subtype: str,
    *,
    channel_mask: int = 0,
    chunks: Sequence[Chunk] = (),
) -> bytes:
    """Return all that stands before the audio data; RF64 where RIFF's 32 bits end.

    Parameters
    ----------
    subtype : a key of `WIDTH_OF_SUBTYPE`
    channel_mask : speaker positions, written for more than two channels; 0 names none
    chunks : of the whole file; `LEADING_CHUNKS` come with the header, the others with `encode_trailer`
    """
    width = WIDTH_OF_SUBTYPE[subtype]
    data_bytes = frames * channels * width
    fmt = _encode_fmt(sample_rate, channels, width, subtype in ("FLOAT", "DOUBLE"), channel_mask)
    is_plain_pcm = subtype.startswith("PCM") and channels <= 2
    fact = b"" if is_plain_pcm else struct.pack("<4sII", b"fact", 4, min(frames, _MAX_32))
    leading = [chunk for chunk in chunks if chunk.name in LEADING_CHUNKS]
    middle = fmt + fact + b"".join(_encode_chunk(chunk) for chunk in leading)
    # RIFF, the reserve and data's own head: 12 + 8 + 28 + 8 bytes.
    first_bytes = 12 + 8 + _DS64_BYTES + len(middle) + 8
    riff_bytes = first_bytes + data_bytes + data_bytes % 2 + len(encode_trailer(chunks)) - 8
    is_rf64 = riff_bytes > _MAX_32
    if is_rf64:
        # libsndfile 1.2.2 does not step over a pad byte in RF64 and then finds no data: there the byte is
        # counted with the chunk, which takes the same room.
        even = (Chunk(chunk.name, chunk.data + bytes(len(chunk.data) % 2)) for chunk in leading)
        middle = fmt + fact + b"".join(_encode_chunk(chunk) for chunk in even)
        first = struct.pack("<4sI4s", b"RF64", _MAX_32, b"WAVE")
        reserve = struct.pack("<4sIQQQI", b"ds64", _DS64_BYTES, riff_bytes, data_bytes, frames, 0)
    else:
        first = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE")
        reserve = struct.pack("<4sI", b"JUNK", _DS64_BYTES) + bytes(_DS64_BYTES)
    return first + reserve + middle + struct.pack("<4sI", b"data", _MAX_32 if is_rf64 else data_bytes)


def encode_trailer(chunks: Sequence[Chunk]) -> bytes:
    """Return what stands behind the audio data and its pad byte."""
    return b"".join(_encode_chunk(chunk) for chunk in chunks if chunk.name not in LEADING_CHUNKS)


def _encode_fmt(sample_rate: int, channels: int, width: int, is_float: bool, channel_mask: int) -> bytes:
    code = _FORMAT_IEEE_FLOAT if is_float else _FORMAT_PCM
    is_extensible = channels > 2
    tail = b""
    if is_extensible:
        tail = struct.pack("<HHIH", 22, 8 * width, channel_mask, code) + _GUID_TAIL
    elif is_float:
        tail = struct.pack("<H", 0)
    block_bytes = channels * width
    body = struct.pack(
        "<HHIIHH",
        _FORMAT_EXTENSIBLE if is_extensible else code,
        channels,
        sample_rate,
        sample_rate * block_bytes,
        block_bytes,
        8 * width,
    )
    return _encode_chunk(Chunk(b"fmt ", body + tail))


def _encode_chunk(chunk: Chunk) -> bytes:
    return struct.pack("<4sI", chunk.name, len(chunk.data)) + chunk.data + bytes(len(chunk.data) % 2)


def pack_samples(words: NDArray[np.int32], subtype: str) -> memoryview:
    """Return interleaved samples that fill a 32-bit word from the top as 'PCM_16' or 'PCM_24' stores them."""
    flat = np.ascontiguousarray(words, "<i4").reshape(-1)
    if subtype == "PCM_16":
        return (flat >> 16).astype("<i2").view(np.uint8).data
    # Four samples of 24 bits are three words of 32: five times as fast as picking the bytes one by one.
    padded = np.zeros(-(-len(flat) // 4) * 4, "<u4")
    padded[: len(flat)] = flat.view("<u4") >> 8
    a, b, c, d = padded.reshape(-1, 4).T
    packed = np.stack([a | b << 24, b >> 8 | c << 16, c >> 16 | d << 8], axis=1)
    return packed.reshape(-1).view(np.uint8)[: 3 * len(flat)].data


class WavWriter:
    """Writes one file from first to last frame; `close` makes it durable.

    ``sha256`` is the hash of the audio data alone, ``sha256_file`` that of every byte; both are ready after
    `close`.

    Parameters
    ----------
    path : a file that does not exist yet
    frames : frames that will be written; the header promises them from the start
    subtype, channel_mask, chunks : as in `encode_header`
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate: int,
        channels: int,
        frames: int,
        subtype: str,
        channel_mask: int = 0,
        chunks: Sequence[Chunk] = (),
    ) -> None:
        self.path = path
        self.subtype = subtype
        self._left = frames
        padding = bytes(frames * channels * WIDTH_OF_SUBTYPE[subtype] % 2)
        self._trailer = padding + encode_trailer(chunks)
        header = encode_header(
            sample_rate, channels, frames, subtype, channel_mask=channel_mask, chunks=chunks
        )
        self._hash = hashlib.sha256()
        self._file_hash = hashlib.sha256(header)
        self._file: BinaryIO = path.open("xb", buffering=0)
        try:
            self._write(header)
        except BaseException:
            self._file.close()
            raise

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def sha256_file(self) -> str:
        return self._file_hash.hexdigest()

    def write(self, block: NDArray[np.float64]) -> None:
        """Append (channels, frames), full scale = 1; values must be ones that the subtype holds."""
        if self.subtype.startswith("PCM"):
            data = pack_samples((block.T * 2.0**31).astype(np.int32), self.subtype)
        else:
            dtype = "<f4" if self.subtype == "FLOAT" else "<f8"
            data = block.T.astype(dtype, order="C").reshape(-1).view(np.uint8).data
        self._left -= block.shape[1]
        self._hash.update(data)
        self._file_hash.update(data)
        self._write(data)

    def close(self) -> None:
        """Flush the file to the disk; a second call does nothing.

        Raises
        ------
        ExactnessError : more or fewer frames were written than the header promises
        """
        if self._file.closed:
            return
        try:
            self._file_hash.update(self._trailer)
            self._write(self._trailer)
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if self._left:
            said = f"lacks {self._left} of" if self._left > 0 else f"holds {-self._left} more than"
            raise ExactnessError(f"{self.path.name!r} {said} the frames that its header promises")

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        # A raw file may take less than it was given, for instance just before the disk is full.
        while rest:
            rest = rest[self._file.write(rest) :]

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def write_wav(
    path: Path,
    signal: NDArray[np.floating],
    sample_rate: int,
    subtype: str = "FLOAT",
    *,
    channel_mask: int = 0,
) -> None:
    """Write (channels, frames) as a whole file; its values must be ones that ``subtype`` holds."""
    channels, frames = signal.shape
    with WavWriter(
        path,
        sample_rate=sample_rate,
        channels=channels,
        frames=frames,
        subtype=subtype,
        channel_mask=channel_mask,
    ) as writer:
        writer.write(signal.astype(np.float64, copy=False))
