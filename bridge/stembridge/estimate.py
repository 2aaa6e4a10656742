"""How long a split will take, reckoned before it starts. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

from stembridge.catalog import CatalogModel, ModelKind, members_needed
from stembridge.types import SplitRequest

HTDEMUCS_GFLOP_PER_S = 39.7
"""Arithmetic of one pass of the official HTDemucs per second of audio at no overlap: 309.6 GFLOP for each
segment of 7.8 s, counted with torch's FlopCounterMode plus the attention by hand."""
STOCK_SHARE_OF_PEAK = 0.29
"""Share of the matrix peak that the stock forward reaches on a CPU, measured on two cores with AMX."""
PREVIEW_COST = 0.15
"""Seconds of one core per second of audio for `preview`, until this machine has measured its own."""


def pass_seconds(model: CatalogModel, request: SplitRequest, audio_s: float) -> float:
    """Return the seconds of audio that go through a network in all: members, shifts and overlap counted."""
    stems = (request.two_stems,) if request.two_stems is not None else request.stems
    members = max(1, len(members_needed(model, stems)))
    return audio_s * members * max(1, request.shifts) / (1 - request.overlap)


def split_seconds(
    model: CatalogModel,
    request: SplitRequest,
    audio_s: float,
    speeds: Mapping[str, float],
    matrix_gflops: float,
) -> float:
    """Return the seconds that a split will take: as this machine has measured it, else reckoned.

    Parameters
    ----------
    audio_s : length of the item in seconds
    speeds : what the daemon has measured, as `DaemonStatus.speeds` has it
    matrix_gflops : float32 matrix peak of the CPU in GFLOP/s, used where nothing was measured
    """
    work = pass_seconds(model, request, audio_s)
    measured = [cost for name, cost in speeds.items() if name.startswith(f"{model.name} on ")]
    if measured:
        return work * min(measured)
    if model.kind is ModelKind.PREVIEW:
        return work * PREVIEW_COST
    return work * HTDEMUCS_GFLOP_PER_S / (matrix_gflops * STOCK_SHARE_OF_PEAK)
