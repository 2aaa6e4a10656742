"""Actions that ask first: through both front ends they ask the same and leave the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_house import FakeHouse
from reaper_fake import FakeReaper
from stage import LANGUAGES, BehindDesk, Stage
from stembridge.wavfile import write_wav

RATE = 8000
SECONDS = 24


def write_song(folder: Path) -> Path:
    """Write a song and, in a folder of their own, its parts."""
    draw = np.random.default_rng(3)
    names, shape = ("bass", "vocals"), (2, SECONDS * RATE)
    parts = {name: draw.integers(-(2**20), 2**20, shape) / 2.0**23 for name in names}
    (folder / "parts").mkdir()
    for name, samples in parts.items():
        write_wav(folder / "parts" / f"song {name}.wav", samples, RATE, "PCM_24")
    write_wav(folder / "song.wav", parts["bass"] + parts["vocals"], RATE, "PCM_24")
    return folder / "song.wav"


def describe(reaper: FakeReaper) -> list[Any]:
    """Return what a user sees of the project."""
    return [
        (
            track.name,
            track.folder_depth,
            track.values.get("D_VOL", 1.0),
            track.values.get("B_MUTE", 0.0),
            [
                (
                    item.position_s,
                    item.length_s,
                    [(take.name, take.values.get("D_STARTOFFS")) for take in item.takes],
                    item.values.get("I_CURTAKE"),
                )
                for item in track.items
            ],
        )
        for track in reaper.current.tracks
    ]


SCENES: dict[str, list[tuple[str, list[tuple[str, Any]]]]] = {
    "choose": [("split_choose", [("GetUserInputs", "good\npreview\ndrums/rest\ntracks\ny")])],
    "audition kept": [("audition", [("MB", 6)])],
    "audition dropped": [("audition", [("MB", 7)])],
    "remix": [("split", []), ("remix", [("GetUserInputs", "no such"), ("GetUserInputs", "acapella")])],
    "remix with effects": [
        ("split", []),
        ("remix", [("GetUserInputs", "clean-bleed")]),
        ("remix", [("GetUserInputs", "drum-punch")]),
    ],
    "settings": [
        ("settings", [("GetUserInputs", "draft\npreview\nvocals/rest\ntracks\n2\nplaying\nkeep")]),
        ("split", []),
    ],
    "import": [("import_stems", [("GetUserFileNameForRead", "parts/song bass.wav")])],
}


@pytest.mark.parametrize("scene", SCENES)
def test_both_front_ends_ask_the_same_and_leave_the_same(tmp_path: Path, scene: str) -> None:
    found = []
    for language in LANGUAGES:
        folder = tmp_path / language
        folder.mkdir()
        stage = Stage(folder, language, BehindDesk(FakeHouse(folder / "home", costs={"preview": 0.1})))
        try:
            reaper = stage.reaper
            reaper.select(reaper.add_item(reaper.add_track("song"), write_song(folder), name="song"))
            before = stage.hear(RATE)
            reaper.current.cursor_s = 5.25
            reaper.current.time_selection = (3.0, 9.5)
            for action, answers in SCENES[scene]:
                for kind, answer in answers:
                    is_path = kind == "GetUserFileNameForRead"
                    reaper.answers.append((kind, str(folder / answer) if is_path else answer))
                stage.run(action)
            assert not reaper.answers
            if not scene.startswith("remix"):
                assert np.array_equal(stage.hear(RATE), before)
            asked = [(kind, text.replace(str(folder), "")) for kind, text in reaper.asked]
            steps = [label for label, _ in reaper.current.undo]
            found.append((describe(reaper), asked, steps, reaper.current.play_state))
        finally:
            stage.close()
    assert found[0] == found[1]
    assert (len(found[0][0]) == 1) == (scene == "audition dropped")
