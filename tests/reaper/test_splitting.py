"""Splitting what is selected, by what a producer sees: stems, undo steps, questions and words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fake_house import FakeHouse
from reaper_fake import Item, Media, Source, Track, actions
from reaper_fake.actions import toggle_reverse
from stem_items import active_take, delete_item, find_stem, find_stems, is_muted, paste_item
from stembridge.errors import ModelError, SourceError
from stembridge.reaper import placing
from stembridge.reaper.desk import Desk
from stembridge.reaper.preferences import Preferences, locate_preferences, write_preferences
from stembridge.reaper.tags import StemTag, read_tag
from stembridge.types import Progress
from studio import NO, RATE, YES, Studio, fields

STEMS = ["Drums", "Bass", "Other", "Vocals"]
RECORDING = 4
STEMS_ARE_THERE = "its stems are there: split it again with another model, or remove them first"


class Desked(Desk):
    """A desk that keeps what it was told, and lets a test do what a user does meanwhile."""

    def __init__(self, house: FakeHouse) -> None:
        super().__init__(house)
        self.notes: list[dict[str, Any]] = []
        self.panels: list[dict[str, Any]] = []
        self.acts: list[tuple[str, Callable[[], None]]] = []

    def answer(self, note: bytes) -> bytes:
        said = json.loads(note)
        self.notes.append(said)
        if self.acts and said.get("then") == self.acts[0][0]:
            self.acts.pop(0)[1]()
        reply = super().answer(note)
        if "panel" in (said := json.loads(reply)):
            self.panels.append(said["panel"])
        return reply


class Room(Studio):
    """A studio in which things happen between two notes."""

    def __init__(self, folder: Path, **preferences: Any) -> None:
        super().__init__(folder, FakeHouse(folder / "home", costs={"htdemucs": 0.5}))
        self.desk: Desked = Desked(self.house)
        write_preferences(locate_preferences(self.house.settings), Preferences(**preferences))

    def when(self, then: str, act: Callable[[], None], *, times: int = 1) -> None:
        """Have ``act`` done before the desk hears the next result for that step, so many times."""
        self.desk.acts += [(then, act)] * times

    def edit(self, item: Item, **values: float) -> Callable[[], None]:
        """Return what changes an item as its user does."""

        def act() -> None:
            with self.reaper.user_edit("edit"):
                item.values.update({name: value for name, value in values.items() if name[:5] != "take_"})
                if item.active_take is not None:
                    takes = {name[5:]: value for name, value in values.items() if name[:5] == "take_"}
                    item.active_take.values.update(takes)

        return act

    def run(self, action: str, *answers: tuple[str, Any]) -> list[str]:
        said = super().run(action, *answers)
        assert not self.desk.acts, f"never came to {self.desk.acts[0][0]}"
        return said

    @property
    def stems(self) -> list[Item]:
        """All stem items of the project."""
        return [item for item in self.reaper.current.items if isinstance(tag_of(item), StemTag)]

    @property
    def undo_labels(self) -> list[str]:
        return [label for label, _ in self.reaper.current.undo]


def tag_of(item: Item) -> Any:
    return read_tag(item.ext.get("stembridge", ""))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def assert_split(room: Room, *items: Item) -> None:
    """The items are muted originals, and each has five stems of its own."""
    for item in items:
        assert item.values["B_MUTE_ACTUAL"] == 1
        family = tag_of(item).family
        assert len([stem for stem in room.stems if tag_of(stem).family == family]) == 5


def delete(room: Room, item: Item) -> Callable[[], None]:
    """Return what deletes an item as its user does."""

    def act() -> None:
        with room.reaper.user_edit("deleted"):
            assert item.track is not None
            item.track.remove_item(item)

    return act


def assert_left(room: Room, *items: Item) -> None:
    for item in items:
        assert not item.values.get("B_MUTE_ACTUAL")
        assert "stembridge" not in item.ext


# what is selected


def test_with_nothing_selected_it_says_what_to_do(room: Room) -> None:
    item = room.add_song()
    room.reaper.select()
    (said,) = room.run("split")
    assert "Nothing is selected" in said and "run the action again" in said
    assert not room.house.jobs and not room.undo_labels
    assert_left(room, item)


def test_what_cannot_be_split_is_skipped_by_name_and_reason(room: Room) -> None:
    done = room.add_song("done")
    room.run("split")
    missing, good = room.add_song("missing"), room.add_song("good", seed=2)
    (room.folder / "missing.wav").unlink()
    track = room.reaper.add_track("Odd ones")
    empty = room.reaper.add_item(track, None, D_POSITION=7.5, D_LENGTH=1.0)
    midi = room.reaper.add_item(track, Source("MIDI", ""), name="chords", D_LENGTH=2.0)
    room.reaper.select(good, missing, done, empty, midi)
    said = room.run("split")
    assert said[0].startswith("1 of 5 split")
    assert said[1:] == [
        f"done was skipped: {STEMS_ARE_THERE}",
        f"missing was skipped: its media is missing: {room.folder / 'missing.wav'}",
        "chords was skipped: it is MIDI",
        "item at 7.500 s was skipped: it is empty",
    ]
    assert_split(room, done, good)
    assert_left(room, missing)


def test_where_all_is_skipped_nothing_is_done(room: Room) -> None:
    track = room.reaper.add_track("Odd ones")
    empty = room.reaper.add_item(track, None, D_LENGTH=1.0)
    room.reaper.select(empty)
    (said,) = room.run("split")
    assert "was skipped: it is empty" in said
    assert not room.house.jobs and not room.undo_labels and len(room.reaper.current.tracks) == 1


def test_the_same_action_twice_does_it_once(room: Room) -> None:
    item = room.add_song()
    room.run("split")
    before = room.tracks
    (said,) = room.run("split")
    assert said == f"song was skipped: {STEMS_ARE_THERE}"
    assert room.tracks == before and len(room.house.jobs) == 1
    assert_split(room, item)


# what has stems, what is a stem, and copies of both


def assert_as_before(room: Room, before: Any, heard: Any) -> None:
    assert room.tracks == before
    np.testing.assert_array_equal(room.listen(), heard)


@pytest.mark.parametrize("seed", [0, 1])
def test_an_original_that_is_heard_instead_of_its_stems_gets_no_second_set(room: Room, seed: int) -> None:
    item = room.add_song(C_LOCK=seed)
    room.run("split", *([NO] if seed else []))
    if not seed:
        room.run("toggle")
    assert not item.values.get("B_MUTE_ACTUAL")
    before, heard = room.tracks, room.listen()
    assert room.run("split") == [f"song was skipped: {STEMS_ARE_THERE}"]
    assert_as_before(room, before, heard)
    assert len(room.house.jobs) == 1


def test_a_stem_is_not_split_out_of_its_family(room: Room) -> None:
    room.add_song()
    room.run("split")
    vocals = find_stem(room, "vocals")
    room.reaper.select(vocals)
    before, heard = room.tracks, room.listen()
    (said,) = room.run("split")
    assert said == (
        "song - vocals was skipped: it is a stem of song: copy it to a track of its own and split the copy"
    )
    assert_as_before(room, before, heard)


def test_a_copy_of_a_stem_on_a_track_of_its_own_is_split_and_the_family_stays_whole(room: Room) -> None:
    item = room.add_song()
    room.run("split")
    vocals = find_stem(room, "vocals")
    copy = copy_stem(room, vocals)
    room.reaper.select(copy, vocals)
    said = room.run("split")
    assert said[0].startswith("1 of 2 split")
    assert isinstance(tag_of(vocals), StemTag)
    assert_split(room, item, copy)
    room.reaper.select(item)
    room.run("toggle")
    assert not is_muted(item) and is_muted(vocals)


def copy_stem(room: Room, stem: Item) -> Item:
    """Return a copy of a stem on a new track, where the stem lies."""
    copy = stem.copy()
    copy.guid = room.reaper.new_guid()
    active_take(copy).guid = room.reaper.new_guid()
    return room.reaper.add_track("try").add_item(copy)


def test_the_last_copies_of_a_stem_are_not_split_out_of_its_family(room: Room) -> None:
    room.add_song()
    room.run("split")
    vocals = find_stem(room, "vocals")
    copies = [copy_stem(room, vocals) for _ in range(2)]
    delete_item(vocals)
    room.reaper.select(*copies)
    said = room.run("split")
    assert len(said) == 2 and all("it is a stem of song" in text for text in said)


def test_a_copy_of_an_original_that_is_deleted_meanwhile_gets_stems_that_are_heard(room: Room) -> None:
    item = room.add_song()
    room.run("split")
    copy = paste_item(room, item, 10.0)
    room.reaper.select(copy)
    room.when("batch.selected", delete(room, copy))
    room.run("split", YES)
    late = [stem for stem in room.stems if stem.position_s == 10.0]
    assert len(late) == 5 and not any(is_muted(stem) for stem in late)


def test_a_copy_of_an_original_gets_stems_that_are_heard(room: Room) -> None:
    item = room.add_song()
    room.run("split")
    copy = paste_item(room, item, 10.0)
    copy.values["D_VOL"] = 0.5
    room.reaper.select(copy)
    told = room.run("split")
    assert told == ["1 of 1 split: the stems sum to the original."]
    assert_split(room, item, copy)
    heard = room.listen()
    assert np.array_equal(heard[:, 10 * RATE :], 0.5 * heard[:, : 4 * RATE])
    assert heard[:, 10 * RATE :].any()
    room.run("toggle")
    assert not is_muted(copy) and is_muted(item)
    np.testing.assert_array_equal(room.listen(), heard)
    assert STEMS_ARE_THERE in room.run("split")[0]
    room.run("remove")
    assert not is_muted(copy)


def test_an_original_whose_stems_were_deleted_gets_them_again(room: Room) -> None:
    item = room.add_song()
    heard = room.listen()
    room.run("split")
    for stem in find_stems(room)[1:]:
        delete_item(stem)
    room.reaper.select(item)
    assert STEMS_ARE_THERE in room.run("split")[0]
    delete_item(find_stems(room)[0])
    assert room.run("split") == ["1 of 1 split: the stems sum to the original."]
    assert_split(room, item)
    assert not any(is_muted(stem) for stem in room.stems)
    np.testing.assert_array_equal(room.listen(), heard)
    assert len(room.house.jobs) == 1
    room.run("toggle")
    np.testing.assert_array_equal(room.listen(), heard)


def test_the_stems_of_a_folder_that_was_duplicated_are_the_duplicates_own(room: Room) -> None:
    item = room.add_song()
    room.run("split")
    project = room.reaper.current
    for track in list(project.tracks):
        copied = track.copy()
        copied.guid = room.reaper.new_guid()
        for one in copied.items:
            one.guid = room.reaper.new_guid()
            for take in one.takes:
                take.guid = room.reaper.new_guid()
        project.insert_track(len(project.tracks), copied)
    copy = next(one for one in project.items if one.takes[0].name == "song" and one is not item)
    room.reaper.select(copy)
    before = room.tracks
    assert STEMS_ARE_THERE in room.run("split")[0]
    assert room.tracks == before
    room.run("toggle")
    assert not is_muted(copy) and is_muted(item)
    assert sum(is_muted(stem) for stem in room.stems) == 5


# stems as takes


def test_a_reversed_item_is_not_split_for_takes_it_cannot_get(tmp_path: Path) -> None:
    room = Room(tmp_path, output="takes")
    item = room.add_song()
    toggle_reverse(item, active_take(item))
    (said,) = room.run("split")
    assert said == ("song was skipped: a section or a reversed source cannot become takes: choose tracks")
    assert not room.house.jobs


def test_a_take_that_is_a_stem_gets_no_takes_of_itself(tmp_path: Path) -> None:
    room = Room(tmp_path, output="takes")
    item = room.add_song()
    room.run("split")
    takes = len(item.takes)
    assert takes == 5
    item.values["I_CURTAKE"] = 2.0
    (said,) = room.run("split")
    assert "its active take is a stem already: choose the take of the original" in said
    assert len(item.takes) == takes and len(room.house.jobs) == 1


# what is asked before


def test_a_model_that_is_missing_is_asked_for_once_with_size_and_place(room: Room) -> None:
    one, two = room.add_song("one"), room.add_song("two", seed=2)
    room.reaper.select(one, two)
    room.house.models = {"preview"}
    room.run("split", YES)
    (asked,) = [order for order in room.orders if order["do"] == "ask"]
    assert "htdemucs is not on this machine" in asked["text"] and "84 MB" in asked["text"]
    assert str(room.house.settings.model_dirs[0]) in asked["text"]
    assert room.house.kinds == ["fetch_model"]
    assert {job.split.model for job in room.house.jobs.values()} == {"htdemucs"}
    assert_split(room, one, two)


def test_a_model_that_is_not_wanted_leaves_all_as_it_was(room: Room) -> None:
    item = room.add_song()
    room.house.models = {"preview"}
    assert room.run("split", NO) == ["Nothing was split: the model htdemucs is not on this machine."]
    assert not room.house.kinds and not room.house.jobs
    assert_left(room, item)


def test_a_model_that_cannot_be_fetched_says_why(room: Room) -> None:
    item = room.add_song()
    room.house.models = set()
    room.house.faults["fetch_model"] = ModelError("cannot download htdemucs: no route", "check the network")
    (said,) = room.run("split", YES)
    assert said == "Nothing was split: cannot download htdemucs: no route (check the network)"
    assert_left(room, item)


def test_a_model_that_was_fetched_and_is_not_there_is_not_fetched_for_ever(room: Room) -> None:
    room.add_song()
    models: set[str] = set()
    room.house.models = models
    room.when("batch.errand", models.clear)
    assert room.run("split", YES) == ["Nothing was split: the model htdemucs is not on this machine."]
    assert room.house.kinds == ["fetch_model"]


def test_a_fetch_that_was_lost_with_the_daemon_is_begun_again(room: Room) -> None:
    item = room.add_song()
    room.house.models = set()
    room.house.holds_errands = True
    room.when("batch.errand", lambda: None)
    room.when("batch.errand", room.house.forget_errands)
    room.when("batch.errand", room.house.finish_errands)
    room.run("split", YES)
    assert room.house.kinds == ["fetch_model", "fetch_model"]
    assert room.desk.panels[0]["line"] == "fetch_model goes on"
    assert_split(room, item)


@pytest.mark.parametrize("answer", [YES, NO])
def test_a_locked_item_is_muted_only_where_its_owner_says_so(room: Room, answer: tuple[str, int]) -> None:
    item = room.add_song(C_LOCK=1)
    before = room.listen()
    room.run("split", answer)
    (asked,) = [order for order in room.orders if order["do"] == "ask"]
    assert "song is locked" in asked["text"]
    assert bool(item.values.get("B_MUTE_ACTUAL")) == (answer == YES)
    assert all(bool(stem.values.get("B_MUTE_ACTUAL")) != (answer == YES) for stem in room.stems)
    assert item.values["C_LOCK"] == 1
    np.testing.assert_allclose(room.listen(), before, atol=1e-12)


def test_locked_items_are_asked_for_once(room: Room) -> None:
    items = [room.add_song(name, C_LOCK=1) for name in ("one", "two", "three")]
    room.reaper.select(*items)
    room.run("split", YES)
    assert "3 items are locked" in room.orders[1]["text"]
    assert_split(room, *items)


# effects, and files that two decoders read in two ways


@pytest.mark.parametrize("effects", ["bake", "keep", "skip"])
def test_effects_are_baked_kept_or_a_reason_to_skip(tmp_path: Path, effects: str) -> None:
    room = Room(tmp_path, effects=effects)
    item = room.add_song()
    room.reaper.current.rate = RATE
    assert item.active_take is not None
    item.active_take.fx.append(("tanh", 2.0))
    before = room.listen()
    said = room.run("split")
    sources = {job.source for job in room.house.jobs.values()}
    original = str(room.folder / "song.wav")
    if effects == "skip":
        assert said == ["song was skipped: it has take effects, and the settings skip such items"]
        assert not sources
        assert_left(room, item)
    elif effects == "keep":
        assert "approximate" in said[0] and sources == {original}
        assert {tag_of(stem).is_approximate for stem in room.stems} == {True}
        assert [stem.active_take.fx for stem in room.stems if stem.active_take] == [[("tanh", 2.0)]] * 5
    else:
        assert said == [
            "1 of 1 split: the stems sum to what REAPER rendered.",
            "song: REAPER rendered it first (take effects); its stems sum to that rendering.",
        ]
        assert original not in sources and len(sources) == 1
        assert not any(stem.active_take.fx for stem in room.stems if stem.active_take)
        # What REAPER renders is rounded to float samples.
        np.testing.assert_allclose(room.listen(), before, atol=1e-6)
        assert len(item.takes) == 1, "the rendering leaves no take"


def test_an_item_that_reaper_cannot_render_is_skipped_and_others_go_on(room: Room) -> None:
    wet, dry = room.add_song("wet"), room.add_song("dry", seed=2)
    assert wet.active_take is not None
    wet.active_take.fx.append(("tanh", 2.0))
    room.reaper.select(wet, dry)
    room.when("batch.selected", delete(room, wet))
    said = room.run("split")
    assert said[0].startswith("1 of 2 split")
    assert said[1] == "wet was skipped: it is gone"
    assert_split(room, dry)


def add_lossy(room: Room, shift: int = 0) -> Item:
    """Return an item of an OGG file that REAPER decodes ``shift`` frames late."""
    path = room.folder / "lossy.ogg"
    draw = np.random.default_rng(5)
    soundfile.write(path, 0.2 * draw.standard_normal((4 * 44_100, 2)), 44_100)
    heard = soundfile.read(path, always_2d=True)[0].T
    room.reaper.shelf.virtual[str(path)] = Media(np.roll(heard, shift, axis=1), 44_100, "VORBIS")
    item = room.reaper.add_item(room.reaper.add_track("lossy"), str(path))
    room.reaper.current.rate = 44_100
    room.reaper.select(item)
    return item


@pytest.mark.parametrize("shift", [0, 1, 1105])
def test_a_lossy_file_is_sent_only_where_reaper_hears_what_we_do(room: Room, shift: int) -> None:
    item = add_lossy(room, shift)
    room.run("split")
    assert room.house.kinds == ["compare"]
    (job,) = room.house.jobs.values()
    assert (job.source == str(room.folder / "lossy.ogg")) == (shift == 0)
    assert_split(room, item)


def test_a_lossy_file_that_we_cannot_read_is_rendered(room: Room) -> None:
    item = add_lossy(room)
    room.house.faults["compare"] = SourceError("no such codec", "")
    room.run("split")
    (job,) = room.house.jobs.values()
    assert job.source.endswith(".wav")
    assert_split(room, item)


def test_a_short_piece_of_a_lossy_file_is_compared_where_it_plays(room: Room) -> None:
    item = add_lossy(room)
    path = str(room.folder / "lossy.ogg")
    item.values["D_LENGTH"] = 0.25
    take = active_take(item)
    take.values |= {"D_STARTOFFS": 3.0003, "D_PLAYRATE": 1.0}
    room.run("split")
    (listened,) = [order for order in room.orders if order["do"] == "listen"]
    assert listened["start_s"] * 44_100 == pytest.approx(round(listened["start_s"] * 44_100), abs=1e-6)
    assert listened["start_s"] >= 3.0003
    assert listened["start_s"] + listened["frames"] / 44_100 <= 3.2503
    (job,) = room.house.jobs.values()
    assert job.source == path


@pytest.mark.parametrize("frames", [176_399, 176_400, 176_401])
@pytest.mark.parametrize("section", [False, True])
def test_a_lossy_file_of_any_length_is_sent_as_it_is(room: Room, frames: int, section: bool) -> None:
    item = add_lossy(room)
    path = str(room.folder / "lossy.ogg")
    soundfile.write(path, 0.2 * np.random.default_rng(5).standard_normal((frames, 2)), 44_100)
    heard = soundfile.read(path, always_2d=True)[0].T
    room.reaper.shelf.virtual[path] = Media(heard, 44_100, "VORBIS")
    take = active_take(item)
    take.set_source(room.reaper.shelf.source(path))
    if section:
        toggle_reverse(item, take)
    room.run("split")
    assert {job.source for job in room.house.jobs.values()} == {path}
    assert_split(room, item)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_section_that_begins_within_a_frame_is_compared_frame_by_frame(
    room: Room, is_reversed: bool
) -> None:
    item = add_lossy(room)
    take = active_take(item)
    whole = room.reaper.shelf.source(str(room.folder / "lossy.ogg"))
    offset, length = 1.00001, 2.0
    take.set_source(Source("SECTION", parent=whole, offset_s=offset, length_s=length))
    if is_reversed:
        toggle_reverse(item, take)
    item.values["D_LENGTH"] = length
    take.values["D_STARTOFFS"] = 0.0
    room.run("split")
    (listened,) = [order for order in room.orders if order["do"] == "listen"]
    at = offset + length - listened["start_s"] if is_reversed else offset + listened["start_s"]
    assert at * 44_100 == pytest.approx(round(at * 44_100), abs=1e-6)


def test_a_lossy_file_is_compared_in_the_longest_of_its_items(room: Room) -> None:
    first = add_lossy(room)
    assert first.track is not None
    first.values["D_LENGTH"] = 1e-5
    other = room.reaper.add_item(first.track, str(room.folder / "lossy.ogg"), D_POSITION=5.0)
    room.reaper.select(first, other)
    room.run("split")
    assert room.house.kinds == ["compare"]
    assert {job.source for job in room.house.jobs.values()} == {str(room.folder / "lossy.ogg")}


def test_a_lossy_file_is_compared_once_for_all_its_items(room: Room) -> None:
    first = add_lossy(room)
    assert first.track is not None
    path = str(room.folder / "lossy.ogg")
    others = [room.reaper.add_item(first.track, path, D_POSITION=5.0 * n) for n in (1, 2)]
    room.reaper.select(first, *others)
    room.run("split")
    assert room.house.kinds == ["compare"]
    assert_split(room, first, *others)


# what is said of the sum


def test_what_was_rendered_is_named_beside_what_was_not(room: Room) -> None:
    dry, lossy = room.add_song("dry"), add_lossy(room, 1)
    room.reaper.select(dry, lossy)
    assert room.run("split") == [
        "2 of 2 split: the stems sum to the original.",
        f"{lossy.takes[0].name or 'item at 0.000 s'}: REAPER rendered it first "
        "(REAPER decodes its file in another way); its stems sum to that rendering.",
    ]


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        ({}, ""),
        ({"B_MUTE": 1.0}, ", but Vocals: its track is muted"),
        ({"D_VOL": 10 ** (-3 / 20)}, ", but Vocals: track volume -3.0 dB"),
        ({"D_PAN": -0.5}, ", but Vocals: track pan 50% left"),
        ({"B_PHASE": 1.0}, ", but Vocals: its track's polarity is flipped"),
    ],
)
def test_the_sum_is_not_claimed_of_tracks_that_change_it(
    room: Room, values: dict[str, float], remark: str
) -> None:
    first = room.add_song()
    room.run("split")
    assert first.track is not None
    second = room.reaper.add_item(first.track, str(room.folder / "song.wav"), D_POSITION=10.0)
    third = room.reaper.add_item(first.track, str(room.folder / "song.wav"), D_POSITION=20.0)
    room.find_track("Vocals").values |= values
    room.reaper.select(second, third)
    assert room.run("split") == [f"2 of 2 split: the stems sum to the original{remark}."]


def test_a_solo_of_one_stem_is_said_of_all_others(room: Room) -> None:
    first = room.add_song()
    room.run("split")
    assert first.track is not None
    second = room.reaper.add_item(first.track, str(room.folder / "song.wav"), D_POSITION=10.0)
    room.find_track("Vocals").values["I_SOLO"] = 2.0
    room.reaper.select(second)
    (said,) = room.run("split")
    assert said.count("another stem's track is soloed") == 4 and "Vocals" not in said


# jobs


def test_one_failure_stops_nothing_and_is_told_at_the_end(room: Room) -> None:
    items = [room.add_song(name, seed=n) for n, name in enumerate(("one", "two", "three"))]
    room.reaper.select(*items)
    room.house.faults["two.wav"] = SourceError("two.wav is damaged", "export it again")
    said = room.run("split")
    assert said == [
        "2 of 3 split: the stems sum to the original.",
        "two: two.wav is damaged (export it again)",
    ]
    assert [is_error for _, is_error in room.told] == [False, True]
    assert_split(room, items[0], items[2])
    assert_left(room, items[1])


def test_a_source_that_goes_before_it_is_submitted_fails_its_item_alone(room: Room) -> None:
    one, two = room.add_song("one"), room.add_song("two", seed=2)
    room.reaper.select(one, two)
    room.when("batch.selected", (room.folder / "one.wav").unlink)
    said = room.run("split")
    assert said[0].startswith("1 of 2 split") and "one.wav" in said[1] and "does not exist" in said[1]
    assert_split(room, two)


def test_a_job_that_the_daemon_has_forgotten_is_told(room: Room) -> None:
    item = room.add_song()
    room.house.holds_jobs = True
    room.when("batch.look", room.house.jobs.clear)
    assert room.run("split") == ["song: the daemon does not know its job"]
    assert_left(room, item)


def cancel(room: Room, row: str) -> Callable[[], None]:
    """Return what the panel's Cancel does."""

    def act() -> None:
        rows = [entry["id"] for entry in room.desk.panels[-1]["rows"]]
        note = {"v": 1, "say": "cancel", "row": rows[int(row)] if row != "all" else "all", "rows": rows}
        assert json.loads(room.desk.answer(json.dumps(note).encode()))["orders"] == []

    return act


