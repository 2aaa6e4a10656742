"""What came back, as a table on stdout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from stembridge.stem_table import StemRow, measure_stems
from stembridge.text import one_line


def print_result(folder: Path, warnings: Sequence[str] = ()) -> None:
    """Print a set's stems with peak and loudness, what its sum is claimed to be, and where it lies."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    manifest, rows = measure_stems(folder)
    note = " - preview quality, no model" if manifest.model.name == "preview" else ""
    table = Table(title=escape(f"{manifest.model.name}{note}"), title_justify="left")
    table.add_column("stem")
    table.add_column("peak", justify="right")
    table.add_column("loudness", justify="right")
    table.add_column("file", overflow="fold")
    for row in rows:
        name = f"{row.name} ({level(manifest.residual.level_db)})" if row.name == "residual" else row.name
        table.add_row(escape(name), _peak(row), _loudness(row), escape(one_line(row.file)))
    Console().print(table)
    claims = manifest.claims
    if claims.exact_f64:
        widths = "64-bit and 32-bit" if claims.exact_f32_any_order else "64-bit"
        print(f"sums back to the original exactly, mixed in {widths}, in any order")
    else:
        print(f"largest error of the sum {claims.max_error:.3g}")
    for warning in warnings:
        print(f"warning: {one_line(warning)}")
    print(one_line(str(folder)))


def level(decibels: float | None) -> str:
    """Return a residual's level re mixture as a person reads it."""
    return "silent" if decibels is None or math.isinf(decibels) else f"{decibels:.0f} dB"


def _peak(row: StemRow) -> str:
    return "silent" if math.isinf(row.peak_db) else f"{row.peak_db:.1f} dBFS"


def _loudness(row: StemRow) -> str:
    return "-" if math.isinf(row.loudness_lufs) else f"{row.loudness_lufs:.1f} LUFS"
