"""M4A, AAC, ALAC and WavPack, decoded by ffmpeg into a WAV that is then read like any other.

ffmpeg is handed only files of `FFMPEG_KINDS`, the demuxer of that kind by name, and a short list of decoders;
it may open nothing but that one file.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple

from stembridge.audio_io import LOSSY_BITS, MAX_CHANNELS, SourceInfo, probe
from stembridge.errors import SourceError
from stembridge.headers.chunks import read_caf
from stembridge.headers.header import truncation
from stembridge.headers.kind import FFMPEG_KINDS, find_kind
from stembridge.headers.mp4 import count_presented_samples
from stembridge.source_file import check_source_file

DECODED_NAME = "decoded.wav"

_DEMUXERS = dict(zip(FFMPEG_KINDS, ("mov", "aac", "wv", "caf"), strict=True))
_LOSSLESS = {"alac": "ALAC", "flac": "FLAC", "wavpack": "WAVPACK"}
_DECODERS = (
    *("aac", "ac3", "alac", "eac3", "flac", "mp3", "mp3float", "opus", "wavpack"),
    *("pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le"),
    *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le"),
)
_COVER_DECODERS = ("bmp", "mjpeg", "png")
"""ffprobe opens a decoder for every stream, or gives up: those of a cover are allowed to it alone."""
_NOT_LISTED = re.compile(r"Codec \((\w+)\) not on whitelist")
_WORDS = {16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"}
_PROBE_TIMEOUT_S = 60
_PADDING_REMARK = "the file does not say where its audio ends: the encoder's padding is part of what is split"
_ADTS_REMARK = "AAC without a container: the encoder's start-up delay and padding are part of what is split"


class Estimate(NamedTuple):
    """What a file holds, as far as its container says: Hz, channels, and seconds."""

    sample_rate: int
    channels: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Stream:
    """The first audio stream as ffprobe describes it.

    Parameters
    ----------
    bits : of a sample as the encoder was given it, 0 where the codec has none
    frames : samples per channel where the container counts them
    """

    codec: str
    sample_rate: int
    channels: int
    bits: int
    is_float: bool
    seconds: float
    frames: int | None


def kind_of(path: str) -> str | None:
    """Return which of `FFMPEG_KINDS` a file is by its first bytes, None where it is none of them.

    Raises
    ------
    SourceError : missing, no regular file, or unreadable
    """
    check_source_file(path)
    with _reading(path):
        kind = find_kind(path)
    return kind.name if kind and kind.name in FFMPEG_KINDS else None


def estimate(path: str) -> Estimate:
    """Return what `transcode` is about to decode.

    Raises
    ------
    SourceError : not of `FFMPEG_KINDS`, no ffmpeg, no audio, or more channels than can be split
    """
    stream = _describe(path, _require_kind(path))
    return Estimate(stream.sample_rate, stream.channels, stream.seconds)


def open_source(path: str, folder: Path) -> Generator[float, None, SourceInfo]:
    """Return what is known of any file that can be split, decoded into ``folder`` where only ffmpeg reads it.

    Yields the fraction that is decoded, and nothing where libsndfile reads the file.

    Parameters
    ----------
    folder : made where something is decoded; it need not be there, nor need its parents

    Raises
    ------
    SourceError : as `audio_io.probe` and `transcode`
    OSError : the disk is full or may not be written to
    """
    if kind_of(path) is None:
        return probe(path)
    folder.mkdir(parents=True, exist_ok=True)
    return (yield from transcode(path, folder))


def transcode(path: str, folder: Path) -> Generator[float, None, SourceInfo]:
    """Decode the first audio stream into ``folder``, yield the fraction that is done, return what to read.

    Lossless codecs come bit by bit, others as float32. Closing the generator ends ffmpeg and takes the
    decoded file away; so does every error.

    Raises
    ------
    SourceError : as `estimate`, or the file is damaged or cut off
    OSError : the disk is full
    """
    kind = _require_kind(path)
    stream = _describe(path, kind)
    decoded = folder / DECODED_NAME
    presented = None
    if kind == "M4A":
        with _reading(path):
            presented = count_presented_samples(path, stream.sample_rate)
    promised = _count_promised(kind, stream, presented)
    try:
        yield from _decode(path, kind, stream, presented, decoded)
        return _describe_decoded(path, kind, stream, promised, decoded)
    except BaseException:
        decoded.unlink(missing_ok=True)
        raise


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn what the system says about reading ``path`` into a `SourceError`."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{path!r} cannot be read: {error.strerror}", "check the file and its rights"
        ) from error


@contextmanager
def _starting(name: str) -> Iterator[None]:
    """Turn what the system says about starting a program into a `SourceError`."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"{name} cannot be started: {error.strerror or error}",
            "install ffmpeg again, or convert the file to WAV or FLAC",
        ) from error


