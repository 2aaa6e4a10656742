"""Headers that lie: a refusal in one line or the right samples, never silently shorter audio."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from signals import make_noise, to_ints, write_float, write_pcm
from stembridge import audio_io
from stembridge.errors import SourceError
from stembridge.headers import streams
from stembridge.headers.chunks import W64_RIFF, read_aiff, read_caf, read_riff, read_w64
from stembridge.headers.kind import find_kind_of
from stembridge.headers.streams import read_flac
from stembridge.types import Region

RATE = 44_100
FRAMES = 20_000
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")

Patch = Callable[[bytearray], None]


@pytest.fixture(scope="module")
def ints() -> NDArray[np.int64]:
    return to_ints(make_noise(FRAMES, 2, level=0.9), 16)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, ints: NDArray[np.int64]) -> dict[str, bytes]:
    """One 16-bit stereo file of each container, as bytes."""
    folder = tmp_path_factory.mktemp("originals")
    containers = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "FLAC")
    return {name: write_pcm(folder / name, ints, RATE, 16, name).read_bytes() for name in containers}


def read_ints(path: Path) -> NDArray[np.int64]:
    info = audio_io.probe(str(path))
    assert info.grid_bits is not None
    blocks = list(audio_io.read_int_blocks(info, Region(0, info.frames), info.grid_bits))
    return np.concatenate(blocks, axis=1)


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        info = audio_io.probe(str(path))
        for _ in audio_io.read_blocks(info, Region(0, info.frames)):
            pass
    error = caught.value
    assert "\n" not in str(error) and error.hint and repr(str(path)) in error.message
    return error.message


def put(layout: str, value: int, name: bytes, distance: int = 4) -> Patch:
    """Return what writes ``value`` at ``distance`` bytes from the first ``name``."""

    def patch(data: bytearray) -> None:
        struct.pack_into(layout, data, data.index(name) + distance, value)

    return patch


def flac_total(frames: int) -> Patch:
    def patch(data: bytearray) -> None:
        at = data.index(b"fLaC") + 18
        word = struct.unpack_from(">Q", data, at)[0]
        struct.pack_into(">Q", data, at, word & ~((1 << 36) - 1) | frames)

    return patch


BYTES = FRAMES * 4
TOO_LARGE, ZERO, HALF = 10**12, 0, BYTES // 2


@pytest.mark.parametrize(
    ("container", "patch", "words"),
    [
        ("WAV", put("<I", 0xFFFFFFF0, b"data"), "promises 4294967280 bytes of audio, 80000 are there"),
        ("WAV", put("<I", BYTES + 1, b"data"), "promises 80001 bytes of audio, 80000 are there"),
        ("WAV", put("<I", 0, b"data"), "promises 0 bytes of audio, 80000 more are there"),
        ("WAV", put("<I", HALF, b"data"), "promises 40000 bytes of audio, 40000 more are there"),
        ("RF64", put("<Q", TOO_LARGE, b"ds64", 16), "promises 1000000000000 bytes of audio, 80000 are there"),
        ("RF64", put("<Q", 2**63, b"ds64", 16), "bytes of audio, 80000 are there"),
        ("RF64", put("<Q", 2**64 - 1, b"ds64", 16), "bytes of audio, 80000 are there"),
        ("RF64", put("<Q", 0, b"ds64", 16), "promises 0 bytes of audio, 80000 more are there"),
        ("RF64", put("<Q", HALF, b"ds64", 16), "promises 40000 bytes of audio, 40000 more are there"),
        ("W64", put("<Q", TOO_LARGE, b"data", 16), "bytes of audio, 80000 are there"),
        ("W64", put("<Q", 2**63, b"data", 16), "bytes of audio, 80000 are there"),
        ("W64", put("<Q", 0, b"data", 16), "promises 0 bytes of audio, 80000 are there"),
        ("W64", put("<Q", 24, b"data", 16), "promises 0 bytes of audio, 80000 are there"),
        ("W64", put("<Q", 24 + HALF, b"data", 16), "promises 40000 bytes of audio, 80000 are there"),
        ("AIFF", put(">I", 0xFFFFFFFF, b"SSND"), "promises 4294967287 bytes of audio, 80000 are there"),
        ("AIFF", put(">I", 0, b"SSND"), "promises 0 bytes of audio, 80000 more are there"),
        ("AIFF", put(">I", 8 + HALF, b"SSND"), "promises 40000 bytes of audio, 40000 more are there"),
        ("AIFF", put(">I", 400, b"SSND", 8), "promises 20000 frames, 19900 are there"),
        ("AIFF", put(">I", 0, b"COMM", 10), "promises 0 frames, 20000 are there"),
        ("AIFF", put(">I", FRAMES - 1, b"COMM", 10), "promises 19999 frames, 20000 are there"),
        ("AIFF", put(">I", 2**32 - 1, b"COMM", 10), "promises 4294967295 frames, 20000 are there"),
        ("CAF", put(">Q", TOO_LARGE, b"data"), "promises 999999999996 bytes of audio, 80000 are there"),
        ("CAF", put(">q", -5, b"data"), "bytes of audio, 80000 are there"),
        ("CAF", put(">Q", 0, b"data"), "promises 0 bytes of audio, 80000 more are there"),
        ("CAF", put(">Q", 4 + HALF, b"data"), "promises 40000 bytes of audio, 40000 more are there"),
        ("FLAC", flac_total(FRAMES - 1), "promises 19999 frames, 20000 are there"),
        ("FLAC", flac_total(1), "promises 1 frames, 20000 are there"),
        ("FLAC", flac_total(FRAMES + 1), "promises 20001 frames, 20000 are there"),
        ("FLAC", flac_total(2**36 - 1), "promises 68719476735 frames, 20000 are there"),
    ],
)
def test_a_header_that_lies_about_the_length_is_refused(
    tmp_path: Path, originals: dict[str, bytes], container: str, patch: Patch, words: str
) -> None:
    data = bytearray(originals[container])
    patch(data)
    path = tmp_path / "lie"
    path.write_bytes(data)
    assert words in refusal(path)


@pytest.mark.parametrize(
    ("container", "patch"),
    [
        ("WAV", put("<I", 0xFFFFFFFF, b"data")),
        ("WAV", put("<I", 0, b"RIFF")),
        ("CAF", put(">q", -1, b"data")),
        ("FLAC", flac_total(0)),
        ("RF64", put("<Q", 0, b"ds64", 24)),
        ("RF64", put("<Q", 10**12, b"ds64", 24)),
        ("RF64", put("<Q", 10**12, b"ds64", 8)),
    ],
)
def test_a_length_left_open_is_found(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64], container: str, patch: Patch
) -> None:
    data = bytearray(originals[container])
    patch(data)
    path = tmp_path / "open"
    path.write_bytes(data)
    assert np.array_equal(read_ints(path), ints)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "FLAC"])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_a_truncated_file_of_any_container_is_refused(
    tmp_path: Path, originals: dict[str, bytes], container: str, kept: float
) -> None:
    data = originals[container]
    path = tmp_path / "short"
    path.write_bytes(data[: int(len(data) * kept)])
    refusal(path)
    # And so it is where nobody knows how much there was.
    if container == "FLAC":
        shortened = bytearray(data[: int(len(data) * kept)])
        flac_total(0)(shortened)
        path.write_bytes(shortened)
        assert "is damaged or cut off at its end" in refusal(path)


@pytest.mark.parametrize(
    ("container", "appendix"),
    [
        ("WAV", b"LIST" + struct.pack("<I", 40) + bytes(40)),
        ("WAV", b"TAG" + b"title".ljust(125)),
        ("WAV", bytes(5_000)),
        ("RF64", b"LIST" + struct.pack("<I", 40) + bytes(40)),
        ("AIFF", b"ANNO" + struct.pack(">I", 40) + bytes(40)),
        ("CAF", b"info" + struct.pack(">Q", 41) + bytes(41)),
        ("W64", b"list" + W64_TAIL + struct.pack("<Q", 24 + 400) + bytes(400)),
        ("FLAC", b"TAG" + b"title".ljust(125)),
    ],
)
def test_what_follows_the_audio_is_no_audio(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64], container: str, appendix: bytes
) -> None:
    path = tmp_path / "more"
    path.write_bytes(originals[container] + appendix)
    assert np.array_equal(read_ints(path), ints)


def test_chunks_behind_an_odd_length_are_found_with_and_without_the_byte_between(tmp_path: Path) -> None:
    ints = to_ints(make_noise(777, 1), 24)
    data = write_pcm(tmp_path / "x.wav", ints, RATE, 24).read_bytes()[: 44 + 777 * 3]
    for between in (b"", b"\0"):
        path = tmp_path / "odd.wav"
        path.write_bytes(data + between + b"LIST" + struct.pack("<I", 40) + b"\1" * 40)
        assert np.array_equal(read_ints(path), ints)
    path.write_bytes(data + b"\1" * 48)
    assert "promises 2331 bytes of audio, 48 more are there" in refusal(path)


@pytest.mark.parametrize(("container", "order"), [("WAV", "<"), ("AIFF", ">")])
def test_a_chunk_of_an_odd_length_has_a_byte_behind_it(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64], container: str, order: str
) -> None:
    data = originals[container]
    path = tmp_path / "odd"
    path.write_bytes(data[:12] + struct.pack(f"{order}4sI", b"abcd", 5) + b"12345\0" + data[12:-400])
    assert "is truncated: header promises 80000 bytes of audio, 79600 are there" in refusal(path)
    path.write_bytes(data[:12] + struct.pack(f"{order}4sI", b"abcd", 5) + b"12345\0" + data[12:])
    assert np.array_equal(read_ints(path), ints)


def test_bw64_is_read_as_rf64_is(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64]
) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"BW64" + originals["RF64"][4:])
    assert np.array_equal(read_ints(path), ints)
    info = audio_io.probe(str(path))
    part = np.concatenate(list(audio_io.read_int_blocks(info, Region(7_000, 900), 15, 100)), axis=1)
    assert np.array_equal(part, ints[:, 7_000:7_900])


def test_a_wav_above_4_gib_is_refused_because_its_lengths_cannot_be_right(
    tmp_path: Path, originals: dict[str, bytes]
) -> None:
    path = tmp_path / "x.wav"
    data = bytearray(originals["WAV"])
    for length in (BYTES, 0xFFFFFFFF):
        put("<I", length, b"data")(data)
        path.write_bytes(data)
        os.truncate(path, 2**32 + 100_000)
        assert "more than a WAV header can count" in refusal(path)
    os.truncate(path, 2**32)
    assert audio_io.probe(str(path)).frames == (2**32 - 44) // 4
    path.unlink()


def test_flac_behind_an_id3_tag_and_of_an_open_length_is_read(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64]
) -> None:
    data = bytearray(originals["FLAC"])
    flac_total(0)(data)
    path = tmp_path / "x.flac"
    path.write_bytes(b"ID3\x03\0\0\0\0\0\x14" + bytes(20) + data + b"TAG" + b"title".ljust(125))
    assert np.array_equal(read_ints(path), ints)


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(1, 40_000),
    channels=st.integers(1, 8),
    bits=st.sampled_from([16, 24]),
    rate=st.sampled_from([8_000, 22_050, 44_056, 48_000, 96_000, 192_000]),
    seed=st.integers(0, 99),
)
def test_the_length_of_a_flac_is_found_in_its_last_frame(
    tmp_path_factory: pytest.TempPathFactory, frames: int, channels: int, bits: int, rate: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("flac") / "x.flac"
    noise = make_noise(frames, channels, seed=seed, level=0.7)
    ints = to_ints(noise * (np.arange(frames) % 7000 > 2000), bits)
    data = bytearray(write_pcm(path, ints, rate, bits, "FLAC").read_bytes())
    assert np.array_equal(read_ints(path), ints)
    flac_total(0)(data)
    path.write_bytes(data)
    assert np.array_equal(read_ints(path), ints)
    flac_total(frames + 1)(data)
    path.write_bytes(data)
    assert f"promises {frames + 1} frames, {frames} are there" in refusal(path)


def flac_crc(data: bytes, polynomial: int, width: int) -> bytes:
    crc = 0
    for octet in data:
        crc ^= octet << (width - 8)
        for _ in range(8):
            crc = crc << 1 ^ polynomial if crc & 1 << (width - 1) else crc << 1
        crc &= (1 << width) - 1
    return crc.to_bytes(width // 8, "big")


def test_a_flac_of_frames_of_many_sizes_is_read(tmp_path: Path) -> None:
    """Frames that are numbered by their first sample (RFC 9639, section 9.1), each of one value."""
    frames, first, wanted = b"", 0, []
    for samples, value in ((300, 5), (4000, -7), (17, 9)):
        # Sync, variable sizes; size in 16 bits, rate as in STREAMINFO; mono, 16 bits.
        number = chr(first).encode()
        head = b"\xff\xf9\x70\x08" + number + (samples - 1).to_bytes(2, "big")
        head += flac_crc(head, 0x07, 8)
        body = head + b"\0" + value.to_bytes(2, "big", signed=True)
        frames += body + flac_crc(body, 0x8005, 16)
        wanted += [value] * samples
        first += samples
    info = (
        struct.pack(">HH", 16, 4000) + bytes(6) + (RATE << 44 | 0 << 41 | 15 << 36 | 4317).to_bytes(8, "big")
    )
    for total in (4317, 0):
        data = bytearray(b"fLaC\x80\0\0\x22" + info + bytes(16) + frames)
        flac_total(total)(data)
        path = tmp_path / "x.flac"
        path.write_bytes(data)
        assert read_ints(path).tolist() == [wanted]


def ogg_pages(data: bytes) -> list[int]:
    """Return the offsets of all pages."""
    offsets, at = [], 0
    while at < len(data):
        assert data[at : at + 4] == b"OggS"
        offsets.append(at)
        segments = data[at + 26]
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    return offsets


def checksum(data: bytes) -> int:
    """Return Ogg's CRC (RFC 3533, section 6), bit by bit."""
    crc = 0
    for octet in data:
        crc ^= octet << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    return crc


