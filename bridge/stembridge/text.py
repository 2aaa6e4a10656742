"""Names and lengths of time as a person reads them."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return ``text`` with control characters spelled out, so that no file name can break a line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def clock(seconds: float) -> str:
    """Return a length of time: '4.2 s', '37 s', '3:05 min', '1:02:03 h'."""
    if seconds < 9.5:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"
