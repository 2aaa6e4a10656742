"""Audio in: exact samples from every format, and one line for every file that is none."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from signals import make_music, make_noise, to_ints, write_float, write_pcm
from stembridge import audio_io, stem_file
from stembridge.errors import SourceError
from stembridge.types import Region

RATE = 44_100


def read_all(path: Path, region: Region | None = None, block: int = 5_000) -> NDArray[np.float64]:
    info = audio_io.probe(str(path))
    return np.concatenate(
        list(audio_io.read_blocks(info, audio_io.check_region(info, region), block)), axis=1
    )


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC", "WAVEX", "RF64"])
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("channels", [1, 2])
def test_integers_come_as_they_stand_in_the_file(
    tmp_path: Path, container: str, bits: int, channels: int
) -> None:
    ints = to_ints(make_noise(12_345, channels, level=1.0), bits)
    ints[:, 0], ints[:, 1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    path = write_pcm(tmp_path / "x", ints, RATE, bits, container)
    info = audio_io.probe(str(path))
    assert (info.frames, info.channels, info.sample_rate, info.grid_bits) == (
        12_345,
        channels,
        RATE,
        bits - 1,
    )
    assert not info.is_lossy
    blocks = list(audio_io.read_int_blocks(info, Region(0, info.frames), bits - 1, 5_000))
    assert max(block.shape[1] for block in blocks) == 5_000
    assert np.array_equal(np.concatenate(blocks, axis=1), ints)
    assert all(block.dtype == np.int64 and block.flags.c_contiguous for block in blocks)
    assert np.array_equal(read_all(path), ints / 2.0 ** (bits - 1))
    assert np.array_equal(read_all(path, Region(7, 6_000)), ints[:, 7:6_007] / 2.0 ** (bits - 1))


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8", "PCM_32"])
def test_other_word_lengths_have_their_grid(tmp_path: Path, subtype: str) -> None:
    container = "AIFF" if subtype == "PCM_S8" else "WAV"
    path = write_float(tmp_path / "x", make_noise(100, 1), RATE, subtype, container)
    info = audio_io.probe(str(path))
    assert info.grid_bits == (31 if subtype == "PCM_32" else 7)
    ints = next(audio_io.read_int_blocks(info, Region(0, 100), info.grid_bits))
    assert np.array_equal(ints / 2.0**info.grid_bits, soundfile.read(path, always_2d=True)[0].T)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_come_bit_by_bit(tmp_path: Path, subtype: str) -> None:
    signal = make_noise(9_000, 2) * 4
    signal[0, :4] = [1e-42, -0.0, 3.5, 0.0]
    if subtype == "FLOAT":
        signal = signal.astype(np.float32).astype(np.float64)
    read = read_all(write_float(tmp_path / "x.wav", signal, RATE, subtype))
    assert read.tobytes() == signal.tobytes()
    info = audio_io.probe(str(tmp_path / "x.wav"))
    assert info.grid_bits is None


@pytest.mark.parametrize(
    ("subtype", "container", "rate"),
    [
        ("VORBIS", "OGG", 44_100),
        ("MPEG_LAYER_III", "MP3", 48_000),
        ("MPEG_LAYER_III", "MP3", 22_050),
        ("OPUS", "OGG", 48_000),
    ],
)
def test_lossy_audio_is_rounded_to_a_grid_and_a_region_is_a_part_of_the_whole(
    tmp_path: Path, subtype: str, container: str, rate: int
) -> None:
    path = write_float(tmp_path / "x", make_noise(30_000, 2), rate, subtype, container)
    info = audio_io.probe(str(path))
    assert info.is_lossy and info.frames == 30_000
    whole = read_all(path)
    assert np.array_equal(whole * 2**23, np.rint(whole * 2**23))
    with soundfile.SoundFile(path) as file:
        decoded = file.read(always_2d=True).T
    assert np.abs(whole - decoded).max() <= 0.5 * 2.0**-23
    assert np.array_equal(read_all(path, Region(5_000, 4_000)), whole[:, 5_000:9_000])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("block", [777, 32_768])
def test_an_mp3_decodes_to_the_same_samples_at_any_block_size(tmp_path: Path, rate: int, block: int) -> None:
    path = write_float(tmp_path / "x", make_music(3 * rate, 2, rate), rate, "MPEG_LAYER_III", "MP3")
    with soundfile.SoundFile(path) as file:
        decoded = file.read(always_2d=True).T
    assert np.abs(read_all(path, block=block) - decoded).max() <= 0.5 * 2.0**-23


def test_the_pcm_hash_is_that_of_its_definition(tmp_path: Path) -> None:
    ints = to_ints(make_noise(10_000, 2), 16)
    wanted = hashlib.sha256(
        b"".join(struct.pack("<d", i / 2**15) for i in ints.T.ravel().tolist())
    ).hexdigest()
    floats = write_float(tmp_path / "x.wav", np.where(ints == 0, -0.0, ints / 2**15), RATE)
    for path in (write_pcm(tmp_path / "x.flac", ints, RATE, 16, "FLAC"), floats):
        pcm_hash = audio_io.PcmHash()
        for block in audio_io.read_blocks(audio_io.probe(str(path)), Region(0, 10_000), 777):
            pcm_hash.update(block)
        assert pcm_hash.hexdigest() == wanted


def refusal(path: Path | str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        info = audio_io.probe(str(path))
        for _ in audio_io.read_blocks(info, Region(0, info.frames)):
            pass
    error = caught.value
    assert "\n" not in str(error) and error.hint and repr(str(path)) in error.message
    return error


def test_what_is_no_audio_file_is_refused_in_one_line(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no such.wav").message
    assert "is a folder" in refusal(tmp_path).message
    (tmp_path / "empty.wav").touch()
    assert "0 bytes" in refusal(tmp_path / "empty.wav").message
    for name in ("notes.txt", "noise.raw", 'it\'s "$HOME"\nあ.wav'):
        (tmp_path / name).write_bytes(b"no audio here " * 40)
        assert "cannot be read as audio" in refusal(tmp_path / name).message
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in refusal(tmp_path / "loop").message
    assert "cannot be read" in refusal("/" + "x" * 300).message
    assert "not a path" in refusal("/a\0b").message
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe").message


@pytest.mark.parametrize("container", ["WAV", "AIFF", "FLAC", "OGG", "MP3", "RF64"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, container: str, kept: float) -> None:
    path = tmp_path / "x"
    subtype = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}.get(container, "PCM_16")
    data = write_float(path, make_noise(60_000, 2), RATE, subtype, container).read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    message = refusal(path).message
    if container in ("WAV", "AIFF", "RF64"):
        assert "is truncated: header promises" in message and "are there" in message


def test_a_header_that_lies_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 2), 16), RATE, 16)
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(data)
    assert "promises 4294967280 bytes of audio, 400 are there" in refusal(path).message
    data[40:44] = bytes(4)
    path.write_bytes(data[:44])
    assert "0 frames" in refusal(path).message


@pytest.mark.parametrize(("rate", "word"), [(7_999, "7999 Hz"), (1_000_000, "1000000 Hz")])
def test_absurd_rates_are_refused(tmp_path: Path, rate: int, word: str) -> None:
    assert word in refusal(write_pcm(tmp_path / "x.wav", to_ints(make_noise(9, 1), 16), rate, 16)).message


@pytest.mark.parametrize("channels", [9, 70])
def test_more_channels_are_refused(tmp_path: Path, channels: int) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(9, channels), 16), RATE, 16)
    assert f"has {channels} channels: 1 to 8 can be split" in refusal(path).message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("frame", [0, 70_001])
def test_a_sample_that_cannot_be_is_named_by_frame_and_channel(
    tmp_path: Path, bad: float, frame: int
) -> None:
    signal = make_noise(80_000, 2)
    signal[1, frame] = signal[0, frame + 5] = bad
    path = write_float(tmp_path / "x.wav", signal, RATE)
    assert f"holds {bad:g} at frame {frame} of channel 2" in refusal(path).message


@pytest.mark.parametrize(
    "region", [Region(-1, 5), Region(0, 0), Region(0, 101), Region(100, 1), Region(10**12, 1)]
)
def test_a_region_must_lie_inside(tmp_path: Path, region: Region) -> None:
    info = audio_io.probe(str(write_pcm(tmp_path / "x.wav", to_ints(make_noise(100, 1), 16), RATE, 16)))
    with pytest.raises(SourceError, match="the file has 100 frames"):
        audio_io.check_region(info, region)


def test_a_whole_stem_can_be_read(tmp_path: Path) -> None:
    signal = make_noise(500, 2).astype(np.float32).astype(np.float64)
    read, rate = stem_file.read_stem(write_float(tmp_path / "x.wav", signal, 96_000))
    assert rate == 96_000 and np.array_equal(read, signal)


@pytest.mark.parametrize("rate", [11_025, 44_100, 48_000, 96_000, 47_952])
def test_a_listening_copy_is_an_mp3_of_the_same_length(rate: int, tmp_path: Path) -> None:
    signal = np.sin(np.arange(rate) * 440 * 2 * np.pi / rate)[np.newaxis].repeat(2, axis=0) * 0.5
    (tmp_path / "heard.mp3").write_bytes(stem_file.listening_copy(signal, rate))
    heard, heard_rate = soundfile.read(tmp_path / "heard.mp3")
    assert abs(len(heard) / heard_rate - 1.0) < 1e-3
    assert abs(np.sqrt((heard**2).mean()) - 0.5 / np.sqrt(2)) < 0.01
