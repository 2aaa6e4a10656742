"""M4A, AAC, ALAC and WavPack through a real ffmpeg: bit by bit where lossless, exact in length, or refused.

ffmpeg is needed: without it these tests fail.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from signals import make_music, make_noise, to_ints, write_float, write_pcm
from stembridge import audio_io, transcode
from stembridge.audio_io import SourceInfo
from stembridge.channel_layout import mask_of
from stembridge.errors import SourceError
from stembridge.headers.mp4 import count_presented_samples
from stembridge.types import Region

RATE = 44_100
FRAMES = 50_001


def encode(source: Path, target: Path, *options: str) -> Path:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


def finish(steps: Generator[float, None, SourceInfo]) -> tuple[list[float], SourceInfo]:
    fractions = []
    while True:
        try:
            fractions.append(next(steps))
        except StopIteration as stop:
            return fractions, stop.value


def decode(path: Path, folder: Path) -> tuple[SourceInfo, NDArray[np.float64]]:
    fractions, info = finish(transcode.transcode(str(path), folder))
    assert fractions == sorted(fractions) and 0 < fractions[-1] <= 1
    blocks = list(audio_io.read_blocks(info, Region(0, info.frames)))
    return info, np.concatenate(blocks, axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "decoded here"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("ending", "options", "kind"),
    [
        ("m4a", ("-c:a", "alac"), "M4A"),
        ("caf", ("-c:a", "alac"), "ALAC in CAF"),
        ("wv", ("-c:a", "wavpack"), "WavPack"),
        ("mp4", ("-c:a", "flac", "-strict", "-2"), "M4A"),
    ],
)
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("channels", [2, 6])
def test_lossless_codecs_come_bit_by_bit(
    tmp_path: Path, folder: Path, ending: str, options: tuple[str, ...], kind: str, bits: int, channels: int
) -> None:
    ints = to_ints(make_noise(FRAMES, channels, level=1.0), bits)
    ints[:, :2] = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])
    source = write_pcm(tmp_path / "x.wav", ints, RATE, bits, "WAVEX")
    path = encode(source, tmp_path / f"x.{ending}", *options)
    info, decoded = decode(path, folder)
    assert np.array_equal(decoded, ints / 2.0 ** (bits - 1))
    assert (info.path, info.container, info.is_lossy, info.remarks) == (str(path), kind, False, ())
    assert info.read_path == str(folder / "decoded.wav")
    assert info.subtype.split("_")[0] == {"wv": "WAVPACK", "mp4": "FLAC"}.get(ending, "ALAC")
    assert info.grid_bits is not None and info.grid_bits >= bits - 1
    assert transcode.estimate(str(path))[:2] == (RATE, channels)
    if channels == 6:
        assert info.groups == ((0, 1), (2,), (3,), (4, 5))
    whole = list(audio_io.read_int_blocks(info, Region(100, 999), info.grid_bits))
    assert np.array_equal(np.concatenate(whole, axis=1) >> info.grid_bits - bits + 1, ints[:, 100:1_099])


def test_the_word_length_is_in_the_subtype(tmp_path: Path, folder: Path) -> None:
    for bits in (16, 24):
        source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 2), bits), RATE, bits)
        info, _ = decode(encode(source, tmp_path / "x.m4a", "-c:a", "alac"), folder)
        assert (info.subtype, info.grid_bits) == (f"ALAC_{bits}", bits - 1)


def test_float_wavpack_comes_bit_by_bit(tmp_path: Path, folder: Path) -> None:
    signal = (make_noise(FRAMES, 2) * 4).astype(np.float32).astype(np.float64)
    source = write_float(tmp_path / "x.wav", signal, RATE)
    info, decoded = decode(encode(source, tmp_path / "x.wv", "-c:a", "wavpack"), folder)
    assert np.array_equal(decoded, signal)
    assert (info.subtype, info.is_lossy, info.grid_bits) == ("WAVPACK", False, None)


def test_pcm_in_a_film_comes_bit_by_bit(tmp_path: Path, folder: Path) -> None:
    ints = to_ints(make_noise(FRAMES, 2), 24)
    source = write_pcm(tmp_path / "x.wav", ints, RATE, 24)
    info, decoded = decode(encode(source, tmp_path / "x.mov", "-c:a", "pcm_s24be"), folder)
    assert np.array_equal(decoded, ints / 2.0**23)
    assert (info.subtype, info.is_lossy, info.frames) == ("PCM_24", False, FRAMES)


def find_lag(heard: NDArray[np.float64], wanted: NDArray[np.float64]) -> int:
    size = heard.shape[1] + wanted.shape[1]
    product = np.fft.rfft(heard[0], size) * np.conj(np.fft.rfft(wanted[0], size))
    at = int(np.argmax(np.fft.irfft(product, size)))
    return at if at < size // 2 else at - size


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("frames", [1_500, 50_001, 102_400])
def test_aac_in_m4a_has_its_exact_length_and_no_delay(
    tmp_path: Path, folder: Path, rate: int, frames: int
) -> None:
    music = make_music(frames, 2, rate)
    source = write_float(tmp_path / "x.wav", music, rate)
    info, decoded = decode(encode(source, tmp_path / "x.m4a", "-c:a", "aac", "-b:a", "192k"), folder)
    assert find_lag(decoded, music) == 0
    assert np.array_equal(decoded * 2**23, np.rint(decoded * 2**23))
    assert (info.subtype, info.container, info.is_lossy, info.grid_bits) == ("AAC", "M4A", True, 23)
    if frames % 1024:
        assert (info.frames, info.remarks) == (frames, ())
    else:
        # The last packet is a whole one, so that nobody can tell whether it is padded.
        assert info.frames == frames and "does not say where its audio ends" in info.remarks[0]


def test_aac_without_a_container_is_read_with_a_remark(tmp_path: Path, folder: Path) -> None:
    music = make_music(FRAMES, 2, RATE)
    source = write_float(tmp_path / "x.wav", music, RATE)
    path = encode(source, tmp_path / "x.aac", "-c:a", "aac")
    info, decoded = decode(path, folder)
    assert info.frames >= FRAMES + 1024 and find_lag(decoded, music) == 1024
    assert "start-up delay and padding" in info.remarks[0]
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + path.read_bytes())
    assert np.array_equal(decode(path, folder)[1], decoded)


def itunes_tag(delay: int, padding: int, frames: int) -> bytes:
    return (
        f"iTunSMPB\0\0\0\x7edata\0\0\0\1\0\0\0\0 00000000 {delay:08X} {padding:08X} {frames:016X} 0".encode()
    )


def set_edit(data: bytearray, layout: str, distance: int, name: bytes, value: int) -> None:
    struct.pack_into(layout, data, data.index(name) + distance, value)


def test_the_length_of_an_m4a_is_found_in_every_place_where_encoders_put_it(
    tmp_path: Path, folder: Path
) -> None:
    source = write_float(tmp_path / "x.wav", make_music(FRAMES, 2, RATE), RATE)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "aac")
    plain = path.read_bytes()
    # The media's duration, less what the edit list skips.
    assert decode(path, folder)[0].frames == FRAMES

    padded = bytearray(plain)
    set_edit(padded, ">I", 20, b"mdhd", 50 * 1024)
    set_edit(padded, ">I", 24, b"stts", 1024)
    path.write_bytes(padded)
    # Whole packets alone say nothing of padding, and the edit list counts milliseconds.
    info, _ = decode(path, folder)
    assert info.frames >= FRAMES and "does not say where its audio ends" in info.remarks[0]

    # Apple's files count the film in samples too.
    exact = bytearray(padded)
    set_edit(exact, ">I", 16, b"mvhd", RATE)
    set_edit(exact, ">I", 12, b"elst", FRAMES - 7)
    path.write_bytes(exact)
    assert decode(path, folder)[0].frames == FRAMES - 7

    tagged = bytearray(padded)
    at = tagged.index(b"moov") - 4
    length = struct.unpack_from(">I", tagged, at)[0]
    tag = itunes_tag(1024, 175, FRAMES - 9)
    box = struct.pack(">I4s", 8 + len(tag), b"free") + tag
    tagged[at : at + length] = struct.pack(">I", length + len(box)) + tagged[at + 4 : at + length] + box
    path.write_bytes(tagged)
    assert decode(path, folder)[0].frames == FRAMES - 9

    # A length that does not fit the media: the tag is of another file, or from before a cut.
    stated = f"{FRAMES - 9:016X}".encode()
    for claimed in (10**6, 1_000, FRAMES - 9 - 1_100, FRAMES - 9 + 1_100, 0):
        path.write_bytes(bytes(tagged).replace(stated, f"{claimed:016X}".encode()))
        other, _ = decode(path, folder)
        assert (other.frames, other.remarks) == (info.frames, info.remarks)


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("m4a", ("-c:a", "aac", "-movflags", "+faststart")),
        ("m4a", ("-c:a", "alac", "-movflags", "+faststart")),
        ("m4a", ("-c:a", "alac")),
        ("aac", ("-c:a", "aac")),
        ("caf", ("-c:a", "alac")),
        ("wv", ("-c:a", "wavpack")),
    ],
)
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_cut_off_file_is_refused_and_leaves_nothing(
    tmp_path: Path, folder: Path, ending: str, options: tuple[str, ...], kept: float
) -> None:
    source = write_float(tmp_path / "x.wav", make_music(FRAMES, 2, RATE), RATE, "PCM_16")
    path = encode(source, tmp_path / f"x.{ending}", *options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError) as caught:
        finish(transcode.transcode(str(path), folder))
    assert "\n" not in str(caught.value) and repr(str(path)) in caught.value.message
    assert list(folder.iterdir()) == []


def test_a_cut_off_caf_is_refused_by_its_own_count(tmp_path: Path, folder: Path) -> None:
    """libsndfile puts the table of packets in front, so that what is left of a cut file still decodes."""
    words = to_ints(make_noise(FRAMES, 2, level=1.0), 16).astype(np.int16)
    path = tmp_path / "x.caf"
    soundfile.write(path, words.T, RATE, subtype="ALAC_16", format="CAF")
    info, decoded = decode(path, folder)
    assert info.frames == FRAMES and np.array_equal(decoded, words / 2.0**15)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"is truncated: header promises .* bytes of audio"):
        finish(transcode.transcode(str(path), folder))


def test_a_closed_generator_ends_ffmpeg_and_takes_its_file_away(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 2), 16), RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ffprobe").symlink_to(str(shutil.which("ffprobe")))
    # An ffmpeg that reports once and then never ends; its last argument is the file that it writes.
    endless = programs / "ffmpeg"
    endless.write_text(
        f'#!/bin/sh\necho $$ > {tmp_path}/pid\nfor last; do :; done\necho > "${{last#file:}}"\n'
        "echo out_time_us=N/A\necho out_time_us=500000\nexec /bin/sleep 1000\n"
    )
    endless.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    steps = transcode.transcode(str(path), folder)
    assert next(steps) == pytest.approx(0.5 * RATE / FRAMES, rel=1e-3)
    assert (folder / "decoded.wav").exists()
    steps.close()
    assert list(folder.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("missing", ["ffmpeg", "ffprobe", "both"])
def test_a_missing_program_is_named(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    path = tmp_path / "x.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ffmpeg", "ffprobe"):
        if missing not in (name, "both"):
            (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    named = "ffprobe" if missing == "both" else missing
    for call in (
        lambda: finish(transcode.transcode(str(path), folder)),
        lambda: transcode.estimate(str(path)),
    ):
        with pytest.raises(
            SourceError, match=f"is M4A, which needs {named}, and that is not on PATH"
        ) as caught:
            call()
        assert "install ffmpeg" in caught.value.hint


def test_a_program_in_the_current_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    for name in ("ffmpeg", "ffprobe"):
        (tmp_path / name).write_text("#!/bin/sh\ntouch taken\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    with pytest.raises(SourceError, match="not on PATH"):
        transcode.estimate(str(path))
    assert not (tmp_path / "taken").exists()


def test_only_files_of_its_kinds_go_to_ffmpeg(tmp_path: Path, folder: Path) -> None:
    wav = write_pcm(tmp_path / "x.m4a", to_ints(make_noise(99, 1), 16), RATE, 16)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    concat = tmp_path / "concat.wv"
    concat.write_text(f"ffconcat version 1.0\nfile {wav}\n")
    # Free-format MP3 has AAC's sync, but a layer.
    mp3 = tmp_path / "free.aac"
    mp3.write_bytes(bytes.fromhex("fffb0064") + bytes(100))
    for path in (wav, playlist, concat, mp3):
        assert transcode.kind_of(str(path)) is None
        with pytest.raises(SourceError, match="is none of M4A, AAC, WavPack, ALAC in CAF"):
            finish(transcode.transcode(str(path), folder))
    with pytest.raises(SourceError, match="does not exist"):
        transcode.kind_of(str(tmp_path / "nothing"))


def test_a_file_that_only_begins_like_one_is_refused_with_ffmpegs_reason(
    tmp_path: Path, folder: Path
) -> None:
    for name, head in (
        ("x.m4a", b"\0\0\0\x20ftypM4A "),
        ("x.wv", b"wvpk"),
        ("x.aac", b"\xff\xf1\x50\x80\x04\x7f\xfc"),
    ):
        path = tmp_path / name
        path.write_bytes(head + b"\1" * 3_000)
        with pytest.raises(SourceError) as caught:
            finish(transcode.transcode(str(path), folder))
        assert "\n" not in str(caught.value) and repr(str(path)) in caught.value.message


def draw(target: Path, codec: str) -> Path:
    """Write a small picture, or a short film without sound."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=s=16x16:d=0.2", "-c:v", codec]
    subprocess.run([*command, *(("-frames:v", "1") if codec != "mpeg4" else ()), str(target)], check=True)
    return target


