"""Audio in: exact samples from every format, and one line for every file that is none."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals import make_music, make_noise, to_ints, write_float, write_pcm
from stembridge import audio_io, stem_file
from stembridge.channel_layout import VORBIS_ORDERS, find_layout, mask_of
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


@settings(max_examples=60, deadline=None)
@given(
    container=st.sampled_from(["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "FLAC"]),
    bits=st.sampled_from([16, 24, 32]),
    channels=st.integers(1, 8),
    frames=st.integers(1, 9_000),
    rate=st.sampled_from([8_000, 22_050, 44_100, 47_952, 48_000, 88_200, 176_400, 192_000]),
    endian=st.sampled_from(["FILE", "LITTLE", "BIG"]),
)
def test_every_container_gives_every_channel_of_its_integers(
    tmp_path_factory: pytest.TempPathFactory,
    container: str,
    bits: int,
    channels: int,
    frames: int,
    rate: int,
    endian: str,
) -> None:
    path = tmp_path_factory.mktemp("any") / "x"
    bits = min(bits, 24) if container == "FLAC" else bits
    endian = "FILE" if container in ("FLAC", "RF64", "WAVEX", "W64") else endian
    ints = to_ints(make_noise(frames, channels, level=1.0, seed=frames), bits)
    words = (ints << (32 - bits)).astype(np.int32)
    soundfile.write(path, words.T, rate, subtype=f"PCM_{bits}", format=container, endian=endian)
    info = audio_io.probe(str(path))
    assert (info.frames, info.channels, info.sample_rate, info.grid_bits) == (
        frames,
        channels,
        rate,
        bits - 1,
    )
    assert (info.is_lossy, info.read_path, info.remarks) == (False, str(path), ())
    blocks = list(audio_io.read_int_blocks(info, Region(0, frames), bits - 1, 1_000))
    assert np.array_equal(np.concatenate(blocks, axis=1), ints)
    assert sorted(index for group in info.groups for index in group) == list(range(channels))


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF"])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_every_container_gives_its_floats_bit_by_bit(tmp_path: Path, container: str, subtype: str) -> None:
    signal = make_noise(3_000, 6) * 4
    signal[5, :3] = [1e-42, -0.0, 3.5]
    signal = signal.astype(np.float32).astype(np.float64)
    assert (
        read_all(write_float(tmp_path / "x", signal, RATE, subtype, container)).tobytes() == signal.tobytes()
    )


@pytest.mark.parametrize("container", ["WAV", "AIFF", "CAF", "FLAC", "W64"])
@pytest.mark.parametrize("channels", range(1, 9))
def test_without_speakers_in_the_file_their_number_says_which_belong_together(
    tmp_path: Path, container: str, channels: int
) -> None:
    info = audio_io.probe(
        str(write_pcm(tmp_path / "x", to_ints(make_noise(99, channels), 16), RATE, 16, container))
    )
    assert info.groups == find_layout(channels).groups
    assert find_layout(channels, info.channel_mask) == find_layout(channels)


FIVE_ONE_SIDE = mask_of(["FL", "FR", "FC", "LFE", "SL", "SR"])


def extensible_fmt(channels: int, mask: int) -> bytes:
    """Return what stands in a fmt chunk of 16-bit WAVE_FORMAT_EXTENSIBLE (mmreg.h)."""
    head = struct.pack("<HHIIHH", 0xFFFE, channels, RATE, RATE * channels * 2, channels * 2, 16)
    return head + struct.pack("<HHIH", 22, 16, mask, 1) + bytes.fromhex("000000001000800000aa00389b71")


@pytest.mark.parametrize(
    ("speakers", "groups"),
    [
        ("FL FR FC LFE SL SR", ((0, 1), (2,), (3,), (4, 5))),
        ("FL FR TFL TFC TFR BC", ((0, 1), (2,), (3, 5), (4,))),
        ("FL FR", ((0, 1), (2,), (3,), (4,), (5,))),
    ],
)
def test_the_speakers_of_a_wav_are_read(
    tmp_path: Path, speakers: str, groups: tuple[tuple[int, ...], ...]
) -> None:
    samples = to_ints(make_noise(50, 6), 16).astype("<i2").T.tobytes()
    fmt = extensible_fmt(6, mask_of(speakers.split()))
    body = b"WAVE" + struct.pack("<4sI", b"fmt ", 40) + fmt + struct.pack("<4sI", b"data", 600) + samples
    guid = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    wave64 = (
        bytes.fromhex("726966662e91cf11a5d628db04c10000")
        + struct.pack("<Q", 40 + 64 + 24 + 600)
        + b"wave" + guid + b"fmt " + guid + struct.pack("<Q", 64) + fmt
        + b"data" + guid + struct.pack("<Q", 624) + samples
    )  # fmt: skip
    for name, data in (("wav", struct.pack("<4sI", b"RIFF", len(body)) + body), ("w64", wave64)):
        path = tmp_path / name
        path.write_bytes(data)
        info = audio_io.probe(str(path))
        assert (info.channel_mask, info.groups) == (mask_of(speakers.split()), groups)
        assert read_all(path).shape == (6, 50)


def test_the_speakers_of_a_flac_are_read_from_its_comment(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.flac", to_ints(make_noise(50, 6), 16), RATE, 16, "FLAC")
    data = path.read_bytes()
    comment = b"waveformatextensible_channel_mask=0x%X" % FIVE_ONE_SIDE
    body = struct.pack("<I", 0) + struct.pack("<II", 1, len(comment)) + comment
    block = b"\x04" + len(body).to_bytes(3, "big") + body
    # Between STREAMINFO and the comments that are there, of which the first counts.
    path.write_bytes(data[:42] + block + data[42:])
    assert audio_io.probe(str(path)).channel_mask == FIVE_ONE_SIDE
    assert audio_io.probe(str(path)).groups == ((0, 1), (2,), (3,), (4, 5))


def with_core_audio_layout(data: bytes, container: str, tag: int, bitmap: int) -> bytes:
    """Return an AIFF or CAF file with a chunk that names its speakers."""
    layout = struct.pack(">III", tag, bitmap, 0)
    if container == "CAF":
        at = data.index(b"free")
        return data[:at] + struct.pack(">4sQ", b"chan", 12) + layout + data[at:]
    at = data.index(b"SSND")
    return data[:at] + struct.pack(">4sI", b"CHAN", 12) + layout + data[at:]


@pytest.mark.parametrize("container", ["AIFF", "CAF"])
def test_apples_channel_layouts_are_read(tmp_path: Path, container: str) -> None:
    ints = to_ints(make_noise(500, 6), 16)
    data = write_pcm(tmp_path / "x", ints, RATE, 16, container).read_bytes()
    path = tmp_path / "y"
    path.write_bytes(with_core_audio_layout(data, container, 1 << 16, FIVE_ONE_SIDE))
    info = audio_io.probe(str(path))
    assert (info.channel_mask, info.channel_order) == (FIVE_ONE_SIDE, ())
    # MPEG 5.1 C: L C R Ls Rs LFE.
    path.write_bytes(with_core_audio_layout(data, container, 123 << 16 | 6, 0))
    assert audio_io.probe(str(path)).groups == ((0, 1), (2,), (3,), (4, 5))
    assert np.array_equal(read_all(path), ints[[0, 2, 1, 5, 3, 4]] / 2.0**15)
    # A layout of another number of channels says nothing, nor does one that nobody has written down.
    for tag in (113 << 16 | 3, 200 << 16 | 6):
        path.write_bytes(with_core_audio_layout(data, container, tag, 0))
        assert audio_io.probe(str(path)).channel_mask == mask_of(["FL", "FR", "FC", "LFE", "BL", "BR"])
        assert np.array_equal(read_all(path), ints / 2.0**15)


@pytest.mark.parametrize("channels", range(1, 9))
def test_vorbis_channels_come_in_wave_order(tmp_path: Path, channels: int) -> None:
    rate = 48_000
    speakers = VORBIS_ORDERS[channels]
    # Low enough for the channel of low frequencies.
    pitch_hz = {name: 60 + 20 * index for index, name in enumerate(find_layout(channels).speakers)}
    time = np.arange(rate) / rate
    tones = np.array([0.25 * np.sin(2 * np.pi * pitch_hz[name] * time) for name in speakers])
    path = write_float(tmp_path / "x.ogg", tones, rate, "VORBIS", "OGG")
    spectrum = np.abs(np.fft.rfft(read_all(path), axis=1))
    assert list(np.argmax(spectrum, axis=1)) == sorted(pitch_hz.values())
    info = audio_io.probe(str(path))
    assert find_layout(channels, info.channel_mask) == find_layout(channels)


@pytest.mark.parametrize("mapping", [1, 255])
def test_opus_channels_come_in_wave_order_where_they_have_speakers(tmp_path: Path, mapping: int) -> None:
    rate = 48_000
    time = np.arange(rate) / rate
    tones = np.array([0.25 * np.sin(2 * np.pi * pitch_hz * time) for pitch_hz in (200, 300, 400)])
    path = write_float(tmp_path / "x.opus", tones, rate, "OPUS", "OGG")
    data = bytearray(path.read_bytes())
    assert data[28 + 18] == 1
    data[28 + 18] = mapping
    head = bytearray(data[: 27 + 1 + data[27]])
    head[22:26] = bytes(4)
    data[22:26] = struct.pack("<I", ogg_checksum(bytes(head)))
    path.write_bytes(data)
    spectrum = np.abs(np.fft.rfft(read_all(path), axis=1))
    assert list(np.argmax(spectrum, axis=1)) == ([200, 400, 300] if mapping == 1 else [200, 300, 400])


def ogg_checksum(data: bytes) -> int:
    """Return Ogg's CRC (RFC 3533, section 6)."""
    crc = 0
    for octet in data:
        crc ^= octet << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    return crc


