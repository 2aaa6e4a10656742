"""The benchmark for GPUs runs where there is none, as far as that goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_every_way_that_needs_no_cuda_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "gpu.json"
    ended = subprocess.run(
        [
            sys.executable, str(GPU), "--device", "cpu", "--seconds", "6", "--small",
            "--rounds", "1", "--json", str(report),
        ],
        # Counting operations has torch make a folder for its compiler.
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiler")},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(report.read_text("utf-8"))["figures"]
    rows = {name: dict(zip(figures["columns"][1:], row, strict=True)) for name, *row in figures["rows"]}
    assert {"stock", "batches, full"} <= set(rows) <= {"stock", "batches, full", "batches, half"}
    assert ("batches, half" in rows) != ("batches, half was refused: " in figures["caption"])
    for row in rows.values():
        assert float(row["times real time"]) > 0
        assert float(row["stock over it"]) > 0
    full = rows["batches, full"]
    assert full["SDR, dB"] == "exact" or float(full["SDR, dB"]) > 80
    assert full["segments at once"] == "1"
    assert float(full["of the matrix peak, %"]) >= 0
    assert "batches, full | " in ended.stdout
