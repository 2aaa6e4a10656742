"""What a file carried is read back from its stems by a reader that is not ours, at the place where it was."""

from __future__ import annotations

import hashlib
import struct
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
import wavinfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signals import make_noise
from stembridge import metadata
from stembridge.errors import SourceError
from stembridge.metadata import Metadata
from stembridge.wavfile import Chunk, WavWriter

RATE = 48_000
FRAMES = 96_000
START, LENGTH = 24_000, 48_000
TIME = 2**32 - 1_000
"""A time reference that passes 32 bits within the file."""
NO_LOUDNESS = 327.67


def encode(chunks: Sequence[Chunk], *, kind: bytes = b"RIFF") -> bytes:
    """Return a WAVE file of these chunks, as struct alone makes it."""
    body = b"".join(
        struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return struct.pack("<4sI4s", kind, len(body) + 4, b"WAVE") + body


def form(channels: int = 1, rate: int = RATE) -> Chunk:
    return Chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16))


def bext(time: int, *, version: int = 2, history: bytes = b"A=ANALOGUE,M=mono,T=Studer\r\n") -> bytes:
    return (
        b"A take".ljust(256, b"\0")
        + b"Recorder".ljust(32, b"\0")
        + b"REF-0001".ljust(32, b"\0")
        + b"2024-02-2918:30:00"
        + struct.pack("<QH", time, version)
        + bytes(range(64))
        + struct.pack("<5h", -2300, 700, -100, -1800, -2000)
        + bytes(180)
        + history
    )


def point(number: int, sample: int) -> bytes:
    return struct.pack("<II4sIII", number, sample, b"data", 0, 0, sample)


def cue(points: dict[int, int]) -> bytes:
    return struct.pack("<I", len(points)) + b"".join(point(*each) for each in points.items())


def entry(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2)


def label(name: bytes, number: int, text: bytes) -> bytes:
    return entry(name, struct.pack("<I", number) + text + b"\0")


def span(number: int, length: int, text: bytes = b"") -> bytes:
    return entry(b"ltxt", struct.pack("<II4sHHHH", number, length, b"rgn ", 0, 0, 0, 0) + text)


def smpl(loops: Sequence[tuple[int, int]], *, rest: bytes = b"", count: int | None = None) -> bytes:
    head = struct.pack("<9I", 1, 2, 20_833, 60, 5, 0, 0, len(loops) if count is None else count, len(rest))
    return head + b"".join(struct.pack("<6I", at, 0, *loop, 7, 3) for at, loop in enumerate(loops)) + rest


def acid(tempo: float, beats: int, flags: int = 0) -> bytes:
    return struct.pack("<IHHfIHHf", flags, 60, 0x8000, 0.0, beats, 4, 4, tempo)


def ixml(time: int, *, rate: int = RATE, encoding: str = "utf-8") -> bytes:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\r\n<BWFXML><PROJECT>Größe 雨 &amp;</PROJECT>'
        f"<SPEED><TIMESTAMP_SAMPLE_RATE>{rate}</TIMESTAMP_SAMPLE_RATE>"
        f"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>{time >> 32}</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>\n"
        f"<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO> {time & 0xFFFFFFFF}\n</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>"
        "</SPEED><!-- 1 --><BEXT>"
        f"<BWF_TIME_REFERENCE_LOW>{time & 0xFFFFFFFF}</BWF_TIME_REFERENCE_LOW>"
        f"<BWF_TIME_REFERENCE_HIGH>{time >> 32}</BWF_TIME_REFERENCE_HIGH>"
        "<BWF_CODING_HISTORY/></BEXT></BWFXML>\n"
    )
    return text.encode(encoding)


INFO = b"INFO" + b"".join(
    entry(name, text + b"\0")
    for name, text in ((b"INAM", b"Song"), (b"IART", b"Band"), (b"ISFT", b"Other 1"), (b"ICMT", b"odd"))
)
POINTS = {1: 0, 2: START, 3: START + LENGTH - 1, 4: START + LENGTH, 7: FRAMES - 1}
ADTL = (
    b"adtl"
    + b"".join(label(b"labl", number, b"point %d" % number) for number in POINTS)
    + label(b"note", 2, b"a note")
    + label(b"note", 4, b"gone")
    + span(2, 60_000, b"text")
    + span(3, 1)
    + span(7, 1)
)
LOOPS = (
    (0, 10),
    (START, START + LENGTH - 1),
    (START + 5, START + LENGTH),
    (START - 1, START + 9),
    (30_000, 30_000),
)
AUDIO = make_noise(FRAMES, 1).astype(np.float32).astype(np.float64)

EVERYTHING = (
    Chunk(b"JUNK", bytes(28)),
    Chunk(b"bext", bext(TIME)),
    form(),
    Chunk(b"PEAK", b"clock"),
    Chunk(b"iXML", ixml(TIME)),
    Chunk(b"data", bytes(2 * FRAMES)),
    Chunk(b"cue ", cue(POINTS)),
    Chunk(b"LIST", ADTL),
    Chunk(b"plst", struct.pack("<I6I", 2, 2, 60_000, 1, 4, 5, 1)),
    Chunk(b"smpl", smpl(LOOPS, rest=b"own")),
    Chunk(b"inst", b"<\0\0\x7f\0\x7f\0"),
    Chunk(b"acid", acid(120.0, 4)),
    Chunk(b"LIST", INFO),
    Chunk(b"id3 ", b"ID3\4"),
    Chunk(b"abcd", b"odd"),
    Chunk(b"cart", b"timers"),
    Chunk(b"levl", bytes(10)),
)


def carry(
    held: Metadata, start: int = 0, frames: int = FRAMES, **more: Any
) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    form_of_stem: dict[str, Any] = {
        "sample_rate": RATE,
        "channels": 1,
        "subtype": "FLOAT",
        "version": "1.2.3",
    }
    return metadata.carry(held, region_start=start, frames=frames, stem="vocals", **(form_of_stem | more))


def carry_one(name: bytes, data: bytes, start: int = 0, frames: int = FRAMES) -> tuple[bytes | None, str]:
    """Return what becomes of one chunk of a file of `FRAMES`, and the remarks."""
    chunks, remarks = carry(Metadata((Chunk(name, data),), FRAMES), start, frames)
    assert len(chunks) <= 1
    return next((chunk.data for chunk in chunks), None), " | ".join(remarks)