def test_cancel_cancels_all_that_waits(room: Room) -> None:
    items = [room.add_song(name, seed=n) for n, name in enumerate(("one", "two"))]
    room.reaper.select(*items)
    room.house.holds_jobs = True
    room.when("batch.look", cancel(room, "all"))
    assert room.run("split") == ["one: cancelled", "two: cancelled"]
    assert [row["state"] for row in room.desk.panels[-1]["rows"]] == ["cancelled", "cancelled"]
    assert not any(is_error for _, is_error in room.told)
    assert_left(room, *items)


def test_cancel_of_a_row_cancels_that_one(room: Room) -> None:
    items = [room.add_song(name, seed=n) for n, name in enumerate(("one", "two"))]
    room.reaper.select(*items)
    room.house.holds_jobs = True
    room.when("batch.look", cancel(room, "0"))
    room.when("batch.look", room.house.finish_jobs)
    said = room.run("split")
    assert said == ["1 of 2 split: the stems sum to the original.", "one: cancelled"]
    assert_left(room, items[0])
    assert_split(room, items[1])


def test_items_of_one_job_have_rows_of_their_own(room: Room) -> None:
    first = room.add_song()
    assert first.track is not None
    second = room.reaper.add_item(first.track, str(room.folder / "song.wav"), D_POSITION=10.0)
    room.reaper.select(first, second)
    room.house.holds_jobs = True
    room.when("batch.look", cancel(room, "1"))
    room.run("split")
    (job_id,) = room.house.jobs
    assert [row["id"] for row in room.desk.panels[-1]["rows"]] == [f"{job_id}/0", f"{job_id}/1"]
    assert [row["state"] for row in room.desk.panels[-1]["rows"]] == ["cancelled", "cancelled"]


