"""The values that make a stem's item play exactly what the original's plays."""

from __future__ import annotations

import msgspec

from stembridge.reaper.item_chunk import REVERSED_WHOLE, section_lines
from stembridge.reaper.playing import find_form, is_section
from stembridge.reaper.snapshot import Item

TIMEBASE = ("C_BEATATTACHMODE", "C_AUTOSTRETCH")
"""Set before position and length, or a tempo change in between moves the stem away."""
PLACE = ("D_POSITION", "D_LENGTH", "D_SNAPOFFSET")
FADES = (
    "D_FADEINLEN", "D_FADEINLEN_AUTO", "D_FADEINDIR", "C_FADEINSHAPE",
    "D_FADEOUTLEN", "D_FADEOUTLEN_AUTO", "D_FADEOUTDIR", "C_FADEOUTSHAPE", "I_FADELPF",
)  # fmt: skip
TAKE_SPEED = ("D_PLAYRATE", "B_PPITCH", "D_PITCH", "I_PITCHMODE", "I_STRETCHFLAGS", "F_STRETCHFADESIZE")
TAKE_SOUND = ("I_CHANMODE", "D_VOL", "D_PAN", "D_PANLAW")

_RENDERED = {
    "D_PLAYRATE": 1.0, "D_PITCH": 0.0, "I_CHANMODE": 0.0, "D_VOL": 1.0, "D_PAN": 0.0, "D_PANLAW": 1.0,
}  # fmt: skip
"""What REAPER has put into a rendering, a stem of it must not do again."""


class Fit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a stem's file relates to what the original plays.

    Parameters
    ----------
    before_s, behind_s : seconds of the source that the file lacks at its beginning and end
    length_s : length of the file
    is_whole : the file is as long as the source, so that a loop goes round at the same place
    rendered_from : start offset that the original's take had when REAPER rendered it; the file is of that
        rendering then. None: it is of the source itself
    """

    before_s: float = 0.0
    behind_s: float = 0.0
    length_s: float
    is_whole: bool = True
    rendered_from: float | None = None


def lost_offset(original: Item, fit: Fit) -> float:
    """Return by how many seconds a stem's start offset is smaller than the original's.

    That is what the file lacks at the end from which the offset is counted.
    """
    if fit.rendered_from is not None:
        offset = original.active.values["D_STARTOFFS"]
        return offset - (offset - fit.rendered_from) / original.active.values["D_PLAYRATE"]
    form = find_form(original)
    if form is None:
        return fit.before_s
    return fit.behind_s if form.mode == REVERSED_WHOLE else 0.0


def fit_position(original: Item, fit: Fit, at: float) -> float:
    """Return where a stem's source has what the original's has at ``at`` seconds."""
    if fit.rendered_from is not None:
        return (at - fit.rendered_from) / original.active.values["D_PLAYRATE"]
    return at - lost_offset(original, fit)


def fit_take(original: Item, fit: Fit) -> dict[str, float]:
    """Return the values of the stem's take, by REAPER's names, in the order in which they are set."""
    values = original.active.values
    offset = fit_position(original, fit, values["D_STARTOFFS"])
    if fit.rendered_from is not None:
        return {**_RENDERED, "D_STARTOFFS": offset}
    return {**{name: values[name] for name in (*TAKE_SPEED, *TAKE_SOUND)}, "D_STARTOFFS": offset}


def fit_item(original: Item, fit: Fit) -> dict[str, float]:
    """Return the values of the stem's item, by REAPER's names, in the order in which they are set.

    A file that is only a part of the source does not loop: it would go round at another place. A rendering
    has been stretched to the tempo already.
    """
    values = original.values
    if fit.rendered_from is not None:
        values = values | {"C_AUTOSTRETCH": 0.0}
    can_loop = fit.rendered_from is None and (fit.is_whole or is_section(original))
    return {
        **{name: values[name] for name in (*TIMEBASE, *PLACE, *FADES, "D_VOL")},
        **({"I_GROUPID": values["I_GROUPID"]} if values["I_GROUPID"] > 0 else {}),
        "B_LOOPSRC": values["B_LOOPSRC"] if can_loop else 0.0,
    }


def fit_section(original: Item, fit: Fit) -> list[str]:
    """Return the lines of the section that the stem's take plays; none where it plays a whole file."""
    form = None if fit.rendered_from is not None else find_form(original)
    if form is None:
        return []
    assert original.active.media.section is not None
    offset, length, _ = original.active.media.section
    if form.mode == REVERSED_WHOLE:
        return section_lines(form.mode, 0.0, fit.length_s, form.overlap)
    return section_lines(form.mode, offset - fit.before_s, length, form.overlap)
