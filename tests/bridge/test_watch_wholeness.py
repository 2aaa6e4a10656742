"""Files that are cut off, lie or are unfinished are told from whole ones, kind by kind."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from signals import make_noise
from stembridge.watch.wholeness import Wholeness, examine

RATE = 44_100
FRAMES = 30_011
WHOLE = Wholeness("", is_length_stated=True)
OPEN_ENDED = Wholeness("", is_length_stated=False)

CHUNKED = [
    ("x.wav", "WAV", "PCM_16"),
    ("x.wav", "WAV", "PCM_24"),
    ("x.wav", "WAVEX", "FLOAT"),
    ("x.rf64", "RF64", "PCM_24"),
    ("x.w64", "W64", "PCM_16"),
    ("x.aif", "AIFF", "PCM_24"),
    ("x.aifc", "AIFF", "FLOAT"),
    ("x.caf", "CAF", "PCM_16"),
]


def write(path: Path, container: str, subtype: str) -> Path:
    soundfile.write(path, make_noise(FRAMES, 2).T, RATE, format=container, subtype=subtype)
    return path


def cut(path: Path, size: int) -> Wholeness:
    """Return what is found of a copy of which only the first ``size`` bytes have come."""
    part = path.with_name(f"part{path.suffix}")
    part.write_bytes(path.read_bytes()[:size])
    return examine(part)


@pytest.mark.parametrize(("name", "container", "subtype"), [*CHUNKED, ("x.flac", "FLAC", "PCM_16")])
def test_a_whole_file_is_whole_and_every_part_of_it_is_not(
    tmp_path: Path, name: str, container: str, subtype: str
) -> None:
    path = write(tmp_path / name, container, subtype)
    size = path.stat().st_size
    assert examine(path) == WHOLE
    # From the last frame on: what stands behind the audio may be missing.
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        found = cut(path, max(1, int(share * size)))
        assert found.fault and not found.is_length_stated, share
    assert cut(path, size - 5000).fault


def test_a_fault_names_the_file_and_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", "WAV", "PCM_16")
    fault = cut(path, 44 + 1000).fault
    assert repr(str(tmp_path / "part.wav")) in fault
    assert f"header promises {FRAMES * 4} bytes of audio, 1000 are there" in fault


@pytest.mark.parametrize(
    ("name", "container", "subtype"), [("x.ogg", "OGG", "VORBIS"), ("x.mp3", "MP3", "MPEG_LAYER_III")]
)
def test_kinds_that_do_not_say_how_long_they_are_are_not_vouched_for(
    tmp_path: Path, name: str, container: str, subtype: str
) -> None:
    assert examine(write(tmp_path / name, container, subtype)) == OPEN_ENDED


def patch(path: Path, offset: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def test_a_wav_whose_header_comes_last_is_not_whole_before(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", "WAV", "PCM_16")
    assert path.read_bytes()[36:40] == b"data"
    patch(path, 40, struct.pack("<I", 0))
    assert "contradicts itself" in examine(path).fault
    patch(path, 40, struct.pack("<I", 0xFFFFFFFF))
    assert examine(path) == OPEN_ENDED
    patch(path, 40, struct.pack("<I", FRAMES * 4))
    assert examine(path) == WHOLE


def test_a_header_without_a_sample_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros((0, 2)), RATE)
    assert "0 frames" in examine(path).fault and examine(path).is_final


@pytest.mark.parametrize(
    ("rate", "channels", "hint"),
    [(4000, 2, "convert it to a rate of 8 to 768 kHz"), (44100, 10, "split it into files of fewer")],
)
def test_what_the_header_rules_out_is_ruled_out_for_good_unless_bytes_are_missing(
    rate: int, channels: int, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros((100, channels)), rate)
    found = examine(path)
    assert found.fault and found.is_final and found.hint.startswith(hint)
    cut_off = cut(path, 300)
    assert "truncated" in cut_off.fault and not cut_off.is_final and "again" in cut_off.hint


def test_a_room_that_is_kept_for_a_copy_may_still_be_filled(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(bytes(10_000))
    found = examine(path)
    assert "none of a known format" in found.fault and not found.is_final
    whole = write(tmp_path / "y.wav", "WAV", "PCM_16").read_bytes()
    for head in (b"", whole[:12], whole[:36]):
        path.write_bytes(head.ljust(len(whole), b"\0"))
        found = examine(path)
        assert found.fault and not found.is_final, head


def test_a_flac_that_leaves_its_length_open_is_not_vouched_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.flac", "FLAC", "PCM_16")
    head = path.read_bytes()[18:26]
    word = int.from_bytes(head, "big") & ~((1 << 36) - 1)
    assert examine(patch(path, 18, word.to_bytes(8, "big"))) == OPEN_ENDED


def test_an_alac_in_caf_that_is_cut_off_is_not_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.caf"
    source = write(tmp_path / "source.wav", "WAV", "PCM_16")
    encode(source, path, "-c:a", "alac")
    assert examine(path).fault == ""
    assert cut(path, path.stat().st_size // 2).fault


def encode(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


@pytest.mark.parametrize("flags", ["0", "faststart"])
def test_an_m4a_is_whole_when_all_its_boxes_are(tmp_path: Path, flags: str) -> None:
    source = write(tmp_path / "source.wav", "WAV", "PCM_16")
    path = encode(source, tmp_path / "x.m4a", "-c:a", "aac", "-movflags", flags)
    size = path.stat().st_size
    assert examine(path) == WHOLE
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        assert cut(path, max(1, int(share * size))).fault, share
    assert cut(path, size - 1).fault


def test_an_m4a_cut_between_two_boxes_says_what_is_missing(tmp_path: Path) -> None:
    source = write(tmp_path / "source.wav", "WAV", "PCM_16")
    path = encode(source, tmp_path / "x.m4a", "-c:a", "aac")
    at = path.read_bytes().index(b"moov") - 4
    assert "it has no moov box" in cut(path, at).fault
    assert "truncated" in cut(path, at + 5).fault


def test_an_m4a_in_fragments_is_not_vouched_for(tmp_path: Path) -> None:
    source = write(tmp_path / "source.wav", "WAV", "PCM_16")
    flags = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
    assert examine(encode(source, tmp_path / "x.m4a", "-c:a", "aac", *flags)) == OPEN_ENDED


def test_boxes_that_go_round_in_circles_end(tmp_path: Path) -> None:
    path = tmp_path / "x.m4a"
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + struct.pack(">I4s", 4, b"moov") * 9)
    assert "damaged" in examine(path).fault
    # A box that goes on to the end of the file does not say where that is.
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + struct.pack(">I4s", 0, b"moov") + b"x")
    assert examine(path) == OPEN_ENDED


def test_kinds_that_ffmpeg_reads_need_no_ffmpeg_to_be_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "source.wav", "WAV", "PCM_16")
    paths = [encode(source, tmp_path / f"x.{ending}") for ending in ("m4a", "wv", "aac")]
    monkeypatch.setenv("PATH", "")
    assert [examine(path).fault for path in paths] == ["", "", ""]
    assert [examine(path).is_length_stated for path in paths] == [True, False, False]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("no audio at all, though long enough to be looked at"), "first bytes"),
        (lambda path: path.write_bytes(bytes(4096)), "first bytes"),
        (lambda path: path.write_bytes(b"R"), "first bytes"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "does not exist"),
        pytest.param(
            lambda path: os.mkfifo(path, 0o600),
            "is not a regular file",
            marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a FIFO is of POSIX"),
        ),
    ],
)
def test_what_is_no_recording_is_a_fault_and_no_crash(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "x.wav"
    make(path)
    found = examine(path)
    assert said in found.fault and repr(str(path)) in found.fault
    assert not found.is_length_stated


def test_examining_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", "WAV", "PCM_16")
    before = (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.read_bytes())
    examine(path)
    assert (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.read_bytes()) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.wav"]
