"""Stems from elsewhere come onto an item as if they had been split here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from fakes import FakeSeparator
from reaper_fake import Item
from reaper_fake.actions import toggle_reverse
from splits import make_request, split_to_end
from stem_items import paste_item
from stembridge.reaper.preferences import Preferences, locate_preferences, write_preferences
from stembridge.wavfile import write_wav
from studio import NO, RATE, YES, Studio

FRAMES = 24 * RATE


def make_parts() -> dict[str, NDArray[np.float64]]:
    draw = np.random.default_rng(5)
    return {
        name: draw.integers(-(2**20), 2**20, (2, FRAMES)) / 2.0**23 for name in ("bass", "drums", "vocals")
    }


def write_parts(folder: Path, parts: dict[str, NDArray[np.float64]]) -> Path:
    """Return one of the files that a separator elsewhere has left in a folder of its own."""
    folder.mkdir()
    for name, samples in parts.items():
        write_wav(folder / f"song_({name.capitalize()}).wav", samples, RATE, "PCM_24")
    (folder / "readme.txt").write_text("made elsewhere")
    return folder / "song_(Bass).wav"


def add_song(studio: Studio, mixture: NDArray[np.float64], suffix: str = ".wav", **values: float) -> Item:
    path = studio.folder / f"song{suffix}"
    if suffix == ".wav":
        write_wav(path, mixture, RATE, "PCM_24")
    else:
        soundfile.write(path, mixture.T, RATE)
    item = studio.reaper.add_item(studio.reaper.add_track("Mix"), path, name="song", **values)
    studio.reaper.select(item)
    return item


def choose(path: Path) -> tuple[str, str]:
    return ("GetUserFileNameForRead", str(path))


def test_stems_of_a_folder_are_placed_and_sum_to_the_song(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    add_song(studio, sum(parts.values(), np.zeros((2, FRAMES))))
    before, state = studio.listen(), studio.tracks
    told = studio.run("import_stems", choose(write_parts(tmp_path / "from elsewhere", parts)))
    assert studio.track_names[:4] == ["Mix", "Drums", "Bass", "Vocals"]
    assert np.array_equal(studio.listen(), before)
    assert np.array_equal(studio.read_file(studio.find_track("Bass").items[0]), parts["bass"])
    assert told[0].startswith("song: bass, drums, vocals imported;")
    assert not any(is_error for _, is_error in studio.told)
    assert [label for label, _ in studio.reaper.current.undo] == ["Stembridge: import stems of song"]
    folder = Path(studio.reaper.current.folder) / "Stems"
    assert len(list(folder.iterdir())) == 1
    studio.reaper.undo_once()
    assert studio.tracks == state


def test_stems_that_come_late_and_turned_round_are_put_where_they_belong(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    add_song(
        studio,
        sum(parts.values(), np.zeros((2, FRAMES))),
        D_POSITION=2.0,
        D_LENGTH=1.5,
        take_D_STARTOFFS=2.25,
    )
    before = studio.listen()
    late = parts | {"vocals": -np.pad(parts["vocals"], ((0, 0), (37, 0)))}
    told = studio.run("import_stems", choose(write_parts(tmp_path / "late", late)))
    assert np.array_equal(studio.listen(), before)
    assert np.array_equal(studio.read_file(studio.find_track("Vocals").items[0]), parts["vocals"])
    assert any("vocals: 37 frames cut off at its start" in text for text in told)


def test_an_item_of_a_lossy_file_gets_stems_too(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    mixture = sum(parts.values(), np.zeros((2, FRAMES)))
    add_song(studio, mixture, ".ogg", D_LENGTH=2.0, take_D_STARTOFFS=1.0)
    before = studio.listen()
    studio.run("import_stems", choose(write_parts(tmp_path / "parts", parts)))
    assert "Residual" in studio.track_names[4]
    assert np.abs(studio.listen() - before).max() < 1e-6


@pytest.fixture
def foreign(tmp_path: Path) -> Studio:
    """A song, and beside it a folder in which one stem is of another song."""
    studio = Studio(tmp_path)
    parts = make_parts()
    add_song(studio, sum(parts.values(), np.zeros((2, FRAMES))))
    stranger = np.random.default_rng(9).integers(-(2**20), 2**20, (2, FRAMES)) / 2.0**23
    write_parts(tmp_path / "parts", parts | {"vocals": stranger})
    return studio


def test_a_stem_that_cannot_be_placed_is_told_with_its_reason(foreign: Studio, tmp_path: Path) -> None:
    told = foreign.run("import_stems", choose(tmp_path / "parts" / "song_(Bass).wav"), NO)
    [question] = [text for kind, text in foreign.reaper.asked if kind == "MB"]
    assert "vocals" in question
    assert "cannot be placed" in question
    assert "--" not in question
    assert foreign.track_names == ["Mix"]
    assert told == ["song: its stems were not imported."]


def test_it_can_be_taken_as_it_lies(foreign: Studio, tmp_path: Path) -> None:
    before = foreign.listen()
    foreign.run("import_stems", choose(tmp_path / "parts" / "song_(Bass).wav"), YES)
    assert np.abs(foreign.listen() - before).max() < 1e-12
    assert "Vocals" in foreign.track_names


def test_a_set_of_ours_is_imported_without_its_residual(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    mixture = sum(parts.values(), np.zeros((2, FRAMES)))
    add_song(studio, mixture)
    folder = tmp_path / "set"
    folder.mkdir()
    for name, samples in (parts | {"residual": mixture}).items():
        write_wav(folder / f"song - {name}.wav", samples, RATE, "PCM_24")
    before = studio.listen()
    told = studio.run("import_stems", choose(folder / "song - bass.wav"))
    assert told[0].startswith("song: bass, drums, vocals imported")
    assert np.array_equal(studio.listen(), before)


@pytest.mark.parametrize("template", ["{stem}", "{stem} of {name}", "{job8}_{name}_{stem}"])
def test_a_set_of_ours_is_known_however_its_files_are_called(tmp_path: Path, template: str) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    add_song(studio, sum(parts.values(), np.zeros((2, FRAMES))))
    separator = FakeSeparator(sources=tuple(parts), sample_rate=RATE)
    request = make_request(studio.folder / "song.wav", tmp_path / "out", file_names=template)
    result, _ = split_to_end(request, separator)
    before = studio.listen()
    told = studio.run("import_stems", choose(next(Path(result.folder).glob("*bass*"))), YES)
    assert told[0].startswith("song: bass, drums, vocals imported"), told
    assert np.abs(studio.listen() - before).max() < 1e-12


def test_the_song_itself_beside_its_stems_is_no_stem(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    add_song(studio, sum(parts.values(), np.zeros((2, FRAMES))))
    for name, samples in parts.items():
        write_wav(tmp_path / f"song {name}.wav", samples, RATE, "PCM_24")
    told = studio.run("import_stems", choose(tmp_path / "song bass.wav"))
    assert told[0].startswith("song: bass, drums, vocals imported")


def test_exactly_one_item_is_wanted(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    assert studio.run("import_stems")[0].startswith("No items are selected")
    one, two = studio.add_song("one"), studio.add_song("two", seed=2)
    studio.reaper.select(one, two)
    assert studio.run("import_stems")[0].startswith("2 items are selected")


def test_an_item_with_effects_on_its_take_is_refused(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    item = add_song(studio, sum(parts.values(), np.zeros((2, FRAMES))))
    item.takes[0].fx.append(("gain", 0.5))
    told = studio.run("import_stems")
    assert "it has take effects: glue it" in told[0]
    assert not studio.titles and not studio.house.kinds, "before anything is asked or made"
    assert studio.track_names == ["Mix"]


def test_a_copy_of_an_original_gets_imported_stems_that_are_heard(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    parts = make_parts()
    item = add_song(studio, sum(parts.values(), np.zeros((2, FRAMES))))
    studio.run("split")
    studio.reaper.select(paste_item(studio, item, 30.0))
    studio.run("import_stems", choose(write_parts(tmp_path / "parts", parts)))
    heard = studio.listen()
    assert np.array_equal(heard[:, 30 * RATE :], heard[:, :FRAMES]) and heard[:, 30 * RATE :].any()
    studio.reaper.select(item)
    (said,) = studio.run("import_stems")
    assert "its stems are there" in said


def test_a_reversed_item_gets_no_imported_takes(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    settings = studio.house.settings
    write_preferences(locate_preferences(settings), Preferences(output="takes"))
    item = studio.add_song()
    toggle_reverse(item, item.takes[0])
    (said,) = studio.run("import_stems")
    assert "cannot become takes" in said


def test_nothing_happens_where_no_file_is_chosen_or_none_is_there(tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    studio.add_song()
    assert not studio.run("import_stems", ("GetUserFileNameForRead", None))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no stems to conform" in studio.run("import_stems", choose(empty / "x.wav"))[0]
    assert "gone" in studio.run("import_stems", choose(tmp_path / "gone" / "x.wav"))[0]
    assert studio.track_names == ["song"]
