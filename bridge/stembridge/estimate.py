"""How long a split will take and how much disk it needs, before it starts. Standard library only."""

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
FLOAT_BYTES = 4
MODEL_RATE_HZ = 44100


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
) -> tuple[float, bool]:
    """Return the seconds that a split will take, and whether that was measured on this machine.

    Parameters
    ----------
    audio_s : length of the item in seconds
    speeds : what the daemon has measured, as `DaemonStatus.speeds` has it
    matrix_gflops : float32 matrix peak of the CPU in GFLOP/s, used where nothing was measured
    """
    work = pass_seconds(model, request, audio_s)
    measured = [cost for name, cost in speeds.items() if name.startswith(f"{model.name} on ")]
    if measured:
        return work * min(measured), True
    if model.kind is ModelKind.PREVIEW:
        return work * PREVIEW_COST, False
    return work * HTDEMUCS_GFLOP_PER_S / (matrix_gflops * STOCK_SHARE_OF_PEAK), False


def disk_bytes(frames: int, channels: int, sample_rate: int, stems: int) -> tuple[int, int]:
    """Return the bytes that the result takes, and those that the work needs beside it while it runs.

    ``stems`` counts the files of the result, the residual among them.
    """
    one = frames * channels * FLOAT_BYTES
    mixture = int(frames / sample_rate * MODEL_RATE_HZ) * 2 * FLOAT_BYTES
    return one * stems, mixture + one * stems
