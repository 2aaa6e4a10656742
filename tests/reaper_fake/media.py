"""The audio a fake REAPER finds: real files, read once, and files that exist in memory only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from reaper_fake.model import Source
from reaper_fake.playback import Samples

_KINDS = {
    "WAV": "WAVE",
    "WAVEX": "WAVE",
    "RF64": "WAVE",
    "AIFF": "AIFF",
    "FLAC": "FLAC",
    "MP3": "MP3",
    "OGG": "VORBIS",
}
"""What REAPER calls the formats that libsndfile knows."""
_TYPE_BY_SUFFIX = {".mid": "MIDI", ".rpp": "RPP_PROJECT", ".mp4": "VIDEO", ".wv": "WAVPACK", ".opus": "OPUS"}


@dataclass(frozen=True, slots=True)
class Media:
    """One audio file as this REAPER decodes it."""

    samples: Samples
    rate: int
    kind: str = "WAVE"


class MediaShelf:
    """All media by path. What lies in `virtual` wins over the disk: a file of memory, or another decoder."""

    def __init__(self) -> None:
        self.virtual: dict[str, Media] = {}
        self._read: dict[tuple[str, int, int], Media] = {}

    def exists(self, path: str) -> bool:
        """Return whether there is such a file."""
        return path in self.virtual or Path(path).is_file()

    def samples(self, path: str) -> Samples:
        """Return what the file holds, silence where it is gone."""
        media = self.open(path)
        return media.samples if media else np.zeros((2, 0))

    def open(self, path: str) -> Media | None:
        """Return the file at `path`, or None where it is no audio that can be read."""
        if path in self.virtual:
            return self.virtual[path]
        if not Path(path).is_file():
            return None
        stat = Path(path).stat()
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._read:
            try:
                info = soundfile.info(path)
                samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
            except soundfile.LibsndfileError:
                return None
            kind = "OPUS" if info.subtype == "OPUS" else _KINDS.get(info.format, info.format)
            self._read[key] = Media(np.ascontiguousarray(samples.T), rate, kind)
        return self._read[key]

    def source(self, path: str) -> Source | None:
        """Return a new source of the file at `path`, or None where there is none."""
        media = self.open(path)
        if media is not None:
            channels, frames = media.samples.shape
            return Source(media.kind, path, media.rate, channels, frames)
        kind = _TYPE_BY_SUFFIX.get(Path(path).suffix.lower())
        return Source(kind, path) if kind and self.exists(path) else None
