"""The largest memory of a worker by the length of what it separates, each length in a worker of its own.

A real daemon splits a 24-bit, 48 kHz, stereo source into four stems and the residual with htdemucs of the
official size (lively seeded weights); the memory is the worker's resident peak, VmHWM (Linux). A minute of
audio takes a minute's worth of separating: what is left is told on stderr after the shortest length.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from closure import peak_memory_mb, write_source
from engine import MODEL, SEED, SIGNATURE
from report import write_report
from stembridge.client import Client
from stembridge.manifest import read_manifest
from stembridge.settings import Settings, load_settings
from stembridge.types import Precision, SplitRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

RESULT = Path(__file__).parent / "results" / "engine_memory.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", nargs="+", type=int, default=[1, 10, 40])
    parser.add_argument("--precision", type=Precision, choices=[*Precision], default=Precision.FULL)
    parser.add_argument("--small", action="store_true", help="a small model: shows that this runs, no more")
    parser.add_argument("--folder", type=Path, help="where there is room: about 6 GB for 40 minutes")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stembridge-", dir=options.folder) as name:
        figures = measure(Path(name), sorted(options.minutes), options.precision, is_small=options.small)
    for label, value in figures.items():
        print(f"{value!s:>10}  {label}")
    write_report("engine_memory", sys.argv, SEED, figures, options.json)


def measure(place: Path, minutes: list[int], precision: Precision, *, is_small: bool) -> dict[str, object]:
    """Return the figures of the report; see the module's docstring."""
    settings = load_settings(home=place / "home", environ={})
    write_model(settings, is_small=is_small)
    figures: dict[str, object] = {}
    memory_mb = []
    began = time.perf_counter()
    for length in minutes:
        memory_mb.append(split_in_fresh_worker(place, settings, length, precision))
        figures[f"{length} min, {precision}: peak memory of the worker, MB"] = round(memory_mb[-1])
        print(f"{length} min of audio: {memory_mb[-1]:.0f} MB", file=sys.stderr)
        if length == minutes[0]:
            left = (time.perf_counter() - began) * sum(minutes[1:]) / length
            print(f"about {left / 60:.0f} min from here", file=sys.stderr)
    figures[f"{precision}: peak memory, longest over shortest"] = round(memory_mb[-1] / memory_mb[0], 3)
    return figures


def write_model(settings: Settings, *, is_small: bool) -> None:
    from model_files import official_htdemucs, small_htdemucs, write_safetensors

    settings.model_dirs[0].mkdir(parents=True)
    model = small_htdemucs(SEED) if is_small else official_htdemucs(SEED)
    write_safetensors(model, settings.model_dirs[0], SIGNATURE)


def split_in_fresh_worker(place: Path, settings: Settings, minutes: int, precision: Precision) -> float:
    """Return the peak memory in MB of a worker that splits one source of so many minutes and nothing else.

    Its files are removed; the daemon has ended when this returns.
    """
    source = write_source(place / f"{minutes}.wav", minutes)
    with tempfile.TemporaryDirectory(prefix="out-", dir=place) as out, Client(settings) as client:
        try:
            request = SplitRequest(str(source), out, MODEL, precision=precision)
            result = client.wait(client.submit(request).id).result
            assert result is not None
            used = read_manifest(Path(result.folder)).model.precision
            assert used == precision.value, f"computed in {used}: {'; '.join(result.warnings)}"
            worker = client.status().workers[0]
            assert worker.starts == 1
            assert worker.pid is not None
            memory_mb = peak_memory_mb(worker.pid)
        finally:
            client.stop(0.0)
            while settings.connection_file.exists():
                time.sleep(0.01)
    source.unlink()
    return memory_mb


if __name__ == "__main__":
    main()
