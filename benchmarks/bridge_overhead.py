"""What the bridge adds: a warm round trip of an empty request, and a split's time outside its separator.

The split is of a 30 s song (16-bit, 44.1 kHz, stereo, four stems and the residual), timed at the client
from the submit to the event `done`; the separator's own time comes from the job. `htdemucs` is of the
official size with seeded random weights, written where the benchmark runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from report import write_report
from stembridge.client import Client
from stembridge.settings import load_settings
from stembridge.synthesis import make_song
from stembridge.types import SplitRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from model_files import official_htdemucs, write_safetensors

SECONDS = 30.0
SEED = 5
RESULT = Path(__file__).parent / "results" / "bridge_overhead.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["preview", "htdemucs"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pings", type=int, default=5000)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stembridge-") as folder:
        place = Path(folder)
        settings = load_settings(home=place / "home", environ={})
        song = make_song(SEED, seconds=SECONDS)
        soundfile.write(place / "song.wav", song.mixture.T, song.sample_rate, subtype="PCM_16")
        if "htdemucs" in options.models:
            settings.model_dirs[0].mkdir(parents=True)
            write_safetensors(official_htdemucs(), settings.model_dirs[0], "955717e8")
        with Client(settings) as client:
            figures: dict[str, object] = dict(round_trip(client, options.pings))
            for model in options.models:
                request = SplitRequest(str(place / "song.wav"), str(place / "out"), model)
                figures |= split_overhead(client, request, options.rounds)
            client.stop(0.0)
            while settings.connection_file.exists():
                time.sleep(0.01)
    for name, value in figures.items():
        print(f"{value!s:>10}  {name}")
    write_report("bridge_overhead", sys.argv, SEED, figures, options.json)


def round_trip(client: Client, pings: int) -> dict[str, float]:
    """Return the median and 99th percentile of an empty request's round trip, in milliseconds."""
    client.ping()
    taken = []
    for _ in range(pings):
        started = time.perf_counter()
        client.ping()
        taken.append((time.perf_counter() - started) * 1000)
    cuts = statistics.quantiles(taken, n=100)
    return {"empty request, p50 ms": round(cuts[49], 3), "empty request, p99 ms": round(cuts[98], 3)}


def split_overhead(client: Client, request: SplitRequest, rounds: int) -> dict[str, float]:
    """Return medians of the separator's seconds, the bridge's seconds beside it, and their ratio."""
    client.wait(client.submit(request).id)
    separate, added = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        job = client.wait(client.submit(request, watch=True).id)
        wall = time.perf_counter() - started
        assert job.result is not None
        separate.append(job.result.separate_s)
        added.append(wall - job.result.separate_s)
    name = request.model
    share = statistics.median(part / whole for part, whole in zip(added, separate, strict=True))
    return {
        f"{name}: separator, s": round(statistics.median(separate), 2),
        f"{name}: bridge beside it, s": round(statistics.median(added), 3),
        f"{name}: bridge as a share of the separator, %": round(100 * share, 2),
    }


if __name__ == "__main__":
    main()
