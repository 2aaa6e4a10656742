"""What a person sees on a terminal of 80 columns: bars that go away, results that stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness
from stembridge.progress import Listening, tell_early
from stembridge.synthesis import make_song
from stembridge.text import count_cells, place_clock, shorten
from stembridge.types import Early, EarlyStem, Job, JobState, SplitRequest
from terminal import Terminal, screen_of

LONG = "a song with a name that goes on and on [bold] 曲曲曲曲曲曲曲曲曲曲曲曲 final mix, take 12"


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    """A WAV with a very long name, and an OGG."""
    made = make_song(4, seconds=1.2)
    paths = [tmp_path / f"{LONG}.wav", tmp_path / "short.ogg"]
    for path in paths:
        soundfile.write(path, made.mixture.T, made.sample_rate)
    return paths


def test_bars_come_and_go_and_every_result_stays(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    daemon.start(worker=fake_worker.command(gate))
    arguments = [*map(str, songs), "--model", "preview", "--seed", str(fake_worker.GATED), "--out", str(out)]
    with Terminal("split", *arguments) as terminal:
        shown = terminal.read_until(lambda text: "separate" in text)
        bars = [line for line in screen_of(shown) if "%" in line]
        assert any("separate" in bar for bar in bars) and any("short.ogg  waiting" in bar for bar in bars)
        assert all(count_cells(bar.rstrip()) <= 80 for bar in bars)
        gate.touch()
        code, _, screen = terminal.finish()
    daemon.worker_pid()
    assert code == 0
    assert not any("%" in line for line in screen), "a bar was left on the screen"
    tables = [line for line in screen if line.endswith((".wav", "file"))]
    assert all(count_cells(line) <= 80 for line in tables)
    assert [line.split()[0] for line in tables] == 2 * [
        "stem", "drums", "bass", "other", "vocals", "residual"
    ]  # fmt: skip
    assert sum("... - vocals.wav" in line for line in screen) == 1
    assert [line for line in screen if line.startswith(str(out))] == [
        str(next(out.glob(f"{pattern}*"))) for pattern in ("a song", "short")
    ]
    (claim,) = [line for line in screen if "as decoded" in line]
    assert "'short - mixture.wav'" in claim


def test_what_can_be_heard_stays_above_the_bars(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    daemon.start(worker=fake_worker.command(gate))
    options = ["--seed", str(fake_worker.GATED), "--listen-from", "0", "--out", str(tmp_path / "out")]
    with Terminal("split", str(songs[1]), "--model", "preview", *options, columns=200) as terminal:
        terminal.read_until(lambda text: "(vocals)" in text and "separate" in text.partition("(vocals)")[2])
        gate.touch()
        code, _, screen = terminal.finish()
    daemon.worker_pid()
    lines = [line for line in screen if "listen: " in line]
    assert code == 0 and [line.split("(")[1] for line in lines] == [
        f"{name}), from 0:00.0 for 1.0 s" for name in ("drums", "bass", "other", "vocals")
    ]
    assert screen.index(lines[-1]) < next(n for n, line in enumerate(screen) if "as decoded" in line)
    assert not any("%" in line for line in screen), "a bar was left on the screen"


def test_with_stdout_in_a_pipe_the_result_goes_there_whole(
    daemon: DaemonHarness, songs: list[Path], tmp_path: Path
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    with Terminal(
        "split", str(songs[0]), "--model", "preview", "--out", str(tmp_path / "out"), is_piped=True
    ) as terminal:
        code, piped, screen = terminal.finish()
    daemon.worker_pid()
    assert code == 0
    assert f"{LONG} - drums.wav\n" in piped and "sums back" in piped
    assert not any("drums.wav" in line or "sums back" in line for line in screen)


@pytest.mark.parametrize(
    ("text", "cells", "tail", "want"),
    [
        ("short", 5, "", "short"),
        ("a longer one", 8, "", "a lon..."),
        ("a long song - drums.wav", 20, " - drums.wav", "a lon... - drums.wav"),
        ("曲曲曲曲曲曲", 8, "", "曲曲..."),
        ("a long song - drums.wav", 10, " - drums.wav", "a long..."),
    ],
)
def test_a_name_is_shortened_to_columns_and_keeps_its_end(
    text: str, cells: int, tail: str, want: str
) -> None:
    assert shorten(text, cells, tail) == want
    assert count_cells(want) <= cells


def test_a_mark_takes_no_column() -> None:
    assert count_cells("e\u0301曲a") == 4


def test_what_can_be_heard_is_news_once_for_each_attempt() -> None:
    early = Early(529_200, 343_980, 44_100, (EarlyStem("vocals", "/out/.stembridge-1/early-001.wav"),))
    job = Job("job", SplitRequest("/song.wav", "/out", "preview"), JobState.RUNNING, created=0.0)
    listening = Listening()
    assert listening.find_news(job) is None
    job = replace(job, early=early, attempt=1)
    assert listening.find_news(job) == early and listening.find_news(job) is None
    assert listening.find_news(replace(job, id="other")) == early
    assert listening.find_news(replace(job, attempt=2)) == early
    assert list(tell_early(early)) == [
        "listen: /out/.stembridge-1/early-001.wav (vocals), from 0:12.0 for 7.8 s"
    ]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00.0"), (12.04, "0:12.0"), (59.96, "1:00.0"), (3723.4, "1:02:03.4"), (36_000, "10:00:00.0")],
)
def test_a_place_is_told_to_the_tenth(seconds: float, told: str) -> None:
    assert place_clock(seconds) == told
