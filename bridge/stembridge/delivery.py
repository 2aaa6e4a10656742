"""What a set of stems or a remix can be asked to be. The front asks too, so no numpy here."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from math import isfinite

from stembridge.errors import RequestError
from stembridge.types import (
    AUTO_FORMAT,
    CATCH_ALL,
    FILE_FORMATS,
    FILE_NAMES,
    SESSIONS,
    Region,
    ResidualPolicy,
)

MIN_SPEED, MAX_SPEED = 0.25, 4.0
MAX_PITCH_SEMITONES = 24.0

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
FORBIDDEN_IN_NAMES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]')
"""What no file name may hold, on one system or another."""

MAX_FILE_NAME_BYTES = 240
"""File systems end at 255; a DAW's own file beside it, 'song.wav.reapeaks', has to fit too."""

NAME_FIELDS = {"name": 40, "stem": 32, "model": 48, "job8": 8}
"""Fields of a template of file names, and the bytes of UTF-8 that each may need; a name gets what is left."""

_FIELD = re.compile(r"\{(\w*)\}")
_LONGEST_ENDING = max(len(known.suffix) for known in FILE_FORMATS.values())


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


def check_file_names(template: str) -> None:
    """Refuse what cannot name the files of a set.

    Parameters
    ----------
    template : as `stembridge.types.SplitRequest.file_names`

    Raises
    ------
    RequestError : naming the template, what is wrong with it, and one that works
    """
    fields = _FIELD.findall(template)
    rest = _FIELD.sub("", template)
    unknown = [field for field in fields if field not in NAME_FIELDS]
    forbidden = FORBIDDEN_IN_NAMES.search(rest)
    bytes_needed = len(rest.encode(errors="replace")) + sum(NAME_FIELDS.get(field, 0) for field in fields)
    fault = ""
    if unknown:
        fault = f"{{{unknown[0]}}} is no field"
    elif "{" in rest or "}" in rest:
        fault = "a brace stands alone"
    elif "stem" not in fields:
        fault = "without {stem} all files would be called the same"
    elif forbidden:
        fault = f"{forbidden[0]!r} cannot be in a file name"
    elif template.startswith((".", " ")):
        fault = "a name that begins with a dot or a space is hidden or lost"
    elif bytes_needed + _LONGEST_ENDING > MAX_FILE_NAME_BYTES:
        fault = f"names could have {bytes_needed + _LONGEST_ENDING} bytes, more than {MAX_FILE_NAME_BYTES}"
    if fault:
        known = ", ".join(f"{{{field}}}" for field in NAME_FIELDS)
        raise RequestError(
            f"file_names {template[:80]!r}: {fault}", f"as in {FILE_NAMES!r}; there are {known}"
        )


def check_sessions(names: Sequence[str]) -> None:
    """Refuse session files that cannot be written here.

    Raises
    ------
    RequestError : naming the kind and the remedy
    """
    for name in names:
        if name not in SESSIONS:
            raise RequestError(f"session {name[:80]!r}", f"one of {', '.join(SESSIONS)}")
    if "aaf" in names and importlib.util.find_spec("aaf2") is None:
        raise RequestError(
            "session 'aaf' needs a package that is not here",
            'pip install "stembridge[aaf]", or leave out aaf',
        )


def check_listen_from(frame: int | None, region: Region) -> None:
    """Refuse to begin a split where it has nothing to give.

    Parameters
    ----------
    frame : as `stembridge.types.SplitRequest.listen_from`
    region : what is split

    Raises
    ------
    RequestError : naming the frame and the region
    """
    if frame is not None and not region.start <= frame < region.start + region.frames:
        raise RequestError(
            f"listen_from {frame} lies outside of the {region.frames} frames from frame {region.start} on "
            "that are split",
            f"{region.start} to {region.start + region.frames - 1}",
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
