"""How much faster the engine separates than stock Demucs, at which agreement, and how near the limit.

Two resident processes with the same model file and as many threads, called in turn and never together:
`demucs.apply.apply_model` as shipped in a plain environment, and the separator as a worker has it, in a
worker's environment. A ratio is the median of the rounds' own ratios. The model is htdemucs of the official
size with lively seeded weights. Agreement is the worst stem's with stock's float32 forward on the same
segments. The limit is the matrix speed of the second process; a segment counts as many operations as stock
needs for it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from report import write_report
from stembridge import catalog, model_store
from stembridge.synthesis import make_song
from stembridge.types import Precision
from stembridge_daemon.supervisor import tuned_environment

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SEED = 5
MODEL = "htdemucs"
SIGNATURE = "955717e8"
OVERLAP = 0.25
STOCK = "stock"
OURS = "ours"
IMPULSE = "impulse"
MATRIX = 2048
COLUMNS = (
    "item", "precision", "CPU time, stock over ours", "wall, stock over ours", "SDR of a song, dB",
    "SDR of an impulse, dB", "segments", "GFLOP/s", "of the matrix peak, %",
)  # fmt: skip
RESULT = Path(__file__).parent / "results" / "engine.json"

Audio = NDArray[np.float32]
Answer = dict[str, Any]
Round = dict[str, Answer]
"""What all sides answered to the same call: `STOCK`, and ours by precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", nargs="+", type=float, default=[5.0, 30.0], help="lengths in s")
    parser.add_argument("--modes", nargs="+", type=Precision, choices=[*Precision], default=[*Precision])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a small model: shows that this runs, no more")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--serve", nargs=3, metavar=("SIDE", "FOLDER", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        side, folder, threads = options.serve
        serve(Stock(Path(folder)) if side == STOCK else Ours(Path(folder), int(threads)))
        return
    with tempfile.TemporaryDirectory(prefix="stembridge-") as name:
        figures = measure(Path(name), options)
    for row in (figures["columns"], *figures["rows"]):
        print(" | ".join(row))
    print(figures["caption"])
    write_report("engine", sys.argv, SEED, figures, options.json)


def measure(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the report; see the module's docstring."""
    seconds = sorted(options.items)
    items = [f"{length:g} s" for length in seconds]
    for item, length in zip(items, seconds, strict=True):
        np.save(place / f"{item}.npy", make_song(SEED, seconds=length).mixture.astype(np.float32))
    np.save(place / f"{IMPULSE}.npy", make_impulse(seconds[0]))
    gflop = count_gflop(write_model(place, is_small=options.small))
    with Resident(STOCK, place, 0, plain_environment()) as stock:
        threads = stock.ask("threads")["threads"]
        with Resident(OURS, place, threads, tuned_environment(os.environ)) as ours:
            peaks = [ours.ask("peaks")]
            reasons = {mode: ours.ask("choose", precision=mode)["reason"] for mode in options.modes}
            modes = [mode for mode, reason in reasons.items() if not reason]
            sdr_db = measure_agreement(stock, ours, place, [*items, IMPULSE], modes)
            rounds = time_rounds(make_calls(stock, ours, modes), items, options.rounds)
            peaks.append(ours.ask("peaks"))
    peak = {precision: max(one[precision] for one in peaks) for precision in peaks[0]}
    rows = [
        [item, side, *describe(rounds[item], side, gflop, peak, sdr_db, item)]
        for item in items
        for side in (STOCK, *modes)
    ]
    told = [f"`{mode}` was refused: {reason}." for mode, reason in reasons.items() if reason]
    answers = [answer for item in items for one in rounds[item] for answer in one.values()]
    told += sorted({remark for answer in answers for remark in answer["remarks"]})
    size = "a small model" if options.small else "htdemucs of the official size"
    caption = (
        f"Two resident processes with {threads} threads each, called in turn; medians of the ratios of "
        f"{options.rounds} rounds, with {size} and lively weights of seed {SEED}. Stock is `apply_model` as "
        "shipped, in a plain environment. SDR is the worst stem's, against stock's float32 forward on the "
        f"same segments; the impulse stands alone in {items[0]} of silence. Here a matrix product reaches "
        f"{peak[Precision.FULL]:.0f} GFLOP/s in float32 and {peak[Precision.HALF]:.0f} in bfloat16; a "
        f"segment counts {gflop:.1f} GFLOP. {' '.join(told)}".strip()
    )
    ratios = {
        f"{item}, {mode}, {kind}": [round(ratio, 3) for ratio in ratios_of(rounds[item], mode, kind)]
        for item in items
        for mode in modes
        for kind in ("cpu_s", "wall_s")
    }
    return {"caption": caption, "columns": [*COLUMNS], "rows": rows, "ratios of the rounds": ratios}


def write_model(place: Path, *, is_small: bool) -> Any:
    """Write the model file that both sides load, and return the model."""
    # Here alone: the processes that are measured load no more than they need.
    from model_files import official_htdemucs, small_htdemucs, write_th

    model = small_htdemucs(SEED) if is_small else official_htdemucs(SEED)
    write_th(model, place, SIGNATURE)
    return model


def make_impulse(seconds: float) -> Audio:
    """Return silence with one sample in its middle: the hardest input for 16 bits."""
    audio = np.zeros((2, round(seconds * catalog.SAMPLE_RATE)), np.float32)
    audio[:, audio.shape[1] // 2] = 0.5
    return audio


def count_gflop(model: Any) -> float:
    """Return the operations of one segment in stock's forward, attention's two products included."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    segment = torch.zeros(1, model.audio_channels, int(model.samplerate * model.segment))
    # The counter does not see into a fused layer or a fused attention.
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(segment)
    return float(counter.get_total_flops()) / 1e9


def plain_environment() -> dict[str, str]:
    """Return this process's environment without anything that a worker is given on top."""
    return {name: value for name, value in os.environ.items() if name not in tuned_environment({})}


def measure_agreement(
    stock: Resident, ours: Resident, place: Path, items: Sequence[str], modes: Sequence[Precision]
) -> dict[tuple[str, str], float]:
    """Return the worst stem's SDR by item and mode, in dB."""
    found = {}
    for item in items:
        stock.ask("save", item=item, path=str(place / "stock stems.npy"))
        want = np.load(place / "stock stems.npy").astype(np.float64)
        for mode in modes:
            ours.ask("save", item=item, precision=mode, path=str(place / "our stems.npy"))
            error = np.sum((np.load(place / "our stems.npy") - want) ** 2, axis=(1, 2))
            worst = float(np.max(error / np.sum(want**2, axis=(1, 2))))
            found[item, str(mode)] = -10 * math.log10(worst) if worst else math.inf
    return found


def make_calls(
    stock: Resident, ours: Resident, modes: Sequence[Precision]
) -> dict[str, Callable[[str], Answer]]:
    """Return for every side what separates an item with it."""
    calls: dict[str, Callable[[str], Answer]] = {STOCK: lambda item: stock.ask("separate", item=item)}
    for mode in modes:
        calls[mode] = lambda item, mode=mode: ours.ask(  # type: ignore[misc]
            "separate", item=item, precision=mode
        )
    return calls


def time_rounds(
    calls: Mapping[str, Callable[[str], Answer]], items: Sequence[str], rounds: int
) -> dict[str, list[Round]]:
    """Return the answers of every round by item, after a call of each that is not counted."""
    began = time.perf_counter()
    for item in items:
        for call in calls.values():
            call(item)
    left_s = rounds * (time.perf_counter() - began)
    print(f"{rounds} rounds: about {left_s / 60:.1f} min from here", file=sys.stderr)
    found: dict[str, list[Round]] = {item: [] for item in items}
    for number in range(rounds):
        # Now in one order, now in the other: who is heard after whom is the same for all.
        sides = [*calls][:: 1 if number % 2 == 0 else -1]
        for item in items:
            found[item].append({side: calls[side](item) for side in sides})
    return found


def ratios_of(rounds: Sequence[Round], side: str, kind: str) -> list[float]:
    """Return stock's time over the side's in every round; ``kind`` is 'cpu_s' or 'wall_s'."""
    return [one[STOCK][kind] / one[side][kind] for one in rounds]


def describe(
    rounds: Sequence[Round],
    side: str,
    gflop: float,
    peak: Mapping[str, float],
    sdr_db: Mapping[tuple[str, str], float],
    item: str,
) -> list[str]:
    """Return the row of one item and side behind its first two columns."""
    segments = statistics.median(one[side]["segments"] for one in rounds)
    gflops = segments * gflop / statistics.median(one[side]["wall_s"] for one in rounds)
    limit = peak[Precision.HALF if side == Precision.HALF else Precision.FULL]
    return [
        *(f"{statistics.median(ratios_of(rounds, side, kind)):.2f}" for kind in ("cpu_s", "wall_s")),
        *("" if side == STOCK else level(sdr_db[what, side]) for what in (item, IMPULSE)),
        f"{segments:g}",
        f"{gflops:.0f}",
        f"{100 * gflops / limit:.0f}",
    ]


def level(sdr_db: float) -> str:
    return "exact" if math.isinf(sdr_db) else f"{sdr_db:.1f}"


class Resident:
    """A process that has a model loaded and answers one order at a time, a line of JSON each."""

    def __init__(self, side: str, place: Path, threads: int, environment: Mapping[str, str]) -> None:
        command = [sys.executable, __file__, "--serve", side, str(place), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment)
        )

    def __enter__(self) -> Resident:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def ask(self, what: str, **details: str) -> Answer:
        """Return the answer to an order; it waits as long as that takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": what, **details}).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a measured process ended at the order {what!r}; its last words stand above")
        return dict(json.loads(line))


class Side(Protocol):
    def answer(self, what: str, details: Mapping[str, str]) -> Answer: ...


def serve(side: Side) -> None:
    """Answer the orders that come over stdin, until there are no more."""
    from stembridge_daemon.worker.main import take_over_stdout

    with take_over_stdout() as pipe:
        for line in sys.stdin:
            order = json.loads(line)
            pipe.write(json.dumps(side.answer(order.pop("do"), order)).encode() + b"\n")
            pipe.flush()


def timed(separate: Callable[[], Answer]) -> Answer:
    """Return what ``separate`` answers, with the seconds that it took on the clock and on all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = separate()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, **answer}


class Stock:
    """Stock Demucs, loaded and called as `demucs.api.Separator` does it (demucs 4.1.0)."""

    def __init__(self, place: Path) -> None:
        from demucs.states import load_model

        (path,) = place.glob(f"{SIGNATURE}*.th")
        self._place = place
        self._model: Any = load_model(path).eval()
        self._passes = 0
        self._model.register_forward_hook(self._count_pass)
        random.seed(SEED)

    def answer(self, what: str, details: Mapping[str, str]) -> Answer:
        import torch

        if what == "threads":
            return {"threads": torch.get_num_threads()}
        audio = np.load(self._place / f"{details['item']}.npy")
        if what == "save":
            np.save(details["path"], self._separate_on_our_segments(audio))
            return {}
        self._passes = 0
        answer = timed(lambda: self._separate(audio))
        return {**answer, "segments": self._passes}

    def _count_pass(self, *_: object) -> None:
        self._passes += 1

    def _separate(self, audio: Audio) -> Answer:
        from demucs.apply import apply_model

        normal, mean, deviation = self._normalise(audio)
        stems = apply_model(self._model, normal, shifts=1, split=True, overlap=OVERLAP)
        stems = stems * deviation + mean
        assert stems.shape[-1] == audio.shape[1]
        return {"remarks": []}

    def _separate_on_our_segments(self, audio: Audio) -> Audio:
        """Return stems of the fewest segments that overlap as asked, the last one flush with the end."""
        import torch
        from demucs.apply import TensorChunk, apply_model

        normal, mean, deviation = self._normalise(audio)
        frames, segment = audio.shape[1], int(self._model.samplerate * self._model.segment)
        stride, last = int((1 - OVERLAP) * segment), max(0, frames - segment)
        rising = torch.arange(1, segment // 2 + 1, dtype=torch.float64)
        triangle = torch.cat([rising, torch.arange(segment - segment // 2, 0, -1, dtype=torch.float64)])
        stems = torch.zeros(len(self._model.sources), audio.shape[0], frames, dtype=torch.float64)
        weights = torch.zeros(frames, dtype=torch.float64)
        for start in (*range(0, last, stride), last):
            chunk = TensorChunk(normal, start, segment)
            answer = apply_model(self._model, chunk, shifts=0, split=False)[0]
            weight = triangle[: answer.shape[-1]]
            stems[..., start : start + segment] += weight * answer
            weights[start : start + segment] += weight
        restored: Audio = (stems / weights * deviation + mean).float().numpy()
        return restored

    def _normalise(self, audio: Audio) -> tuple[Any, Any, Any]:
        import torch

        mixture = torch.from_numpy(audio)
        average = mixture.mean(0)
        mean, deviation = average.mean(), average.std() + 1e-8
        return ((mixture - mean) / deviation)[None], mean, deviation


class Ours:
    """The separator as a worker loads and keeps it."""

    def __init__(self, place: Path, threads: int) -> None:
        from stembridge_daemon.worker.separating import ResidentModels

        found = model_store.locate(catalog.find_model(MODEL), [place])
        assert found is not None
        self._place = place
        self._separator = ResidentModels("cpu", threads=threads).get(found, ())
        self._separator.warm_up()

    def answer(self, what: str, details: Mapping[str, str]) -> Answer:
        if what == "peaks":
            return measure_peaks()
        precision = Precision(details["precision"])
        if what == "choose":
            return {"reason": self._separator.choose_precision(precision).reason}
        audio = np.load(self._place / f"{details['item']}.npy")
        if what == "save":
            np.save(details["path"], self._separate(audio, precision)["stems"])
            return {}
        answer = timed(lambda: self._separate(audio, precision))
        del answer["stems"]
        return answer

    def _separate(self, audio: Audio, precision: Precision) -> Answer:
        from stembridge_daemon.worker.separators.base import SeparationPlan

        reader = ArrayReader(audio)
        plan = SeparationPlan(self._separator.sources, overlap=OVERLAP, precision=precision)
        blocks = [*self._separator.separate([reader], plan)]
        stems = np.concatenate([block.stems for block in blocks], axis=2)
        assert stems.shape[2] == reader.frames
        remarks = sorted({remark for block in blocks for remark in block.remarks})
        return {"stems": stems, "segments": len(blocks), "remarks": remarks}


class ArrayReader:
    """A mixture in memory, as `stembridge_daemon.worker.separators.base.MixtureReader` has it."""

    def __init__(self, audio: Audio) -> None:
        average = audio.mean(axis=0, dtype=np.float64)
        self.channels, self.frames = audio.shape
        self.mean, self.deviation = float(average.mean()), float(average.std(ddof=1))
        self._audio = audio

    def read(self, start: int, frames: int) -> Audio:
        heard = np.zeros((self.channels, frames), np.float32)
        first, end = max(0, start), max(0, min(self.frames, start + frames))
        heard[:, first - start : max(first, end) - start] = self._audio[:, first:end]
        return heard


def measure_peaks() -> dict[str, float]:
    """Return the best speed of a large matrix product by precision, in GFLOP/s."""
    import torch

    found = {}
    for precision, kind in ((Precision.FULL, torch.float32), (Precision.HALF, torch.bfloat16)):
        square = torch.ones(MATRIX, MATRIX, dtype=kind)
        product = torch.empty_like(square)
        best_s = math.inf
        for _ in range(30):
            began = time.perf_counter()
            torch.matmul(square, square, out=product)
            best_s = min(best_s, time.perf_counter() - began)
        found[str(precision)] = 2 * MATRIX**3 / best_s / 1e9
    return found


if __name__ == "__main__":
    main()