def write_stem(
    folder: Path, source: bytes, start: int, frames: int
) -> tuple[Path, dict[bytes, bytes], tuple[str, ...]]:
    """Return the stem of a region, its carried chunks by name, and the remarks."""
    (folder / "source.wav").write_bytes(source)
    chunks, remarks = carry(metadata.read_chunks(str(folder / "source.wav")), start, frames)
    path = folder / "stem.wav"
    with WavWriter(
        path, sample_rate=RATE, channels=1, frames=frames, subtype="FLOAT", chunks=chunks
    ) as writer:
        writer.write(AUDIO[:, start : start + frames])
    return (
        path,
        {chunk.name + chunk.data[:4] * (chunk.name == b"LIST"): chunk.data for chunk in chunks},
        remarks,
    )


def read_info(path: Path) -> wavinfo.WavInfoReader:
    return wavinfo.WavInfoReader(path, info_encoding="utf-8")


def test_a_stem_of_the_whole_file_has_everything_where_it_was(tmp_path: Path) -> None:
    path, chunks, remarks = write_stem(tmp_path, encode(EVERYTHING), 0, FRAMES)
    info = read_info(path)
    assert info.bext.time_reference == TIME
    assert info.bext.description == "A take"
    assert (info.bext.originator, info.bext.originator_ref) == ("Recorder", "REF-0001")
    assert (info.bext.originator_date, info.bext.originator_time) == ("2024-02-29", "18:30:00")
    assert (info.bext.version, info.bext.umid) == (2, bytes(range(64)))
    assert info.bext.coding_history == (
        "A=ANALOGUE,M=mono,T=Studer\r\nA=PCM,F=48000,W=32,M=mono,T=Stembridge 1.2.3\r\n"
    )
    assert {
        info.bext.loudness_value,
        info.bext.loudness_range,
        info.bext.max_true_peak,
        info.bext.max_momentary_loudness,
        info.bext.max_shortterm_loudness,
    } == {NO_LOUDNESS}
    assert dict(info.cues.each_cue()) == POINTS
    assert [each.position for each in info.cues.cues] == list(POINTS.values())
    assert info.cues.label_and_note(2) == ("point 2", "a note")
    assert [info.cues.label_and_note(number)[0] for number in POINTS] == [f"point {n}" for n in POINTS]
    assert [info.cues.range(number) for number in (2, 3, 7)] == [60_000, 1, 1]
    assert [(loop.start, loop.end) for loop in info.smpl.sample_loops] == list(LOOPS)
    assert {(loop.detune_cents, loop.repetition_count) for loop in info.smpl.sample_loops} == {(7, 3)}
    assert (info.smpl.midi_note, info.smpl.manufacturer, info.smpl.sampler_udata) == (60, 1, b"own")
    assert (info.info.title, info.info.artist) == ("Song - vocals", "Band")
    assert (info.info.software, info.info.comment) == ("Stembridge 1.2.3", "odd")
    names = {chunk.name: chunk.data for chunk in EVERYTHING}
    for name in (b"iXML", b"plst", b"smpl", b"inst", b"acid", b"id3 ", b"abcd", b"cart", b"cue "):
        assert chunks[name] == names[name]
    assert chunks[b"LISTadtl"] == ADTL
    assert remarks == ()


def test_a_stem_of_a_region_has_what_lies_inside_at_its_own_place(tmp_path: Path) -> None:
    path, chunks, remarks = write_stem(tmp_path, encode(EVERYTHING), START, LENGTH)
    info = read_info(path)
    assert info.bext.time_reference == TIME + START
    assert info.bext.description == "A take"
    assert dict(info.cues.each_cue()) == {2: 0, 3: LENGTH - 1}
    assert [each.position for each in info.cues.cues] == [0, LENGTH - 1]
    assert [each.name for each in info.cues.labels] == [2, 3]
    assert [each.text for each in info.cues.notes] == ["a note"]
    assert {each.name: (each.length, each.text) for each in info.cues.ranges} == {
        2: (LENGTH, "text"),
        3: (1, ""),
    }
    assert [(loop.start, loop.end) for loop in info.smpl.sample_loops] == [(0, LENGTH - 1), (6_000, 6_000)]
    assert info.smpl.sampler_udata == b"own"
    assert info.info.title == "Song - vocals"
    assert chunks[b"iXML"] == ixml(TIME + START)
    assert chunks[b"plst"] == struct.pack("<I3I", 1, 2, LENGTH, 1)
    assert chunks[b"acid"] == acid(120.0, 2)
    assert chunks[b"abcd"] == b"odd" and chunks[b"inst"] == b"<\0\0\x7f\0\x7f\0"
    assert b"cart" not in chunks
    assert remarks == (
        "'cue ': 3 of 5 points lie outside of the region",
        "'LIST': 5 of 10 labels belong to no point of the region",
        "'plst': 1 of 2 segments begin outside of the region",
        "'smpl': 3 of 5 loops do not lie inside the region",
        "'cart': its times stand for the whole file; left out of a region",
    )


@pytest.mark.parametrize(("start", "frames"), [(0, FRAMES), (START, LENGTH), (FRAMES - 1, 1)])
def test_the_audio_is_the_same_with_and_without(tmp_path: Path, start: int, frames: int) -> None:
    path, _, _ = write_stem(tmp_path, encode(EVERYTHING), start, frames)
    with WavWriter(
        tmp_path / "bare.wav", sample_rate=RATE, channels=1, frames=frames, subtype="FLOAT"
    ) as bare:
        bare.write(AUDIO[:, start : start + frames])
    audio = AUDIO[:, start : start + frames]
    packed = audio.astype("<f4").tobytes()
    assert path.read_bytes().count(struct.pack("<4sI", b"data", len(packed)) + packed) == 1
    assert hashlib.sha256(packed).hexdigest() == bare.sha256
    assert np.array_equal(soundfile.read(path, dtype="float64")[0], audio[0])


