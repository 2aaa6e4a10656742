"""The writer: samples come back bit by bit from other readers, and the same samples give the same bytes."""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals import make_noise
from stembridge import wavfile
from stembridge.errors import ExactnessError
from stembridge.wavfile import Chunk

Signal = NDArray[np.float64]

BITS = {"PCM_16": 16, "PCM_24": 24, "FLOAT": 32, "DOUBLE": 64}
RATE = 47_952
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
FLOAT_GUID = bytes.fromhex("0300000000001000800000aa00389b71")


class Wav(NamedTuple):
    """What the standard library alone finds in a file."""

    chunks: list[Chunk]
    signal: Signal
    audio: bytes

    def chunk(self, name: bytes) -> bytes:
        (found,) = (chunk.data for chunk in self.chunks if chunk.name == name)
        return found


def split_riff(data: bytes) -> list[Chunk]:
    """Return the chunks of a RIFF file every byte of which is accounted for."""
    kind, length, form = struct.unpack_from("<4sI4s", data)
    assert (kind, form) == (b"RIFF", b"WAVE")
    assert length == len(data) - 8 and len(data) % 2 == 0
    chunks, offset = [], 12
    while offset < len(data):
        name, length = struct.unpack_from("<4sI", data, offset)
        body = data[offset + 8 : offset + 8 + length]
        assert len(body) == length
        offset += 8 + length + length % 2
        assert data[offset - length % 2 : offset] == bytes(length % 2)
        chunks.append(Chunk(name, body))
    assert offset == len(data)
    return chunks


def read_wav(path: Path) -> Wav:
    chunks = split_riff(path.read_bytes())
    (fmt,) = (chunk.data for chunk in chunks if chunk.name == b"fmt ")
    (audio,) = (chunk.data for chunk in chunks if chunk.name == b"data")
    tag, channels, rate, byte_rate, block_bytes, bits = struct.unpack_from("<HHIIHH", fmt)
    assert rate == RATE and bits % 8 == 0
    assert block_bytes == channels * bits // 8 and byte_rate == rate * block_bytes
    if tag == 0xFFFE:
        extra, valid_bits = struct.unpack_from("<HH", fmt, 16)
        assert extra == 22 == len(fmt) - 18 and valid_bits == bits
        tag = {PCM_GUID: 1, FLOAT_GUID: 3}[fmt[24:40]]
    elif tag == 3:
        assert fmt[16:] == b"\0\0"
    else:
        assert len(fmt) == 16
    width = bits // 8
    if tag == 3:
        values = list(struct.unpack(f"<{len(audio) // width}{ {4: 'f', 8: 'd'}[width] }", audio))
    else:
        ints = (
            int.from_bytes(audio[at : at + width], "little", signed=True)
            for at in range(0, len(audio), width)
        )
        values = [value / 2 ** (bits - 1) for value in ints]
    return Wav(chunks, np.array(values, np.float64).reshape(-1, channels).T, audio)


def make_signal(frames: int, channels: int, subtype: str) -> Signal:
    """Return samples that ``subtype`` holds, the outermost that it holds among them."""
    signal = make_noise(frames, channels, level=1.0)
    if subtype == "DOUBLE":
        ends = [-0.0, 5e-324, 1.7e308, -1 / 3]
    elif subtype == "FLOAT":
        signal = signal.astype(np.float32).astype(np.float64)
        ends = [-0.0, 2.0**-149, -3.4028234663852886e38, 1.5]
    else:
        scale = 2.0 ** (BITS[subtype] - 1)
        signal = np.floor(signal * scale) / scale
        ends = [-1.0, 1 - 1 / scale, -1 / scale, 0.0]
    ends = ends[: signal.size]
    signal.reshape(-1)[: len(ends)] = ends
    return signal