def test_a_job_that_was_cancelled_is_made_anew(room: Room) -> None:
    item = room.add_song()
    room.house.holds_jobs = True
    room.when("batch.look", cancel(room, "all"))
    room.run("split")
    room.house.holds_jobs = False
    room.run("split")
    assert len(room.house.jobs) == 2
    assert_split(room, item)


def test_a_job_is_the_same_for_a_desk_that_was_restarted(room: Room) -> None:
    item = room.add_song()
    room.house.holds_jobs = True

    def restart() -> None:
        acts, room.desk = room.desk.acts, Desked(room.house)
        room.desk.acts = acts

    room.when("batch.look", restart)
    room.when("batch.look", room.house.finish_jobs)
    room.when("batch.kin", restart)
    room.when("batch.placed", restart)
    room.run("split")
    (job_id,) = room.house.jobs
    assert_split(room, item)
    room.reaper.undo_once()
    restart()
    room.reaper.select(room.reaper.current.items[0])
    room.run("split")
    assert list(room.house.jobs) == [job_id], "what is done is not done again"
    assert_split(room, room.reaper.current.items[0])


def test_a_result_that_was_removed_is_made_again(room: Room) -> None:
    room.add_song()
    room.run("split")
    (first,) = room.house.jobs.values()
    assert first.result is not None
    room.reaper.undo_once()
    shutil.rmtree(first.result.folder)
    item = room.reaper.current.items[0]
    room.reaper.select(item)
    room.run("split")
    assert len(room.house.jobs) == 2
    assert_split(room, item)


