"""How fast this machine multiplies matrices: all that is known of a model that never ran here."""

from __future__ import annotations

import time

import numpy as np


def measure_gflops() -> float:
    """Return the float32 matrix speed of this machine's CPU in GFLOP/s, measured in some 50 ms."""
    square = np.ones((1024, 1024), np.float32)
    square @ square
    best_s = 1e9
    for _ in range(3):
        started = time.perf_counter()
        square @ square
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * 1024**3 / best_s / 1e9
