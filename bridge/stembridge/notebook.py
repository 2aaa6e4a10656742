"""How a set of stems looks in a notebook: a player and a waveform per stem, as one piece of HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stembridge.stem_table import claim_sentence

if TYPE_CHECKING:
    from stembridge.python_api import Remix, Stems

COLUMNS = 600
HEIGHT = 48


def render_stems(stems: Stems, players: Mapping[str, bytes]) -> str:
    """Return the HTML of a set; ``players`` holds an MP3 of each stem, for listening only."""
    model = stems.manifest.model.name
    quality = " (preview quality, no model)" if model == "preview" else ""
    verdict = claim_sentence(stems.manifest) if stems.null.holds else stems.null.failures[0]
    arrays = {name: stems[name] for name in stems.names}
    return _render(
        f"<b>{escape(model)}</b>{escape(quality)}: {escape(verdict)}", stems.folder, arrays, players
    )


def render_remix(
    remix: Remix, arrays: Mapping[str, NDArray[np.float64]], players: Mapping[str, bytes]
) -> str:
    """Return the HTML of a remix and what stands beside it; ``players`` holds an MP3 of each array."""
    entry = remix.manifest.remix
    assert entry is not None
    verdict = claim_sentence(remix.manifest) if remix.null.holds else remix.null.failures[0]
    return _render(f"<b>{escape(entry.preset)}</b>: {escape(verdict)}", remix.folder, arrays, players)


def _render(
    head: str, folder: Path, arrays: Mapping[str, NDArray[np.float64]], players: Mapping[str, bytes]
) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{draw_waveform(array)}</td>"
        f'<td><audio controls preload="none" src="data:audio/mpeg;base64,'
        f'{base64.b64encode(players[name]).decode()}"></audio></td></tr>'
        for name, array in arrays.items()
    )
    return f"<div>{head}<table>{rows}</table><code>{escape(str(folder))}</code></div>"


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
