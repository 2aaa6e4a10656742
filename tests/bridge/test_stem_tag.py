"""A stem that lies alone says what it is; files that are damaged, foreign or hostile say and cost nothing."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FakeSeparator
from signals import make_noise, to_ints, write_float, write_pcm
from splits import make_request, read_set, split_to_end
from stembridge.null_test import check_result
from stembridge.stem_tag import CHUNK_NAME, MAX_BYTES, MAX_CHUNKS, StemTag, read_tag
from stembridge.types import Region
from stembridge.wavfile import Chunk, WavWriter, encode_header

RATE = 44_100
TAG = StemTag(job="0" * 32, stem="vocals", source="ab" * 32, start=5, frames=7, rate=RATE)
FIELDS = json.loads(TAG.encode())


def encode(*chunks: tuple[bytes, bytes], kind: bytes = b"RIFF") -> bytes:
    """Return a WAVE file of these chunks, as struct alone makes it."""
    body = b"".join(
        struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return struct.pack("<4sI4s", kind, len(body) + 4, b"WAVE") + body


def tag_of(tmp_path: Path, data: bytes) -> StemTag | None:
    path = tmp_path / "x"
    path.write_bytes(data)
    return read_tag(path)


@pytest.mark.parametrize("source", ["wav", "ogg"])
def test_every_file_of_a_set_says_which_stem_of_which_source_it_is(tmp_path: Path, source: str) -> None:
    noise = make_noise(30_001, 2)
    if source == "wav":
        path = write_pcm(tmp_path / "x.wav", to_ints(noise, 16), RATE, 16)
    else:
        path = write_float(tmp_path / "x.ogg", noise, RATE, "VORBIS", "OGG")
    request = make_request(path, tmp_path / "out", region=Region(1_000, 20_001))
    result, _ = split_to_end(request, FakeSeparator(), job_id="5f" * 16)
    manifest, _ = read_set(result.folder)
    entries = (*manifest.stems, *((manifest.mixture,) if manifest.mixture else ()))
    assert len(entries) == (5 if source == "wav" else 6)
    for entry in entries:
        alone = Path(shutil.copy(Path(result.folder) / entry.file, tmp_path / "elsewhere.wav"))
        assert read_tag(alone) == StemTag(
            "5f" * 16, entry.name, manifest.source.sha256_pcm, 1_000, 20_001, RATE
        )
        with soundfile.SoundFile(alone) as file:
            assert (file.frames, file.samplerate) == (20_001, RATE)
    assert check_result(result.folder).holds


def test_a_changed_tag_fails_the_null_test_though_the_audio_sums(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), RATE, 16)
    result, _ = split_to_end(make_request(path, tmp_path / "out"), FakeSeparator())
    stem = Path(result.folder) / "x - drums.wav"
    stem.write_bytes(stem.read_bytes().replace(b'"stem":"drums"', b'"stem":"snare"'))
    report = check_result(result.folder)
    assert not report.holds and report.error_f64 == 0.0
    assert "sha256_file differs" in report.failures[0]


def test_two_jobs_write_the_same_audio_in_files_that_name_their_own_job(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), RATE, 16)
    sets = []
    for job in ("a" * 32, "b" * 32):
        result, _ = split_to_end(make_request(path, tmp_path / job[0]), FakeSeparator(), job_id=job)
        sets.append(read_set(result.folder)[0].stems)
    for first, second in zip(*sets, strict=True):
        assert first.sha256 == second.sha256 and first.sha256_file != second.sha256_file


def test_a_stem_that_is_split_again_gives_its_stems_tags_of_their_own(tmp_path: Path) -> None:
    path = write_pcm(tmp_path / "x.wav", to_ints(make_noise(3_000, 2), 16), RATE, 16)
    first, _ = split_to_end(make_request(path, tmp_path / "a"), FakeSeparator())
    source = Path(first.folder) / "x - drums.wav"
    second, _ = split_to_end(make_request(source, tmp_path / "b"), FakeSeparator(), job_id="second")
    flac, _ = split_to_end(make_request(source, tmp_path / "c", format="flac24"), FakeSeparator())
    assert "stmb" not in "".join((*second.warnings, *flac.warnings))
    manifest, _ = read_set(second.folder)
    for entry in manifest.stems:
        file = Path(second.folder) / entry.file
        assert file.read_bytes().count(CHUNK_NAME) == 1
        tag = read_tag(file)
        assert tag is not None and (tag.job, tag.source) == ("second", manifest.source.sha256_pcm)


def test_the_same_tag_gives_the_same_bytes_and_comes_back(tmp_path: Path) -> None:
    tag = replace(TAG, stem="Chœur 雨 \udcff", start=2**40)
    assert tag.encode() == tag.encode() and tag.encode().isascii()
    assert tag_of(tmp_path, encode((b"data", b"123"), (CHUNK_NAME, tag.encode()))) == tag


def test_a_tag_is_found_behind_audio_of_more_than_4_gib(tmp_path: Path) -> None:
    """A hole in the file stands for the samples."""
    frames = 2**30 + 1
    chunks = (Chunk(CHUNK_NAME, TAG.encode()),)
    header = encode_header(RATE, 2, frames, "PCM_16", chunks=chunks)
    assert header[:4] == b"RF64"
    path = tmp_path / "x.wav"
    with path.open("wb") as file:
        file.write(header)
        file.seek(4 * frames, 1)
        file.write(struct.pack("<4sI", CHUNK_NAME, len(TAG.encode())) + TAG.encode())
    assert read_tag(path) == TAG


def test_a_tag_is_found_whatever_else_a_program_put_into_the_file(tmp_path: Path) -> None:
    with WavWriter(
        tmp_path / "x.wav",
        sample_rate=RATE,
        channels=1,
        frames=3,
        subtype="PCM_24",
        chunks=[Chunk(b"LIST", b"INFO"), Chunk(b"odd ", b"123"), Chunk(CHUNK_NAME, TAG.encode())],
    ) as writer:
        writer.write(np.zeros((1, 3)))
    assert read_tag(tmp_path / "x.wav") == TAG
    unpadded = b"data" + (3).to_bytes(4, "little") + b"123"
    tag = CHUNK_NAME + len(TAG.encode()).to_bytes(4, "little") + TAG.encode()
    assert tag_of(tmp_path, b"RIFF\0\0\0\0WAVE" + unpadded + tag) == TAG


def test_a_file_that_ends_within_its_tag_or_before_has_none(tmp_path: Path) -> None:
    data = encode((b"fmt ", bytes(16)), (b"data", b"1234"), (CHUNK_NAME, TAG.encode()))
    end = len(data) - len(TAG.encode()) % 2
    assert tag_of(tmp_path, data[:end]) == TAG
    for length in range(end):
        assert tag_of(tmp_path, data[:length]) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"schema": "stembridge.stem/2"},
        {"schema": None},
        {"job": ""},
        {"job": 3},
        {"stem": ["vocals"]},
        {"source": "ab"},
        {"source": "AB" * 32},
        {"start": -1},
        {"start": 1.0},
        {"start": True},
        {"frames": 0},
        {"rate": 0},
        {"rate": "44100"},
        {"more": 1},
    ],
)
def test_what_cannot_be_is_no_tag(tmp_path: Path, fields: dict[str, object]) -> None:
    content = json.dumps({**FIELDS, **fields}).encode()
    assert tag_of(tmp_path, encode((b"data", b""), (CHUNK_NAME, content))) is None


@pytest.mark.parametrize("name", FIELDS)
def test_a_tag_that_lacks_anything_is_none(tmp_path: Path, name: str) -> None:
    content = json.dumps({key: value for key, value in FIELDS.items() if key != name}).encode()
    assert tag_of(tmp_path, encode((CHUNK_NAME, content))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        TAG.encode()[:-1],
        TAG.encode() + b"}",
        b"[" * MAX_BYTES,
        b"9" * MAX_BYTES,
        TAG.encode().ljust(MAX_BYTES + 1),
    ],
)
def test_garbage_in_the_place_of_a_tag_is_none(tmp_path: Path, content: bytes) -> None:
    assert tag_of(tmp_path, encode((CHUNK_NAME, content))) is None


def test_other_kinds_of_files_have_none(tmp_path: Path) -> None:
    wav = encode((CHUNK_NAME, TAG.encode()))
    for data in (b"", b"RIFF", b"FORM" + wav[4:], wav[:8] + b"AVI " + wav[12:]):
        assert tag_of(tmp_path, data) is None
    with pytest.raises(FileNotFoundError):
        read_tag(tmp_path / "none.wav")


def test_reading_ends_however_many_chunks_there_are_and_however_long_they_claim_to_be(tmp_path: Path) -> None:
    tag = (CHUNK_NAME, TAG.encode())
    many = [(b"aaaa", b"")]
    assert tag_of(tmp_path, encode(*many * (MAX_CHUNKS - 1), tag)) == TAG
    assert tag_of(tmp_path, encode(*many * MAX_CHUNKS, tag)) is None
    endless = encode((b"ds64", struct.pack("<QQQI", 0, 2**64 - 1, 0, 0)), (b"data", b"1"), kind=b"RF64")
    at = endless.index(b"data") + 4
    assert tag_of(tmp_path, endless[:at] + b"\xff" * 4 + endless[at + 4 :]) is None


@settings(max_examples=200, deadline=None)
@given(noise=st.binary(max_size=60), at=st.integers(0, 400), kind=st.sampled_from([b"RIFF", b"RF64"]))
def test_noise_anywhere_never_raises(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int, kind: bytes
) -> None:
    data = encode(
        (b"ds64", bytes(28)), (b"fmt ", bytes(16)), (b"data", b"1234"), (CHUNK_NAME, TAG.encode()), kind=kind
    )
    path = tmp_path_factory.getbasetemp() / "noise.wav"
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    found = read_tag(path)
    assert found is None or isinstance(found, StemTag)
