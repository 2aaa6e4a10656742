"""Demucs' residual branch of dilated convolutions (``DConv``, demucs 4.1.0), every row of a spectrogram at once.

Stock moves the channels to and fro around it and normalises twice what is twice as wide as the layer itself.
Here the second normalisation is never carried out: mean and deviation of W h + b over channels and time
follow from the mean and covariance of the narrow h, and go into the product that widens it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.kernels import Convolution, Dense, Gated

_WIDTH_STEP = 8
"""The inputs of a product are filled up with zeros to a multiple of this."""


class DilatedBranch:
    """All layers of one ``DConv``: x + scale * glu(norm(widen(gelu(norm(narrow(x))))))."""

    def __init__(self, stock: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
        layers = getattr(stock, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise UnknownLayout(f"a residual branch {type(stock).__name__}")
        self._layers = [_Layer(layer, dtype=dtype, device=device) for layer in layers]

    def __call__(self, x: Tensor) -> Tensor:
        """Return (batch, rows, time, channels); each row of each batch is normalised by itself."""
        for layer in self._layers:
            x = layer(x)
        return x


class _Layer:
    def __init__(self, stock: nn.Module, *, dtype: torch.dtype, device: torch.device) -> None:
        parts = list(stock.children())
        kinds = [type(part).__name__ for part in parts]
        if kinds != ["Conv1d", "GroupNorm", "GELU", "Conv1d", "GroupNorm", "GLU", "LayerScale"]:
            raise UnknownLayout(f"a residual branch of {', '.join(kinds)}")
        narrow, first_norm, _, widen, second_norm, _, layer_scale = parts
        if first_norm.num_groups != 1 or second_norm.num_groups != 1 or widen.kernel_size != (1,):
            raise UnknownLayout("a residual branch with groups, or a kernel at its end")
        options = {"dtype": dtype, "device": device}
        (reach,), (dilation,) = narrow.padding, narrow.dilation
        self._narrow = Convolution(
            narrow.weight[:, :, None],
            narrow.bias,
            padding=(0, reach),
            dilation=(1, dilation),
            **options,
        )
        self._width = narrow.out_channels
        self._first_eps, self._second_eps = first_norm.eps, second_norm.eps
        self._scale, self._shift = first_norm.weight.to(device, dtype), first_norm.bias.to(device, dtype)
        weight, bias = widen.weight[:, :, 0].double(), widen.bias.double()
        self._weight, self._bias = weight.float().T.to(device), bias.float().to(device)
        self._spread = (weight.T @ weight / len(weight)).float().to(device)
        # What comes in beside h / deviation: 1 / deviation and -mean / deviation of the widened row.
        gamma, beta = second_norm.weight.double(), second_norm.bias.double()
        widened = torch.cat([gamma[:, None] * weight, (gamma * bias)[:, None], gamma[:, None]], dim=1)
        self._padding = -widened.shape[1] % _WIDTH_STEP
        widened = F.pad(widened, (0, self._padding))
        # The layer's scale follows the gate, so it can as well stand before it, on the other half.
        half = len(weight) // 2
        ones = torch.ones(half, dtype=torch.float64)
        scale = torch.cat([layer_scale.scale.double().cpu(), ones]).to(weight.device)
        self._widen = Gated(Dense, (widened * scale[:, None]).float(), (beta * scale).float(), **options)

    def __call__(self, x: Tensor) -> Tensor:
        hidden = self._narrow(x)
        batch, rows, time, width = hidden.shape
        normal = F.layer_norm(
            hidden.reshape(batch * rows, time * width), (time * width,), eps=self._first_eps
        )
        normal = normal.view(batch * rows, time, width)
        active = F.gelu(torch.addcmul(self._shift, normal, self._scale)).float()
        mean, deviation = self._widened_statistics(active)
        inverse = 1 / deviation
        beside = F.pad(torch.stack([inverse, -mean * inverse], dim=-1), (0, self._padding))
        beside = beside[:, None].expand(-1, time, -1)
        entry = torch.cat([active * inverse[:, None, None], beside], dim=-1).to(x.dtype)
        return self._widen.add(entry.view(batch, rows, time, -1), x)

    def _widened_statistics(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation, (rows,), over channels and time of W h + b for (rows, time, width)."""
        mean = hidden.mean(dim=1, keepdim=True)
        centred = hidden - mean
        covariance = torch.bmm(centred.mT, centred) / hidden.shape[1]
        of_channels = torch.addmm(self._bias, mean[:, 0], self._weight)
        of_row = of_channels.mean(dim=1)
        within = (covariance * self._spread).sum(dim=(1, 2))
        between = (of_channels - of_row[:, None]).square().mean(dim=1)
        return of_row, (within + between + self._second_eps).sqrt()
