"""Stem tracks in random folders: all of them lie in the source track, and nobody else's parent changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from interpreter import Refused, apply_operations, take_snapshot
from reaper_fake import FakeReaper, Track
from reaper_fake.random_items import moved_tracks, parents_of, random_depths
from stembridge.looks import Looks
from stembridge.reaper import operations, stem_tracks
from stembridge.reaper.stem_tracks import plan_stem_tracks

LAYOUTS = 1500
FOUR = ("drums", "bass", "other", "vocals", "residual")
SIX = ("drums", "bass", "other", "vocals", "guitar", "piano", "residual")
TWO = ("vocals", "no_vocals")

Layout = list[tuple[str, int]]


def make_project(depths: Sequence[int]) -> FakeReaper:
    reaper = FakeReaper(Path("resource"))
    for number, depth in enumerate(depths):
        reaper.add_track(f"user {number}", I_FOLDERDEPTH=float(depth))
    return reaper


def layout_of(reaper: FakeReaper) -> Layout:
    return [(track.guid, track.folder_depth) for track in reaper.current.tracks]


def name_parents(layout: Layout) -> dict[str, str | None]:
    found = parents_of([depth for _, depth in layout])
    return {
        guid: None if parent is None else layout[parent][0]
        for (guid, _), parent in zip(layout, found, strict=True)
    }


def split(
    reaper: FakeReaper, parent: Track, stems: Sequence[str], residual_db: float = -36.0
) -> dict[str, str]:
    """Make the tracks of one split; return the GUID of each. What others are in is checked."""
    project = reaper.current
    before = layout_of(reaper)
    snapshot = take_snapshot(reaper, project)
    source = snapshot.find_track(parent.guid)
    assert source is not None
    plan = plan_stem_tracks(snapshot, source, stems, Looks(), residual_db if "residual" in stems else None)
    made = apply_operations(reaper, project, [*plan.expectations, *plan.operations])
    after = layout_of(reaper)
    assert moved_tracks(before, after) == []
    parents = name_parents(after)
    for guid in made.values():
        assert parents[guid] == parent.guid, "a stem track lies elsewhere"
    assert len(after) == len(before) + len(made)
    return {stem: made.get(name, name) for stem, name in plan.track_of.items()}


def order_in(reaper: FakeReaper, guid: str) -> int:
    return [track.guid for track in reaper.current.tracks].index(guid)


def check_residual(reaper: FakeReaper, parent: Track, tracks: dict[str, str]) -> None:
    """The residual is the last of our tracks that lie in the folder itself."""
    parents = name_parents(layout_of(reaper))
    places = [order_in(reaper, guid) for guid in tracks.values() if parents[guid] == parent.guid]
    if parents[tracks["residual"]] == parent.guid:
        assert order_in(reaper, tracks["residual"]) == max(places)


def move_user_track_in(rng: Random, reaper: FakeReaper, parent: Track) -> None:
    """Put a track among the folder's children, or a folder into which one of them was dragged."""
    tracks = reaper.current.tracks
    parents = name_parents(layout_of(reaper))
    children = [track for track in tracks if parents[track.guid] == parent.guid]
    place = tracks.index(rng.choice(children))
    if rng.random() < 0.5:
        reaper.current.insert_track(place, Track(reaper.new_guid(), "user, moved in"))
    elif (depth := tracks[place].folder_depth) <= 0:
        folder, below = Track(reaper.new_guid(), "user's folder"), Track(reaper.new_guid(), "user, in it")
        folder.values["I_FOLDERDEPTH"], below.values["I_FOLDERDEPTH"] = 1.0, depth - 1.0
        tracks[place].values["I_FOLDERDEPTH"] = 0.0
        reaper.current.insert_track(place + 1, below)
        reaper.current.insert_track(place, folder)


def run_layout(seed: int) -> None:
    rng = Random(seed)
    reaper = make_project(random_depths(rng, rng.randint(1, 12)))
    user = list(reaper.current.tracks)
    parent = rng.choice(user)
    first, second = rng.sample((FOUR, SIX, TWO), 2)
    tracks = split(reaper, parent, first)
    assert len(tracks) == len(first)
    if rng.random() < 0.5:
        move_user_track_in(rng, reaper, parent)
    if rng.random() < 0.5:
        guid = rng.choice(list(tracks.values()))
        stem = next(track for track in reaper.current.tracks if track.guid == guid)
        if stem.folder_depth <= 0:
            split(reaper, stem, rng.choice((FOUR, TWO)))
    again = split(reaper, parent, second)
    assert all(again[stem] == tracks[stem] for stem in second if stem in tracks), "a stem has two tracks"
    if "residual" in again:
        check_residual(reaper, parent, tracks | again)
    assert split(reaper, parent, second) == again
    split(reaper, rng.choice(user), first)


def test_every_other_track_keeps_its_parent() -> None:
    for seed in range(LAYOUTS):
        try:
            run_layout(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def lose_the_last_depth(patch: pytest.MonkeyPatch) -> None:
    real = operations.set_track
    patch.setattr(
        operations,
        "set_track",
        lambda track, parm, value: real(track, parm, -1 if parm == "I_FOLDERDEPTH" and value < 0 else value),
    )


def insert_behind_the_parent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stem_tracks, "_find_anchor", lambda snapshot, parent, existing: parent)


