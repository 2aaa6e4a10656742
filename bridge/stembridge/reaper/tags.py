"""The text of ours that tracks and items carry in the project (P_EXT:stembridge)."""

from __future__ import annotations

import msgspec


class TrackTag(msgspec.Struct, frozen=True, tag_field="is", tag="track"):
    """A track made for one stem of the items on track ``of``."""

    stem: str
    of: str


class StemTag(msgspec.Struct, frozen=True, tag_field="is", tag="stem", omit_defaults=True):
    """An item that holds one stem of item ``of``, or of the audio that item had before.

    Parameters
    ----------
    stem, model, job : what it is and who made it
    of : GUID of the original item
    source : sha256 of the original's audio as the result's manifest has it
    folder : result folder at the time, for what the file alone does not tell
    before_s, behind_s : seconds of the source that the stem's file lacks at either end
    placed : position, length, start offset, play rate and volume that the item was given
    is_approximate : placed with effects that do not sum
    """

    stem: str
    model: str
    job: str
    of: str
    source: str
    folder: str
    before_s: float = 0.0
    behind_s: float = 0.0
    placed: tuple[float, ...] = ()
    is_approximate: bool = False


class OriginalTag(msgspec.Struct, frozen=True, tag_field="is", tag="original", omit_defaults=True):
    """An item whose stems stand for it; ``was_muted`` is how it was before."""

    job: str
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
