"""torchaudio's Hybrid Demucs; the only module that imports torchaudio, and only when it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from stembridge.errors import ModelError

SEGMENT_S = 10
"""The segment of torchaudio's own tutorial on these bundles (hybrid_demucs_tutorial, torchaudio 2.11)."""

CHANNELS = 48
"""Channels of the first layer in both bundles (``torchaudio.models.hdemucs_high``)."""


_HOP = 1024
"""Hop of the model's spectrogram: a quarter of 4096 points."""


def input_frames(frames: int) -> int:
    """Return the shortest length from ``frames`` on that the model takes; all from 1281 on do.

    ``HDemucs._spec`` (torchaudio 2.11) mirrors up to 2559 frames at the end and, where the input is shorter
    than that, pads it first: by a whole hop too much where this inequality does not hold, and then raises.
    """
    while 2 * frames <= _HOP * -(-frames // _HOP) + _HOP // 2 + 1:
        frames += 1
    return frames


def build_module(state: Mapping[str, torch.Tensor], sources: Sequence[str]) -> torch.nn.Module:
    """Return the model that ``state`` is for, not yet loaded: ``hdemucs_high`` with the state's own width.

    Raises
    ------
    ModelError
        torchaudio cannot be imported, or the width is none that the model can be built with.
    """
    try:
        from torchaudio.models import HDemucs
    except (ImportError, OSError) as error:
        raise ModelError(
            f"torchaudio cannot be imported: {str(error).splitlines()[0] if str(error) else 'blocked'}",
            "install torch and torchaudio of the same minor version, or take a model of Demucs",
        ) from None
    first = state.get("freq_encoder.0.conv.weight")
    channels = CHANNELS if first is None or first.ndim == 0 else min(first.shape[0], CHANNELS)
    try:
        module: torch.nn.Module = HDemucs(sources=list(sources), channels=channels, nfft=4096, depth=6)
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"no HDemucs of width {channels} can be built: {error}") from None
    return module
