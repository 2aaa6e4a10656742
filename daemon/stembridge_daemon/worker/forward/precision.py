"""Half precision: which numbers a device has for it, and whether a model may be trusted with them.

A residual closes any sum, so nothing after the separator would notice a forward that computes nonsense. It is
held against the full one when it is asked for first: on a dense mixture, and on a lone impulse in silence,
whose rounding a network enlarges most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stembridge_daemon.worker.forward.base import Forward
from stembridge_daemon.worker.forward.kernels import Numbers, has_onednn

DENSE_DB = 35.0
"""How far the stems of a dense mixture must be above the difference; 38 dB with seeded weights, of which 25
to 33 are left where a layer of the transformer is left out."""
SPARSE_DB = 0.0
"""The same for an impulse: the difference is not louder than the stems. 11 dB with seeded weights, whose full
precision itself is only 65 dB away from 64 bits there."""
_SEED = 7
_OLDEST_CUDA = 7
"""Compute capability from which a GPU has matrix units for 16 bits."""


def half_dtype(device: torch.device) -> torch.dtype | None:
    """Return the 16-bit numbers that ``device`` computes with at least as fast as with 32 bits, or None."""
    if device.type == "cpu":
        is_native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if is_native and has_onednn(Numbers(torch.bfloat16, device)) else None
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return torch.float16 if major >= _OLDEST_CUDA else None
    return torch.float16 if device.type == "mps" else None


def check_half(
    half: Forward, full: Forward, sources: Sequence[int], shape: torch.Size, device: torch.device
) -> str:
    """Return why ``half`` must not stand in for ``full``, or '' where it may.

    Parameters
    ----------
    sources : all that the model knows
    shape : (1, channels, frames) of a segment
    """
    draw = torch.Generator().manual_seed(_SEED)
    dense = torch.randn(shape, generator=draw)
    sparse = torch.zeros(shape)
    sparse[..., shape[-1] // 3] = 1
    for name, probe, least in (("a dense mixture", dense, DENSE_DB), ("a lone impulse", sparse, SPARSE_DB)):
        normal = ((probe - probe.mean()) / probe.std()).to(device)
        found = agreement_db(full(normal, sources), half(normal, sources))
        if not found >= least:
            return f"half precision keeps {found:.1f} dB of {name}, {least:g} dB are asked for"
    return ""


def agreement_db(wanted: Tensor, got: Tensor) -> float:
    """Return the level of ``wanted`` over that of the difference, in dB; nan where one is not finite."""
    exact = wanted.cpu().double()  # MPS has no 64 bits
    level, error = exact.square().sum().item(), (exact - got.cpu().double()).square().sum().item()
    if not (math.isfinite(level) and math.isfinite(error)):
        return math.nan
    if error == 0:
        return math.inf
    return 10 * math.log10(level / error) if level > 0 else -math.inf
