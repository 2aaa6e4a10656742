"""One word for what a remix is for: model, shifts, overlap, stems and preset together. Standard library only.

``--use karaoke``, ``--use practice:bass``: every part of it can still be named, and what is named wins.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from stembridge.catalog import FOUR_SOURCES, SIX_SOURCES
from stembridge.errors import RequestError
from stembridge.quality import QUALITIES, Quality

PRACTICE = "practice"
_SIX_STEM_MODEL = "htdemucs_6s"
_PREVIEW = Quality("preview", overlap=0.25, shifts=0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one use stands for.

    Parameters
    ----------
    use : as it was asked for
    what : one line for a person
    quality : model, overlap and shifts of the split
    preset : name of a preset; '' where the use leaves that open
    two_stems : the one stem that is needed beside its complement; None where all are
    """

    use: str
    what: str
    quality: Quality
    preset: str = ""
    two_stems: str | None = None


_RECIPES = (
    Recipe("karaoke", "the backing track to sing to, one model run", QUALITIES["good"], "karaoke", "vocals"),
    Recipe("acapella", "the voice alone, as clean as it gets", QUALITIES["best"], "acapella", "vocals"),
    Recipe("remix", "all stems, as clean as they get; any preset", QUALITIES["best"]),
    Recipe("preview", "all stems at once, without a model; any preset", _PREVIEW),
)

USES = (*(recipe.use for recipe in _RECIPES), *(f"{PRACTICE}:{stem}" for stem in SIX_SOURCES))
"""What ``--use`` takes."""


def find_recipe(use: str) -> Recipe:
    """Return the recipe for a use.

    Parameters
    ----------
    use : one of `USES`

    Raises
    ------
    RequestError
        There is none of that name.
    """
    for recipe in _RECIPES:
        if recipe.use == use:
            return recipe
    if use not in USES:
        names = USES if ":" in use else [*(recipe.use for recipe in _RECIPES), PRACTICE]
        near = difflib.get_close_matches(use, names, n=1)
        suggested = f"{PRACTICE}:STEM" if near == [PRACTICE] else "".join(near)
        meant = f"did you mean {suggested}? " if near else ""
        raise RequestError(f"--use {use!r} is none", f"{meant}one of {', '.join(USES)}")
    stem = use.removeprefix(f"{PRACTICE}:")
    good = QUALITIES["good"]
    quality = good if stem in FOUR_SOURCES else Quality(_SIX_STEM_MODEL, good.overlap, good.shifts)
    return Recipe(use, f"everything but {stem}, to play along", quality, f"practice-minus-{stem}", stem)
