"""Which channel is which speaker, and which channels belong together.

Channels stand in WAVE order everywhere in Stembridge: the order of the bits of dwChannelMask (Microsoft,
WAVEFORMATEXTENSIBLE, mmreg.h). Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SPEAKERS = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
"""Speakers by bit of dwChannelMask."""

_BIT = {speaker: bit for bit, speaker in enumerate(SPEAKERS)}

_PAIRS = (("FL", "FR"), ("BL", "BR"), ("FLC", "FRC"), ("SL", "SR"), ("TFL", "TFR"), ("TBL", "TBR"))


def mask_of(speakers: Sequence[str]) -> int:
    """Return the bits of ``speakers``."""
    return sum(1 << _BIT[speaker] for speaker in speakers)


def _split(speakers: str) -> tuple[str, ...]:
    return tuple(speakers.split())


_CONVENTIONS = {
    1: _split("FC"),
    2: _split("FL FR"),
    3: _split("FL FR FC"),
    4: _split("FL FR BL BR"),
    5: _split("FL FR FC BL BR"),
    6: _split("FL FR FC LFE BL BR"),
    7: _split("FL FR FC LFE BC SL SR"),
    8: _split("FL FR FC LFE BL BR SL SR"),
}
"""Speakers by number of channels where a file names none (RFC 9639, section 9.1.3, which is WAVE's)."""

VORBIS_ORDERS = {
    1: _split("FC"),
    2: _split("FL FR"),
    3: _split("FL FC FR"),
    4: _split("FL FR BL BR"),
    5: _split("FL FC FR BL BR"),
    6: _split("FL FC FR BL BR LFE"),
    7: _split("FL FC FR SL SR BC LFE"),
    8: _split("FL FC FR SL SR BL BR LFE"),
}
"""Order in a file by number of channels (Vorbis I, section 4.3.9; Opus, RFC 7845, section 5.1.1.2)."""

CORE_AUDIO_ORDERS = {
    (100 << 16) | 1: _split("FC"),
    (101 << 16) | 2: _split("FL FR"),
    (108 << 16) | 4: _split("FL FR BL BR"),
    (109 << 16) | 5: _split("FL FR BL BR FC"),
    (110 << 16) | 6: _split("FL FR BL BR FC BC"),
    (113 << 16) | 3: _split("FL FR FC"),
    (114 << 16) | 3: _split("FC FL FR"),
    (115 << 16) | 4: _split("FL FR FC BC"),
    (116 << 16) | 4: _split("FC FL FR BC"),
    (117 << 16) | 5: _split("FL FR FC BL BR"),
    (118 << 16) | 5: _split("FL FR BL BR FC"),
    (119 << 16) | 5: _split("FL FC FR BL BR"),
    (120 << 16) | 5: _split("FC FL FR BL BR"),
    (121 << 16) | 6: _split("FL FR FC LFE BL BR"),
    (122 << 16) | 6: _split("FL FR BL BR FC LFE"),
    (123 << 16) | 6: _split("FL FC FR BL BR LFE"),
    (124 << 16) | 6: _split("FC FL FR BL BR LFE"),
    (125 << 16) | 7: _split("FL FR FC LFE BL BR BC"),
    (126 << 16) | 8: _split("FL FR FC LFE BL BR FLC FRC"),
    (127 << 16) | 8: _split("FC FLC FRC FL FR BL BR LFE"),
    (128 << 16) | 8: _split("FL FR FC LFE SL SR BL BR"),
}
"""Order in a CAF or AIFF file by kAudioChannelLayoutTag_* (Apple, CoreAudioBaseTypes.h)."""

_NAMES = {
    mask_of(_split(speakers)): name
    for name, speakers in {
        "mono": "FC",
        "stereo": "FL FR",
        "2.1": "FL FR LFE",
        "3.0": "FL FR FC",
        "quad": "FL FR BL BR",
        "quad (side)": "FL FR SL SR",
        "4.0": "FL FR FC BC",
        "5.0": "FL FR FC BL BR",
        "5.0 (side)": "FL FR FC SL SR",
        "5.1": "FL FR FC LFE BL BR",
        "5.1 (side)": "FL FR FC LFE SL SR",
        "6.1": "FL FR FC LFE BC SL SR",
        "7.1": "FL FR FC LFE BL BR SL SR",
        "7.1 (wide)": "FL FR FC LFE BL BR FLC FRC",
    }.items()
}


@dataclass(frozen=True, slots=True)
class ChannelLayout:
    """What the channels of a file are.

    Parameters
    ----------
    name : such as '5.1', or '5 channels' where the speakers make no layout with a name
    speakers : one name per channel, of `SPEAKERS`; 'channel 7' for a channel without a speaker
    groups : channels that are separated together, as indices from 0: pairs, and single ones as mono
    """

    name: str
    speakers: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]


def conventional_mask(channels: int) -> int:
    """Return the speakers of a file that names none, 0 above 8 channels."""
    return mask_of(_CONVENTIONS.get(channels, ()))


def find_layout(channels: int, channel_mask: int = 0) -> ChannelLayout:
    """Return the layout of ``channels`` channels in WAVE order.

    Parameters
    ----------
    channel_mask : dwChannelMask; 0 takes what is customary for the number of channels. Bits beyond the
        channels are ignored, and channels beyond the bits are mono (both as mmreg.h says).
    """
    mask = channel_mask or conventional_mask(channels)
    named = [speaker for speaker, bit in _BIT.items() if mask >> bit & 1][:channels]
    speakers = (*named, *(f"channel {index + 1}" for index in range(len(named), channels)))
    partner = {left: right for left, right in _PAIRS if left in named and right in named}
    rights = set(partner.values())
    groups = tuple(
        (index, named.index(partner[speaker])) if speaker in partner else (index,)
        for index, speaker in enumerate(speakers)
        if speaker not in rights
    )
    name = _NAMES.get(mask_of(named)) if len(named) == channels else None
    return ChannelLayout(name or f"{channels} channel{'s' * (channels != 1)}", speakers, groups)


def find_groups(channels: int, channel_mask: int = 0) -> tuple[tuple[int, ...], ...]:
    """Return the channels that are separated together, as `find_layout` does."""
    return find_layout(channels, channel_mask).groups


def wave_order(speakers: Sequence[str]) -> tuple[int, ...]:
    """Return where each channel in WAVE order lies among ``speakers``, () where they lie so already."""
    order = tuple(sorted(range(len(speakers)), key=lambda index: _BIT[speakers[index]]))
    return () if order == tuple(range(len(speakers))) else order