def test_chunks_come_in_the_order_of_the_file_and_none_twice(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(encode(EVERYTHING))
    held = metadata.read_chunks(str(tmp_path / "x.wav"))
    expected = [c for c in EVERYTHING if c.name not in (b"JUNK", b"fmt ", b"PEAK", b"data", b"levl")]
    assert held == Metadata(tuple(expected), FRAMES)


@pytest.mark.parametrize("name", sorted(metadata.SAMPLE_CHUNKS))
def test_what_describes_the_old_samples_is_in_no_stem(tmp_path: Path, name: bytes) -> None:
    chunks = [form(), Chunk(b"data", bytes(20))] if name not in (b"fmt ", b"data") else []
    path = tmp_path / "x.wav"
    path.write_bytes(encode([*chunks, Chunk(name, bytes(20)), Chunk(b"LIST", name + bytes(16))]))
    held = metadata.read_chunks(str(path))
    assert name not in [chunk.name for chunk in held.chunks]
    assert carry(Metadata((Chunk(name, b"x"), *held.chunks), FRAMES)) == ((), ())


# bext


@pytest.mark.parametrize("version", [0, 1])
def test_before_version_2_the_reserve_is_no_loudness(version: int) -> None:
    source = bext(5, version=version)
    data, remark = carry_one(b"bext", source, 7, 10)
    assert data is not None and remark == ""
    assert data[346:602] == source[346:602]
    assert struct.unpack_from("<Q", data, 338) == (12,)


@pytest.mark.parametrize(
    ("history", "kept"),
    [
        (b"", b""),
        (b"\0\0", b""),
        (b"A=PCM\r\n\0\0\0", b"A=PCM\r\n"),
        (b"A=PCM", b"A=PCM\r\n"),
        (b"\xc4\n", b"\xc4\n"),
    ],
)
@pytest.mark.parametrize(
    ("channels", "subtype", "words"),
    [(1, "PCM_16", "W=16,M=mono"), (2, "PCM_24", "W=24,M=stereo"), (6, "DOUBLE", "W=64,M=multichannel")],
)
def test_one_line_is_appended_to_the_coding_history(
    history: bytes, kept: bytes, channels: int, subtype: str, words: str
) -> None:
    held = Metadata((Chunk(b"bext", bext(0, history=history)),), FRAMES)
    ((_, data),), _ = carry(held, channels=channels, subtype=subtype, sample_rate=44_100)
    assert data[602:] == kept + f"A=PCM,F=44100,{words},T=Stembridge 1.2.3\r\n".encode()


@pytest.mark.parametrize(("start", "frames"), [(0, FRAMES), (START, LENGTH)])
def test_no_timestamp_is_invented(start: int, frames: int) -> None:
    chunks, _ = carry(Metadata((Chunk(b"LIST", INFO), Chunk(b"abcd", b"x")), FRAMES), start, frames)
    assert [chunk.name for chunk in chunks] == [b"LIST", b"abcd"]
    assert carry(Metadata(frames=FRAMES), start, frames) == ((), ())


def test_a_time_reference_that_would_overflow_is_left_out() -> None:
    assert carry_one(b"bext", bext(2**64 - 8), 7, 1)[0] is not None
    data, remark = carry_one(b"bext", bext(2**64 - 8), 8, 1)
    assert data is None and "leaves no room for 8 frames" in remark


@pytest.mark.parametrize("length", [0, 1, 346, 347])
def test_a_bext_without_a_time_is_left_out(length: int) -> None:
    data, remark = carry_one(b"bext", bext(1)[:length])
    assert data is None and remark == f"'bext': {length} bytes hold no time reference; left out"


@pytest.mark.parametrize("length", [348, 400, 420, 601, 602])
def test_a_short_bext_is_filled_up(tmp_path: Path, length: int) -> None:
    path, _, remarks = write_stem(tmp_path, encode([form(), Chunk(b"bext", bext(9)[:length])]), 5, 10)
    heard = read_info(path).bext
    assert (heard.time_reference, heard.description, heard.loudness_value) == (14, "A take", NO_LOUDNESS)
    assert heard.coding_history.startswith("A=PCM,F=48000") and remarks == ()


# iXML


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("tail", [b"", bytes(1), bytes(64)])
@pytest.mark.parametrize("time", [0, 1, TIME, 2**32 - START, 2**32 - START - 1, 2**63])
def test_ixml_times_move_and_every_other_byte_stays(encoding: str, tail: bytes, time: int) -> None:
    data, remark = carry_one(b"iXML", ixml(time, encoding=encoding) + tail, START, LENGTH)
    assert (data, remark) == (ixml(time + START, encoding=encoding) + tail, "")


def test_big_endian_ixml_with_a_mark_at_its_start() -> None:
    mark = b"\xfe\xff"
    data, _ = carry_one(b"iXML", mark + ixml(TIME, encoding="utf-16-be"), START, LENGTH)
    assert data == mark + ixml(TIME + START, encoding="utf-16-be")


def test_an_independent_parser_reads_the_moved_ixml(tmp_path: Path) -> None:
    data, _ = carry_one(b"iXML", ixml(TIME), START, LENGTH)
    assert data is not None
    speed = ElementTree.fromstring(data).find("SPEED")
    assert speed is not None
    high = int(speed.findtext("TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI") or "")
    low = int(speed.findtext("TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO") or "")
    assert (high << 32) + low == TIME + START


BAD_IXML = {
    "not closed": (b"<A><B></A>", "not to be parsed (mismatched tag"),
    "empty": (b"", "not to be parsed"),
    "zeros": (bytes(9), "not to be parsed"),
    "unknown encoding": (b'<?xml version="1.0" encoding="no-such"?><A/>', "not to be parsed"),
    "wide encoding": (b'<?xml version="1.0" encoding="utf-7"?><A/>', "not to be parsed"),
    "deep": (b"<A>" * 65 + b"</A>" * 65, "more than 64 elements in one another"),
    "entities": (b'<!DOCTYPE A [<!ENTITY x "y">]><A>&x;</A>', "it declares a document type"),
    "no number": (ixml(1).replace(b"> 1\n<", b">noon<"), "SINCE_MIDNIGHT_LO cannot be read"),
    "negative": (ixml(1).replace(b"> 1\n<", b">-1<"), "SINCE_MIDNIGHT_LO cannot be read"),
    "wider than a word": (ixml(1).replace(b"> 1\n<", b">4294967296<"), "SINCE_MIDNIGHT_LO cannot be read"),
    "split by a comment": (ixml(12).replace(b"12\n", b"1<!---->2"), "SINCE_MIDNIGHT_LO cannot be read"),
    "written as an entity": (ixml(1).replace(b"> 1\n<", b">&#49;<"), "SINCE_MIDNIGHT_LO cannot be read"),
    "twice": (ixml(1).replace(b"</SPEED>", b"<BWF_TIME_REFERENCE_LOW>1</BWF_TIME_REFERENCE_LOW></SPEED>"),
              "BWF_TIME_REFERENCE_LOW cannot be read"),
    "high twice": (ixml(1).replace(
        b"</SPEED>", b"<BWF_TIME_REFERENCE_HIGH>1</BWF_TIME_REFERENCE_HIGH></SPEED>"),
                   "BWF_TIME_REFERENCE_LOW cannot be read"),
    "high alone": (b"<A><BWF_TIME_REFERENCE_HIGH>1</BWF_TIME_REFERENCE_HIGH></A>", "cannot be read"),
    "no room in 32 bits": (
        b"<A><BWF_TIME_REFERENCE_LOW>4294967295</BWF_TIME_REFERENCE_LOW></A>", "leaves no room"),
    "no room in 64 bits": (ixml(2**64 - 1), "leaves no room"),
    "another rate": (ixml(1, rate=48_048), "count at '48048' Hz, the file at 48000"),
    "huge": (b" " * (metadata.MAX_IXML_BYTES + 1), "too many"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_IXML)
def test_ixml_whose_times_cannot_be_moved_is_left_out_of_a_region(case: str) -> None:
    source, said = BAD_IXML[case]
    data, remark = carry_one(b"iXML", source, START, LENGTH)
    assert data is None and said in remark and remark.isprintable()
    assert carry_one(b"iXML", source) == (source, "")
    assert carry_one(b"iXML", source, 0, LENGTH) == (source, "")


def test_deep_ixml_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        assert carry_one(b"iXML", b"<A>" * 300_000, START, LENGTH)[0] is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 2**20


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("room", [16_000, 16_384, 50_001])
def test_times_far_into_ixml_move(encoding: str, room: int) -> None:
    source, moved = (
        ixml(time).decode().replace("Größe", "ö" * room).encode(encoding) for time in (TIME, TIME + START)
    )
    assert carry_one(b"iXML", source, START, LENGTH) == (moved, "")


@pytest.mark.parametrize(
    "source",
    [
        b"<BWFXML/>",
        b"<A>" * 64 + b"</A>" * 64,
        b"<A><BWF_TIME_REFERENCE_LOW/><BWF_TIME_REFERENCE_HIGH></BWF_TIME_REFERENCE_HIGH></A>",
        b"<A><TIMESTAMP_SAMPLE_RATE>48048</TIMESTAMP_SAMPLE_RATE></A>",
        '<?xml version="1.0" encoding="ISO-8859-1"?><A>Größe</A>'.encode("latin-1"),
    ],
)
def test_ixml_without_times_stays_as_it_is(source: bytes) -> None:
    assert carry_one(b"iXML", source, START, LENGTH) == (source, "")


def test_a_low_word_alone_moves() -> None:
    source = b"<A><BWF_TIME_REFERENCE_LOW>7</BWF_TIME_REFERENCE_LOW></A>"
    assert carry_one(b"iXML", source, 5, 10) == (source.replace(b"7", b"12"), "")


def test_sync_points_are_remarked_on() -> None:
    source = b"<A><SYNC_POINT_LOW>7</SYNC_POINT_LOW></A>"
    assert carry_one(b"iXML", source, 5, 10) == (
        source,
        "'iXML': its sync points still count from the start of the source",
    )


# Points, loops, lists


def test_a_point_in_coded_audio_counts_in_frames() -> None:
    source = struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 30_000, b"data", 0, 2_048, 17)
    data, _ = carry_one(b"cue ", source, START, LENGTH)
    assert data == cue({1: 6_000})


def test_a_point_without_a_place_in_the_play_order_keeps_none() -> None:
    source = struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 0, b"data", 0, 0, 30_000)
    data, _ = carry_one(b"cue ", source, START, LENGTH)
    assert data == struct.pack("<I", 1) + struct.pack("<II4sIII", 1, 0, b"data", 0, 0, 6_000)