def write(path: Path, signal: Signal, subtype: str, block: int = 500, **more: Any) -> wavfile.WavWriter:
    channels, frames = signal.shape
    with wavfile.WavWriter(
        path,
        sample_rate=RATE,
        channels=channels,
        frames=frames,
        subtype=subtype,
        **more,
    ) as writer:
        for start in range(0, frames, block):
            writer.write(signal[:, start : start + block])
    return writer


@pytest.mark.parametrize("subtype", BITS)
@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("frames", [1, 2, 3, 17, 1_001])
def test_samples_come_back_from_other_readers(
    tmp_path: Path, subtype: str, channels: int, frames: int
) -> None:
    signal = make_signal(frames, channels, subtype)
    path = tmp_path / "x.wav"
    writer = write(path, signal, subtype)
    heard = read_wav(path)
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.frames, file.subtype) == (RATE, frames, subtype)
        # libsndfile calls WAVE_FORMAT_EXTENSIBLE a format of its own.
        assert file.format == ("WAVEX" if channels > 2 else "WAV")
        other = file.read(dtype="float64", always_2d=True).T
    for read in (heard.signal, other):
        assert np.array_equal(read, signal)
        assert np.array_equal(np.signbit(read), np.signbit(signal))
    data = path.read_bytes()
    assert writer.sha256 == hashlib.sha256(heard.audio).hexdigest()
    assert writer.sha256_file == hashlib.sha256(data).hexdigest()
    assert len(heard.audio) == frames * channels * BITS[subtype] // 8


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_integers_come_back_as_the_same_integers(tmp_path: Path, subtype: str) -> None:
    limit = 2 ** (BITS[subtype] - 1)
    ints = np.array([[-limit, limit - 1, -1, 0, 1, 1 - limit, limit // 2, -limit // 2, 0x55]])
    write(tmp_path / "x.wav", ints / limit, subtype)
    read = soundfile.read(tmp_path / "x.wav", dtype="int32")[0] >> (32 - BITS[subtype])
    assert read.tolist() == ints[0].tolist()


def test_packed_samples_are_the_top_bytes_of_each_word() -> None:
    words = np.array([[0x01234567, -0x80000000], [0x7FFFFFFF, -1]], np.int32)
    assert bytes(wavfile.pack_samples(words, "PCM_24")) == bytes.fromhex("452301000080ffff7fffffff")
    assert bytes(wavfile.pack_samples(words, "PCM_16")) == bytes.fromhex("23010080ff7fffff")
    assert bytes(wavfile.pack_samples(words.T, "PCM_16")) == bytes.fromhex("2301ff7f0080ffff")


@pytest.mark.parametrize("subtype", BITS)
def test_the_same_samples_give_the_same_bytes(tmp_path: Path, subtype: str) -> None:
    signal = make_signal(1_001, 3, subtype)
    chunks = (Chunk(b"bext", b"abc"), Chunk(b"cue ", b"abc"))
    for name, block in (("a", 100), ("b", 1_001), ("c", 1)):
        write(tmp_path / name, signal, subtype, block, chunks=chunks)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_odd_data_is_padded_outside_of_the_audio(tmp_path: Path) -> None:
    writer = write(tmp_path / "x.wav", make_signal(3, 1, "PCM_24"), "PCM_24")
    data = (tmp_path / "x.wav").read_bytes()
    assert data[-14:-10] == struct.pack("<I", 9) and data[-1] == 0
    assert writer.sha256 == hashlib.sha256(data[-10:-1]).hexdigest()


@pytest.mark.parametrize("subtype", BITS)
@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_fact_stands_in_every_format_but_plain_pcm(tmp_path: Path, subtype: str, channels: int) -> None:
    write(tmp_path / "x.wav", make_signal(17, channels, subtype), subtype)
    facts = [chunk.data for chunk in read_wav(tmp_path / "x.wav").chunks if chunk.name == b"fact"]
    is_plain_pcm = subtype.startswith("PCM") and channels <= 2
    assert facts == ([] if is_plain_pcm else [struct.pack("<I", 17)])


@pytest.mark.parametrize("subtype", BITS)
@pytest.mark.parametrize(
    ("channels", "mask"), [(3, 0x7), (4, 0x33), (6, 0x3F), (6, 0x60F), (8, 0x63F), (5, 0)]
)
def test_speaker_positions_are_named(tmp_path: Path, subtype: str, channels: int, mask: int) -> None:
    write(tmp_path / "x.wav", make_signal(17, channels, subtype), subtype, channel_mask=mask)
    assert struct.unpack_from("<I", read_wav(tmp_path / "x.wav").chunk(b"fmt "), 20)[0] == mask
    with soundfile.SoundFile(tmp_path / "x.wav") as file:
        assert (file.format, file.channels) == ("WAVEX", channels)
        # libsndfile's account of the header names the mask that it read.
        assert f"Channel Mask  : 0x{mask:X}" in file.extra_info


@given(
    chunks=st.lists(
        st.tuples(st.sampled_from([b"bext", b"iXML", b"LIST", b"smpl", b"acid"]), st.binary()), max_size=6
    ),
    channels=st.integers(1, 8),
    frames=st.integers(1, 9),
    subtype=st.sampled_from(list(BITS)),
)
def test_chunks_come_back_and_change_no_sample(
    tmp_path_factory: pytest.TempPathFactory,
    chunks: list[tuple[bytes, bytes]],
    channels: int,
    frames: int,
    subtype: str,
) -> None:
    folder = tmp_path_factory.mktemp("x")
    signal = make_signal(frames, channels, subtype)
    carried = [Chunk(*chunk) for chunk in chunks]
    bare = write(folder / "bare.wav", signal, subtype)
    full = write(folder / "full.wav", signal, subtype, chunks=carried)
    read = read_wav(folder / "full.wav")
    own = [chunk.name for chunk in read_wav(folder / "bare.wav").chunks]
    at = [chunk.name for chunk in read.chunks].index(b"data")
    leading = [chunk for chunk in carried if chunk.name in (b"bext", b"iXML")]
    assert [chunk for chunk in read.chunks[:at] if chunk.name not in own] == leading
    assert read.chunks[at + 1 :] == [chunk for chunk in carried if chunk.name not in (b"bext", b"iXML")]
    assert soundfile.info(folder / "full.wav").frames == frames
    assert read.audio == read_wav(folder / "bare.wav").audio
    assert bare.sha256 == full.sha256
    assert full.sha256_file == hashlib.sha256((folder / "full.wav").read_bytes()).hexdigest()


@pytest.mark.parametrize("subtype", BITS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_above_4_gib_the_header_is_rf64(tmp_path: Path, subtype: str, channels: int) -> None:
    width = BITS[subtype] // 8
    frames = (5 * 2**30) // (channels * width) | 1
    chunks = (Chunk(b"abcd", b"behind"), Chunk(b"bext", b"odd"))
    trailer = wavfile.encode_trailer(chunks)
    header = wavfile.encode_header(RATE, channels, frames, subtype, chunks=chunks)
    short = wavfile.encode_header(RATE, channels, 1, subtype, chunks=chunks)
    data_bytes = frames * channels * width
    padded_bytes = data_bytes + data_bytes % 2
    assert header[:20] == struct.pack("<4sI4s4sI", b"RF64", 0xFFFFFFFF, b"WAVE", b"ds64", 28)
    assert struct.unpack_from("<QQQI", header, 20) == (
        len(header) + padded_bytes + len(trailer) - 8,
        data_bytes,
        frames,
        0,
    )
    assert len(header) == len(short) and short[12:16] == b"JUNK"
    middle = short[48:-8].replace(
        struct.pack("<4sII", b"fact", 4, 1), struct.pack("<4sII", b"fact", 4, frames)
    )
    # libsndfile steps over no pad byte in RF64.
    assert header[48:-8] == middle.replace(b"bext\3\0\0\0odd", b"bext\4\0\0\0odd")
    assert header[-8:] == struct.pack("<4sI", b"data", 0xFFFFFFFF)
    path = tmp_path / "long.wav"
    last = make_signal(1, channels, subtype)
    write(tmp_path / "last.wav", last, subtype)
    with path.open("wb") as file:
        file.write(header)
        # Nothing but the last frame takes room on the disk.
        file.seek(len(header) + data_bytes - channels * width)
        file.write(read_wav(tmp_path / "last.wav").audio + bytes(data_bytes % 2) + trailer)
    assert path.stat().st_size == len(header) + padded_bytes + len(trailer)
    with soundfile.SoundFile(path) as file:
        assert (file.format, file.frames, file.subtype) == ("RF64", frames, subtype)
        file.seek(frames - 2)
        assert np.array_equal(file.read(2, always_2d=True).T, np.hstack([np.zeros((channels, 1)), last]))


@pytest.mark.parametrize("subtype", BITS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_rf64_begins_where_32_bits_end(subtype: str, channels: int) -> None:
    block_bytes = channels * BITS[subtype] // 8
    overhead = len(wavfile.encode_header(RATE, channels, 0, subtype)) - 8
    # The largest even RIFF length is 2^32 - 2.
    most = (2**32 - 2 - overhead) // block_bytes
    for frames, kind in ((most, b"RIFF"), (most + 1, b"RF64")):
        header = wavfile.encode_header(RATE, channels, frames, subtype)
        assert header[:4] == kind
    assert struct.unpack_from("<I", wavfile.encode_header(RATE, channels, most, subtype), 4)[0] >= (
        2**32 - 2 - block_bytes
    )


def test_above_2_32_frames_fact_leaves_the_number_to_ds64() -> None:
    header = wavfile.encode_header(RATE, 1, 2**32 + 5, "FLOAT")
    assert struct.pack("<4sII", b"fact", 4, 0xFFFFFFFF) in header
    assert struct.unpack_from("<Q", header, 36)[0] == 2**32 + 5


@pytest.mark.parametrize(("given_frames", "said"), [(1, "lacks 1 of"), (4, "holds 2 more than")])
def test_a_file_of_another_length_than_promised_is_refused(
    tmp_path: Path, given_frames: int, said: str
) -> None:
    with (
        pytest.raises(ExactnessError, match=f"'x.wav' {said} the frames"),
        wavfile.WavWriter(
            tmp_path / "x.wav", sample_rate=8_000, channels=1, frames=2, subtype="FLOAT"
        ) as writer,
    ):
        writer.write(np.zeros((1, given_frames)))


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        wavfile.WavWriter(path, sample_rate=8_000, channels=1, frames=2, subtype="FLOAT")
    assert path.read_bytes() == b"mine"


def test_a_second_close_does_nothing(tmp_path: Path) -> None:
    writer = write(tmp_path / "x.wav", make_signal(3, 1, "PCM_24"), "PCM_24")
    before, sha256 = (tmp_path / "x.wav").read_bytes(), writer.sha256_file
    writer.close()
    assert (tmp_path / "x.wav").read_bytes() == before and writer.sha256_file == sha256


def test_a_file_that_takes_a_byte_at_a_time_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Narrow(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:7])

    signal = make_signal(33, 2, "PCM_24")
    write(tmp_path / "wide.wav", signal, "PCM_24")
    monkeypatch.setattr(Path, "open", lambda path, mode, buffering: Narrow(path, mode))
    write(tmp_path / "narrow.wav", signal, "PCM_24")
    monkeypatch.undo()
    assert (tmp_path / "narrow.wav").read_bytes() == (tmp_path / "wide.wav").read_bytes()


def test_a_signal_is_written_whole(tmp_path: Path) -> None:
    signal = make_noise(17, 2).astype(np.float32)
    wavfile.write_wav(tmp_path / "x.wav", signal, RATE)
    assert np.array_equal(read_wav(tmp_path / "x.wav").signal, signal)
