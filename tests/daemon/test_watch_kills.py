"""A watcher killed again and again while files drop in: none read too early, none missed, none twice.

The size of a test; benchmarks/watch_soak.py does the same with 1,000 files. When a kill comes is drawn from a
seed: it meets a watcher that starts, scans, hashes, submits or follows jobs.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from daemon_harness import DaemonHarness
from drop_folders import NO_LEASE, DropFolder, Onlooker, Tally
from drop_writers import STYLES, Writers, make_drops

COUNT = 11 * len(STYLES)
KILLS = 8


@pytest.mark.parametrize(
    ("seam", "seed"), [("", 1), (NO_LEASE, 2)], ids=["with the lease", "without the lease"]
)
def test_every_file_gets_one_whole_result_however_often_the_watcher_is_killed(
    daemon: DaemonHarness, tmp_path: Path, seam: str, seed: int
) -> None:
    daemon.start()
    drops = make_drops(seed, COUNT)
    draw = random.Random(seed)
    with (
        DropFolder(daemon.settings, tmp_path / "drop") as folder,
        Onlooker(folder) as onlooker,
        Writers(folder.root, tmp_path / "outside", drops, count=16) as writers,
    ):
        for kill in range(KILLS):
            folder.start(seam=seam, is_awaited=kill % 4 > 0)
            folder.run_for(draw.uniform(0.2, 2.2))
            folder.kill()
        folder.start(seam=seam)
        writers.finish(60)
        folder.wait_for_results(COUNT)
        assert folder.stop() == 0
        assert folder.finish(seam=seam) == 0
        assert folder.tally(drops, onlooker) == Tally(whole=COUNT)
