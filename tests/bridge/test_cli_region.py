"""`--start` and `--length`: what people type becomes the frames they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge.cli.region import parse_frames, parse_place, parse_region
from stembridge.errors import RequestError, SourceError
from stembridge.types import Region


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("0", 0),
        ("12.5", 600_000),
        ("12.5s", 600_000),
        (".5", 24_000),
        ("1:02.5", 3_000_000),
        ("1:00:01", 172_848_000),
        ("90", 4_320_000),
        ("48000f", 48_000),
        ("0.00001", 0),
        ("0.00002", 1),
    ],
)
def test_times_become_frames(text: str, frames: int) -> None:
    assert parse_frames(text, "--start", 48_000) == frames


@given(st.integers(0, 10**9), st.sampled_from([8_000, 44_100, 47_952, 192_000]))
def test_frames_and_the_seconds_of_a_frame_mean_the_same(frame: int, rate: int) -> None:
    assert parse_frames(f"{frame}f", "--start", rate) == frame
    assert parse_frames(f"{frame / rate:.12f}", "--start", rate) == frame


@pytest.mark.parametrize("text", ["", "-1", "1e3", "abc", "1:2:3:4", "12f5", "5.5f", "nan", "1 2"])
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_frames(text, "--length", 48_000)
    assert repr(text) in caught.value.message and "--length" in caught.value.message and caught.value.hint


def test_a_region_ends_where_the_file_does_unless_told() -> None:
    assert parse_region(None, None, sample_rate=10, frames=100) is None
    assert parse_region("2", None, sample_rate=10, frames=100) == Region(20, 80)
    assert parse_region(None, "3", sample_rate=10, frames=100) == Region(0, 30)
    assert parse_region("20f", "5f", sample_rate=10, frames=100) == Region(20, 5)
    assert parse_region("9.9", None, sample_rate=10, frames=100) == Region(99, 1)
    assert parse_region("5", "5", sample_rate=10, frames=100) == Region(50, 50)
    for start, length, words in (
        ("10", None, "--start 10"),
        ("5", "5.1", "--start 5 with --length 5.1"),
        (None, "11", "--start 0 with --length 11"),
    ):
        with pytest.raises(SourceError, match=f"{words} goes beyond the end .* 100 frames, 10.000 s"):
            parse_region(start, length, sample_rate=10, frames=100)
    with pytest.raises(RequestError, match="--length 0 is no audio"):
        parse_region("5", "0", sample_rate=10, frames=100)


def test_a_place_to_listen_from_counts_from_the_beginning_of_the_file() -> None:
    whole, part = Region(0, 100), Region(20, 30)
    for text, region, frame in (("0", whole, 0), ("99f", whole, 99), ("2", part, 20), ("4.9", part, 49)):
        assert parse_place(text, region, sample_rate=10, is_whole=region == whole) == frame
    with pytest.raises(SourceError, match=r"--listen-from 0:10 goes beyond the end .* 100 frames, 10.000 s"):
        parse_place("0:10", whole, sample_rate=10, is_whole=True)
    for text in ("1.9", "5"):
        words = rf"--listen-from {text} lies outside of what is split, 2.000 s to 5.000 s"
        with pytest.raises(RequestError, match=words):
            parse_place(text, part, sample_rate=10, is_whole=False)
    with pytest.raises(RequestError, match="--listen-from 'soon' is no time"):
        parse_place("soon", whole, sample_rate=10, is_whole=True)