def test_a_cover_does_not_matter(tmp_path: Path, folder: Path) -> None:
    ints = to_ints(make_noise(FRAMES, 2), 16)
    source = write_pcm(tmp_path / "x.wav", ints, RATE, 16)
    for codec in ("mjpeg", "png"):
        cover = draw(tmp_path / f"{codec}.{'jpg' if codec == 'mjpeg' else 'png'}", codec)
        options = ("-i", str(cover), "-map", "0", "-map", "1", "-c:a", "alac", "-c:v", "copy")
        path = encode(source, tmp_path / "x.m4a", *options, "-disposition:v:0", "attached_pic")
        assert np.array_equal(decode(path, folder)[1], ints / 2.0**15)


def test_what_holds_other_codecs_or_no_sound_is_refused(tmp_path: Path, folder: Path) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(RATE, 1), 16), RATE, 16)
    foreign = encode(source, tmp_path / "x.mov", "-c:a", "adpcm_ima_qt")
    with pytest.raises(SourceError, match="is M4A that holds adpcm_ima_qt, which is not read here"):
        finish(transcode.transcode(str(foreign), folder))
    film = draw(tmp_path / "film.mp4", "mpeg4")
    with pytest.raises(SourceError, match="is M4A that holds mpeg4, which is not read here"):
        finish(transcode.transcode(str(film), folder))
    picture = tmp_path / "picture.mov"
    cover = draw(tmp_path / "x.jpg", "mjpeg")
    encode(cover, picture, "-c:v", "copy")
    with pytest.raises(SourceError, match="is M4A and holds no audio"):
        finish(transcode.transcode(str(picture), folder))
    assert list(folder.iterdir()) == []


