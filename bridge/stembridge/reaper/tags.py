"""The text of ours that tracks and items carry in the project (P_EXT:stembridge)."""

from __future__ import annotations

import msgspec

from stembridge.reaper.fitting import Fit


class TrackTag(msgspec.Struct, frozen=True, tag_field="is", tag="track", omit_defaults=True):
    """A track made for one stem of the items on track ``of``.

    ``is_return`` where the stem is what a remix adds to those of the split.
    """

    stem: str
    of: str
    is_return: bool = False


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
    is_return : what a remix adds to the stems of ``job``, which is '' while no remix does
    takes : index of the item's take that plays what a job has made, the split itself or remixes of it
    take_count : so many takes the item had then; with another number ``takes`` says nothing
    """

    stem: str
    model: str
    job: str
    family: str
    source: str
    folder: str
    fit: Fit
    is_approximate: bool = False
    is_return: bool = False
    takes: dict[str, int] = {}
    take_count: int = 0


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