@pytest.mark.parametrize(
    ("subtype", "container"),
    [
        *[(subtype, "WAV") for subtype in ("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32")],
        *[("ULAW", container) for container in ("AIFF", "CAF", "W64", "RF64")],
    ],
)
def test_telephone_codecs_are_lossy_and_decoded_exactly(tmp_path: Path, subtype: str, container: str) -> None:
    path = write_float(tmp_path / "x", make_noise(4_001, 1), 8_000, subtype, container)
    info = audio_io.probe(str(path))
    assert info.is_lossy and info.frames >= 4_001
    assert np.array_equal(read_all(path)[0], soundfile.read(path)[0])


def test_tags_are_read(tmp_path: Path) -> None:
    for container, subtype in (("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", "PCM_16")):
        path = tmp_path / "x"
        with soundfile.SoundFile(path, "w", 48_000, 1, subtype=subtype, format=container) as file:
            file.title, file.artist = "Tïtle あ", "Somebody"
            if container != "AIFF":
                file.album, file.date, file.genre, file.tracknumber = "Album", "2020", "Noise", "7"
            file.write(make_noise(4_000, 1).T)
        tags = audio_io.read_tags(str(path))
        assert (tags["title"], tags["artist"]) == ("Tïtle あ", "Somebody")
        if container != "AIFF":
            assert (tags["album"], tags["date"], tags["genre"], tags["tracknumber"]) == (
                *("Album", "2020", "Noise", "7"),
            )
        assert all(tags.values())


