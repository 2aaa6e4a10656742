"""Practice versions: a finished remix slower, faster or in another key, outside of every sum."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pedalboard import time_stretch

from stembridge import disk
from stembridge.audio_io import BLOCK_FRAMES
from stembridge.errors import EffectError
from stembridge.manifest import ListeningEntry, StemEntry
from stembridge.mixdown.side_by_side import run_side_by_side
from stembridge.stem_file import StemReader
from stembridge.wavfile import WavWriter

FOLDER = "practice"

_LEAST_FRAMES = 4096
"""What is shorter is padded: Rubber Band gives little or nothing of some 100 frames, and fewer frames than
channels are taken for interleaved."""


def name_practice(file: str, *, speed: float, pitch_semitones: float) -> str:
    """Return the name of a practice version of ``file``: 'song - karaoke 0.80x -2st.wav'."""
    parts = [Path(file).stem]
    parts += [f"{speed:.2f}x"] if speed != 1.0 else []
    parts += [f"{pitch_semitones:+g}st"] if pitch_semitones else []
    return f"{' '.join(parts)}.wav"


def write_practice(
    work: Path,
    entry: StemEntry,
    groups: Sequence[Sequence[int]],
    *,
    speed: float,
    pitch_semitones: float,
) -> Generator[float, None, ListeningEntry]:
    """Write a practice version of one file of a set into its folder, in 32-bit float.

    All of it is held in memory meanwhile: the library stretches whole signals only. Until it is done, 0 is
    yielded now and then.

    Parameters
    ----------
    groups : channels that belong together, as pairs and singles

    Raises
    ------
    EffectError : the library gave something else than samples
    """
    name = name_practice(entry.file, speed=speed, pitch_semitones=pitch_semitones)

    def write() -> Generator[float, None, None]:
        with StemReader(work / entry.file) as reader:
            signal, sample_rate = reader.read(reader.frames).astype(np.float32), reader.sample_rate
        stretched = _stretch(signal, sample_rate, groups, speed, pitch_semitones)
        with disk.writing(work.parent):
            (work / FOLDER).mkdir()
            with WavWriter(
                work / FOLDER / name,
                sample_rate=sample_rate,
                channels=len(stretched),
                frames=stretched.shape[1],
                subtype="FLOAT",
            ) as writer:
                for start in range(0, stretched.shape[1], BLOCK_FRAMES):
                    writer.write(stretched[:, start : start + BLOCK_FRAMES].astype(np.float64))
            disk.sync_folder(work / FOLDER)
        yield 1.0

    yield from run_side_by_side([write()])
    return ListeningEntry(entry.name, f"{FOLDER}/{name}")


def _stretch(
    signal: NDArray[np.float32],
    sample_rate: int,
    groups: Sequence[Sequence[int]],
    speed: float,
    pitch_semitones: float,
) -> NDArray[np.float32]:
    """Return ``signal`` at ``speed`` times its speed, moved by ``pitch_semitones``; the length is exact."""
    frames = max(1, round(signal.shape[1] / speed))
    padding = max(0, _LEAST_FRAMES - signal.shape[1])
    padded = np.pad(signal, ((0, 0), (0, padding)))
    out = np.zeros((len(signal), frames), np.float32)
    for group in groups:
        rows = list(group)
        found = time_stretch(
            np.ascontiguousarray(padded[rows]),
            float(sample_rate),
            stretch_factor=speed,
            pitch_shift_in_semitones=pitch_semitones,
        )
        if found.ndim != 2 or len(found) != len(rows) or not np.isfinite(found).all():
            raise EffectError("stretching gave no audio", "leave out speed and pitch")
        kept = found[:, :frames]
        out[rows, : kept.shape[1]] = kept
    return out
