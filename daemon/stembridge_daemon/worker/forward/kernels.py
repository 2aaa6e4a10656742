"""Matrix products and convolutions that end in what follows them: an activation, a gate, a sum.

On a CPU with oneDNN the weights are packed once and the end is computed on the tile that the product has just
left in a register (the same operators that torch's own compiler calls); elsewhere it is a second call. All
tensors are channels-last: the channels are the last axis and lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]
_OPERATORS = (
    "_linear_pointwise",
    "_reorder_linear_weight",
    "_convolution_pointwise",
    "_is_mkldnn_bf16_supported",
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a forward computes in, and where."""

    dtype: torch.dtype
    device: torch.device

    def hold(self, weight: Tensor) -> Tensor:
        """Return ``weight`` as these."""
        return weight.to(self.dtype).to(self.device).contiguous()

    def full(self) -> Numbers:
        """Return the numbers of full precision on the same device."""
        return replace(self, dtype=torch.float32)


def has_onednn(numbers: Numbers) -> bool:
    """Return whether oneDNN's fused operators are there for such numbers."""
    if numbers.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    fused = torch.ops.mkldnn
    if not all(hasattr(fused, name) for name in _OPERATORS):
        return False
    # A CPU without 16-bit units refuses them; the plain ones compute with 32 bits and round.
    return numbers.dtype == torch.float32 or bool(fused._is_mkldnn_bf16_supported())


class Dense:
    """``x @ weight.T + bias`` over the last axis.

    Parameters
    ----------
    weight : (outputs, inputs), in float32
    bias : (outputs,)
    """

    def __init__(self, weight: Tensor, bias: Tensor, numbers: Numbers) -> None:
        self._weight = numbers.hold(weight)
        self._bias = numbers.hold(bias)
        self._is_fused = has_onednn(numbers)
        if self._is_fused:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight)

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x, "none") if self._is_fused else F.linear(x, self._weight, self._bias)

    def gelu(self, x: Tensor) -> Tensor:
        return self._run(x, "gelu") if self._is_fused else F.gelu(F.linear(x, self._weight, self._bias))

    def sigmoid(self, x: Tensor) -> Tensor:
        return self._run(x, "sigmoid") if self._is_fused else F.linear(x, self._weight, self._bias).sigmoid()

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the product plus ``other``."""
        return self._run_with(x, other, "add") if self._is_fused else other + self(x)

    def multiply(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the product times ``other``."""
        return self._run_with(x, other, "mul") if self._is_fused else other * self(x)

    def _run(self, x: Tensor, end: str) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, end, [], "none")
        return out

    def _run_with(self, x: Tensor, other: Tensor, end: str) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, end)
        return out


class Convolution:
    """A convolution over rows and columns of (batch, rows, columns, channels).

    Parameters
    ----------
    weight : (outputs, inputs, kernel rows, kernel columns), in float32
    bias : (outputs,)
    stride, padding, dilation : rows and columns
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        numbers: Numbers,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
    ) -> None:
        self._bias = numbers.hold(bias)
        self._weight = numbers.hold(weight).contiguous(memory_format=torch.channels_last)
        self._shape: Sequence[Any] = list(padding), list(stride), list(dilation), 1
        self._is_fused = has_onednn(numbers)
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return self._run(x, "none") if self._is_fused else self._run_plain(x)

    def gelu(self, x: Tensor) -> Tensor:
        return self._run(x, "gelu") if self._is_fused else F.gelu(self._run_plain(x))

    def sigmoid(self, x: Tensor) -> Tensor:
        return self._run(x, "sigmoid") if self._is_fused else self._run_plain(x).sigmoid()

    def multiply(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the convolution times ``other``."""
        if not self._is_fused or x.shape[1:3] == (1, 1):  # of a single place oneDNN cannot tell the layout
            return other * self(x)
        first = _channels_first(x), _channels_first(other)
        end: tuple[Any, ...] = "mul", None, None, [], None
        out = torch.ops.mkldnn._convolution_pointwise.binary(
            *first, self._packed_for(first[0]), self._bias, *self._shape, *end
        )
        return _channels_last(out)

    def _run(self, x: Tensor, end: str) -> Tensor:
        first = _channels_first(x)
        out = torch.ops.mkldnn._convolution_pointwise(
            first, self._packed_for(first), self._bias, *self._shape, end, [], "none"
        )
        return _channels_last(out)

    def _packed_for(self, x: Tensor) -> Tensor:
        """Return the weights as oneDNN wants them for inputs of this size; packed for another, it is slow."""
        if self._packed is None or self._packed[0] != x.shape:
            pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            weight = pack(self._weight.to_mkldnn(), *self._shape, list(x.shape))
            self._packed = x.shape, weight
        return self._packed[1]

    def _run_plain(self, x: Tensor) -> Tensor:
        padding, stride, dilation, groups = self._shape
        return _channels_last(
            F.conv2d(_channels_first(x), self._weight, self._bias, stride, padding, dilation, groups)
        )


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


class Gated:
    """A gated linear unit: the first half of the outputs times the sigmoid of the second.

    Parameters
    ----------
    kernel : `Dense` or `Convolution`
    weight, bias : of both halves, as ``kernel`` takes them
    options : what else ``kernel`` takes
    """

    def __init__(
        self,
        kernel: type[Dense] | type[Convolution],
        weight: Tensor,
        bias: Tensor,
        numbers: Numbers,
        **options: Any,
    ) -> None:
        half = len(weight) // 2
        self._value = kernel(weight[:half], bias[:half], numbers, **options)
        self._gate = kernel(weight[half:], bias[half:], numbers, **options)

    def __call__(self, x: Tensor) -> Tensor:
        return self._value.multiply(x, self._gate.sigmoid(x))

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the gated unit of ``x`` plus ``other``."""
        return torch.addcmul(other, self._value(x), self._gate.sigmoid(x))