def repage(data: bytes, offset: int, layout: str, at: int, value: int) -> bytes:
    """Return ``data`` with one field of its last page changed, and the checksum made right."""
    page = bytearray(data[offset:])
    struct.pack_into(layout, page, at, value)
    struct.pack_into("<I", page, 22, 0)
    struct.pack_into("<I", page, 22, checksum(bytes(page)))
    return data[:offset] + bytes(page)


@pytest.fixture(scope="module")
def vorbis(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("vorbis") / "x.ogg"
    return write_float(path, make_noise(200_000, 2), RATE, "VORBIS", "OGG").read_bytes()


@pytest.mark.parametrize("granule", [0, -1, 100_000, 10**12, 2**63 - 1])
def test_an_ogg_whose_last_page_lies_is_refused(tmp_path: Path, vorbis: bytes, granule: int) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(repage(vorbis, ogg_pages(vorbis)[-1], "<q", 6, granule))
    assert f"promises an end at sample {granule}" in refusal(path)


def test_an_ogg_that_holds_several_streams_is_refused(tmp_path: Path, vorbis: bytes) -> None:
    path = tmp_path / "x.ogg"
    other = write_float(path, make_noise(50_000, 2), RATE, "VORBIS", "OGG").read_bytes()
    for second in (vorbis, other):
        path.write_bytes(vorbis + second)
        assert "more than one Ogg stream" in refusal(path)


def test_an_ogg_with_a_page_of_another_stream_is_refused(tmp_path: Path, vorbis: bytes) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(repage(vorbis, ogg_pages(vorbis)[-1], "<I", 14, 12_345))
    assert "more than one Ogg stream" in refusal(path)


def test_an_ogg_with_a_hole_or_something_else_in_it_is_refused(tmp_path: Path, vorbis: bytes) -> None:
    path = tmp_path / "x.ogg"
    pages = ogg_pages(vorbis)
    path.write_bytes(vorbis[: pages[6]] + vorbis[pages[7] :])
    assert "is damaged: Ogg page 6 is missing" in refusal(path)
    path.write_bytes(vorbis[: pages[6]] + b"?" + vorbis[pages[6] :])
    assert f"is damaged: no Ogg page at byte {pages[6]}" in refusal(path)
    for cut in (pages[6] + 3, pages[6] + 26, pages[6] + 40, pages[7] - 1):
        path.write_bytes(vorbis[:cut])
        refusal(path)


def test_an_ogg_cut_off_between_pages_is_read_with_a_remark(tmp_path: Path, vorbis: bytes) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(vorbis)
    assert audio_io.probe(str(path)).remarks == ()
    path.write_bytes(vorbis[: ogg_pages(vorbis)[-1]])
    info = audio_io.probe(str(path))
    assert "may have been cut off" in info.remarks[0]
    assert sum(block.shape[1] for block in audio_io.read_blocks(info, Region(0, info.frames))) == info.frames


def test_what_others_append_to_an_ogg_is_let_be(tmp_path: Path, vorbis: bytes) -> None:
    path = tmp_path / "x.ogg"
    path.write_bytes(vorbis + b"TAG" + bytes(125))
    assert audio_io.probe(str(path)).frames == 200_000


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 24_000, 48_000])
def test_opus_is_decoded_at_48_khz_whatever_the_encoder_was_given(tmp_path: Path, rate: int) -> None:
    signal = np.sin(np.arange(rate) * 440 * 2 * np.pi / rate)[np.newaxis] * 0.5
    path = write_float(tmp_path / "x.opus", signal, rate, "OPUS", "OGG")
    assert soundfile.info(path).samplerate == rate
    info = audio_io.probe(str(path))
    assert (info.sample_rate, info.frames) == (48_000, 48_000)
    heard = np.concatenate(list(audio_io.read_blocks(info, Region(0, 48_000))), axis=1)[0]
    wanted = np.sin(np.arange(48_000) * 440 * 2 * np.pi / 48_000) * 0.5
    middle = slice(10_000, 38_000)
    assert np.abs(heard[middle] - wanted[middle]).max() < 0.1


