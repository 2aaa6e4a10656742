"""MP3: the length is that of the frames that are there, whatever tags and guesses say."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from signals import make_music, write_float
from stembridge import audio_io
from stembridge.errors import SourceError
from stembridge.headers import mp3
from stembridge.types import Region

RATE = 44_100


@pytest.fixture(scope="module")
def music() -> NDArray[np.float64]:
    """Two seconds whose second half is silent: the first frame is far larger than the mean."""
    signal = make_music(2 * RATE, 2, RATE)
    signal[:, RATE:] = 0
    return signal


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory, music: NDArray[np.float64]) -> bytes:
    """A file with LAME's tag, as libsndfile's own encoder (LAME) writes it."""
    path = tmp_path_factory.mktemp("tagged") / "x.mp3"
    return write_float(path, music, RATE, "MPEG_LAYER_III", "MP3").read_bytes()


def first_frame_bytes(data: bytes) -> int:
    """Return the length of an MPEG-1 layer III frame at 44.1 kHz."""
    kilobits = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[(data[2] >> 4) - 1]
    return 144_000 * kilobits // RATE + (data[2] >> 1 & 1)


def untag(data: bytes) -> bytes:
    return data[first_frame_bytes(data) :]


def tag_frame(data: bytes, content: bytes) -> bytes:
    """Return a frame of 128 kbit/s in the form of those of ``data`` that holds a tag and no audio."""
    head = bytes([data[0], data[1] | 1, 9 << 4 | data[2] & 0x0C, data[3]])
    return (head + bytes(32) + content).ljust(417, b"\0")


def count_frames(data: bytes) -> int:
    at = frames = 0
    while at < len(data):
        at += first_frame_bytes(data[at : at + 4])
        frames += 1
    assert at == len(data)
    return frames


def decode(path: Path) -> NDArray[np.float64]:
    info = audio_io.probe(str(path))
    return np.concatenate(list(audio_io.read_blocks(info, Region(0, info.frames))), axis=1)


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        audio_io.probe(str(path))
    assert "\n" not in str(caught.value) and repr(str(path)) in caught.value.message
    return caught.value.message


def find_lag(heard: NDArray[np.float64], wanted: NDArray[np.float64]) -> int:
    """Return by how many frames ``heard`` is later than ``wanted``."""
    size = heard.shape[1] + wanted.shape[1]
    product = np.fft.rfft(heard[0], size) * np.conj(np.fft.rfft(wanted[0], size))
    at = int(np.argmax(np.fft.irfft(product, size)))
    return at if at < size // 2 else at - size


def test_a_tagged_file_has_its_exact_length_and_no_delay(
    tmp_path: Path, tagged: bytes, music: NDArray[np.float64]
) -> None:
    path = tmp_path / "x.mp3"
    for data in (tagged, b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + tagged, tagged + b"TAG" + bytes(125)):
        path.write_bytes(data)
        info = audio_io.probe(str(path))
        assert (info.frames, info.remarks, info.is_lossy) == (2 * RATE, (), True)
        assert find_lag(decode(path), music) == 0


def test_an_untagged_file_is_read_whole_and_says_what_it_lacks(
    tmp_path: Path, tagged: bytes, music: NDArray[np.float64]
) -> None:
    path = tmp_path / "x.mp3"
    data = untag(tagged)
    path.write_bytes(data)
    info = audio_io.probe(str(path))
    assert info.frames == 1152 * count_frames(data)
    assert soundfile.info(path).frames < info.frames, "libsndfile's own guess should be too short here"
    assert info.remarks == (mp3.NO_GAPLESS_TAG,)
    heard = decode(path)
    assert heard.shape[1] == info.frames
    # LAME's delay of 576 and the decoder's of 529.
    assert find_lag(heard, music) == 576 + 529
    part = np.concatenate(list(audio_io.read_blocks(info, Region(40_000, 30_000), 777)), axis=1)
    assert np.array_equal(part, heard[:, 40_000:70_000])


@pytest.mark.parametrize(
    "content",
    [
        b"Xing" + struct.pack(">I", 0),
        b"Info" + struct.pack(">II", 1, 77),
        b"Xing" + struct.pack(">IIII", 11, 77, 12_345, 50) + bytes(100),
        b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, 12_345, 77, 0, 1, 2, 1),
    ],
)
def test_a_tag_without_the_encoders_delay_is_none_and_makes_no_sound(
    tmp_path: Path, tagged: bytes, content: bytes
) -> None:
    plain, other = tmp_path / "plain.mp3", tmp_path / "other.mp3"
    plain.write_bytes(untag(tagged))
    other.write_bytes(tag_frame(tagged, content) + untag(tagged))
    assert audio_io.probe(str(other)).remarks == (mp3.NO_GAPLESS_TAG,)
    assert np.array_equal(decode(other), decode(plain))


@pytest.mark.parametrize("change", [-50, -1, 1, 50, 10**6, 2**32 - 1])
def test_a_tag_that_counts_wrongly_is_refused(tmp_path: Path, tagged: bytes, change: int) -> None:
    data = bytearray(tagged)
    at = data.index(b"Xing") + 8 if b"Xing" in data else data.index(b"Info") + 8
    there = struct.unpack_from(">I", data, at)[0]
    claimed = change if change == 2**32 - 1 else there + change
    struct.pack_into(">I", data, at, claimed)
    path = tmp_path / "x.mp3"
    path.write_bytes(data)
    assert f"header promises {claimed} MP3 frames, {there} are there" in refusal(path)


def test_a_tag_that_cuts_more_off_than_there_is_makes_no_endless_file(
    tmp_path: Path, tagged: bytes, music: NDArray[np.float64]
) -> None:
    path = write_float(tmp_path / "x.mp3", music[:, :2_000], RATE, "MPEG_LAYER_III", "MP3")
    data = bytearray(path.read_bytes())
    samples = 1152 * (count_frames(bytes(data)) - 1)
    # Twelve bits of delay and twelve of padding (Mp3 Info Tag revision 1).
    at = data.index(b"LAME") + 21
    for delay in (0, 1, 529, 576, 2_000, 4_095):
        for padding in (0, 1, 529, 1_152, 2_000, 4_095):
            data[at : at + 3] = (delay << 12 | padding).to_bytes(3, "big")
            path.write_bytes(data)
            if delay + padding >= samples:
                refusal(path)
            elif delay <= 2_000:
                info = audio_io.probe(str(path))
                assert samples - delay - max(padding, 529) == info.frames == decode(path).shape[1]
    data[at : at + 3] = (2_000 << 12 | 2_000).to_bytes(3, "big")
    path.write_bytes(data)
    assert f"at most {samples} are there" in refusal(path)


def test_a_cut_off_file_is_refused_where_its_tag_tells_and_else_remarked(
    tmp_path: Path, tagged: bytes
) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(tagged[:-1])
    assert "is truncated: header promises" in refusal(path)
    data = untag(tagged)
    last = count_frames(data) - 1
    path.write_bytes(data[:-1])
    info = audio_io.probe(str(path))
    assert info.frames == 1152 * last
    assert "ends within an MP3 frame" in info.remarks[1]
    assert decode(path).shape[1] == info.frames


def test_a_file_with_something_else_in_the_middle_is_refused(tmp_path: Path, tagged: bytes) -> None:
    path = tmp_path / "x.mp3"
    data = untag(tagged)
    at = first_frame_bytes(data)
    path.write_bytes(data[:at] + b"?" + data[at:])
    assert f"is damaged: no MP3 frame at byte {at}" in refusal(path)
    path.write_bytes(data + b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + data)
    assert f"is damaged: no MP3 frame at byte {len(data)}" in refusal(path)
    path.write_bytes(data + b"ID3\x03\0\0\0\0\0\x0a" + bytes(10))
    assert audio_io.probe(str(path)).frames == 1152 * count_frames(data)


@pytest.mark.parametrize(
    "appendix", [b"APETAGEX" + bytes(500), b"LYRICSBEGIN" + bytes(90), bytes(3), bytes(2000)]
)
def test_tags_at_the_end_are_no_audio(tmp_path: Path, tagged: bytes, appendix: bytes) -> None:
    path = tmp_path / "x.mp3"
    data = untag(tagged)
    path.write_bytes(data + appendix)
    assert audio_io.probe(str(path)).frames == 1152 * count_frames(data)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_every_rate_of_mp3_has_its_exact_length_with_and_without_a_tag(
    tmp_path: Path, rate: int, channels: int
) -> None:
    path = write_float(tmp_path / "x", make_music(rate + 77, channels, rate), rate, "MPEG_LAYER_III", "MP3")
    info = audio_io.probe(str(path))
    assert (info.frames, info.remarks) == (rate + 77, ())
    heard = decode(path)
    data = path.read_bytes()
    at = next(
        at
        for at in range(20, len(data))
        if data[at : at + 2] == data[:2] and data[at + 2] & 12 == data[2] & 12
    )
    path.write_bytes(data[at:])
    info = audio_io.probe(str(path))
    assert info.frames % (1152 if rate >= 32_000 else 576) == 0
    whole = decode(path)
    assert whole.shape[1] == info.frames >= rate + 77
    begin = find_lag(whole, heard)
    assert begin > 0 and np.abs(whole[:, begin : begin + rate] - heard[:, :rate]).max() < 1e-5


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"ID3\x03\0\0\0\0\0\x0a", 20),
        (b"ID3\x04\0\x10\0\0\0\x0a", 30),
        (b"ID3\x04\0\0\0\0\x01\x00", 138),
        (b"ID3\x04\0\0\x7f\x7f\x7f\x7f", 10 + 2**28 - 1),
        (b"ID3\x04\0\0\x80\0\0\0", 0),
        (b"ID3\x04\0\0\0\0", 0),
        (b"TAG\x04\0\0\0\0\0\0", 0),
    ],
)
def test_the_length_of_an_id3_tag_has_seven_bits_a_byte(head: bytes, size: int) -> None:
    assert mp3.skip_id3(head) == size


@pytest.mark.parametrize(
    ("head", "is_audio"),
    [
        ("fffb9064", True),
        ("fff3e8c4", True),
        ("fffd9004", True),  # layer II
        ("ffff1004", True),  # layer I
        ("fff15080", False),  # AAC in ADTS
        ("fffb0064", False),  # free format
        ("fffbf064", False),
        ("fffb9c64", False),
        ("ffeb9064", False),
        ("fe7b9064", False),
        ("fffb90", False),
    ],
)
def test_a_frame_of_mpeg_audio_is_known_by_its_header(head: str, is_audio: bool) -> None:
    assert mp3.is_mpeg_audio(bytes.fromhex(head)) == is_audio
