"""Outlines of signals as SVG: they stretch to any width, and what is written beside them is HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import log10

Envelope = Sequence[tuple[float, float]]

FLOOR_DB = -96.0
"""The lower edge of a drawing of levels."""

_HEIGHT = 100.0
_STEPS_S = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


def draw_outlines(layers: Sequence[tuple[str, Envelope]], full_scale: float, label: str) -> str:
    """Return outlines one over the other; a layer is its class and lowest and highest sample per column.

    Parameters
    ----------
    full_scale : the magnitude at the upper and the lower edge
    label : what is seen, for those who hear the page
    """
    width = max((len(envelope) for _, envelope in layers), default=1)
    paths = [
        f'<path class="{name}" d="{_trace_outline(envelope, full_scale)}"/>'
        for name, envelope in layers
        if envelope
    ]
    if full_scale > 1:
        edges = (_place(1.0, full_scale), _place(-1.0, full_scale))
        paths.append(f'<path class="edge" d="M0,{edges[0]}H{width}M0,{edges[1]}H{width}"/>')
    return _frame(width, label, f'<path class="zero" d="M0,{_HEIGHT / 2:g}H{width}"/>' + "".join(paths))


def draw_levels(envelope: Envelope, label: str) -> str:
    """Return the level of each column from `FLOOR_DB` to 0 dBFS, and a band where all is exactly 0."""
    lines = "".join(f"M0,{_depth(level):g}H{len(envelope)}" for level in (-24, -48, -72))
    bars = "".join(
        f"M{column},{_HEIGHT:g}V{_depth(20 * log10(peak)):.1f}h1V{_HEIGHT:g}z"
        for column, pair in enumerate(envelope)
        if (peak := _magnitude(pair))
    )
    nothing = "".join(
        f"M{start},{_HEIGHT - 7:g}H{end}V{_HEIGHT:g}H{start}z" for start, end in find_zeros(envelope)
    )
    layers = (("levels", bars), ("rule", lines), ("nothing", nothing))
    drawn = "".join(f'<path class="{name}" d="{path}"/>' for name, path in layers)
    return _frame(len(envelope), label, drawn)


def find_zeros(envelope: Envelope) -> list[tuple[int, int]]:
    """Return the stretches of columns, (start, end), throughout which every sample is exactly 0."""
    stretches: list[tuple[int, int]] = []
    for column, pair in enumerate(envelope):
        if _magnitude(pair):
            continue
        if stretches and stretches[-1][1] == column:
            stretches[-1] = (stretches[-1][0], column + 1)
        else:
            stretches.append((column, column + 1))
    return stretches


def shrink(envelope: Envelope, columns: int) -> list[tuple[float, float]]:
    """Return an outline in at most ``columns`` columns."""
    count = min(columns, len(envelope))
    edges = [column * len(envelope) // count for column in range(count + 1)] if count else [0]
    groups = [envelope[start:end] for start, end in pairwise(edges)]
    return [(min(low for low, _ in group), max(high for _, high in group)) for group in groups]


def find_ticks(seconds: float) -> list[float]:
    """Return at most nine round times from 0 on, before ``seconds``."""
    step = next((step for step in _STEPS_S if seconds / step <= 8), _STEPS_S[-1] * max(1, seconds // 28_800))
    return [number * step for number in range(int(seconds / step) + 1) if number * step < 0.97 * seconds]


def _trace_outline(envelope: Envelope, full_scale: float) -> str:
    last = max(len(envelope) - 1, 1)
    places = [column * len(envelope) / last for column in range(len(envelope))]
    pairs = list(envelope)
    if len(pairs) == 1:
        places, pairs = [0.0, 1.0], pairs * 2
    upper = [
        f"{place:.6g},{_place(high, full_scale)}" for place, (_, high) in zip(places, pairs, strict=True)
    ]
    lower = [f"{place:.6g},{_place(low, full_scale)}" for place, (low, _) in zip(places, pairs, strict=True)]
    return f"M{' '.join(upper)} {' '.join(reversed(lower))}z"


def _place(value: float, full_scale: float) -> str:
    return f"{_HEIGHT / 2 * (1 - value / full_scale):.4g}"


def _depth(level_db: float) -> float:
    return _HEIGHT * min(1.0, max(0.0, level_db / FLOOR_DB))


def _magnitude(pair: tuple[float, float]) -> float:
    return max(abs(pair[0]), abs(pair[1]))


def _frame(width: int, label: str, drawn: str) -> str:
    return (
        f'<svg viewBox="0 0 {max(width, 1)} {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{drawn}</svg>'
    )
