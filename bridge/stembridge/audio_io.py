"""Audio files in, and the door at which bad files are refused.

Blocks leave here as (channels, frames), at most `BLOCK_FRAMES` frames at a time. Integer formats are read
through libsndfile's integer API, which is exact for all of them; its float API is not used for them.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from stembridge.channel_layout import conventional_mask, find_groups, mask_of, wave_order
from stembridge.dsp import grid
from stembridge.errors import SourceError
from stembridge.headers.chunks import read_aiff, read_caf, read_riff, read_w64
from stembridge.headers.header import Header, Splice, Unsplittable, contradiction, truncation
from stembridge.headers.kind import FFMPEG_KINDS, find_kind_of
from stembridge.headers.mp3 import read_mp3
from stembridge.headers.streams import read_flac, read_ogg
from stembridge.source_file import check_source_file
from stembridge.types import Region

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Signal = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_FRAMES = 16_384
"""Frames per block on every way in and out: a block of all files of a set stays in the cache."""
LOSSY_BITS = 23
"""Decoded lossy audio is rounded to multiples of 2^-23; that rounded mixture is the original."""

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 768_000
MAX_CHANNELS = 8

_BITS_OF_SUBTYPE = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_FULL_FLOATS = ("FLOAT", "DOUBLE")
_WIDTH_OF_SUBTYPE = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_WIDTH_OF_SUBTYPE |= {"ULAW": 1, "ALAW": 1}
_READABLE = "convert it to WAV or FLAC; AIFF, CAF, OGG, Opus and MP3 are read too"


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
    channel_mask : speaker positions as WAVE_FORMAT_EXTENSIBLE numbers them, those customary for the number of
        channels where the file names none
    remarks : what a user should know of this file, one line each
    channel_order : for each channel where it lies in the file; () where it is the order of the speakers' bits
    is_length_stated : the header says how long the audio is, so that a missing end would have shown
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
    channel_order: tuple[int, ...] = ()
    is_length_stated: bool = False


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
    SourceError : missing, no regular file, unreadable, empty, no audio, truncated, self-contradicting, not
        supported, or of a kind that only ffmpeg reads
    """
    shown = repr(path)
    size = check_source_file(path)
    header = _read_header(path)
    if header.audio and sum(header.audio) > size:
        offset, promised = header.audio
        raise truncation(shown, f"{promised} bytes of audio", str(max(0, size - offset)))
    with _open_shown(path, header) as file:
        channels, rate, frames = int(file.channels), int(file.samplerate), int(file.frames)
        subtype, container = str(file.subtype), str(file.format)
    if not 1 <= channels <= MAX_CHANNELS:
        raise Unsplittable(
            f"{shown} has {channels} channels: 1 to {MAX_CHANNELS} can be split",
            "split it into files of fewer channels first",
        )
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        lowest, highest = MIN_RATE_HZ // 1000, MAX_RATE_HZ // 1000
        raise Unsplittable(f"{shown} claims {rate} Hz", f"convert it to a rate of {lowest} to {highest} kHz")
    if subtype in _WIDTH_OF_SUBTYPE:
        _check_promise(header, shown, frames, channels * _WIDTH_OF_SUBTYPE[subtype])
    if header.most_frames is not None and frames > header.most_frames:
        raise contradiction(shown, f"{frames} frames", f"at most {header.most_frames}")
    if header.frames is not None and header.kind == "MP3":
        frames = header.frames
    if frames <= 0:
        # Only a header that says so itself is believed: a stream may just have begun.
        kind = Unsplittable if header.audio is not None and header.audio[1] == 0 else SourceError
        raise kind(f"{shown} holds no audio: 0 frames", "export it again")
    bits = _BITS_OF_SUBTYPE.get(subtype)
    is_lossy = bits is None and subtype not in _FULL_FLOATS
    speakers = header.speakers if len(header.speakers) == channels else ()
    mask = mask_of(speakers) or header.channel_mask or conventional_mask(channels)
    return SourceInfo(
        path=path,
        sample_rate=rate,
        frames=frames,
        channels=channels,
        subtype=subtype,
        container=container,
        is_lossy=is_lossy,
        grid_bits=LOSSY_BITS if is_lossy else None if bits is None else bits - 1,
        read_path=path,
        groups=find_groups(channels, mask),
        channel_mask=mask,
        remarks=header.remarks,
        channel_order=wave_order(speakers),
        is_length_stated=header.is_length_stated,
    )


