"""The writer: samples come back bit by bit from other readers, and the same samples give the same bytes."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from signals import make_noise, read_float_wav
from stembridge import wavfile
from stembridge.errors import ExactnessError


def write(
    path: Path, signal: np.ndarray[tuple[int, int], np.dtype[np.float64]], subtype: str, block: int
) -> str:
    channels, frames = signal.shape
    with wavfile.WavWriter(
        path, sample_rate=47_952, channels=channels, frames=frames, subtype=subtype
    ) as writer:
        for start in range(0, frames, block):
            writer.write(signal[:, start : start + block])
    return writer.sha256


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 17, 1_001])
def test_samples_come_back_from_other_readers(
    tmp_path: Path, subtype: str, channels: int, frames: int
) -> None:
    signal = make_noise(frames, channels)
    signal[0, 0] = -0.0
    if subtype == "FLOAT":
        signal = signal.astype(np.float32).astype(np.float64)
    path = tmp_path / "x.wav"
    sha256 = write(path, signal, subtype, 500)
    for read, rate in (read_float_wav(path), (soundfile.read(path, always_2d=True)[0].T, 47_952)):
        assert rate == 47_952
        assert np.array_equal(read, signal) and np.signbit(read[0, 0])
    data = path.read_bytes()
    assert hashlib.sha256(data[wavfile.HEADER_BYTES :]).hexdigest() == sha256
    assert len(data) == wavfile.count_bytes(channels, frames, subtype)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    signal = make_noise(1_001, 2)
    write(tmp_path / "a.wav", signal, "FLOAT", 100)
    write(tmp_path / "b.wav", signal, "FLOAT", 1_001)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_above_4_gib_the_header_is_rf64(tmp_path: Path) -> None:
    frames = 600_000_000
    header = wavfile.encode_header(48_000, 2, frames, "FLOAT")
    assert header[:4] == b"RF64"
    assert struct.unpack_from("<QQQ", header, 20) == (
        frames * 8 + wavfile.HEADER_BYTES - 8,
        frames * 8,
        frames,
    )
    assert len(header) == len(wavfile.encode_header(48_000, 2, 1, "FLOAT")) == wavfile.HEADER_BYTES
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(header)
        file.seek(wavfile.count_bytes(2, frames, "FLOAT") - 4)
        file.write(struct.pack("<f", 0.5))
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.frames) == ("RF64", frames)
        file.seek(frames - 1)
        assert file.read(1).tolist() == [[0.0, 0.5]]


def test_a_file_that_lacks_frames_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ExactnessError, match="lacks 1 of the frames"),
        wavfile.WavWriter(
            tmp_path / "x.wav", sample_rate=8_000, channels=1, frames=2, subtype="FLOAT"
        ) as writer,
    ):
        writer.write(np.zeros((1, 1)))


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        wavfile.WavWriter(path, sample_rate=8_000, channels=1, frames=2, subtype="FLOAT")
    assert path.read_bytes() == b"mine"
