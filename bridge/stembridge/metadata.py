"""What a WAVE file carries beside its samples, and what of it a stem of one region carries on.

Positions move with the region, texts stay byte for byte, what describes the old samples goes. A time or a
position that cannot be moved is left out with a remark: a wrong one is worse than none. `docs/metadata.md`
lists every chunk.

Layouts: Multimedia Programming Interface and Data Specifications 1.0 (1991) and its revision of 1994 (cue,
plst, adtl, INFO, smpl, inst); EBU Tech 3285 v2 (bext) with R 98 (CodingHistory); EBU Tech 3306 (ds64); iXML
2.10; libsndfile 1.2.2, src/wav.c (acid).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from stembridge.aiff_markers import read_markers
from stembridge.errors import SourceError
from stembridge.source_file import check_source_file
from stembridge.wavfile import WIDTH_OF_SUBTYPE, Chunk

MAX_BYTES = 16 * 2**20
MAX_CHUNKS = 1_000
MAX_ENTRIES = 65_536
"""The most entries that are read of one list: points, loops, labels, texts."""
MAX_IXML_BYTES = 2**20
MAX_IXML_DEPTH = 64
MAX_REMARKS = 20

SAMPLE_CHUNKS = frozenset(
    b"fmt |data|fact|slnt|wavl|PEAK|peak|levl|ovwf|elm1|JUNK|Junk|junk|FLLR|filr|PAD |ds64|_PMX|axml|bxml"
    b"|sxml|chna|dbmd|mext|qlty|rgad|link|MD5 |RIFF|RIFX|RF64|BW64|WAVE|stmb".split(b"|")
)
"""Chunks that describe the samples or the layout of the file that they come from: no stem has them."""

POSITION_CHUNKS = frozenset((b"cart", b"regn", b"strc", b"ubxt"))
"""Chunks with times or positions that are not moved: only a stem of the whole file has them."""

INFO_OF_TAG = {
    "title": b"INAM",
    "artist": b"IART",
    "album": b"IPRD",
    "tracknumber": b"ITRK",
    "date": b"ICRD",
    "genre": b"IGNR",
    "comment": b"ICMT",
    "copyright": b"ICOP",
}
"""Name in LIST INFO by libsndfile's name of a tag, in the order in which they are written."""

_MAX_32 = 0xFFFFFFFF
_MAX_64 = 2**64 - 1
_MAX_TAG_BYTES = 65_536
_PLAIN_FORMATS = (1, 3, 0xFFFE)

_BEXT_TIME = 338
_BEXT_VERSION = 346
_BEXT_LOUDNESS = 412
_BEXT_HISTORY = 602
# "Not used": EBU Tech 3285 v2, 2.4.
_NO_LOUDNESS = struct.pack("<5h", *[0x7FFF] * 5)

_ACID_ONE_SHOT = 1

_IXML_TIMES = (
    ("TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI", "TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO"),
    ("BWF_TIME_REFERENCE_HIGH", "BWF_TIME_REFERENCE_LOW"),
)
_IXML_STEP = 16_384
_IXML_RATE = "TIMESTAMP_SAMPLE_RATE"
_IXML_SYNC = "SYNC_POINT_LOW"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The chunks of a file that a stem may carry, in the file's order.

    Parameters
    ----------
    frames : frames in the file; 0 where the headers do not tell
    remarks : one line for each thing that could not be read
    """

    chunks: tuple[Chunk, ...] = ()
    frames: int = 0
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stem:
    """Where a stem stands in its file, and what it says of itself."""

    start: int
    frames: int
    is_whole: bool
    sample_rate: int
    name: bytes
    software: bytes
    history: bytes
    points: Mapping[int, int]
    """New position of every cue point that the stem has, by the point's number."""


_Edited = tuple[bytes | None, str]
"""What becomes of a chunk, None for nothing, and a remark or ''."""


