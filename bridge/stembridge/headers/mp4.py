"""How many samples of an M4A file are audio: without the encoder's delay before, and its padding behind.

Boxes: ISO/IEC 14496-12, 8.2.2 (mvhd), 8.4.2 (mdhd), 8.4.3 (hdlr), 8.6.1.2 (stts) and 8.6.6 (elst). iTunSMPB:
Apple's tag of delay, padding and length as hexadecimal numbers.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

_LARGEST_MOOV = 1 << 26
_MOST_BOXES = 100_000
_ITUNES_LENGTH = re.compile(
    rb"iTunSMPB.{0,64}? [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{8}) ([0-9A-F]{16})", re.DOTALL
)


def count_presented_samples(path: str, sample_rate: int) -> int | None:
    """Return the samples per channel that the first sound track presents, None where the file does not say.

    An iTunSMPB tag is taken where its delay, padding and length add up to the media's duration within one
    packet: some programs keep it when they cut or encode again. An edit list counts in units of the whole
    film, often milliseconds: it is taken only where these are as fine as samples. Else the media's own
    duration is, less what the edit list skips, where its last packet is shorter than the others: where it is
    not, nobody has thought of padding.

    Parameters
    ----------
    sample_rate : of the decoded audio, in Hz
    """
    moov = _read_moov(path)
    film_rate = 0
    for name, box in _walk_boxes(moov):
        if name == b"mvhd":
            film_rate = _read_durations(box)[0]
        if name == b"trak" and _find_box(box, b"mdia", b"hdlr")[8:12] == b"soun":
            return _count_in_tag(moov, box, sample_rate) or _count_in_track(box, film_rate, sample_rate)
    return None


def _count_in_tag(moov: bytes, track: bytes, sample_rate: int) -> int | None:
    """Return the length that an iTunSMPB tag states, None where there is none that fits the track."""
    tag = _ITUNES_LENGTH.search(moov)
    media_rate, duration = _read_durations(_find_box(track, b"mdia", b"mdhd"))
    if not tag or not media_rate or sample_rate % media_rate:
        return None
    scale = sample_rate // media_rate
    delay, padding, length = (int(number, 16) for number in tag.groups())
    packet = max(_read_packets(track), default=0)
    return length if abs(delay + padding + length - duration * scale) <= packet * scale else None


def _count_in_track(track: bytes, film_rate: int, sample_rate: int) -> int | None:
    media_rate, duration = _read_durations(_find_box(track, b"mdia", b"mdhd"))
    edits = _read_edits(_find_box(track, b"edts", b"elst"))
    if not media_rate or not film_rate or sample_rate % media_rate or len(edits) > 1:
        return None
    scale = sample_rate // media_rate
    presented, skipped = edits[0] if edits else (0, 0)
    if film_rate % media_rate == 0 and presented:
        return presented * sample_rate // film_rate
    packets = _read_packets(track)
    if skipped < 0 or not packets or packets[-1] == max(packets):
        return None
    return max(0, duration - skipped) * scale


def _read_packets(track: bytes) -> list[int]:
    """Return the samples of one packet of each run of equal ones, in order, by a track's stts box."""
    box = _find_box(track, b"mdia", b"minf", b"stbl", b"stts")
    count = min(struct.unpack_from(">I", box, 4)[0], (len(box) - 8) // 8) if len(box) >= 8 else 0
    return [struct.unpack_from(">I", box, 12 + 8 * index)[0] for index in range(count)]


def _read_moov(path: str) -> bytes:
    """Return what stands in the first moov box, b'' where there is none."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        offset = 0
        for _ in range(_MOST_BOXES):
            if offset + 8 > size:
                break
            file.seek(offset)
            head = file.read(16).ljust(16, b"\0")
            length, name, wide = struct.unpack(">I4sQ", head)
            begin = 16 if length == 1 else 8
            length = wide if length == 1 else length or size - offset
            if name == b"moov":
                file.seek(offset + begin)
                return file.read(max(0, min(length - begin, _LARGEST_MOOV)))
            offset += max(length, 8)
    return b""


def _walk_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset = 0
    for _ in range(_MOST_BOXES):
        if offset + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, offset)
        length = max(length, 8) if length else len(data) - offset
        yield name, data[offset + 8 : offset + length]
        offset += length


def _find_box(data: bytes, *names: bytes) -> bytes:
    """Return what stands in the first box at the path ``names``, b'' where there is none."""
    for wanted in names:
        data = next((box for name, box in _walk_boxes(data) if name == wanted), b"")
    return data


def _read_durations(box: bytes) -> tuple[int, int]:
    """Return units per second and duration of an mvhd or mdhd box, zeros where it is cut off."""
    layout, offset = (">IQ", 20) if box[:1] == b"\1" else (">II", 12)
    if len(box) < offset + struct.calcsize(layout):
        return 0, 0
    rate, duration = struct.unpack_from(layout, box, offset)
    return rate, duration


def _read_edits(box: bytes) -> list[tuple[int, int]]:
    """Return duration (in units of the film) and first sample of each edit."""
    if len(box) < 8:
        return []
    layout = struct.Struct(">QqI" if box[0] == 1 else ">IiI")
    count = min(struct.unpack_from(">I", box, 4)[0], (len(box) - 8) // layout.size)
    return [layout.unpack_from(box, 8 + index * layout.size)[:2] for index in range(count)]
