"""What a watched folder costs: seconds until a finished file is at the daemon, a backlog, an idle minute.

The latency is from the return of `close` in the program that wrote a file to the daemon's acceptance of its
job, less the quiet time that the rules ask for. The backlog is of small files that lie there when the watcher
starts; its rate of splits is held against that of a client that submits such files itself. Idle is a watcher
whose folder holds the whole backlog, done.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from report import write_report
from stembridge.client import Client
from stembridge.types import SplitRequest
from stembridge.watch.settling import SettleRules

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from daemon_harness import DaemonHarness, wait_until
from drop_folders import DropFolder
from drop_writers import encode_noise

FRAMES = 4_410
ALONE = 200
RESULT = Path(__file__).parent / "results" / "watch.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--backlog", type=int, default=5000)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stembridge-") as name:
        place = Path(name)
        daemon = DaemonHarness(place / "home")
        try:
            daemon.start()
            with daemon.client() as client:
                figures: dict[str, object] = dict(time_latency(daemon, client, place, options.rounds))
                alone = time_client(client, place, min(ALONE, options.backlog))
            figures |= time_backlog(daemon, place, options.backlog, alone, options.idle_s)
        finally:
            daemon.close()
    for figure, value in figures.items():
        print(f"{value!s:>10}  {figure}")
    write_report("watch", sys.argv, None, figures, options.json)


def time_latency(daemon: DaemonHarness, client: Client, place: Path, rounds: int) -> dict[str, float]:
    """Return median and worst of the milliseconds that a single file waits beyond its quiet time."""
    added_ms = []
    with DropFolder(daemon.settings, place / "single") as folder:
        folder.start()
        for index in range(rounds):
            content, _ = encode_noise(index, FRAMES)
            (folder.root / f"take {index}.wav").write_bytes(content)
            closed = time.time()
            wait_until(lambda wanted=index + 1: folder.count_jobs() == wanted, "the job")  # type: ignore[misc]
            (job,) = client.jobs(limit=1, prefix="w-")
            added_ms.append((job.created - closed - SettleRules().closed_quiet_s) * 1000)
            client.wait(job.id)
    return {
        "file closed to job accepted beyond the quiet time, median ms": round(statistics.median(added_ms), 1),
        "file closed to job accepted beyond the quiet time, worst ms": round(max(added_ms), 1),
    }


def time_client(client: Client, place: Path, files: int) -> float:
    """Return how many small files a second are split for a client that always has one more waiting."""
    folder = place / "alone"
    folder.mkdir()
    for index in range(files):
        (folder / f"{index}.wav").write_bytes(encode_noise(1_000_000 + index, FRAMES)[0])
    requests = [SplitRequest(str(folder / f"{i}.wav"), str(folder / "out"), "preview") for i in range(files)]
    started = time.monotonic()
    ids = [client.submit(request).id for request in requests[:2]]
    for request in (*requests[2:], None, None):
        client.wait(ids.pop(0))
        if request is not None:
            ids.append(client.submit(request).id)
    return files / (time.monotonic() - started)


def time_backlog(
    daemon: DaemonHarness, place: Path, files: int, alone: float, idle_s: float
) -> dict[str, float]:
    """Return how fast a backlog is found and split, and what its watcher takes when all is done.

    Parameters
    ----------
    alone : files per second of a client without a watcher
    """
    with DropFolder(daemon.settings, place / "backlog") as folder:
        for index in range(files):
            (folder.root / f"take {index}.wav").write_bytes(encode_noise(2_000_000 + index, FRAMES)[0])
        started = time.monotonic()
        watcher = folder.start(is_awaited=False)
        folder.wait_until(lambda: folder.count_found() == files, "the backlog in the ledger", 600)
        found_s = time.monotonic() - started
        folder.wait_for_results(files, 1.0 * files + 60.0)
        split_s = time.monotonic() - started
        folder.wait_until(lambda: _count_done(folder) == files, "the last file to be called done", 60)
        before = _cpu_seconds(watcher.pid)
        folder.run_for(idle_s)
        assert not folder.is_ended()
        idle = (_cpu_seconds(watcher.pid) - before) / idle_s
    return {
        f"backlog of {files}: found, files per s, start and quiet time included": round(files / found_s, 1),
        f"backlog of {files}: split, files per s": round(files / split_s, 2),
        "a client alone: split, files per s": round(alone, 2),
        f"idle over {files} done files, % of a core": round(100 * idle, 2),
    }


def _count_done(folder: DropFolder) -> int:
    status = folder.status()
    return status.counts.get("done", 0) if status is not None else 0


def _cpu_seconds(pid: int) -> float:
    """Return the seconds of user and system time that a process has taken (Linux: proc(5), fields 14, 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
