"""`from stembridge import remix`: sets, folders and files in, the remix and its stems as arrays out."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon_harness import DaemonHarness
from fakes import FakeSeparator
from signals import make_music, read_wav, to_ints, write_pcm
from splits import split_to_end
from stembridge import Remix, Stems, remix, split
from stembridge.errors import PresetError, RequestError, SourceError
from stembridge.manifest import read_manifest
from stembridge.presets import read_preset
from stembridge.settings import load_settings
from stembridge.types import SplitRequest

RATE = 44_100


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return write_pcm(tmp_path / "song.wav", to_ints(make_music(30_000, 2, RATE, seed=1), 24), RATE, 24)


@pytest.fixture
def stems(home: Path, song: Path, tmp_path: Path) -> Stems:
    request = SplitRequest(str(song), str(tmp_path / "sets"), "preview")
    return Stems(Path(split_to_end(request, FakeSeparator())[0].folder))


def test_a_remix_is_the_original_but_for_what_was_changed(stems: Stems, song: Path) -> None:
    made = remix(stems, preset="karaoke")
    assert isinstance(made, Remix) and made.names == () and len(made) == 0
    assert np.array_equal(made.mix, read_wav(song)[0] - stems.vocals)
    assert made.null.holds and made.sample_rate == RATE
    assert "karaoke" in repr(made)
    with pytest.raises(
        AttributeError, match=r"no stem 'vocals' beside this remix: remix\(..., stems_out=True"
    ):
        _ = made.vocals
    with pytest.raises(KeyError, match="stems_out=True"):
        _ = made["vocals"]


def test_stems_stand_beside_the_remix_and_sum_to_it(stems: Stems) -> None:
    changes = {"vocals.gain_db": -6, "tail": "trim", "bass.mute": True}
    made = remix(stems.folder, preset="vocals-up", changes=changes, stems_out=True)
    assert set(made.names) == {"drums", "other", "vocals", "residual"}
    assert np.array_equal(sum(made[name] for name in made), made.mix)
    assert np.array_equal(made.drums, stems.drums)
    assert np.abs(made.vocals - stems.vocals * 10 ** (-6 / 20)).max() <= 2**-23
    assert made.null.holds and len(made) == 4
    with pytest.raises(AttributeError, match="no stem 'bass' beside this remix; there are drums, other, "):
        _ = made.bass


def test_without_an_out_folder_the_files_go_with_the_object(stems: Stems) -> None:
    made = remix(stems, preset="karaoke")
    twin = copy.deepcopy(made)
    folder = made.folder
    del made
    assert twin.mix.shape == (2, 30_000)
    del twin
    assert not folder.parent.exists() and stems.null.holds


def test_with_an_out_folder_they_stay(stems: Stems, tmp_path: Path) -> None:
    made = remix(stems, preset="karaoke", out=tmp_path / "out", match="rms", format="wav24")
    folder = made.folder
    del made
    assert folder.parent == tmp_path / "out"
    entry = read_manifest(folder).remix
    assert entry is not None
    (tmp_path / "again.toml").write_text(entry.text)
    assert read_preset(tmp_path / "again.toml").master.match == "rms"


def test_files_are_called_as_asked_or_else_as_the_settings_say(stems: Stems) -> None:
    asked = {"file_names": "{job8} {stem}", "sessions": ["rpp"]}
    made = remix(stems, preset="karaoke", stems_out=True, **asked)  # type: ignore[arg-type]
    job8 = made.folder.name[-8:]
    assert {path.name for path in made.folder.iterdir()} == {
        *(f"{job8} {name}.wav" for name in (*made.names, "karaoke")), "song - karaoke.rpp", "stems.json",
    }  # fmt: skip
    assert np.array_equal(made.drums, stems.drums)
    usual = remix(stems, preset="karaoke", settings=load_settings(file_names="{stem} of {name}"))
    assert {path.name for path in usual.folder.iterdir()} == {"karaoke of song.wav", "stems.json"}


@pytest.mark.parametrize("wrong", [{"file_names": "{name}"}, {"sessions": ["als"]}])
def test_names_and_sessions_that_cannot_be_are_refused_before_anything_is_split(
    home: Path, song: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(RequestError):
        remix(song, preset="karaoke", model="preview", **wrong)
    assert not (home / "run").exists()


def test_a_file_is_split_once_for_all_its_remixes(daemon: DaemonHarness, song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    karaoke = remix(song, preset="karaoke", out=out, model="preview", progress=False)
    daemon.adopt()
    acapella = remix(song, preset="acapella", out=out, model="preview", progress=False)
    with daemon.client() as client:
        assert len(client.jobs()) == 1
    assert np.array_equal(karaoke.mix + acapella.mix, read_wav(song)[0])
    # Nothing is found where nothing was kept.
    alone = remix(song, preset="karaoke", model="preview", progress=False)
    with daemon.client() as client:
        assert len(client.jobs()) == 2
    assert np.array_equal(alone.mix, karaoke.mix)


def test_what_split_returns_can_be_remixed(daemon: DaemonHarness, song: Path) -> None:
    stems = split(song, model="preview", two_stems="vocals", progress=False)
    daemon.adopt()
    made = remix(stems, preset="karaoke", progress=False)
    assert np.array_equal(made.mix, stems.no_vocals)


def test_a_preset_of_ones_own_is_a_path(
    stems: Stems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[preset]\nname = "Low"\nuse = "a test"\n[stems.bass]\nmute = true\n'
    (tmp_path / "low.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    expected = sum(stems[name] for name in stems if name != "bass")
    for preset in ("low.toml", Path("low.toml"), tmp_path / "low.toml"):
        assert np.array_equal(remix(stems, preset=preset).mix, expected)


def test_what_cannot_be_is_said_and_leaves_nothing(
    home: Path, stems: Stems, song: Path, tmp_path: Path
) -> None:
    with pytest.raises(PresetError, match="karaoke"):
        remix(stems, preset="karaok")
    for changes, words in (
        ({"vocals.loud": 3}, r"^changes\['vocals\.loud'\]: "),
        ({"bass.gain_db": 1, "vocals.gain_db": "loud"}, r"^changes\['vocals\.gain_db'\]: .*loud"),
        ({"vocals.gain_db": ""}, r"^changes\['vocals\.gain_db'\] is no change"),
        ({"sends.hall.gain_db": 1}, r"^changes\['sends\.hall\.gain_db'\]: there is no send"),
    ):
        with pytest.raises(PresetError, match=words):
            remix(stems, preset="karaoke", changes=changes)
    with pytest.raises(PresetError, match=r"^match: .*loud"):
        remix(stems, preset="karaoke", match="loud")
    # Told before a split, and so without a daemon.
    with pytest.raises(PresetError, match="piano"):
        remix(song, preset="practice-minus-piano", model="preview")
    with pytest.raises(SourceError, match="nowhere"):
        remix(tmp_path / "nowhere.wav", preset="karaoke", model="preview")
    with pytest.raises(SourceError, match=r"stems\.json"):
        remix(tmp_path, preset="karaoke", out=tmp_path / "out")
    assert not (home / "run").exists() and not (tmp_path / "out").exists()


def test_a_notebook_gets_a_player_of_the_remix_and_of_its_stems(stems: Stems) -> None:
    page = remix(stems, preset="karaoke", stems_out=True)._repr_html_()
    assert page.count("<audio controls") == page.count("<svg") == 5
    assert "<b>karaoke</b>: sums to the remix" in page and "vocals" not in page
    assert remix(stems, preset="karaoke")._repr_html_().count("<audio controls") == 1