def test_a_file_without_tags_has_none(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.aiff", to_ints(make_noise(9, 1), 16), RATE, 16, "AIFF")
    assert audio_io.read_tags(str(path)) == {}


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "M4A"),
        (bytes.fromhex("fff15080047ffc"), "AAC"),
        (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + bytes.fromhex("fff95080047ffc"), "AAC"),
        (b"wvpk" + bytes(28), "WavPack"),
        (b"caff\0\x01\0\0desc" + struct.pack(">Qd4s", 32, 44_100.0, b"alac"), "ALAC in CAF"),
    ],
)
def test_what_only_ffmpeg_reads_is_refused_by_its_kind(tmp_path: Path, head: bytes, kind: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(head + bytes(2_000))
    error = refusal(path)
    assert f"is {kind}, which only ffmpeg reads" in error.message and "ffmpeg" in error.hint


def test_apple_lossless_is_not_left_to_libsndfile(tmp_path: Path) -> None:
    ints = to_ints(make_noise(9_000, 2, level=1.0), 24)
    path = tmp_path / "x.caf"
    soundfile.write(path, (ints << 8).astype(np.int32).T, RATE, subtype="ALAC_24", format="CAF")
    decoded = soundfile.read(path, dtype="int32")[0].T >> 8
    assert not np.array_equal(decoded, ints), "libsndfile decodes this now: it may read it again"
    assert "is ALAC in CAF" in refusal(path).message


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
