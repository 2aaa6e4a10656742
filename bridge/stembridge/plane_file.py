"""Samples that wait on the disk: appended in order, read anywhere, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class PlaneFile:
    """Float32 samples of ``planes`` channels, one raw file each: a stretch is one read per channel.

    ``frames`` counts what was appended so far, ``folder`` is where the files lie. A context manager: it
    closes its files but leaves them there. Threads may share it.
    """

    def __init__(self, folder: Path, name: str, planes: int) -> None:
        self.folder = folder
        self.planes = planes
        self.frames = 0
        # Seeking and what follows it are two steps, on one position for all threads.
        self._lock = Lock()
        with ExitStack() as stack:
            self._files = [
                stack.enter_context((folder / f"{name}-{plane}.f32").open("xb+", buffering=0))
                for plane in range(planes)
            ]
            self._stack = stack.pop_all()

    def append(self, block: NDArray[np.float32] | NDArray[np.float64]) -> None:
        """Append (planes, frames)."""
        with self._lock:
            for file, row in zip(self._files, block, strict=True):
                rest = row.astype(np.float32, order="C", copy=False).view(np.uint8).data
                file.seek(0, 2)
                while rest:
                    rest = rest[file.write(rest) :]
            self.frames += block.shape[1]

    def read(self, start: int, frames: int, rows: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Return (planes, frames) from frame ``start`` on, zeros where nothing was appended.

        ``rows`` names the planes to read; None means all.
        """
        files = self._files if rows is None else [self._files[row] for row in rows]
        out = np.zeros((len(files), frames), np.float32)
        with self._lock:
            begin, end = max(start, 0), min(start + frames, self.frames)
            if begin < end:
                for file, row in zip(files, out, strict=True):
                    file.seek(4 * begin)
                    rest = row[begin - start : end - start].view(np.uint8).data
                    while rest:
                        count = file.readinto(rest)
                        if not count:
                            raise OSError(f"{file.name!r} is shorter than it was written")
                        rest = rest[count:]
        return out

    def __enter__(self) -> PlaneFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
