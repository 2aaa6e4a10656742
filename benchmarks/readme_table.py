"""Writes the README's table of figures from benchmarks/results/*.json; `--check` only compares.

No figure is typed by hand: each row names the command that gave it and the commit it was measured at.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- figures -->", "<!-- /figures -->"


def make_table(results: Path) -> str:
    """Return the Markdown table of every result, in the order of the files' names."""
    lines = ["| figure | value | command | commit |", "|---|---|---|---|"]
    for path in sorted(results.glob("*.json")):
        report = json.loads(path.read_text("utf-8"))
        command = f"`python benchmarks/{report['command']}`"
        for name, value in report["figures"].items():
            if isinstance(value, int | float):
                lines.append(f"| {name} | {value} | {command} | {report['commit'][:7]} |")
    return "\n".join(lines)


def with_table(readme: str, table: str) -> str:
    """Return ``readme`` with the text between its two marks replaced by ``table``."""
    head, _, rest = readme.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n{table}\n{END}{tail}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    path = ROOT / "README.md"
    readme = path.read_text("utf-8")
    wanted = with_table(readme, make_table(RESULTS))
    if options.check:
        return int(readme != wanted)
    path.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
