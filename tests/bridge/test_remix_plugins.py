"""Plugins inside whole remixes: sums stay exact, and what they do not touch is the set's, byte for byte."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path

import numpy as np
import pytest

from plugins.fixture import build_plugin, reason_not_to_build
from remixes import MadeSet, factor, make_set, remix, round_to, sum_all
from splits import assert_exact

ZAM = Path("/usr/lib/vst3")

ON_VOCALS = """
[stems.vocals]
gain_db = 2.0
[[stems.vocals.effects]]
kind = "plugin"
path = "{name}.vst3"
{parameters}
"""

ON_MASTER = """
[stems.vocals]
gain_db = 2.0
[[master.effects]]
kind = "plugin"
path = "{name}.vst3"
{parameters}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeSet:
    """A set that no test may change."""
    return make_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(params=["Fixture", "ZamCompX2"])
def text(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A plugin that is installed for this test, and the parameters with which it is heard."""
    name = request.param
    if name == "Fixture":
        if reason_not_to_build():
            pytest.skip(reason_not_to_build())
        build_plugin(tmp_path / "vst3")
        folder, parameters = tmp_path / "vst3", "parameters = { gain = 0.5 }"
    else:
        if not (ZAM / f"{name}.vst3").exists():
            pytest.skip("zam-plugins are not installed")
        folder, parameters = ZAM, "parameters = { threshold_db = 0.2 }"
    home = tmp_path / "home"
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.toml").write_text(f"plugin_dirs = [{json.dumps(str(folder))}]\n")
    return name, parameters


def test_a_plugin_on_one_stem_touches_that_stem_alone(
    made: MadeSet, text: tuple[str, str], tmp_path: Path
) -> None:
    name, parameters = text
    found = remix(tmp_path, made, ON_VOCALS.format(name=name, parameters=parameters), stems_out=True)
    for entry in made.manifest.stems:
        is_same = filecmp.cmp(made.folder / entry.file, found.folder / entry.file, shallow=False)
        assert is_same == (entry.name != "vocals")
    assert np.array_equal(found.samples, made.original - made.stems["vocals"] + found.stems["vocals"])
    assert_exact(found.stems, found.samples, float32=found.manifest.claims.exact_f32_any_order)
    assert not found.manifest.deterministic
    heard = np.square(found.stems["vocals"]).sum() / np.square(factor(2.0) * made.stems["vocals"]).sum()
    assert heard == pytest.approx(0.25, rel=1e-4) if name == "Fixture" else 0.001 < heard != 1.0
    plain = remix(tmp_path, made, "[stems.vocals]\ngain_db = 2.0\n", job_id="plain")
    assert plain.manifest.deterministic


def test_a_plugin_on_the_whole_adds_one_stem_and_touches_none(
    made: MadeSet, text: tuple[str, str], tmp_path: Path
) -> None:
    name, parameters = text
    found = remix(tmp_path, made, ON_MASTER.format(name=name, parameters=parameters), stems_out=True)
    assert list(found.stems) == ["drums", "bass", "other", "vocals", "master_delta", "residual"]
    for stem in ("drums", "bass", "other"):
        file = f"song - {stem}.wav"
        assert filecmp.cmp(made.folder / file, found.folder / file, shallow=False)
    vocals = round_to(factor(2.0) * made.stems["vocals"], made.manifest.grid.stem_bits)
    assert np.array_equal(found.stems["vocals"], vocals)
    assert np.abs(found.stems["master_delta"]).max() > 0.01
    assert np.array_equal(found.samples, sum_all(found.stems))
    assert_exact(found.stems, found.samples, float32=found.manifest.claims.exact_f32_any_order)
    assert not found.manifest.deterministic
