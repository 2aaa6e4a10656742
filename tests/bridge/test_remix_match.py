"""What a match is measured by: the music that both have; and what is said where it cannot be kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
from numpy.typing import NDArray

from fakes import ZeroSeparator
from remixes import RATE_HZ, MadeRemix, factor, make_set, remix

FRAMES = RATE_HZ
SHORT_FRAMES = RATE_HZ // 4

ECHO = """
[stems.vocals]
gain_db = -3.0
[[stems.vocals.effects]]
kind = "delay"
delay_ms = 400.0
feedback = 0.5
"""

LEFT_BELOW = "the ceiling leaves the remix"


def rms_db(signal: NDArray[np.float64]) -> float:
    return 10 * float(np.log10(np.square(signal).mean()))


def loudness_lufs(signal: NDArray[np.float64]) -> float:
    return float(pyloudnorm.Meter(RATE_HZ).integrated_loudness(signal.T))


def gain_db_of(made: MadeRemix) -> float:
    assert made.manifest.remix is not None
    return made.manifest.remix.gain_db


@pytest.mark.parametrize(
    ("match", "frames"), [("rms", FRAMES), ("lufs", FRAMES), ("rms", SHORT_FRAMES), ("lufs", SHORT_FRAMES)]
)
def test_a_tail_makes_what_comes_before_it_no_louder(tmp_path: Path, match: str, frames: int) -> None:
    made = make_set(tmp_path, frames=frames)
    text = f"{ECHO}[master]\nmatch = '{match}'"
    trimmed = remix(tmp_path, made, text, job_id="trim")
    longer = remix(tmp_path, made, f"tail = 'extend'\n{text}", job_id="extend")
    assert longer.samples.shape[1] > frames + RATE_HZ // 2
    assert gain_db_of(longer) == gain_db_of(trimmed) != 0.0
    assert np.array_equal(longer.samples[:, :frames], trimmed.samples)
    measure = rms_db if match == "rms" or frames == SHORT_FRAMES else loudness_lufs
    assert abs(measure(trimmed.samples) - measure(made.original)) < 0.05


@pytest.mark.parametrize("match", ["rms", "lufs"])
def test_silence_is_matched_to_nothing_and_nothing_to_silence(tmp_path: Path, match: str) -> None:
    silent = make_set(tmp_path / "silent", frames=FRAMES, level=0.0, kind="pcm24")
    text = f"[stems.vocals]\nmute = true\n[master]\nmatch = '{match}'"
    found = remix(tmp_path / "silent", silent, text)
    assert gain_db_of(found) == 0.0
    assert found.samples.any(), "the stems of this set cancel each other"
    assert any(line.endswith("silent: nothing to match") for line in found.result.warnings)
    made = make_set(tmp_path / "zero", frames=FRAMES, separator=ZeroSeparator())
    found = remix(tmp_path / "zero", made, f"[stems.vocals]\nsolo = true\n[master]\nmatch = '{match}'")
    assert gain_db_of(found) == 0.0
    assert not found.samples.any()
    assert any(line.endswith("silent: nothing to match") for line in found.result.warnings)


@pytest.mark.parametrize("match", ["rms", "lufs"])
def test_what_a_ceiling_takes_from_a_match_is_told(tmp_path: Path, match: str) -> None:
    made = make_set(tmp_path, frames=FRAMES, level=0.3)
    peak_db = 20 * float(np.log10(np.abs(made.original).max()))
    text = f"[stems.vocals]\nmute = true\n[master]\nmatch = '{match}'\nceiling_dbtp = "
    held = remix(tmp_path, made, f"{text}{peak_db - 9.0:.1f}", job_id="held")
    measure = rms_db if match == "rms" else loudness_lufs
    missed_db = measure(made.original) - measure(held.samples)
    assert missed_db > 0.5
    (note,) = (line for line in held.result.warnings if line.startswith(LEFT_BELOW))
    told_db = float(note.removeprefix(LEFT_BELOW).split()[0])
    assert abs(told_db - missed_db) < 0.1
    assert np.abs(held.samples).max() <= factor(peak_db - 9.0)
    for job_id, other in {
        "free": f"{text}0.0",
        "unmatched": f"[master]\nceiling_dbtp = {peak_db - 9.0:.1f}",
    }.items():
        free = remix(tmp_path, made, other, job_id=job_id)
        assert not any(line.startswith(LEFT_BELOW) for line in free.result.warnings)