def _require_kind(path: str) -> str:
    kind = kind_of(path)
    if kind is None:
        raise SourceError(
            f"{path!r} is none of {', '.join(FFMPEG_KINDS)}", "these alone are read through ffmpeg"
        )
    if kind == "ALAC in CAF":
        # The other containers say in front how much is there, and ffmpeg misses it.
        with _reading(path), Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            offset, promised = read_caf(file, size, repr(path)).audio or (0, 0)
        if offset + promised > size:
            raise truncation(repr(path), f"{promised} bytes of audio", str(max(0, size - offset)))
    return kind


def _find_program(name: str, path: str, kind: str) -> str:
    found = shutil.which(name)
    # Windows looks into the current folder first, where anybody may have put a file of that name.
    if found is None or not Path(found).is_absolute():
        raise SourceError(
            f"{path!r} is {kind}, which needs {name}, and that is not on PATH",
            "install ffmpeg, or convert the file to WAV or FLAC",
        )
    return found


def _input_options(path: str, kind: str, decoders: tuple[str, ...]) -> list[str]:
    return [
        *("-protocol_whitelist", "file", "-f", _DEMUXERS[kind], "-codec_whitelist", ",".join(decoders)),
        *("-i", f"file:{Path(path).absolute()}"),
    ]


def _environment() -> dict[str, str]:
    # FFREPORT makes ffmpeg write a report to wherever it says.
    kept = {name: value for name, value in os.environ.items() if name != "FFREPORT"}
    return {**kept, "AV_LOG_FORCE_NOCOLOR": "1"}


def _creation_flags() -> int:
    return subprocess.CREATE_NO_WINDOW if os.name == "nt" else 0  # type: ignore[attr-defined,unused-ignore]


def _describe(path: str, kind: str) -> _Stream:
    command = [
        _find_program("ffprobe", path, kind),
        *("-v", "error", "-select_streams", "a:0", "-show_streams", "-show_format", "-of", "json"),
        *_input_options(path, kind, (*_DECODERS, *_COVER_DECODERS)),
    ]
    _find_program("ffmpeg", path, kind)
    try:
        with _starting("ffprobe"):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
                env=_environment(),
                creationflags=_creation_flags(),
            )
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"{path!r} is {kind}, and ffprobe did not understand it in {_PROBE_TIMEOUT_S} s",
            "convert it to WAV or FLAC",
        ) from error
    if done.returncode:
        raise _failure(path, kind, done.stderr)
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise SourceError(
            "ffprobe gives an answer that is not its own: another program has its name",
            "install ffmpeg, or convert the file to WAV or FLAC",
        ) from error
    if not report.get("streams"):
        raise SourceError(f"{path!r} is {kind} and holds no audio", "export it again")
    return _parse_stream(path, kind, report["streams"][0], report.get("format", {}))


def _parse_stream(path: str, kind: str, stream: dict[str, object], container: dict[str, object]) -> _Stream:
    sample_rate, channels = int(str(stream.get("sample_rate", 0))), int(str(stream.get("channels", 0)))
    if not 1 <= channels <= MAX_CHANNELS or sample_rate <= 0:
        raise SourceError(
            f"{path!r} is {kind} of {channels} channels at {sample_rate} Hz: "
            f"1 to {MAX_CHANNELS} channels can be split",
            "split it into files of fewer channels first",
        )
    duration = str(stream.get("duration", container.get("duration", "0")))
    counts = stream.get("time_base") == f"1/{sample_rate}" and "duration_ts" in stream
    return _Stream(
        codec=str(stream.get("codec_name", "")),
        sample_rate=sample_rate,
        channels=channels,
        bits=int(str(stream.get("bits_per_raw_sample") or stream.get("bits_per_sample") or 0)),
        is_float=str(stream.get("sample_fmt", "")).startswith(("flt", "dbl")),
        seconds=float(duration) if duration != "N/A" else 0.0,
        frames=int(str(stream["duration_ts"])) if counts else None,
    )