def test_the_panel_shows_each_item_and_the_time_that_is_left(room: Room) -> None:
    items = [room.add_song(name, seed=n) for n, name in enumerate(("one", "two"))]
    room.reaper.select(*items)
    house = room.house
    house.holds_jobs = True
    first: list[str] = []

    def run_first() -> None:
        first.append(next(iter(house.jobs)))
        house.run_job(first[0], Progress("separate", 0.5, 12.0))

    room.when("batch.look", run_first)
    room.when("batch.look", lambda: house.finish_jobs(first[0]))
    room.when("batch.placed", lambda: None)
    room.when("batch.look", house.finish_jobs)
    room.run("split")
    waiting, running, *_, last = room.desk.panels
    assert [(row["label"], row["state"], row["fraction"]) for row in waiting["rows"]] == [
        ("one", "waiting", 0.0),
        ("two", "waiting", 0.0),
    ]
    # Of 4 s a whole segment each, at 0.5 s of work per second and pass.
    alone_s = 0.5 * 7.8
    assert waiting["eta_s"] == pytest.approx(2 * alone_s)
    assert running["eta_s"] == pytest.approx(12.0 + alone_s)
    assert running["fraction"] == 0.25 and running["line"] == "0 of 2 placed"
    one, two = running["rows"]
    assert (one["state"], one["fraction"], one["eta_s"], one["text"]) == ("running", 0.5, 12.0, "separate")
    assert (two["state"], two["eta_s"]) == ("waiting", None)
    assert [row["state"] for row in last["rows"]] == ["done", "done"]
    assert (last["line"], last["fraction"], last["eta_s"]) == ("2 of 2", 1.0, 0.0)
    assert [row["id"] for row in last["rows"]] == [f"{job}/{n}" for n, job in enumerate(house.jobs)]


