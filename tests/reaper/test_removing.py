"""Stems removed: what stays, what is asked first, and the tracks around them."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stem_items import delete_item, find_stem, track_of
from stembridge.looks import Looks
from stembridge.reaper.families import Stem
from stembridge.reaper.fitting import Fit
from stembridge.reaper.operations import Operation
from stembridge.reaper.preferences import locate_preferences
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

    (told,) = studio.run("remove")
    (folder,) = {path.parent for path in written if path.parent.name != "Stems"}
    assert told == f"song: 5 stems removed. The files are still in {folder}"
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
    assert "song: 5 stems removed." in studio.run("remove", YES)[0]
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
    assert "song: 4 stems removed, 1 stays muted." in studio.run("remove", NO)[0]
    assert layout(studio) == [("song", 1), ("Vocals", -1)]
    assert (song.values["B_MUTE_ACTUAL"], vocals.values["B_MUTE_ACTUAL"]) == (0, 1)
    np.testing.assert_array_equal(studio.listen(), before)
    assert "song: 1 stem removed." in studio.run("remove", YES)[0]
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
    studio.run("remove", YES)
    assert layout(studio) == [("song", 1), ("Drums", 0), ("Vocals", -1)]
    assert studio.find_track("Vocals").items == [other]


@pytest.mark.parametrize(
    ("parm", "value", "text"),
    [
        ("D_VOL", 0.5, "track volume -6.0 dB"),
        ("D_PAN", 0.5, "track pan 50% right"),
        ("B_MUTE", 1.0, "its track is muted"),
        ("fx", 1, "1 effect on its track"),
    ],
)
def test_what_was_done_to_a_stems_track_is_listed_and_the_track_stays(
    studio: Studio, parm: str, value: float, text: str
) -> None:
    studio.add_song()
    studio.run("split")
    track = studio.find_track("Vocals")
    if parm == "fx":
        track.fx.append(("gain", 0.5))
    else:
        track.values[parm] = value
    assert "song: 5 stems removed." in studio.run("remove", YES)[0]
    asked = next(order["text"] for order in studio.orders if order["do"] == "ask")
    assert f"song: vocals: {text}" in asked
    assert asked.count("song: ") == 1
    assert layout(studio) == [("song", 1), ("Vocals", -1)]


def test_a_stem_track_with_a_name_or_a_colour_of_the_users_stays(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    studio.find_track("Vocals").name = "Lead"
    studio.find_track("Bass").values["I_CUSTOMCOLOR"] = 0x1010203
    studio.run("remove")
    assert studio.track_names == ["song", "Bass", "Lead"]


def test_tracks_in_the_looks_that_are_set_go(studio: Studio) -> None:
    path = locate_preferences(studio.house.settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('[looks.vocals]\nname = "Lead"\ncolor = "#102030"\n', "utf-8")
    studio.add_song()
    studio.run("split")
    assert "Lead" in studio.track_names
    studio.run("remove")
    assert studio.track_names == ["song"]


def test_the_empty_track_of_a_stem_deleted_by_hand_goes_with_the_others(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    delete_item(find_stem(studio, "bass"))
    delete_item(find_stem(studio, "drums"))
    studio.find_track("Drums").name = "mine by now"
    assert "song: 3 stems removed." in studio.run("remove")[0]
    assert studio.track_names == ["song", "mine by now"]


def test_where_the_files_are_gone_that_is_said(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    paths = {item.takes[0].source.path for item in studio.reaper.current.items if item.takes[0].source}
    stems = sorted(path for path in paths if "Stems" in Path(path).parts)
    Path(stems[0]).unlink()
    assert f"1 of 5 files are not in {Path(stems[0]).parent} any more" in studio.run("remove", YES)[0]
    studio.reaper.undo_once()
    for path in stems[1:]:
        Path(path).unlink()
    assert studio.run("remove", YES)[0].endswith(f"The files are not in {Path(stems[0]).parent} any more")


def test_the_stems_of_a_whole_project_are_removed_only_on_yes(studio: Studio) -> None:
    for name in ("one", "two"):
        studio.add_song(name)
        studio.run("split")
    studio.reaper.select()
    before = studio.reaper.state()
    assert studio.run("remove", NO) == []
    assert studio.reaper.state() == before
    assert studio.orders[-1]["text"].endswith("Remove the stems of all 2 items of this project?")
    assert len(studio.run("remove", YES)) == 2
    assert studio.track_names == ["one", "two"]


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
    values |= {"I_CUSTOMCOLOR": 0.0, "B_MUTE": 0.0, "D_PLAY_OFFSET": 0.0, "I_PLAY_OFFSET_FLAG": 0.0}
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
        elif name == "set_track":
            tracks[place_of(arguments[0])].values[str(arguments[1])] = float(str(arguments[2]))
        elif name == "set_track_text":
            place = place_of(arguments[0])
            field = "name" if arguments[1] == "P_NAME" else "tag"
            tracks[place] = msgspec.structs.replace(tracks[place], **{field: str(arguments[2])})
        elif name == "color_track":
            guid, *color = arguments
            red, green, blue = (int(str(part)) for part in color)
            tracks[place_of(guid)].values["I_CUSTOMCOLOR"] = float(1 << 24 | red << 16 | green << 8 | blue)
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

    carry_out(tracks, remove_tracks(snapshot, first, (), Looks()))
    gone = {stem.item.track for stem in first}
    assert parents(tracks) == {guid: parent for guid, parent in known.items() if guid not in gone}

    rest = [stem for stem in stems if stem not in first]
    snapshot = number(tracks)
    items = tuple(stem.item for stem in rest)
    snapshot = Snapshot(
        project=snapshot.project, host=snapshot.host, tracks=with_one_item(snapshot), items=items
    )
    carry_out(tracks, remove_tracks(snapshot, rest, (), Looks()))
    assert [(track.guid, track.depth) for track in tracks] == before
