"""What FLAC and Ogg streams say of themselves, and whether it is so.

libsndfile believes them: it stops where a FLAC header or the last Ogg page says, reads the first of several
Ogg streams in a row, and takes 2^63 - 1 frames where a FLAC header leaves their number open.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stembridge.channel_layout import VORBIS_ORDERS
from stembridge.errors import SourceError
from stembridge.headers.header import (
    FileWindow,
    Header,
    Splice,
    Unsplittable,
    contradiction,
    truncation,
)

_FLAC_TOTAL_AT = 18
"""Offset from 'fLaC' of the eight bytes whose last 36 bits are the number of samples."""
_FLAC_TOTAL_MASK = (1 << 36) - 1
_FLAC_FRAME_MAX = 1 << 21
_FLAC_TRIES = 16
"""Frame headers with a right checksum of their frame that are looked at; one in 65536 has it by chance."""
_FLAC_BLOCKS_MAX = 10_000
_CRC16_PERIOD = (1 << 15) - 1
"""Powers of x modulo x^16 + x^15 + x^2 + 1 = (x + 1)(x^15 + x + 1) recur after so many."""
_FLAC_BLOCK_SIZES = {1: 192, **{code: 144 << code for code in range(2, 6)}}
_FLAC_BLOCK_SIZES |= {code: 1 << code for code in range(8, 16)}
_FLAC_VORBIS_COMMENT = 4
_FLAC_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9a-fA-F]{1,8})", re.IGNORECASE)
_ID3V1_BYTES = 128
_APE_FOOTER = struct.Struct("<8sIIII8x")
_APE_HAS_HEADER = 1 << 31

_OGG_HEAD = struct.Struct("<4sBBqIIIB")
_OGG_FIRST, _OGG_LAST = 2, 4
_OPUS_HEAD_RATE_AT = 12
OPUS_RATE_HZ = 48_000


def _make_table(polynomial: int, width: int) -> tuple[int, ...]:
    top, mask = 1 << (width - 1), (1 << width) - 1
    table = []
    for value in range(256):
        crc = value << (width - 8)
        for _ in range(8):
            crc = ((crc << 1) ^ polynomial if crc & top else crc << 1) & mask
        table.append(crc)
    return tuple(table)


# RFC 9639, section 9.1.8; RFC 3533, section 6.
_CRC8 = _make_table(0x07, 8)
_CRC32 = _make_table(0x04C11DB7, 32)


def _crc8(data: bytes) -> int:
    crc = 0
    for octet in data:
        crc = _CRC8[crc ^ octet]
    return crc


def _crc32(data: bytes) -> int:
    crc = 0
    for octet in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC32[crc >> 24 ^ octet]
    return crc


def read_flac(file: BinaryIO, size: int, begin: int, shown: str) -> Header:
    """Return what a FLAC header says, held against the last frame of the stream (RFC 9639).

    Parameters
    ----------
    begin : offset of 'fLaC'

    Raises
    ------
    SourceError : another number of samples than the stream has, or no whole last frame
    """
    file.seek(begin)
    head = file.read(42)
    if len(head) < 42:
        raise SourceError(f"{shown} is truncated: its FLAC header has {len(head)} bytes", "copy it again")
    word = struct.unpack_from(">Q", head, _FLAC_TOTAL_AT)[0]
    promised = word & _FLAC_TOTAL_MASK
    found = _count_flac_samples(file, size, begin, struct.unpack_from(">H", head, 8)[0])
    mask = _find_flac_mask(file, size, begin + 4)
    if found is None:
        raise SourceError(
            f"{shown} is damaged or cut off at its end: no whole FLAC frame is there",
            "copy or export it again",
        )
    if promised == 0:
        shown_word = struct.pack(">Q", word & ~_FLAC_TOTAL_MASK | found)
        splice = Splice(begin + _FLAC_TOTAL_AT, 8, shown_word)
        return Header("FLAC", frames=found, channel_mask=mask, splice=splice)
    if found != promised:
        raise contradiction(shown, f"{promised} frames", str(found))
    return Header("FLAC", frames=promised, channel_mask=mask)


def _find_flac_mask(file: BinaryIO, size: int, offset: int) -> int:
    """Return the speakers that a comment of a FLAC file names (RFC 9639, section 8.6.2)."""
    for _ in range(_FLAC_BLOCKS_MAX):
        if offset + 4 > size:
            break
        file.seek(offset)
        kind, *length = file.read(4)
        count = int.from_bytes(bytes(length), "big")
        if kind & 0x7F == _FLAC_VORBIS_COMMENT:
            found = _FLAC_MASK.search(file.read(count))
            return int(found[1], 16) if found else 0
        if kind & 0x80:
            break
        offset += 4 + count
    return 0


def _count_flac_samples(file: BinaryIO, size: int, begin: int, block_samples: int) -> int | None:
    """Return the number of samples that the last frame of a stream ends at, None where there is no whole one.

    Parameters
    ----------
    block_samples : samples per frame of a stream of frames of one size
    """
    end = _skip_tags_at_end(file, size)
    start = max(begin + 42, end - _FLAC_FRAME_MAX)
    file.seek(start)
    tail = file.read(max(0, end - start))
    for at in islice(_find_flac_frames(tail), _FLAC_TRIES):
        samples = _parse_flac_frame(tail[at : at + 16], block_samples)
        if samples is not None:
            return samples
    return None


def _skip_tags_at_end(file: BinaryIO, size: int) -> int:
    """Return where a file ends without its ID3v1 tag and the APEv2 tag before that (APEv2, tag footer)."""
    end = size
    file.seek(max(0, end - _ID3V1_BYTES))
    if file.read(3) == b"TAG":
        end -= _ID3V1_BYTES
    file.seek(max(0, end - _APE_FOOTER.size))
    footer = file.read(_APE_FOOTER.size)
    if len(footer) == _APE_FOOTER.size:
        magic, _, length, _, flags = _APE_FOOTER.unpack(footer)
        if magic == b"APETAGEX":
            # The length counts the footer and not the header.
            end -= length + (_APE_FOOTER.size if flags & _APE_HAS_HEADER else 0)
    return end


def _find_flac_frames(tail: bytes) -> Iterator[int]:
    """Yield, the last one first, where a frame may begin whose checksum is right if it reaches to the end.

    A whole frame with its CRC-16 (RFC 9639, section 9.3) has the checksum 0, and so it has with zeros behind.
    The checksum is linear: bit i of the byte that has n bytes behind it adds x^(8 n + i), times x^16, which
    changes no 0. So each byte is looked at once, however many frames seem to begin.
    """
    octets = np.frombuffer(tail, np.uint8)
    powers = _crc16_powers()
    carry = np.uint16(0)
    for stop in range(len(octets), 0, -_CRC16_PERIOD):
        start = max(0, stop - _CRC16_PERIOD)
        block = octets[start:stop][::-1]
        crc = np.zeros(len(block), np.uint16)
        for bit in range(8):
            crc ^= (block >> bit & 1) * powers[bit, : len(block)]
        crc = np.bitwise_xor.accumulate(crc) ^ carry
        carry = crc[-1]
        for behind in np.flatnonzero((crc == 0) & (block == 0xFF)):
            at = stop - 1 - int(behind)
            if tail[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
                yield at


@cache
def _crc16_powers() -> NDArray[np.uint16]:
    """Return x^(8 n + i) modulo the polynomial of CRC-16 at [i, n], for i < 8 and one period of n."""
    powers = np.empty(_CRC16_PERIOD, np.uint16)
    power = 1
    for exponent in range(_CRC16_PERIOD):
        powers[exponent] = power
        power = power << 1 ^ (0x18005 if power & 0x8000 else 0)
    exponents = 8 * np.arange(_CRC16_PERIOD) + np.arange(8)[:, np.newaxis]
    table: NDArray[np.uint16] = powers[exponents % _CRC16_PERIOD]
    return table


def _parse_flac_frame(head: bytes, block_samples: int) -> int | None:
    """Return the sample at which the frame with this header ends, None where it is no header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    # A number as UTF-8 writes it, of up to seven bytes.
    extra = {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6}.get(8 - (head[4] ^ 0xFF).bit_length())
    if extra is None or size_code == 0:
        return None
    number = head[4] & (0x7F if extra == 0 else 0x3F >> extra)
    for octet in head[5 : 5 + extra]:
        number = number << 6 | octet & 0x3F
    at = 5 + extra
    if size_code in (6, 7):
        samples = int.from_bytes(head[at : at + size_code - 5], "big") + 1
        at += size_code - 5
    else:
        samples = _FLAC_BLOCK_SIZES[size_code]
    at += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if len(head) <= at or _crc8(head[: at + 1]) != 0:
        return None
    first = number if head[1] & 1 else number * block_samples
    return first + samples