def test_a_point_in_a_list_of_waves_is_in_no_region() -> None:
    source = cue({1: 5}).replace(b"data", b"slnt")
    assert carry_one(b"cue ", source, 0, 10)[0] is None


def test_the_labels_of_a_point_go_with_it() -> None:
    source = cue({1: 5, 2: 6}).replace(b"data", b"slnt", 1)
    labels = b"adtl" + label(b"labl", 1, b"x") + label(b"labl", 2, b"y")
    held = Metadata((Chunk(b"cue ", source), Chunk(b"LIST", labels)), FRAMES)
    chunks, _ = carry(held, 0, 10)
    assert [chunk.data for chunk in chunks] == [cue({2: 6}), b"adtl" + label(b"labl", 2, b"y")]


def test_points_behind_the_end_stay_in_a_stem_of_the_whole_file() -> None:
    assert carry_one(b"cue ", cue({1: FRAMES, 2: 2**32 - 1})) == (cue({1: FRAMES, 2: 2**32 - 1}), "")
    assert carry_one(b"plst", struct.pack("<I3I", 1, 9, 5, 1)) == (struct.pack("<I3I", 1, 9, 5, 1), "")
    assert carry_one(b"smpl", smpl([(5, FRAMES)])) == (smpl([(5, FRAMES)]), "")
    assert carry_one(b"cue ", cue({})) == (cue({}), "")


@pytest.mark.parametrize(("start", "frames"), [(0, FRAMES - 1), (1, FRAMES), (0, FRAMES + 1)])
def test_only_the_whole_file_is_whole(start: int, frames: int) -> None:
    data, _ = carry_one(b"cue ", cue({1: 2 * FRAMES, 2: 5}), start, frames)
    assert data == cue({2: 5 - start})
    for name in metadata.POSITION_CHUNKS:
        assert carry_one(name, b"timers") == (b"timers", "")
        assert carry_one(name, b"timers", start, frames)[0] is None


def test_labels_without_points_are_in_no_region() -> None:
    source = b"adtl" + label(b"labl", 1, b"x")
    assert carry_one(b"LIST", source) == (source, "")
    assert carry_one(b"LIST", source, 0, 5) == (
        None,
        "'LIST': 1 of 1 labels belong to no point of the region",
    )


