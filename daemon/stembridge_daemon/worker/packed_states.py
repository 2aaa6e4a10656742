"""Plain weights out of packed states, in which ``mdx_q`` and ``mdx_extra_q`` are published.

The format is what diffq 0.2.4 writes and demucs 4.1.0 (``demucs/states.py``) marks with ``__quantized``.
Three lists hold the weights without names, in the order of ``named_modules`` and, within a module, of its own
parameters: ``quantized`` those above ``min_size`` MiB (counted in float32) that no pattern of ``exclude``
matches; ``float16`` or ``others``, as the argument ``float16`` says, all the rest.

A quantized parameter is a range (low, high) and one level per value: level k of b bits is
``low + (high - low) * k / (2**b - 1)``. UniformQuantizer has one b for all. DiffQuantizer has one per group
of ``group_size`` values: 14 packs, the b-th with the levels of all groups of b bits, then the range, then a
pack of ``b - min_bits`` for each group. Where ``packed`` is not set, plain tensors stand for the packs.

A pack is bit planes of whole numbers, padded with zeros; plane p counts 2**p. In the usual layout, int64 of
shape (blocks, width, 32), number 2048 k + 32 j + i is bit j of word i of block k; with ``torch_pack``, int16
of shape (width, words), number words * j + i is bit j of word i.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from stembridge.errors import ModelError

DIFF = "diffq.diffq.DiffQuantizer"
UNIFORM = "diffq.uniform.UniformQuantizer"
QUANTIZERS = (DIFF, UNIFORM)
"""Quantizers by the names that packed states give them."""


@dataclass(frozen=True, slots=True)
class NamedClass:
    """A class as a file names it: only a name, it cannot be called."""

    path: str


def unpack_state(module: torch.nn.Module, state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the state dict of ``module`` that the packed state holds; the module stays as it is.

    Raises
    ------
    ModelError
        Something in the state has not the kind, shape or range that the module and the format ask for.
    """
    meta = state.get("meta")
    named, options = (meta.get("klass"), meta.get("init_kwargs")) if isinstance(meta, dict) else (None, None)
    if not isinstance(meta, dict) or not isinstance(named, NamedClass) or named.path not in QUANTIZERS:
        raise ModelError("packed state: it names a quantizer that is none of diffq's")
    if not isinstance(options, dict):
        raise ModelError("packed state: the quantizer's arguments are missing")
    lists: dict[str, list[tuple[str, torch.Tensor]]] = {"quantized": [], "float16": [], "others": []}
    for kind, name, parameter in _sort(module, options):
        lists[kind].append((name, parameter))
    weights = {}
    for kind, wanted in lists.items():
        stored = _parts(state.get(kind), len(wanted), f"packed state: {kind}")
        for (name, parameter), one in zip(wanted, stored, strict=True):
            if kind == "quantized":
                layout = (meta.get("packed") is True, meta.get("torch_pack") is True)
                reader = _Reader(f"packed weights of {name}", parameter.numel(), options, *layout)
                read = reader.read_diff if named.path == DIFF else reader.read_uniform
                weights[name] = read(one).view(parameter.shape)
                continue
            floats = (torch.float16,) if kind == "float16" else (torch.float32, torch.float16)
            if not isinstance(one, torch.Tensor) or one.shape != parameter.shape or one.dtype not in floats:
                raise ModelError(
                    f"packed weights of {name}: no {floats[0]} of shape {tuple(parameter.shape)}"
                )
            weights[name] = one
    return weights


