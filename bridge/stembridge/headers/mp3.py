"""How long an MP3 really is, and whether it says where its audio begins.

libsndfile takes the length of an MP3 from its tag, or guesses it from the first frame's size: too long, or so
short that it stops early. Here every frame is counted. Frame headers: ISO/IEC 11172-3, 2.4.1.3, and 13818-3;
Xing, Info and LAME tag: LAME's "Mp3 Info Tag revision 1" and its VbrTag.c; VBRI: Fraunhofer's VBR tag.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from stembridge.errors import SourceError
from stembridge.headers.header import FileWindow, Header, Splice, contradiction, truncation

# Kilobits per second by index 1 to 14: MPEG-1 layers I, II, III; MPEG-2 layer I; MPEG-2 layers II and III.
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = (44_100, 48_000, 32_000)
_SIDE_BYTES = {(1, False): 32, (1, True): 17, (2, False): 17, (2, True): 9}
"""Bytes of side information by version and mono: where it would begin a Xing or Info tag stands instead."""

_FRAME_MAX = 2881
"""Bytes of the longest frame of layer III: 320 kbit/s at 32 kHz, padded."""

_VBRI_AT = 36
_HAS_FRAMES, _HAS_BYTES, _HAS_TOC, _HAS_QUALITY = 1, 2, 4, 8
_ID3V1_BYTES = 128
_APPENDIX_BYTES = 1 << 20

NO_GAPLESS_TAG = "no gapless tag: the encoder's start-up delay and padding are part of what is split"


class _Frame(NamedTuple):
    """One frame's header: bytes and samples of the frame, and what all frames of a stream share."""

    length: int
    samples: int
    version: int
    layer: int
    rate_hz: int
    is_mono: bool

    def joins(self, other: _Frame) -> bool:
        return self[2:] == other[2:]


def skip_id3(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag that begins so, 0 where none does (id3.org, ID3v2.4.0, section 3)."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 0x7F:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    # A footer repeats the head.
    return 10 + size + (10 if head[5] & 0x10 else 0)


def is_mpeg_audio(head: bytes) -> bool:
    """Tell whether these bytes begin a frame of MPEG audio, which AAC in ADTS is not."""
    return _parse_frame(head) is not None


def read_mp3(file: BinaryIO, size: int, begin: int, shown: str) -> Header:
    """Return how many samples decode, from a walk over all frames.

    With a LAME tag libsndfile cuts the encoder's delay and padding off, and only the most that can be left is
    told here. Without one all frames are audio, the frame of a Xing or VBRI tag is hidden (it would decode as
    silence), and zeros are shown behind the end, lest libsndfile's guess of the length be too short.

    Parameters
    ----------
    begin : offset of the first frame, behind an ID3v2 tag

    Raises
    ------
    SourceError : damaged or cut off, or a LAME tag that promises another number of frames
    """
    data = FileWindow(file)
    first = _parse_frame(data.read(begin, 4))
    if first is None:
        raise SourceError(f"{shown} is no MP3: no frame at byte {begin}", "export it again")
    body = data.read(begin, first.length)
    frames, left = 0, 0
    for at, frame in _walk_frames(data, size, begin, first, shown):
        if at + frame.length > size:
            left = size - at
            break
        frames += 1
    promised = _find_gapless_frames(body, first)
    if promised is None:
        remarks = [NO_GAPLESS_TAG]
        if left:
            remarks.append(f"the file ends within an MP3 frame: its last {left} bytes cannot be decoded")
        hidden = first.length if _has_tag_frame(body, first) else 0
        frames -= 1 if hidden else 0
        return Header(
            "MP3",
            frames=frames * first.samples,
            splice=Splice(begin, hidden, padding=frames * _FRAME_MAX),
            remarks=tuple(remarks),
        )
    if frames - 1 < promised:
        raise truncation(shown, f"{promised} MP3 frames", str(frames - 1))
    if frames - 1 > promised:
        raise contradiction(shown, f"{promised} MP3 frames", str(frames - 1))
    return Header("MP3", most_frames=promised * first.samples)


def _walk_frames(
    data: FileWindow, size: int, begin: int, first: _Frame, shown: str
) -> Iterator[tuple[int, _Frame]]:
    """Yield offset and header of each frame, the last of which may be cut off."""
    at = begin
    while at < size:
        frame = _parse_frame(data.read(at, 4))
        if frame is None or not frame.joins(first):
            if _is_appendix(data, at, size):
                return
            raise SourceError(f"{shown} is damaged: no MP3 frame at byte {at}", "copy or export it again")
        yield at, frame
        at += frame.length


def _is_appendix(data: FileWindow, at: int, size: int) -> bool:
    """Tell whether what begins here is a tag at the end of the file, or zeros up to it."""
    head = data.read(at, 11)
    if head[:3] == b"TAG" and size - at == _ID3V1_BYTES:
        return True
    if head.startswith((b"APETAGEX", b"LYRICSBEGIN", b"TAG+")):
        return True
    if head[:3] == b"ID3":
        # The tag of a second file that was appended to the first is not the end.
        return at + skip_id3(head) >= size - _ID3V1_BYTES
    return size - at < 4 or not data.read(at, _APPENDIX_BYTES).strip(b"\0")


def _parse_frame(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version_bits, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bitrate_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    # Index 0 is free format, which has frames of no stated length.
    if version_bits == 1 or layer == 4 or bitrate_index in (0, 15) or rate_index == 3:
        return None
    version = 1 if version_bits == 3 else 2
    rate_hz = _RATES_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[version_bits]
    bits_per_s = 1000 * _BITRATES[version, layer][bitrate_index - 1]
    is_padded = head[2] >> 1 & 1
    if layer == 1:
        samples, length = 384, (12 * bits_per_s // rate_hz + is_padded) * 4
    else:
        samples = 576 if layer == 3 and version == 2 else 1152
        length = samples // 8 * bits_per_s // rate_hz + is_padded
    return _Frame(length, samples, version, layer, rate_hz, head[3] >> 6 == 3)


def _tag_offset(frame: _Frame) -> int:
    return 4 + _SIDE_BYTES[frame.version, frame.is_mono]


def _has_tag_frame(body: bytes, frame: _Frame) -> bool:
    at = _tag_offset(frame)
    return frame.layer == 3 and (
        body[at : at + 4] in (b"Xing", b"Info") or body[_VBRI_AT : _VBRI_AT + 4] == b"VBRI"
    )


def _find_gapless_frames(body: bytes, frame: _Frame) -> int | None:
    """Return the frames that a tag with the encoder's delay and padding promises, None without such a tag."""
    at = _tag_offset(frame)
    if frame.layer != 3 or body[at : at + 4] not in (b"Xing", b"Info") or len(body) < at + 8:
        return None
    flags = struct.unpack_from(">I", body, at + 4)[0]
    lame = (
        at
        + 8
        + sum(
            count
            for flag, count in ((_HAS_FRAMES, 4), (_HAS_BYTES, 4), (_HAS_TOC, 100), (_HAS_QUALITY, 4))
            if flags & flag
        )
    )
    if not flags & _HAS_FRAMES or len(body) < lame + 24 or body[lame] == 0:
        return None
    promised: int = struct.unpack_from(">I", body, at + 8)[0]
    return promised