def test_of_points_with_the_same_number_the_first_has_the_labels() -> None:
    source = struct.pack("<I", 2) + point(1, 2) + point(1, 8)
    held = Metadata((Chunk(b"LIST", b"adtl" + span(1, 100)), Chunk(b"cue ", source)), FRAMES)
    chunks, _ = carry(held, 0, 10)
    assert chunks[0].data == b"adtl" + span(1, 8)


LIARS = {
    "cue count": (b"cue ", struct.pack("<I", 2**32 - 1) + point(1, 5), cue({1: 5}), "4294967295 entries"),
    "cue cut": (b"cue ", cue({1: 5, 2: 6})[:-1], cue({1: 5}), "2 entries are claimed, 1 were read"),
    "cue more": (b"cue ", cue({1: 5}) + b"more", cue({1: 5}), ""),
    "cue short": (b"cue ", b"\1\0\0", None, "too short"),
    "plst count": (b"plst", struct.pack("<I3I", 9, 1, 2, 3), struct.pack("<I3I", 1, 1, 2, 3), "9 entries"),
    "plst short": (b"plst", b"", None, "too short"),
    "smpl count": (b"smpl", smpl([(1, 2)], rest=b"own!", count=9), smpl([(1, 2)]), "9 entries"),
    "smpl short": (b"smpl", smpl([])[:35], None, "35 bytes are too few"),
    "smpl rest": (b"smpl", smpl([(1, 2)], rest=b"own!")[:-2], smpl([(1, 2)], rest=b"ow"), ""),
    "smpl more": (b"smpl", smpl([(1, 2)]) + b"more", smpl([(1, 2)]), ""),
    "smpl odd": (b"smpl", smpl([(1, 2)], rest=b"own"), smpl([(1, 2)], rest=b"own"), ""),
    "acid short": (b"acid", acid(120, 4)[:23], None, "23 bytes are too few"),
    "acid long": (b"acid", acid(120, 4) + b"x", acid(120, 4) + b"x", ""),
    "list short": (b"LIST", b"INF", None, "too short for a list"),
    "label short": (b"LIST", b"adtl" + entry(b"labl", b"abc") + label(b"labl", 1, b"x"),
                    b"adtl" + label(b"labl", 1, b"x"), "a label is too short"),
    "range short": (b"LIST", b"adtl" + entry(b"ltxt", bytes(19)), b"adtl", "a label is too short"),
    "label long": (b"LIST", b"adtl" + label(b"labl", 1, b"x") + struct.pack("<4sI", b"labl", 99) + b"x",
                   b"adtl" + label(b"labl", 1, b"x"), "what follows entry 1 cannot be read"),
    "label of no name": (b"LIST", b"adtl" + label(b"\0\0\0\0", 1, b"x"), b"adtl", "entry 0 cannot be read"),
    "r64m": (b"r64m", bytes(320), None, "its markers point to bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIARS)
def test_what_lies_about_itself_is_cut_to_what_is_there(case: str) -> None:
    name, source, kept, said = LIARS[case]
    data, remark = carry_one(name, source)
    assert data == kept
    assert said in remark and bool(remark) == bool(said)


def test_more_entries_than_the_limit_are_cut() -> None:
    many = metadata.MAX_ENTRIES + 1
    data, remark = carry_one(b"cue ", struct.pack("<I", many) + point(1, 5) * many)
    assert data is not None and struct.unpack_from("<I", data) == (metadata.MAX_ENTRIES,)
    assert f"{many} entries are claimed, {metadata.MAX_ENTRIES} were read" in remark
    data, remark = carry_one(b"LIST", b"adtl" + label(b"labl", 1, b"x") * many)
    assert data == b"adtl" + label(b"labl", 1, b"x") * metadata.MAX_ENTRIES and "cannot be read" in remark


def test_an_smpte_offset_goes_where_it_cannot_be_moved() -> None:
    source = bytearray(smpl([(START, START)]))
    struct.pack_into("<2I", source, 20, 25, 0x01020304)
    assert carry_one(b"smpl", bytes(source)) == (bytes(source), "")
    data, remark = carry_one(b"smpl", bytes(source), START, LENGTH)
    assert data == smpl([(0, 0)]) and "SMPTE offset" in remark


@pytest.mark.parametrize(
    ("tempo", "frames", "beats"),
    [(120.0, 24_000, 1), (120.0, 48_050, 2), (60.0, 47_000, None), (0.0, 48_000, None),
     (float("nan"), 48_000, None), (float("inf"), 48_000, None), (-120.0, 48_000, None), (0.1, 5, None)],
)  # fmt: skip
def test_a_loop_of_a_region_has_its_own_beats_or_is_none(
    tempo: float, frames: int, beats: int | None
) -> None:
    data, remark = carry_one(b"acid", acid(tempo, 4, flags=4), START, frames)
    assert data == (acid(tempo, beats, 4) if beats else acid(tempo, 0, 5))
    assert ("one-shot" in remark) == (beats is None)


def test_a_one_shot_has_no_beats_to_count() -> None:
    assert carry_one(b"acid", acid(121.0, 4, flags=1), START, 5) == (acid(121.0, 4, flags=1), "")


def test_a_list_that_forgot_its_pad_bytes_is_read() -> None:
    source = b"INFO" + struct.pack("<4sI", b"INAM", 3) + b"abc" + struct.pack("<4sI", b"IART", 4) + b"def\0"
    data, remark = carry_one(b"LIST", source)
    assert data == (
        b"INFO"
        + entry(b"INAM", b"abc - vocals\0")
        + entry(b"IART", b"def\0")
        + entry(b"ISFT", b"Stembridge 1.2.3\0")
    )
    assert remark == ""


def test_an_empty_title_becomes_the_name_of_the_stem() -> None:
    data, _ = carry_one(b"LIST", b"INFO" + entry(b"INAM", b"\0"))
    assert data == b"INFO" + entry(b"INAM", b"vocals\0") + entry(b"ISFT", b"Stembridge 1.2.3\0")


def test_other_lists_stay_as_they_are() -> None:
    assert carry_one(b"LIST", b"exif\1\2\3", START, LENGTH) == (b"exif\1\2\3", "")


# Files


def read(folder: Path, data: bytes) -> Metadata:
    (folder / "x.wav").write_bytes(data)
    return metadata.read_chunks(str(folder / "x.wav"))


TITLE = Chunk(b"abcd", b"kept")


@pytest.mark.parametrize("kind", [b"RF64", b"BW64"])
def test_rf64_says_in_ds64_where_its_audio_ends(tmp_path: Path, kind: bytes) -> None:
    audio = bytes(2 * 11)
    ds64 = Chunk(b"ds64", struct.pack("<QQQI", 0, len(audio), 11, 0))
    data = encode([ds64, form(), Chunk(b"data", audio), TITLE], kind=kind)
    data = data.replace(struct.pack("<4sI", b"data", len(audio)), struct.pack("<4sI", b"data", 2**32 - 1))
    assert read(tmp_path, data) == Metadata((TITLE,), 11)
    # Without kind's promise the number means what it says, and nothing is found behind it.
    assert read(tmp_path, data.replace(kind, b"RIFF")) == Metadata((), (len(audio) + 12) // 2)


def test_a_length_that_fits_32_bits_stands_in_rf64_too(tmp_path: Path) -> None:
    ds64 = Chunk(b"ds64", struct.pack("<QQQI", 0, 99, 0, 0))
    assert read(tmp_path, encode([ds64, form(), Chunk(b"data", bytes(4)), TITLE], kind=b"RF64")) == Metadata(
        (TITLE,), 2
    )


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_frames_are_counted_over_all_channels(tmp_path: Path, channels: int) -> None:
    assert read(tmp_path, encode([form(channels), Chunk(b"data", bytes(12))])).frames == 6 // channels


def test_frames_of_coded_audio_are_not_guessed(tmp_path: Path) -> None:
    adpcm = Chunk(b"fmt ", struct.pack("<HHIIHH", 2, 1, RATE, RATE, 256, 4))
    assert read(tmp_path, encode([adpcm, Chunk(b"data", bytes(512)), TITLE])) == Metadata((TITLE,), 0)


@pytest.mark.parametrize("length", [0, 2**32 - 1, 0x7FFFF000])
def test_a_stream_that_never_knew_its_length_ends_the_search(tmp_path: Path, length: int) -> None:
    data = encode([TITLE, form(), Chunk(b"data", bytes(40)), Chunk(b"abcd", b"lost")])
    held = read(
        tmp_path, data.replace(struct.pack("<4sI", b"data", 40), struct.pack("<4sI", b"data", length))
    )
    assert (held.chunks, held.remarks) == ((TITLE,), ())


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_file_that_ends_early_keeps_what_is_whole(tmp_path: Path, cut: int) -> None:
    held = read(tmp_path, encode([form(), TITLE, Chunk(b"efgh", b"0123")])[:-cut])
    assert held.chunks == (TITLE,)
    assert held.remarks == ((f"'efgh' claims 4 bytes, the file ends after {4 - cut}",) if cut <= 4 else ())


def test_a_length_beyond_the_file_is_remarked_on(tmp_path: Path) -> None:
    data = encode([form(), TITLE]) + struct.pack("<4sI", b"cue ", 2**32 - 1) + bytes(9)
    held = read(tmp_path, data)
    assert held == Metadata((TITLE,), 0, ("'cue ' claims 4294967295 bytes, the file ends after 9",))


def test_rubbish_ends_the_search(tmp_path: Path) -> None:
    data = encode([form(), TITLE])
    held = read(tmp_path, data + b"\xff" * 40)
    assert held == Metadata((TITLE,), 0, (f"what follows byte {len(data)} is no chunk",))


def test_a_forgotten_pad_byte_does_not_end_the_search(tmp_path: Path) -> None:
    odd = Chunk(b"odd ", b"123")
    data = encode([form(), odd, TITLE])
    assert read(tmp_path, data).chunks == (odd, TITLE)
    assert read(tmp_path, data.replace(b"123\0", b"123")).chunks == (odd, TITLE)


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF",
        b"RIFF\4\0\0\0AVI LIST",
        b"RIFX\4\0\0\0WAVE",
        b"FORM\0\0\0\4AIFF",
        b"FORM\0\0\0\x048SVX",
        b"fLaC",
        b"x" * 99,
    ],
)
def test_a_file_of_another_kind_has_no_chunks(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == Metadata()


def test_only_so_many_chunks_are_read(tmp_path: Path) -> None:
    held = read(tmp_path, encode([form(), *[TITLE] * 1_000_000]))
    assert len(held.chunks) == metadata.MAX_CHUNKS - 1
    assert held.remarks == ("chunks after the first 1000 were left out",)


def test_only_so_many_bytes_are_read(tmp_path: Path) -> None:
    mib = 2**20
    large, tight = Chunk(b"larg", bytes(9 * mib)), Chunk(b"tigh", bytes(7 * mib - 4))
    path = tmp_path / "x.wav"
    with path.open("wb") as file:
        file.write(encode([form()]))
        # A hole of 3 GiB that claims to be metadata takes no room on the disk.
        file.write(struct.pack("<4sI", b"huge", 3 * 2**30))
        file.seek(3 * 2**30, 1)
        for chunk in (large, large, TITLE, tight, TITLE):
            file.write(encode([chunk])[12:])
    tracemalloc.start()
    try:
        held = metadata.read_chunks(str(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held.chunks == (large, TITLE, tight)
    assert peak < 20 * mib
    assert held.remarks == (
        "'huge' does not fit into 16 MiB of metadata",
        "'larg' does not fit into 16 MiB of metadata",
        "'abcd' does not fit into 16 MiB of metadata",
    )


def test_remarks_are_few(tmp_path: Path) -> None:
    held = Metadata(remarks=("same", "same"), chunks=tuple(Chunk(b"bext", bytes(n)) for n in range(50)))
    _, remarks = carry(held)
    assert len(remarks) == metadata.MAX_REMARKS
    assert remarks[0] == "same" and remarks[-1] == "and 32 more remarks on metadata"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        metadata.read_chunks(str(tmp_path / "none.wav"))
    with pytest.raises(SourceError, match="is a folder"):
        metadata.read_chunks(str(tmp_path))


def test_a_file_that_goes_while_it_is_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "check_source_file", lambda path: 100)
    with pytest.raises(SourceError, match=r"gone\.wav' cannot be read: No such file"):
        metadata.read_chunks(str(tmp_path / "gone.wav"))


# Any input

NAMES = st.sampled_from(
    [b"bext", b"iXML", b"cue ", b"plst", b"smpl", b"acid", b"inst", b"LIST", b"id3 ", b"abcd", b"cart",
     b"strc", b"ds64", b"fmt ", b"fact", b"PEAK", b"RIFF", b"data", b"axml", b"_PMX", b"bad\0", b"list"]
)  # fmt: skip
WORDS = st.one_of(st.integers(0, 3), st.integers(0, FRAMES + 5), st.integers(0, 2**32 - 1))
BODIES = st.one_of(
    st.binary(max_size=90),
    st.lists(WORDS, max_size=40).map(lambda words: struct.pack(f"<{len(words)}I", *words)),
    st.builds(
        lambda kind, parts, tail: kind + b"".join(entry(name, body) for name, body in parts) + tail,
        st.sampled_from([b"INFO", b"adtl", b"wavl", b"exif"]),
        st.lists(
            st.tuples(
                st.sampled_from([b"labl", b"ltxt", b"note", b"file", b"INAM", b"ISFT", b"\0\0\0\0"]),
                st.one_of(
                    st.binary(max_size=30),
                    st.lists(WORDS, max_size=7).map(lambda w: struct.pack(f"<{len(w)}I", *w)),
                ),
            ),
            max_size=5,
        ),
        st.binary(max_size=9),
    ),
    st.binary(max_size=300).map(lambda data: bext(1)[: 2 * len(data)] + data),
    st.builds(
        lambda t, at, junk: ixml(t)[:at] + junk + ixml(t)[at:],
        st.integers(0, 2**70),
        st.integers(0, 900),
        st.binary(max_size=3),
    ),
)
SOUPS = st.lists(st.builds(Chunk, NAMES, BODIES), max_size=8)


@settings(max_examples=300)
@given(
    soup=SOUPS,
    start=st.integers(0, 40),
    frames=st.integers(1, 40),
    junk=st.binary(max_size=20),
    data=st.data(),
)
def test_no_soup_of_chunks_hides_the_audio(
    soup: list[Chunk], start: int, frames: int, junk: bytes, data: st.DataObject
) -> None:
    source = bytearray(encode([form(), *soup, Chunk(b"data", bytes(80))]) + junk)
    for at in data.draw(st.lists(st.integers(12, len(source) - 1), max_size=3)):
        source[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path, _, remarks = write_stem(Path(folder), bytes(source), start, frames)
        assert all(remark.isprintable() for remark in remarks) and len(remarks) <= metadata.MAX_REMARKS
        sound, rate = soundfile.read(path, dtype="float64", always_2d=True)
    assert rate == RATE and np.array_equal(sound.T, AUDIO[:, start : start + frames])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    time=st.integers(0, 2**64 - 1 - FRAMES),
    points=st.dictionaries(st.integers(0, 2**32 - 1), st.integers(0, FRAMES - 1), max_size=8),
    loops=st.lists(st.tuples(st.integers(0, FRAMES - 1), st.integers(0, FRAMES - 1)), max_size=4),
    lengths=st.lists(st.integers(0, 60_000), max_size=8),
    start=st.integers(0, FRAMES - 1),
    more=st.integers(0, FRAMES),
)
def test_what_is_heard_at_a_point_is_heard_there_again(
    time: int,
    points: dict[int, int],
    loops: list[tuple[int, int]],
    lengths: list[int],
    start: int,
    more: int,
) -> None:
    frames = 1 + more % (FRAMES - start)
    is_whole = frames == FRAMES
    ranges = dict(zip(points, lengths, strict=False))
    adtl = b"adtl" + b"".join(span(number, length) for number, length in ranges.items())
    chunks = [
        form(), Chunk(b"bext", bext(time)), Chunk(b"iXML", ixml(time)), Chunk(b"data", bytes(2 * FRAMES)),
        Chunk(b"cue ", cue(points)), Chunk(b"LIST", adtl), Chunk(b"smpl", smpl(loops)),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path, carried, _ = write_stem(Path(folder), encode(chunks), start, frames)
        info = read_info(path)
    # Absolute in the day before: TimeReference + position; again after.
    inside = {n: time + p for n, p in points.items() if is_whole or start <= p < start + frames}
    assert {n: info.bext.time_reference + p for n, p in info.cues.each_cue()} == inside
    assert carried[b"iXML"] == ixml(info.bext.time_reference)
    assert [
        (info.bext.time_reference + loop.start, info.bext.time_reference + loop.end)
        for loop in info.smpl.sample_loops
    ] == [
        (time + first, time + last)
        for first, last in loops
        if is_whole or (start <= first <= last < start + frames)
    ]
    for each in info.cues.ranges:
        before, end = ranges[each.name], time + start + frames
        assert each.length == (before if is_whole else min(before, end - inside[each.name]))
    assert {each.name for each in info.cues.ranges} == set(ranges) & set(inside)


# Files of other kinds


def aiff_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">4sI", name, len(data)) + data + bytes(len(data) % 2)


def marker(number: int, place: int, name: bytes) -> bytes:
    text = bytes([len(name)]) + name
    return struct.pack(">HI", number, place) + text + bytes(len(text) % 2)


def aiff(*chunks: bytes, kind: bytes = b"AIFF") -> bytes:
    return b"FORM" + struct.pack(">I", 4 + len(b"".join(chunks))) + kind + b"".join(chunks)


COMMON = aiff_chunk(b"COMM", struct.pack(">hIh", 1, FRAMES, 16) + bytes.fromhex("400ebb80000000000000"))
MARKS = ((1, 0, b""), (2, START, b"a"), (3, START + LENGTH, b"be"), (9, FRAMES, b"end"))
MARK = aiff_chunk(b"MARK", struct.pack(">H", len(MARKS)) + b"".join(marker(*each) for each in MARKS))
INST = aiff_chunk(b"INST", struct.pack(">bbbbbbhHHHHHH", 64, 0, 0, 127, 1, 127, 0, 1, 2, 3, 2, 1, 9))


@pytest.mark.parametrize("kind", [b"AIFF", b"AIFC"])
def test_markers_and_loops_of_aiff_are_read_back_from_wav(tmp_path: Path, kind: bytes) -> None:
    source = aiff(COMMON, aiff_chunk(b"ANNO", b"odd"), MARK, INST, aiff_chunk(b"SSND", bytes(9)), kind=kind)
    path, _, remarks = write_stem(tmp_path, source, 0, FRAMES)
    info = read_info(path)
    assert dict(info.cues.each_cue()) == {number: place for number, place, _ in MARKS}
    assert [each.position for each in info.cues.cues] == [place for _, place, _ in MARKS]
    assert {each.name: each.text.encode() for each in info.cues.labels} == {n: text for n, _, text in MARKS}
    assert [(loop.loop_type, loop.start, loop.end) for loop in info.smpl.sample_loops] == [
        (0, START, START + LENGTH - 1),
        (1, 0, FRAMES - 1),
    ]
    assert info.smpl.midi_note == 64 and info.bext is None and remarks == ()
    path.unlink()
    path, _, _ = write_stem(tmp_path, source, START, LENGTH)
    info = read_info(path)
    assert dict(info.cues.each_cue()) == {2: 0}
    assert [(loop.start, loop.end) for loop in info.smpl.sample_loops] == [(0, LENGTH - 1)]


def test_markers_come_as_whole_words(tmp_path: Path) -> None:
    _, labels = read(tmp_path, aiff(COMMON, MARK)).chunks
    assert labels.data == b"adtl" + b"".join(label(b"labl", number, text) for number, _, text in MARKS)


def test_libsndfile_means_the_same_frames_of_aiff(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.aiff", AUDIO[0], RATE, subtype="PCM_24")
    assert metadata.read_chunks(str(tmp_path / "x.aiff")) == Metadata((), FRAMES)


def test_a_file_of_markers_that_lies_gives_what_is_there(tmp_path: Path) -> None:
    lying = aiff_chunk(b"MARK", struct.pack(">H", 9) + marker(4, 5, b"x") + b"\0\1")
    held = read(tmp_path, aiff(lying, aiff_chunk(b"INST", bytes(range(19)))))
    assert [chunk.data for chunk in held.chunks] == [cue({4: 5}), b"adtl" + label(b"labl", 4, b"x")]
    assert (held.frames, held.remarks) == (0, ("'MARK': 9 markers are claimed, 1 were read",))
    assert read(tmp_path, aiff(COMMON, MARK)[:-1]) == Metadata(
        (), FRAMES, (f"'MARK' of {len(MARK) - 8} bytes cannot be read; left out",)
    )
    huge = aiff(COMMON, aiff_chunk(b"MARK", struct.pack(">H", 1) + marker(4, 5, b"x") + bytes(2**20)))
    assert read(tmp_path, huge).remarks == ("'MARK' of 1048586 bytes cannot be read; left out",)
    assert read(tmp_path, aiff(COMMON, aiff_chunk(b"MARK", b""), INST)) == Metadata((), FRAMES)
    assert read(tmp_path, aiff(*[aiff_chunk(b"ANNO", b"")] * 1_000, MARK)) == Metadata()
    backward = aiff_chunk(b"INST", bytes(8) + struct.pack(">HHHHHH", 1, 3, 2, 1, 1, 77))
    assert len(read(tmp_path, aiff(MARK, backward)).chunks) == 2
    modes = aiff_chunk(b"INST", bytes(8) + struct.pack(">HHHHHH", 0, 1, 2, 3, 1, 2))
    assert len(read(tmp_path, aiff(MARK, modes)).chunks) == 2
    twice = aiff_chunk(b"MARK", struct.pack(">H", 2) + marker(4, 5, b"x") + marker(4, 6, b"y"))
    assert read(tmp_path, aiff(twice)).chunks[0] == Chunk(b"cue ", cue({4: 5}))


@given(body=st.binary(max_size=60), loops=st.binary(max_size=24), cut=st.integers(0, 40))
def test_no_aiff_does_more_than_lie(body: bytes, loops: bytes, cut: int) -> None:
    source = aiff(COMMON, aiff_chunk(b"MARK", body), aiff_chunk(b"INST", loops))
    with tempfile.TemporaryDirectory() as folder:
        path, _, _ = write_stem(Path(folder), source[: len(source) - cut], 3, 10)
        assert np.array_equal(soundfile.read(path, dtype="float64")[0], AUDIO[0, 3:13])


def test_tags_become_a_list_that_others_read(tmp_path: Path) -> None:
    tags = {
        "title": "Größe", "artist": "Band", "album": "Record", "tracknumber": "3", "date": "2024",
        "genre": "Jazz", "comment": "x" * 70_000, "copyright": "me\0you", "software": "LAME", "license": "",
    }  # fmt: skip
    chunk = metadata.info_chunk(tags, "vocals", "1.2.3")
    path = tmp_path / "x.wav"
    with WavWriter(path, sample_rate=RATE, channels=1, frames=1, subtype="FLOAT", chunks=[chunk]) as writer:
        writer.write(np.zeros((1, 1)))
    heard = read_info(path).info
    assert (heard.title, heard.artist, heard.album) == ("Größe - vocals", "Band", "Record")
    assert (heard.created_date, heard.genre, heard.copyright) == ("2024", "Jazz", "me")
    assert heard.comment == "x" * 65_536 and heard.software == "Stembridge 1.2.3"
    assert entry(b"ITRK", b"3\0") in chunk.data
    with soundfile.SoundFile(path) as file:
        assert (file.title, file.artist) == ("Größe - vocals", "Band")


def test_a_file_without_tags_has_no_title() -> None:
    chunk = metadata.info_chunk({"title": "", "comment": "\0"}, "vocals", "1.2.3")
    assert chunk == Chunk(b"LIST", b"INFO" + entry(b"ISFT", b"Stembridge 1.2.3\0"))


# The page


def test_the_page_names_every_chunk_that_is_treated() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metadata.md").read_text(encoding="utf-8")
    known = metadata.SAMPLE_CHUNKS | metadata.POSITION_CHUNKS | {
        b"bext", b"iXML", b"cue ", b"plst", b"smpl", b"inst", b"acid", b"LIST", b"id3 ", b"r64m"
    }  # fmt: skip
    assert [name for name in sorted(known) if f"`{name.decode().strip()}`" not in page] == []
