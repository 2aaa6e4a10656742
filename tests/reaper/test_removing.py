"""Stems removed: what stays, what is asked first, and the tracks around them."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stem_items import delete_item, find_stem, track_of
from stembridge.reaper.families import Stem
from stembridge.reaper.fitting import Fit
from stembridge.reaper.looks import Looks
from stembridge.reaper.operations import Operation
from stembridge.reaper.snapshot import Host, Project, Snapshot
from stembridge.reaper.snapshot import Item as ItemSeen
from stembridge.reaper.snapshot import Track as TrackSeen
from stembridge.reaper.stem_tracks import plan_stem_tracks
from stembridge.reaper.tags import StemTag
from stembridge.reaper.threads.removing import remove_tracks
from studio import NO, YES, Studio

CANCEL = ("MB", 2)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def with_one_item(snapshot: Snapshot) -> tuple[TrackSeen, ...]:
    """Return the tracks, each with one item on it."""
    return tuple(msgspec.structs.replace(track, items=1) for track in snapshot.tracks)


def layout(studio: Studio) -> list[tuple[str, int]]:
    return [(track.name, track.folder_depth) for track in studio.reaper.current.tracks]


def files(studio: Studio) -> set[Path]:
    return {path for path in studio.folder.rglob("*.wav") if "Stems" in path.parts}


def test_untouched_stems_go_with_their_tracks_and_the_original_plays(studio: Studio) -> None:
    song = studio.add_song()
    studio.reaper.add_track("behind")
    before, heard = layout(studio), studio.listen()
    studio.run("split")
    written = files(studio)
    assert len(layout(studio)) == 7

    assert studio.run("remove") == ["song: 5 stems removed. Their files are still there."]
    assert layout(studio) == before
    assert song.values["B_MUTE_ACTUAL"] == 0
    assert not song.ext.get("stembridge")
    np.testing.assert_array_equal(studio.listen(), heard)
    assert written
    assert files(studio) == written
    assert [label for label, _ in studio.reaper.current.undo][-1] == "Stembridge: remove stems"

    studio.run("split")
    assert studio.titles == []
    assert len(layout(studio)) == 7


def test_an_original_that_was_muted_is_muted_again(studio: Studio) -> None:
    song = studio.add_song(B_MUTE_ACTUAL=1.0)
    studio.run("split")
    studio.run("toggle")
    studio.run("toggle")
    studio.run("remove")
    assert song.values["B_MUTE_ACTUAL"] == 1
    assert len(studio.reaper.current.items) == 1


def test_worked_on_stems_are_listed_and_all_go_on_yes(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    find_stem(studio, "drums").values["D_POSITION"] = 0.5
    find_stem(studio, "vocals").takes[0].fx.append(("gain", 0.5))
    assert studio.run("remove", YES) == ["song: 5 stems removed. Their files are still there."]
    text = next(order["text"] for order in studio.orders if order["do"] == "ask")
    assert "song: drums: moved, it sounds 0.500 s too late" in text
    assert "song: vocals: 1 take effect" in text
    assert text.count("song: ") == 2
    assert layout(studio) == [("song", 0)]


def test_worked_on_stems_stay_muted_on_no(studio: Studio) -> None:
    song = studio.add_song()
    before = studio.listen()
    studio.run("split")
    vocals = find_stem(studio, "vocals")
    vocals.values["D_VOL"] = 0.5
    assert studio.run("remove", NO) == ["song: 4 stems removed, 1 stay muted. Their files are still there."]
    assert layout(studio) == [("song", 1), ("Vocals", -1)]
    assert (song.values["B_MUTE_ACTUAL"], vocals.values["B_MUTE_ACTUAL"]) == (0, 1)
    np.testing.assert_array_equal(studio.listen(), before)
    assert studio.run("remove", YES) == ["song: 1 stems removed. Their files are still there."]
    assert layout(studio) == [("song", 0)]


def test_cancel_changes_nothing(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    find_stem(studio, "vocals").values["D_LENGTH"] = 1.0
    before = studio.reaper.state()
    assert studio.run("remove", CANCEL) == []
    assert studio.reaper.state() == before


def test_tracks_with_something_of_the_users_stay(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    studio.find_track("Drums").fx.append(("gain", 0.5))
    other = studio.reaper.add_item(studio.find_track("Vocals"), studio.folder / "song.wav", D_POSITION=60.0)
    studio.run("remove")
    assert layout(studio) == [("song", 1), ("Drums", 0), ("Vocals", -1)]
    assert studio.find_track("Vocals").items == [other]


def test_a_stem_track_that_is_a_folder_by_now_or_armed_stays(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    mine = studio.reaper.add_track("mine")
    tracks = studio.reaper.current.tracks
    tracks.remove(mine)
    tracks.insert(tracks.index(studio.find_track("Vocals")) + 1, mine)
    studio.find_track("Vocals").values["I_FOLDERDEPTH"] = 1.0
    mine.values["I_FOLDERDEPTH"] = -1.0
    studio.find_track("Drums").values["I_RECARM"] = 1.0
    studio.run("remove")
    assert layout(studio) == [("song", 1), ("Drums", 0), ("Vocals", 1), ("mine", -2)]


def test_another_items_stems_keep_their_tracks(studio: Studio) -> None:
    first = studio.add_song()
    second = studio.reaper.add_item(
        track_of(first), studio.folder / "song.wav", name="again", D_POSITION=10.0
    )
    studio.reaper.select(first, second)
    studio.run("split")
    tracks = layout(studio)
    studio.reaper.select(second)
    studio.run("remove")
    assert layout(studio) == tracks
    assert second.values["B_MUTE_ACTUAL"] == 0
    assert first.values["B_MUTE_ACTUAL"] == 1


def test_stems_without_an_original_stay(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    delete_item(song)
    studio.reaper.select()
    assert studio.run("remove") == ["song: its original is gone, so its stems stay."]
    assert len(studio.reaper.current.items) == 5


def test_locked_stems_stay(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    find_stem(studio, "bass").values["C_LOCK"] = 1.0
    assert studio.run("remove") == ["song: it or one of its stems is locked, it stays as it is."]
    assert len(studio.reaper.current.items) == 6


# any folders


def random_tracks(rng: random.Random) -> list[TrackSeen]:
    tracks, level = [], 0
    for number in range(rng.randint(1, 8)):
        depth = rng.choice([0, 0, 1, -rng.randint(0, level)])
        level += depth
        tracks.append(seen_track(f"t{number}", depth))
    return tracks


def seen_track(guid: str, depth: int) -> TrackSeen:
    values = {"I_FOLDERDEPTH": float(depth), "I_RECARM": 0.0, "I_NCHAN": 2.0, "C_BEATATTACHMODE": -1.0}
    return TrackSeen(guid=guid, name=guid, values=values)


def number(tracks: list[TrackSeen]) -> Snapshot:
    for place, track in enumerate(tracks):
        track.values["IP_TRACKNUMBER"] = float(place + 1)
    return Snapshot(
        project=Project(name="", path="", media_dir="", is_saved=False),
        host=Host(),
        tracks=tuple(tracks),
        items=(),
    )


def carry_out(tracks: list[TrackSeen], operations: list[Operation]) -> None:
    """Do to a list of tracks what the operations on tracks say."""

    def place_of(guid: object) -> int:
        return next(place for place, track in enumerate(tracks) if track.guid == guid)

    for name, *arguments in operations:
        if name == "insert_track":
            new, behind, offset = arguments
            assert isinstance(offset, int)
            tracks.insert(place_of(behind) + 1 + offset, seen_track(str(new), 0))
        elif name == "set_track" and arguments[1] == "I_FOLDERDEPTH":
            tracks[place_of(arguments[0])].values["I_FOLDERDEPTH"] = float(str(arguments[2]))
        elif name == "set_track_text" and str(arguments[1]).startswith("P_EXT"):
            place = place_of(arguments[0])
            tracks[place] = msgspec.structs.replace(tracks[place], tag=str(arguments[2]))
        elif name == "remove_track":
            del tracks[place_of(arguments[0])]


def parents(tracks: list[TrackSeen]) -> dict[str, str]:
    found: dict[str, str] = {}
    open_folders: list[str] = []
    for track in tracks:
        found[track.guid] = open_folders[-1] if open_folders else ""
        if track.depth == 1:
            open_folders.append(track.guid)
        elif track.depth < 0:
            del open_folders[track.depth :]
    return found


@pytest.mark.parametrize("seed", range(300))
def test_in_any_folders_every_other_track_keeps_its_parent(seed: int) -> None:
    rng = random.Random(seed)
    tracks = random_tracks(rng)
    before = [(track.guid, track.depth) for track in tracks]
    chosen = rng.choice(tracks)
    names = ["drums", "bass", "vocals", "residual"][: rng.randint(1, 4)]
    carry_out(tracks, plan_stem_tracks(number(tracks), chosen, names, Looks(), None).operations)
    fit = Fit(length_s=1.0)
    stems = []
    for name in names:
        tag = StemTag(stem=name, model="", job="", family="", source="", folder="", fit=fit)
        stems.append(Stem(ItemSeen(guid=name, track=f"$track {name}", values={}), tag))
    snapshot = number(tracks)
    items = tuple(stem.item for stem in stems)
    snapshot = Snapshot(
        project=snapshot.project, host=snapshot.host, tracks=with_one_item(snapshot), items=items
    )
    known = parents(tracks)
    first = [stem for stem in stems if rng.random() < 0.5]

    carry_out(tracks, remove_tracks(snapshot, first))
    gone = {stem.item.track for stem in first}
    assert parents(tracks) == {guid: parent for guid, parent in known.items() if guid not in gone}

    rest = [stem for stem in stems if stem not in first]
    snapshot = number(tracks)
    items = tuple(stem.item for stem in rest)
    snapshot = Snapshot(
        project=snapshot.project, host=snapshot.host, tracks=with_one_item(snapshot), items=items
    )
    carry_out(tracks, remove_tracks(snapshot, rest))
    assert [(track.guid, track.depth) for track in tracks] == before
