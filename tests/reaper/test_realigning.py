"""Stems put back to their original's place and values, and what cannot be put back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stem_items import cut_item, delete_item, find_stem
from studio import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def test_nothing_is_done_to_what_lies_well(studio: Studio) -> None:
    studio.add_song(D_POSITION=1.0, take_D_STARTOFFS=0.5, D_LENGTH=2.0, D_FADEINLEN=0.1)
    studio.run("split")
    before = studio.reaper.state()
    assert studio.run("realign") == ["Every stem lies where its original lies."]
    assert studio.reaper.state() == before


@pytest.mark.parametrize("selected", ["original", "stem", "nothing"])
def test_the_stems_follow_the_original_as_it_is_now(studio: Studio, selected: str) -> None:
    song = studio.add_song(D_POSITION=1.0, take_D_STARTOFFS=0.5, D_LENGTH=2.0)
    studio.run("split")
    stems = [item for item in studio.reaper.current.items if item is not song]
    song.values |= {
        "D_POSITION": 3.0,
        "D_LENGTH": 1.5,
        "D_VOL": 0.5,
        "D_FADEINLEN": 0.25,
        "C_FADEINSHAPE": 2.0,
    }
    song.takes[0].values |= {"D_STARTOFFS": 0.75, "D_VOL": -0.5, "I_CHANMODE": 1.0}
    stems[3].values["D_VOL"] = 2.0
    if selected == "stem":
        studio.reaper.select(stems[0])
    elif selected == "nothing":
        studio.reaper.select()
    told = studio.run("realign")
    assert "song: drums: moved, it sounds 1.750 s too early: put back" in told
    assert "song: drums: trimmed to 2.000 s of 1.500 s: put back" in told
    assert "song: vocals: item volume +12.0 dB: put back" in told
    assert "song: drums: take polarity flipped: put back" in told
    assert [label for label, _ in studio.reaper.current.undo][-1] == "Stembridge: realign stems"
    stemmed = studio.listen()
    studio.run("toggle")
    np.testing.assert_allclose(stemmed, studio.listen(), atol=1e-12)
    assert studio.run("realign") == ["Every stem lies where its original lies."]


def test_what_values_cannot_put_back_is_named_and_left(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    drums, bass, vocals = (find_stem(studio, name) for name in ("drums", "bass", "vocals"))
    drums.takes[0].fx.append(("gain", 0.5))
    drums.values["D_POSITION"] = 1.0
    other = studio.reaper.shelf.source(str(studio.folder / "song.wav"))
    bass.takes[0].source = other
    vocals.values["D_POSITION"] = 1.0
    find_stem(studio, "other").values["B_MUTE_ACTUAL"] = 1.0
    assert studio.run("realign") == [
        "song: vocals: moved, it sounds 1.000 s too late: put back",
        "song: drums: moved, it sounds 1.000 s too late: left as it is",
        "song: drums: 1 take effect: left as it is",
        "song: bass: plays another file: song.wav: left as it is",
    ]
    assert (drums.values["D_POSITION"], vocals.values["D_POSITION"]) == (1.0, 0.0)
    assert find_stem(studio, "other").values["B_MUTE_ACTUAL"] == 1


def test_pieces_missing_stems_and_locked_ones_are_left(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    vocals, bass, drums = (find_stem(studio, name) for name in ("vocals", "bass", "drums"))
    cut_item(studio, vocals, 1.0)
    delete_item(bass)
    assert studio.run("realign") == [
        "song: bass: its item is gone; undo, or remove the stems and split again",
        "song: vocals: cut into 2 pieces: left as it is",
    ]
    drums.values |= {"D_POSITION": 1.0, "C_LOCK": 1.0}
    assert (
        "song: drums: moved, it sounds 1.000 s too late: left as it is, because it is locked"
        in studio.run("realign")
    )
    assert song.values["B_MUTE_ACTUAL"] == 1