def test_names_that_look_like_options_or_protocols_are_files(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    encoded = encode(source, tmp_path / "x.m4a", "-c:a", "alac").read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in ("-y.m4a", "concat:a|b.m4a", 'it\'s "あ" %d.m4a', "http:x"):
        Path(name).write_bytes(encoded)
        info, decoded = decode(Path(name), folder)
        assert info.path == name and decoded.shape == (1, FRAMES)


def test_nine_channels_are_refused_before_anything_is_decoded(tmp_path: Path, folder: Path) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(999, 9), 16), RATE, 16)
    path = encode(source, tmp_path / "x.mov", "-c:a", "pcm_s16be")
    with pytest.raises(SourceError, match="is M4A of 9 channels at 44100 Hz: 1 to 8 channels can be split"):
        transcode.estimate(str(path))


def test_aac_in_5_1_has_its_speakers_in_wave_order(tmp_path: Path, folder: Path) -> None:
    time = np.arange(RATE) / RATE
    tones = np.array([0.2 * np.sin(2 * np.pi * (40 + 20 * index) * time) for index in range(6)])
    source = write_float(tmp_path / "x.wav", tones, RATE, "PCM_24", "WAVEX")
    info, decoded = decode(encode(source, tmp_path / "x.m4a", "-c:a", "aac", "-b:a", "400k"), folder)
    spectrum = np.abs(np.fft.rfft(decoded[:, :RATE], axis=1))
    assert list(np.argmax(spectrum, axis=1)) == [40, 60, 80, 100, 120, 140]
    assert info.channel_mask in (
        mask_of(["FL", "FR", "FC", "LFE", "BL", "BR"]),
        mask_of(["FL", "FR", "FC", "LFE", "SL", "SR"]),
    )
    assert info.groups == ((0, 1), (2,), (3,), (4, 5))