def test_the_panel_shows_which_items_are_paused_and_names_no_time_for_them(room: Room) -> None:
    items = [room.add_song(name, seed=n) for n, name in enumerate(("one", "two"))]
    room.reaper.select(*items)
    house = room.house
    house.holds_jobs = True

    def set_paused(is_paused: bool) -> None:
        for job_id, job in house.jobs.items():
            house.jobs[job_id] = replace(job, is_paused=is_paused)

    def pause() -> None:
        house.run_job(next(iter(house.jobs)), Progress("separate", 0.5, 12.0))
        set_paused(True)

    def finish() -> None:
        set_paused(False)
        house.finish_jobs()

    room.when("batch.look", pause)
    room.when("batch.look", finish)
    room.run("split")
    paused = room.desk.panels[1]
    assert [(row["state"], row["text"], row["fraction"], row["eta_s"]) for row in paused["rows"]] == [
        ("running", "paused", 0.5, None),
        ("waiting", "paused", 0.0, None),
    ]
    assert paused["eta_s"] is None
    assert [row["state"] for row in room.desk.panels[-1]["rows"]] == ["done", "done"]


def test_no_time_is_named_that_nobody_knows(room: Room) -> None:
    room.add_song()
    room.house.costs.clear()
    room.house.holds_jobs = True
    room.when("batch.look", room.house.finish_jobs)
    room.run("split")
    assert room.desk.panels[0]["eta_s"] is None


