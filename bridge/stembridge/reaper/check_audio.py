"""The sound of "Check this REAPER": what is put into the scratch project, and what its renders tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf, log10
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stembridge.audio_io import probe, read_blocks
from stembridge.errors import SourceError
from stembridge.reaper.threads.scratch import RATE
from stembridge.stem_file import write_mp3
from stembridge.types import Region
from stembridge.wavfile import write_wav

Signal = NDArray[np.float64]

SONG_S = 40.0
"""So long that the items below need but a part of it: then start offsets have to be right."""
MP3_S = 12.0
_LEVEL = 0.1
_SILENT = 1e-6
_DULL = np.hanning(34) / np.linalg.norm(np.hanning(34))
"""Smooths noise, and leaves its level."""


def write_material(folder: Path) -> dict[str, str]:
    """Write the files that the scratch project plays; return their paths as ``song`` and ``mp3``.

    Noise has no two places that are alike: whatever is read at another place is heard. It is dull, so that it
    is as loud at another sample rate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(4)
    noise = np.stack([np.convolve(draw.standard_normal(round(SONG_S * RATE)), _DULL, "same") for _ in "LR"])
    noise = np.round(np.clip(_LEVEL * noise, -0.99, 0.99) * 2**15) / 2**15
    song, mp3 = folder / "check.wav", folder / "check.mp3"
    write_wav(song, noise, RATE, "PCM_16")
    short = np.ascontiguousarray(noise[:, : round(MP3_S * RATE)])
    deque(write_mp3(mp3, [short], len(short), RATE, short.shape[1]), maxlen=0)
    return {"song": str(song), "mp3": str(mp3)}


def compare_renders(before: str, after: str, pieces: Sequence[tuple[str, float, float]]) -> dict[str, Any]:
    """Return by name how loud the difference of two renders is in a stretch of them.

    Returns
    -------
    dict
        dB re the first render; None where both are equal; 'silent' where the first is

    Raises
    ------
    SourceError
        A render is not there.
    """
    found: dict[str, float | str | None] = {}
    for name, start_s, end_s in pieces:
        one, other = (_read(path, start_s, end_s) for path in (before, after))
        level, error = _rms(one), _rms(one - other)
        if level < _SILENT:
            found[name] = "silent"
        else:
            found[name] = 20 * log10(error / level) if error > 0 else None
    return found


def measure_bake(song: str, bake: str, offset_s: float, length_s: float, fade_s: float) -> dict[str, float]:
    """Return how much softer REAPER's rendering of an item is than its source: in it, and in its fade.

    Parameters
    ----------
    offset_s, length_s : of the item in its source
    fade_s : length of the item's fade-in
    """
    middle = _gain(song, bake, offset_s, fade_s * 1.5, length_s * 0.9)
    begin = _gain(song, bake, offset_s, 0.0, fade_s / 2)
    return {"volume": middle, "fade": begin / middle if middle > 0 else inf}


def _gain(song: str, bake: str, offset_s: float, start_s: float, end_s: float) -> float:
    return _rms(_read(bake, start_s, end_s)) / _rms(_read(song, offset_s + start_s, offset_s + end_s))


def _read(path: str, start_s: float, end_s: float) -> Signal:
    """Return that stretch of a file's first two channels, silence behind its end."""
    info = probe(path)
    first, last = round(start_s * info.sample_rate), round(end_s * info.sample_rate)
    heard = np.zeros((2, last - first))
    there = min(last, info.frames) - first
    if there > 0:
        blocks = list(read_blocks(info, Region(first, there)))
        samples = np.concatenate(blocks, axis=1)
        heard[:, :there] = samples[:2] if len(samples) > 1 else np.repeat(samples, 2, axis=0)
    return heard


def _rms(samples: Signal) -> float:
    if not samples.size:
        raise SourceError("a stretch of no length", "run the check again")
    return float(np.sqrt(np.mean(samples**2)))
