"""Whole remixes in this process: sets of every kind, presets as text, and what a remix should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from fakes import FakeSeparator
from signals import make_music, make_noise, read_wav, to_ints, write_float, write_pcm
from splits import make_request, read_set, split_to_end
from stembridge.manifest import Manifest
from stembridge.mixdown.render import render_remix
from stembridge.null_test import check_result
from stembridge.settings import Settings, load_settings
from stembridge.stages import run_to_end
from stembridge.types import RemixRequest, SplitResult

Signal = NDArray[np.float64]

RATE_HZ = 44_100
FRAMES = 20_001


@dataclass(frozen=True, slots=True)
class MadeSet:
    """A set, the samples that it was split from, and those of its files."""

    folder: Path
    original: Signal
    manifest: Manifest
    stems: dict[str, Signal]


@dataclass(frozen=True, slots=True)
class MadeRemix:
    """A remix, its samples, those of the stems beside it, and what it is told to be."""

    folder: Path
    result: SplitResult
    manifest: Manifest
    samples: Signal
    stems: dict[str, Signal]


def make_set(
    tmp: Path,
    *,
    kind: str = "pcm16",
    channels: int = 2,
    frames: int = FRAMES,
    level: float = 0.9,
    seed: int = 0,
    signal: Signal | None = None,
    separator: FakeSeparator | None = None,
    **request: Any,
) -> MadeSet:
    """Split a seeded song; ``kind`` is pcm8, 16, 24, 32, gridfloat, float, double or ogg.

    ``signal`` stands in place of the seeded one; its shape must be that of ``channels`` and ``frames``.
    """
    if signal is None:
        signal = (
            make_noise(frames, channels) if frames < 100 else make_music(frames, channels, RATE_HZ, seed=seed)
        )
    signal = level * signal
    container = "WAVEX" if channels > 2 else "WAV"
    tmp.mkdir(parents=True, exist_ok=True)
    path = tmp / "song.wav"
    if kind.startswith("pcm"):
        bits = int(kind[3:])
        ints = to_ints(signal, max(bits, 16) if bits == 8 else bits)
        ints = ints >> 8 << 8 if bits == 8 else ints
        write_pcm(path, ints, RATE_HZ, max(bits, 16), container)
        signal = ints / 2.0 ** (max(bits, 16) - 1)
    elif kind == "gridfloat":
        signal = to_ints(signal, 24) / 2.0**23
        write_float(path, signal, RATE_HZ, container=container)
    elif kind == "float":
        signal = signal.astype(np.float32).astype(np.float64)
        write_float(path, signal, RATE_HZ, container=container)
    elif kind == "double":
        write_float(path, signal, RATE_HZ, "DOUBLE", container)
    else:
        path = write_float(tmp / "song.ogg", signal, RATE_HZ, "VORBIS", "OGG")
    result, _ = split_to_end(
        make_request(path, tmp / "sets", **request), separator or FakeSeparator(), job_id="split"
    )
    folder = Path(result.folder)
    manifest, stems = read_set(folder)
    if kind == "ogg":
        assert manifest.mixture is not None
        signal, _ = read_wav(folder / manifest.mixture.file)
    return MadeSet(folder, signal, manifest, stems)


def write_preset(folder: Path, text: str, name: str = "mine") -> Path:
    """Write a preset of that text, whose head need not be given, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(f'[preset]\nname = "{name}"\nuse = "a test"\n{text}\n', encoding="utf-8")
    return path


def make_settings(tmp: Path) -> Settings:
    return load_settings(home=tmp / "home", environ={})


def remix(
    tmp: Path,
    made: MadeSet,
    text: str,
    *,
    name: str = "mine",
    job_id: str = "remix",
    **request: Any,
) -> MadeRemix:
    """Render a preset of that text, hold the null test against what was published, and read it."""
    preset = write_preset(tmp, text, name)
    asked = RemixRequest(str(made.folder), str(tmp / "remixes"), str(preset), **request)
    result = run_to_end(render_remix(asked, job_id, make_settings(tmp), now=lambda: 1e9, clock=lambda: 0.0))
    return read_remix(Path(result.folder), result)


def read_remix(folder: Path, result: SplitResult) -> MadeRemix:
    report = check_result(folder)
    assert report.holds, report.failures
    manifest, files = read_set(folder)
    if manifest.mixture is None:
        (samples,) = files.values()
        return MadeRemix(folder, result, manifest, samples, {})
    alone, _ = read_set_file(folder, manifest.mixture.file)
    return MadeRemix(folder, result, manifest, alone, files)


def read_set_file(folder: Path, file: str) -> tuple[Signal, int]:
    """Return the samples of one file, WAV read with struct alone."""
    if file.endswith(".wav"):
        return read_wav(folder / file)
    samples, rate = soundfile.read(folder / file, always_2d=True, dtype="int32")
    return samples.T / 2.0**31, rate


def round_to(signal: Signal, bits: int) -> Signal:
    """Return ``signal`` rounded to multiples of 2^-bits, halves to even."""
    return np.rint(signal * 2.0**bits) / 2.0**bits


def factor(gain_db: float) -> float:
    return float(10 ** (gain_db / 20))


def sum_all(files: Mapping[str, Signal]) -> Signal:
    """Return the sum in 64 bits, in the order of the files."""
    values = list(files.values())
    return np.asarray(sum(values[1:], values[0]))
