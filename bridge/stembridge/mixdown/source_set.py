"""The set that a remix is made of: its files, held against stems.json while they are read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io
from stembridge.channel_layout import find_layout
from stembridge.errors import SourceError
from stembridge.manifest import FILE_NAME, Manifest, StemEntry, is_sealed, read_manifest
from stembridge.stem_file import StemReader
from stembridge.types import Region

Signal = NDArray[np.float64]

_SURROUND = ("BL", "BR", "SL", "SR", "BC")
_SURROUND_WEIGHT, _LFE_WEIGHT = 1.41, 0.0
"""BS.1770-4, annex 1, table 3; the back speakers of 5.1 are its Ls and Rs."""


@dataclass(frozen=True, slots=True)
class SourceSet:
    """A finished set in its folder.

    Parameters
    ----------
    channel_mask : speakers of its files, as WAVE_FORMAT_EXTENSIBLE numbers them
    original : what the files sum to, where it is to be had and that can differ from their float64 sum
    is_short : the files do not sum to the original exactly and it is not there to tell by how much
    verified : names of the files that have been read to their end and are what was written
    """

    folder: Path
    document: Manifest
    channel_mask: int
    original: audio_io.SourceInfo | None = None
    is_short: bool = False
    verified: set[str] = field(default_factory=set)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.document.stems)

    @property
    def files(self) -> tuple[StemEntry, ...]:
        """Its stems, and what they sum to where that is a file beside them."""
        document = self.document
        return (*document.stems, document.mixture) if document.mixture else document.stems

    @property
    def closing(self) -> StemEntry:
        """The file that closes the sum, which may stand on a finer grid than the others, or on none."""
        return self.document.stems[-1]

    @property
    def frames(self) -> int:
        return self.document.source.region.frames

    @property
    def channels(self) -> int:
        return self.document.source.channels

    @property
    def sample_rate(self) -> int:
        return self.document.source.sample_rate

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        return self.document.source.groups or find_layout(self.channels, self.channel_mask).groups

    @property
    def loudness_weights(self) -> tuple[float, ...]:
        """What each channel counts for in the loudness of all."""
        return tuple(
            _LFE_WEIGHT if speaker == "LFE" else _SURROUND_WEIGHT if speaker in _SURROUND else 1.0
            for speaker in find_layout(self.channels, self.channel_mask).speakers
        )

    def error_of(self, entry: StemEntry, what: str) -> SourceError:
        """Return what is to be raised of a file that is not what was written."""
        return SourceError(
            f"{entry.file!r} is not what was written: {what}",
            f"split the original again; `stembridge null {self.folder}` tells all that changed",
        )

    def open_file(self, entry: StemEntry) -> SetFile:
        """Return one file of the set, to be read from its first frame on.

        Raises
        ------
        SourceError : it is missing, or not of the kind that was written
        """
        return SetFile(self, entry)

    def read_original(self) -> Generator[Signal, None, None]:
        """Yield the blocks of ``original``, and silence for ever once it has ended."""
        if self.original is not None:
            start = self.document.source.region.start if self.document.mixture is None else 0
            yield from audio_io.read_blocks(self.original, Region(start, self.frames))
        while True:
            yield np.zeros((self.channels, audio_io.BLOCK_FRAMES))


class SetFile:
    """One file of a set, read block by block; what is not as it was written raises at the last frame."""

    def __init__(self, source: SourceSet, entry: StemEntry) -> None:
        self._entry = entry
        self._source = source
        self._left = source.frames
        path = source.folder / entry.file
        try:
            with path.open("rb"):
                self._reader = StemReader(path)
        except OSError as error:
            raise SourceError(
                f"{str(path)!r} cannot be read: {error.strerror}", "split the original again"
            ) from error
        found = (self._reader.sample_rate, self._reader.channels, self._reader.frames, self._reader.subtype)
        if found != (source.sample_rate, source.channels, source.frames, entry.subtype):
            self._reader.__exit__(None, None, None)
            raise self._source.error_of(self._entry, "it has another length, rate or kind of samples")

    def read(self, frames: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """Return the next (channels, frames), silence behind the last.

        Raises
        ------
        SourceError : the file is not what was written
        """
        count = min(frames, self._left)
        block = self._reader.read(count)
        if block.shape[1] != count or not np.isfinite(block).all():
            raise self._source.error_of(self._entry, "it ends early, or holds NaN or Inf")
        self._left -= count
        if count and not self._left:
            if self._reader.sha256 != self._entry.sha256:
                raise self._source.error_of(self._entry, "its sha256 differs")
            self._source.verified.add(self._entry.name)
        if count == frames:
            return block
        silence = np.zeros((len(block), frames - count), block.dtype)
        return np.concatenate([block, silence], axis=1)

    def __enter__(self) -> SetFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)


def open_set(folder: Path) -> SourceSet:
    """Return the set in a result folder; its files are opened, not yet read.

    Raises
    ------
    SourceError : the folder holds no set, or not the one that was written
    """
    document = read_manifest(folder)
    if not is_sealed(folder):
        raise SourceError(
            f"{FILE_NAME!r} in {str(folder)!r} is not what was written: its seal is broken",
            f"split the original again; `stembridge null {folder}` tells all that changed",
        )
    source = SourceSet(folder, document, channel_mask=0)
    for entry in source.files:
        with source.open_file(entry):
            pass
    # Only now: a file that is not there has been told of as one of a damaged set.
    return replace(source, channel_mask=audio_io.probe(str(folder / document.stems[0].file)).channel_mask)


def check_unread(source: SourceSet) -> Generator[float, None, None]:
    """Read the files that nothing has needed so far: a set is taken as a whole, or not at all.

    Raises
    ------
    SourceError : one of them is not what was written
    """
    left = [entry for entry in source.files if entry.name not in source.verified]
    for number, entry in enumerate(left):
        with source.open_file(entry) as file:
            for start in range(0, source.frames, audio_io.BLOCK_FRAMES):
                file.read(min(audio_io.BLOCK_FRAMES, source.frames - start))
                yield (number + start / source.frames) / len(left)


def find_original(source: SourceSet) -> Generator[float, None, SourceSet]:
    """Return the set with its original, where only that can tell what the files lack of it.

    Files on a grid sum to their original in integers. Where they stand on none, their float64 sum may be off
    by some rounding, or by all that no float32 could hold. Yields the fraction that was read.
    """
    document = source.document
    if document.grid.residual_bits is not None:
        return source
    if document.mixture is not None:
        return replace(source, original=audio_io.probe(str(source.folder / document.mixture.file)))
    if document.remix is not None:
        # A remix without stems is its own only file.
        return source
    entry = document.source
    found = None
    try:
        info = audio_io.probe(entry.path)
        if info.frames == entry.frames:
            is_same = yield from _holds_original(source, info, Region(entry.region.start, source.frames))
            found = info if is_same else None
    except SourceError:
        # Moved, or another file by now.
        found = None
    return replace(source, original=found, is_short=found is None and not document.claims.exact_f64)


def _holds_original(
    source: SourceSet, info: audio_io.SourceInfo, region: Region
) -> Generator[float, None, bool]:
    """Tell whether a region of a file has the samples that were split; yield the fraction that was read."""
    entry = source.document.source
    if (info.sample_rate, info.channels) != (entry.sample_rate, entry.channels):
        return False
    pcm_hash = audio_io.PcmHash()
    done = 0
    for block in audio_io.read_blocks(info, audio_io.check_region(info, region)):
        pcm_hash.update(block)
        done += block.shape[1]
        yield done / source.frames
    return pcm_hash.hexdigest() == entry.sha256_pcm
