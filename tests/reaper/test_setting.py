"""The settings dialog: what is set, what is refused, and where it lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from stembridge.reaper.preferences import Preferences, read_preferences
from studio import Studio, fields


def read(studio: Studio) -> Preferences:
    return read_preferences(studio.folder / "home" / "reaper.toml")


def test_what_is_typed_is_set_and_stands_in_the_dialog_the_next_time(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    typed = ("Best", "htdemucs_6s", "vocals, piano", "takes", "2,5", "playing", "keep")
    told = studio.run("settings", fields(*typed))
    assert str(tmp_path / "home" / "reaper.toml") in told[0]
    assert "[looks.vocals]" in told[0]
    assert read(studio) == Preferences(
        quality="best",
        model="htdemucs_6s",
        stems=("vocals", "piano"),
        output="takes",
        handles_s=2.5,
        hold_while="playing",
        effects="keep",
    )
    studio.run("settings", ("GetUserInputs", None))
    assert studio.defaults == [["best", "htdemucs_6s", "vocals, piano", "takes", "2.5", "playing", "keep"]]


def test_one_stem_and_the_rest_is_a_setting(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.run("settings", fields("good", "", "vocals/rest", "tracks", "1", "recording", "bake"))
    studio.run("settings", ("GetUserInputs", None))
    assert studio.defaults[0][2] == "vocals/rest"
    studio.add_song()
    studio.run("split")
    assert studio.track_names == ["song", "Vocals", "Instrumental"]


def test_names_and_colours_in_the_file_stay(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "reaper.toml").write_text(
        '[looks.vocals]\nname = "Lead"\ncolor = "#010203"\n', "utf-8"
    )
    studio.run("settings", fields("draft", "", "", "tracks", "1", "recording", "bake"))
    assert read(studio).looks.of("vocals").name == "Lead"
    assert read(studio).looks.of("vocals").color == (1, 2, 3)


@pytest.mark.parametrize(
    ("place", "wrong", "reason"),
    [
        (0, "bset", "'bset' (one of draft, good, best)"),
        (1, "htdemcs", "did you mean htdemucs"),
        (2, "vocals, kazoo", "has no stem 'kazoo'"),
        (2, "vocals/drums", "as vocals, drums or as vocals/rest"),
        (2, "kazoo/rest", "has no stem 'kazoo'"),
        (3, "files", "one of tracks, takes"),
        (4, "many", "seconds, as 1 or 0.5"),
        (4, "-1", "seconds, 0 to 60"),
        (5, "always", "one of recording, playing, never"),
        (6, "no", "one of bake, keep, skip"),
    ],
)
def test_what_is_wrong_is_asked_again_with_the_reason_and_what_was_typed(
    tmp_path: Path, place: int, wrong: str, reason: str
) -> None:
    studio = Studio(tmp_path)
    typed = ["good", "", "", "tracks", "1", "recording", "bake"]
    typed[place] = wrong
    studio.run("settings", fields(*typed), ("GetUserInputs", None))
    assert reason in studio.titles[1]
    assert studio.defaults[1] == typed
    assert read(studio) == Preferences()
