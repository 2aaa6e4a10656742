"""A remix is the original + sum(Y_i - S_i), sample for sample, and what no effect touches is not touched."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pedalboard
import pytest
from numpy.typing import NDArray

from fakes import AdversarialSeparator, IdentitySeparator
from remixes import FRAMES, RATE_HZ, MadeSet, factor, make_set, remix, round_to, sum_all
from splits import assert_exact
from stembridge.types import ResidualPolicy

Signal = NDArray[np.float64]

NEUTRAL = """
[stems.vocals]
gain_db = 0.0
wet = 0.5
[[stems.vocals.effects]]
kind = "gain"
gain_db = 0.0
[master]
[[master.effects]]
kind = "gain"
gain_db = 0.0
"""

SETS: dict[str, dict[str, Any]] = {
    "pcm8": {"kind": "pcm8"},
    "pcm16": {"kind": "pcm16"},
    "pcm24": {"kind": "pcm24"},
    "pcm32": {"kind": "pcm32"},
    "quiet-pcm32": {"kind": "pcm32", "level": 0.001, "separator": IdentitySeparator()},
    "gridfloat": {"kind": "gridfloat"},
    "float": {"kind": "float"},
    "float-exact": {"kind": "float", "exact_float": True},
    "double": {"kind": "double"},
    "double-exact": {"kind": "double", "exact_float": True},
    "ogg": {"kind": "ogg"},
    "wav16": {"kind": "pcm16", "format": "wav16"},
    "wav24": {"kind": "pcm24", "format": "wav24"},
    "wav32f": {"kind": "pcm24", "format": "wav32f"},
    "aiff16": {"kind": "pcm16", "format": "aiff16"},
    "aiff24": {"kind": "pcm24", "format": "aiff24"},
    "flac16": {"kind": "pcm16", "format": "flac16"},
    "flac24": {"kind": "pcm24", "format": "flac24"},
    "fold": {"kind": "pcm24", "residual": ResidualPolicy.EQUAL},
    "fold-float": {"kind": "float", "residual": ResidualPolicy.OTHER},
    "fold-float-exact": {"kind": "float", "residual": ResidualPolicy.EQUAL, "exact_float": True},
    "fold-pcm32": {"kind": "pcm32", "residual": ResidualPolicy.EQUAL},
    "two-stems": {"kind": "pcm16", "two_stems": "vocals"},
    "some-stems": {"kind": "pcm16", "stems": ("vocals",)},
    "mono": {"kind": "pcm16", "channels": 1},
    "surround": {"kind": "pcm24", "channels": 6},
    "near-mono": {"kind": "pcm16", "mono": ("vocals",)},
    "loud": {"kind": "pcm16", "separator": AdversarialSeparator()},
}


FindSet = Callable[[str], MadeSet]


@pytest.fixture(scope="module")
def find_set(tmp_path_factory: pytest.TempPathFactory) -> FindSet:
    """Return the function that gives a set of `SETS`, which no test may change, made once."""

    @cache
    def find(name: str) -> MadeSet:
        return make_set(tmp_path_factory.mktemp(name), **SETS[name])

    return find


@pytest.mark.parametrize("name", SETS)
def test_a_neutral_preset_is_the_mixture_bit_for_bit_and_every_stem_is_the_sets_file(
    find_set: FindSet, tmp_path: Path, name: str
) -> None:
    made = find_set(name)
    alone = remix(tmp_path, made, NEUTRAL, job_id="alone")
    assert np.array_equal(alone.samples, made.original)
    assert [path.name for path in alone.folder.iterdir() if path.suffix != ".json"] == [
        alone.manifest.stems[0].file
    ]
    beside = remix(tmp_path, made, NEUTRAL, job_id="beside", stems_out=True)
    assert np.array_equal(beside.samples, made.original)
    assert list(beside.stems) == list(made.stems)
    for entry in made.manifest.stems:
        assert filecmp.cmp(made.folder / entry.file, beside.folder / entry.file, shallow=False)
    assert beside.manifest.source.sha256_pcm == made.manifest.source.sha256_pcm
    assert beside.manifest.claims == made.manifest.claims
    assert beside.manifest.remix is not None
    assert beside.manifest.remix.untouched == tuple(made.stems)


CHANGED = """
[stems.vocals]
gain_db = -4.5
[[stems.vocals.effects]]
kind = "low_cut"
cutoff_hz = 300.0
"""


def expect_changed(made: MadeSet) -> Signal:
    """Return the vocals of `CHANGED` as pedalboard alone makes them."""
    board = pedalboard.Pedalboard([pedalboard.HighpassFilter(300.0)])
    vocals = made.stems["vocals"].astype(np.float32)
    wet = np.empty_like(vocals)
    for group in made.manifest.source.groups:
        rows = list(group)
        wet[rows] = board(np.ascontiguousarray(vocals[rows]), RATE_HZ, buffer_size=8192, reset=True)
    bits = made.manifest.grid.stem_bits
    return round_to(factor(-4.5) * wet.astype(np.float64), bits)


@pytest.mark.parametrize("name", SETS)
def test_a_remix_is_the_original_and_what_became_of_the_stem_that_was_changed(
    find_set: FindSet, tmp_path: Path, name: str
) -> None:
    made = find_set(name)
    vocals = expect_changed(made)
    # What a fold of floats leaves over belongs to its last stem: once that is changed, the rest is exact.
    is_closing = name == "fold-float"
    base = sum_all(made.stems) if is_closing else made.original
    expected = base + (vocals - made.stems["vocals"])
    alone = remix(tmp_path, made, CHANGED, job_id="alone")
    beside = remix(tmp_path, made, CHANGED, job_id="beside", stems_out=True)
    assert np.array_equal(beside.stems["vocals"], vocals)
    assert np.array_equal(alone.samples, expected)
    assert np.array_equal(beside.samples, expected)
    for entry in made.manifest.stems:
        if entry.name != "vocals":
            assert filecmp.cmp(made.folder / entry.file, beside.folder / entry.file, shallow=False)
    assert beside.manifest.remix is not None
    assert beside.manifest.remix.untouched == tuple(stem for stem in made.stems if stem != "vocals")
    if beside.manifest.claims.exact_f64:
        assert_exact(beside.stems, beside.samples, float32=beside.manifest.claims.exact_f32_any_order)


@pytest.mark.parametrize(
    "name",
    ["pcm16", "pcm32", "float", "float-exact", "wav16", "fold", "fold-float", "fold-float-exact", "ogg"],
)
def test_gains_mutes_and_solos_are_what_numpy_makes_of_the_files(
    find_set: FindSet, tmp_path: Path, name: str
) -> None:
    made = find_set(name)
    bits = made.manifest.grid.stem_bits
    text = """
    [stems.drums]
    mute = true
    [stems.bass]
    gain_db = 3.0
    [stems.other]
    gain_db = -60.0
    """
    found = remix(tmp_path, made, text, job_id="levels", stems_out=True)
    bass, other = (
        round_to(factor(3.0) * made.stems["bass"], bits),
        round_to(factor(-60.0) * made.stems["other"], bits),
    )
    assert "drums" not in found.stems
    assert np.array_equal(found.stems["bass"], bass)
    assert np.array_equal(found.stems["other"], other)
    change = (bass - made.stems["bass"]) + (other - made.stems["other"]) - made.stems["drums"]
    assert np.array_equal(found.samples, made.original + change)
    solo = "[stems.bass]\nsolo = true\ngain_db = 3.0\n[stems.other]\nsolo = true"
    found = remix(tmp_path, made, solo, job_id="solo", stems_out=True)
    assert list(found.stems) == ["bass", "other"]
    assert np.array_equal(found.samples, bass + made.stems["other"])
    assert found.manifest.claims.exact_f64
    assert_exact(found.stems, found.samples, float32=found.manifest.claims.exact_f32_any_order)


def test_the_residual_can_be_turned_down_like_any_stem(find_set: FindSet, tmp_path: Path) -> None:
    for name in ("pcm32", "float"):
        made = find_set(name)
        found = remix(tmp_path, made, "[stems.residual]\ngain_db = -6.0", job_id=name, stems_out=True)
        residual = round_to(factor(-6.0) * made.stems["residual"], 23)
        assert np.array_equal(found.stems["residual"], residual)
        others = {stem: samples for stem, samples in made.stems.items() if stem != "residual"}
        assert np.array_equal(found.samples, sum_all(others) + residual)
        assert found.manifest.claims.exact_f64
        assert found.manifest.grid.residual_bits == 23


def test_the_same_request_gives_the_same_bytes(find_set: FindSet, tmp_path: Path) -> None:
    made = find_set("pcm16")
    first, second = (remix(tmp_path / name, made, FULL, stems_out=True) for name in "ab")
    names = sorted(path.name for path in first.folder.iterdir())
    assert names == sorted(path.name for path in second.folder.iterdir())
    for name in names:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


FULL = """
[stems.vocals]
gain_db = 2.0
[[stems.vocals.effects]]
kind = "compressor"
threshold_db = -30.0
[[stems.vocals.effects]]
kind = "reverb"
[stems.drums]
wet = 0.6
[[stems.drums.effects]]
kind = "high_shelf"
gain_db = 4.0
[[sends]]
name = "echo"
gain_db = -2.0
levels_db = { vocals = -6.0, bass = 1.0 }
[[sends.effects]]
kind = "delay"
delay_ms = 50.0
mix = 1.0
[master]
match = "rms"
ceiling_dbtp = -9.0
[[master.effects]]
kind = "compressor"
threshold_db = -20.0
"""

SEND = """
[stems.vocals]
gain_db = -3.0
[stems.drums]
mute = true
[[sends]]
name = "echo"
gain_db = -2.0
levels_db = { vocals = -6.0, bass = 1.0, drums = 6.0 }
[[sends.effects]]
kind = "low_cut"
cutoff_hz = 500.0
"""


def test_a_return_is_a_stem_of_its_own_fed_by_what_is_heard(find_set: FindSet, tmp_path: Path) -> None:
    made = find_set("pcm16")
    found = remix(tmp_path, made, SEND, stems_out=True)
    vocals = round_to(factor(-3.0) * made.stems["vocals"], 23)
    sent = factor(-6.0) * vocals + factor(1.0) * made.stems["bass"]
    board = pedalboard.Pedalboard([pedalboard.HighpassFilter(500.0)])
    wet = board(sent.astype(np.float32), RATE_HZ, buffer_size=8192, reset=True).astype(np.float64)
    echo = round_to(factor(-2.0) * wet, 23)
    assert list(found.stems) == ["bass", "other", "vocals", "echo", "residual"]
    # The oracle's sum of two sends is rounded to float32 in another way by at most one unit.
    assert np.abs(found.stems["echo"] - echo).max() <= 2.0**-22
    assert np.array_equal(found.stems["vocals"], vocals)
    rest = made.original - made.stems["drums"] - made.stems["vocals"] + vocals
    assert np.array_equal(found.samples, rest + found.stems["echo"])
    silent = remix(tmp_path, made, SEND + "\n[stems.other]\nsolo = true", job_id="silent", stems_out=True)
    assert list(silent.stems) == ["other"], "nothing is sent by stems that are muted"


def test_a_linear_master_runs_on_every_stem_and_so_on_the_sum(find_set: FindSet, tmp_path: Path) -> None:
    made = find_set("pcm16")
    text = "[stems.vocals]\ngain_db = -3.0\n[master]\n[[master.effects]]\nkind = 'low_cut'\ncutoff_hz = 90.0"
    found = remix(tmp_path, made, text, stems_out=True)
    board = pedalboard.Pedalboard([pedalboard.HighpassFilter(90.0)])
    before = {**made.stems, "vocals": round_to(factor(-3.0) * made.stems["vocals"], 23)}
    assert list(found.stems) == list(before)
    for name, stem in before.items():
        wet = board(stem.astype(np.float32), RATE_HZ, buffer_size=8192, reset=True)
        assert np.array_equal(found.stems[name], round_to(wet.astype(np.float64), 23))
    whole = board(sum_all(before).astype(np.float32), RATE_HZ, buffer_size=8192, reset=True)
    assert np.abs(found.samples - whole).max() < 1e-6
    assert np.array_equal(found.samples, sum_all(found.stems))


@pytest.mark.parametrize("name", ["pcm16", "pcm32", "float"])
def test_what_a_non_linear_master_adds_is_a_stem(find_set: FindSet, tmp_path: Path, name: str) -> None:
    made = find_set(name)
    text = "[stems.vocals]\ngain_db = 6.0\n[master]\n[[master.effects]]\nkind = 'clip'\nthreshold_db = -9.0"
    found = remix(tmp_path, made, text, stems_out=True)
    stems = {**made.stems, "vocals": round_to(factor(6.0) * made.stems["vocals"], 23)}
    stems["residual"] = round_to(stems["residual"], 23)
    dry = sum_all(stems)
    board = pedalboard.Pedalboard([pedalboard.Clipping(-9.0)])
    wet = board(dry.astype(np.float32), RATE_HZ, buffer_size=8192, reset=True).astype(np.float64)
    assert list(found.stems) == ["drums", "bass", "other", "vocals", "master_delta", "residual"]
    assert np.array_equal(found.stems["master_delta"], round_to(wet, 23) - dry)
    assert np.array_equal(found.samples, round_to(wet, 23))
    assert np.abs(found.samples).max() <= factor(-9.0) + 2.0**-23
    for stem in ("drums", "bass", "other"):
        assert np.array_equal(found.stems[stem], made.stems[stem])
    assert_exact(found.stems, found.samples, float32=found.manifest.claims.exact_f32_any_order)


def test_tails_go_on_where_the_preset_says_so_and_silence_is_added_to_the_others(
    find_set: FindSet, tmp_path: Path
) -> None:
    made = find_set("pcm16")
    text = """
    [stems.vocals]
    [[stems.vocals.effects]]
    kind = "delay"
    delay_ms = 400.0
    feedback = 0.3
    """
    trimmed = remix(tmp_path, made, text, stems_out=True, job_id="trim")
    longer = remix(
        tmp_path,
        made,
        f"tail = 'extend'{text}",
        stems_out=True,
        job_id="extend",
    )
    assert trimmed.samples.shape == made.original.shape
    frames = longer.samples.shape[1]
    assert frames >= FRAMES + int(0.8 * RATE_HZ)
    assert np.array_equal(longer.samples[:, :FRAMES], trimmed.samples)
    tail = longer.samples[:, FRAMES:]
    assert np.array_equal(tail, longer.stems["vocals"][:, FRAMES:])
    assert np.abs(tail[:, : RATE_HZ // 2]).max() > 0.001
    assert np.abs(tail[:, -200:]).max() < 1e-4
    for stem in ("drums", "bass", "other", "residual"):
        assert np.array_equal(longer.stems[stem][:, :FRAMES], made.stems[stem])
        assert not longer.stems[stem][:, FRAMES:].any()
    assert longer.manifest.remix is not None
    assert longer.manifest.remix.of_frames == FRAMES
