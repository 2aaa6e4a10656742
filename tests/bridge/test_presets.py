"""Presets: what is shipped can be used, and what is wrong in one is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from stembridge.errors import PresetError
from stembridge.presets import Level, find_presets, own_folder, read_preset
from stembridge.settings import Settings, load_settings

ALL = ("drums", "bass", "other", "vocals", "residual")
SHIPPED = ["acapella", "bass-lift", "drumless", "karaoke", "practice-minus-bass", "vocals-up"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, environ={})


def write(folder: Path, text: str, name: str = "mine") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, "utf-8")
    return path


def test_what_is_shipped_does_what_its_name_says(settings: Settings) -> None:
    presets = {name: read_preset(path).levels(ALL) for name, path in find_presets(settings).items()}
    assert list(presets) == SHIPPED
    heard = {name: {stem for stem in ALL if not found[stem].is_muted} for name, found in presets.items()}
    assert heard == {
        "acapella": {"vocals"},
        "bass-lift": set(ALL),
        "drumless": set(ALL) - {"drums"},
        "karaoke": set(ALL) - {"vocals"},
        "practice-minus-bass": set(ALL) - {"bass"},
        "vocals-up": set(ALL),
    }
    louder = {
        (name, stem): round(found[stem].gain, 4)
        for name, found in presets.items()
        for stem in ALL
        if found[stem].gain != 1
    }
    assert louder == {("vocals-up", "vocals"): 1.4125, ("bass-lift", "bass"): 1.5849}


def test_the_page_names_what_is_shipped() -> None:
    text = (Path(__file__).parents[2] / "presets" / "README.md").read_text("utf-8")
    assert [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")] == [
        "vocals-up", "karaoke", "acapella", "drumless", "bass-lift", "practice-minus-bass",
    ]  # fmt: skip


def test_a_users_own_takes_the_place_of_a_shipped_one(settings: Settings) -> None:
    text = '[preset]\nname = "Mine"\nuse = "x"\n[stems.vocals]\ngain_db = -6\n'
    write(own_folder(settings), text, "karaoke")
    write(own_folder(settings), text, "zzz")
    found = find_presets(settings)
    assert list(found) == [*SHIPPED, "zzz"]
    assert read_preset(found["karaoke"]).levels(["vocals"]) == {"vocals": Level(10 ** (-6 / 20))}


def test_a_stem_that_a_set_does_not_have_is_refused(settings: Settings) -> None:
    preset = read_preset(find_presets(settings)["acapella"])
    with pytest.raises(PresetError, match=r"'Acapella' is for vocals, .* .they are drums, no_drums"):
        preset.levels(("drums", "no_drums"))


HEAD = '[preset]\nname = "Mine"\nuse = "x"\n'


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (HEAD + "\n[stems.vocals]\ngain_db = 24.5\n", 6, r"stems.vocals.gain_db = 24.5 \(dB, -60 to 24\)"),
        (HEAD + "\n[stems.vocals]\ngain_db = true\n", 6, "stems.vocals.gain_db = True"),
        (HEAD + "\n[stems.vocals]\ngain_db = nan\n", 6, "stems.vocals.gain_db = nan"),
        (HEAD + "[stems.bass]\nmute = true\n[stems.vocals]\nmute = 1\n", 7, "vocals.mute = 1 .true or"),
        (HEAD + "[stems.vocals]\nvolume = 1\n", 5, r"volume is no key \(there are gain_db, mute, solo, wet, effects\)"),
        (HEAD + "[stems.vocals]\n[extra]\na = 1\n", 5, "extra is no table of a preset"),
        ('[preset]\nname = "a"\nuse = "x"\ncolour = 1\n[stems.vocals]\nmute = true', 4, "colour is no key"),
        ('[preset]\nname = ""\nuse = "x"\n[stems.vocals]\nmute = true', 2, "name = '' .one line of"),
        (HEAD + "[stems.vocals]\n", 4, r"nothing in \[stems.vocals\]"),
        (
            HEAD + '[stems.vocals]\nmute = true\n[[stems.vocals.effects]]\nname = "Reverb"\n', 6,
            r'stems.vocals.effects.0.kind = None .as in kind = "reverb"',
        ),
        (HEAD + "[stems.vocals]\nmute = true\n[master]\nx = 1\n", 7, "master.x is no key .there are match"),
        (HEAD + "[stems.vocals]\nmute = true\n[[sends]]\nx = 1\n", 7, "sends.0.x is no key .there are name"),
        (HEAD + "[stems.vocals]\nwet = 0.5\n", 5, "stems.vocals.wet has no effects to mix"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(PresetError, match=reason) as caught:
        read_preset(path)
    assert f"{path}, line {line}:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"nothing in \[preset\]"),
        (HEAD, r"nothing in \[stems\]"),
        ("[preset\n", "line 1"),
        ("a = 1", "a is no"),
    ],
)
def test_what_is_no_preset_at_all_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(PresetError, match=reason):
        read_preset(write(tmp_path, text))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"gone\.toml"):
        read_preset(tmp_path / "gone.toml")
