"""Names and lengths of time as a person reads them."""

from __future__ import annotations

import unicodedata


def one_line(text: str) -> str:
    """Return ``text`` with control characters spelled out, so that no file name can break a line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def count_cells(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes: two for a wide character, none for a mark."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def shorten(text: str, cells: int, tail: str = "") -> str:
    """Return ``text`` in at most ``cells`` columns, '...' in place of what is left out before ``tail``.

    ``tail`` is an end of ``text`` that stays whole where there is room for it.
    """
    if count_cells(text) <= cells:
        return text
    if count_cells(tail) + 4 > cells:
        tail = ""
    head = text.removesuffix(tail)
    while head and count_cells(head) + 3 + count_cells(tail) > cells:
        head = head[:-1]
    return f"{head.rstrip()}...{tail}"


def clock(seconds: float) -> str:
    """Return a length of time: '4.2 s', '37 s', '3:05 min', '1:02:03 h'."""
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def place_clock(seconds: float) -> str:
    """Return a place in a file: '0:12.0', '1:02:03.4'."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    shown = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"
