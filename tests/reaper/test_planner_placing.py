"""Stems onto items whatever has become of them: baked, cut, moved, muted, locked, as takes, or gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from interpreter import Refused, apply_operations, take_snapshot
from planner_cases import GRID, STEMS, World, as_heard, make_world
from reaper_fake import Item, Media, Track, render_item, section_of
from reaper_fake.api import split_item
from reaper_fake.playback import Samples, render_take
from stembridge.looks import Looks
from stembridge.reaper.placing import Lacking, Placed, Ticket, Unplaceable, place
from stembridge.reaper.snapshot import ITEM_VALUES, TAKE_VALUES
from stembridge.reaper.stem_set import StemFile, StemSet
from stembridge.reaper.tags import OriginalTag, StemTag, read_tag
from stembridge.types import Region

RATE = 40
SONG = "/media/song.wav"
"""Two channels of 41 s at 50 Hz."""


@pytest.fixture
def world() -> World:
    made = make_world()
    noise = np.random.default_rng(7)
    samples = np.round(noise.uniform(-0.25, 0.25, (2, 41 * 50)) / GRID) * GRID
    made.reaper.shelf.virtual[SONG] = Media(samples, 50)
    return made


def add_song(world: World, onto: Track | None = None, **values: float) -> Item:
    """Return an item of 10 s from 5 s of the project and 12 s of the song, or as `values` have it."""
    place_s = {"D_POSITION": 5.0, "D_LENGTH": 10.0, "take_D_STARTOFFS": 12.0, "B_LOOPSRC": 0.0}
    return world.reaper.add_item(onto or world.reaper.add_track("Mix"), SONG, name="", **place_s | values)


def make_ticket(world: World, item: Item, **fields: object) -> Ticket:
    snap = take_snapshot(world.reaper, world.reaper.current).find_item(item.guid)
    assert snap is not None
    return msgspec.structs.replace(Ticket(item=snap, job="job"), **fields)


def decide(
    world: World, ticket: Ticket, stems: StemSet, *, is_orphan: bool = False
) -> Placed | Lacking | Unplaceable:
    snapshot = take_snapshot(world.reaper, world.reaper.current)
    return place(ticket, stems, snapshot, Looks(), is_orphan=is_orphan)


def put(world: World, ticket: Ticket, stems: StemSet, *, is_orphan: bool = False) -> None:
    placed = decide(world, ticket, stems, is_orphan=is_orphan)
    assert isinstance(placed, Placed), placed
    apply_operations(world.reaper, world.reaper.current, list(placed.operations))


def stems_of(world: World) -> list[Item]:
    return [
        item
        for item in world.reaper.current.items
        if isinstance(read_tag(item.ext.get("stembridge", "")), StemTag)
    ]


def hear(world: World, items: Sequence[Item], end_s: float = 40.0) -> Samples:
    mix = np.zeros((2, int(end_s * RATE)))
    for item in items:
        mix += render_item(
            item, world.reaper.shelf.samples, RATE,
            pan_law=world.reaper.current.pan_law, start_s=Fraction(0), frames=mix.shape[1],
        )[:2]  # fmt: skip
    return mix


def assert_same(ours: Samples, theirs: Samples, tolerance: float = 1e-12) -> None:
    assert np.abs(theirs).max() > 0.01
    assert np.abs(ours - theirs).max() <= tolerance


# what has changed


CHANGES = [
    *(("item", name) for name in ITEM_VALUES if name not in ("I_CUSTOMCOLOR", "B_MUTE", "I_CURTAKE")),
    *(("take", name) for name in TAKE_VALUES if name not in ("I_CUSTOMCOLOR", "IP_SPECEDIT:CNT")),
]


@pytest.mark.parametrize(("kind", "name"), CHANGES)
def test_what_changes_between_plan_and_apply_makes_the_apply_refuse(
    world: World, kind: str, name: str
) -> None:
    item = add_song(world)
    placed = decide(world, make_ticket(world, item), world.stem_set(SONG, None))
    assert isinstance(placed, Placed)
    take = item.active_take
    assert take is not None
    values = item.values if kind == "item" else take.values
    values[name] = values.get(name, 0.0) + 1.0
    before = world.reaper.state()
    with pytest.raises(Refused):
        apply_operations(world.reaper, world.reaper.current, list(placed.operations))
    assert world.reaper.state() == before


def test_an_item_that_is_gone_is_told_from_one_whose_track_is_gone(world: World) -> None:
    item = add_song(world)
    other = world.reaper.add_track("Other")
    ticket, stems = make_ticket(world, item), world.stem_set(SONG, None)
    track = item.track
    assert track is not None
    track.remove_item(item)
    assert decide(world, ticket, stems) == Unplaceable("the item is gone", is_gone=True)
    world.reaper.current.remove_track(track)
    assert decide(world, ticket, stems, is_orphan=True) == Unplaceable(
        "the item's track is gone", is_gone=True
    )
    assert other.items == []


@pytest.mark.parametrize("window", [None, (7.0, 11.5), (0.0, 11.5)])
def test_stems_of_an_item_that_is_gone_lie_where_it_was(
    world: World, window: tuple[float, float] | None
) -> None:
    item = add_song(world, D_VOL=0.5)
    heard = hear(world, [item])
    ticket = make_ticket(world, item, window=window)
    assert item.track is not None
    item.track.remove_item(item)
    put(world, ticket, world.stem_set(SONG, Region(9 * 50, 20 * 50)), is_orphan=True)
    if window is not None:
        heard[:, : int(window[0] * RATE)] = 0.0
        heard[:, int(window[1] * RATE) :] = 0.0
    assert_same(hear(world, stems_of(world)), heard)


def test_another_take_is_not_the_one_that_was_split(world: World) -> None:
    item = add_song(world)
    ticket = make_ticket(world, item)
    other = world.reaper.add_item(world.reaper.add_track(), world.paths[0])
    item.add_take(other.takes[0])
    item.values["I_CURTAKE"] = 1.0
    result = decide(world, ticket, world.stem_set(SONG, None))
    assert isinstance(result, Unplaceable) and "plays another file" in result.reason


@pytest.mark.parametrize(
    ("values", "effects", "reason"),
    [
        ({"D_PITCH": 2.0}, [], "a pitch shift"),
        ({}, [("tanh", 2.0)], "take effects"),
        ({"D_STARTOFFS": 60.0}, [], "it is silent"),
    ],
)
def test_what_stems_cannot_follow_is_said(
    world: World, values: dict[str, float], effects: list[tuple[str, float]], reason: str
) -> None:
    item = add_song(world)
    ticket = make_ticket(world, item)
    item.takes[0].values.update(values)
    item.takes[0].fx += effects
    result = decide(world, ticket, world.stem_set(SONG, None))
    assert isinstance(result, Unplaceable) and reason in result.reason


def test_what_is_kept_with_effects_is_placed(world: World) -> None:
    item = add_song(world)
    item.takes[0].fx.append(("gain", 2.0))
    put(world, make_ticket(world, item, is_approximate=True), world.stem_set(SONG, None))
    tags = [read_tag(stem.ext["stembridge"]) for stem in stems_of(world)]
    assert all(isinstance(tag, StemTag) and tag.is_approximate for tag in tags)


def test_an_item_is_not_given_two_sets_by_two_runs(world: World) -> None:
    item = add_song(world)
    first, second = make_ticket(world, item), make_ticket(world, item)
    put(world, first, world.stem_set(SONG, None))
    result = decide(world, second, world.stem_set(SONG, None, "later"))
    assert isinstance(result, Unplaceable) and "meanwhile" in result.reason


# parts


def test_a_copy_on_top_is_no_part_of_the_item(world: World) -> None:
    item = add_song(world)
    copied = add_song(world, item.track)
    heard = hear(world, [item, copied])
    tickets = [make_ticket(world, one) for one in (item, copied)]
    for ticket in tickets:
        put(world, ticket, world.stem_set(SONG, None))
    assert len(stems_of(world)) == 2 * len(STEMS)
    assert_same(hear(world, world.reaper.current.items), heard)


def test_neighbours_of_one_recording_are_no_parts_of_each_other(world: World) -> None:
    item = add_song(world)
    behind = add_song(world, item.track, D_POSITION=15.0, take_D_STARTOFFS=22.0)
    put(world, make_ticket(world, item), world.stem_set(SONG, None))
    assert len(stems_of(world)) == len(STEMS)
    assert not behind.ext


@pytest.mark.parametrize("moves", ["both", "away", "onto the other", "none"])
def test_parts_that_were_moved_are_found(world: World, moves: str) -> None:
    item = add_song(world)
    ticket = make_ticket(world, item)
    if moves == "both":
        item.values["D_POSITION"] += 3.0
    right = split_item(world.reaper, item, item.position_s + 4.0)
    assert right is not None
    if moves == "away":
        item.values["D_POSITION"] -= 3.0
    if moves == "onto the other":
        item.values["D_POSITION"] += 5.0
    expected = hear(world, [item, right])
    put(world, ticket, world.stem_set(SONG, None))
    assert len(stems_of(world)) == 2 * len(STEMS)
    assert_same(hear(world, world.reaper.current.items), expected)


def test_the_silent_part_of_an_item_is_left_alone(world: World) -> None:
    item = add_song(world, take_D_STARTOFFS=36.0)
    ticket = make_ticket(world, item)
    silent = split_item(world.reaper, item, 11.0)
    assert silent is not None
    put(world, ticket, world.stem_set(SONG, None))
    assert len(stems_of(world)) == len(STEMS)
    assert not silent.ext and not silent.values.get("B_MUTE_ACTUAL")


def test_parts_ask_for_what_they_lack_at_once(world: World) -> None:
    item = add_song(world)
    ticket = make_ticket(world, item)
    split_item(world.reaper, item, 10.0)
    lacking = decide(world, ticket, world.stem_set(SONG, Region(13 * 50, 7 * 50)))
    assert lacking == Lacking(12.0, 22.0)


# windows


def test_a_window_asks_for_no_more_than_it_covers(world: World) -> None:
    item = add_song(world)
    heard = hear(world, [item])
    put(world, make_ticket(world, item, window=(8.0, 9.0)), world.stem_set(SONG, Region(14 * 50, 3 * 50)))
    assert_same(hear(world, world.reaper.current.items), heard)
    assert {stem.position_s for stem in stems_of(world)} == {8.0}
    assert {stem.length_s for stem in stems_of(world)} == {1.0}
    muted = [part.position_s for part in world.reaper.current.items if part.values.get("B_MUTE_ACTUAL")]
    assert muted == [8.0]


def test_a_window_moves_with_the_item_and_skips_parts_outside(world: World) -> None:
    item = add_song(world)
    ticket = make_ticket(world, item, window=(6.0, 8.0))
    item.values["D_POSITION"] += 20.0
    right = split_item(world.reaper, item, 30.0)
    assert right is not None
    heard = hear(world, [item, right])
    put(world, ticket, world.stem_set(SONG, None))
    assert {(stem.position_s, stem.length_s) for stem in stems_of(world)} == {(26.0, 2.0)}
    assert not right.ext and not right.values.get("B_MUTE_ACTUAL")
    assert_same(hear(world, world.reaper.current.items), heard)


def test_an_edge_within_a_millionth_of_a_second_is_not_cut(world: World) -> None:
    item = add_song(world)
    put(world, make_ticket(world, item, window=(5.0 + 1e-9, 15.0 - 1e-9)), world.stem_set(SONG, None))
    assert {(stem.position_s, stem.length_s) for stem in stems_of(world)} == {(5.0, 10.0)}


# baked


def bake(world: World, item: Item) -> tuple[str, StemSet]:
    """Return the file that stands for the item's take, and its stems."""
    frames = round(item.length_s * RATE)
    take = item.takes[0]
    law = world.reaper.current.pan_law
    heard = render_take(take, world.reaper.shelf.samples, RATE, pan_law=law, frames=frames)
    world.reaper.shelf.virtual["/media/baked.wav"] = Media(heard, RATE)
    return "/media/baked.wav", world.stem_set("/media/baked.wav", None)