def _sort(module: torch.nn.Module, options: Mapping[str, Any]) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Yield the list that holds a parameter, its name and itself, in the order of the lists."""
    smallest = options.get("min_size", 0.01)
    if type(smallest) not in (int, float) or not 0 <= smallest < math.inf:
        raise ModelError("packed state: min_size is no number from 0")
    patterns = options.get("exclude", [])
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(one, str) for one in patterns):
        raise ModelError("packed state: exclude is no list of patterns")
    rest = "float16" if options.get("float16") is True else "others"
    for path, part in module.named_modules():
        for own_name, parameter in part.named_parameters(recurse=False):
            name = f"{path}.{own_name}"
            is_excluded = any(fnmatchcase(name, one) or fnmatchcase(own_name, one) for one in patterns)
            is_small = is_excluded or parameter.numel() <= smallest * 2**20 // 4
            yield rest if is_small else "quantized", name.removeprefix("."), parameter


def _parts(stored: Any, count: int, where: str) -> tuple[Any, ...]:
    if not isinstance(stored, (list, tuple)) or len(stored) != count:
        raise ModelError(f"{where}: no list of {count}")
    return tuple(stored)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one quantized parameter of ``count`` values."""

    where: str
    count: int
    options: Mapping[str, Any]
    is_packed: bool
    is_torch_pack: bool

    def read_uniform(self, stored: Any) -> torch.Tensor:
        levels, scale = _parts(stored, 2, self.where)
        bits = self._option("bits", 8, 1, 15)
        return self._weigh(
            self._numbers(levels, self.count, range(bits, bits + 1)), scale, torch.tensor(bits)
        )

    def read_diff(self, stored: Any) -> torch.Tensor:
        levels, scale, stored_bits = _parts(stored, 3, self.where)
        size = self._option("group_size", 1, 1, self.count)
        groups = self.count // size
        if groups * size != self.count:
            raise self._wrong(f"{self.count} values are no whole groups of {size}")
        bits = self._numbers(stored_bits, groups, range(5))
        if not self.is_packed:
            return self._weigh(self._numbers(levels, self.count).view(groups, size), scale, bits[:, None])
        bits = bits + self._option("min_bits", 2, 0, 15)
        # There is no pack of 15 bits: diffq loses the levels of such groups when it writes.
        if bits.min() < 1 or bits.max() > 14:
            raise self._wrong(f"groups of {bits.min()} to {bits.max()} bits")
        numbers = torch.empty(groups, size, dtype=torch.int16)
        for width, pack in enumerate(_parts(levels, 14, self.where), 1):
            chosen = bits == width
            count = int(chosen.sum()) * size
            if count:
                numbers[chosen] = self._numbers(pack, count, range(width, width + 1)).view(-1, size)
            elif pack is not None:
                raise self._wrong(f"levels of {width} bits, which no group has")
        return self._weigh(numbers, scale, bits[:, None])

    def _weigh(self, levels: torch.Tensor, scale: Any, bits: torch.Tensor) -> torch.Tensor:
        """Return the weights, in diffq's order of operations: another one rounds otherwise."""
        low, high = _parts(scale, 2, self.where)
        if type(low) is not float or type(high) is not float or not -math.inf < low <= high < math.inf:
            raise self._wrong("its range is not two numbers in order")
        top = 2 ** bits.float() - 1
        if not ((bits >= 1) & (bits <= 15)).all() or not ((levels >= 0) & (levels <= top)).all():
            raise self._wrong("bits beyond 1 to 15 or levels beyond their bits")
        return levels.float() * (1 / top) * (high - low) + low

    def _numbers(self, stored: Any, count: int, widths: range = range(16)) -> torch.Tensor:
        """Return ``count`` whole numbers; those of a pack have one of ``widths`` bits."""
        if not isinstance(stored, torch.Tensor):
            raise self._wrong("no tensor of numbers")
        shape = tuple(stored.shape)
        if not self.is_packed:
            if stored.dtype not in (torch.uint8, torch.int16) or stored.numel() != count:
                raise self._wrong(f"{stored.dtype} of shape {shape} for {count} numbers")
            return stored.flatten()
        dtype, depth = (torch.int16, 16) if self.is_torch_pack else (torch.int64, 64)
        blocks, words = (1, -(-count // 16)) if self.is_torch_pack else (-(-count // 2048), 32)
        planes = stored[None] if self.is_torch_pack else stored
        if planes.dtype != dtype or planes.shape not in [(blocks, width, words) for width in widths]:
            raise self._wrong(f"a pack of {stored.dtype} of shape {shape} for {count} numbers")
        places = torch.arange(depth, dtype=dtype)[:, None]
        numbers = torch.zeros(blocks, depth, words, dtype=torch.int16)
        for plane in range(planes.shape[1]):
            numbers += ((planes[:, plane, None] >> places) & 1).to(torch.int16) << plane
        return numbers.flatten()[:count]

    def _option(self, key: str, default: int, least: int, most: int) -> int:
        value = self.options.get(key, default)
        if type(value) not in (int, float) or not least <= value <= most or value != int(value):
            raise self._wrong(f"{key} is no whole number from {least} to {most}")
        return int(value)

    def _wrong(self, reason: str) -> ModelError:
        return ModelError(f"{self.where}: {reason}")
