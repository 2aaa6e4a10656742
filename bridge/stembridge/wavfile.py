"""A deterministic RIFF writer for float WAV files: the same samples give the same bytes.

libsndfile's own float files carry a PEAK chunk with a clock in it, and above 4 GiB its WAV is silently cut.
Layout: Multimedia Programming Interface and Data Specifications 1.0 (1991) and its revision of 1994 (fact);
RF64 and ds64: EBU Tech 3306. The JUNK chunk keeps the place of ds64, so that all headers have one length.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stembridge.errors import ExactnessError

WIDTH_OF_SUBTYPE = {"FLOAT": 4, "DOUBLE": 8}
"""Bytes per sample of each subtype that can be written, by soundfile's names."""

HEADER_BYTES = 94

_FORMAT_IEEE_FLOAT = 3
_MAX_32 = 0xFFFFFFFF
_DS64_BYTES = 28


def encode_header(sample_rate: int, channels: int, frames: int, subtype: str) -> bytes:
    """Return all that stands before the audio data, `HEADER_BYTES` bytes; RF64 where RIFF's 32 bits end.

    Parameters
    ----------
    subtype : 'FLOAT' or 'DOUBLE'
    """
    width = WIDTH_OF_SUBTYPE[subtype]
    data_bytes = frames * channels * width
    riff_bytes = HEADER_BYTES - 8 + data_bytes
    is_rf64 = riff_bytes > _MAX_32
    if is_rf64:
        first = struct.pack("<4sI4s", b"RF64", _MAX_32, b"WAVE")
        reserve = struct.pack("<4sIQQQI", b"ds64", _DS64_BYTES, riff_bytes, data_bytes, frames, 0)
    else:
        first = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE")
        reserve = struct.pack("<4sI", b"JUNK", _DS64_BYTES) + bytes(_DS64_BYTES)
    block_bytes = channels * width
    fmt = struct.pack(
        "<4sIHHIIHHH",
        b"fmt ",
        18,
        _FORMAT_IEEE_FLOAT,
        channels,
        sample_rate,
        sample_rate * block_bytes,
        block_bytes,
        8 * width,
        0,
    )
    fact = struct.pack("<4sII", b"fact", 4, min(frames, _MAX_32))
    data = struct.pack("<4sI", b"data", _MAX_32 if is_rf64 else data_bytes)
    return first + reserve + fmt + fact + data


def count_bytes(channels: int, frames: int, subtype: str) -> int:
    """Return the length of a whole file in bytes."""
    return HEADER_BYTES + frames * channels * WIDTH_OF_SUBTYPE[subtype]


class WavWriter:
    """Writes one file from first to last frame; `close` makes it durable.

    ``sha256`` is the hash of the audio data alone, ready after `close`.

    Parameters
    ----------
    path : a file that does not exist yet
    frames : frames that will be written; the header promises them from the start
    subtype : 'FLOAT' or 'DOUBLE'
    """

    def __init__(self, path: Path, *, sample_rate: int, channels: int, frames: int, subtype: str) -> None:
        self.path = path
        self.subtype = subtype
        self._dtype = np.dtype("<f4" if subtype == "FLOAT" else "<f8")
        self._left = frames
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("xb", buffering=0)
        try:
            self._write(encode_header(sample_rate, channels, frames, subtype))
        except BaseException:
            self._file.close()
            raise

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, block: NDArray[np.float64]) -> None:
        """Append (channels, frames); float32 files expect values that float32 holds."""
        data = block.T.astype(self._dtype, order="C").reshape(-1).view(np.uint8).data
        self._left -= block.shape[1]
        self._hash.update(data)
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
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
        if self._left:
            raise ExactnessError(
                f"{self.path.name!r} lacks {self._left} of the frames that its header promises"
            )

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


def write_wav(path: Path, signal: NDArray[np.floating], sample_rate: int, subtype: str = "FLOAT") -> None:
    """Write (channels, frames) as a whole file; 'FLOAT' expects values that float32 holds."""
    channels, frames = signal.shape
    with WavWriter(
        path, sample_rate=sample_rate, channels=channels, frames=frames, subtype=subtype
    ) as writer:
        writer.write(signal.astype(np.float64, copy=False))