BAKED = [
    {"take_D_VOL": -0.5, "take_D_PAN": 0.4, "D_VOL": 0.7},
    {"take_D_PLAYRATE": 1.25, "take_D_VOL": 2.0},
    {"take_D_PLAYRATE": 0.5, "take_I_CHANMODE": 1.0, "D_FADEINLEN": 0.25, "D_FADEOUTLEN_AUTO": 0.25},
]


@pytest.mark.parametrize("values", BAKED)
@pytest.mark.parametrize("edit", ["none", "move", "left", "right", "split", "window", "window moved"])
def test_baked_stems_play_what_was_rendered(world: World, values: dict[str, float], edit: str) -> None:
    world.reaper.current.pan_law = 0.5
    item = add_song(world, None, **values)
    take = item.takes[0]
    take.fx.append(("tanh", 3.0))
    take.markers = [(13.0, "here", 0)]
    path, stems = bake(world, item)
    window = (7.0, 11.0) if edit.startswith("window") else None
    ticket = make_ticket(world, item, baked=path, window=window)
    if edit in ("move", "window moved"):
        item.values["D_POSITION"] += 2.5
    if edit == "left":
        item.values.update(D_POSITION=6.5, D_LENGTH=8.5)
        take.values["D_STARTOFFS"] += 1.5 * take.values["D_PLAYRATE"]
    if edit == "right":
        item.values["D_LENGTH"] = 6.0
    if edit == "split":
        split_item(world.reaper, item, 9.0)
    heard = hear(world, world.reaper.current.items)
    put(world, ticket, stems)
    assert_same(hear(world, world.reaper.current.items), heard, 1e-9)
    for stem in stems_of(world):
        original = next(
            other
            for other in world.reaper.current.items
            if isinstance(read_tag(other.ext.get("stembridge", "")), OriginalTag)
            and other.position_s == stem.position_s
        )
        assert marker_time(stem) == pytest.approx(marker_time(original), abs=1e-9)
        assert stem.values["B_LOOPSRC"] == 0.0


