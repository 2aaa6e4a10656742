"""The text of ours that tracks and items carry in the project (P_EXT:stembridge)."""

from __future__ import annotations

import msgspec

from stembridge.reaper.fitting import Fit


class TrackTag(msgspec.Struct, frozen=True, tag_field="is", tag="track"):
    """A track made for one stem of the items on track ``of``."""

    stem: str
    of: str


class StemTag(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="stem", omit_defaults=True):
    """An item that holds one stem.

    Parameters
    ----------
    stem, model, job : what it is and who made it
    family : what it shares with its original and the other stems, wherever they are copied to
    source : sha256 of the original's audio, as the result's manifest has it
    folder : where the result was
    fit : how the file relates to what the original plays
    is_approximate : placed with effects that do not sum
    """

    stem: str
    model: str
    job: str
    family: str
    source: str
    folder: str
    fit: Fit
    is_approximate: bool = False


class OriginalTag(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="original", omit_defaults=True
):
    """An item for which its stems stand; ``was_muted`` is how it was before."""

    job: str
    family: str
    was_muted: bool = False


Tag = TrackTag | StemTag | OriginalTag
_decoder: msgspec.json.Decoder[Tag] = msgspec.json.Decoder(Tag)


def write_tag(tag: Tag) -> str:
    """Return ``tag`` as one line of text."""
    return msgspec.json.encode(tag).decode()


def read_tag(text: str) -> Tag | None:
    """Return what the text says, or None where it is no tag of ours."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None
