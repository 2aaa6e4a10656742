"""What is shipped: every preset can be used, does what its name says, and stands on its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stembridge.catalog import SIX_SOURCES
from stembridge.presets import Preset, find_presets, read_preset, shipped_folder
from stembridge.settings import load_settings

STEMS = (*SIX_SOURCES, "residual")
BY_EFFECT = ("vocal-air", "drum-punch", "lo-fi", "wide-other", "clean-bleed", "karaoke-backing-vocals")
"""What is heard of these is measured: `benchmarks/preset_table.py`."""
PAGE = (Path(__file__).parents[2] / "presets" / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Preset]:
    settings = load_settings(home=tmp_path_factory.mktemp("home"), environ={})
    return {name: read_preset(path) for name, path in find_presets(settings).items()}


def list_names() -> list[str]:
    """Return the names on the page, those with STEM and numbers in them spelled out."""
    names = []
    for line in PAGE.splitlines():
        if not line.startswith("| `"):
            continue
        cell = line.split("|")[1]
        first, *endings = re.findall("`([^`]+)`", cell)
        ways = [first, *(re.sub(r"-\d+$", ending, first) for ending in endings)]
        names += [
            way.replace("STEM", stem) for way in ways for stem in (SIX_SOURCES if "STEM" in way else [""])
        ]
    return names


def test_the_page_names_what_is_shipped(presets: dict[str, Preset]) -> None:
    assert sorted(list_names()) == list(presets)
    assert len(presets) == 39


def test_who_is_heard_is_what_the_name_says(presets: dict[str, Preset]) -> None:
    silent = {
        name: {stem for stem, level in preset.levels(STEMS).items() if level.is_muted}
        for name, preset in presets.items()
    }
    expected: dict[str, set[str]] = {name: set() for name in presets} | {
        "acapella": set(STEMS) - {"vocals"},
        "drum-break": set(STEMS) - {"drums"},
        "drumless": {"drums"},
        "karaoke": {"vocals"},
        "instrumental": {"vocals"},
        **{f"practice-minus-{stem}": {stem} for stem in SIX_SOURCES},
    }
    assert silent == expected


def test_how_loud_is_what_the_name_says(presets: dict[str, Preset]) -> None:
    changed = {
        (name, stem): round(level.gain, 2)
        for name, preset in presets.items()
        if name not in BY_EFFECT
        for stem, level in preset.levels(STEMS).items()
        if level.gain != 1
    }
    assert changed == {
        ("vocals-up", "vocals"): 1.41,
        ("vocals-down", "vocals"): 0.71,
        ("bass-lift", "bass"): 1.58,
        ("guide-vocal", "vocals"): 0.15,
        **{
            (f"practice-{stem}-at-{percent}", stem): percent / 100
            for stem in SIX_SOURCES
            for percent in (25, 50, 75)
        },
    }


def test_what_is_not_only_levels_is_known(presets: dict[str, Preset]) -> None:
    more = {name for name, preset in presets.items() if not preset.is_level_only}
    assert more == {*BY_EFFECT, "instrumental"}


def test_a_ceiling_stands_only_where_everything_is_touched_anyway(presets: dict[str, Preset]) -> None:
    """It would touch what was as loud in the original; what grows over full scale becomes a float file."""
    for name, preset in presets.items():
        assert (preset.master.ceiling_dbtp is not None) == bool(preset.master.match), name


def test_each_keeps_the_length_and_says_what_it_is_for(presets: dict[str, Preset]) -> None:
    for name, preset in presets.items():
        assert not preset.is_extended, name
        assert preset.name.replace(":", "").replace(" %", "").replace(" ", "-").lower().startswith(name[:6])
        assert 15 < len(preset.use) < 100, name
        assert preset.use[0].islower() and not preset.use.endswith("."), name


def test_the_wheel_and_the_source_tree_ship_the_same(presets: dict[str, Preset]) -> None:
    assert {path.stem for path in shipped_folder().glob("*.toml")} == set(presets)
    assert shipped_folder() == Path(__file__).parents[2] / "presets"


def test_every_example_on_the_page_can_be_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    path = tmp_path / "page.toml"
    path.write_text("\n".join(blocks), "utf-8")
    changes = [change for change in re.findall(r"`--set ([^`]+)`", PAGE) if "compressor" not in change]
    changes = [
        change.replace("vocals.effects", "master.effects").replace(".mix=0.2", ".poles=2")
        for change in changes
    ]
    assert len(changes) == 5
    preset = read_preset(path, ["vocals.mute=false", *changes])
    assert preset.is_extended and preset.sends[0].gain_db == -6.0 and preset.stems["vocals"].gain_db == -3.0