# what goes wrong with one of several


def test_where_too_many_errands_run_it_waits(room: Room) -> None:
    item = add_lossy(room)
    house = room.house
    house.max_errands, house.holds_errands = 1, True
    other = house.start_errand("null", {"sums": []})

    def let_go() -> None:
        assert room.desk.panels[-1]["line"] == "waiting: 1 errands run already"
        house.finish_errands()
        house.holds_errands = False

    room.when("batch.waited", lambda: None, times=2)
    room.when("batch.waited", let_go)
    room.run("split")
    assert house.kinds == ["null", "compare"] and house.find_errand(other) is not None
    assert_split(room, item)


def test_a_model_is_fetched_once_there_is_room_for_it(room: Room) -> None:
    item = room.add_song()
    house = room.house
    house.models = set()
    house.max_errands = 0

    def make_room() -> None:
        house.max_errands = None

    room.when("batch.waited", make_room)
    room.run("split", YES)
    assert house.kinds == ["fetch_model"]
    assert_split(room, item)


def fail_on(name: str, real: Callable[..., Any], found: Callable[..., str]) -> Callable[..., Any]:
    """Return what fails as nobody expects for the item of that name, and works for all others."""

    def work(*args: Any, **kwargs: Any) -> Any:
        if found(*args) == name:
            raise ZeroDivisionError("nobody thought of this")
        return real(*args, **kwargs)

    return work


