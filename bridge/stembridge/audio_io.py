"""Audio files in, and the door at which bad files are refused.

Blocks leave here as (channels, frames), at most `BLOCK_FRAMES` frames at a time. Integer formats are read
through libsndfile's integer API, which is exact for all of them; its float API is not used for them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from stembridge.dsp import grid
from stembridge.errors import SourceError
from stembridge.source_file import check_source_file
from stembridge.types import Region

Signal = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_FRAMES = 32_768
LOSSY_BITS = 23
"""Decoded lossy audio is rounded to multiples of 2^-23; that rounded mixture is the original."""

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 768_000
MAX_CHANNELS = 64
SUPPORTED_CHANNELS = 2

_BITS_OF_SUBTYPE = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_FULL_FLOATS = ("FLOAT", "DOUBLE")
_UNKNOWN_LENGTH = 0xFFFFFFFF
_OGG_PAGE_MAX = 27 + 255 + 255 * 255


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What a file's header says.

    Parameters
    ----------
    path : as it was asked for
    frames : samples per channel
    subtype, container : soundfile's names, such as 'PCM_24' and 'FLAC'
    is_lossy : the decoded samples are rounded to 2^-23
    grid_bits : samples are multiples of 2^-grid_bits; None for float formats, where only the samples can tell
    read_path : the file that is read: ``path`` itself, or what ffmpeg has made of it
    groups : channels that are separated together, as indices from 0: pairs, and single ones as mono
    channel_mask : speaker positions as WAVE_FORMAT_EXTENSIBLE numbers them; 0 where the file names none
    remarks : what a user should know of this file, one line each
    """

    path: str
    sample_rate: int
    frames: int
    channels: int
    subtype: str
    container: str
    is_lossy: bool
    grid_bits: int | None
    read_path: str
    groups: tuple[tuple[int, ...], ...]
    channel_mask: int = 0
    remarks: tuple[str, ...] = ()


class PcmHash:
    """sha256 over samples as interleaved little-endian float64, full scale = 1, -0.0 as 0.0.

    It depends on the samples alone: not on the container, the word length or the block size.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, block: Signal) -> None:
        """Take in the next (channels, frames)."""
        interleaved = np.empty(block.shape[::-1], "<f8")
        np.add(block.T, 0.0, out=interleaved)
        self._hash.update(interleaved.data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def probe(path: str) -> SourceInfo:
    """Return what the file's header says, after checking that the file can hold it.

    Raises
    ------
    SourceError : missing, no regular file, unreadable, empty, no audio, truncated, or not supported
    """
    shown = repr(path)
    size = check_source_file(path)
    with open_sound(path) as file:
        channels, rate, frames = int(file.channels), int(file.samplerate), int(file.frames)
        subtype, container = str(file.subtype), str(file.format)
    if not 1 <= channels <= MAX_CHANNELS:
        raise SourceError(f"{shown} claims {channels} channels", f"1 to {MAX_CHANNELS} are possible")
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise SourceError(f"{shown} claims {rate} Hz", f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are possible")
    with Path(path).open("rb") as raw:
        _check_promise(raw, size, shown)
    if frames <= 0:
        raise SourceError(f"{shown} holds no audio: 0 frames", "export it again")
    if channels > SUPPORTED_CHANNELS:
        raise SourceError(
            f"{shown} has {channels} channels: more than {SUPPORTED_CHANNELS} cannot be split yet",
            "split it into mono or stereo files first",
        )
    bits = _BITS_OF_SUBTYPE.get(subtype)
    is_lossy = bits is None and subtype not in _FULL_FLOATS
    grid_bits = LOSSY_BITS if is_lossy else None if bits is None else bits - 1
    groups = (tuple(range(channels)),)
    return SourceInfo(path, rate, frames, channels, subtype, container, is_lossy, grid_bits, path, groups)


def check_region(info: SourceInfo, region: Region | None) -> Region:
    """Return the region to be read, all of the file where ``region`` is None.

    Raises
    ------
    SourceError : the region is empty or not inside the file
    """
    if region is None:
        return Region(0, info.frames)
    if region.start < 0 or region.frames < 1 or region.start + region.frames > info.frames:
        raise SourceError(
            f"region of {region.frames} frames from frame {region.start} is not inside {info.path!r}",
            f"the file has {info.frames} frames",
        )
    return region


def read_blocks(info: SourceInfo, region: Region, block_frames: int = BLOCK_FRAMES) -> Iterator[Signal]:
    """Yield the region's samples, (channels, frames), full scale = 1.

    Lossy audio comes rounded to 2^-23, and above 2.0 to what float32 holds.

    Raises
    ------
    SourceError : unreadable, fewer frames than promised, or NaN, infinite or absurd samples
    """
    shift = None if info.is_lossy or info.grid_bits is None else 31 - info.grid_bits
    for start, raw in _read_raw(info, region, block_frames, "int32" if shift is not None else "float64"):
        # libsndfile's integers fill the word from the top: i / 2^31 is the value at any word length.
        block = np.array(raw.T, np.float64, order="C")
        if shift is not None:
            np.multiply(block, 2.0**-31, out=block)
        if shift is None:
            _check_samples(info, block, start)
        if info.is_lossy:
            block = grid.quantise(block, LOSSY_BITS).astype(np.float64) * 2.0**-LOSSY_BITS
        yield block


def read_int_blocks(
    info: SourceInfo, region: Region, grid_bits: int, block_frames: int = BLOCK_FRAMES
) -> Iterator[Ints]:
    """Yield the region's samples as integers (channels, frames) on the grid of ``grid_bits`` bits.

    Integer formats are read as they stand in the file; float samples must lie on the grid.

    Raises
    ------
    SourceError : as `read_blocks`, or a sample is not on the grid
    """
    if info.is_lossy or info.grid_bits is None:
        for block in read_blocks(info, region, block_frames):
            scaled = block * 2.0**grid_bits
            ints = scaled.astype(np.int64)
            if not np.array_equal(ints, scaled):
                raise SourceError(f"{info.path!r} changed while it was read", "run it again")
            yield ints
        return
    for _, raw in _read_raw(info, region, block_frames, "int32"):
        yield np.right_shift(np.ascontiguousarray(raw.T), 31 - info.grid_bits).astype(np.int64)


@contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Turn what soundfile raises into a `SourceError` that names ``path``."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        raise SourceError(
            f"{path!r} cannot be read as audio: {reason}", "WAV, AIFF, FLAC, OGG and MP3 can"
        ) from error
    except (TypeError, AssertionError) as error:
        # The ending .raw makes soundfile ask for a rate and a format, with a TypeError.
        raise SourceError(f"{path!r} cannot be read as audio", "WAV, AIFF, FLAC, OGG and MP3 can") from error


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from block to block without a seek in between.

    soundfile seeks after every read of a seekable file to where it already is. libsndfile's MP3 decoder does
    not survive that: in MPEG-2 files (24 kHz and less) the next block differs by up to full scale.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def open_sound(path: str) -> Iterator[soundfile.SoundFile]:
    """Open a file for reading in blocks, without seeks in between."""
    with named_errors(path):
        # As bytes, names that are not UTF-8 open too; Windows wants text.
        file = _SequentialFile(path if sys.platform == "win32" else os.fsencode(path))
    with file:
        yield file


def _read_raw(
    info: SourceInfo, region: Region, block_frames: int, dtype: str
) -> Iterator[tuple[int, NDArray[np.int32] | NDArray[np.float64]]]:
    """Yield each block's first frame in the file, and the block as soundfile has it, (frames, channels)."""
    with open_sound(info.read_path) as file:
        if (file.samplerate, file.channels, file.subtype) != (info.sample_rate, info.channels, info.subtype):
            raise SourceError(f"{info.path!r} changed while it was read", "run it again")
        position = region.start
        if info.is_lossy:
            # A decoder that was sent elsewhere need not give the samples that it gives from the start.
            position = 0
        elif position:
            with named_errors(info.read_path):
                file.seek(position)
        end = region.start + region.frames
        buffer = np.empty((block_frames, info.channels), dtype)
        while position < end:
            stop = region.start if position < region.start else end
            want = min(block_frames, stop - position)
            with named_errors(info.read_path):
                raw = file.read(out=buffer[:want])
            if len(raw) < want:
                raise SourceError(
                    f"{info.path!r} is truncated: its header promises {info.frames} frames, "
                    f"{position + len(raw)} are there",
                    "copy or export it again",
                )
            if position >= region.start:
                yield position, raw
            position += want


