"""One word for model, overlap and shifts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quality:
    """What one word of ``--quality`` stands for."""

    model: str
    overlap: float
    shifts: int


QUALITIES = {
    "draft": Quality("htdemucs", overlap=0.1, shifts=0),
    "good": Quality("htdemucs", overlap=0.25, shifts=0),
    "best": Quality("htdemucs_ft", overlap=0.25, shifts=2),
}