def test_trouble_with_the_placing_of_one_stops_no_other(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [room.add_song(name, seed=n) for n, name in enumerate(("one", "two", "three"))]
    room.reaper.select(*items)
    failing = fail_on("two", placing.place, lambda ticket, *_: ticket.item.name)
    monkeypatch.setattr("stembridge.reaper.threads.landing.place", failing)
    said = room.run("split")
    assert said[0].startswith("2 of 3 split")
    assert said[1] == "two: the daemon failed on it (ZeroDivisionError): stembridge daemon logs"
    assert_split(room, items[0], items[2])
    assert_left(room, items[1])


def test_trouble_with_the_stretch_of_one_stops_no_other(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    lossy, plain = add_lossy(room), room.add_song("plain")
    room.reaper.select(lossy, plain)
    start_errand = room.house.start_errand

    def fail(kind: str, arguments: dict[str, Any]) -> str:
        if kind == "compare":
            raise SourceError("no process could be started", "close something")
        return start_errand(kind, arguments)

    monkeypatch.setattr(room.house, "start_errand", fail)
    said = room.run("split")
    assert said[0].startswith("1 of 2 split")
    assert said[1].endswith("was skipped: no process could be started (close something)")
    assert_split(room, plain)


# while REAPER records


def test_stems_wait_for_the_recording_to_end(room: Room) -> None:
    item = room.add_song()
    project = room.reaper.current
    project.play_state = RECORDING

    def stop() -> None:
        assert "recording" in room.desk.panels[-1]["line"]
        assert_left(room, item)
        project.play_state = 0

    room.when("batch.look", lambda: None, times=3)
    room.when("batch.look", stop)
    room.run("split")
    assert len(room.house.held) > 3
    assert_split(room, item)


def test_a_recording_that_begins_in_the_last_moment_is_waited_for(room: Room) -> None:
    item = room.add_song()
    project = room.reaper.current
    states: list[int] = []

    def record() -> None:
        project.play_state = RECORDING

    def stop() -> None:
        states.append(len(room.undo_labels))
        project.play_state = 0

    room.when("batch.selected", record)
    room.when("batch.look", lambda: None)
    room.when("batch.look", stop)
    room.run("split")
    assert states == [0]
    assert_split(room, item)


def test_nothing_is_rendered_while_reaper_records(room: Room) -> None:
    item = room.add_song()
    assert item.active_take is not None
    item.active_take.fx.append(("tanh", 2.0))
    project = room.reaper.current
    project.rate = RATE
    project.play_state = RECORDING
    seen: list[int] = []

    def stop() -> None:
        seen.append(len([order for order in room.orders if order["do"] == "apply"]))
        project.play_state = 0

    room.when("batch.waited", stop)
    room.run("split")
    assert seen == [0]
    assert_split(room, item)


def test_nothing_is_rendered_while_reaper_plays(room: Room) -> None:
    item = room.add_song()
    active_take(item).fx.append(("tanh", 2.0))
    project = room.reaper.current
    project.rate = RATE
    project.play_state = 1
    seen: list[int] = []

    def stop() -> None:
        seen.append(len([order for order in room.orders if order["do"] == "apply"]))
        assert room.desk.panels[-1]["line"] == "song is rendered when REAPER stops playing"
        project.play_state = 0

    room.when("batch.waited", stop)
    room.run("split")
    assert seen == [0]
    assert_split(room, item)


# what the user does meanwhile


def add_wet(room: Room) -> Item:
    """Return an item that REAPER has to render."""
    item = room.add_song()
    active_take(item).fx.append(("tanh", 2.0))
    room.reaper.current.rate = RATE
    return item


def test_an_item_that_is_moved_and_faded_is_rendered_all_the_same(room: Room) -> None:
    item = add_wet(room)
    room.when("batch.selected", room.edit(item, D_POSITION=3.0, D_FADEINLEN=0.5, D_VOL=0.5))
    room.run("split")
    orders = [order for order in room.orders if order["do"] == "collect" and order["what"] == "items"]
    assert not orders
    assert_split(room, item)
    assert {stem.position_s for stem in room.stems} == {3.0}


def test_an_item_that_is_trimmed_before_it_is_rendered_is_rendered_as_it_is(room: Room) -> None:
    item = add_wet(room)
    room.when("batch.selected", room.edit(item, D_POSITION=2.0, D_LENGTH=1.5, take_D_STARTOFFS=1.0))
    assert room.run("split")[0] == "1 of 1 split: the stems sum to what REAPER rendered."
    assert_split(room, item)
    stemmed = room.listen()
    room.run("toggle")
    np.testing.assert_allclose(stemmed, room.listen(), atol=1e-6)


def test_an_item_that_becomes_plain_before_it_is_rendered_is_sent_as_it_is(room: Room) -> None:
    item = add_wet(room)

    def dry() -> None:
        room.edit(item, D_LENGTH=2.0)()
        active_take(item).fx.clear()

    room.when("batch.selected", dry)
    room.run("split")
    (job,) = room.house.jobs.values()
    assert job.source.endswith("song.wav")
    assert_split(room, item)


def test_the_window_of_an_item_that_is_moved_goes_with_it(room: Room) -> None:
    item = add_wet(room)
    room.reaper.current.time_selection = (1.0, 2.0)
    room.when("batch.selected", room.edit(item, D_POSITION=10.0, D_LENGTH=3.5))
    room.run("split_choose", fields("good", "", "", "tracks", "y"))
    assert {(stem.position_s, stem.length_s) for stem in room.stems} == {(11.0, 1.0)}


@pytest.mark.parametrize("times", [5, 6])
def test_an_item_that_is_trimmed_again_and_again_is_left_out_at_last(room: Room, times: int) -> None:
    item, dry = add_wet(room), room.add_song("dry", seed=2)
    room.reaper.select(item, dry)
    room.when("batch.selected", room.edit(item, D_LENGTH=3.5))
    for number in range(1, times):
        room.when("batch.again", room.edit(item, D_LENGTH=3.5 - 0.1 * number))
    said = room.run("split")
    if times <= 5:
        assert_split(room, item, dry)
    else:
        assert said[1].startswith("song was skipped: it changes again and again")
        assert_left(room, item)
        assert_split(room, dry)


def test_a_rendering_that_is_aborted_takes_no_take_of_the_user(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = add_wet(room)
    take = active_take(item)
    spare = item.add_take(take.copy(room.reaper.new_guid()))
    monkeypatch.setattr("reaper_fake.actions.render_to_take", lambda *_: None)
    (said,) = room.run("split")
    assert said.startswith("song was skipped: REAPER could not render it")
    assert [one.guid for one in item.takes] == [take.guid, spare.guid]
    assert item.active_take is not None and item.active_take.guid == take.guid


def test_a_muted_item_is_rendered_as_it_would_be_heard(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    item = add_wet(room)
    item.values["B_MUTE_ACTUAL"] = 1.0
    render = actions.render_to_take
    seen: list[bool] = []

    def look(host: Any, project: Any, item: Item, take: Any) -> Any:
        seen.append(is_muted(item))
        return render(host, project, item, take)

    monkeypatch.setattr(actions, "render_to_take", look)
    room.run("split")
    assert seen == [False] and is_muted(item)
    assert len(room.stems) == 5 and all(is_muted(stem) for stem in room.stems)


@pytest.mark.parametrize("times", [1, 5, 6])
def test_an_item_that_changes_again_and_again_is_looked_at_five_times_more(room: Room, times: int) -> None:
    item = room.add_song()
    steps = iter(range(1, 100))

    def edit() -> None:
        room.edit(item, D_VOL=1.0 / (1 + next(steps)))()

    room.when("batch.kin", edit, times=times)
    said = room.run("split")
    if times <= 5:
        assert_split(room, item)
        assert {stem.values["D_VOL"] for stem in room.stems} == {item.values["D_VOL"]}
    else:
        (text,) = said
        assert text.startswith("song: REAPER refused")
        assert_left(room, item)
        assert not [label for label in room.undo_labels if label.startswith("Stembridge")]


@pytest.mark.parametrize("answer", [YES, NO])
def test_an_item_that_was_made_longer_gets_more_where_wanted(room: Room, answer: tuple[str, int]) -> None:
    item = room.add_song(seconds=40.0, D_LENGTH=2.0, take_D_STARTOFFS=10.0)
    room.house.holds_jobs = True

    def make_longer() -> None:
        room.edit(item, D_LENGTH=9.0)()
        room.house.holds_jobs = False
        room.house.finish_jobs()

    room.when("batch.look", make_longer)
    said = room.run("split", answer)
    (asked,) = [order for order in room.orders if order["do"] == "ask"]
    assert asked["title"] == "Stembridge: song" and "10.00 s to 19.00 s" in asked["text"]
    if answer == YES:
        assert len(room.house.jobs) == 2
        assert_split(room, item)
    else:
        assert "left as it was" in said[0] and "Stems" in said[0]
        assert_left(room, item)


def test_a_result_that_goes_while_more_is_asked_for_fails_its_item_alone(room: Room) -> None:
    long = room.add_song("long", seconds=40.0, D_LENGTH=2.0, take_D_STARTOFFS=10.0)
    other = room.add_song("other", seed=2)
    room.reaper.select(long, other)
    room.house.holds_jobs = True

    def make_longer() -> None:
        room.edit(long, D_LENGTH=9.0)()
        room.house.finish_jobs()

    def remove() -> None:
        job = next(job for job in room.house.jobs.values() if job.source.endswith("long.wav"))
        assert job.result is not None
        shutil.rmtree(job.result.folder)

    room.when("batch.look", make_longer)
    room.when("batch.more", remove)
    said = room.run("split", YES)
    assert said[0].startswith("1 of 2 split") and said[1].startswith("long: ")
    assert_split(room, other)


@pytest.mark.parametrize("answer", [YES, NO])
def test_an_item_that_is_gone_gets_its_stems_where_wanted(room: Room, answer: tuple[str, int]) -> None:
    item = room.add_song(D_POSITION=2.0)
    before = room.listen()
    room.when("batch.selected", delete(room, item))
    said = room.run("split", answer)
    (asked,) = [order for order in room.orders if order["do"] == "ask"]
    assert asked["text"] == "song: the item is gone. Place its stems where it was?"
    if answer == YES:
        np.testing.assert_allclose(room.listen(), before, atol=1e-12)
    else:
        assert said == ["song: its item is gone; its stems stay on the disk"]
        assert not room.stems
        (job,) = room.house.jobs.values()
        assert job.result is not None and Path(job.result.folder).is_dir()


def test_an_item_whose_track_is_gone_is_told_without_a_question(room: Room) -> None:
    item = room.add_song()
    track = item.track
    assert track is not None

    def delete() -> None:
        with room.reaper.user_edit("deleted"):
            room.reaper.current.tracks.remove(track)

    room.when("batch.selected", delete)
    (said,) = room.run("split")
    assert "gone" in said and "Its stems are in" in said


def test_an_item_that_got_its_stems_meanwhile_is_left_alone(room: Room) -> None:
    item = room.add_song()
    room.house.holds_jobs = True

    def split_it_elsewhere() -> None:
        room.house.holds_jobs = False
        room.house.finish_jobs()
        with room.reaper.user_edit("another action"):
            item.values["B_MUTE_ACTUAL"] = 1.0
            item.ext["stembridge"] = '{"is":"original","job":"another","family":"f"}'

    room.when("batch.look", split_it_elsewhere)
    (said,) = room.run("split")
    assert "other stems of it were placed meanwhile" in said
    assert not room.stems


# many items


def test_forty_items_of_one_track_share_its_stem_tracks(room: Room) -> None:
    song = room.add_song(seconds=42.0, D_LENGTH=1.0)
    track = song.track
    assert track is not None
    items = [song]
    for number in range(1, 40):
        items.append(
            room.reaper.add_item(
                track, str(room.folder / "song.wav"), D_POSITION=float(number), D_LENGTH=1.0,
                take_D_STARTOFFS=float(number),
            )
        )  # fmt: skip
    room.reaper.select(*items)
    before = room.listen()
    said = room.run("split")
    assert said == ["40 of 40 split: the stems sum to the original."]
    tracks: list[Track] = room.reaper.current.tracks
    assert [found.name for found in tracks[:5]] == ["song", *STEMS]
    assert len(tracks) == 6 and tracks[5].name.startswith("Residual")
    assert room.undo_labels == ["Stembridge: split song"] * 40
    assert len(room.house.jobs) == 1, "they lie side by side: one job"
    np.testing.assert_allclose(room.listen(), before, atol=1e-12)
    for _ in range(40):
        room.reaper.undo_once()
    assert room.track_names == ["song"]
