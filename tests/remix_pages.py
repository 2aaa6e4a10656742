"""Remixes of synthesised songs as their report sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stembridge.manifest import (
    Claims,
    Generator,
    GridEntry,
    Manifest,
    ModelEntry,
    RegionEntry,
    RemixEntry,
    ResidualEntry,
    SourceEntry,
    StemEntry,
)
from stembridge.mixdown.meters import RemixFigures, SignalFigures, SignalMeter, StemFigures
from stembridge.synthesis import make_song

Signal = NDArray[np.float64]
RATE = 8000

PRESET = """[preset]
name = "Vocals up"
use = "bring the singer forward"

[stems.vocals]
gain_db = 4.0

[[stems.vocals.effects]]
kind = "high_shelf"
cutoff_hz = 9000.0
gain_db = 2.0
"""


def measure(signal: Signal, sample_rate: int = RATE, *, has_true_peak: bool = False) -> SignalFigures:
    """Return the figures of (channels, frames)."""
    meter = SignalMeter(signal.shape[0], sample_rate, signal.shape[1], has_true_peak=has_true_peak)
    meter.add(signal)
    return meter.read()


def measure_remix(
    before: Mapping[str, Signal], after: Mapping[str, Signal], sample_rate: int = RATE
) -> RemixFigures:
    """Return the figures of a remix whose stems were ``before`` and are ``after``, those muted left out."""
    some = next(iter(before.values()))
    original = sum(before.values(), np.zeros_like(some))
    remix = sum(after.values(), np.zeros_like(some))
    stems = []
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        stems.append(
            StemFigures(
                name,
                None if old is None else measure(old, sample_rate),
                None if new is None else measure(new, sample_rate),
                old is not None and new is not None and np.array_equal(old, new),
            )
        )
    return RemixFigures(
        original=measure(original, sample_rate, has_true_peak=True),
        remix=measure(remix, sample_rate, has_true_peak=True),
        difference=measure(remix - original, sample_rate),
        stems=tuple(stems),
        null_remix=0.0,
        null_untouched=0.0,
        reduction_db_max=0.0,
    )


@cache
def vocals_up(seconds: float = 6.0, sample_rate: int = RATE) -> RemixFigures:
    """Return a song of which the vocals were made louder, where they sing: in the middle third."""
    song = make_song(3, seconds=seconds, sample_rate=sample_rate)
    before = {name: song.stems[name] for name in ("drums", "bass", "other")}
    vocals = song.stems["vocals"].copy()
    third = vocals.shape[1] // 3
    vocals[:, :third] = vocals[:, 2 * third :] = 0
    before["vocals"] = vocals
    before["residual"] = 1e-4 * before["other"]
    return measure_remix(before, before | {"vocals": 1.6 * vocals}, sample_rate)


def describe(
    *, path: str = "/music/Blue Hour.wav", frames: int = 6 * RATE, channels: int = 2, sample_rate: int = RATE
) -> Manifest:
    """Return a remix's manifest, its stems delivered."""
    digest = "3f" * 32
    stem = StemEntry("vocals", "Blue Hour - vocals.wav", "PCM_24", digest, digest)
    return Manifest(
        generator=Generator("0.1.0"),
        job="0f3c9a1e",
        created="2026-05-04T10:20:30+00:00",
        source=SourceEntry(
            path, digest, sample_rate, frames, channels, "PCM_24", RegionEntry(0, frames), ((0,),)
        ),
        model=ModelEntry("htdemucs", digest, "float32", 1, 0, 0.25),
        grid=GridEntry(23, 23),
        claims=Claims(True, True, 1.2, 1.1, 0.0),
        residual=ResidualEntry("own", -31.0),
        stems=(stem,),
        deterministic=True,
        mixture=replace(stem, name="remix", file="Blue Hour - vocals-up.wav"),
        remix=RemixEntry("vocals-up", PRESET, "a1b2", "7e" * 32, frames),
    )
