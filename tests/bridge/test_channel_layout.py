"""Which channels are separated together: pairs stay pairs, every channel has one place, none is dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge.channel_layout import (
    CORE_AUDIO_ORDERS,
    SPEAKERS,
    VORBIS_ORDERS,
    conventional_mask,
    find_groups,
    find_layout,
    mask_of,
    wave_order,
)


@pytest.mark.parametrize(
    ("channels", "name", "speakers", "groups"),
    [
        (1, "mono", "FC", ((0,),)),
        (2, "stereo", "FL FR", ((0, 1),)),
        (3, "3.0", "FL FR FC", ((0, 1), (2,))),
        (4, "quad", "FL FR BL BR", ((0, 1), (2, 3))),
        (5, "5.0", "FL FR FC BL BR", ((0, 1), (2,), (3, 4))),
        (6, "5.1", "FL FR FC LFE BL BR", ((0, 1), (2,), (3,), (4, 5))),
        (7, "6.1", "FL FR FC LFE BC SL SR", ((0, 1), (2,), (3,), (4,), (5, 6))),
        (8, "7.1", "FL FR FC LFE BL BR SL SR", ((0, 1), (2,), (3,), (4, 5), (6, 7))),
    ],
)
def test_without_a_mask_the_number_of_channels_says_it(
    channels: int, name: str, speakers: str, groups: tuple[tuple[int, ...], ...]
) -> None:
    layout = find_layout(channels)
    assert (layout.name, " ".join(layout.speakers), layout.groups) == (name, speakers, groups)
    assert find_layout(channels, conventional_mask(channels)) == layout


@pytest.mark.parametrize(
    ("speakers", "channels", "name", "groups"),
    [
        ("FC", 1, "mono", ((0,),)),
        ("FL", 1, "1 channel", ((0,),)),
        ("FL FC", 2, "2 channels", ((0,), (1,))),
        ("FR FC", 2, "2 channels", ((0,), (1,))),
        ("FL FR LFE", 3, "2.1", ((0, 1), (2,))),
        ("FL FR FC BC", 4, "4.0", ((0, 1), (2,), (3,))),
        ("FL FR FC LFE SL SR", 6, "5.1 (side)", ((0, 1), (2,), (3,), (4, 5))),
        ("FL FR FC LFE BL BR FLC FRC", 8, "7.1 (wide)", ((0, 1), (2,), (3,), (4, 5), (6, 7))),
        # Top speakers: the bit of the centre stands between those of left and right.
        ("FL FR TFL TFC TFR TBL TBC TBR", 8, "8 channels", ((0, 1), (2, 4), (3,), (5, 7), (6,))),
        ("FL FR BL SR", 4, "4 channels", ((0, 1), (2,), (3,))),
        # More channels than bits: the rest has no speaker; more bits than channels: the lowest count.
        ("FL FR", 4, "4 channels", ((0, 1), (2,), (3,))),
        ("FL FR FC LFE BL BR", 2, "stereo", ((0, 1),)),
        ("FL FR FC LFE BL BR", 5, "5 channels", ((0, 1), (2,), (3,), (4,))),
    ],
)
def test_a_mask_says_it(speakers: str, channels: int, name: str, groups: tuple[tuple[int, ...], ...]) -> None:
    layout = find_layout(channels, mask_of(speakers.split()))
    assert (layout.name, layout.groups) == (name, groups)


def test_a_channel_without_a_speaker_is_named_by_its_number() -> None:
    assert find_layout(4, mask_of(["FL", "FR"])).speakers == ("FL", "FR", "channel 3", "channel 4")


@given(channels=st.integers(1, 8), mask=st.integers(0, 2**32 - 1))
def test_every_channel_is_in_one_group(channels: int, mask: int) -> None:
    groups = find_groups(channels, mask)
    assert sorted(index for group in groups for index in group) == list(range(channels))
    assert all(1 <= len(group) <= 2 for group in groups)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    assert len(find_layout(channels, mask).speakers) == channels


@pytest.mark.parametrize("speakers", [*VORBIS_ORDERS.values(), *CORE_AUDIO_ORDERS.values()])
def test_an_order_is_put_into_that_of_the_speakers_bits(speakers: tuple[str, ...]) -> None:
    order = wave_order(speakers) or tuple(range(len(speakers)))
    sorted_speakers = [speakers[index] for index in order]
    assert sorted_speakers == sorted(speakers, key=SPEAKERS.index)
    assert sorted_speakers == list(find_layout(len(speakers), mask_of(speakers)).speakers)


def test_the_orders_of_vorbis_are_those_of_its_specification() -> None:
    # Vorbis I, section 4.3.9.
    assert wave_order(VORBIS_ORDERS[2]) == ()
    assert wave_order(VORBIS_ORDERS[4]) == ()
    assert wave_order(VORBIS_ORDERS[3]) == (0, 2, 1)
    assert wave_order(VORBIS_ORDERS[5]) == (0, 2, 1, 3, 4)
    assert wave_order(VORBIS_ORDERS[6]) == (0, 2, 1, 5, 3, 4)
    assert wave_order(VORBIS_ORDERS[7]) == (0, 2, 1, 6, 5, 3, 4)
    assert wave_order(VORBIS_ORDERS[8]) == (0, 2, 1, 7, 5, 6, 3, 4)


def test_more_than_eight_channels_have_no_convention() -> None:
    assert conventional_mask(9) == 0
    assert find_groups(9) == tuple((index,) for index in range(9))
