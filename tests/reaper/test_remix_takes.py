"""Presets with effects: what is heard is the remix, the dry takes stay, and all of it can be taken back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fakes import FakeSeparator
from reaper_fake import Item, section_of
from signals import read_wav
from stem_items import active_take, cut_item, delete_item, find_stem, is_muted, track_of
from stembridge.errors import EffectError
from stembridge.manifest import Manifest, read_manifest
from stembridge.reaper.preferences import locate_preferences
from stembridge.types import Job, JobRequest, JobState, Progress
from studio import NO, RATE, Studio, fields

BITE = """
[stems.vocals]
gain_db = -3.0
[[stems.vocals.effects]]
kind = "low_cut"
cutoff_hz = 300.0
[stems.drums]
mute = true
"""
HALL = """
[stems.bass]
gain_db = 2.0
[[sends]]
name = "hall"
levels_db = { vocals = -6.0 }
[[sends.effects]]
kind = "reverb"
"""
CRUSH = """
[[master.effects]]
kind = "bitcrush"
bit_depth = 8
[master]
match = "rms"
ceiling_dbtp = -6.0
"""
STEMS = ("drums", "bass", "other", "vocals", "residual")


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def write_preset(studio: Studio, name: str, text: str, head: str = "") -> None:
    folder = studio.folder / "home" / "presets"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(
        f'[preset]\nname = "{name}"\nuse = "a test"\n{head}\n{text}', "utf-8"
    )


def list_renders(studio: Studio) -> list[Job]:
    return [job for job in studio.house.jobs.values() if job.remix is not None]


def read_remix(job: Job) -> tuple[Manifest, NDArray[np.float64]]:
    """Return the last remix and its samples."""
    assert job.result is not None
    folder = Path(job.result.folder)
    document = read_manifest(folder)
    assert document.mixture is not None
    return document, read_wav(folder / document.mixture.file)[0]


def assert_hears(studio: Studio, samples: NDArray[np.float64]) -> None:
    heard = studio.listen()
    assert heard.shape == samples.shape
    assert np.abs(heard - samples).max() < 1e-12


def count_takes(studio: Studio) -> dict[str, int]:
    return {stem: len(find_stem(studio, stem).takes) for stem in STEMS}


def split_song(
    studio: Studio, name: str = "song", seconds: float = 4.0, seed: int = 1, **values: float
) -> Item:
    song = studio.add_song(name, seconds=seconds, seed=seed, **values)
    studio.run("split")
    return song


def test_what_is_heard_is_the_remix_and_the_dry_takes_stay_below(studio: Studio) -> None:
    split_song(studio)
    before, state = studio.listen(), studio.tracks
    dry = {stem: active_take(find_stem(studio, stem)).guid for stem in STEMS}
    write_preset(studio, "bite", BITE)
    told = studio.run("remix", fields("Bite"))
    assert told == ["Bite is set. Undo, or remix with `reset`, puts the dry takes and the faders back."]
    (job,) = list_renders(studio)
    document, remix = read_remix(job)
    assert_hears(studio, remix)
    assert np.abs(remix - before).max() > 0.01
    assert document.remix is not None
    assert set(document.remix.untouched) == {"bass", "other", "residual"}
    assert count_takes(studio) == {"drums": 1, "bass": 1, "other": 1, "vocals": 2, "residual": 1}
    vocals = find_stem(studio, "vocals")
    assert vocals.takes[0].guid == dry["vocals"]
    assert active_take(vocals).name == "song - vocals (bite)"
    assert studio.find_track("Vocals").values.get("D_VOL", 1.0) == 1.0, "its gain is in the take"
    assert studio.find_track("Drums").values["B_MUTE"] == 1.0
    assert Path(job.out) == Path(studio.house.jobs[next(iter(studio.house.jobs))].out)
    assert [label for label, _ in studio.reaper.current.undo][-1] == "Stembridge: remix bite"
    studio.reaper.undo_once()
    assert studio.tracks == state
    assert_hears(studio, before)


def test_faders_of_the_preset_before_do_not_come_on_top(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "bite", BITE)
    studio.run("remix", fields("vocals-down"))
    studio.run("remix", fields("bite"))
    assert_hears(studio, read_remix(list_renders(studio)[0])[1])


def test_reset_has_the_dry_takes_play_and_the_same_again_adds_no_take(studio: Studio) -> None:
    split_song(studio)
    before = studio.listen()
    write_preset(studio, "bite", BITE)
    write_preset(studio, "crush", CRUSH)
    for _ in range(2):
        studio.run("remix", fields("bite"))
        assert_hears(studio, read_remix(list_renders(studio)[0])[1])
        studio.run("remix", fields("crush"))
        assert_hears(studio, read_remix(list_renders(studio)[1])[1])
        studio.run("remix", fields("crush"))
        assert_hears(studio, read_remix(list_renders(studio)[1])[1])
    assert count_takes(studio) == {"drums": 2, "bass": 2, "other": 2, "vocals": 3, "residual": 2}
    assert len(list_renders(studio)) == 2
    assert studio.run("remix", fields("reset")) == ["All stems are at 0 dB again, and their dry takes play."]
    assert np.array_equal(studio.listen(), before)
    assert studio.run("null_test") == ["song: exact null (4 stems + residual)"]
    assert studio.run("realign") == ["Every stem lies where its original lies."]
    assert studio.run("remix", fields("reset")) == ["All stems are at 0 dB again."]


def test_a_preset_of_faders_counts_from_the_dry_takes(studio: Studio) -> None:
    split_song(studio)
    before = studio.listen()
    vocals = studio.read_file(find_stem(studio, "vocals"))
    write_preset(studio, "crush", CRUSH)
    studio.run("remix", fields("crush"))
    studio.run("remix", fields("karaoke"))
    assert np.abs(studio.listen() - (before - vocals)).max() < 1e-12


def test_a_return_gets_a_track_that_belongs_to_the_stems(studio: Studio) -> None:
    song = split_song(studio, D_POSITION=1.0)
    before = studio.listen()
    write_preset(studio, "hall", HALL)
    studio.run("remix", fields("hall"))
    names = [name.split()[0] for name in studio.track_names]
    assert names == ["song", "Drums", "Bass", "Other", "Vocals", "Hall", "Residual"]
    _, remix = read_remix(list_renders(studio)[0])
    late = np.concatenate([np.zeros((2, RATE)), remix], axis=1)
    assert_hears(studio, late)
    (told,) = studio.run("null_test")
    assert "bass: plays a remix, hall: plays a remix" in told.lower()
    assert told.endswith("Remix preset `reset` has the dry takes play.")
    # The return comes and goes with the stems.
    studio.run("toggle")
    assert np.array_equal(studio.listen(), before)
    studio.run("toggle")
    assert_hears(studio, late)
    for preset in ("reset", "hall", "karaoke", "reset"):
        studio.run("remix", fields(preset))
        if preset == "hall":
            assert_hears(studio, late)
    assert np.array_equal(studio.listen(), before)
    assert studio.run("null_test") == ["song: exact null (4 stems + residual)"]
    # What rests stays so there and back.
    studio.run("toggle")
    studio.run("toggle")
    assert np.array_equal(studio.listen(), before)
    assert [name.split()[0] for name in studio.track_names] == names
    studio.run("remix", fields("hall"))
    assert_hears(studio, late)
    assert studio.run("remove")[0].startswith("song: 6 stems removed")
    assert studio.track_names == ["song"]
    assert np.array_equal(studio.listen(), before)
    assert not is_muted(song)


def test_a_return_that_another_preset_has_too_plays_that_one(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "hall", HALL)
    write_preset(studio, "big", HALL.replace("-6.0", "0.0"))
    for number, name in enumerate(("hall", "big", "hall")):
        studio.run("remix", fields(name))
        assert_hears(studio, read_remix(list_renders(studio)[number % 2])[1])
        studio.find_track("Hall").values |= {"D_VOL": 0.5, "B_MUTE": 1.0}
    assert len(find_stem(studio, "hall").takes) == 2


def test_what_a_master_chain_adds_is_a_stem_too(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "crush", CRUSH)
    studio.run("remix", fields("crush"))
    document, remix = read_remix(list_renders(studio)[0])
    assert "master_delta" in [entry.name for entry in document.stems]
    assert_hears(studio, remix)
    assert "Master delta" in studio.track_names


@pytest.mark.parametrize("preset", ["bite", "hall", "crush"])
def test_a_take_lies_where_the_dry_one_lies(studio: Studio, preset: str) -> None:
    """A part of a long file, at half its level, moved and slipped: so is its remix."""
    write_preset(studio, preset, {"bite": BITE, "hall": HALL, "crush": CRUSH}[preset])
    split_song(
        studio, seconds=60.0, D_POSITION=0.5, take_D_STARTOFFS=40.25, D_LENGTH=1.0, D_VOL=0.5, take_D_VOL=-0.7
    )
    studio.run("remix", fields(preset))
    document, remix = read_remix(list_renders(studio)[0])
    split = next(job for job in studio.house.jobs.values() if job.request is not None).split
    assert split.region is not None
    assert document.source.frames < 20 * RATE
    first = round(40.25 * RATE) - split.region.start
    heard = studio.listen()[:, RATE // 2 :]
    assert np.abs(heard - 0.5 * -0.7 * remix[:, first : first + RATE]).max() < 1e-12


def test_items_of_several_sets_on_one_track_are_one_undo_step(studio: Studio) -> None:
    first = studio.add_song("one", seconds=2.0)
    source = active_take(studio.add_song("two", seconds=2.0, seed=2)).source
    assert source is not None
    second = studio.reaper.add_item(track_of(first), source.root.path, name="two")
    second.values["D_POSITION"] = 2.0
    delete_item(studio.find_track("two").items[0])
    studio.reaper.select(first, second)
    studio.run("split")
    write_preset(studio, "hall", HALL + BITE)
    steps = len(studio.reaper.current.undo)
    studio.run("remix", fields("hall"))
    assert len(studio.reaper.current.undo) == steps + 1
    remixes = [read_remix(job)[1] for job in list_renders(studio)]
    assert len(remixes) == 2
    assert_hears(studio, np.concatenate(remixes, axis=1))
    assert studio.track_names.count("Hall") == 1


def test_only_the_stems_of_the_selection_are_rendered(studio: Studio) -> None:
    split_song(studio, "one")
    split_song(studio, "two", seed=2)
    write_preset(studio, "hall", HALL)
    studio.reaper.select(studio.find_track("two").items[0])
    studio.run("remix", fields("hall"))
    assert len(list_renders(studio)) == 1
    assert len(find_stem(studio, "bass", "one").takes) == 1
    assert len(find_stem(studio, "bass", "two").takes) == 2
    studio.reaper.select()
    studio.run("remix", fields("hall"))
    assert len(list_renders(studio)) == 2
    assert studio.track_names.count("Hall") == 2
    (operations,) = [order["ops"] for order in studio.orders if order["do"] == "apply"]
    new = [one[1] for one in operations if one[0] in ("insert_track", "add_item", "add_take")]
    assert len(set(new)) == len(new), "no name stands for two things"
    assert_hears(studio, sum(read_remix(job)[1] for job in list_renders(studio)))  # type: ignore[arg-type]


def test_a_job_that_fails_says_why_and_changes_nothing(studio: Studio) -> None:
    split_song(studio)
    state = studio.tracks
    split = next(iter(studio.house.jobs.values()))
    assert split.result is not None
    studio.house.faults[Path(split.result.folder).name] = EffectError("reverb gave NaN", "another room")
    write_preset(studio, "hall", HALL)
    assert studio.run("remix", fields("hall")) == ["song: reverb gave NaN (another room)"]
    assert studio.told[-1][1]
    assert studio.tracks == state


def test_a_set_that_fails_stops_no_other(studio: Studio) -> None:
    split_song(studio, "one")
    split_song(studio, "two", seed=2)
    first = next(iter(studio.house.jobs.values()))
    assert first.result is not None
    studio.house.faults[Path(first.result.folder).name] = EffectError("reverb gave NaN", "another room")
    write_preset(studio, "hall", HALL)
    studio.reaper.select()
    told = studio.run("remix", fields("hall"))
    assert told[0] == "one: reverb gave NaN (another room)"
    assert told[1].startswith("Hall is set.")
    assert [len(find_stem(studio, "bass", song).takes) for song in ("one", "two")] == [1, 2]


def test_the_panel_shows_how_far_it_is_and_cancels(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    split_song(studio)
    state = studio.tracks
    write_preset(studio, "hall", HALL)
    studio.house.holds_jobs = True
    rows: list[dict[str, Any]] = []
    reply = studio.desk._reply

    def watch(note: Any) -> dict[str, Any]:
        answer = reply(note)
        rows.extend(answer.get("panel", {}).get("rows", []))
        for job in list_renders(studio):
            if job.state is JobState.QUEUED:
                studio.house.run_job(job.id, Progress("effects", 0.5, 7.0))
            elif job.state is JobState.RUNNING:
                studio.house.cancel_job(rows[-1]["id"].partition("/")[0])
        return answer

    monkeypatch.setattr(studio.desk, "_reply", watch)
    assert studio.run("remix", fields("hall")) == ["song: cancelled"]
    assert studio.told == [("song: cancelled", False)]
    assert [(row["label"], row["state"], row["fraction"], row["text"]) for row in rows] == [
        ("song", "waiting", 0.0, ""),
        ("song", "running", 0.5, "effects"),
        ("song", "cancelled", 1.0, "cancelled"),
    ]
    assert studio.tracks == state


@pytest.mark.parametrize(
    ("head", "text", "reason"),
    [
        ('tail = "extend"', HALL, 'preset mine has tail = "extend", and no take is heard behind the end'),
        ("", HALL.replace("vocals", "guitar"), "song: preset 'mine' is for guitar, which these stems do not"),
        (
            "",
            HALL.replace('"hall"', '"Bass"'),
            "song: preset 'mine' has a send 'Bass', and so is one of these",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_rendered(
    studio: Studio, head: str, text: str, reason: str
) -> None:
    split_song(studio)
    state = studio.tracks
    write_preset(studio, "mine", text, head)
    answers = [fields("mine")] + [("GetUserInputs", None)] * bool(head)
    told = studio.run("remix", *answers)
    assert reason in "\n".join([*told, *studio.titles])
    assert not list_renders(studio)
    assert studio.tracks == state


def test_items_that_cannot_get_a_take_are_named_before_anything_is_rendered(studio: Studio) -> None:
    song = studio.add_song(seconds=20.0)
    take = song.takes[0]
    assert take.source is not None
    take.source = section_of(take.source, 9.5, 2.0, is_reversed=True)
    song.values |= {"D_LENGTH": 1.5}
    studio.run("split")
    write_preset(studio, "hall", HALL)
    (told,) = studio.run("remix", fields("hall"))
    assert told.startswith("song was skipped: it plays a section or backwards")
    other = split_song(studio, "other")
    studio.reaper.select(other)
    find_stem(studio, "bass", "other").values["C_LOCK"] = 1.0
    (told,) = studio.run("remix", fields("hall"))
    assert told == "other was skipped: it or one of its stems is locked"
    find_stem(studio, "bass", "other").values["C_LOCK"] = 0.0
    source = active_take(find_stem(studio, "bass", "other")).source
    assert source is not None
    active_take(find_stem(studio, "bass", "other")).source = song.takes[0].source
    (told,) = studio.run("remix", fields("hall"))
    assert told.startswith("other was skipped: ")
    assert not list_renders(studio)


def test_what_is_refused_is_told_once_and_stops_no_other(studio: Studio) -> None:
    """Also not one that plays the same file, and has the same set of stems."""
    first = studio.add_song("one")
    source = active_take(first).source
    assert source is not None
    second = studio.reaper.add_item(studio.reaper.add_track("two"), source.root.path, name="two")
    studio.reaper.select(first, second)
    studio.run("split")
    find_stem(studio, "bass", "one").values["C_LOCK"] = 1.0
    studio.reaper.select()
    write_preset(studio, "hall", HALL)
    told = studio.run("remix", fields("hall"))
    assert told[0] == "one was skipped: it or one of its stems is locked"
    assert len(told) == 2
    assert [len(find_stem(studio, "bass", song).takes) for song in ("one", "two")] == [1, 2]
    # Takes of a stem that is locked stay where they are, also when all go back to the dry ones.
    find_stem(studio, "bass", "two").values["C_LOCK"] = 1.0
    told = studio.run("remix", fields("reset"))
    assert told[1:] == ["two: it or one of its stems is locked, its takes stay"]
    assert active_take(find_stem(studio, "bass", "two")).name == "two - bass (hall)"


def test_what_is_locked_while_it_is_rendered_is_left(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    split_song(studio)
    state = studio.tracks
    write_preset(studio, "hall", HALL)
    submit = studio.house.submit

    def lock(request: JobRequest, job_id: str) -> Job:
        find_stem(studio, "bass").values["C_LOCK"] = 1.0
        return submit(request, job_id)

    monkeypatch.setattr(studio.house, "submit", lock)
    assert studio.run("remix", fields("hall")) == ["song was skipped: it or one of its stems is locked"]
    find_stem(studio, "bass").values["C_LOCK"] = 0.0
    assert [len(find_stem(studio, stem).takes) for stem in STEMS] == [1] * 5
    assert len(studio.tracks) == len(state)


def test_where_the_user_deleted_takes_the_dry_one_comes_back(studio: Studio) -> None:
    split_song(studio)
    before = studio.listen()
    write_preset(studio, "crush", CRUSH)
    studio.run("remix", fields("crush"))
    bass = find_stem(studio, "bass")
    del bass.takes[0]
    bass.values["I_CURTAKE"] = 0.0
    told = studio.run("remix", fields("reset"))
    assert told == ["All stems are at 0 dB again, and their dry takes play."]
    assert np.array_equal(studio.listen(), before)
    assert [take.name for take in bass.takes] == ["song - bass (crush)", "song - bass"]


def test_a_remix_whose_take_the_user_deleted_gets_one_again(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "crush", CRUSH)
    write_preset(studio, "bite", BITE.replace("vocals", "bass"))
    for name in ("crush", "bite", "reset"):
        studio.run("remix", fields(name))
    del find_stem(studio, "bass").takes[1]
    studio.run("remix", fields("bite"))
    assert_hears(studio, read_remix(list_renders(studio)[1])[1])
    studio.run("remix", fields("crush"))
    assert_hears(studio, read_remix(list_renders(studio)[0])[1])
    assert len(list_renders(studio)) == 2


def test_where_the_files_of_a_remix_are_gone_the_dry_takes_play_and_it_is_rendered_again(
    studio: Studio,
) -> None:
    split_song(studio)
    before = studio.listen()
    write_preset(studio, "bite", BITE)
    write_preset(studio, "hall", HALL)
    studio.run("remix", fields("bite"))
    (first,) = list_renders(studio)
    assert first.result is not None
    shutil.rmtree(first.result.folder)
    studio.run("remix", fields("hall"))
    assert_hears(studio, read_remix(list_renders(studio)[1])[1])
    studio.run("remix", fields("bite"))
    assert_hears(studio, read_remix(list_renders(studio)[2])[1])
    studio.run("remix", fields("reset"))
    assert np.array_equal(studio.listen(), before)


def test_files_that_were_copied_to_another_place_are_known(studio: Studio) -> None:
    """As REAPER does when a project is saved with all its media."""
    split_song(studio)
    before = studio.listen()
    write_preset(studio, "crush", CRUSH)
    studio.run("remix", fields("crush"))
    studio.run("remix", fields("reset"))
    for item in studio.reaper.current.items:
        for number, take in enumerate(item.takes):
            assert take.source is not None
            path = Path(take.source.root.path)
            take.source.root.path = str(studio.folder / f"{number} {path.name}")
            shutil.copy(path, take.source.root.path)
    studio.run("remix", fields("crush"))
    assert count_takes(studio) == dict.fromkeys(STEMS, 2)
    told = studio.run("remix", fields("reset"))
    assert told == ["All stems are at 0 dB again, and their dry takes play."]
    assert np.array_equal(studio.listen(), before)


def test_takes_in_another_order_are_seen_or_told(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "crush", CRUSH)
    write_preset(studio, "bite", BITE.replace("vocals", "bass"))
    studio.run("remix", fields("crush"))
    studio.run("remix", fields("bite"))
    bass = find_stem(studio, "bass")
    bass.takes[0], bass.takes[1] = bass.takes[1], bass.takes[0]
    told = studio.run("remix", fields("reset"))
    (path,) = [take.source.root.path for take in bass.takes if take.name == "song - bass" and take.source]
    assert told[1] == f"The takes of a stem are in another order now: choose that of {path} by hand."
    # The one that plays is known for what it is, so it is seen that the numbers are wrong.
    studio.run("remix", fields("reset"))
    assert active_take(bass).name == "song - bass"


def test_every_piece_of_a_stem_that_was_cut_gets_its_take(studio: Studio) -> None:
    song = split_song(studio)
    for item in list(studio.reaper.current.items):
        cut_item(studio, item, 1.0)
    studio.reaper.select(song)
    write_preset(studio, "hall", HALL)
    studio.run("remix", fields("hall"))
    assert len(list_renders(studio)) == 1
    assert_hears(studio, read_remix(list_renders(studio)[0])[1])


def test_what_the_user_did_to_a_stem_is_on_its_new_take(studio: Studio) -> None:
    split_song(studio)
    bass = find_stem(studio, "bass")
    bass.takes[0].values |= {"D_VOL": 0.25, "D_PAN": 0.5}
    bass.takes[0].markers.append((1.0, "here", 0))
    bass.takes[0].fx.append(("gain", 0.5))
    write_preset(studio, "hall", HALL)
    told = studio.run("remix", fields("hall"))
    assert told[1:] == ["song: bass: effects, envelopes and stretch markers stay on the take before"]
    take = active_take(bass)
    assert len(bass.takes) == 2
    assert (take.values["D_VOL"], take.values["D_PAN"]) == (0.25, 0.5)
    assert take.markers == [(1.0, "here", 0)]
    assert not take.fx


def test_a_stem_that_is_gone_is_named(studio: Studio) -> None:
    split_song(studio)
    delete_item(find_stem(studio, "other"))
    write_preset(studio, "hall", HALL)
    told = studio.run("remix", fields("hall"))
    assert told[1:] == ["song: other: its item is gone, so the remix lacks it"]


def test_where_the_original_plays_the_takes_come_muted(studio: Studio) -> None:
    split_song(studio)
    before = studio.listen()
    studio.run("toggle")
    write_preset(studio, "hall", HALL)
    told = studio.run("remix", fields("hall"))
    assert told[1].startswith("song: the stems are silent now, the original plays.")
    assert np.array_equal(studio.listen(), before)
    studio.run("toggle")
    assert_hears(studio, read_remix(list_renders(studio)[0])[1])


def test_stems_that_were_split_again_are_remixed_anew(studio: Studio) -> None:
    split_song(studio)
    before = studio.listen()
    write_preset(studio, "hall", HALL)
    studio.run("remix", fields("hall"))
    studio.house.separator = FakeSeparator(seed=9)
    studio.house.separator.name = "mdx"
    studio.run("resplit", fields("good", "mdx"))
    assert is_muted(find_stem(studio, "hall"))
    np.testing.assert_allclose(studio.listen(), before, atol=1e-12)
    studio.run("remix", fields("hall"))
    assert len(list_renders(studio)) == 2
    assert_hears(studio, read_remix(list_renders(studio)[1])[1])
    assert studio.track_names.count("Hall") == 1


def test_a_return_follows_stems_of_another_stretch(studio: Studio) -> None:
    """The new split's files begin earlier: a return that was there plays from where the new one begins."""
    split_song(studio, seconds=60.0, take_D_STARTOFFS=20.5, D_LENGTH=2.0)
    write_preset(studio, "hall", HALL)
    studio.run("remix", fields("hall"))
    locate_preferences(studio.house.settings).write_text("handles_s = 5.0\n", "utf-8")
    studio.house.separator = FakeSeparator(seed=9)
    studio.house.separator.name = "mdx"
    studio.run("resplit", fields("good", "mdx"))
    studio.run("remix", fields("hall"))
    first, again = [job.split.region for job in studio.house.jobs.values() if job.request is not None]
    assert first is not None
    assert again is not None
    assert again.start < first.start
    _, remix = read_remix(list_renders(studio)[1])
    at = round(20.5 * RATE) - again.start
    assert_hears(studio, remix[:, at : at + 2 * RATE])