def test_containers_that_are_not_listed_are_not_opened(tmp_path: Path) -> None:
    for container in ("AU", "VOC", "NIST", "MAT5", "SVX"):
        path = write_pcm(tmp_path / "x", to_ints(make_noise(100, 1), 16), RATE, 16, container)
        assert "cannot be read as audio: its first bytes are none of a known format" in refusal(path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_bytes_bring_down_the_reader(
    tmp_path_factory: pytest.TempPathFactory, originals: dict[str, bytes], vorbis: bytes, data: st.DataObject
) -> None:
    """Flip bytes of the first 600, cut anywhere: what is accepted can be read to its promised end."""
    files = {**originals, "OGG": vorbis}
    damaged = bytearray(files[data.draw(st.sampled_from(sorted(files)))])
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4)):
        damaged[at] = value
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(1, len(damaged) - 1)) :]
    path = tmp_path_factory.mktemp("damaged") / "x"
    path.write_bytes(damaged)
    try:
        info = audio_io.probe(str(path))
        read = sum(block.shape[1] for block in audio_io.read_blocks(info, Region(0, info.frames)))
    except SourceError as error:
        assert "\n" not in str(error)
    else:
        assert read == info.frames


def ape_tag(*, has_header: bool) -> bytes:
    """Return an APEv2 tag of one item (footer as in the APEv2 specification), with or without its header."""
    item = struct.pack("<II", 5, 0) + b"Title\0Night"
    ends = struct.pack("<8sIII", b"APETAGEX", 2000, len(item) + 32, 1)
    flags = 1 << 31 if has_header else 0
    head = ends + struct.pack("<I8x", flags | 1 << 29) if has_header else b""
    return head + item + ends + struct.pack("<I8x", flags)


