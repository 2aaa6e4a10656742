"""A watched folder under attack: what became of each file, however often its watcher was killed.

Files drop in, in all styles of tests/drop_writers.py, a fifth under names that are trouble, while the watcher
is ended by `kill -9` again and again; with and without the probe that tells who has a file open. Every result
is read back and summed. Then many files drop while a watcher is stopped, so that the system throws its events
away, and it is timed until the ledger has all of them.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from report import write_report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from daemon_harness import DaemonHarness
from drop_folders import NO_LEASE, DropFolder, kill_while_dropping
from drop_writers import STYLES, encode_noise, make_drops

WRITERS = 12
LONGEST_S = 8.0
FOLDERS = 50
FRAMES = 200
RESULT = Path(__file__).parent / "results" / "watch_soak.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--burst", type=int, default=20_000)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    figures: dict[str, object] = {}
    is_clean = True
    for probe, seam in (("with the lease", ""), ("without the lease", NO_LEASE)):
        total = Counter[str]()
        for seed in options.seeds:
            found = run_kills(seed, options.files, options.kills, seam)
            print(f"seed {seed}, {probe}: {found}", flush=True)
            total.update(found)
        is_clean &= total["whole"] == options.files * len(options.seeds) and total.total() == total["whole"]
        name = (
            f"{options.files} files in {len(STYLES)} styles x {len(options.seeds)} seeds, "
            f"{options.kills} kills each, {probe}"
        )
        figures[name] = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in total.items())
    if options.burst:
        taken_s = time_burst(options.burst)
        figures[f"{options.burst} files dropped while stopped: all found after, s"] = round(taken_s, 1)
    for name, value in figures.items():
        print(f"{value!s:>10}  {name}")
    write_report("watch_soak", sys.argv, options.seeds, figures, options.json)
    return 0 if is_clean else 1


def run_kills(seed: int, files: int, kills: int, seam: str) -> dict[str, int]:
    """Return what became of ``files`` drops, counted by the names of `drop_folders.Tally`."""
    with tempfile.TemporaryDirectory(prefix="stembridge-") as place:
        daemon = DaemonHarness(Path(place) / "home")
        try:
            daemon.start()
            with DropFolder(daemon.settings, Path(place) / "drop") as folder:
                found = kill_while_dropping(
                    folder,
                    Path(place) / "outside",
                    make_drops(seed, files),
                    seed=seed,
                    kills=kills,
                    longest_s=LONGEST_S,
                    writers=WRITERS,
                    seam=seam,
                )
            return asdict(found)
        finally:
            daemon.close()


def time_burst(files: int) -> float:
    """Return the seconds from a stopped watcher's going on until its ledger has all that came meanwhile."""
    with tempfile.TemporaryDirectory(prefix="stembridge-") as place:
        daemon = DaemonHarness(Path(place) / "home")
        try:
            daemon.start()
            with DropFolder(daemon.settings, Path(place) / "drop") as folder:
                watcher = folder.start()
                os.kill(watcher.pid, signal.SIGSTOP)
                drop_many(folder.root, range(files))
                os.kill(watcher.pid, signal.SIGCONT)
                started = time.monotonic()
                folder.wait_until(lambda: folder.count_found() >= files, f"{files} files in the ledger", 600)
                return time.monotonic() - started
        finally:
            daemon.close()


def drop_many(root: Path, seeds: Sequence[int]) -> None:
    """Write a small file for each seed, no two alike, half of them in `FOLDERS` folders of their own."""
    for seed in seeds:
        folder = root / f"set {seed % FOLDERS}" if seed % 2 else root
        folder.mkdir(exist_ok=True)
        (folder / f"take {seed}.wav").write_bytes(encode_noise(seed, FRAMES)[0])


if __name__ == "__main__":
    sys.exit(main())
