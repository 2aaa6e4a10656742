"""Demucs' residual branch of dilated convolutions (``DConv``, demucs 4.1.0), all rows at once.

Stock moves the channels to and fro around it, and its second norm goes over twice the layer's width. Here
that norm is never carried out. With W and b less their means over the channels, w = W's mean and h the narrow
signal, what is normalised is W h + b + w (h - mean h); its mean over channels and time is 0, its deviation
follows from the mean and covariance of h, and both go into the product that widens h.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.kernels import Convolution, Dense, Gated, Numbers

_WIDTH_STEP = 8
"""The inputs of a product are filled up with zeros to a multiple of this."""


class DilatedBranch:
    """All layers of one ``DConv``: x + scale * glu(norm(widen(gelu(norm(narrow(x))))))."""

    def __init__(self, stock: Any, numbers: Numbers) -> None:
        self._layers = [_Layer(layer, numbers) for layer in stock.layers]

    def __call__(self, x: Tensor) -> Tensor:
        """Return (batch, rows, time, channels); each row of each batch is normalised by itself."""
        for layer in self._layers:
            x = layer(x)
        return x


def _exact(weight: Tensor) -> Tensor:
    """Return a weight in 64 bits, on the CPU: not every device has them."""
    return weight.cpu().double()


class _Layer:
    def __init__(self, stock: nn.Sequential, numbers: Numbers) -> None:
        parts: list[Any] = list(stock)
        # Torchaudio's are named alike, with an underscore before those of its own.
        kinds = [type(part).__name__.lstrip("_") for part in parts]
        if kinds != ["Conv1d", "GroupNorm", "GELU", "Conv1d", "GroupNorm", "GLU", "LayerScale"]:
            raise UnknownLayout(f"a residual branch of {', '.join(kinds)}")
        narrow, first_norm, _, widen, second_norm, _, layer_scale = parts
        if first_norm.num_groups != 1 or second_norm.num_groups != 1 or widen.kernel_size != (1,):
            raise UnknownLayout("a residual branch with groups, or with a kernel at its end")
        (reach,), (dilation,) = narrow.padding, narrow.dilation
        self._narrow = Convolution(
            narrow.weight[:, :, None], narrow.bias, numbers, padding=(0, reach), dilation=(1, dilation)
        )
        full = numbers.full()
        self._first_eps, self._second_eps = first_norm.eps, second_norm.eps
        self._scale, self._shift = full.hold(first_norm.weight), full.hold(first_norm.bias)
        weight, bias = _exact(widen.weight[:, :, 0]), _exact(widen.bias)
        pull = weight.mean(dim=0)
        weight, bias = weight - pull, bias - bias.mean()
        self._pull, self._weight, self._bias = full.hold(pull), full.hold(weight.T), full.hold(bias)
        self._spread = full.hold(weight.T @ weight / len(weight))
        gamma, beta = _exact(second_norm.weight), _exact(second_norm.bias)
        self._parts = 1 if numbers == full else 2
        widened = torch.cat([gamma[:, None] * weight, gamma[:, None], (gamma * bias)[:, None]], dim=1)
        widened = widened.repeat(1, self._parts)
        self._padding = -widened.shape[1] % _WIDTH_STEP
        # The layer's scale follows the gate, so it can as well stand before it, on the other half.
        scale = torch.cat([_exact(layer_scale.scale), torch.ones_like(gamma[: len(gamma) // 2])])
        self._widen = Gated(Dense, F.pad(widened, (0, self._padding)) * scale[:, None], beta * scale, numbers)

    def __call__(self, x: Tensor) -> Tensor:
        # In float32 up to the last product: it is narrow, and its statistics count for all of a row.
        hidden = self._narrow(x).float()
        batch, rows, time, width = hidden.shape
        flat = hidden.reshape(batch * rows, time * width)
        normal = F.layer_norm(flat, flat.shape[1:], eps=self._first_eps).view(batch * rows, time, width)
        active = F.gelu(torch.addcmul(self._shift, normal, self._scale))
        entry = self._normalise(active, x.dtype).view(batch, rows, time, -1)
        return self._widen.add(entry, x)

    def _normalise(self, hidden: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what goes into the last product, (rows, time, inputs), for (rows, time, width).

        Over the deviation: the hidden signal, its pull on all channels, and 1. What 16 bits do not hold of
        them comes in as a second part, with the same weights.
        """
        mean = hidden.mean(dim=1, keepdim=True)
        centred = hidden - mean
        pulled = (centred @ self._pull)[..., None]
        covariance = torch.bmm(centred.mT, centred) / hidden.shape[1]
        within = (covariance * self._spread).sum(dim=(1, 2)) + pulled.square().mean(dim=(1, 2))
        between = torch.addmm(self._bias, mean[:, 0], self._weight).square().mean(dim=1)
        inverse = (within + between + self._second_eps).rsqrt()[:, None, None]
        entry = torch.cat([hidden * inverse, pulled * inverse, inverse.expand_as(pulled)], dim=-1)
        first = entry.to(dtype)
        parts = [first] if self._parts == 1 else [first, (entry - first).to(dtype)]
        return F.pad(torch.cat(parts, dim=-1), (0, self._padding))
