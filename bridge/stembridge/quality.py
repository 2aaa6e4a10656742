"""One word for model, overlap and shifts; one for how a model computes."""

from __future__ import annotations

from dataclasses import dataclass

from stembridge.errors import RequestError
from stembridge.types import Precision

MAX_OVERLAP = 0.95
MAX_SHIFTS = 20


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


def find_precision(name: str) -> Precision:
    """Return the precision of that name.

    Raises
    ------
    RequestError : there is none
    """
    try:
        return Precision(name)
    except ValueError:
        raise RequestError(f"precision {name!r}", f"one of {', '.join(Precision)}") from None


def check_ranges(overlap: float, shifts: int) -> None:
    """Refuse what no split can be.

    Raises
    ------
    RequestError : naming the option, its value and its range
    """
    if not 0 <= overlap <= MAX_OVERLAP:
        raise RequestError(f"overlap {overlap:g}", f"between 0 and {MAX_OVERLAP:g}")
    if not 0 <= shifts <= MAX_SHIFTS:
        raise RequestError(f"shifts {shifts}", f"between 0 and {MAX_SHIFTS}")
