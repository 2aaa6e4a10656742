"""HDemucs, demucs' (4.1.0) and torchaudio's (2.11), with the fast layers where its own have their form.

Those are the outer ones, where most of the time goes. The inner ones, with norms, LSTM and attention, and
all around the layers is stock's own: its forward runs, over a copy in which the outer layers are replaced.
Stock takes 1.3 times the CPU time for demucs' (48 channels) and 1.4 times for torchaudio's (64 channels),
each the least of four, with one thread and 10 s of audio.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.kernels import Numbers
from stembridge_daemon.worker.forward.layers import Decoder, Encoder


class FastHDemucs:
    """A `Forward` for one HDemucs on the CPU, in full precision.

    Parameters
    ----------
    stock : the loaded model; what is not replaced shares its weights
    numbers : of the replaced layers

    Raises
    ------
    UnknownLayout
        None of its layers can be replaced, or it lies elsewhere.
    """

    def __init__(self, stock: nn.Module, numbers: Numbers) -> None:
        if numbers.device.type != "cpu":
            # Its own forward waits for values there (``pad1d``), which no CUDA graph can.
            raise UnknownLayout(f"{type(stock).__name__} on {numbers.device}")
        if numbers != numbers.full():
            raise UnknownLayout(f"{type(stock).__name__} in 16 bits")
        shared = {id(tensor): tensor for tensor in (*stock.parameters(), *stock.buffers())}
        self._module = copy.deepcopy(stock, shared)
        reasons = []
        count = 0
        for branch in self._module.children():
            if not isinstance(branch, nn.ModuleList):
                continue
            for index, layer in enumerate(branch):
                try:
                    branch[index] = _replace(layer, numbers)
                    count += 1
                except UnknownLayout as reason:
                    reasons.append(str(reason))
        if not count:
            raise UnknownLayout(f"{type(stock).__name__} of {', '.join(dict.fromkeys(reasons))}")

    def __call__(self, batch: Tensor, sources: Sequence[int]) -> Tensor:
        stems: Tensor = self._module(batch)[:, list(sources)]
        return stems


def _replace(stock: Any, numbers: Numbers) -> nn.Module:
    """Return what computes the same as a layer.

    Raises
    ------
    UnknownLayout
    """
    kind = type(stock).__name__.lstrip("_")
    if kind not in ("HEncLayer", "HDecLayer"):
        raise UnknownLayout(f"a layer {kind}")
    if not stock.pad:
        # There the branches meet: the encoder takes the other's signal, the decoder gives it one.
        raise UnknownLayout("a layer without padding")
    if kind == "HEncLayer":
        return _FastEncoder(stock, numbers)
    if not hasattr(stock, "dconv"):
        # All of torchaudio's are so, without a word; this one is a copy.
        stock.dconv, stock.context_freq = None, True
    return _FastDecoder(stock, numbers)


class _FastEncoder(nn.Module):
    """Stands for an ``HEncLayer``, whose shapes it takes and returns, as views of what is channels-last."""

    empty = False

    def __init__(self, stock: Any, numbers: Numbers) -> None:
        super().__init__()
        self._of_rows = bool(stock.freq)
        self._encode = Encoder(stock, numbers)

    def forward(self, x: Tensor, inject: None = None) -> Tensor:
        return _channels_first(self._encode(_channels_last(x)), of_rows=self._of_rows)


class _FastDecoder(nn.Module):
    """Stands for an ``HDecLayer``, likewise."""

    empty = False

    def __init__(self, stock: Any, numbers: Numbers) -> None:
        super().__init__()
        self._of_rows = bool(stock.freq)
        self._decode = Decoder(stock, numbers)

    def forward(self, x: Tensor, skip: Tensor, length: int) -> tuple[Tensor, None]:
        """Return the output, and nothing for what only the layer where the branches part is asked for."""
        out = _channels_first(self._decode(_channels_last(x + skip)), of_rows=self._of_rows)
        return out if self._of_rows else out[..., :length], None


def _channels_last(x: Tensor) -> Tensor:
    """Return (batch, rows, time, channels) of (batch, channels, rows, time) or (batch, channels, time)."""
    rows = x if x.ndim == 4 else x[:, :, None]
    return rows.permute(0, 2, 3, 1).contiguous()


def _channels_first(x: Tensor, *, of_rows: bool) -> Tensor:
    return x.permute(0, 3, 1, 2) if of_rows else x[:, 0].mT