def test_a_full_disk_is_an_error_of_the_disk(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac")
    (folder / "decoded.wav").symlink_to("/dev/full")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        finish(transcode.transcode(str(path), folder))


def test_the_decoded_file_carries_samples_and_texts(tmp_path: Path, folder: Path) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 2), 16), RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac", "-metadata", "title=Night Drive")
    decode(path, folder)
    assert audio_io.read_tags(str(folder / "decoded.wav")) == {"title": "Night Drive"}
    assert soundfile.info(folder / "decoded.wav").subtype == "PCM_16"


@pytest.mark.parametrize("broken", ["ffmpeg", "ffprobe"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x7fELF" + b"\1" * 200, errno.ENOEXEC),
        (b"#!/etc\n", errno.EACCES),
        (b"#!/no/such/shell\n", errno.ENOENT),
    ],
)
def test_a_program_that_cannot_be_started_is_named_with_its_remedy(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    content: bytes,
    reason: int,
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ffmpeg", "ffprobe"):
        if name == broken:
            (programs / name).write_bytes(content)
            (programs / name).chmod(0o755)
        else:
            (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(SourceError) as caught:
        finish(transcode.open_source(str(path), folder))
    assert caught.value.message == f"{broken} cannot be started: {os.strerror(reason)}"
    assert "install ffmpeg" in caught.value.hint
    assert list(folder.iterdir()) == []


def test_what_libsndfile_reads_is_opened_at_once_and_no_folder_is_made(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 2), 16), RATE, 16)
    fractions, info = finish(transcode.open_source(str(path), tmp_path / "decoded"))
    assert (fractions, info) == ([], audio_io.probe(str(path)))
    assert not (tmp_path / "decoded").exists()
    with pytest.raises(SourceError, match="does not exist"):
        finish(transcode.open_source(str(tmp_path / "nothing"), tmp_path / "decoded"))


