"""What computes a batch of segments, and what a layout is called that only stock Demucs can compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch


class Forward(Protocol):
    """One way to compute a model on the device where its weights lie.

    The same input gives the same output, and the argument is not written into. It is called under
    `torch.inference_mode`.
    """

    def __call__(self, batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        """Return the stems (n, len(sources), channels, frames) in float32.

        Parameters
        ----------
        batch : normalised mixtures (n, channels, frames) in float32, on the forward's device
        sources : indices of the wanted ones among the model's
        """
        ...


class UnknownLayout(Exception):
    """A model is built in a way that no fast forward knows; the text says what is unknown."""
