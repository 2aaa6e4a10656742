"""An item's state chunk, as far as the API does not tell: how a take's section is made."""

from __future__ import annotations

from dataclasses import dataclass

SECTION = 1
REVERSED_SECTION = 2
REVERSED_WHOLE = 3


@dataclass(frozen=True, slots=True)
class SectionForm:
    """How a section is played: ``mode`` as above, ``overlap`` its crossfade in seconds where it loops."""

    mode: int
    overlap: str


def find_section_form(chunk: str, take: int) -> SectionForm | None:
    """Return the form of the section that take number ``take`` plays, or None where it plays none.

    The layout is that of "State Chunk Definitions" in ReaTeam/Doc: takes after the first begin with a line
    TAKE, and MODE 2 is a reversed section, MODE 3 a whole file in reverse.
    """
    number = depth = 0
    inside = False
    values: dict[str, str] = {}
    for line in chunk.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == ">":
            if inside and depth == 2:
                break
            depth -= 1
        elif words[0].startswith("<"):
            depth += 1
            inside = inside or (depth == 2 and number == take and words[:2] == ["<SOURCE", "SECTION"])
        elif depth == 1 and words[0] == "TAKE":
            number += 1
        elif inside and depth == 2 and len(words) > 1:
            values[words[0]] = words[1]
    if not inside:
        return None
    return SectionForm(int(values.get("MODE", SECTION)), values.get("OVERLAP", "0.01"))


def section_lines(mode: int, start_s: float, length_s: float, overlap: str) -> list[str]:
    """Return the lines of a SECTION block, every number with all of its digits."""
    lines = [f"LENGTH {length_s!r}"]
    if mode != SECTION:
        lines.append(f"MODE {mode}")
    return [*lines, f"STARTPOS {start_s!r}", f"OVERLAP {overlap}"]
