"""The README against the files it speaks of."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_table_of_figures_is_the_one_the_benchmarks_wrote() -> None:
    command = [sys.executable, "benchmarks/readme_table.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert len(re.findall(r"^\| .*`python benchmarks/", README, re.MULTILINE)) > 5


def test_every_kind_of_figure_gets_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from readme_table import make_tables, with_tables

    assert make_tables(tmp_path) == ""
    levels = {"drums": 7.09, "bass": 7.0}
    quality = {
        "seconds": 20.0,
        "sdr_db": {"mix/4": {**levels, "average": 1.13}, "preview": {**levels, "average": 6.19}},
        "worst_song_db": {"drums": 5.19, "bass": -0.96},
        "stems_above_mix4": "78 of 80",
        "songs_above_equaliser": "20 of 20",
    }
    reports = {
        "preview_quality": quality,
        "ratios": {
            "columns": ["item", "ratio"],
            "rows": [["5 s", "1.70"], ["30 s", "1.85"]],
            "caption": "Two processes, called in turn.",
            "ratios of the rounds": {"5 s": [1.7, 1.8]},
        },
        "speed": {"ping, ms": 0.2, "htdemucs": {"cpu": {"s": 3}, "cuda": "none"}, "rounds": [1, 2]},
    }
    for name, figures in reports.items():
        report = {"benchmark": name, "command": f"{name}.py --x", "commit": "0123456789", "seed": [1, 2]}
        (tmp_path / f"{name}.json").write_text(json.dumps({**report, "figures": figures}))
    lines = make_tables(tmp_path).splitlines()
    assert lines[:8] == [
        "| figure | value | command | commit |",
        "|---|---|---|---|",
        "| ping, ms | 0.2 | `python benchmarks/speed.py --x` | 0123456 |",
        "| htdemucs, cpu, s | 3 | `python benchmarks/speed.py --x` | 0123456 |",
        "| htdemucs, cuda | none | `python benchmarks/speed.py --x` | 0123456 |",
        "",
        "| SDR, dB | drums | bass | average |",
        "|---|---|---|---|",
    ]
    begin = lines.index("| item | ratio |")
    assert lines[begin : begin + 7] == [
        "| item | ratio |",
        "|---|---|",
        "| 5 s | 1.70 |",
        "| 30 s | 1.85 |",
        "",
        "Two processes, called in turn.",
        "`python benchmarks/ratios.py --x`, commit 0123456.",
    ]
    assert "| preview | 7.1 | 7.0 | 6.2 |" in lines and "| preview, worst song | 5.2 | -1.0 |  |" in lines
    told = " ".join(lines[12:])
    assert "2 synthetic songs of 20 s" in told and "78 of 80 stems" in told and "commit 0123456" in told
    readme = "a\n<!-- figures -->\nold\n<!-- /figures -->\nb\n"
    assert with_tables(readme, "new") == readme.replace("old", "new")


def test_every_file_that_is_linked_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_benchmark_stands_in_the_table() -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        if path.name not in ("report.py", "readme_table.py"):
            assert f"`python benchmarks/{path.name}" in README, path.name


def test_presets_and_effects_are_as_many_as_it_says() -> None:
    from stembridge.effects.kinds import KINDS

    assert f"- {len(list((ROOT / 'presets').glob('*.toml')))} presets are shipped" in README
    assert f"[{len(KINDS)} effects](docs/effects.md)" in README
