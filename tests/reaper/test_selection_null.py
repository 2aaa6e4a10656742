"""The null test of what lies in the project: the level, the verdict, and what broke it."""

from __future__ import annotations

import json
import subprocess
import sys
from math import log10
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reaper_fake import Item, section_of
from signals import read_wav
from stem_items import cut_item, delete_item, find_stem, find_stems, paste_item
from stembridge.wavfile import write_wav
from studio import RATE, Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def samples_of(item: Item) -> NDArray[np.float64]:
    source = item.takes[0].source
    assert source is not None
    return read_wav(Path(source.root.path))[0]


def level_of(error: NDArray[np.float64], original: NDArray[np.float64]) -> str:
    return f"{10 * log10(np.sum(error**2) / np.sum(original**2)):.1f} dB"


EXACT = "song: exact null (4 stems + residual)"
OFF = "the stems do not sum to the original"


def test_what_was_placed_nulls_exactly(studio: Studio) -> None:
    studio.add_song(D_POSITION=1.0, take_D_STARTOFFS=0.5, D_LENGTH=2.0, D_VOL=0.5, take_D_VOL=-0.7)
    studio.run("split")
    assert studio.run("null_test") == [EXACT]
    assert studio.told == [(EXACT, False)]
    studio.run("toggle")
    assert studio.run("null_test") == [EXACT]


def test_a_part_of_a_long_source_nulls_exactly(studio: Studio) -> None:
    studio.add_song(seconds=60.0, take_D_STARTOFFS=40.25, D_LENGTH=1.0)
    studio.run("split")
    assert samples_of(find_stem(studio, "vocals")).shape[1] < 10 * RATE
    assert studio.run("null_test") == [EXACT]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_section_nulls_exactly(studio: Studio, is_reversed: bool) -> None:
    song = studio.add_song(seconds=20.0)
    take = song.takes[0]
    assert take.source is not None
    take.source = section_of(take.source, 9.5, 2.0, is_reversed=is_reversed)
    take.values["D_STARTOFFS"] = 0.25
    song.values |= {"D_LENGTH": 1.5, "B_LOOPSRC": 0.0}
    studio.run("split")
    assert studio.run("null_test") == [EXACT]
    find_stem(studio, "vocals").values["D_VOL"] = 0.5
    (told,) = studio.run("null_test")
    assert told.endswith(" dB). Vocals: item volume -6.0 dB. Realign puts it back.")


def test_a_whole_file_in_reverse_nulls_exactly(studio: Studio) -> None:
    song = studio.add_song()
    take = song.takes[0]
    assert take.source is not None
    take.source = section_of(take.source, is_reversed=True)
    studio.run("split")
    assert studio.run("null_test") == [EXACT]


