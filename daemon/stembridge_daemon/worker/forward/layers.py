"""Demucs' encoder and decoder layers (``HEncLayer``, ``HDecLayer``, demucs 4.1.0), channels-last.

Tensors are (batch, rows, time, channels): rows are frequencies, and one in the time branch. A layer halves
or doubles along its own axis, rows or time, and both branches are the same code.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.dilated import DilatedBranch
from stembridge_daemon.worker.forward.kernels import Convolution, Dense, Gated, Numbers


def _on_axis(value: int, *, of_rows: bool, other: int) -> tuple[int, int]:
    return (value, other) if of_rows else (other, value)


def _plane(weight: Tensor) -> Tensor:
    """Return a kernel over rows and time; that of the time branch has one row."""
    return weight if weight.ndim == 4 else weight[:, :, None]


def _check(stock: Any, what: str, **wanted: object) -> None:
    """Refuse a layer that is not built as wanted.

    Raises
    ------
    UnknownLayout
    """
    for name, value in wanted.items():
        found = getattr(stock, name, None)
        if found != value:
            raise UnknownLayout(f"{what} with {name} {found}")


class Encoder:
    """One ``HEncLayer`` without norms: strided convolution, residual branch, gated 1 x 1 convolution.

    Parameters
    ----------
    stock : the layer
    numbers : of all that follows the first convolution
    entry : of the first convolution; those of `numbers` where it is None
    """

    def __init__(self, stock: Any, numbers: Numbers, entry: Numbers | None = None) -> None:
        what = "an encoder layer"
        _check(stock, what, empty=False)
        kernel, stride, reach = stock.kernel_size, stock.stride, stock.pad
        if stock.rewrite is None or any(size != 1 for size in stock.rewrite.kernel_size):
            raise UnknownLayout(f"{what} without a 1 x 1 convolution at its end")
        if not isinstance(stock.norm1, nn.Identity) or not isinstance(stock.norm2, nn.Identity):
            raise UnknownLayout(f"{what} with norms")
        if kernel < stride or 2 * reach != kernel - stride:
            raise UnknownLayout(f"{what} with a kernel of {kernel}, stride {stride} and padding {reach}")
        self._of_rows = bool(stock.freq)
        self.stride = int(stride)
        entry = entry or numbers
        self._dtypes = entry.dtype, numbers.dtype
        self._narrow = Convolution(
            _plane(stock.conv.weight),
            stock.conv.bias,
            entry,
            stride=_on_axis(stride, of_rows=self._of_rows, other=1),
            padding=_on_axis(reach, of_rows=self._of_rows, other=0),
        )
        self._branch = DilatedBranch(stock.dconv, numbers) if stock.dconv is not None else None
        rewrite = stock.rewrite
        self._rewrite = Gated(Dense, rewrite.weight.flatten(1), rewrite.bias, numbers)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._of_rows and x.shape[2] % self.stride:
            x = F.pad(x, (0, 0, 0, -x.shape[2] % self.stride))
        outer, inner = self._dtypes
        x = self._narrow.gelu(x.to(outer)).to(inner)
        if self._branch is not None:
            x = self._branch(x)
        return self._rewrite(x)


class Decoder:
    """One ``HDecLayer`` without norms: gated convolution, residual branch, transposed convolution.

    The transposed convolution has a kernel of twice its stride, so each of its outputs comes of two
    neighbouring inputs: it is a convolution of two taps with as many outputs per input as the stride.

    Parameters
    ----------
    stock : the layer
    numbers : of all that comes before the transposed convolution
    way_out : of the transposed convolution, and of what it returns; those of `numbers` where it is None
    """

    def __init__(self, stock: Any, numbers: Numbers, way_out: Numbers | None = None) -> None:
        what = "a decoder layer"
        _check(stock, what, empty=False, context_freq=True, kernel_size=2 * stock.stride)
        _check(stock, what, pad=stock.stride // 2)
        if stock.stride % 2 or stock.rewrite is None:
            raise UnknownLayout(f"{what} with stride {stock.stride}, rewrite {stock.rewrite}")
        if not isinstance(stock.norm1, nn.Identity) or not isinstance(stock.norm2, nn.Identity):
            raise UnknownLayout(f"{what} with norms")
        self._of_rows = bool(stock.freq)
        self._is_last = bool(stock.last)
        rewrite = _plane(stock.rewrite.weight)
        self._rewrite = Gated(
            Convolution,
            rewrite,
            stock.rewrite.bias,
            numbers,
            padding=(rewrite.shape[2] // 2, rewrite.shape[3] // 2),
        )
        self._branch = DilatedBranch(stock.dconv, numbers) if stock.dconv is not None else None
        self._half = stock.stride // 2
        way_out = way_out or numbers
        self._dtypes = numbers.dtype, way_out.dtype
        inputs, self.channels = stock.conv_tr.weight.shape[:2]
        taps = stock.conv_tr.weight.flatten(2)
        bias = stock.conv_tr.bias.repeat(self._half)

        def widen(before: int, after: int) -> Convolution:
            """Return the convolution to half a stride of outputs; taps of the earlier and the later input."""
            pair = [taps[:, :, first : first + self._half] for first in (before, after)]
            weight = torch.stack(pair, dim=-1).permute(2, 1, 0, 3).reshape(-1, inputs, 2)
            return Convolution(
                weight[..., None] if self._of_rows else weight[:, :, None],
                bias,
                way_out,
                padding=_on_axis(1, of_rows=self._of_rows, other=0),
            )

        # Output 4 n + j hears inputs n - 1 and n for the first half of j, n and n + 1 for the second; with
        # one row of padding at both ends the second half is the same convolution one row later.
        self._widen = widen(3 * self._half, self._half), widen(2 * self._half, 0)

    def __call__(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return what the next layer takes: this one's output, with ``skip`` added where there is one.

        The sum has the wider numbers of the two.

        Parameters
        ----------
        x : (batch, rows, time, channels), this layer's own skip already added
        skip : of the output's shape
        """
        inner, outer = self._dtypes
        x = self._rewrite(x.to(inner))
        if self._branch is not None:
            x = self._branch(x)
        x = x.to(outer)
        axis = 1 if self._of_rows else 2
        size, stride = x.shape[axis], 2 * self._half
        parts = [
            (one(x) if self._is_last else one.gelu(x))
            .narrow(axis, first, size)
            .unflatten(3, (self._half, -1))
            for first, one in enumerate(self._widen)
        ]
        shape = *x.shape[:axis], size * stride, *x.shape[axis + 1 : 3], self.channels
        out = x.new_empty(shape, dtype=outer if skip is None else torch.promote_types(outer, skip.dtype))
        places = out.unflatten(axis, (size, stride)).split(self._half, dim=axis + 1)
        skips = None if skip is None else skip.unflatten(axis, (size, stride)).split(self._half, dim=axis + 1)
        for half, (part, place) in enumerate(zip(parts, places, strict=True)):
            aligned = part.movedim(3, axis + 1)
            place.copy_(aligned if skips is None else aligned + skips[half])
        return out
