"""How a set of stems looks in a notebook: a player and a waveform per stem, as one piece of HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stembridge.stem_table import claim_sentence

if TYPE_CHECKING:
    from stembridge.python_api import Stems

COLUMNS = 600
HEIGHT = 48


def render_stems(stems: Stems, players: Mapping[str, bytes]) -> str:
    """Return the HTML of a set; ``players`` holds an MP3 of each stem, for listening only."""
    model = stems.manifest.model.name
    quality = " (preview quality, no model)" if model == "preview" else ""
    verdict = claim_sentence(stems.manifest) if stems.null.holds else stems.null.failures[0]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{draw_waveform(stems[name])}</td>"
        f'<td><audio controls preload="none" src="data:audio/mpeg;base64,'
        f'{base64.b64encode(players[name]).decode()}"></audio></td></tr>'
        for name in stems.names
    )
    return (
        f"<div><b>{escape(model)}</b>{escape(quality)}: {escape(verdict)}"
        f"<table>{rows}</table><code>{escape(str(stems.folder))}</code></div>"
    )


def draw_waveform(samples: NDArray[np.float64]) -> str:
    """Return an SVG of the extremes of (channels, frames) samples over time, full scale at its edges."""
    frames = samples.shape[1]
    columns = max(1, min(COLUMNS, frames))
    edges = np.arange(columns) * frames // columns
    highs = np.maximum.reduceat(samples.max(axis=0), edges).clip(-1, 1)
    lows = np.minimum.reduceat(samples.min(axis=0), edges).clip(-1, 1)
    middle = HEIGHT / 2
    steps = " ".join(
        f"M{x} {middle - high * middle:.1f}V{middle - low * middle + 0.5:.1f}"
        for x, (high, low) in enumerate(zip(highs.tolist(), lows.tolist(), strict=True))
    )
    return (
        f'<svg width="{COLUMNS}" height="{HEIGHT}" viewBox="0 0 {columns} {HEIGHT}" '
        f'preserveAspectRatio="none"><path d="{steps}" stroke="currentColor" fill="none"/></svg>'
    )