def read_tags(path: str) -> dict[str, str]:
    """Return the texts that a file carries, by libsndfile's names: 'title', 'artist', 'date' and others.

    Raises
    ------
    SourceError : unreadable, or no audio
    """
    with open_sound(path) as file:
        tags: dict[str, str] = file.copy_metadata()
    return {name: text for name, text in tags.items() if text}


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
        raise SourceError(f"{path!r} cannot be read as audio: {reason}", _READABLE) from error
    except (TypeError, AssertionError) as error:
        # The ending .raw makes soundfile ask for a rate and a format, with a TypeError.
        raise SourceError(f"{path!r} cannot be read as audio", _READABLE) from error


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from block to block without a seek in between.

    soundfile seeks after every read of a seekable file to where it already is. libsndfile's MP3 decoder does
    not survive that: in MPEG-2 files (24 kHz and less) the next block differs by up to full scale.
    """

    def seekable(self) -> bool:
        return False


class _SplicedFile(io.RawIOBase):
    """A file as a `Splice` shows it."""

    def __init__(self, file: BinaryIO, splice: Splice) -> None:
        self._file = file
        self._splice = splice
        # What is shown is the file's own head, what was put in, the file's own rest, and zeros.
        self._rest_at = splice.at + len(splice.inserted)
        size = file.seek(0, os.SEEK_END)
        self._zeros_at = self._rest_at + max(0, size - splice.at - splice.removed)
        self._end = self._zeros_at + splice.padding
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        out = memoryview(buffer).cast("B")
        at, splice = self._position, self._splice
        if at < splice.at:
            count = self._read_own(at, out[: splice.at - at])
        elif at < self._rest_at:
            count = min(len(out), self._rest_at - at)
            out[:count] = splice.inserted[at - splice.at :][:count]
        elif at < self._zeros_at:
            own = at - len(splice.inserted) + splice.removed
            count = self._read_own(own, out)
        else:
            count = max(0, min(len(out), self._end - at))
            out[:count] = bytes(count)
        self._position += count
        return count

    def _read_own(self, offset: int, out: memoryview) -> int:
        self._file.seek(offset)
        return self._file.readinto(out)  # type: ignore[attr-defined,no-any-return]


@contextmanager
def open_sound(path: str) -> Iterator[soundfile.SoundFile]:
    """Open a file for reading in blocks, without seeks in between.

    Raises
    ------
    SourceError : unreadable, no audio, or of a kind that only ffmpeg reads
    """
    with _open_shown(path, _read_header(path)) as file:
        yield file


@contextmanager
def _open_shown(path: str, header: Header) -> Iterator[soundfile.SoundFile]:
    with ExitStack() as stack:
        with named_errors(path):
            if header.splice:
                spliced = _SplicedFile(stack.enter_context(Path(path).open("rb")), header.splice)
                file = _SequentialFile(stack.enter_context(io.BufferedReader(spliced)))
            else:
                # As bytes, names that are not UTF-8 open too; Windows wants text.
                file = _SequentialFile(path if sys.platform == "win32" else os.fsencode(path))
        yield stack.enter_context(file)


def _read_header(path: str) -> Header:
    shown = repr(path)
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            kind = find_kind_of(file)
            if kind is None:
                raise SourceError(
                    f"{shown} cannot be read as audio: its first bytes are none of a known format", _READABLE
                )
            if kind.name in FFMPEG_KINDS:
                raise SourceError(
                    f"{shown} is {kind.name}, which only ffmpeg reads",
                    "put ffmpeg on PATH, or convert it to WAV or FLAC",
                )
            match kind.name:
                case "W64":
                    return read_w64(file, size)
                case "AIFF":
                    return read_aiff(file, size, shown)
                case "CAF":
                    return read_caf(file, size, shown)
                case "FLAC":
                    return read_flac(file, size, kind.begin, shown)
                case "OGG":
                    return read_ogg(file, size, shown)
                case "MP3":
                    return read_mp3(file, size, kind.begin, shown)
            return read_riff(file, size, shown)
    except OSError as error:
        raise SourceError(
            f"{shown} cannot be read: {error.strerror}", "check the file and its rights"
        ) from error


def _read_raw(
    info: SourceInfo, region: Region, block_frames: int, dtype: str
) -> Iterator[tuple[int, NDArray[np.int32] | NDArray[np.float64]]]:
    """Yield each block's first frame in the file, and the block as soundfile has it, (frames, channels)."""
    with open_sound(info.read_path) as file:
        is_same = (file.samplerate, file.channels) == (info.sample_rate, info.channels)
        # What ffmpeg has decoded has another name for its samples than the file that was asked for.
        if not is_same or (info.read_path == info.path and file.subtype != info.subtype):
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
                yield position, raw[:, info.channel_order] if info.channel_order else raw
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


def _check_promise(header: Header, shown: str, frames: int, frame_bytes: int) -> None:
    """Refuse a file whose header promises other audio than libsndfile finds, which changes lengths silently.

    Parameters
    ----------
    frames : as libsndfile has them
    frame_bytes : bytes of one sample of all channels
    """
    if header.audio and header.audio[1] // frame_bytes != frames:
        raise contradiction(shown, f"{header.audio[1]} bytes of audio", str(frames * frame_bytes))
    if header.frames is not None and header.frames != frames:
        raise contradiction(shown, f"{header.frames} frames", str(frames))
