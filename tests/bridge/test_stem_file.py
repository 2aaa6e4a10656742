"""Stems as files: the samples that were given and no others, their hashes, and a disk that is full."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals import make_music, make_noise, read_wav
from stembridge.audio_io import BLOCK_FRAMES
from stembridge.errors import SourceError
from stembridge.stem_file import StemReader, hash_file, listening_copy, open_writer, read_stem, write_mp3
from stembridge.types import DOUBLE_FORMAT, FILE_FORMATS, FileFormat

Signal = NDArray[np.float64]

INTEGER_FORMATS = ("wav16", "wav24", "aiff16", "aiff24", "flac16", "flac24")
LIBRARY_FORMATS = ("aiff16", "aiff24", "flac16", "flac24")
OPEN_FILES = Path("/proc/self/fd")


def bits_of(name: str) -> int:
    return int(name[-2:])


def write_stem(path: Path, file_format: FileFormat, *blocks: Signal, rate: int = 48_000) -> tuple[str, str]:
    """Write blocks and return the hashes of the audio and of the file as the writer has them."""
    frames = sum(block.shape[1] for block in blocks)
    with open_writer(path, file_format, sample_rate=rate, channels=len(blocks[0]), frames=frames) as writer:
        for block in blocks:
            writer.write(block)
    return writer.sha256, writer.sha256_file


def pack_words(ints: NDArray[np.int64], bits: int) -> bytes:
    """Interleave (channels, frames) integers as little-endian words, one by one."""
    return b"".join(int(word).to_bytes(bits // 8, "little", signed=True) for word in ints.T.ravel())


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """A disk that takes no file beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", INTEGER_FORMATS)
def test_the_extremes_of_a_word_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    bits = bits_of(name)
    limit = 2 ** (bits - 1)
    row = [-limit, limit - 1, 1 - limit, limit - 2, -1, 0, 1, limit // 2, -limit // 2]
    ints = np.array([row, row[::-1]])
    path = tmp_path / "x"
    sha256, sha256_file = write_stem(path, FILE_FORMATS[name], ints / limit)
    words, rate = soundfile.read(path, dtype="int32", always_2d=True)
    assert rate == 48_000 and np.array_equal(words.T.astype(np.int64), ints << (32 - bits))
    assert sha256 == hashlib.sha256(pack_words(ints, bits)).hexdigest()
    assert sha256_file == hashlib.sha256(path.read_bytes()).hexdigest()
    with StemReader(path) as reader:
        assert (reader.frames, reader.channels, reader.subtype) == (9, 2, FILE_FORMATS[name].subtype)
        assert np.array_equal(reader.read(100), ints / limit)
        assert reader.read(100).shape == (2, 0)
        assert reader.sha256 == sha256


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([16, 24]),
    st.integers(1, 8),
    st.lists(st.integers(1, 5_000), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
def test_the_hash_of_the_audio_knows_neither_container_nor_blocks(
    tmp_path_factory: pytest.TempPathFactory, bits: int, channels: int, lengths: list[int], seed: int
) -> None:
    limit = 2 ** (bits - 1)
    ints = np.random.default_rng(seed).integers(-limit, limit, (channels, sum(lengths)))
    blocks = np.split(ints / limit, np.cumsum(lengths)[:-1], axis=1)
    folder = tmp_path_factory.mktemp("stems")
    hashes = set()
    for container in ("wav", "aiff", "flac"):
        path = folder / container
        sha256, _ = write_stem(path, FILE_FORMATS[f"{container}{bits}"], *blocks)
        with StemReader(path) as reader:
            found = np.concatenate([reader.read(frames) for frames in (*lengths, 1)], axis=1)
            assert np.array_equal(found, ints / limit)
            hashes |= {sha256, reader.sha256}
    assert len(hashes) == 1


@pytest.mark.parametrize("name", LIBRARY_FORMATS)
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, name: str) -> None:
    signal = np.rint(make_noise(20_000, 2) * 2**15) / 2**15
    hashes = [write_stem(tmp_path / str(copy), FILE_FORMATS[name], signal) for copy in range(2)]
    assert hashes[0] == hashes[1]
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


@pytest.mark.parametrize(("subtype", "letter"), [("FLOAT", "<f4"), ("DOUBLE", "<f8")])
def test_floats_come_back_bit_by_bit(tmp_path: Path, subtype: str, letter: str) -> None:
    tiny = 2.0**-149 if subtype == "FLOAT" else 2.0**-1074
    signal = np.array([[1e30, -0.0, tiny, 2.0], [-3.5, 2.0**-40, -tiny, 1 + 2.0**-23]]).astype(letter)
    if subtype == "DOUBLE":
        signal[0, 3] = 1 + 2.0**-52
    path = tmp_path / "x.wav"
    file_format = DOUBLE_FORMAT if subtype == "DOUBLE" else FILE_FORMATS["wav32f"]
    sha256, _ = write_stem(path, file_format, signal.astype(np.float64))
    with StemReader(path) as reader:
        assert reader.read(4).tobytes() == signal.tobytes()
        assert reader.sha256 == sha256 == hashlib.sha256(signal.T.tobytes()).hexdigest()
    assert read_wav(path)[0].astype(letter).tobytes() == signal.tobytes()
    whole, rate = read_stem(path)
    assert rate == 48_000 and whole.dtype == np.float64 and np.array_equal(whole, signal)


@pytest.mark.parametrize("name", ["wav24", *LIBRARY_FORMATS])
def test_a_file_that_is_there_is_not_written_over(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"mine")
    with pytest.raises(OSError):
        open_writer(path, FILE_FORMATS[name], sample_rate=48_000, channels=1, frames=1)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("size", [0, 10, 100, 50_000])
@pytest.mark.parametrize("name", ["wav24", *LIBRARY_FORMATS])
def test_a_full_disk_is_an_error_of_the_system_and_leaves_no_file_open(
    tmp_path: Path, name: str, size: int
) -> None:
    before = sorted(entry.name for entry in OPEN_FILES.iterdir())
    # Noise of the whole width: nothing for FLAC to make small.
    signal = np.rint(make_noise(40_000, 2, level=0.99) * 2**15) / 2**15
    with pytest.raises(OSError) as caught, room_for(size):
        write_stem(tmp_path / "x", FILE_FORMATS[name], signal[:, :20_000], signal[:, 20_000:])
    assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in OPEN_FILES.iterdir()) == before


