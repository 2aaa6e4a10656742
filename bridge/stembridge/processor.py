"""How many cores there are, and how many of them a worker computes with. Standard library only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

ALL_CORES = -1
"""The setting ``threads`` of a worker that leaves no core to others."""

_CPUS = Path("/sys/devices/system/cpu")


def count_threads(setting: int) -> int:
    """Return how many threads a CPU worker computes with under ``threads = setting`` in the settings.

    0 leaves a core to whoever plays meanwhile, where there are more than two: of two, one would be half.
    """
    if setting > 0:
        return setting
    cores = count_cores()
    return cores - 1 if setting != ALL_CORES and cores > 2 else cores


def count_cores() -> int:
    """Return how many cores this process may run on.

    Two threads of one core count once where the system tells: matrix products fill a core with one.
    """
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return _count_apart(os.sched_getaffinity(0), _CPUS)


def _count_apart(cpus: Iterable[int], folder: Path) -> int:
    """Return how many cores ``cpus`` belong to, by the lists of siblings that Linux keeps in ``folder``."""
    return len({_siblings(cpu, folder) for cpu in cpus})


def _siblings(cpu: int, folder: Path) -> str:
    try:
        return (folder / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
