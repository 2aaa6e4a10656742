"""What an item plays of its file, and whether that can be sent as it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from stembridge.reaper.item_chunk import REVERSED_WHOLE, SectionForm, find_section_form
from stembridge.reaper.snapshot import Item, Source, Take

EXACT_TYPES = frozenset({"WAVE", "AIFF", "FLAC"})
"""Files whose frames are the same for everybody who reads them."""
LOSSY_TYPES = frozenset({"MP3", "VORBIS", "OPUS", "WAVPACK", "M4A"})
"""Files of which two decoders may make different lengths."""
BAKED_TYPES = frozenset({"RPP_PROJECT", "VIDEO", "RAW", "REX", "W64"})
"""What REAPER can play and we do not read: it renders them first."""

KEPT_REASONS = frozenset({"take effects", "a pitch shift", "a play rate that keeps the pitch"})
"""Reasons to render an item that can be kept on each of its stems instead; their sum is approximate then."""

_ROUNDING_S = 1e-9
"""Below this an end beyond the source's end is a rounding error, not a loop."""


class Way(StrEnum):
    """How an item gets to its stems."""

    DIRECT = "direct"
    LOSSY = "lossy"
    BAKED = "baked"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The way of an item, and why it is not the direct one."""

    way: Way
    reasons: tuple[str, ...] = ()

    @property
    def is_keepable(self) -> bool:
        """Whether all that keeps the item from being sent as it is can be put on each stem instead."""
        return KEPT_REASONS.issuperset(self.reasons)


@dataclass(frozen=True, slots=True)
class Played:
    """The stretch of the file that an item plays, in seconds; with ``wraps`` it goes round a loop."""

    first_s: float
    last_s: float
    wraps: bool


def judge(item: Item) -> Verdict:
    """Return how ``item`` can be split: as it is, after REAPER has rendered it, or not at all."""
    take = item.take
    if take is None or take.source is None:
        return Verdict(Way.SKIPPED, ("it is empty",))
    source = take.source
    unfit = _find_unfit(item, take, source)
    if unfit:
        return Verdict(Way.SKIPPED, (unfit,))
    reasons = tuple(_find_bake_reasons(item, take, source))
    if reasons:
        return Verdict(Way.BAKED, reasons)
    return Verdict(Way.DIRECT if source.type in EXACT_TYPES else Way.LOSSY)


def _find_unfit(item: Item, take: Take, source: Source) -> str:
    if take.is_midi or source.type.startswith("MIDI"):
        return "it is MIDI"
    if source.type not in EXACT_TYPES | LOSSY_TYPES | BAKED_TYPES:
        return f"its source is {source.type or 'of no type'}, which holds no recording"
    if not source.exists and source.type != "RPP_PROJECT":
        return f"its media is missing: {source.path}"
    if source.rate <= 0 or source.channels <= 0 or source.length <= 0:
        return "its media is offline"
    if source.length_in_beats:
        return "its source is measured in beats"
    if take.values["D_PLAYRATE"] <= 0 or item.length <= 0:
        return "it has no length"
    if item.values["B_ALLTAKESPLAY"] and item.takes > 1:
        return "all its takes play at once: choose one"
    if not find_played(item):
        return "it is silent: it lies beyond its source"
    return ""


def _find_bake_reasons(item: Item, take: Take, source: Source) -> list[str]:
    values = take.values
    found = []
    if take.fx:
        found.append("take effects")
    if take.envelopes:
        found.append("take envelopes")
    if take.stretch_markers:
        found.append("stretch markers")
    if values["IP_SPECEDIT:CNT"]:
        found.append("spectral edits")
    if item.values["C_AUTOSTRETCH"] > 0:
        found.append("stretching to the tempo")
    if values["D_PITCH"]:
        found.append("a pitch shift")
    if values["D_PLAYRATE"] != 1 and values["B_PPITCH"]:
        found.append("a play rate that keeps the pitch")
    if source.depth > 1:
        found.append("a section of a section")
    if source.depth == 1 and find_form(item) is None:
        found.append("a wrapped source")
    if source.type in BAKED_TYPES:
        found.append(f"a source of type {source.type}")
    return found


def find_form(item: Item) -> SectionForm | None:
    """Return how the item's section is made, or None where it plays a file as it is."""
    take = item.take
    if take is None or take.source is None or take.source.section is None:
        return None
    return find_section_form(take.source.chunk, take.index)


def is_section(item: Item) -> bool:
    """Tell whether the item plays a part of its file that has a start and a length of its own."""
    form = find_form(item)
    return form is not None and form.mode != REVERSED_WHOLE


def find_played(item: Item) -> Played | None:
    """Return what the item plays of its file, or None where that is nothing but silence."""
    take = item.take
    if take is None or take.source is None:
        return None
    source = take.source
    first = take.values["D_STARTOFFS"]
    last = first + item.length * take.values["D_PLAYRATE"]
    wraps = bool(item.values["B_LOOPSRC"]) and (first < 0 or last > source.length + _ROUNDING_S)
    if wraps:
        first, last = 0.0, source.length
    first, last = max(first, 0.0), min(last, source.length)
    if last <= first:
        return None
    if source.section is not None:
        offset, length, is_backwards = source.section
        first, last = (offset + length - last, offset + length - first) if is_backwards else (
            offset + first, offset + last,
        )  # fmt: skip
    first, last = max(first, 0.0), min(last, source.file_length)
    return Played(first, last, wraps) if first < last else None


def find_needed(item: Item) -> tuple[float, float] | None:
    """Return first and last second of the file that stems have to cover, or None where that is nothing.

    That is what is played; of a section all of it, because a stem's section keeps its length; of a loop that
    goes round all that it goes round.
    """
    played = find_played(item)
    if played is None:
        return None
    media = item.active.media
    if media.section is not None and is_section(item):
        offset, length, _ = media.section
        return max(offset, 0.0), min(offset + length, media.file_length)
    return played.first_s, played.last_s


def trim(item: Item, start: float, end: float) -> Item:
    """Return ``item`` as it would be if it were cut to that part of the project: new edges have no fade."""
    take = item.active
    offset = take.values["D_STARTOFFS"] + (start - item.position) * take.values["D_PLAYRATE"]
    values = item.values | {"D_POSITION": start, "D_LENGTH": end - start}
    if start > item.position:
        values |= {"D_FADEINLEN": 0.0, "D_FADEINLEN_AUTO": -1.0, "D_SNAPOFFSET": 0.0}
    if end < item.end:
        values |= {"D_FADEOUTLEN": 0.0, "D_FADEOUTLEN_AUTO": -1.0}
    return msgspec.structs.replace(
        item,
        values=values,
        take=msgspec.structs.replace(take, values=take.values | {"D_STARTOFFS": offset}),
    )