@pytest.mark.parametrize("total", [FRAMES, 0])
@pytest.mark.parametrize("has_header", [False, True])
@pytest.mark.parametrize("behind", [b"", b"TAG" + b"title".ljust(125)])
def test_tags_at_the_end_of_a_flac_are_no_audio(
    tmp_path: Path,
    originals: dict[str, bytes],
    ints: NDArray[np.int64],
    total: int,
    has_header: bool,
    behind: bytes,
) -> None:
    data = bytearray(originals["FLAC"])
    flac_total(total)(data)
    path = tmp_path / "x.flac"
    path.write_bytes(data + ape_tag(has_header=has_header) + behind)
    assert np.array_equal(read_ints(path), ints)
    path.write_bytes(data[:-1] + ape_tag(has_header=has_header) + behind)
    assert "is damaged or cut off at its end" in refusal(path)


@pytest.mark.parametrize("lost", [1, 2, 100, 5_000])
@pytest.mark.parametrize("total", [FRAMES, 0, 10**9, 7 * 10**10 % 2**36])
def test_a_flac_without_its_end_is_refused_at_the_door(
    tmp_path: Path, originals: dict[str, bytes], lost: int, total: int
) -> None:
    data = bytearray(originals["FLAC"][:-lost])
    flac_total(total)(data)
    path = tmp_path / "x.flac"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="is damaged or cut off at its end"):
        audio_io.probe(str(path))


