"""The README against the files it speaks of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_table_of_figures_is_the_one_the_benchmarks_wrote() -> None:
    command = [sys.executable, "benchmarks/readme_table.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert len(re.findall(r"^\| .*`python benchmarks/", README, re.MULTILINE)) > 5


def test_every_file_that_is_linked_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_benchmark_stands_in_the_table() -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        if path.name not in ("report.py", "readme_table.py"):
            assert f"`python benchmarks/{path.name}" in README, path.name
