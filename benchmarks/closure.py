"""What the exact sum costs: closing and verifying four stems, and the memory of a whole split by its length.

Every length is split in a fresh process with a worker's environment: 24-bit, 48 kHz, stereo, four stems and
the residual. For times and memory the stems come from a generator that costs next to nothing; the time of a
real separation is that of htdemucs at its official size with seeded random weights, on the shortest length.
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

import soundfile

from report import write_report
from stembridge import catalog, model_store
from stembridge.synthesis import make_song
from stembridge.types import SplitRequest
from stembridge_daemon.supervisor import tuned_environment
from stembridge_daemon.worker.pipeline import run_split
from stembridge_daemon.worker.separators.base import Separator

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fakes import FakeSeparator

SEED = 5
RATE = 48_000
RESULT = Path(__file__).parent / "results" / "closure.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", nargs="+", type=int, default=[1, 60])
    parser.add_argument("--rounds", type=int, default=5, help="of the shortest length")
    parser.add_argument("--folder", type=Path, help="where there is room: about 12 GB for an hour")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--split", nargs=2, metavar=("MODEL", "SOURCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.split:
        print(json.dumps(measure_split(*options.split)))
        return
    with tempfile.TemporaryDirectory(prefix="stembridge-", dir=options.folder) as name:
        figures = measure(Path(name), options.minutes, options.rounds)
    for label, value in figures.items():
        print(f"{value!s:>10}  {label}")
    write_report("closure", sys.argv, SEED, figures, options.json)


def measure(place: Path, minutes: list[int], rounds: int) -> dict[str, object]:
    """Return the figures of the report; see the module's docstring."""
    # Here alone: the processes that are measured do not load torch for it.
    from model_files import official_htdemucs, write_safetensors

    write_safetensors(official_htdemucs(), place, "955717e8")
    figures: dict[str, object] = {}
    memory = []
    for length in minutes:
        source = write_source(place / f"{length}.wav", length)
        runs = [in_fresh_process("shares", source) for _ in range(rounds if length == minutes[0] else 1)]
        closing = sorted(run["close_s"] + run["verify_s"] for run in runs)[len(runs) // 2]
        memory.append(max(run["memory_mb"] for run in runs))
        label = f"{length} min of audio"
        figures[f"{label}: close and verify, s per minute"] = round(closing / length, 2)
        figures[f"{label}: peak memory of the worker, MB"] = round(memory[-1])
        if length == minutes[0]:
            real = in_fresh_process("htdemucs", source)
            figures[f"{label}: htdemucs, s"] = round(real["separate_s"], 1)
            share = 100 * (real["close_s"] + real["verify_s"]) / real["separate_s"]
            figures[f"{label}: close and verify as a share of htdemucs, %"] = round(share, 2)
        source.unlink()
    figures["peak memory, longest over shortest"] = round(memory[-1] / memory[0], 3)
    return figures


def write_source(path: Path, minutes: int) -> Path:
    """Write one synthetic minute again and again, as a 24-bit WAV of 48 kHz."""
    minute = make_song(SEED, seconds=60.0, sample_rate=RATE).mixture.T
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_24", format="RF64") as file:
        for _ in range(minutes):
            file.write(minute)
    return path


def in_fresh_process(model: str, source: Path) -> dict[str, float]:
    """Return what `measure_split` finds in a process of its own."""
    command = [sys.executable, __file__, "--split", model, str(source)]
    environment = tuned_environment(os.environ)
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(found.stdout.splitlines()[-1]))


def measure_split(model: str, source: str) -> dict[str, float]:
    """Split ``source`` here and return the seconds of its stages and the peak memory of this process."""
    place = Path(source).parent
    with tempfile.TemporaryDirectory(prefix="out-", dir=place) as out:
        steps = run_split("job", SplitRequest(source, out, model), load_separator(model, place))
        ends: dict[str, float] = {}
        while True:
            try:
                ends[next(steps).stage] = time.perf_counter()
            except StopIteration as stop:
                return {
                    "separate_s": stop.value.separate_s,
                    "close_s": ends["close"] - ends["separate"],
                    "verify_s": ends["verify"] - ends["close"],
                    "memory_mb": peak_memory_mb(),
                }


def load_separator(model: str, folder: Path) -> Separator:
    if model == "shares":
        return FakeSeparator()
    from stembridge_daemon.worker.separating import ResidentModels

    found = model_store.locate(catalog.find_model(model), [folder])
    assert found is not None
    return ResidentModels("cpu", threads=0).get(found, ())


def peak_memory_mb(pid: int | None = None) -> float:
    """Return the largest resident size that a process, or this one, has had (Linux: VmHWM)."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