def test_effects_that_stay_on_each_stem_are_on_its_new_take_and_on_a_return(studio: Studio) -> None:
    locate_preferences(studio.house.settings).parent.mkdir(parents=True, exist_ok=True)
    locate_preferences(studio.house.settings).write_text('effects = "keep"\n', "utf-8")
    song = studio.add_song()
    song.takes[0].fx.append(("gain", 0.5))
    studio.run("split")
    write_preset(studio, "hall", HALL)
    told = studio.run("remix", fields("hall"))
    assert len(told) == 1
    assert active_take(find_stem(studio, "bass")).fx == [("gain", 0.5)]
    assert_hears(studio, 0.5 * read_remix(list_renders(studio)[0])[1])


def test_nothing_is_set_while_reaper_records(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    split_song(studio)
    write_preset(studio, "hall", HALL)
    reply = studio.desk._reply
    lines: list[str] = []

    def record(note: Any) -> dict[str, Any]:
        answer = reply(note)
        is_rendered = bool(list_renders(studio))
        assert studio.reaper.current.play_state == 0 or "apply" not in [o["do"] for o in answer["orders"]]
        lines.extend([answer["panel"]["line"]] if "panel" in answer else [])
        # Recording begins before the job is looked at, and goes on for a while.
        begins = not is_rendered or len(lines) < 3
        studio.reaper.current.play_state = 5 if begins and note.then else 0
        return answer

    monkeypatch.setattr(studio.desk, "_reply", record)
    studio.run("remix", fields("hall"))
    assert "remixes are ready and wait for the recording to end" in lines
    assert_hears(studio, read_remix(list_renders(studio)[0])[1])


def test_what_is_changed_while_it_is_rendered_is_looked_at_again(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_song(studio)
    write_preset(studio, "bite", BITE)
    reply = studio.desk._reply
    done: list[str] = []

    def move(note: Any) -> dict[str, Any]:
        answer = reply(note)
        if any(order["do"] == "apply" for order in answer["orders"]) and not done:
            done.append("moved")
            for item in studio.reaper.current.items:
                item.takes[0].values["D_STARTOFFS"] = 0.5
        return answer

    monkeypatch.setattr(studio.desk, "_reply", move)
    told = studio.run("remix", fields("bite"))
    assert told[0].startswith("Bite is set.")
    remix = read_remix(list_renders(studio)[0])[1]
    heard = studio.listen()
    assert np.abs(heard[:, : 3 * RATE] - remix[:, RATE // 2 : RATE // 2 + 3 * RATE]).max() < 1e-12


def test_a_preset_that_was_changed_is_rendered_again(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "mine", BITE)
    studio.run("remix", fields("mine"))
    write_preset(studio, "mine", BITE.replace("-3.0", "-9.0"))
    studio.run("remix", fields("mine"))
    assert len(list_renders(studio)) == 2
    assert_hears(studio, read_remix(list_renders(studio)[1])[1])


def test_a_remix_of_this_project_is_a_job_of_the_list(studio: Studio) -> None:
    split_song(studio)
    write_preset(studio, "hall", HALL)
    studio.run("remix", fields("hall"))
    told = studio.run("jobs")
    (job,) = list_renders(studio)
    assert job.result is not None
    assert told[0] == f"{Path(job.source).name} (hall): done, in {job.result.folder}"
    assert len(told) == 2
    (queued,) = list_renders(studio)
    studio.house.jobs[queued.id] = Job("x", None, JobState.QUEUED, 0.0, remix=queued.remix)
    assert studio.run("jobs", NO)[0].endswith("(hall): waiting")
