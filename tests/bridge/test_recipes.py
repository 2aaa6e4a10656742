"""Recipes: each use stands for a split and a preset that go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from stembridge.catalog import find_model
from stembridge.errors import RequestError
from stembridge.presets import find_preset, read_preset
from stembridge.recipes import USES, find_recipe
from stembridge.settings import load_settings


@pytest.mark.parametrize("use", USES)
def test_every_use_has_a_model_with_the_stems_that_its_preset_needs(use: str, tmp_path: Path) -> None:
    recipe = find_recipe(use)
    model = find_model(recipe.quality.model)
    assert recipe.use == use
    assert 0 <= recipe.quality.overlap < 1
    if recipe.two_stems is None:
        assert recipe.preset == "", "which stems it needs is not known"
        return
    assert recipe.two_stems in model.sources
    preset = read_preset(find_preset(recipe.preset, load_settings(home=tmp_path, environ={})))
    preset.check_stems((recipe.two_stems, f"no_{recipe.two_stems}"))
    is_alone = use == "acapella"
    levels = preset.levels((recipe.two_stems, f"no_{recipe.two_stems}"))
    assert [level.is_muted for level in levels.values()] == [not is_alone, is_alone]


def test_uses_are_told_apart() -> None:
    assert USES[:4] == ("karaoke", "acapella", "remix", "preview")
    assert [find_recipe(use).quality.model for use in USES[:4]] == [
        "htdemucs", "htdemucs_ft", "htdemucs_ft", "preview",
    ]  # fmt: skip
    assert [find_recipe(use).quality.shifts for use in USES[:4]] == [0, 2, 2, 0]
    bass, guitar = find_recipe("practice:bass"), find_recipe("practice:guitar")
    assert (bass.quality.model, bass.preset, bass.two_stems) == ("htdemucs", "practice-minus-bass", "bass")
    assert (guitar.quality.model, guitar.preset) == ("htdemucs_6s", "practice-minus-guitar")


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        ("kareoke", r"--use 'kareoke' is none .did you mean karaoke\? one of karaoke, acapella"),
        ("practice:flute", "--use 'practice:flute' is none .*practice:guitar, practice:piano"),
        ("practice:gitar", r"did you mean practice:guitar\?"),
        ("practice", r"--use 'practice' is none .did you mean practice:STEM\?"),
        ("practise", r"--use 'practise' is none .did you mean practice:STEM\?"),
        ("practice:", "--use 'practice:' is none"),
        ("bass", "--use 'bass' is none"),
    ],
)
def test_a_use_that_is_none_is_refused(use: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        find_recipe(use)