def _check_samples(info: SourceInfo, block: Signal, start: int) -> None:
    # NaN passes through max and min, so that one comparison finds it too.
    if max(float(block.max()), -float(block.min())) <= grid.LOUDEST:
        return
    bad = ~(np.abs(block) <= grid.LOUDEST)
    frame = int(np.argmax(bad.any(axis=0)))
    channel = int(np.argmax(bad[:, frame]))
    value = float(block[channel, frame])
    hint = (
        f"samples may be up to {grid.LOUDEST:g}"
        if np.isfinite(value)
        else "repair the file: no sum with it can close"
    )
    raise SourceError(
        f"{info.path!r} holds {value:g} at frame {start + frame} of channel {channel + 1}", hint
    )


def _check_promise(file: BinaryIO, size: int, shown: str) -> None:
    """Refuse a file whose header promises more audio than it holds: libsndfile would shorten it silently."""
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RF64", b"BW64") and magic[8:] == b"WAVE":
        promise = _find_chunk(file, size, "<", b"data")
    elif magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
        promise = _find_chunk(file, size, ">", b"SSND")
    elif magic[:4] == b"OggS":
        promise = _find_last_page(file, size)
    else:
        return
    if promise is not None and sum(promise) > size:
        raise SourceError(
            f"{shown} is truncated: header promises {promise[1]} bytes of audio, "
            f"{max(0, size - promise[0])} are there",
            "copy or export it again",
        )


def _find_chunk(file: BinaryIO, size: int, order: str, name: bytes) -> tuple[int, int] | None:
    """Return offset and promised length of the chunk ``name``, None where its length is left open."""
    wide: int | None = None
    offset = 12
    while offset + 8 <= size:
        file.seek(offset)
        chunk, length = struct.unpack(f"{order}4sI", file.read(8))
        offset += 8
        if chunk == b"ds64" and length >= 16:
            wide = struct.unpack("<8xQ", file.read(16))[0]
        if chunk == name:
            if length == _UNKNOWN_LENGTH:
                # Without ds64, a stream's writer did not know how much would come.
                return None if wide is None else (offset, wide)
            return offset, length
        offset += length + length % 2
    return None


def _find_last_page(file: BinaryIO, size: int) -> tuple[int, int] | None:
    """Return offset and length of the last Ogg page (RFC 3533, section 6), which must be whole."""
    begin = max(0, size - 2 * _OGG_PAGE_MAX)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return None
    segments = tail[at + 26]
    table = tail[at + 27 : at + 27 + segments]
    return begin + at, 27 + segments + sum(table)
