"""The same scenario through both front ends: equal projects, one undo step per item, and the same sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fake_house import FakeHouse
from reaper_fake import Item, Track, section_of
from stage import LANGUAGES, BehindDesk, Stage
from stembridge.manifest import job8
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.tags import OriginalTag, StemTag, read_tag

RATE = 44_100
IDYES, IDNO = 6, 7


class Scene:
    """One scenario: what the project is, what the user does, and what must hold afterwards."""

    def __init__(self, folder: Path, stage: Stage, behind: BehindDesk, house: FakeHouse) -> None:
        self.folder = folder
        self.stage = stage
        self.reaper = stage.reaper
        self.behind = behind
        self.house = house
        self._files = 0

    def write_song(self, seconds: float = 3.0, *, channels: int = 2, name: str = "") -> str:
        """Return the path of a song of noise."""
        self._files += 1
        path = self.folder / f"{name or f'song {self._files}'}.wav"
        draw = np.random.default_rng(self._files)
        samples = 0.2 * draw.standard_normal((round(seconds * RATE), channels))
        soundfile.write(path, samples, RATE, subtype="PCM_24")
        return str(path)

    def add(self, track: Track | None = None, path: str = "", **values: float) -> Item:
        """Return a selected item."""
        found = track or self.reaper.add_track("Mix")
        item = self.reaper.add_item(found, path or self.write_song(), name="", **values)
        item.values["B_UISEL"] = 1.0
        return item

    def when(self, then: str, act: Callable[[dict[str, Any]], None]) -> None:
        """Have ``act`` done once, when the script brings the result of that step."""
        seen: list[str] = []

        def on_note(note: dict[str, Any]) -> None:
            if note.get("then") == then and not seen:
                seen.append(then)
                act(note)

        self.behind.on_note = on_note


def plain(scene: Scene) -> None:
    scene.add(
        D_POSITION=1.25, D_LENGTH=1.5, take_D_STARTOFFS=0.7312345678901234, D_FADEINLEN=0.2,
        D_FADEOUTLEN_AUTO=0.1, C_FADEINSHAPE=3, D_FADEINDIR=-0.3, D_VOL=0.8, take_D_VOL=-0.5,
        take_D_PAN=0.25, B_LOOPSRC=1,
    )  # fmt: skip
    scene.stage.run("split")


def several(scene: Scene) -> None:
    path = scene.write_song(20)
    track, other = (
        scene.reaper.add_track("Mix", I_FOLDERDEPTH=1),
        scene.reaper.add_track("In it", I_FOLDERDEPTH=-1),
    )
    scene.add(track, path, D_POSITION=0, D_LENGTH=1, take_D_STARTOFFS=1)
    scene.add(track, path, D_POSITION=2, D_LENGTH=1, take_D_STARTOFFS=17)
    scene.add(other, D_POSITION=1, take_I_CHANMODE=1)
    scene.stage.run("split")


def sections(scene: Scene) -> None:
    source = scene.reaper.shelf.source(scene.write_song(6))
    assert source is not None
    track = scene.reaper.add_track("Mix")
    for number, is_reversed in enumerate((False, True)):
        cut = section_of(source, 1.25, 2.5, is_reversed=is_reversed)
        item = scene.reaper.add_item(track, cut, D_POSITION=4.0 * number, B_LOOPSRC=1, D_LENGTH=3.5)
        item.values["B_UISEL"] = 1.0
    scene.stage.run("split")


def play_rate(scene: Scene) -> None:
    scene.add(D_POSITION=0.5, D_LENGTH=1.0, take_D_PLAYRATE=1.5, take_B_PPITCH=0, take_D_STARTOFFS=0.25)
    scene.stage.run("split")


def moved_and_trimmed(scene: Scene) -> None:
    item = scene.add(D_POSITION=1.0, D_LENGTH=2.0, take_D_STARTOFFS=0.5)

    def edit(_note: dict[str, Any]) -> None:
        with scene.reaper.user_edit("moved"):
            take = item.active_take
            assert take is not None
            item.values.update(D_POSITION=7.125, D_LENGTH=1.25, D_FADEOUTLEN=0.3)
            take.values["D_STARTOFFS"] = 0.75

    scene.when("batch.look", edit)
    scene.stage.run("split")


def changed_in_the_last_moment(scene: Scene) -> None:
    item = scene.add(D_POSITION=1.0)

    def edit(_note: dict[str, Any]) -> None:
        with scene.reaper.user_edit("volume"):
            item.values["D_VOL"] = 0.5

    scene.when("batch.kin", edit)
    scene.stage.run("split")


def two_stems(scene: Scene) -> None:
    scene.add()
    scene.stage.run("vocals_instrumental")


def queued(scene: Scene) -> None:
    track = scene.reaper.add_track("Mix")
    first, second = scene.add(track), scene.add(track, D_POSITION=5.0)
    scene.reaper.select(first)
    scene.stage.start("split")
    scene.stage.tick()
    scene.reaper.select(second)
    scene.stage.start("drums_rest")
    scene.stage.run_until(lambda: not scene.reaper.ext.get(("stembridge", "inbox")), "the loop to take it up")
    scene.stage.finish()


def take_effects(scene: Scene) -> None:
    item = scene.add(D_POSITION=1.0, D_LENGTH=2.0, take_D_STARTOFFS=0.5)
    take = item.active_take
    assert take is not None
    take.fx.append(("tanh", 2.0))
    scene.reaper.current.rate = RATE
    scene.stage.run("split")


def locked(scene: Scene) -> None:
    scene.add(C_LOCK=1)
    scene.reaper.answers.append(("MB", IDYES))
    scene.stage.run("split")


def gone(scene: Scene) -> None:
    item = scene.add(D_POSITION=1.0)

    def edit(_note: dict[str, Any]) -> None:
        with scene.reaper.user_edit("deleted"):
            assert item.track is not None
            item.track.remove_item(item)

    scene.when("batch.look", edit)
    scene.reaper.answers.append(("MB", IDYES))
    scene.stage.run("split")


def extended(scene: Scene) -> None:
    item = scene.add(path=scene.write_song(40), D_POSITION=1.0, D_LENGTH=2.0, take_D_STARTOFFS=10)

    def edit(_note: dict[str, Any]) -> None:
        with scene.reaper.user_edit("longer"):
            item.values["D_LENGTH"] = 9.0

    scene.when("batch.look", edit)
    scene.reaper.answers.append(("MB", IDYES))
    scene.stage.run("split")


def worked_on(scene: Scene) -> None:
    """Stems are changed by hand, tested, put back, switched and removed."""
    item = scene.add(D_POSITION=1.0, D_LENGTH=2.0, take_D_STARTOFFS=0.5)
    scene.stage.run("split")
    with scene.reaper.user_edit("volume"):
        drums = scene.reaper.current.tracks[1].items[0]
        drums.values.update(D_VOL=0.7, D_POSITION=1.25)
    scene.reaper.select(item)
    for action in ("null_test", "realign", "null_test", "toggle", "toggle"):
        scene.stage.run(action)
    with scene.reaper.user_edit("cut short"):
        scene.reaper.current.tracks[2].items[0].values["D_LENGTH"] = 1.0
    scene.reaper.answers.append(("MB", IDNO))
    scene.stage.run("remove")


def removed(scene: Scene) -> None:
    scene.add(D_POSITION=1.0)
    scene.stage.run("split")
    scene.stage.run("remove")


def split_again(scene: Scene) -> None:
    scene.add(D_POSITION=1.0, take_D_VOL=0.5)
    scene.stage.run("split")
    scene.reaper.answers.append(("GetUserInputs", "good\nhtdemucs_6s"))
    scene.stage.run("resplit")


def checked(scene: Scene) -> None:
    scene.reaper.answers.extend([("MB", IDYES), ("save", True)])
    scene.stage.run("check")


def as_takes(scene: Scene) -> None:
    scene.add(D_POSITION=1.0)
    scene.reaper.answers.append(("GetUserInputs", "good\npreview\n\ntakes\nn"))
    scene.stage.run("split_choose")


def in_time_selection(scene: Scene) -> None:
    scene.add(D_POSITION=1.0, D_FADEINLEN=0.3)
    scene.reaper.current.time_selection = (2.0, 3.0)
    scene.reaper.answers.append(("GetUserInputs", "good\npreview\n\ntracks\ny"))
    scene.stage.run("split_choose")


SAME_SOUND = [
    plain, several, sections, play_rate, moved_and_trimmed, changed_in_the_last_moment, two_stems, queued,
    locked, extended, take_effects,
]  # fmt: skip
SCENES = [*SAME_SOUND, gone, worked_on, removed, split_again, checked, as_takes, in_time_selection]


def play(
    scene_of: Callable[[Scene], None], folder: Path, language: Any, preferences: Preferences | None = None
) -> Scene:
    """Return a scene after it was played."""
    house = FakeHouse(folder / "home")
    behind = BehindDesk(house)
    stage = Stage(folder, language, behind, preferences)
    scene = Scene(folder, stage, behind, house)
    try:
        scene_of(scene)
    finally:
        stage.close()
    return scene


def names_of(scene: Scene) -> dict[str, str]:
    """Return what differs between two runs for good reason: where they ran, and what is named after that."""
    names = {str(scene.folder): "FOLDER"}
    for number, job in enumerate(scene.house.jobs):
        names |= {job: f"JOB{number}", job8(job): f"FOLDER{number}"}
    tags = [read_tag(item.ext.get("stembridge", "")) for item in scene.reaper.current.items]
    families = [tag.family for tag in tags if isinstance(tag, StemTag | OriginalTag)]
    return names | {family: f"FAMILY{number}" for number, family in enumerate(dict.fromkeys(families))}


@pytest.mark.parametrize("scene_of", SCENES, ids=lambda scene: scene.__name__)
def test_both_front_ends_make_the_same_project(scene_of: Callable[[Scene], None], tmp_path: Path) -> None:
    states = []
    for language in LANGUAGES:
        (tmp_path / language).mkdir()
        scene = play(scene_of, tmp_path / language, language)
        state = scene.reaper.state(names_of(scene))
        # The number of Lua's loop in the action list.
        state["ext"].pop("stembridge/loop", None)
        states.append(state)
    assert states[0] == states[1]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scene_of", SAME_SOUND, ids=lambda scene: scene.__name__)
def test_the_stems_sound_as_the_original_and_undo_puts_it_back(
    scene_of: Callable[[Scene], None], language: Any, tmp_path: Path
) -> None:
    scene = play(scene_of, tmp_path, language)
    reaper = scene.reaper
    ours = [label for label, _ in reaper.current.undo if label.startswith("Stembridge: ")]
    placed = [item for item in reaper.current.items if '"is":"original"' in item.ext.get("stembridge", "")]
    assert ours and len(ours) == len(placed)
    heard = scene.stage.hear()
    after = tracks_of(scene)
    while reaper.current.undo[-1][0].startswith("Stembridge: ") if reaper.current.undo else False:
        reaper.undo_once()
    assert not any("stembridge" in track.ext for track in reaper.current.tracks)
    original = scene.stage.hear()
    assert original.shape == heard.shape
    # What REAPER renders is rounded to float samples, and the stems sum to that.
    error = 1e-6 if scene_of is take_effects else 1e-12
    np.testing.assert_allclose(heard, original, rtol=0, atol=error * max(1.0, float(np.abs(original).max())))
    assert np.abs(original).max() > 0.01
    while reaper.redo_once():
        pass
    assert tracks_of(scene) == after


def tracks_of(scene: Scene) -> Any:
    return scene.reaper.state(names_of(scene))["projects"][0]["tracks"]
