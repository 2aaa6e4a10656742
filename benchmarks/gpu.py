"""How much faster a GPU separates than stock Demucs does on it, at which agreement, and how near the limit.

One process, everything resident, called in turn: `demucs.apply.apply_model` as shipped; and the engine with
batches in full precision, in half, in half with CUDA graphs, and in half through torch.compile. Every call
goes from samples in the computer's memory to stems there. A ratio is the median of the rounds' own ratios.
Agreement is the worst stem's with stock's float32 forward, TF32 off, on the same segments. The limit is the
speed of a large matrix product in the same precision.

    python benchmarks/gpu.py [--seconds 240] [--rounds 5] [--json PATH]
    python benchmarks/gpu.py --device cpu --seconds 6 --small   (what needs no GPU: shows that this runs)
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.apply import apply_model

from engine import OVERLAP, SEED, ArrayReader, Audio, count_gflop, level
from report import write_report
from stembridge.synthesis import make_song
from stembridge.types import Precision
from stembridge_daemon.worker.forward.base import Forward, UnknownLayout
from stembridge_daemon.worker.forward.compiling import compile_forward
from stembridge_daemon.worker.forward.runner import Runner
from stembridge_daemon.worker.separators import engine
from stembridge_daemon.worker.separators.base import SeparationPlan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from model_files import official_htdemucs, small_htdemucs

STOCK = "stock"
FULL = "batches, full"
HALF = "batches, half"
GRAPHS = "batches, half, graphs"
COMPILED = "batches, half, compiled"
COLUMNS = (
    "way", "times real time", "stock over it", "SDR, dB", "peak memory, GiB", "segments at once", "TFLOP/s",
    "of the matrix peak, %",
)  # fmt: skip
COMPILE_TIMEOUT_S = 1800.0
MOST_SHAPES = 4
"""Batches of other sizes are compiled one after the other; a job has no more of them than this."""
RESULT = Path(__file__).parent / "results" / "gpu.json"

Separate = Callable[[Audio], Audio]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a small model: shows that this runs, no more")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    figures = measure(torch.device(options.device), options.seconds, options.rounds, is_small=options.small)
    for row in (figures["columns"], *figures["rows"]):
        print(" | ".join(row))
    print(figures["caption"])
    write_report("gpu", sys.argv, SEED, figures, options.json)


def measure(device: torch.device, seconds: float, rounds: int, *, is_small: bool) -> dict[str, Any]:
    """Return the figures of the report; see the module's docstring."""
    model = small_htdemucs(SEED) if is_small else official_htdemucs(SEED)
    gflop = count_gflop(model)
    audio = make_song(SEED, seconds=seconds).mixture.astype(np.float32)
    peaks = measure_peaks(device)
    ways: dict[str, Way] = {}
    told = []
    for name, options in plan_ways(device).items():
        way = Way(model, device, **options)
        if way.precision is Precision.HALF and (reason := way.refuse()):
            told.append(f"{name} was refused: {reason}.")
            continue
        way.warm_up(audio)
        ways[name] = way
    wanted = Way(model, device, build=know_nothing).separate(audio)
    sdr_db = {name: find_sdr_db(way.separate(audio), wanted) for name, way in ways.items()}
    calls: dict[str, Separate] = {STOCK: partial(separate_stock, model, device)}
    calls |= {name: way.separate for name, way in ways.items()}
    times_s = time_rounds(calls, audio, rounds)
    rows = [describe_stock(times_s[STOCK], seconds)]
    rows += [
        [name, *describe(way, times_s[name], times_s[STOCK], sdr_db[name], seconds, gflop, peaks)]
        for name, way in ways.items()
    ]
    told += sorted({remark for way in ways.values() for remark in way.remarks})
    size = "a small model" if is_small else "htdemucs of the official size"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"a {device.type}"
    caption = (
        f"On {where}: {seconds:g} s of audio, one process, called in turn, medians of {rounds} rounds, with "
        f"{size} and lively weights of seed {SEED}. Stock is `apply_model` as shipped, TF32 in its "
        "convolutions included. SDR is the worst stem's, against stock's float32 forward without TF32 on the "
        f"same segments. Here a matrix product reaches {peaks[Precision.FULL]:.2f} TFLOP/s in float32 and "
        f"{peaks[Precision.HALF]:.2f} in 16 bits; a segment counts {gflop:.1f} GFLOP. {' '.join(told)}"
    )
    ratios = {
        name: [round(stock / own, 3) for stock, own in zip(times_s[STOCK], times_s[name], strict=True)]
        for name in ways
    }
    return {
        "caption": caption.strip(),
        "columns": [*COLUMNS],
        "rows": rows,
        "ratios of the rounds": ratios,
    }


def plan_ways(device: torch.device) -> dict[str, dict[str, Any]]:
    """Return the ways that a device has, as arguments of `Way`; graphs and compiling are for CUDA alone."""
    half = {"precision": Precision.HALF}
    ways: dict[str, dict[str, Any]] = {FULL: {"is_graphing": False}, HALF: {**half, "is_graphing": False}}
    if device.type == "cuda":
        ways |= {GRAPHS: half, COMPILED: {**half, "compile_": compile_forward}}
    return ways


def know_nothing(module: torch.nn.Module, precision: Precision, device: torch.device) -> Forward:
    """Leave everything to stock's forward."""
    raise UnknownLayout("the yardstick")