def count_levels_from_the_top(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stem_tracks, "_level_behind", lambda snapshot, parent, anchor: 1)


def forget_the_tracks_of_before(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stem_tracks, "find_stem_tracks", lambda snapshot, parent: {})


def go_along_into_the_users_folder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(stem_tracks, "_level_before", lambda snapshot, parent, track: 1)


@pytest.mark.parametrize(
    "mutant",
    [
        go_along_into_the_users_folder,
        lose_the_last_depth,
        insert_behind_the_parent,
        count_levels_from_the_top,
        forget_the_tracks_of_before,
    ],
    ids=lambda mutant: mutant.__name__,
)
def test_a_broken_folder_rule_is_found(mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(mutant)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in range(200):
            run_layout(seed)


def test_a_track_between_plan_and_apply_makes_the_apply_refuse() -> None:
    reaper = make_project([0, 0])
    snapshot = take_snapshot(reaper, reaper.current)
    plan = plan_stem_tracks(snapshot, snapshot.tracks[1], FOUR, Looks(), -36.0)
    reaper.current.insert_track(0, Track(reaper.new_guid(), "new"))
    with pytest.raises(Refused):
        apply_operations(reaper, reaper.current, [*plan.expectations, *plan.operations])
    assert [track.name for track in reaper.current.tracks] == ["new", "user 0", "user 1"]


def test_the_residual_is_short_grey_and_named_by_its_level() -> None:
    reaper = make_project([0])
    tracks = split(reaper, reaper.current.tracks[0], FOUR, -36.4)
    residual = reaper.current.tracks[-1]
    assert residual.guid == tracks["residual"]
    assert residual.name == "Residual -36 dB"
    assert residual.values["I_HEIGHTOVERRIDE"] == stem_tracks.RESIDUAL_HEIGHT
    assert residual.values["I_CUSTOMCOLOR"] == 0x1000000 | 128 | 128 << 8 | 128 << 16


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        ([-36.0, -41.0], "Residual -36 dB"),
        ([-36.0, -12.2], "Residual -12 dB"),
        ([-36.0, 2.6, -50.0], "Residual 3 dB"),
        ([float("-inf"), -60.0], "Residual -60 dB"),
        ([-60.0, float("-inf")], "Residual -60 dB"),
    ],
)
def test_the_worst_of_several_residuals_names_the_track(levels: list[float], name: str) -> None:
    reaper = make_project([0])
    for level in levels:
        split(reaper, reaper.current.tracks[0], FOUR, level)
    assert reaper.current.tracks[-1].name == name


def test_a_loud_residual_stands_out() -> None:
    reaper = make_project([0])
    split(reaper, reaper.current.tracks[0], FOUR, -36.0)
    quiet = reaper.current.tracks[-1].values["I_CUSTOMCOLOR"]
    split(reaper, reaper.current.tracks[0], FOUR, -19.0)
    assert reaper.current.tracks[-1].values["I_CUSTOMCOLOR"] != quiet


@pytest.mark.parametrize("name", ["Rest", "Residual of the mix", "Residual -3 dB!", ""])
def test_a_name_of_the_users_own_stays(name: str) -> None:
    reaper = make_project([0])
    split(reaper, reaper.current.tracks[0], FOUR, -36.0)
    reaper.current.tracks[-1].name = name
    split(reaper, reaper.current.tracks[0], FOUR, -6.0)
    assert reaper.current.tracks[-1].name == name


def test_two_stems_are_two_tracks() -> None:
    reaper = make_project([0])
    split(reaper, reaper.current.tracks[0], TWO)
    assert [track.name for track in reaper.current.tracks[1:]] == ["Vocals", "Instrumental"]


def test_stem_tracks_are_as_wide_as_their_parent_and_neutral() -> None:
    reaper = make_project([0])
    parent = reaper.current.tracks[0]
    parent.values.update(I_NCHAN=6.0, C_BEATATTACHMODE=1.0, D_VOL=0.5, D_PAN=0.3)
    split(reaper, parent, TWO)
    for track in reaper.current.tracks[1:]:
        assert (track.values["I_NCHAN"], track.values["C_BEATATTACHMODE"]) == (6.0, 1.0)
        assert [track.values[name] for name in ("D_VOL", "D_PAN", "D_PANLAW")] == [1.0, 0.0, 1.0]


def test_stem_tracks_play_as_late_as_their_parent() -> None:
    reaper = make_project([0])
    parent = reaper.current.tracks[0]
    parent.values.update(D_PLAY_OFFSET=-480.0, I_PLAY_OFFSET_FLAG=2.0)
    split(reaper, parent, TWO)
    for track in reaper.current.tracks[1:]:
        assert [track.values[name] for name in ("D_PLAY_OFFSET", "I_PLAY_OFFSET_FLAG")] == [-480.0, 2.0]


def test_a_copied_folder_gets_stem_tracks_of_its_own() -> None:
    reaper = make_project([0])
    split(reaper, reaper.current.tracks[0], TWO)
    for track in list(reaper.current.tracks):
        copied = track.copy()
        copied.guid = reaper.new_guid()
        reaper.current.insert_track(len(reaper.current.tracks), copied)
    split(reaper, reaper.current.tracks[3], TWO)
    assert len(reaper.current.tracks) == 8
