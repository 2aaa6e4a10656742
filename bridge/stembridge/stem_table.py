"""What a person wants to know of a result folder: each stem's peak and loudness, and whether it all nulls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stembridge.audio_io import BLOCK_FRAMES
from stembridge.dsp.loudness import LoudnessMeter
from stembridge.manifest import Manifest, read_manifest
from stembridge.stem_file import StemReader
from stembridge.text import one_line


@dataclass(frozen=True, slots=True)
class StemRow:
    """One file of a set: ``peak_db`` in dBFS and ``loudness_lufs``, both -inf for silence."""

    name: str
    file: str
    peak_db: float
    loudness_lufs: float


def measure_stems(folder: Path) -> tuple[Manifest, tuple[StemRow, ...]]:
    """Return the manifest of a result folder and a row per stem, read in blocks.

    Raises
    ------
    StembridgeError
        The folder holds no set, or a file of it cannot be read.
    """
    manifest = read_manifest(folder)
    return manifest, tuple(_measure(folder, stem.name, stem.file) for stem in manifest.stems)


def claim_sentence(manifest: Manifest) -> str:
    """Return what the stems sum to and how exactly; a lossy original is its decoded mixture's file."""
    original = "the original"
    if manifest.mixture is not None:
        original = f"the original as decoded, '{one_line(manifest.mixture.file)}',"
    claims = manifest.claims
    if not claims.exact_f64 and claims.max_error == 0:
        return f"sums back to {original} exactly in every order that was tried"
    if not claims.exact_f64:
        error_db = 20 * math.log10(claims.max_error)
        return f"sums back to {original}, off by at most {error_db:.0f} dBFS"
    widths = "64-bit and 32-bit" if claims.exact_f32_any_order else "64-bit"
    return f"sums back to {original} exactly, mixed in {widths}, in any order"


def _measure(folder: Path, name: str, file: str) -> StemRow:
    peak = 0.0
    with StemReader(folder / file) as reader:
        meter = LoudnessMeter(reader.channels, reader.sample_rate)
        while (block := reader.read(BLOCK_FRAMES)).shape[1]:
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            meter.add(block)
    return StemRow(name, file, 20 * math.log10(peak) if peak else -math.inf, meter.read())