class Way:
    """The engine over one runner, as `stembridge_daemon.worker.separators.demucs` puts them together."""

    def __init__(
        self, model: Any, device: torch.device, *, precision: Precision = Precision.FULL, **options: Any
    ) -> None:
        self.precision = precision
        self.remarks: set[str] = set()
        self.segments = 0
        self.peak_bytes = 0
        self._device = device
        self._reserved_bytes = reserve_nothing(device)
        self._model = model
        self._frames = model.valid_length(int(model.segment * model.samplerate))
        self._runner = Runner(
            model,
            name="htdemucs",
            channels=model.audio_channels,
            sources=len(model.sources),
            device=str(device),
            **options,
        )

    def refuse(self) -> str:
        return self._runner.refuse_half(self._frames)

    def limit(self) -> int:
        return self._runner.batch_limit(self._frames, self.precision)

    def warm_up(self, audio: Audio) -> None:
        """Separate until nothing is new: graphs are captured at the second call, shapes compiled in a row."""
        for _ in range(MOST_SHAPES if self._device.type == "cuda" else 1):
            self.separate(audio)
            if not self._runner.wait(COMPILE_TIMEOUT_S):
                raise RuntimeError(f"torch.compile took longer than {COMPILE_TIMEOUT_S:g} s")
        if self._device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_reserved(self._device) - self._reserved_bytes

    def separate(self, audio: Audio) -> Audio:
        """Return stems (sources, channels, frames)."""
        member = engine.EngineMember(
            partial(self._runner.run, precision=self.precision),
            int(self._model.segment * self._model.samplerate),
            self._model.valid_length,
            (1.0,) * len(self._model.sources),
            self.limit,
        )
        plan = SeparationPlan(tuple(self._model.sources), overlap=OVERLAP, precision=self.precision)
        wanted = engine.wanted_of(plan, self._model.sources)
        blocks = [*engine.separate([member], [ArrayReader(audio)], self._model.samplerate, wanted)]
        self.segments = len(blocks)
        self.remarks |= {remark for block in blocks for remark in block.remarks}
        return np.concatenate([block.stems for block in blocks], axis=2)


def reserve_nothing(device: torch.device) -> int:
    """Return the memory that torch holds when all that is not in use is given back; its peak starts there."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_reserved(device)


def separate_stock(model: Any, device: torch.device, audio: Audio) -> Audio:
    """Return stock's stems, by a call as `demucs.api.Separator` makes it (demucs 4.1.0)."""
    mixture = torch.from_numpy(audio)
    average = mixture.mean(0)
    mean, deviation = average.mean(), average.std() + 1e-8
    # A runner switches it off for the whole process.
    torch.backends.cudnn.allow_tf32 = True
    try:
        stems = apply_model(
            model, ((mixture - mean) / deviation)[None], shifts=1, split=True, overlap=OVERLAP, device=device
        )
    finally:
        torch.backends.cudnn.allow_tf32 = False
    restored: Audio = (stems[0] * deviation + mean).cpu().numpy()
    return restored


def find_sdr_db(found: Audio, wanted: Audio) -> float:
    """Return the worst stem's ratio of signal to difference."""
    error = np.sum((found.astype(np.float64) - wanted) ** 2, axis=(1, 2))
    worst = float(np.max(error / np.sum(wanted.astype(np.float64) ** 2, axis=(1, 2))))
    return -10 * math.log10(worst) if worst else math.inf


def time_rounds(calls: Mapping[str, Separate], audio: Audio, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every call by name; ours are warm, and stock's first one is not counted."""
    random.seed(SEED)
    calls[STOCK](audio)
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        # Now in one order, now in the other: who is heard after whom is the same for all.
        for name in [*calls][:: 1 if number % 2 == 0 else -1]:
            began = time.perf_counter()
            calls[name](audio)
            times_s[name].append(time.perf_counter() - began)
    return times_s


def describe_stock(times_s: Sequence[float], seconds: float) -> list[str]:
    return [STOCK, f"{seconds / statistics.median(times_s):.1f}", "1.00", *[""] * (len(COLUMNS) - 3)]


def describe(
    way: Way,
    times_s: Sequence[float],
    stock_s: Sequence[float],
    sdr_db: float,
    seconds: float,
    gflop: float,
    peaks: Mapping[Precision, float],
) -> list[str]:
    """Return a way's row behind its name."""
    median_s = statistics.median(times_s)
    tflops = way.segments * gflop / median_s / 1e3
    return [
        f"{seconds / median_s:.1f}",
        f"{statistics.median(stock / own for stock, own in zip(stock_s, times_s, strict=True)):.2f}",
        level(sdr_db),
        f"{way.peak_bytes / 2**30:.1f}" if way.peak_bytes else "",
        f"{way.limit()}",
        f"{tflops:.2f}",
        f"{100 * tflops / peaks[way.precision]:.0f}",
    ]


def measure_peaks(device: torch.device) -> dict[Precision, float]:
    """Return the best speed of a large matrix product by precision, in TFLOP/s; TF32 is off."""
    size = 8192 if device.type == "cuda" else 1024
    found = {}
    for precision, kinds in (
        (Precision.FULL, (torch.float32,)),
        (Precision.HALF, (torch.bfloat16, torch.float16)),
    ):
        best_s = min(time_product(kind, size, device) for kind in kinds)
        found[precision] = 2 * size**3 / best_s / 1e12
    return found


def time_product(kind: torch.dtype, size: int, device: torch.device) -> float:
    """Return the shortest time in which two square matrices were multiplied, in seconds."""
    square = torch.ones(size, size, dtype=kind, device=device)
    best_s = math.inf
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        square @ square
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best_s = min(best_s, time.perf_counter() - began)
    return best_s


if __name__ == "__main__":
    main()
