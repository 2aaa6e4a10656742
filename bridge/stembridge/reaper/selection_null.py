"""Do the files that stems play, with the gains and at the places they have now, sum to the original's file?

Runs in an errand's process: the desk has no numeric library.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stembridge import audio_io, transcode
from stembridge.audio_io import SourceInfo
from stembridge.errors import SourceError, StembridgeError
from stembridge.null_test import check_result, decibels, level_db
from stembridge.types import Region

Report = Callable[[str, float | None], None]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one stem's item contributes.

    Parameters
    ----------
    start_s : second of the original's file at which the stem's file begins to sound
    first_s, last_s : stretch of the original's file in which the item is heard
    gain : factor re what the stem should have; 0 where it is muted
    state : tells one state of the file from another
    """

    path: str
    start_s: float
    first_s: float
    last_s: float
    gain: float
    state: str


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """One original, the stretch of its file that it plays, and the parts that should sum to it."""

    path: str
    first_s: float
    last_s: float
    parts: tuple[Part, ...]
    folders: tuple[str, ...]
    state: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a sum is.

    Parameters
    ----------
    is_exact : every sample is the original's
    level_db : energy of what is too much or too little, re the original's; None: one of them is 0
    peak_db : largest error re full scale; None: there is none
    fault : why nothing was measured, or ''
    failures : what does not hold in the result folders, one line each
    """

    is_exact: bool = False
    level_db: float | None = None
    peak_db: float | None = None
    fault: str = ""
    failures: tuple[str, ...] = ()


def measure(report: Report, sums: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a `Finding` for each `Sum`; one that cannot be measured stops no other."""
    asked = msgspec.convert(sums, list[Sum])
    checked: dict[str, tuple[str, ...]] = {}
    found = []
    for number, one in enumerate(asked):
        report(f"null test {number + 1} of {len(asked)}", number / len(asked))
        for folder in one.folders:
            if folder not in checked:
                checked[folder] = _check_folder(folder)
        failures = tuple(line for folder in one.folders for line in checked[folder])
        try:
            finding = _measure_sum(one)
        except StembridgeError as error:
            finding = Finding(fault=error.message)
        found.append(msgspec.to_builtins(msgspec.structs.replace(finding, failures=failures)))
    return found


def _check_folder(folder: str) -> tuple[str, ...]:
    try:
        return check_result(folder).failures
    except StembridgeError as error:
        return (error.message,)


def _measure_sum(asked: Sum) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        original = _open(asked.path, Path(folder) / "original")
        rate = original.sample_rate
        first = max(0, round(asked.first_s * rate))
        last = min(original.frames, round(asked.last_s * rate))
        readers = []
        for number, part in enumerate(asked.parts):
            info = _open(part.path, Path(folder) / str(number))
            if (info.sample_rate, info.channels) != (rate, original.channels):
                raise SourceError(
                    f"{Path(part.path).name} has {info.channels} channels at {info.sample_rate} Hz, the "
                    f"original {original.channels} at {rate} Hz",
                    "stems from elsewhere: import them first",
                )
            readers.append(_Reader(part, info))
        energy = reference = peak = 0.0
        for at in range(first, last, audio_io.BLOCK_FRAMES):
            count = min(audio_io.BLOCK_FRAMES, last - at)
            wanted = _read(original, at, count)
            total = np.zeros_like(wanted)
            for reader in readers:
                reader.add_to(total, at)
            error = total - wanted
            energy += float(np.sum(error**2))
            reference += float(np.sum(wanted**2))
            peak = max(peak, float(np.max(np.abs(error), initial=0.0)))
    return Finding(
        is_exact=peak == 0,
        level_db=level_db(energy, reference),
        peak_db=None if decibels(peak) == -inf else decibels(peak),
    )


class _Reader:
    """Adds a stem's samples to a stretch of the original's."""

    def __init__(self, part: Part, info: SourceInfo) -> None:
        self._info = info
        self._gain = part.gain
        self._start = round(part.start_s * info.sample_rate)
        self._first = max(self._start, round(part.first_s * info.sample_rate))
        self._last = min(self._start + info.frames, round(part.last_s * info.sample_rate))

    def add_to(self, total: NDArray[np.float64], at: int) -> None:
        first, last = max(at, self._first), min(at + total.shape[1], self._last)
        if first >= last or self._gain == 0:
            return
        samples = _read(self._info, first - self._start, last - first)
        # By 1 it is exact: stems stand on a grid on which every sum of theirs is.
        total[:, first - at : last - at] += self._gain * samples


def _open(path: str, folder: Path) -> SourceInfo:
    opening = transcode.open_source(path, folder)
    while True:
        try:
            next(opening)
        except StopIteration as stop:
            info: SourceInfo = stop.value
            return info


def _read(info: SourceInfo, first: int, count: int) -> NDArray[np.float64]:
    return np.concatenate(list(audio_io.read_blocks(info, Region(first, count))), axis=1)