@pytest.mark.parametrize("name", LIBRARY_FORMATS)
def test_a_short_write_is_an_error_of_the_system(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: soundfile.SoundFile, data: NDArray[np.int32]) -> None:
        # What soundfile does where libsndfile took fewer frames than it was given.
        raise AssertionError

    monkeypatch.setattr(soundfile.SoundFile, "write", write)
    with pytest.raises(OSError, match="could not write: short write"):
        write_stem(tmp_path / "x", FILE_FORMATS[name], np.zeros((1, 10)))


@pytest.mark.parametrize("name", LIBRARY_FORMATS)
def test_a_writer_that_is_left_by_an_error_is_closed_and_one_can_close_twice(
    tmp_path: Path, name: str
) -> None:
    before = sorted(entry.name for entry in OPEN_FILES.iterdir())
    with (
        pytest.raises(KeyError),
        open_writer(tmp_path / "x", FILE_FORMATS[name], sample_rate=48_000, channels=1, frames=10) as writer,
    ):
        writer.write(np.zeros((1, 5)))
        raise KeyError
    assert sorted(entry.name for entry in OPEN_FILES.iterdir()) == before
    writer = open_writer(tmp_path / "y", FILE_FORMATS[name], sample_rate=48_000, channels=1, frames=5)
    writer.write(np.zeros((1, 5)))
    writer.close()
    writer.close()
    assert writer.sha256_file == hashlib.sha256((tmp_path / "y").read_bytes()).hexdigest()


