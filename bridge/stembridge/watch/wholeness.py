"""Whether a file holds all that its header promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wholeness:
    """What a file says of its own length.

    Parameters
    ----------
    fault : why it cannot be all of a recording, as a split would say it; '' where nothing speaks against it
    is_length_stated : its header says how long it is, so that a missing end would have shown
    """

    fault: str
    is_length_stated: bool


def examine(path: Path) -> Wholeness:
    """Return whether a file holds what its header promises."""
    raise NotImplementedError