def test_zeros_behind_a_flac_are_no_audio(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64]
) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(originals["FLAC"] + bytes(70_001))
    assert np.array_equal(read_ints(path), ints)


@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=1, max_size=300), zeros=st.integers(0, 70_000))
def test_a_frame_is_found_wherever_its_checksum_is_right(data: bytes, zeros: int) -> None:
    frame = b"\xff\xf8" + data
    frame += flac_crc(frame, 0x8005, 16)
    for tail in (frame, b"\1\2" + frame, frame + bytes(zeros)):
        assert tail.index(frame) in streams._find_flac_frames(tail)
    broken = bytearray(frame)
    broken[-3] ^= 0x10
    assert 0 not in streams._find_flac_frames(bytes(broken))


def test_a_frame_of_many_blocks_of_the_checksum_is_found() -> None:
    body = b"\xff\xf9" + np.random.default_rng(1).integers(0, 255, 100_000, np.uint8).tobytes()
    tail = bytes(9) + body + flac_crc(body, 0x8005, 16)
    assert list(streams._find_flac_frames(tail))[-1] == 9


def test_frames_that_are_forged_are_looked_at_a_few_times_only(
    tmp_path: Path, originals: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    parse = streams._parse_flac_frame

    def parse_counted(head: bytes, samples: int) -> int | None:
        looked.append(head)
        return parse(head, samples)

    monkeypatch.setattr(streams, "_parse_flac_frame", parse_counted)
    # A sync whose own checksum is 0 and whose header's is wrong, again and again.
    body = b"\xff\xf8\x00\x00"
    forged = body + flac_crc(body, 0x8005, 16)
    path = tmp_path / "x.flac"
    path.write_bytes(originals["FLAC"] + forged * 3_000)
    assert "is damaged or cut off at its end" in refusal(path)
    assert 0 < len(looked) <= 16


class CountedFile(io.BytesIO):
    """A file that knows how often it was read from."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


ZEROS = bytes(3_000_000)
NAMES = struct.pack("<4sI", b"abcd", 0) * 300_000


@pytest.mark.parametrize(
    ("head", "rest", "most_reads"),
    [
        (b"RIFF\0\0\0\0WAVE", ZEROS, 20),
        (b"FORM\0\0\0\0AIFF", ZEROS, 20),
        (b"caff\0\1\0\0", ZEROS, 20),
        (b"RIFF\0\0\0\0WAVE", NAMES, 100_010),
        (W64_RIFF.ljust(40, b"\0"), ZEROS, 100_010),
        (b"fLaC", bytes(38) + ZEROS, 10_020),
        (b"ID3\x04\0\0\0\0\0\0" * 20, ZEROS, 20),
    ],
)
def test_a_walk_over_nothing_ends_soon(head: bytes, rest: bytes, most_reads: int) -> None:
    """What costs time is a read for each chunk, so the reads are counted."""
    file = CountedFile(head + rest)
    size = len(head) + len(rest)
    kind = find_kind_of(file)
    with suppress(SourceError):
        match kind.name if kind else None:
            case "WAV":
                read_riff(file, size, "x")
            case "AIFF":
                read_aiff(file, size, "x")
            case "CAF":
                read_caf(file, size, "x")
            case "W64":
                read_w64(file, size)
            case "FLAC":
                read_flac(file, size, 0, "x")
    assert 0 < file.reads <= most_reads


@pytest.mark.parametrize("container", ["WAV", "AIFF", "CAF"])
def test_a_file_without_a_chunk_of_audio_is_refused(
    tmp_path: Path, originals: dict[str, bytes], container: str
) -> None:
    begin = 8 if container == "CAF" else 12
    path = tmp_path / "x"
    for rest in (b"", bytes(100_000), bytes(12) + originals[container][begin:]):
        path.write_bytes(originals[container][:begin] + rest)
        assert "it has no chunk of audio" in refusal(path)


def test_zeros_behind_an_aiff_or_caf_do_not_matter(
    tmp_path: Path, originals: dict[str, bytes], ints: NDArray[np.int64]
) -> None:
    for container in ("AIFF", "CAF"):
        path = tmp_path / "x"
        path.write_bytes(originals[container] + bytes(100_000))
        assert np.array_equal(read_ints(path), ints)


@pytest.mark.parametrize(("tags", "is_read"), [(1, True), (3, True), (16, True), (17, False)])
def test_a_few_tags_may_stand_before_the_audio(
    tmp_path: Path, originals: dict[str, bytes], tags: int, is_read: bool
) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(b"ID3\x04\0\0\0\0\0\3abc" * tags + originals["FLAC"])
    if is_read:
        assert audio_io.probe(str(path)).frames == FRAMES
    else:
        assert "its first bytes are none of a known format" in refusal(path)
