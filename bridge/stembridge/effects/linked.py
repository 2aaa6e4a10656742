"""Dynamics whose one gain curve is for all channels of a group: the image stays where it is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_FLOOR = np.float32(1e-9)
"""What the key is at least, -180 dBFS: a gain can be read off it, and no threshold is as low."""


class Dynamics(Protocol):
    """A compressor or gate: out = gain(|in|) * in, and nothing is held back."""

    name: str

    def process(self, block: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def close(self) -> None: ...


class LinkedDynamics:
    """A compressor or gate that hears the loudest channel at every sample, and turns all of them.

    JUCE's detectors follow the magnitude or the square of the input (`BallisticsFilter`), so they take the
    magnitude of the loudest channel for a channel of its own; what comes out over what went in is the gain.
    """

    def __init__(self, inner: Dynamics) -> None:
        self.name = inner.name
        self._inner = inner

    def process(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        key = np.maximum(np.abs(block).max(axis=0, keepdims=True), _FLOOR)
        gain: NDArray[np.float32] = self._inner.process(key) / key
        return block * gain

    def close(self) -> None:
        self._inner.close()
