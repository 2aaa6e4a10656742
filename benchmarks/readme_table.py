"""Writes the README's tables of figures from benchmarks/results/*.json; `--check` only compares.

No figure is typed by hand: each stands beside the command that gave it and the commit it was measured at.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- figures -->", "<!-- /figures -->"
QUALITY = "preview_quality"


def make_tables(results: Path) -> str:
    """Return one Markdown table of every single figure, and one for each report that has rows of its own."""
    reports = [json.loads(path.read_text("utf-8")) for path in sorted(results.glob("*.json"))]
    blocks: list[str] = []
    rows: list[list[str]] = []
    for report in reports:
        if report["benchmark"] == QUALITY:
            blocks.append(_quality_block(report))
        elif "columns" in report["figures"]:
            blocks.append(_own_block(report))
        else:
            rows += _flat_rows(report)
    if rows:
        blocks.insert(0, _table(["figure", "value", "command", "commit"], rows))
    return "\n\n".join(blocks)


def with_tables(readme: str, tables: str) -> str:
    """Return ``readme`` with the text between its two marks replaced by ``tables``."""
    head, _, rest = readme.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n{tables}\n{END}{tail}"


def _flat_rows(report: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, value in _flat_figures(report["figures"]):
        yield [name, value, _command(report), report["commit"][:7]]


def _flat_figures(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each number and text of ``figures``; what is nested is named after all that it stands in."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat_figures(value, f"{prefix}{name}, ")
        elif isinstance(value, int | float | str):
            yield f"{prefix}{name}", str(value)


def _quality_block(report: Mapping[str, Any]) -> str:
    """Return how far `preview` gets: a row per method and the worst song, a column per stem."""
    figures, songs = report["figures"], len(report["seed"])
    stems = list(figures["worst_song_db"])
    rows = [
        [method, *(f"{levels[stem]:.1f}" for stem in (*stems, "average"))]
        for method, levels in figures["sdr_db"].items()
    ]
    rows.append(["preview, worst song", *(f"{figures['worst_song_db'][stem]:.1f}" for stem in stems), ""])
    caption = (
        f"Mean over {songs} synthetic songs of {figures['seconds']:g} s; `preview` is above a quarter of the "
        f"mixture (mix/4) on {figures['stems_above_mix4']} stems and above the best static equaliser on "
        f"{figures['songs_above_equaliser']} songs:"
    )
    return _block(report, ["SDR, dB", *stems, "average"], rows, caption)


def _own_block(report: Mapping[str, Any]) -> str:
    """Return the table that a report brings as ``columns``, ``rows`` and ``caption``."""
    figures = report["figures"]
    return _block(report, figures["columns"], figures["rows"], figures["caption"])


def _block(
    report: Mapping[str, Any], header: Sequence[str], rows: Sequence[Sequence[str]], caption: str
) -> str:
    origin = f"{_command(report)}, commit {report['commit'][:7]}."
    return f"{_table(header, rows)}\n\n{textwrap.fill(caption, 110)}\n{origin}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|" for line in lines
    )


def _command(report: Mapping[str, Any]) -> str:
    return f"`python benchmarks/{report['command']}`"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    path = ROOT / "README.md"
    readme = path.read_text("utf-8")
    wanted = with_tables(readme, make_tables(RESULTS))
    if options.check:
        return int(readme != wanted)
    path.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