@pytest.mark.parametrize("is_there", [False, True])
def test_what_only_ffmpeg_reads_is_decoded_into_a_folder_that_is_made(tmp_path: Path, is_there: bool) -> None:
    ints = to_ints(make_noise(FRAMES, 2), 16)
    source = write_pcm(tmp_path / "x.wav", ints, RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac")
    folder = tmp_path / "not there" / "decoded"
    if is_there:
        folder.mkdir(parents=True)
    fractions, info = finish(transcode.open_source(str(path), folder))
    assert fractions and info.read_path == str(folder / "decoded.wav")
    blocks = list(audio_io.read_int_blocks(info, Region(0, FRAMES), 15))
    assert np.array_equal(np.concatenate(blocks, axis=1), ints)


def test_a_full_disk_or_a_folder_that_cannot_be_made_is_an_error_of_the_system(
    tmp_path: Path, folder: Path
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac")
    (folder / "decoded.wav").symlink_to("/dev/full")
    for target, reason in ((folder, errno.ENOSPC), (source, errno.EEXIST), (source / "x", errno.ENOTDIR)):
        with pytest.raises(OSError, match=os.strerror(reason)):
            finish(transcode.open_source(str(path), target))


def test_another_program_of_ffprobes_name_is_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(FRAMES, 1), 16), RATE, 16)
    path = encode(source, tmp_path / "x.m4a", "-c:a", "alac")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ffmpeg").symlink_to(str(shutil.which("ffmpeg")))
    monkeypatch.setenv("PATH", str(programs))
    for answer in ("", "echo hello", "printf '\\377'"):
        (programs / "ffprobe").write_text(f"#!/bin/sh\n{answer}\n")
        (programs / "ffprobe").chmod(0o755)
        with pytest.raises(SourceError, match="ffprobe gives an answer that is not its own"):
            finish(transcode.open_source(str(path), folder))


@pytest.mark.parametrize(("boxes", "frames"), [(0, FRAMES), (1_000, FRAMES), (100_000, None)])
def test_boxes_without_end_are_not_walked_through(tmp_path: Path, boxes: int, frames: int | None) -> None:
    source = write_float(tmp_path / "x.wav", make_music(FRAMES, 2, RATE), RATE)
    data = encode(source, tmp_path / "x.m4a", "-c:a", "aac").read_bytes()
    path = tmp_path / "many.m4a"
    at = data.index(b"moov") - 4
    empty = struct.pack(">I4s", 8, b"free") * boxes
    path.write_bytes(data[:at] + empty + data[at:])
    assert count_presented_samples(str(path), RATE) == frames
    length = struct.unpack_from(">I", data, at)[0]
    inside = struct.pack(">I4s", length + len(empty), b"moov") + empty + data[at + 8 :]
    path.write_bytes(data[:at] + inside)
    assert count_presented_samples(str(path), RATE) == frames
