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
    return manifest, tuple(measure_file(folder, stem.name, stem.file) for stem in manifest.stems)


def claim_sentence(manifest: Manifest) -> str:
    """Return what the stems sum to and how exactly; a lossy original is its decoded mixture's file.

    Of a remix without its stems there is no sum: what is claimed of it is said then.
    """
    if manifest.remix is not None and manifest.mixture is None:
        if not manifest.remix.untouched:
            return "no stem is as it was: an effect, a gain or the ceiling is on all of them"
        return "what the preset does not touch is the original's, sample for sample"
    sums, claims = _name_sum(manifest), manifest.claims
    if not claims.exact_f64 and claims.max_error == 0:
        return f"{sums} exactly in every order that was tried"
    if not claims.exact_f64:
        error_db = 20 * math.log10(claims.max_error)
        return f"{sums}, off by at most {error_db:.0f} dBFS"
    widths = "64-bit and 32-bit" if claims.exact_f32_any_order else "64-bit"
    return f"{sums} exactly, mixed in {widths}, in any order"


def _name_sum(manifest: Manifest) -> str:
    if manifest.mixture is None:
        return "sums back to the original"
    file = one_line(manifest.mixture.file)
    whole = "back to the original as decoded" if manifest.remix is None else "to the remix"
    return f"sums {whole}, '{file}',"


def measure_file(folder: Path, name: str, file: str) -> StemRow:
    """Return the row of one file of a result folder.

    Raises
    ------
    SourceError : it cannot be read
    """
    peak = 0.0
    with StemReader(folder / file) as reader:
        meter = LoudnessMeter(reader.channels, reader.sample_rate)
        while (block := reader.read(BLOCK_FRAMES)).shape[1]:
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            meter.add(block)
    return StemRow(name, file, 20 * math.log10(peak) if peak else -math.inf, meter.read())