class _Page(NamedTuple):
    offset: int
    length: int
    flags: int
    granule: int
    serial: int
    sequence: int


def read_ogg(file: BinaryIO, size: int, shown: str) -> Header:
    """Return what an Ogg stream says, after a walk over all of its pages (RFC 3533, RFC 7845).

    libsndfile is shown every Opus stream as one of 48 kHz: it would decode at the rate that the encoder was
    given, which is a note about the past and no property of the stream (RFC 7845, section 5.1).

    Raises
    ------
    SourceError : a page is cut off, damaged or missing, more than one stream, or an impossible end
    """
    data = FileWindow(file)
    pages = _walk_ogg(data, size, shown)
    first = next(pages)
    head = data.read(0, first.length)
    packet = head[28:]
    before, last = -1, first
    for page in pages:
        if page.flags & _OGG_FIRST or page.serial != first.serial:
            raise Unsplittable(
                f"{shown} holds more than one Ogg stream", "save each of them as a file of its own"
            )
        if page.sequence != last.sequence + 1 & 0xFFFFFFFF:
            raise SourceError(
                f"{shown} is damaged: Ogg page {last.sequence + 1} is missing", "copy or export it again"
            )
        if last.granule >= 0:
            before = last.granule
        last = page
    # A page holds at most 255 packets; a packet has at most 8192 samples (Vorbis) or 5760 (Opus).
    if not max(before, 0) <= last.granule <= max(before, 0) + 255 * 8192:
        raise contradiction(shown, f"an end at sample {last.granule}", f"{max(before, 0)} and one page")
    remarks: tuple[str, ...] = ()
    if not last.flags & _OGG_LAST:
        remarks = ("the last Ogg page is not marked as the last: the file may have been cut off",)
    channels, has_order = _read_ogg_channels(packet)
    return Header(
        "OGG",
        speakers=VORBIS_ORDERS.get(channels, ()) if has_order else (),
        splice=_show_opus_at_48_khz(head) if packet[:8] == b"OpusHead" else None,
        remarks=remarks,
    )


