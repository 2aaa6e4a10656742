"""What a remix costs beside its effects: four chains against the same chains bare, and memory by length.

Bare is what a script of a dozen lines does: read the stems, run pedalboard over each as a whole, add floats,
write the sum. The render also hashes what it reads, puts every sample on the grid and proves the written sum.
Every run has a fresh process with a worker's environment; sets are of 24 bits at 48 kHz, stereo, four stems
and the residual.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from closure import peak_memory_mb, write_source
from report import write_report
from stembridge.manifest import read_manifest
from stembridge.mixdown.render import render_remix
from stembridge.settings import load_settings
from stembridge.stages import run_to_end
from stembridge.types import RemixRequest, SplitRequest
from stembridge_daemon.supervisor import tuned_environment
from stembridge_daemon.worker.pipeline import run_split

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fakes import FakeSeparator

SEED = 5
RESULT = Path(__file__).parent / "results" / "remix.json"

PRESET = """
[preset]
name = "Four chains"
use = "a benchmark"

[stems.drums]
gain_db = 1.0
[[stems.drums.effects]]
kind = "compressor"
threshold_db = -24.0
ratio = 3.0
linked = false
[[stems.drums.effects]]
kind = "peak"
cutoff_hz = 3000.0
gain_db = 2.0

[stems.bass]
gain_db = 1.0
[[stems.bass.effects]]
kind = "low_shelf"
cutoff_hz = 120.0
gain_db = 3.0
[[stems.bass.effects]]
kind = "compressor"
threshold_db = -20.0
ratio = 2.0
linked = false

[stems.other]
gain_db = -2.0
[[stems.other.effects]]
kind = "high_shelf"
cutoff_hz = 6000.0
gain_db = -3.0
[[stems.other.effects]]
kind = "chorus"
mix = 0.3

[stems.vocals]
gain_db = 2.0
[[stems.vocals.effects]]
kind = "low_cut"
cutoff_hz = 90.0
[[stems.vocals.effects]]
kind = "compressor"
threshold_db = -22.0
ratio = 3.0
linked = false
[[stems.vocals.effects]]
kind = "reverb"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", nargs="+", type=int, default=[5, 60])
    parser.add_argument("--rounds", type=int, default=3, help="of the shortest length")
    parser.add_argument("--folder", type=Path, help="where there is room: about 16 GB for an hour")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--run", nargs=2, metavar=("WHAT", "SET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        what, folder = options.run
        print(json.dumps(run_bare(Path(folder)) if what == "bare" else run_render(Path(folder), what)))
        return
    with tempfile.TemporaryDirectory(prefix="stembridge-", dir=options.folder) as name:
        figures = measure(Path(name), options.minutes, options.rounds)
    for label, value in figures.items():
        print(f"{value!s:>10}  {label}")
    write_report("remix", sys.argv, SEED, figures, options.json)


def measure(place: Path, minutes: list[int], rounds: int) -> dict[str, object]:
    """Return the figures of the report; see the module's docstring."""
    figures: dict[str, object] = {}
    memory = []
    for length in minutes:
        folder = make_set(place, length)
        label = f"{length} min of audio"
        if length == minutes[0]:
            # In turn, so that what else the machine does meets all of them.
            runs = [
                {what: in_fresh_process(what, folder) for what in ("bare", "alone", "stems")}
                for _ in range(rounds)
            ]
            seconds = {what: sorted(run[what]["s"] for run in runs)[rounds // 2] for what in runs[0]}
            for what, told in (("bare", "bare chains"), ("alone", "remix"), ("stems", "remix and stems")):
                figures[f"{label}: {told}, s"] = round(seconds[what], 1)
            for what, told in (("alone", "remix"), ("stems", "remix and stems")):
                figures[f"{label}: {told} over bare chains"] = round(seconds[what] / seconds["bare"], 2)
            memory.append(max(run["stems"]["memory_mb"] for run in runs))
        else:
            memory.append(in_fresh_process("stems", folder)["memory_mb"])
        figures[f"{label}: peak memory of the render, MB"] = round(memory[-1])
    figures["peak memory, longest over shortest"] = round(memory[-1] / memory[0], 3)
    return figures


def make_set(place: Path, minutes: int) -> Path:
    """Return the folder of a set of ``minutes`` minutes."""
    source = write_source(place / f"{minutes}.wav", minutes)
    result = run_to_end(run_split("set", SplitRequest(str(source), str(place), "shares"), FakeSeparator()))
    return Path(result.folder)


def in_fresh_process(what: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", what, str(folder)]
    environment = tuned_environment(os.environ)
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(found.stdout.splitlines()[-1]))


def run_render(folder: Path, what: str) -> dict[str, float]:
    """Render here, from the set to the published folder: seconds and peak memory."""
    with tempfile.TemporaryDirectory(prefix="out-", dir=folder.parent) as name:
        place = Path(name)
        preset = place / "four-chains.toml"
        preset.write_text(PRESET, encoding="utf-8")
        request = RemixRequest(str(folder), name, str(preset), stems_out=what == "stems")
        began = time.perf_counter()
        run_to_end(render_remix(request, "job", load_settings(home=place / "home", environ={})))
        return {"s": time.perf_counter() - began, "memory_mb": peak_memory_mb()}


def run_bare(folder: Path) -> dict[str, float]:
    """Run the same chains here with pedalboard alone: seconds."""
    from pedalboard import (
        Chorus,
        Compressor,
        HighpassFilter,
        HighShelfFilter,
        LowShelfFilter,
        PeakFilter,
        Pedalboard,
        Reverb,
    )

    boards = {
        "drums": (Pedalboard([Compressor(-24, 3), PeakFilter(3000, 2)]), 1.0),
        "bass": (Pedalboard([LowShelfFilter(120, 3), Compressor(-20, 2)]), 1.0),
        "other": (Pedalboard([HighShelfFilter(6000, -3), Chorus(mix=0.3)]), -2.0),
        "vocals": (Pedalboard([HighpassFilter(90), Compressor(-22, 3), Reverb()]), 2.0),
    }
    began = time.perf_counter()
    total = None
    for entry in read_manifest(folder).stems:
        samples, rate = soundfile.read(folder / entry.file, dtype="float32", always_2d=True)
        stem = np.ascontiguousarray(samples.T)
        if entry.name in boards:
            board, gain_db = boards[entry.name]
            stem = board(stem, rate) * np.float32(10 ** (gain_db / 20))
        total = stem if total is None else total + stem
    assert total is not None
    with tempfile.TemporaryDirectory(prefix="out-", dir=folder.parent) as name:
        soundfile.write(Path(name) / "sum.wav", total.T, rate, subtype="PCM_24")
    return {"s": time.perf_counter() - began, "memory_mb": peak_memory_mb()}


if __name__ == "__main__":
    main()