def read_chunks(path: str) -> Metadata:
    """Return the chunks of a RIFF, RF64 or BW64 WAVE file, before and behind the audio.

    Markers and loops of AIFF come as the chunks that say the same; files of other kinds have none.
    At most `MAX_BYTES` in `MAX_CHUNKS` chunks are read; what lies beyond, or is cut short, becomes a remark.

    Raises
    ------
    SourceError : the file cannot be read; as `stembridge.source_file.check_source_file`
    """
    size = check_source_file(path)
    try:
        with Path(path).open("rb") as file:
            return _read_wave(file, size)
    except OSError as error:
        raise SourceError(f"{path!r} cannot be read: {error.strerror}", "check the disk") from error


def _read_wave(file: BinaryIO, size: int) -> Metadata:
    head = file.read(12)
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return Metadata(*read_markers(file, size))
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return Metadata()
    chunks: list[Chunk] = []
    remarks: list[str] = []
    offset, room, seen, block_bytes, frames = 12, MAX_BYTES, 0, 0, 0
    long_data_bytes = _MAX_32
    while offset + 8 <= size:
        file.seek(offset)
        name, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        start = offset + 8
        if not _is_name(name):
            remarks.append(f"what follows byte {offset} is no chunk")
            break
        seen += 1
        if seen > MAX_CHUNKS:
            remarks.append(f"chunks after the first {MAX_CHUNKS} were left out")
            break
        if name == b"data":
            if length == _MAX_32 and head[:4] != b"RIFF":
                length = long_data_bytes
            if block_bytes:
                frames = min(length, size - start) // block_bytes
            # A recorder or a pipe that never knew the length: nothing can be found behind it.
            if length == 0:
                break
        elif start + length > size:
            remarks.append(f"{_show(name)} claims {length} bytes, the file ends after {size - start}")
            break
        if name == b"ds64" and length >= 16:
            long_data_bytes = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        elif name == b"fmt " and length >= 14:
            code, block = struct.unpack("<H10xH", file.read(14).ljust(14, b"\0"))
            block_bytes = block if code in _PLAIN_FORMATS else 0
        elif name not in SAMPLE_CHUNKS:
            if length > room:
                remarks.append(f"{_show(name)} does not fit into {MAX_BYTES // 2**20} MiB of metadata")
            else:
                chunks.append(Chunk(name, file.read(length)))
                room -= length
        offset = start + length
        if length % 2:
            file.seek(offset)
            # Some programs forget the pad byte.
            offset += file.read(1) in (b"\0", b"")
    return Metadata(tuple(chunks), frames, _shorten(remarks))


def _is_name(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in name) and name != b"    "


def _show(name: bytes) -> str:
    return repr(name.decode("ascii", "backslashreplace"))


def _shorten(remarks: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(remarks))
    if len(found) <= MAX_REMARKS:
        return found
    return (*found[: MAX_REMARKS - 1], f"and {len(found) - MAX_REMARKS + 1} more remarks on metadata")