def _walk_ogg(data: FileWindow, size: int, shown: str) -> Iterator[_Page]:
    offset = 0
    page = None
    while offset < size:
        head = data.read(offset, 27)
        if head[:4] != b"OggS":
            if page and page.flags & _OGG_LAST:
                # What others have appended, such as ID3 tags, is none of Ogg's business.
                return
            raise SourceError(f"{shown} is damaged: no Ogg page at byte {offset}", "copy or export it again")
        if len(head) < 27:
            raise truncation(shown, "an Ogg page of 27 bytes and more", str(len(head)))
        _, _, flags, granule, serial, sequence, _, segments = _OGG_HEAD.unpack(head)
        table = data.read(offset + 27, segments)
        length = 27 + segments + sum(table)
        if offset + length > size:
            raise truncation(shown, f"an Ogg page of {length} bytes", f"{size - offset}")
        page = _Page(offset, length, flags, granule, serial, sequence)
        yield page
        offset += length


def _read_ogg_channels(packet: bytes) -> tuple[int, bool]:
    """Return the channels of a first packet, and whether they stand in the order of `VORBIS_ORDERS`."""
    if packet[:7] == b"\x01vorbis" and len(packet) > 11:
        return packet[11], True
    if packet[:8] == b"OpusHead" and len(packet) > 18:
        return packet[9], packet[18] in (0, 1)
    return 0, False


def _show_opus_at_48_khz(page: bytes) -> Splice | None:
    """Return what shows this first page of an Opus stream as one that was encoded from 48 kHz."""
    shown = bytearray(page)
    at = 28 + _OPUS_HEAD_RATE_AT
    if shown[at : at + 4] == struct.pack("<I", OPUS_RATE_HZ):
        return None
    shown[at : at + 4] = struct.pack("<I", OPUS_RATE_HZ)
    shown[22:26] = bytes(4)
    shown[22:26] = struct.pack("<I", _crc32(bytes(shown)))
    return Splice(0, len(shown), bytes(shown))