def test_a_fader_is_named_with_what_it_does_to_the_sum(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    vocals, original = samples_of(find_stem(studio, "vocals")), samples_of(song)
    find_stem(studio, "vocals").values["D_VOL"] = 10 ** (-3 / 20)
    level = level_of((1 - 10 ** (-3 / 20)) * vocals, original)
    assert studio.run("null_test") == [
        f"song: {OFF} (difference {level}). Vocals: item volume -3.0 dB. Realign puts it back."
    ]
    assert studio.told[0][1]


@pytest.mark.parametrize(
    ("change", "left", "cause", "remedy"),
    [
        ("take", -1.0, "take polarity flipped", " Realign puts it back."),
        ("mute", 0.0, "muted", ""),
        ("fader", 0.25, "track volume -12.0 dB", " Remix preset `reset` puts its fader back."),
        ("track mute", 0.0, "its track is muted", " Remix preset `reset` unmutes it."),
        ("phase", -1.0, "its track's polarity is flipped", ""),
    ],
)
def test_each_gain_counts(studio: Studio, change: str, left: float, cause: str, remedy: str) -> None:
    song = studio.add_song()
    studio.run("split")
    bass, track = find_stem(studio, "bass"), studio.find_track("Bass")
    if change == "take":
        bass.takes[0].values["D_VOL"] = -1.0
    elif change == "mute":
        bass.values["B_MUTE_ACTUAL"] = 1.0
    elif change == "fader":
        track.values["D_VOL"] = 0.25
    elif change == "track mute":
        track.values["B_MUTE"] = 1.0
    else:
        track.values["B_PHASE"] = 1.0
    level = level_of((1 - left) * samples_of(bass), samples_of(song))
    assert studio.run("null_test") == [f"song: {OFF} (difference {level}). Bass: {cause}.{remedy}"]


def test_a_stem_that_was_moved_trimmed_or_slipped(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    drums = find_stem(studio, "drums")
    original, samples = samples_of(song), samples_of(drums)
    drums.values["D_POSITION"] = 100 / RATE
    late = np.concatenate([np.zeros((2, 100)), samples[:, :-100]], axis=1)
    level = level_of(late - samples, original)
    assert studio.run("null_test") == [
        f"song: {OFF} (difference {level}). Drums: moved, it sounds 0.013 s too late. Realign puts it back."
    ]
    # The left edge, drawn in: what is left plays where it played.
    drums.takes[0].values["D_STARTOFFS"] = 100 / RATE
    drums.values["D_LENGTH"] -= 100 / RATE
    level = level_of(samples[:, :100], original)
    assert studio.run("null_test") == [
        f"song: {OFF} (difference {level}). Drums: trimmed to 3.987 s of 4.000 s. Realign puts it back."
    ]
    drums.values["D_LENGTH"] = 4.0
    assert studio.run("null_test") == [
        f"song: {OFF} (difference {level}). Drums: shows another stretch than its original. "
        "Realign puts it back."
    ]
    drums.values |= {"D_POSITION": 0.0, "D_LENGTH": 4.0}
    early = np.concatenate([samples[:, 100:], np.zeros((2, 100))], axis=1)
    level = level_of(early - samples, original)
    assert studio.run("null_test") == [
        f"song: {OFF} (difference {level}). Drums: its content lies 0.013 s too early. Realign puts it back."
    ]


def test_only_what_realign_puts_back_is_promised(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    drums, vocals = find_stem(studio, "drums"), find_stem(studio, "vocals")
    for stem in (drums, vocals):
        stem.values["D_VOL"] = 0.5
    assert "Realign puts them back." in studio.run("null_test")[0]
    drums.takes[0].fx.append(("gain", 0.5))
    assert "Realign puts vocals back." in studio.run("null_test")[0]
    vocals.values["C_LOCK"] = 1.0
    assert "Realign" not in studio.run("null_test")[0]


def test_a_missing_stem_is_missed(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    other = find_stem(studio, "other")
    delete_item(other)
    level = level_of(samples_of(other), samples_of(song))
    assert studio.run("null_test") == [f"song: {OFF} (difference {level}). Other: missing."]


def test_a_stem_that_was_cut_in_two_still_nulls(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    cut_item(studio, find_stem(studio, "vocals"), 1.0)
    assert studio.run("null_test") == [
        "song: the files sum exactly, but this is not in their sum: vocals: cut into 2 pieces"
    ]


def test_what_no_sum_of_files_shows_is_named(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    drums = find_stem(studio, "drums")
    drums.takes[0].fx.append(("gain", 0.5))
    drums.takes[0].values["D_PAN"] = -0.5
    drums.values["D_FADEOUTLEN"] = 0.5
    studio.find_track("Bass").fx += [("gain", 0.5), ("gain", 0.5)]
    studio.find_track("Bass").values["D_PAN"] = 0.25
    assert studio.run("null_test") == [
        "song: the files sum exactly, but this is not in their sum: drums: its fades differ, "
        "drums: take pan 50% left, drums: 1 take effect, bass: track pan 25% right, "
        "bass: 2 effects on its track"
    ]
    drums.values["D_VOL"] = 2.0
    (told,) = studio.run("null_test")
    assert " dB). Drums: item volume +6.0 dB. Not measured: drums: its fades differ" in told


def test_another_speed_cannot_be_measured(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    find_stem(studio, "bass").takes[0].values["D_PLAYRATE"] = 1.25
    assert studio.run("null_test") == [
        "song: not measured: bass plays at another speed or in another direction; "
        "found: bass: play rate 1.250 instead of 1.000"
    ]


def test_a_file_that_was_changed_is_found_in_the_folder_too(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    source = find_stem(studio, "vocals").takes[0].source
    assert source is not None
    samples, rate = read_wav(Path(source.path))
    Path(source.path).unlink()
    write_wav(Path(source.path), samples * 0.5, rate, "FLOAT")
    told = studio.run("null_test")
    assert "ocals: plays another file" in told[0] or "A file is not what it was" in told[0]
    assert any("vocals" in line for line in told[1:])


def test_a_changed_original_is_off_without_a_cause_in_the_items(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    source = song.takes[0].source
    assert source is not None
    samples, rate = read_wav(Path(source.path))
    Path(source.path).unlink()
    write_wav(Path(source.path), samples * 0.0, rate, "PCM_24")
    told = studio.run("null_test")
    assert told[0] == (
        f"song: {OFF} (difference a peak of -12.0 dBFS). A file is not what it was when it was placed."
    )


def test_copies_of_a_family_are_told_apart(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    for item in list(studio.reaper.current.items):
        pasted = paste_item(studio, item, 10.0)
        if item.takes[0].name == "song - vocals":
            pasted.values["D_VOL"] = 0.5
    studio.reaper.select()
    told = studio.run("null_test")
    assert told[0] == EXACT
    assert told[1].endswith("Vocals: item volume -6.0 dB. Realign puts it back.")
    assert len(told) == 2
    studio.reaper.select(song)
    assert studio.run("null_test") == [EXACT]


def test_without_an_original_there_is_nothing_to_compare(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    delete_item(song)
    studio.reaper.select()
    assert studio.run("null_test") == ["song: its original is gone: there is nothing to compare."]


def test_the_samples_are_summed_in_a_process_aside(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    original = song.takes[0].source
    assert original is not None
    parts = []
    for stem in find_stems(studio):
        source = stem.takes[0].source
        assert source is not None
        parts.append(
            {"path": source.path, "start_s": 0.0, "first_s": 0.0, "last_s": 4.0, "gain": 1.0, "state": ""}
        )
    one = {"path": original.path, "first_s": 0.0, "last_s": 4.0, "folders": [], "state": "", "parts": parts}
    gone = one | {"path": str(studio.folder / "nonesuch.wav")}
    half = one | {"parts": parts[:-2]}
    done = subprocess.run(
        [sys.executable, "-m", "stembridge.reaper.errands", "--home", str(studio.folder / "home")],
        input=json.dumps(["null", {"sums": [one, gone, half]}]).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines[:-1]] == [f"null test {number} of 3" for number in (1, 2, 3)]
    exact, missing, off = lines[-1]["result"]["findings"]
    assert (exact["is_exact"], exact["level_db"], exact["fault"]) == (True, None, "")
    assert "nonesuch.wav" in missing["fault"]
    assert not off["is_exact"]
    assert off["level_db"] < 0
