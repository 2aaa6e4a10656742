"""Stock Demucs as a forward: the yardstick, and what goes on where nothing faster does."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class StockForward:
    """Calls the module as it is.

    Parameters
    ----------
    module : takes (n, channels, frames) and returns (n, sources, channels, frames)
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def __call__(self, batch: torch.Tensor, sources: Sequence[int]) -> torch.Tensor:
        stems: torch.Tensor = self._module(batch)[:, list(sources)]
        return stems.float()
