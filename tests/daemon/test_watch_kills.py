"""A watcher killed again and again while files drop in: none read too early, none missed, none twice.

The size of a test; benchmarks/watch_soak.py does the same with 1,000 files. When a kill comes is drawn from a
seed: it meets a watcher that starts, scans, hashes, submits or follows jobs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon_harness import DaemonHarness
from drop_folders import NO_LEASE, DropFolder, Tally, kill_while_dropping
from drop_writers import STYLES, make_drops

COUNT = 9 * len(STYLES)
KILLS = 8


@pytest.mark.parametrize(
    ("seam", "seed"), [("", 1), (NO_LEASE, 2)], ids=["with the lease", "without the lease"]
)
def test_every_file_gets_one_whole_result_however_often_the_watcher_is_killed(
    daemon: DaemonHarness, tmp_path: Path, seam: str, seed: int
) -> None:
    daemon.start()
    drops = make_drops(seed, COUNT)
    with DropFolder(daemon.settings, tmp_path / "drop") as folder:
        found = kill_while_dropping(
            folder, tmp_path / "outside", drops, seed=seed, kills=KILLS, longest_s=3.5, writers=6, seam=seam
        )
    assert found == Tally(whole=COUNT)
