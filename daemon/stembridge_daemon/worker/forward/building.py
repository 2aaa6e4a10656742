"""Which fast forward there is for a model."""

from __future__ import annotations

import torch
from demucs.htdemucs import HTDemucs

from stembridge.types import Precision
from stembridge_daemon.worker.forward.base import Forward, UnknownLayout
from stembridge_daemon.worker.forward.hdemucs import FastHDemucs
from stembridge_daemon.worker.forward.htdemucs import FastHTDemucs
from stembridge_daemon.worker.forward.kernels import Numbers
from stembridge_daemon.worker.forward.precision import half_dtype


def build_forward(module: torch.nn.Module, precision: Precision, device: torch.device) -> Forward:
    """Return what computes ``module`` faster than it does itself, on ``device``, where its weights lie.

    Raises
    ------
    UnknownLayout
        Stock alone knows such a model, or the device has no numbers of that precision.
    """
    dtype = torch.float32 if precision is Precision.FULL else half_dtype(device)
    if dtype is None:
        raise UnknownLayout(f"no 16-bit numbers on {device}")
    if type(module) is HTDemucs:
        return FastHTDemucs(module, Numbers(dtype, device))
    if type(module).__name__ == "HDemucs":  # demucs' or torchaudio's, which is not loaded for this
        return FastHDemucs(module, Numbers(dtype, device))
    raise UnknownLayout(type(module).__name__)