def test_a_file_is_hashed_from_its_first_byte_wherever_it_was_read_to() -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    assert hash_file(file) == hashlib.sha256(b"0123456789").hexdigest()


def test_what_is_no_stem_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"RIFF")
    with pytest.raises(SourceError, match=r"x\.wav"):
        read_stem(path)
    with pytest.raises(SourceError, match=r"gone\.wav' does not exist"):
        read_stem(tmp_path / "gone.wav")


def decode(mp3: bytes) -> tuple[Signal, int]:
    samples, rate = soundfile.read(io.BytesIO(mp3), always_2d=True)
    return samples.T, rate


@pytest.mark.parametrize(
    ("rate", "heard_rate"),
    [
        *((rate, rate) for rate in (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
        *((rate, 48_000) for rate in (8_001, 44_056, 96_000, 192_000)),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_begins_at_frame_0_and_has_the_length(rate: int, heard_rate: int, channels: int) -> None:
    frames = rate // 2 + 1
    signal = make_music(frames, channels, rate, cutoff_hz=min(2_000, rate / 16))
    memory = io.BytesIO()
    for _ in write_mp3(memory, np.array_split(signal, 3, axis=1), channels, rate, frames):
        pass
    heard, found_rate = decode(memory.getvalue())
    assert found_rate == heard_rate
    assert heard.shape == (channels, -(-frames * heard_rate // rate))
    time = np.arange(heard.shape[1]) / heard_rate
    wanted = np.interp(time, np.arange(frames) / rate, signal[0])[500:-500]
    scores = [np.dot(np.roll(heard[0], lag)[500:-500], wanted) for lag in range(-4, 5)]
    assert int(np.argmax(scores)) == 4
    assert scores[4] == pytest.approx(np.dot(wanted, wanted), rel=0.02)


@pytest.mark.parametrize("frames", [1, 2, 577, BLOCK_FRAMES, 2 * BLOCK_FRAMES + 1])
def test_a_listening_copy_has_every_frame(frames: int) -> None:
    heard, rate = decode(listening_copy(make_noise(frames, 2), 44_100))
    assert heard.shape == (2, frames) and rate == 44_100


def test_an_mp3_is_clipped_at_full_scale_and_not_below() -> None:
    hot = 3.0 * make_music(30_000, 2, 44_100, cutoff_hz=2_000)
    full = np.clip(hot, -1.0, 1.0)
    assert np.abs(hot).max() > 1.4
    assert listening_copy(hot, 44_100) == listening_copy(full, 44_100)
    assert listening_copy(full, 44_100) != listening_copy(0.999 * full, 44_100)
    assert listening_copy(full, 44_100) != listening_copy(np.clip(full, -0.98, 0.98), 44_100)


def test_a_disk_that_takes_no_more_mp3_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="could not write"):
        for _ in write_mp3(Path("/dev/full"), [make_noise(50_000, 2)] * 20, 2, 48_000, 1_000_000):
            pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows names are text")
@pytest.mark.parametrize("name", ["flac24", "aiff24"])
def test_names_that_are_no_utf_8_can_be_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / os.fsdecode(b"o\xff")
    folder.mkdir()
    path = folder / "x"
    with open_writer(path, FILE_FORMATS[name], sample_rate=48_000, channels=1, frames=100) as writer:
        writer.write(np.zeros((1, 100)))
    for _ in write_mp3(folder / "x.mp3", [np.zeros((1, 100))], 1, 48_000, 100):
        pass
    assert path.stat().st_size and (folder / "x.mp3").stat().st_size


@pytest.mark.parametrize("name", ["flac16", "flac24"])
def test_a_last_block_that_the_disk_does_not_take_is_an_error_of_the_system(
    tmp_path: Path, name: str
) -> None:
    writer = open_writer(tmp_path / "x", FILE_FORMATS[name], sample_rate=48_000, channels=1, frames=500)
    writer.write(np.rint(make_noise(500, 1) * 2**15) / 2**15)
    with pytest.raises(OSError, match="could not write"), room_for(100):
        writer.close()
