"""What came back, as a table on stdout."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stembridge.manifest import LISTENING_FOLDER, Manifest
from stembridge.stem_table import StemRow, claim_sentence, measure_stems
from stembridge.text import count_cells, one_line, shorten
from stembridge.types import Precision

HEADER = ("stem", "peak", "loudness", "file")
GAP = "  "
NARROWEST_FILE = 20


def print_result(folder: Path, warnings: Sequence[str] = ()) -> None:
    """Print a set's stems with peak and loudness, what its sum is claimed to be, and where it lies.

    A terminal gets the files' names shortened to its width; a file or a pipe gets them whole.
    """
    manifest, rows = measure_stems(folder)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    note = ": preview quality, no model" if manifest.model.name == "preview" else ""
    if manifest.model.precision == Precision.HALF:
        note = ", half precision"
    print(f"{one_line(Path(manifest.source.path).name)}, {manifest.model.name}{note}")
    for line in format_rows(manifest, rows, width):
        print(line)
    print(claim_sentence(manifest))
    if manifest.residual.level_db is not None and manifest.stems[-1].name != "residual":
        print(f"the stems took in a residual of {level(manifest.residual.level_db)} re mixture")
    if manifest.near_mono:
        print(f"near mono: {', '.join(manifest.near_mono)} (--mono keeps their mid alone)")
    if manifest.listening:
        print(f"to listen to, without the guarantee: {len(manifest.listening)} MP3s in {LISTENING_FOLDER}/")
    for warning in warnings:
        print(f"warning: {one_line(warning)}")
    print(one_line(str(folder)))


def format_rows(manifest: Manifest, rows: Sequence[StemRow], width: int | None) -> Iterator[str]:
    """Yield the lines of the table, each in at most ``width`` columns; None leaves every name whole."""
    cells = [HEADER]
    for row in rows:
        name = f"{row.name} ({level(manifest.residual.level_db)})" if row.name == "residual" else row.name
        cells.append((one_line(name), _peak(row), _loudness(row), one_line(row.file)))
    widths = [max(count_cells(line[column]) for line in cells) for column in range(3)]
    left = None if width is None else max(NARROWEST_FILE, width - sum(widths) - 3 * len(GAP))
    for stem, peak, loudness, file in cells:
        tail = file[file.rfind(" - ") :] if " - " in file else ""
        shown = file if left is None else shorten(file, left, tail)
        padding = " " * (widths[0] - count_cells(stem))
        yield GAP.join([stem + padding, peak.rjust(widths[1]), loudness.rjust(widths[2]), shown])


def level(decibels: float | None) -> str:
    """Return a residual's level re mixture as a person reads it."""
    return "silent" if decibels is None or math.isinf(decibels) else f"{decibels:.0f} dB"


def _peak(row: StemRow) -> str:
    return "silent" if math.isinf(row.peak_db) else f"{row.peak_db:.1f} dBFS"


def _loudness(row: StemRow) -> str:
    return "-" if math.isinf(row.loudness_lufs) else f"{row.loudness_lufs:.1f} LUFS"
