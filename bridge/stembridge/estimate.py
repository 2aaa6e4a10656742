"""How long a split will take, reckoned before it starts. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from stembridge.catalog import CatalogModel, ModelKind, members_needed
from stembridge.types import Precision, SplitRequest

HTDEMUCS_GFLOP_PER_S = 42.9
"""Arithmetic of one pass of the official HTDemucs per second of audio at no overlap: 334.9 GFLOP for each
segment of 7.8 s, as ``benchmarks/engine.py`` counts stock's forward."""
FAST_SHARE_OF_PEAK = 0.6
"""Share of the float32 matrix peak at which HTDemucs runs on a CPU in full precision: 'of the matrix peak'
in ``benchmarks/engine.py``, on two cores with AMX."""
STOCK_SHARE_OF_PEAK = 0.35
"""The same of stock's forward, by which all other models are reckoned."""
SEGMENT_S = 7.8
"""What a model's segments last where the catalog says nothing: those of the official HTDemucs."""
PREVIEW_COST = 0.15
"""Seconds of one core per second of audio for `preview`, until this machine has measured its own."""


def pass_seconds(model: CatalogModel, request: SplitRequest, audio_s: float) -> float:
    """Return the seconds of audio that go through a network in all: members, shifts and overlap counted.

    Segments are as few as the overlap allows; those of HTDemucs are always whole ones. On the grid of its
    source a region takes in the segments that only touch it, on the average one more.
    """
    segment_s = model.segment_s or SEGMENT_S
    if request.on_source_grid and request.region is not None:
        heard_s = (audio_s + segment_s) / (1 - request.overlap)
    else:
        more = max(0, ceil((audio_s - segment_s) / (segment_s * (1 - request.overlap))))
        heard_s = (
            (1 + more) * segment_s if _is_htdemucs(model) else audio_s + more * segment_s * request.overlap
        )
    members = max(1, len(members_needed(model, request.asked)))
    return heard_s * members * max(1, request.shifts)


def speed_name(model: str, precision: Precision) -> str:
    """Return what a measured speed is kept under: 'htdemucs', or 'htdemucs half' where half was asked for.

    Where half is not to be had, that is the speed of full: what it takes there to have asked for half.
    """
    return model if precision is Precision.FULL else f"{model} {precision}"


def measured_cost(
    model: CatalogModel, precision: Precision, speeds: Mapping[str, float], device: str
) -> float | None:
    """Return the seconds per second of audio and pass that this machine took, or None where it never did.

    Parameters
    ----------
    precision : what is asked for
    speeds : cost by '<`speed_name`> on <device>', as `DaemonStatus.speeds` has it
    device : where the model will run; for 'auto', not yet known, the slowest that was measured counts
    """
    name = speed_name(model.name, precision)
    if device == "auto":
        costs = (cost for place, cost in speeds.items() if place.startswith(f"{name} on "))
        return max(costs, default=None)
    return speeds.get(f"{name} on {device}")


def reckoned_cost(model: CatalogModel, matrix_gflops: float) -> float:
    """Return the seconds per second of audio and pass to expect of a CPU, where nothing was measured.

    Half precision, which a machine may not have, is reckoned as full.

    Parameters
    ----------
    matrix_gflops : float32 matrix peak of the CPU in GFLOP/s, as `matrix_speed.measure_gflops` returns it
    """
    if model.kind is ModelKind.PREVIEW:
        return PREVIEW_COST
    share = FAST_SHARE_OF_PEAK if _is_htdemucs(model) else STOCK_SHARE_OF_PEAK
    return HTDEMUCS_GFLOP_PER_S / (matrix_gflops * share)


def _is_htdemucs(model: CatalogModel) -> bool:
    return model.kind is ModelKind.DEMUCS and model.segment_s is None
