"""One gain for everything: a remix as loud as its original or below a ceiling, with sums that stay exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from numpy.typing import NDArray
from scipy.signal import resample

from remixes import RATE_HZ, factor, make_set, remix, round_to, sum_all
from signals import make_music
from splits import assert_exact

Signal = NDArray[np.float64]

FRAMES = 3 * RATE_HZ // 2
SHORT_FRAMES = RATE_HZ // 2


def true_peak_db(signal: Signal) -> float:
    """Return the peak between the samples at 16 times the rate, by one transform of all of it."""
    padded = np.pad(signal, ((0, 0), (8_192, 8_192)))
    return 20 * float(np.log10(np.abs(resample(padded, 16 * padded.shape[1], axis=1)).max()))


def loudness_lufs(signal: Signal) -> float:
    return float(pyloudnorm.Meter(RATE_HZ).integrated_loudness(signal.T))


def rms_db(signal: Signal) -> float:
    return 10 * float(np.log10(np.square(signal).mean()))


@pytest.mark.parametrize("kind", ["pcm16", "float"])
@pytest.mark.parametrize("match", ["lufs", "rms"])
def test_a_matched_remix_is_as_loud_as_the_original_by_one_gain(
    tmp_path: Path, match: str, kind: str
) -> None:
    made = make_set(tmp_path, kind=kind, frames=FRAMES)
    text = f"[stems.vocals]\nmute = true\n[stems.drums]\ngain_db = -9.0\n[master]\nmatch = '{match}'"
    found = remix(tmp_path, made, text, stems_out=True)
    measure = loudness_lufs if match == "lufs" else rms_db
    assert abs(measure(found.samples) - measure(made.original)) < 0.05
    assert found.manifest.remix is not None
    gain = factor(found.manifest.remix.gain_db)
    assert gain > 1.2
    for name, before in made.stems.items():
        if name != "vocals":
            own = factor(-9.0) if name == "drums" else 1.0
            assert np.array_equal(found.stems[name], round_to(own * gain * before, 23))
    assert found.manifest.remix.untouched == ()
    assert_exact(found.stems, found.samples, float32=found.manifest.claims.exact_f32_any_order)


def test_a_matched_preset_that_changes_nothing_changes_nothing(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    found = remix(tmp_path, made, "[stems.vocals]\ngain_db = 0.0\n[master]\nmatch = 'lufs'")
    assert np.array_equal(found.samples, made.original)


def test_what_is_too_short_for_loudness_is_matched_by_its_rms(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=RATE_HZ // 4)
    found = remix(tmp_path, made, "[stems.vocals]\ngain_db = 6.0\n[master]\nmatch = 'lufs'")
    assert abs(rms_db(found.samples) - rms_db(made.original)) < 0.01


def test_matching_gives_at_most_12_db_and_says_so_and_leaves_silence_alone(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=FRAMES)
    text = "".join(f"[stems.{stem}]\ngain_db = -30.0\n" for stem in made.stems)
    found = remix(tmp_path, made, f"{text}[master]\nmatch = 'lufs'")
    assert abs(rms_db(found.samples) - rms_db(made.original) + 18.0) < 0.05
    assert any("+12 dB were given" in line for line in found.result.warnings)
    silent = make_set(tmp_path / "silent", frames=FRAMES, level=0.0)
    text = "[stems.vocals]\ngain_db = -60.0\n[master]\nmatch = 'lufs'"
    found = remix(tmp_path / "silent", silent, text)
    assert found.manifest.remix is not None
    assert abs(found.manifest.remix.gain_db) <= 12.0


def test_the_lfe_does_not_count_for_the_loudness_of_surround_and_the_back_counts_for_more(
    tmp_path: Path,
) -> None:
    signal = 0.2 * make_music(FRAMES, 6, RATE_HZ)
    signal[3] = 0.4 * np.sin(2 * np.pi * 60.0 * np.arange(FRAMES) / RATE_HZ)
    made = make_set(tmp_path, kind="pcm24", channels=6, frames=FRAMES, signal=signal)
    # It takes the LFE away, and little of the others.
    cut = "\n[[stems.{0}.effects]]\nkind = 'low_cut'\ncutoff_hz = 600.0\n"
    text = "".join(f"[stems.{stem}]{cut.format(stem)}" for stem in made.stems)
    found = remix(tmp_path, made, f"{text}[master]\nmatch = 'lufs'")
    # pyloudnorm takes five channels, in the order of 5.1 without its LFE.
    heard = [0, 1, 2, 4, 5]
    assert abs(loudness_lufs(found.samples[heard]) - loudness_lufs(made.original[heard])) < 0.05


CEILINGS: dict[str, dict[str, Any]] = {
    "pcm16": {"kind": "pcm16"},
    "pcm32": {"kind": "pcm32"},
    "float": {"kind": "float"},
    "surround": {"kind": "pcm24", "channels": 6},
}


@pytest.mark.parametrize("name", CEILINGS)
def test_a_ceiling_holds_for_the_waveform_by_one_curve_for_everything(tmp_path: Path, name: str) -> None:
    made = make_set(tmp_path, frames=SHORT_FRAMES, level=1.8, **CEILINGS[name])
    text = "".join(f"[stems.{stem}]\ngain_db = 9.0\n" for stem in made.stems)
    free = remix(tmp_path, made, text, job_id="free", stems_out=True)
    assert true_peak_db(free.samples) > 3.0
    held = remix(tmp_path, made, f"{text}[master]\nceiling_dbtp = -1.0", job_id="held", stems_out=True)
    assert true_peak_db(held.samples) <= -1.0 + 0.05
    assert np.abs(held.samples).max() > factor(-2.0)
    assert all(entry.subtype != "DOUBLE" for entry in held.manifest.stems), "all stand on the grid by now"
    assert held.manifest.remix is not None
    reduction_db = held.manifest.remix.reduction_db
    assert abs(reduction_db - (true_peak_db(free.samples) + 1.0)) < 0.5
    assert np.array_equal(held.samples, sum_all(held.stems))
    assert_exact(held.stems, held.samples, float32=held.manifest.claims.exact_f32_any_order)
    # Every stem is turned down alike: by the curve that the loudest of them tells.
    loudest = max(free.stems, key=lambda stem: float(np.abs(free.stems[stem]).max()))
    channel = 0
    before, after = free.stems[loudest][channel], held.stems[loudest][channel]
    heard = np.abs(before) > 0.05
    curve = after[heard] / before[heard]
    assert curve.min() < 0.8
    assert abs(20 * np.log10(curve.min()) + reduction_db) < 0.1
    for stem, signal in free.stems.items():
        assert np.abs(held.stems[stem][:, heard] - curve * signal[:, heard]).max() < 1e-5


def test_where_no_peak_asks_for_it_a_ceiling_does_nothing(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=SHORT_FRAMES, level=0.4)
    found = remix(tmp_path, made, "[master]\nceiling_dbtp = -1.0", stems_out=True)
    assert np.array_equal(found.samples, made.original)
    assert found.manifest.remix is not None
    assert found.manifest.remix.untouched == tuple(made.stems)
    assert found.manifest.remix.reduction_db == 0.0


def test_passages_that_a_ceiling_leaves_alone_are_bit_identical(tmp_path: Path) -> None:
    made = make_set(tmp_path, frames=SHORT_FRAMES, level=1.8)
    peak = int(np.abs(made.original).max(axis=0).argmax())
    found = remix(tmp_path, made, "[master]\nceiling_dbtp = -3.0", stems_out=True)
    changed = (found.samples != made.original).any(axis=0)
    assert changed[peak]
    assert 0.001 < changed.mean() < 0.9
    for stem, signal in found.stems.items():
        assert np.array_equal(signal[:, ~changed], made.stems[stem][:, ~changed])
