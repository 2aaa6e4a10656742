"""What a set of stems or a remix can be asked to be. The front asks too, so no numpy here."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from stembridge.errors import RequestError
from stembridge.types import AUTO_FORMAT, CATCH_ALL, FILE_FORMATS, ResidualPolicy

MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_PITCH_SEMITONES = 24.0


def find_policy(name: str) -> ResidualPolicy:
    """Return the policy of that name.

    Raises
    ------
    RequestError : there is none
    """
    try:
        return ResidualPolicy(name)
    except ValueError:
        known = ", ".join(policy.value for policy in ResidualPolicy)
        raise RequestError(f"residual {name!r}", f"one of {known}") from None


def check_format(name: str) -> None:
    """Refuse what is neither `AUTO_FORMAT` nor a name of `FILE_FORMATS`.

    Raises
    ------
    RequestError : naming the formats there are
    """
    if name != AUTO_FORMAT and name not in FILE_FORMATS:
        raise RequestError(f"format {name!r}", f"one of {AUTO_FORMAT}, {', '.join(FILE_FORMATS)}")


def check_delivery(
    *, file_format: str, residual: ResidualPolicy, mono: Sequence[str], stems: Sequence[str], is_full: bool
) -> None:
    """Refuse what no source could be delivered as.

    Parameters
    ----------
    file_format : a name of `FILE_FORMATS`, or `AUTO_FORMAT`
    mono : stems of which the mid alone is wanted
    stems : the stems of the set
    is_full : the stems are all that the model knows

    Raises
    ------
    RequestError : naming the option, its value and the remedy
    """
    check_format(file_format)
    for name in mono:
        if name not in stems:
            raise RequestError(f"mono {name!r} is no stem of this set", f"it has {', '.join(stems)}")
    if residual is not ResidualPolicy.OWN and not is_full:
        raise RequestError(
            f"residual {residual.value!r} with some of the stems",
            "what the other stems hold is in the residual: ask for all stems, or leave out residual",
        )
    if residual is ResidualPolicy.OTHER and CATCH_ALL not in stems:
        raise RequestError(
            f"residual {residual.value!r} without a stem named {CATCH_ALL!r}", f"there are {', '.join(stems)}"
        )
    if mono and residual.is_fold:
        raise RequestError(
            f"residual {residual.value!r} with mono stems",
            "the side of a mono stem needs a residual to go to: leave out one of the two",
        )


def check_practice(speed: float, pitch_semitones: float) -> None:
    """Refuse what no practice version can be.

    Raises
    ------
    RequestError : naming the option, its value and its range
    """
    if not (isfinite(speed) and MIN_SPEED <= speed <= MAX_SPEED):
        raise RequestError(f"speed {speed:g}", f"{MIN_SPEED:g} to {MAX_SPEED:g}; 1 is the remix' own")
    if not (isfinite(pitch_semitones) and abs(pitch_semitones) <= MAX_PITCH_SEMITONES):
        raise RequestError(
            f"pitch {pitch_semitones:g} semitones", f"{-MAX_PITCH_SEMITONES:g} to {MAX_PITCH_SEMITONES:g}"
        )
