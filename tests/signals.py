"""Sources for tests: seeded samples on a stated grid, written by libsndfile as any DAW would write them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

Signal = NDArray[np.float64]


def make_noise(frames: int, channels: int, *, seed: int = 0, level: float = 0.25) -> Signal:
    """Return white noise, (channels, frames), at most ``level`` in amplitude."""
    return level * np.random.default_rng(seed).uniform(-1.0, 1.0, (channels, frames))


def make_music(
    frames: int, channels: int, sample_rate: int, *, seed: int = 0, cutoff_hz: float = 19_000
) -> Signal:
    """Return decaying tones and noise bursts below ``cutoff_hz``, (channels, frames), peak about 0.5."""
    draw = np.random.default_rng(seed)
    time = np.arange(frames) / sample_rate
    out = np.zeros((channels, frames))
    for _ in range(40):
        pitch = np.exp(draw.uniform(np.log(60.0), np.log(min(cutoff_hz, 0.42 * sample_rate))))
        begin = draw.uniform(0, time[-1])
        envelope = np.where(time >= begin, np.exp(-3.0 * np.maximum(time - begin, 0.0)), 0.0)
        # A soft attack keeps the tone inside its band.
        envelope *= np.clip((time - begin) / 0.05, 0.0, 1.0) ** 2
        out += (
            draw.uniform(0.2, 1.0, (channels, 1))
            * envelope
            * np.sin(2 * np.pi * pitch * time + draw.uniform(0, 6))
        )
    return np.asarray(0.5 * out / np.abs(out).max())


def to_ints(signal: Signal, bits: int) -> NDArray[np.int64]:
    """Return ``signal`` as integers of a word of ``bits`` bits, clipped."""
    limit = 2 ** (bits - 1)
    return np.asarray(np.clip(np.rint(signal * limit), -limit, limit - 1), np.int64)


def write_pcm(
    path: Path, ints: NDArray[np.int64], sample_rate: int, bits: int, container: str = "WAV"
) -> Path:
    """Write (channels, frames) integers of ``bits`` bits and return ``path``."""
    words = (ints << (32 - bits)).astype(np.int32)
    soundfile.write(path, words.T, sample_rate, subtype=f"PCM_{bits}", format=container)
    return path


def write_float(
    path: Path, signal: Signal, sample_rate: int, subtype: str = "FLOAT", container: str = "WAV"
) -> Path:
    """Write (channels, frames) samples as they are, or as a lossy ``subtype``, and return ``path``."""
    soundfile.write(path, signal.T, sample_rate, subtype=subtype, format=container)
    return path


def read_wav(path: Path) -> tuple[Signal, int]:
    """Return (channels, frames) and the rate of a WAV of integers or floats, read with nothing but struct."""
    data = path.read_bytes()
    assert data[:4] == b"RIFF" and data[8:12] == b"WAVE"
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    offset, kind, width, channels, rate = 12, 0, 0, 0, 0
    while True:
        name, length = struct.unpack_from("<4sI", data, offset)
        offset += 8
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, offset)
            if kind == 0xFFFE:
                kind = struct.unpack_from("<H", data, offset + 24)[0]
            assert kind in (1, 3)
            width = bits // 8
        if name == b"data":
            assert offset + length + length % 2 <= len(data)
            return _unpack(data[offset : offset + length], kind, width).reshape(-1, channels).T, rate
        offset += length + length % 2


def _unpack(data: bytes, kind: int, width: int) -> Signal:
    count = len(data) // width
    if kind == 3:
        return np.array(struct.unpack(f"<{count}{'f' if width == 4 else 'd'}", data), np.float64)
    if width == 3:
        data = b"".join(b"\0" + data[at : at + 3] for at in range(0, len(data), 3))
    letter = "h" if width == 2 else "i"
    return np.array(struct.unpack(f"<{count}{letter}", data), np.float64) / 2.0 ** (15 if width == 2 else 31)
