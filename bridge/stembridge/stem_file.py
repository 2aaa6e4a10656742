"""Stems as files: written sample for sample in the format that was asked for, and read back to be checked.

WAV is written by `stembridge.wavfile`, AIFF and FLAC by libsndfile's integer API; everything is read back by
libsndfile. MP3 is a copy to listen to and stands outside of every sum.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from stembridge.audio_io import BLOCK_FRAMES, named_errors, open_sound, probe
from stembridge.dsp.resample import count_frames, resample_blocks
from stembridge.types import FileFormat
from stembridge.wavfile import Chunk, WavWriter, pack_samples

Signal = NDArray[np.float64]

MP3_CHANNELS = 2
"""The most channels that MP3 holds."""

TAGS = ("title", "artist", "album", "tracknumber", "date", "genre", "comment", "copyright")
"""Texts that AIFF, FLAC and MP3 files carry, by libsndfile's names."""

_MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


class StemWriter(Protocol):
    """Writes one file from first to last frame; `close` makes it durable.

    ``sha256`` covers the audio data: interleaved, little-endian, in the file's own width; ``sha256_file``
    covers every byte of the file. Both are ready after `close`.
    """

    path: Path
    subtype: str

    @property
    def sha256(self) -> str: ...

    @property
    def sha256_file(self) -> str: ...

    def write(self, block: Signal) -> None:
        """Append (channels, frames), full scale = 1; values must be ones that the subtype holds."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> StemWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_writer(
    path: Path,
    file_format: FileFormat,
    *,
    sample_rate: int,
    channels: int,
    frames: int,
    channel_mask: int = 0,
    chunks: Sequence[Chunk] = (),
    tags: Mapping[str, str] | None = None,
) -> StemWriter:
    """Return a writer of a file that does not exist yet.

    Parameters
    ----------
    channel_mask, chunks : for WAV, as in `stembridge.wavfile.encode_header`
    tags : for the other formats, texts by libsndfile's names
    """
    if file_format.container != "WAV":
        return _LibraryWriter(path, file_format, sample_rate, channels, tags or {})
    return WavWriter(
        path,
        sample_rate=sample_rate,
        channels=channels,
        frames=frames,
        subtype=file_format.subtype,
        channel_mask=channel_mask,
        chunks=chunks,
    )


class _LibraryWriter:
    """AIFF and FLAC as libsndfile writes them: exact, and the same bytes for the same samples."""

    def __init__(
        self, path: Path, file_format: FileFormat, sample_rate: int, channels: int, tags: Mapping[str, str]
    ) -> None:
        self.path = path
        self.subtype = file_format.subtype
        self.sha256_file = ""
        self._frames = 0
        self._hash = hashlib.sha256()
        with _system_errors():
            self._file = soundfile.SoundFile(
                _as_libsndfile_takes_it(path),
                "x",
                sample_rate,
                channels,
                subtype=file_format.subtype,
                format=file_format.container,
            )
            _set_tags(self._file, tags)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, block: Signal) -> None:
        words = np.ascontiguousarray((block.T * 2.0**31).astype(np.int32))
        self._hash.update(pack_samples(words, self.subtype))
        with _system_errors():
            self._file.write(words)
        self._frames += len(words)

    def close(self) -> None:
        """Flush the file to the disk; a second call does nothing."""
        if self._file.closed:
            return
        with _system_errors():
            self._file.close()
            found = soundfile.info(_as_libsndfile_takes_it(self.path)).frames
        # Of FLAC's last block, written only now, libsndfile does not say whether the disk took it.
        if found != self._frames:
            raise OSError("the audio library could not write: short write")
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
            self.sha256_file = hash_file(file)

    def __enter__(self) -> _LibraryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def _as_libsndfile_takes_it(path: Path) -> str | bytes:
    # As bytes, names that are not UTF-8 can be written too; Windows wants text.
    return os.fspath(path) if sys.platform == "win32" else os.fsencode(path)


def _set_tags(file: soundfile.SoundFile, tags: Mapping[str, str]) -> None:
    for name in TAGS:
        if tags.get(name):
            setattr(file, name, tags[name])


@contextmanager
def _system_errors() -> Iterator[None]:
    """Turn libsndfile's ways of saying that a disk does not take what it is given into an OSError."""
    try:
        yield
    except (soundfile.LibsndfileError, AssertionError) as error:
        raise OSError(f"the audio library could not write: {str(error) or 'short write'}") from error


def hash_file(file: BinaryIO) -> str:
    """Return the sha256 of an open file from its first byte to its last."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type,unused-ignore]


class StemReader:
    """One file of a result, read from first to last frame by libsndfile.

    ``sha256`` is the hash of the audio data read so far, as `StemWriter` has it.
    """

    def __init__(self, path: Path) -> None:
        self._context = open_sound(str(path))
        self._file = self._context.__enter__()
        self._path = path
        self.sample_rate = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        self.frames = int(self._file.frames)
        self.subtype = str(self._file.subtype)
        self._dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(self.subtype, "int32")
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def read(self, frames: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """Return the next samples, (channels, frames), full scale = 1; fewer at the file's end.

        'DOUBLE' comes as float64, everything else as float32, which holds it.
        """
        with named_errors(str(self._path)):
            raw = self._file.read(frames, dtype=self._dtype, always_2d=True)
        if raw.dtype == np.int32:
            self._hash.update(pack_samples(raw, self.subtype))
            return np.ascontiguousarray(raw.T).astype(np.float32) * np.float32(2.0**-31)
        self._hash.update(raw.astype(raw.dtype.newbyteorder("<"), copy=False).data)
        return np.ascontiguousarray(raw.T)

    def __enter__(self) -> StemReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)


def read_stem(path: Path) -> tuple[Signal, int]:
    """Return a whole stem, (channels, frames) in float64, and its sample rate: for short files and players.

    Raises
    ------
    SourceError : as `stembridge.audio_io.probe`
    """
    probe(str(path))
    with StemReader(path) as reader:
        return reader.read(reader.frames).astype(np.float64), reader.sample_rate


def listening_copy(signal: Signal, sample_rate: int) -> bytes:
    """Return (channels, frames) as an MP3 for a browser's player: to listen to, not to sum."""
    memory = io.BytesIO()
    blocks = (signal[:, start : start + BLOCK_FRAMES] for start in range(0, signal.shape[1], BLOCK_FRAMES))
    for _ in write_mp3(memory, blocks, signal.shape[0], sample_rate, signal.shape[1]):
        pass
    return memory.getvalue()


def write_mp3(
    file: BinaryIO | Path,
    blocks: Iterable[Signal],
    channels: int,
    sample_rate: int,
    frames: int,
    tags: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Write (channels, frames) blocks as an MP3 that decodes from frame 0 on, clipped at full scale.

    Yields after every block. A rate that MP3 does not have becomes 48 kHz. libsndfile's encoder writes the
    tag by which a decoder finds the first frame and the length.

    Parameters
    ----------
    tags : texts by libsndfile's names

    Raises
    ------
    OSError : the disk does not take it
    """
    rate = sample_rate if sample_rate in _MP3_RATES_HZ else _MP3_RATES_HZ[-1]
    heard = resample_blocks(
        blocks, channels, sample_rate, rate, frames=count_frames(frames, sample_rate, rate)
    )
    target = _as_libsndfile_takes_it(file) if isinstance(file, Path) else file
    with _system_errors(), soundfile.SoundFile(target, "w", rate, channels, format="MP3") as mp3:
        _set_tags(mp3, tags or {})
        for block in heard:
            mp3.write(block.T.clip(-1, 1))
            yield