def carry(
    metadata: Metadata,
    *,
    region_start: int,
    frames: int,
    stem: str,
    sample_rate: int,
    channels: int,
    subtype: str,
    version: str,
) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Return the chunks of one stem, and a line on each thing that it does not carry.

    Parameters
    ----------
    region_start, frames : the region that the stem covers, in frames of the file, whose rate the stem has
    stem : its name, which the title ends with
    channels, subtype : of the stem's file; a key of `stembridge.wavfile.WIDTH_OF_SUBTYPE`
    version : of Stembridge
    """
    is_whole = region_start == 0 and frames == metadata.frames
    place = _Stem(
        start=region_start,
        frames=frames,
        is_whole=is_whole,
        sample_rate=sample_rate,
        name=stem.encode(),
        software=f"Stembridge {version}".encode(),
        history=_history_line(sample_rate, channels, subtype, version),
        points=_new_positions(metadata.chunks, region_start, frames, is_whole),
    )
    carried: list[Chunk] = []
    remarks = list(metadata.remarks)
    for chunk in metadata.chunks:
        data, remark = _edit(chunk, place)
        if remark:
            remarks.append(f"{_show(chunk.name)}: {remark}")
        if data is not None:
            carried.append(Chunk(chunk.name, data))
    return tuple(carried), _shorten(remarks)


def without_stem(metadata: Metadata, stem: str) -> Metadata:
    """Return what the file of one stem carries without the stem in its title: see `carry`."""
    suffix = f" - {stem}".encode()

    def strip(chunk: Chunk) -> Chunk:
        if chunk.name != b"LIST" or chunk.data[:4] != b"INFO":
            return chunk
        entries = [
            _text(b"INAM", data.split(b"\0")[0].removesuffix(suffix))
            if name == b"INAM"
            else Chunk(name, data)
            for name, data in _split_list(chunk.data)[0]
        ]
        return Chunk(chunk.name, _join_list(b"INFO", entries))

    return replace(metadata, chunks=tuple(map(strip, metadata.chunks)))


def _edit(chunk: Chunk, stem: _Stem) -> _Edited:
    if chunk.name in SAMPLE_CHUNKS:
        return None, ""
    if chunk.name in POSITION_CHUNKS and not stem.is_whole:
        return None, "its times stand for the whole file; left out of a region"
    edit = _EDITS.get(chunk.name)
    return edit(chunk.data, stem) if edit else (chunk.data, "")


def _history_line(sample_rate: int, channels: int, subtype: str, version: str) -> bytes:
    """Return what EBU R 98 appends to a CodingHistory for each step of processing."""
    mode = {1: "mono", 2: "stereo"}.get(channels, "multichannel")
    bits = 8 * WIDTH_OF_SUBTYPE[subtype]
    return f"A=PCM,F={sample_rate},W={bits},M={mode},T=Stembridge {version}\r\n".encode("ascii", "replace")


def _edit_bext(data: bytes, stem: _Stem) -> _Edited:
    if len(data) < _BEXT_VERSION + 2:
        return None, f"{len(data)} bytes hold no time reference; left out"
    fixed = bytearray(data[:_BEXT_HISTORY].ljust(_BEXT_HISTORY, b"\0"))
    time, version = struct.unpack_from("<QH", fixed, _BEXT_TIME)
    if time + stem.start > _MAX_64:
        return None, f"time reference {time} leaves no room for {stem.start} frames more; left out"
    struct.pack_into("<Q", fixed, _BEXT_TIME, time + stem.start)
    if version >= 2:
        fixed[_BEXT_LOUDNESS : _BEXT_LOUDNESS + len(_NO_LOUDNESS)] = _NO_LOUDNESS
    history = data[_BEXT_HISTORY:].rstrip(b"\0")
    if history and not history.endswith(b"\n"):
        history += b"\r\n"
    return bytes(fixed) + history + stem.history, ""


def _edit_ixml(data: bytes, stem: _Stem) -> _Edited:
    if stem.start == 0:
        return data, ""
    if len(data) > MAX_IXML_BYTES:
        return None, f"{len(data)} bytes are too many to look for its timestamps; left out"
    is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]
    is_big = data[:2] == b"\xfe\xff" or data[:1] == b"\0"
    # The one name is known to expat and to Python; digits are the same in every narrow encoding.
    codec = ("UTF-16BE" if is_big else "UTF-16LE") if is_wide else "latin-1"
    try:
        spans = _find_elements(data, codec if is_wide else None)
    except (expat.ExpatError, LookupError, ValueError) as error:
        return None, f"not to be parsed ({error}); left out, since its timestamps cannot be moved"
    texts = {
        name: [data[begin:end].decode(codec, "replace").strip() for begin, end in found]
        for name, found in spans.items()
    }
    words: list[tuple[tuple[int, int], int]] = []
    for high_name, low_name in _IXML_TIMES:
        moved, problem = _move_time(texts[high_name], texts[low_name], stem.start)
        if problem:
            return None, f"{low_name} {problem}; left out"
        if moved:
            words += zip((*spans[high_name], *spans[low_name]), moved, strict=True)
    others = [rate for rate in texts[_IXML_RATE] if rate not in ("", str(stem.sample_rate))]
    if "".join(texts[_IXML_TIMES[0][1]]) and others:
        rate = ascii(others[0][:20])
        return None, f"its timestamps count at {rate} Hz, the file at {stem.sample_rate}; left out"
    out = data
    for (begin, end), word in sorted(words, reverse=True):
        text = re.sub("[0-9]+", str(word), data[begin:end].decode(codec))
        out = out[:begin] + text.encode(codec) + out[end:]
    has_sync = any(text not in ("", "0") for text in texts[_IXML_SYNC])
    return out, "its sync points still count from the start of the source" if has_sync else ""


def _move_time(high: list[str], low: list[str], frames: int) -> tuple[tuple[int, ...], str]:
    """Return the words of a time ``frames`` later, a high one first where there is one, and a problem or ''.

    Parameters
    ----------
    high, low : the texts of every element of that name
    """
    if not "".join(high + low):
        return (), ""
    if len(low) != 1 or len(high) > 1 or not all(map(_is_word, high + low)):
        return (), "cannot be read"
    time = (int(high[0]) << 32 if high else 0) + int(low[0]) + frames
    if time > (_MAX_64 if high else _MAX_32):
        return (), f"leaves no room for {frames} frames more"
    return ((time >> 32, time & _MAX_32) if high else (time,)), ""


def _is_word(text: str) -> bool:
    return re.fullmatch("[0-9]{1,20}", text) is not None and int(text) <= _MAX_32


def _find_elements(data: bytes, encoding: str | None) -> dict[str, list[tuple[int, int]]]:
    """Return the bytes, from first to past the last, between the tags of every element whose text matters."""
    spans: dict[str, list[tuple[int, int]]] = {
        name: [] for name in (*(name for pair in _IXML_TIMES for name in pair), _IXML_RATE, _IXML_SYNC)
    }
    first: dict[str, int] = {}
    within: list[str] = []
    depth = 0
    parser = expat.ParserCreate(encoding)

    def begin(name: str, _attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_IXML_DEPTH:
            raise expat.ExpatError(f"more than {MAX_IXML_DEPTH} elements in one another")
        if name in spans:
            within.append(name)

    def take(_text: str) -> None:
        if within:
            first.setdefault(within[-1], parser.CurrentByteIndex)

    def finish(name: str) -> None:
        nonlocal depth
        depth -= 1
        if name in spans:
            within.pop()
            end = parser.CurrentByteIndex
            spans[name].append((first.pop(name, end), end))

    def refuse(*_declaration: object) -> None:
        # A document type can declare entities that grow without bound; iXML has none.
        raise expat.ExpatError("it declares a document type")

    parser.StartElementHandler = begin
    parser.CharacterDataHandler = take
    parser.EndElementHandler = finish
    parser.StartDoctypeDeclHandler = refuse
    # Many recorders reserve room behind the document; the last character of a wide one ends in a zero itself.
    end = len(data.rstrip(b"\0"))
    end += end % (2 if encoding else 1)
    # expat reads a part to its end before it heeds a refusal, and takes 2 KB for every element that is open.
    for start in range(0, end, _IXML_STEP):
        parser.Parse(data[start : min(end, start + _IXML_STEP)], False)
    parser.Parse(b"", True)
    return spans


def _entries(data: bytes, width: int, count: int, offset: int) -> tuple[memoryview, str]:
    """Return as many of ``count`` entries of ``width`` bytes as there are, and a remark if some lack."""
    held = min(count, (len(data) - offset) // width, MAX_ENTRIES)
    remark = "" if held == count else f"{count} entries are claimed, {held} were read"
    return memoryview(data)[offset : offset + held * width], remark


def _new_positions(chunks: Iterable[Chunk], start: int, frames: int, is_whole: bool) -> dict[int, int]:
    points: dict[int, int] = {}
    for chunk in chunks:
        if chunk.name == b"cue " and len(chunk.data) >= 4:
            count = struct.unpack_from("<I", chunk.data)[0]
            entries, _ = _entries(chunk.data, 24, count, 4)
            for number, position, kind, _, block_start, sample in struct.iter_unpack("<II4sIII", entries):
                moved = _absolute(position, block_start, sample) - start
                if is_whole or _is_inside(moved, kind, frames):
                    points.setdefault(number, moved)
    return points


def _is_inside(moved: int, kind: bytes, frames: int) -> bool:
    # A point in silence counts from the start of its own part of a list of waves.
    return 0 <= moved < frames and kind != b"slnt"


def _absolute(position: int, block_start: int, sample: int) -> int:
    """Return a point's frame in the file; in coded audio ``sample`` counts from the point's own block."""
    return position if block_start and position else sample


def _counted(
    kept: bytes | bytearray, entries: memoryview, width: int, stem: _Stem, remark: str, lost: str
) -> _Edited:
    """Return the entries that a region has kept behind their number; a list that it emptied goes."""
    held, left = len(entries) // width, len(kept) // width
    if left < held:
        remark = _join(remark, f"{held - left} of {held} {lost} outside of the region")
    if not left and not stem.is_whole:
        return None, remark
    return struct.pack("<I", left) + kept, remark


def _edit_cue(data: bytes, stem: _Stem) -> _Edited:
    if len(data) < 4:
        return None, "too short for a number of points; left out"
    count = struct.unpack_from("<I", data)[0]
    entries, remark = _entries(data, 24, count, 4)
    kept = bytearray()
    for number, position, kind, _, block_start, sample in struct.iter_unpack("<II4sIII", entries):
        moved = _absolute(position, block_start, sample) - stem.start
        if stem.is_whole or _is_inside(moved, kind, stem.frames):
            kept += struct.pack("<II4sIII", number, max(0, position - stem.start), kind, 0, 0, moved)
    return _counted(kept, entries, 24, stem, remark, "points lie")


def _edit_plst(data: bytes, stem: _Stem) -> _Edited:
    if len(data) < 4:
        return None, "too short for a number of segments; left out"
    count = struct.unpack_from("<I", data)[0]
    entries, remark = _entries(data, 12, count, 4)
    kept = bytearray()
    for number, length, loops in struct.iter_unpack("<III", entries):
        if stem.is_whole:
            kept += struct.pack("<III", number, length, loops)
        elif number in stem.points:
            kept += struct.pack("<III", number, min(length, stem.frames - stem.points[number]), loops)
    return _counted(kept, entries, 12, stem, remark, "segments begin")


def _edit_smpl(data: bytes, stem: _Stem) -> _Edited:
    if len(data) < 36:
        return None, f"{len(data)} bytes are too few; left out"
    *pitch, smpte, offset, count, rest_bytes = struct.unpack_from("<9I", data)
    entries, remark = _entries(data, 24, count, 36)
    kept = bytearray()
    for number, kind, first, last, fraction, plays in struct.iter_unpack("<6I", entries):
        if stem.is_whole:
            kept += struct.pack("<6I", number, kind, first, last, fraction, plays)
        elif stem.start <= first <= last < stem.start + stem.frames:
            kept += struct.pack("<6I", number, kind, first - stem.start, last - stem.start, fraction, plays)
    held, left = len(entries) // 24, len(kept) // 24
    if left < held:
        remark = _join(remark, f"{held - left} of {held} loops do not lie inside the region")
    if stem.start and offset:
        smpte = offset = 0
        remark = _join(remark, "its SMPTE offset counts whole video frames and cannot be moved; left out")
    # What a sampler keeps for itself begins behind the loops; where their number lies, nobody knows where.
    rest = b"" if held < count else data[36 + 24 * held : 36 + 24 * held + rest_bytes]
    head = struct.pack("<9I", *pitch, smpte, offset, left, len(rest))
    return head + bytes(kept) + rest, remark


def _edit_acid(data: bytes, stem: _Stem) -> _Edited:
    if len(data) < 24:
        return None, f"{len(data)} bytes are too few; left out"
    flags, note, _, meter, tempo = struct.unpack_from("<I8sI4sf", data)
    if stem.is_whole or flags & _ACID_ONE_SHOT:
        return data, ""
    beats = stem.frames / stem.sample_rate * tempo / 60
    remark = ""
    if not (0.5 < beats < _MAX_32 and abs(beats - round(beats)) < 0.01):
        # A program would stretch a loop until its beats fit.
        beats, flags = 0.0, flags | _ACID_ONE_SHOT
        remark = "the region is no whole number of beats: one-shot instead of a loop"
    return struct.pack("<I8sI4s", flags, note, round(beats), meter) + data[20:], remark


def _edit_list(data: bytes, stem: _Stem) -> _Edited:
    kind = data[:4]
    if kind == b"INFO":
        return _edit_info(data, stem)
    if kind == b"adtl":
        return _edit_adtl(data, stem)
    if kind in SAMPLE_CHUNKS:
        return None, ""
    if len(kind) < 4:
        return None, "too short for a list; left out"
    return data, ""


def _edit_info(data: bytes, stem: _Stem) -> _Edited:
    entries, remark = _split_list(data)
    out: list[Chunk] = []
    for entry in entries:
        if entry.name == b"INAM":
            title = entry.data.split(b"\0")[0]
            out.append(_text(b"INAM", title + b" - " + stem.name if title else stem.name))
        elif entry.name != b"ISFT":
            out.append(entry)
    return _join_list(b"INFO", [*out, _text(b"ISFT", stem.software)]), remark


def _edit_adtl(data: bytes, stem: _Stem) -> _Edited:
    entries, remark = _split_list(data)
    out: list[Chunk] = []
    outside = 0
    for entry in entries:
        name, label = entry
        if len(label) < (20 if name == b"ltxt" else 4):
            remark = _join(remark, "a label is too short; left out")
            continue
        number, length = struct.unpack("<II", label[:8].ljust(8, b"\0"))
        if stem.is_whole:
            out.append(entry)
        elif number not in stem.points:
            outside += 1
        elif name == b"ltxt":
            cropped = min(length, stem.frames - stem.points[number])
            out.append(Chunk(name, label[:4] + struct.pack("<I", cropped) + label[8:]))
        else:
            out.append(entry)
    if outside:
        remark = _join(remark, f"{outside} of {len(entries)} labels belong to no point of the region")
    return (_join_list(b"adtl", out) if out or stem.is_whole else None), remark


def _split_list(data: bytes) -> tuple[list[Chunk], str]:
    """Return the entries of a LIST chunk behind its four bytes of kind, and a remark if not all is read."""
    entries: list[Chunk] = []
    offset = 4
    while offset + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, offset)
        offset += 8
        if not _is_name(name) or length > len(data) - offset or len(entries) == MAX_ENTRIES:
            return entries, f"what follows entry {len(entries)} cannot be read; left out"
        entries.append(Chunk(name, data[offset : offset + length]))
        offset += length
        # As between chunks, some programs forget the pad byte.
        offset += length % 2 and data[offset : offset + 1] in (b"\0", b"")
    return entries, ""


def _join_list(kind: bytes, entries: Iterable[Chunk]) -> bytes:
    parts = (struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2) for name, data in entries)
    return kind + b"".join(parts)


def _text(name: bytes, text: bytes) -> Chunk:
    return Chunk(name, text + b"\0")


def _join(first: str, second: str) -> str:
    return second if first in ("", second) else f"{first}; {second}"


_EDITS: dict[bytes, Callable[[bytes, _Stem], _Edited]] = {
    b"bext": _edit_bext,
    b"iXML": _edit_ixml,
    b"cue ": _edit_cue,
    b"plst": _edit_plst,
    b"smpl": _edit_smpl,
    b"acid": _edit_acid,
    b"LIST": _edit_list,
    b"r64m": lambda data, stem: (None, "its markers point to bytes of the source file; left out"),
}


def info_chunk(tags: Mapping[str, str], stem: str, version: str) -> Chunk:
    """Return a LIST INFO chunk, UTF-8, of what a file of another kind says of itself; never a time.

    Parameters
    ----------
    tags : by libsndfile's names; those that `INFO_OF_TAG` does not have, and empty ones, are left out
    """
    entries = []
    for tag, name in INFO_OF_TAG.items():
        text = tags.get(tag, "").split("\0")[0].encode("utf-8", "replace")[:_MAX_TAG_BYTES]
        if text:
            entries.append(_text(name, text + b" - " + stem.encode() if tag == "title" else text))
    entries.append(_text(b"ISFT", f"Stembridge {version}".encode()))
    return Chunk(b"LIST", _join_list(b"INFO", entries))