def marker_time(item: Item) -> float:
    """Return when in the project the first take marker is."""
    take = item.takes[0]
    return item.position_s + (take.markers[0][0] - take.values["D_STARTOFFS"]) / take.values["D_PLAYRATE"]


@pytest.mark.parametrize("edit", ["left", "right"])
def test_an_item_that_outgrew_its_rendering_is_not_placed(world: World, edit: str) -> None:
    item = add_song(world)
    item.takes[0].fx.append(("tanh", 3.0))
    path, stems = bake(world, item)
    ticket = make_ticket(world, item, baked=path)
    item.values["D_LENGTH"] += 1.0
    if edit == "left":
        item.values["D_POSITION"] -= 1.0
        item.takes[0].values["D_STARTOFFS"] -= 1.0
    result = decide(world, ticket, stems)
    assert isinstance(result, Unplaceable) and "longer now" in result.reason


def test_a_rendering_may_end_a_part_of_a_frame_early(world: World) -> None:
    item = add_song(world, D_LENGTH=10.0 + 0.4 / RATE)
    item.takes[0].fx.append(("tanh", 3.0))
    path, stems = bake(world, item)
    assert isinstance(decide(world, make_ticket(world, item, baked=path), stems), Placed)


@pytest.mark.parametrize(
    "change", [{"D_VOL": 0.3}, {"D_PITCH": 1.0}, {"D_PLAYRATE": 1.1}, {"I_CHANMODE": 3.0}, {}]
)
def test_a_take_that_changed_after_its_rendering_is_not_placed(
    world: World, change: dict[str, float]
) -> None:
    item = add_song(world)
    item.takes[0].fx.append(("tanh", 3.0))
    path, stems = bake(world, item)
    ticket = make_ticket(world, item, baked=path)
    item.takes[0].values.update(change)
    if not change:
        item.takes[0].fx.append(("gain", 0.5))
    result = decide(world, ticket, stems)
    assert isinstance(result, Unplaceable) and "after it had been rendered" in result.reason


