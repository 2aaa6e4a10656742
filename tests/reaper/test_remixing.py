"""A remix sets the stem tracks, in one undo step, and is taken back by another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studio import Studio, fields


def faders(studio: Studio, first: int = 1, last: int = 6) -> dict[str, tuple[float, bool]]:
    tracks = studio.reaper.current.tracks[first:last]
    return {
        track.name.split()[0]: (
            round(track.values.get("D_VOL", 1.0), 4),
            bool(track.values.get("B_MUTE", 0)),
        )
        for track in tracks
    }


NEUTRAL = dict.fromkeys(("Drums", "Bass", "Other", "Vocals", "Residual"), (1.0, False))


def split_song(studio: Studio, name: str = "song", seed: int = 1) -> None:
    studio.add_song(name, seed=seed)
    studio.run("split")


def test_karaoke_is_the_song_without_its_vocals_and_one_undo_step(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    split_song(studio)
    before, state = studio.listen(), studio.tracks
    vocals = studio.read_file(studio.find_track("Vocals").items[0])
    told = studio.run("remix", fields("Karaoke"))
    assert told == ["Karaoke is set. Undo, or remix with `reset`, puts the faders back."]
    assert np.abs(studio.listen() - (before - vocals)).max() < 1e-12
    assert studio.reaper.current.undo[-1][0] == "Stembridge: remix karaoke"
    studio.reaper.undo_once()
    assert studio.tracks == state


def test_an_acapella_has_the_vocals_and_nothing_else(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    split_song(studio)
    vocals = studio.read_file(studio.find_track("Vocals").items[0])
    studio.run("remix", fields("acapella"))
    assert np.array_equal(studio.listen(), vocals)
    assert not any(track.values.get("I_SOLO") for track in studio.reaper.current.tracks)


def test_the_next_preset_does_not_add_to_the_last_and_reset_takes_all_back(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    split_song(studio)
    studio.run("remix", fields("acapella"))
    studio.run("remix", fields("vocals up"))
    assert faders(studio) == NEUTRAL | {"Vocals": (1.4125, False)}
    assert studio.run("remix", fields("reset")) == ["All stems are at 0 dB again."]
    assert faders(studio) == NEUTRAL


def test_a_remix_that_nobody_hears_is_said_to_be_silent(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    split_song(studio)
    studio.run("toggle")
    told = studio.run("remix", fields("karaoke"))
    assert told[1:] == [
        "song: the stems are silent now, the original plays. 'Switch between original and stems' switches to "
        "the stems."
    ]
    studio.run("toggle")
    assert len(studio.run("remix", fields("karaoke"))) == 1


def test_only_the_stems_of_the_selection_are_remixed(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    split_song(studio, "one")
    split_song(studio, "two", seed=2)
    studio.reaper.select(studio.find_track("two").items[0])
    studio.run("remix", fields("karaoke"))
    assert faders(studio) == NEUTRAL
    assert faders(studio, 7, 12) == NEUTRAL | {"Vocals": (1.0, True)}
    studio.reaper.select(studio.reaper.current.tracks[2].items[0])
    studio.run("remix", fields("drumless"))
    assert faders(studio) == NEUTRAL | {"Drums": (1.0, True)}
    studio.reaper.select()
    studio.run("remix", fields("bass-lift"))
    both = NEUTRAL | {"Bass": (1.5849, False)}
    assert (faders(studio), faders(studio, 7, 12)) == (both, both)


def test_a_name_that_is_none_is_asked_again_and_the_last_one_stands_there_next_time(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    split_song(studio)
    studio.run("remix", fields("kareoke"), fields("karaoke"))
    assert "acapella, bass-lift, clean-bleed, drum-break, drum-punch, drumless, " in studio.titles[0]
    assert studio.titles[0].endswith("..., reset")
    assert "there is no preset 'kareoke' (did you mean karaoke" in studio.titles[1]
    assert studio.defaults == [[""], ["kareoke"]]
    studio.run("remix", ("GetUserInputs", None))
    assert studio.defaults == [["karaoke"]]


def test_stems_that_lack_what_a_preset_is_for_stay_as_they_are(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song()
    studio.run("vocals_instrumental")
    before = studio.tracks
    told = studio.run("remix", fields("drumless"))
    assert told == [
        "song: preset 'Drumless' is for drums, which these stems do not have (they are vocals, no_vocals)"
    ]
    assert studio.tracks == before


def test_where_there_are_no_stems_it_says_so(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song("one")
    assert studio.run("remix") == ["There are no stems in this project: split something first."]
    studio.run("split")
    studio.add_song("two", seed=2)
    assert studio.run("remix")[0].startswith("The selected items have no stems")
