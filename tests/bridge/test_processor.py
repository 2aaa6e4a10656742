"""How many threads a worker computes with: by setting, by cores, by what this process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stembridge import processor
from stembridge.processor import count_cores, count_threads


@pytest.mark.parametrize(
    ("cores", "setting", "threads"),
    [
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 2),
        (8, 0, 7),
        (1, -1, 1),
        (8, -1, 8),
        (2, 1, 1),
        (2, 16, 16),
    ],
)
def test_a_core_is_left_to_others_where_there_are_more_than_two(
    cores: int, setting: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "count_cores", lambda: cores)
    assert count_threads(setting) == threads


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,2\n", "1,3\n", "0,2\n", "1,3\n"]):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings)
    counted = [processor._count_apart(cpus, tmp_path) for cpus in ({0, 1, 2, 3}, {0, 2}, {1}, {0, 7, 8})]
    assert counted == [2, 1, 1, 3], "a CPU that nothing is told of is a core of its own"


def test_there_are_no_more_cores_than_this_process_may_use() -> None:
    assert 1 <= count_cores() <= (os.cpu_count() or 1)
    if sys.platform == "linux":
        program = (
            "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
            "from stembridge.processor import count_cores; print(count_cores())"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "1\n"
