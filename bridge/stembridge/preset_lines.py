"""Where in a preset's file a key stands. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping

Place = tuple[str | int, ...]
"""A way into a TOML document: ('stems', 'vocals', 'effects', 0, 'kind')."""

_MOST_DEPTH = 64

_PART = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"\s*(\[{{1,2}})\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")


def list_lines(text: str) -> dict[Place, int]:
    """Return the line, from 1, at which each table and key of a TOML document begins.

    What is written inside of another value, as inline tables are, is not listed.
    """
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    inside: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            inside = _resolve(_split(header[2]), counts, is_new=header[1] == "[[")
            place = inside
        elif key := _KEY.match(line):
            place = (*inside, *_split(key[1]))
        else:
            continue
        # A line of a longer text can look like a key of any depth.
        for end in range(1, min(len(place), _MOST_DEPTH) + 1):
            lines.setdefault(place[:end], number)
    return lines


def find_line(lines: Mapping[Place, int], place: Place) -> int | None:
    """Return the line of ``place``, else of the nearest table around it; None where there is neither."""
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return None


def _split(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, dotted)]


def _resolve(parts: list[str], counts: dict[Place, int], *, is_new: bool) -> Place:
    """Return a header's place; an array of tables on the way stands for its last table."""
    place: Place = ()
    for index, part in enumerate(parts, 1):
        place = (*place, part)
        if is_new and index == len(parts):
            counts[place] = counts.get(place, 0) + 1
        if place in counts:
            place = (*place, counts[place] - 1)
    return place
