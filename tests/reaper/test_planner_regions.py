"""What is separated for the items of a source: no less than they play, and little more."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpreter import take_snapshot
from reaper_fake import FakeReaper, Item, Media, section_of
from reaper_fake.model import Source
from stembridge.reaper.fitting import Fit, fit_take
from stembridge.reaper.item_chunk import REVERSED_SECTION, REVERSED_WHOLE, SECTION, find_section_form
from stembridge.reaper.playing import Way, find_needed, judge
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.regions import REACH_S, Extent, plan_regions
from stembridge.reaper.requests import Options, Wanted, form_requests
from stembridge.reaper.snapshot import Item as SnapItem
from stembridge.settings import load_settings
from stembridge.types import Region

RATES = (11025, 22050, 44100, 48000, 96000, 192000)


@st.composite
def demands(draw: st.DrawFn) -> tuple[list[tuple[float, float]], Extent, float]:
    rate = draw(st.sampled_from(RATES))
    extent = Extent(draw(st.integers(1, 4000 * rate)), rate)
    inside = st.floats(0, extent.seconds, exclude_max=False)
    pairs = draw(st.lists(st.tuples(inside, inside), min_size=1, max_size=8))
    handles_s = draw(st.sampled_from((0.0, 0.5, 1.0, 2.0, 60.0)))
    return [(min(pair), max(pair)) for pair in pairs], extent, handles_s


@given(demands())
def test_a_region_holds_what_is_played_and_its_handles(
    demand: tuple[list[tuple[float, float]], Extent, float],
) -> None:
    spans, extent, handles_s = demand
    planned = plan_regions(spans, extent, handles_s)
    assert len(planned) == len(spans)
    margin_s = max(handles_s, REACH_S)
    for (first, last), region in zip(spans, planned, strict=True):
        if region is None:
            continue
        end = region.start + region.frames
        assert 0 <= region.start < end <= extent.frames
        assert region.start % extent.rate == 0
        assert (extent.frames - end) % extent.rate == 0
        assert region.start == 0 or region.start / extent.rate <= first - margin_s + 1e-9
        assert end == extent.frames or end / extent.rate >= last + margin_s - 1e-9


@given(demands())
def test_regions_of_one_source_do_not_overlap_and_are_worth_it(
    demand: tuple[list[tuple[float, float]], Extent, float],
) -> None:
    planned = plan_regions(*demand)
    extent = demand[1]
    regions = sorted({region for region in planned if region is not None}, key=lambda region: region.start)
    assert not regions or None not in planned
    for before, behind in pairwise(regions):
        assert before.start + before.frames <= behind.start
    assert sum(region.frames for region in regions) < 0.6 * extent.frames or not regions
    assert not regions or extent.seconds > 15


def test_a_chop_of_a_long_song_costs_little_more_than_itself() -> None:
    (region,) = plan_regions([(100.3, 105.3)], Extent(240 * 44100, 44100), 1.0)
    assert region is not None
    assert 7 * 44100 <= region.frames <= 9 * 44100


def test_most_of_a_song_is_the_whole_song() -> None:
    assert plan_regions([(0.0, 90.0), (150.0, 240.0)], Extent(240 * 44100, 44100), 1.0) == (None, None)


def test_a_short_file_is_split_as_a_whole() -> None:
    assert plan_regions([(1.0, 1.5)], Extent(15 * 44100, 44100), 0.0) == (None,)


def test_near_spans_share_a_region_and_far_ones_do_not() -> None:
    near, also, far = plan_regions(
        [(20.0, 21.0), (26.0, 27.0), (100.0, 101.0)], Extent(300 * 48000, 48000), 1.0
    )
    assert near == also == Region(19 * 48000, 9 * 48000)
    assert far == Region(99 * 48000, 3 * 48000)


@given(
    st.floats(0, 1e5),
    st.floats(REACH_S, 60),
    st.floats(0, 1e4),
    st.sampled_from(RATES),
)
def test_a_start_offset_loses_whole_seconds_to_the_last_bit(
    offset: float, handles_s: float, length: float, rate: int
) -> None:
    extent = Extent(round((offset + length + 200) * rate), rate)
    (region,) = plan_regions([(offset, offset + length)], extent, handles_s)
    item = plain_item(take_D_STARTOFFS=offset)
    before_s = 0.0 if region is None else region.start / rate
    stem = fit_take(item, Fit(before_s=before_s, length_s=1.0))
    assert Fraction(offset) - Fraction(stem["D_STARTOFFS"]) == int(before_s)


# items


def make_reaper(seconds: float = 100.0, rate: int = 100) -> FakeReaper:
    reaper = FakeReaper(Path("resource"))
    for name in ("song", "other"):
        reaper.shelf.virtual[f"/media/{name}.wav"] = Media(np.zeros((2, round(seconds * rate))), rate)
    return reaper


def add_item(reaper: FakeReaper, source: Source | None = None, **values: float) -> Item:
    made = source or reaper.shelf.source("/media/song.wav")
    return reaper.add_item(reaper.add_track("Mix"), made, name="", **values)


def plain_item(**values: float) -> SnapItem:
    reaper = make_reaper()
    add_item(reaper, None, **values)
    return take_snapshot(reaper, reaper.current).items[0]


def section(reaper: FakeReaper, offset: float, length: float, *, is_reversed: bool = False) -> Source:
    source = reaper.shelf.source("/media/song.wav")
    assert source is not None
    return section_of(source, offset, length, is_reversed=is_reversed)


PLAIN = {"B_LOOPSRC": 0.0, "D_LENGTH": 10.0}
LOOP = {"B_LOOPSRC": 1.0, "D_LENGTH": 10.0}


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        (PLAIN | {"take_D_STARTOFFS": 20.0}, (20.0, 30.0)),
        (PLAIN | {"take_D_STARTOFFS": 20.0, "take_D_PLAYRATE": 2.0, "take_B_PPITCH": 0.0}, (20.0, 40.0)),
        (PLAIN | {"take_D_STARTOFFS": -4.0}, (0.0, 6.0)),
        (PLAIN | {"take_D_STARTOFFS": 95.0}, (95.0, 100.0)),
        (PLAIN | {"take_D_STARTOFFS": 100.0}, None),
        (PLAIN | {"take_D_STARTOFFS": -10.0}, None),
        (LOOP | {"take_D_STARTOFFS": 20.0}, (20.0, 30.0)),
        (LOOP | {"take_D_STARTOFFS": 90.0}, (90.0, 100.0)),
        (LOOP | {"take_D_STARTOFFS": 95.0}, (0.0, 100.0)),
        (LOOP | {"take_D_STARTOFFS": -10.0}, (0.0, 100.0)),
        (LOOP | {"take_D_STARTOFFS": 250.0}, (0.0, 100.0)),
    ],
)
def test_an_item_needs_what_it_plays(values: dict[str, float], needed: tuple[float, float] | None) -> None:
    item = plain_item(**values)
    assert find_needed(item) == needed
    assert (judge(item).way is Way.SKIPPED) == (needed is None)


@pytest.mark.parametrize(
    ("part", "values", "needed"),
    [
        ((30.0, 20.0, False), PLAIN | {"take_D_STARTOFFS": 5.0}, (30.0, 50.0)),
        ((30.0, 20.0, True), PLAIN | {"take_D_STARTOFFS": 5.0}, (30.0, 50.0)),
        ((30.0, 20.0, False), PLAIN | {"take_D_STARTOFFS": 25.0}, None),
        ((90.0, 20.0, False), PLAIN | {"take_D_STARTOFFS": 5.0}, (90.0, 100.0)),
        ((90.0, 20.0, False), PLAIN | {"take_D_STARTOFFS": 12.0, "D_LENGTH": 5.0}, None),
        ((90.0, 20.0, True), PLAIN | {"take_D_STARTOFFS": 0.0, "D_LENGTH": 5.0}, None),
        ((90.0, 20.0, False), LOOP | {"take_D_STARTOFFS": 12.0}, (90.0, 100.0)),
        ((120.0, 20.0, False), PLAIN, None),
    ],
)
def test_a_section_is_needed_as_a_whole_where_it_is_heard(
    part: tuple[float, float, bool], values: dict[str, float], needed: tuple[float, float] | None
) -> None:
    reaper = make_reaper()
    add_item(reaper, section(reaper, part[0], part[1], is_reversed=part[2]), **values)
    (item,) = take_snapshot(reaper, reaper.current).items
    assert find_needed(item) == needed
    assert (judge(item).way is Way.SKIPPED) == (needed is None)


def test_a_reversed_file_is_needed_from_its_end() -> None:
    reaper = make_reaper()
    source = reaper.shelf.source("/media/song.wav")
    assert source is not None
    add_item(reaper, section_of(source, is_reversed=True), **PLAIN | {"take_D_STARTOFFS": 20.0})
    (item,) = take_snapshot(reaper, reaper.current).items
    assert find_needed(item) == (70.0, 80.0)


# requests


def ask(
    items: Sequence[SnapItem],
    *,
    handles_s: float = 1.0,
    windows: Sequence[tuple[float, float] | None] | None = None,
    baked: dict[str, str] | None = None,
) -> list[Wanted]:
    return form_requests(
        items, Options(model="htdemucs"), Preferences(handles_s=handles_s),
        load_settings(home=Path("home"), environ={}), media_dir="/project/media",
        baked=baked or {}, lengths={}, windows=windows or [None] * len(items),
    )  # fmt: skip


def snap_all(reaper: FakeReaper) -> Sequence[SnapItem]:
    return take_snapshot(reaper, reaper.current).items


def test_items_of_one_region_share_a_request_and_files_do_not() -> None:
    reaper = make_reaper()
    for start in (20.0, 24.0, 70.0):
        add_item(reaper, None, B_LOOPSRC=0.0, D_LENGTH=2.0, take_D_STARTOFFS=start)
    add_item(reaper, reaper.shelf.source("/media/other.wav"), D_LENGTH=2.0, take_D_STARTOFFS=20.0)
    wanted = ask(snap_all(reaper))
    assert {one.items: (one.request.source, one.request.region) for one in wanted} == {
        (0, 1): ("/media/song.wav", Region(1900, 800)),
        (2,): ("/media/song.wav", Region(6900, 400)),
        (3,): ("/media/other.wav", Region(1900, 400)),
    }


def test_a_baked_item_is_split_by_its_rendering_alone() -> None:
    reaper = make_reaper()
    for _ in range(2):
        add_item(reaper, None, B_LOOPSRC=0.0, D_LENGTH=2.0, take_D_STARTOFFS=20.0)
    items = snap_all(reaper)
    wanted = ask(items, baked={items[1].guid: "/project/media/render.wav"})
    assert {one.items: (one.request.source, one.request.region is None) for one in wanted} == {
        (0,): ("/media/song.wav", False),
        (1,): ("/project/media/render.wav", True),
    }


@pytest.mark.parametrize(
    ("window", "region"),
    [
        ((12.0, 14.0), Region(2100, 400)),
        ((0.0, 14.0), Region(1900, 600)),
        ((12.0, 99.0), Region(2100, 1100)),
        (None, Region(1900, 1300)),
    ],
)
def test_a_time_selection_narrows_the_request(window: tuple[float, float] | None, region: Region) -> None:
    reaper = make_reaper()
    add_item(reaper, None, B_LOOPSRC=0.0, D_POSITION=10.0, D_LENGTH=10.5, take_D_STARTOFFS=20.0)
    (wanted,) = ask(snap_all(reaper), windows=[window])
    assert wanted.request.region == region


def test_a_time_selection_over_silence_alone_stops_nothing() -> None:
    reaper = make_reaper()
    add_item(reaper, None, B_LOOPSRC=0.0, D_POSITION=0.0, D_LENGTH=30.0, take_D_STARTOFFS=90.0)
    (wanted,) = ask(snap_all(reaper), windows=[(20.0, 25.0)])
    assert wanted.items == (0,)


# chunks


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_section_of_the_active_take_is_found(index: int) -> None:
    reaper = make_reaper()
    item = add_item(reaper, section(reaper, 1.0, 2.0))
    whole = reaper.shelf.source("/media/song.wav")
    assert whole is not None
    for source in (section_of(whole, is_reversed=True), section(reaper, 3.0, 4.0, is_reversed=True)):
        other = add_item(reaper, source)
        item.add_take(other.takes[0])
    item.values["I_CURTAKE"] = float(index)
    snap = take_snapshot(reaper, reaper.current).find_item(item.guid)
    assert snap is not None and snap.take is not None
    form = find_section_form(snap.active.media.chunk, index)
    assert form is not None
    assert form.mode == (SECTION, REVERSED_WHOLE, REVERSED_SECTION)[index]


def test_a_chunk_of_effects_and_names_does_not_hide_the_section() -> None:
    chunk = """<ITEM
      NAME "<SOURCE SECTION"
      <NOTES
        |>
        |TAKE
      >
      <SOURCE WAVE
        FILE "a > b.wav"
      >
      <TAKEFX
        <VST "x"
          c291cmNl
        >
      >
      TAKE SEL
      NAME TAKE
      <SOURCE SECTION
        LENGTH 4.5
        MODE 2
        STARTPOS 1
        OVERLAP 0.25
        <SOURCE WAVE
          FILE "MODE 3"
          MODE 3
        >
      >
    >"""
    form = find_section_form(chunk, 1)
    assert form is not None and (form.mode, form.overlap) == (2, "0.25")
    assert find_section_form(chunk, 0) is None
    assert find_section_form(chunk, 2) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_midi": True}, "it is MIDI"),
        ({"source": {"type": "CLICK"}}, "holds no recording"),
        ({"source": {"exists": False}}, "its media is missing"),
        ({"source": {"rate": 0}}, "offline"),
        ({"source": {"length_in_beats": True}}, "in beats"),
    ],
)
def test_what_cannot_be_split_is_skipped_with_its_reason(change: dict[str, object], reason: str) -> None:
    item = plain_item()
    fields = dict(change)
    if isinstance(source := fields.get("source"), dict):
        fields["source"] = msgspec.structs.replace(item.active.media, **source)
    verdict = judge(msgspec.structs.replace(item, take=msgspec.structs.replace(item.active, **fields)))
    assert verdict.way is Way.SKIPPED
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fx": 1}, "take effects"),
        ({"envelopes": 1}, "take envelopes"),
        ({"stretch_markers": 2}, "stretch markers"),
        ({"D_PITCH": -1.0}, "a pitch shift"),
        ({"D_PLAYRATE": 1.5}, "a play rate that keeps the pitch"),
        ({"IP_SPECEDIT:CNT": 1.0}, "spectral edits"),
    ],
)
def test_what_has_to_be_rendered_first_says_why(change: dict[str, float], reason: str) -> None:
    item = plain_item()
    take = item.active
    fields = {name: value for name, value in change.items() if name in ("fx", "envelopes", "stretch_markers")}
    values = take.values | {name: value for name, value in change.items() if name not in fields}
    take = msgspec.structs.replace(take, values=values, **fields)
    verdict = judge(msgspec.structs.replace(item, take=take))
    assert verdict.way is Way.BAKED
    assert verdict.reasons == (reason,)
