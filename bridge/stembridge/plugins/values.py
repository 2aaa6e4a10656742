"""Which raw value shows a text: plugins write 0..1 out as they like, and are asked until it fits."""

from __future__ import annotations

import re
from collections.abc import Callable

STEPS = 1000
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*(k?)")


def find_raw_value(text_at: Callable[[float], str], wanted: str) -> float | None:
    """Return the raw value whose text is ``wanted``, or comes next to that number; None where none does.

    Parameters
    ----------
    text_at : gives the text of a raw value
    wanted : a text as the plugin writes it, or its number alone; units but for k are passed over
    """
    grid = [step / STEPS for step in range(STEPS + 1)]
    texts = [text_at(raw) for raw in grid]
    same = [raw for raw, text in zip(grid, texts, strict=True) if text.casefold() == wanted.casefold()]
    if same:
        return same[len(same) // 2]
    number = _read_number(wanted)
    shown = {
        raw: found for raw, text in zip(grid, texts, strict=True) if (found := _read_number(text)) is not None
    }
    if number is None or not shown:
        return None
    near = min(shown, key=lambda raw: abs(shown[raw] - number))
    fine = [near + (step / STEPS - 1.0) / STEPS for step in range(2 * STEPS + 1)]
    finer = {
        raw: found
        for raw in (near, *(raw for raw in fine if 0.0 <= raw <= 1.0))
        if (found := _read_number(text_at(raw))) is not None
    }
    if not min(finer.values()) <= number <= max(finer.values()):
        return None
    return min(finer, key=lambda raw: abs(finer[raw] - number))


def _read_number(text: str) -> float | None:
    found = _NUMBER.match(text.strip())
    return None if found is None else float(found[1]) * (1000.0 if found[2] else 1.0)