def _failure(path: str, kind: str, stderr: bytes) -> Exception:
    """Return the error that the last line of what ffmpeg has said stands for."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    # ffmpeg names its own objects by their address, which says nothing to anybody.
    reason = lines[0].split("] ", 1)[-1] if lines else "no reason given"
    reason = reason.removeprefix(f"file:{Path(path).absolute()}: ")
    if any(os.strerror(errno.ENOSPC) in line for line in lines):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if codec := _NOT_LISTED.search(reason):
        return SourceError(
            f"{path!r} is {kind} that holds {codec[1]}, which is not read here",
            "save its sound as a file of its own, such as WAV",
        )
    return SourceError(f"{path!r} is {kind} that ffmpeg cannot decode: {reason}", "copy or export it again")


def _is_lossless(stream: _Stream) -> bool:
    return stream.codec in _LOSSLESS or stream.codec.startswith("pcm_")


def _word_bits(stream: _Stream) -> int:
    """Return the bits of the decoded word that holds every sample of an integer stream."""
    return next((bits for bits in _WORDS if 0 < stream.bits <= bits), 32)


def _choose_encoder(stream: _Stream) -> str:
    if stream.codec.startswith("pcm_f64"):
        return "pcm_f64le"
    return "pcm_f32le" if stream.is_float or not _is_lossless(stream) else _WORDS[_word_bits(stream)]


def _decode(
    path: str, kind: str, stream: _Stream, presented: int | None, decoded: Path
) -> Generator[float, None, None]:
    trim = [] if presented is None else ["-af", f"atrim=end_sample={presented}"]
    command = [
        _find_program("ffmpeg", path, kind),
        *("-nostdin", "-v", "error", "-xerror", "-err_detect", "explode", "-y"),
        *_input_options(path, kind, _DECODERS),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_chapters", "-1"),
        *(*trim, "-c:a", _choose_encoder(stream), "-bitexact", "-rf64", "auto", "-f", "wav"),
        *("-progress", "pipe:1", "-nostats", f"file:{decoded.absolute()}"),
    ]
    with tempfile.TemporaryFile() as errors:
        with _starting("ffmpeg"):
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(),
                creationflags=_creation_flags(),
            )
        assert process.stdout is not None
        try:
            yield from _read_progress(process.stdout, stream.seconds)
            process.wait()
        finally:
            with suppress(OSError):
                process.kill()
            process.stdout.close()
            process.wait()
        if process.returncode:
            errors.seek(0)
            raise _failure(path, kind, errors.read(1 << 16))


def _read_progress(output: IO[bytes], seconds: float) -> Generator[float, None, None]:
    for line in output:
        name, _, value = line.strip().partition(b"=")
        if name == b"out_time_us" and value.isdigit() and seconds > 0:
            yield min(1.0, int(value) / 1e6 / seconds)


def _count_promised(kind: str, stream: _Stream, presented: int | None) -> int | None:
    """Return the samples per channel that the container says there are, None where it does not say."""
    if presented is not None or not _is_lossless(stream):
        return presented
    # A CAF file counts whole packets, of which the last need not be full.
    return None if kind == "ALAC in CAF" else stream.frames


def _describe_decoded(
    path: str, kind: str, stream: _Stream, promised: int | None, decoded: Path
) -> SourceInfo:
    info = probe(str(decoded))
    is_lossless = _is_lossless(stream)
    if promised is not None and info.frames != promised:
        raise SourceError(
            f"{path!r} is truncated: its header promises {promised} frames, {info.frames} are there",
            "copy or export it again",
        )
    remarks = info.remarks
    if not is_lossless and promised is None:
        remarks = (*remarks, _ADTS_REMARK if kind == "AAC" else _PADDING_REMARK)
    subtype = _LOSSLESS.get(stream.codec, stream.codec.upper())
    if stream.codec.startswith("pcm_"):
        subtype = info.subtype
    elif is_lossless and not stream.is_float:
        subtype = f"{subtype}_{stream.bits or _word_bits(stream)}"
    return replace(
        info,
        path=path,
        subtype=subtype,
        container=kind,
        is_lossy=not is_lossless,
        grid_bits=info.grid_bits if is_lossless else LOSSY_BITS,
        remarks=remarks,
    )
