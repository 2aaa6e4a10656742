"""How stems look in a project: names and colours."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from stembridge.manifest import RESIDUAL

Color = tuple[int, int, int]

GREY: Color = (128, 128, 128)
WARNING: Color = (230, 120, 0)
LOUD_RESIDUAL_DB = -20.0
"""Above this the model has left so much over that a person should look."""


@dataclass(frozen=True, slots=True)
class Look:
    """The name of a stem's track, and its colour as red, green, blue."""

    name: str
    color: Color


DEFAULT_LOOKS = {
    "drums": Look("Drums", (214, 96, 77)),
    "bass": Look("Bass", (94, 79, 162)),
    "other": Look("Other", (102, 166, 30)),
    "vocals": Look("Vocals", (50, 136, 189)),
    "guitar": Look("Guitar", (217, 160, 38)),
    "piano": Look("Piano", (27, 158, 119)),
    "no_vocals": Look("Instrumental", (102, 166, 30)),
    "no_drums": Look("No drums", (102, 166, 30)),
}


@dataclass(frozen=True, slots=True)
class Looks:
    """The table of the settings; a stem that is not in it gets its own name and grey."""

    stems: dict[str, Look] = field(default_factory=lambda: dict(DEFAULT_LOOKS))

    def of(self, stem: str, residual_db: float | None = None) -> Look:
        """Return the look of a stem; the residual's carries its level."""
        if stem != RESIDUAL:
            return self.stems.get(stem, Look(stem.replace("_", " ").capitalize(), GREY))
        if residual_db is None or not isfinite(residual_db):
            return Look("Residual", GREY)
        return Look(f"Residual {residual_db:.0f} dB", WARNING if residual_db > LOUD_RESIDUAL_DB else GREY)