def test_a_rendering_is_not_stretched_once_more(world: World) -> None:
    item = add_song(world, C_AUTOSTRETCH=1.0, C_BEATATTACHMODE=1.0)
    path, stems = bake(world, item)
    put(world, make_ticket(world, item, baked=path), stems)
    for stem in stems_of(world):
        assert (stem.values["C_AUTOSTRETCH"], stem.values["C_BEATATTACHMODE"]) == (0.0, 1.0)


# takes


@pytest.mark.parametrize("window", [None, (7.0, 11.0)])
def test_stems_as_takes_play_what_the_take_plays(world: World, window: tuple[float, float] | None) -> None:
    item = add_song(world, take_D_VOL=-0.5, take_D_PAN=0.3)
    heard = hear(world, [item])
    ticket = make_ticket(world, item, as_takes=True, window=window)
    region = Region(11 * 50, 12 * 50) if window is None else Region(13 * 50, 6 * 50)
    put(world, ticket, world.stem_set(SONG, region))
    items = world.reaper.current.items
    assert_same(hear(world, items), heard)
    assert len(world.reaper.current.tracks) == 1
    (touched,) = (other for other in items if len(other.takes) > 1)
    assert (touched.position_s, touched.length_s) == ((5.0, 10.0) if window is None else (7.0, 4.0))
    assert [take.name for take in touched.takes] == ["song", "song - vocals"]
    expected = render_item(touched, world.load_stem("vocals"), RATE)
    touched.values["I_CURTAKE"] = 1.0
    assert_same(render_item(touched, world.reaper.shelf.samples, RATE), expected)


