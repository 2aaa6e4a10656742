"""What both channels of a pair share, and what sets them apart, each at a level of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SideBalance:
    """Mid, (left + right) / 2, and side, (left - right) / 2, each times its gain; one channel is all mid.

    Parameters
    ----------
    mid_gain_db, side_gain_db : -inf mutes
    """

    name = "width"

    def __init__(self, mid_gain_db: float, side_gain_db: float) -> None:
        self._mid_gain = 10 ** (mid_gain_db / 20)
        self._side_gain = 10 ** (side_gain_db / 20)

    def process(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        exact = block.astype(np.float64)
        if block.shape[0] == 1:
            return (self._mid_gain * exact).astype(np.float32)
        same = (self._mid_gain + self._side_gain) / 2
        other = (self._mid_gain - self._side_gain) / 2
        return (same * exact + other * exact[::-1]).astype(np.float32)

    def close(self) -> None:
        """Nothing is held."""
