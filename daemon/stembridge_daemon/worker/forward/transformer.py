"""Demucs' cross-domain transformer (``CrossTransformerEncoder``, demucs 4.1.0).

Tokens are (batch, tokens, channels). Their order means nothing to attention, so a spectrogram's stay in its
own order, and the positions are laid out in that order once. Scales of the branches go into the matrices.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from demucs.transformer import create_2d_sin_embedding, create_sin_embedding
from torch import Tensor, nn

from stembridge_daemon.worker.forward.base import UnknownLayout
from stembridge_daemon.worker.forward.kernels import Dense, Numbers


class CrossTransformer:
    """The transformer over spectrograms of ``rows`` by ``columns`` and time branches of ``time`` tokens."""

    def __init__(self, stock: Any, numbers: Numbers, *, rows: int, columns: int, time: int) -> None:
        if stock.emb != "sin" or stock.sin_random_shift:
            raise UnknownLayout(f"positions {stock.emb}, shifted by up to {stock.sin_random_shift}")
        self._norms = _Norm(stock.norm_in, numbers), _Norm(stock.norm_in_t, numbers)
        channels = self._norms[0].channels
        of_spectrum = create_2d_sin_embedding(channels, rows, columns, max_period=stock.max_period)
        of_time = create_sin_embedding(time, channels, max_period=stock.max_period)
        self._positions = (
            numbers.hold(stock.weight_pos_embed * of_spectrum[0].permute(1, 2, 0).flatten(0, 1)),
            numbers.hold(stock.weight_pos_embed * of_time[:, 0]),
        )
        self._layers = [
            (_Layer(one, numbers), _Layer(other, numbers))
            for one, other in zip(stock.layers, stock.layers_t, strict=True)
        ]

    def __call__(self, spectrum: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Return both branches: (batch, rows * columns, channels) and (batch, time, channels)."""
        spectrum = self._norms[0](spectrum) + self._positions[0]
        time = self._norms[1](time) + self._positions[1]
        for layer, layer_of_time in self._layers:
            spectrum, time = layer(spectrum, time), layer_of_time(time, spectrum)
        return spectrum, time


class _Norm:
    """A ``LayerNorm`` over the channels."""

    def __init__(self, stock: Any, numbers: Numbers) -> None:
        if type(stock) is not nn.LayerNorm:
            raise UnknownLayout(f"a norm {type(stock).__name__} in the transformer")
        (self.channels,) = stock.normalized_shape
        self._eps = stock.eps
        self._weight, self._bias = numbers.hold(stock.weight), numbers.hold(stock.bias)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.channels,), self._weight, self._bias, self._eps)


class _Layer:
    """One layer: attention to itself or to the other branch, then two matrices, then a norm over it all."""

    def __init__(self, stock: Any, numbers: Numbers) -> None:
        if not stock.norm_first or stock.norm_out is None or stock.sparse or stock.norm_out.num_groups != 1:
            raise UnknownLayout("a transformer layer with its norms elsewhere, or sparse")
        self._is_cross = hasattr(stock, "cross_attn")
        self._attention = _Attention(stock.cross_attn if self._is_cross else stock.self_attn, numbers)
        if stock.activation is not F.gelu:
            raise UnknownLayout(f"a transformer layer with activation {stock.activation}")
        self._norm_queries = _Norm(stock.norm1, numbers)
        self._norm_keys = _Norm(stock.norm2, numbers) if self._is_cross else None
        self._norm_wide = _Norm(stock.norm3 if self._is_cross else stock.norm2, numbers)
        self._out = _scaled(self._attention.out_of_stock, stock.gamma_1, numbers)
        self._widen = Dense(stock.linear1.weight, stock.linear1.bias, numbers)
        self._narrow = _scaled(stock.linear2, stock.gamma_2, numbers)
        norm = stock.norm_out
        self._eps = norm.eps
        self._weight, self._bias = numbers.hold(norm.weight), numbers.hold(norm.bias)

    def __call__(self, x: Tensor, other: Tensor) -> Tensor:
        queries = self._norm_queries(x)
        keys = queries if self._norm_keys is None else self._norm_keys(other)
        x = self._out.add(self._attention(queries, keys), x)
        x = self._narrow.add(self._widen.gelu(self._norm_wide(x)), x)
        flat = x.flatten(1)
        normal = F.layer_norm(flat, flat.shape[1:], eps=self._eps).view_as(x)
        return torch.addcmul(self._bias, normal, self._weight)


class _Attention:
    """Multi-head attention up to, but without, its last matrix."""

    def __init__(self, stock: Any, numbers: Numbers) -> None:
        if type(stock) is not nn.MultiheadAttention or stock.in_proj_weight is None or not stock.batch_first:
            raise UnknownLayout(f"attention {type(stock).__name__}")
        if stock.bias_k is not None or stock.add_zero_attn or stock.in_proj_bias is None:
            raise UnknownLayout("attention with keys of its own, or without bias")
        self._heads = stock.num_heads
        self.out_of_stock = stock.out_proj
        size = stock.embed_dim
        weight, bias = stock.in_proj_weight, stock.in_proj_bias
        self._queries = Dense(weight[:size], bias[:size], numbers)
        self._keys_and_values = Dense(weight[size:], bias[size:], numbers)

    def __call__(self, queries: Tensor, keys: Tensor) -> Tensor:
        asked = self._queries(queries).unflatten(-1, (self._heads, -1)).transpose(1, 2)
        key, value = self._keys_and_values(keys).unflatten(-1, (2, self._heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(asked, key, value).transpose(1, 2).flatten(2)


def _scaled(linear: Any, scale: Any, numbers: Numbers) -> Dense:
    """Return ``linear`` with the ``LayerScale`` that follows it."""
    if isinstance(scale, nn.Identity):
        return Dense(linear.weight, linear.bias, numbers)
    by = scale.scale
    return Dense(linear.weight * by[:, None], linear.bias * by, numbers)