def test_a_section_cannot_become_takes(world: World) -> None:
    source = world.reaper.shelf.source(SONG)
    assert source is not None
    item = world.reaper.add_item(world.reaper.add_track(), section_of(source, is_reversed=True))
    result = decide(world, make_ticket(world, item, as_takes=True), world.stem_set(SONG, None))
    assert isinstance(result, Unplaceable) and "choose tracks" in result.reason


# mutes


@pytest.mark.parametrize(
    ("values", "mutes_locked", "is_muted", "stems_muted"),
    [
        ({}, False, True, False),
        ({"B_MUTE": 1.0}, False, True, True),
        ({"C_LOCK": 1.0}, False, False, True),
        ({"C_LOCK": 1.0}, True, True, False),
        ({"C_LOCK": 2.0}, False, True, False),
        ({"C_LANEPLAYS": -1.0}, False, True, True),
        ({"C_LANEPLAYS": 0.0}, False, True, False),
        ({"C_LANEPLAYS": 0.0, "lanes": 1.0}, False, True, True),
        ({"C_LANEPLAYS": 2.0, "lanes": 1.0}, False, True, False),
    ],
)
def test_stems_are_muted_where_the_item_was_not_heard(
    world: World, values: dict[str, float], mutes_locked: bool, is_muted: bool, stems_muted: bool
) -> None:
    track = world.reaper.add_track("Mix", I_FREEMODE=2.0 if "lanes" in values else 0.0)
    item = add_song(world, track, **{name: value for name, value in values.items() if name != "lanes"})
    put(world, make_ticket(world, item, mutes_locked=mutes_locked), world.stem_set(SONG, None))
    assert bool(item.values.get("B_MUTE_ACTUAL")) == is_muted
    assert [bool(stem.values["B_MUTE_ACTUAL"]) for stem in stems_of(world)] == [stems_muted] * len(STEMS)
    tag = read_tag(item.ext["stembridge"])
    assert isinstance(tag, OriginalTag) and tag.was_muted == bool(values.get("B_MUTE"))


# tracks


def fake_set(world: World, names: Sequence[str], residual_db: float | None = None) -> StemSet:
    """Return a set of the song with stems of these names."""
    stems = world.stem_set(SONG, None)
    files = tuple(StemFile(name, stems.files[0].path) for name in names)
    return replace(stems, files=files, residual_db=residual_db)


def test_forty_items_of_a_track_share_five_stem_tracks(world: World) -> None:
    track = world.reaper.add_track("Mix")
    items = [
        add_song(world, track, D_POSITION=number * 0.5, D_LENGTH=0.5, take_D_STARTOFFS=number * 0.25)
        for number in range(40)
    ]
    tickets = [make_ticket(world, item) for item in items]
    names = ("drums", "bass", "other", "vocals", "residual")
    for number, ticket in enumerate(tickets):
        put(world, ticket, fake_set(world, names, -50.0 + number))
    tracks = world.reaper.current.tracks
    assert [made.name for made in tracks] == ["Mix", "Drums", "Bass", "Other", "Vocals", "Residual -11 dB"]
    assert [len(made.items) for made in tracks] == [40] * 6


def test_two_stems_are_two_tracks_without_a_residual(world: World) -> None:
    put(world, make_ticket(world, add_song(world)), fake_set(world, ("vocals", "no_vocals")))
    assert [track.name for track in world.reaper.current.tracks] == ["Mix", "Vocals", "Instrumental"]


def test_undoing_a_placement_brings_everything_back(world: World) -> None:
    reaper = world.reaper
    item = add_song(world)
    before = reaper.state()["projects"][0]["tracks"]
    put(world, make_ticket(world, item, window=(6.0, 7.0)), world.stem_set(SONG, None))
    assert reaper.state()["projects"][0]["tracks"] != before
    assert reaper.undo_once()
    assert reaper.state()["projects"][0]["tracks"] == before


def test_stems_say_whose_they_are(world: World) -> None:
    item = add_song(world)
    put(world, make_ticket(world, item), world.stem_set(SONG, None))
    original = read_tag(item.ext["stembridge"])
    tags = [read_tag(stem.ext["stembridge"]) for stem in stems_of(world)]
    assert isinstance(original, OriginalTag)
    assert [tag.stem for tag in tags if isinstance(tag, StemTag)] == list(STEMS)
    assert {tag.family for tag in tags if isinstance(tag, StemTag)} == {original.family}
    assert as_heard(item).length_s == stems_of(world)[0].length_s
