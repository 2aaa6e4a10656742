"""What `stembridge watch` prints of what happens to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from stembridge.cli.watch import _Screen
from stembridge.types import ErrorInfo
from stembridge.watch.dropped import Signature
from stembridge.watch.life import FileRow, FileState
from stembridge.watch.watcher import News

DROP = Path("/drop").absolute()
DONE = FileRow(
    "song.wav",
    Signature(1, 2, 3, 4, 5),
    "a" * 64,
    FileState.DONE,
    1_750_000_000.4,
    folder=str(DROP / "stems" / "song"),
    spent_s=1.23456,
    warnings=("no AAF: a package is not here", "the residual is\nloud"),
)
FAILED = replace(DONE, state=FileState.FAILED, error=ErrorInfo("bad_source", "too silent", "sing louder"))


def tell(*rows: FileRow, as_json: bool = False) -> _Screen:
    screen = _Screen(lambda job: None, has_many=False, as_json=as_json)
    for row in rows:
        screen.tell(News(DROP, row))
    return screen


def test_warnings_follow_the_line_of_the_file_that_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    tell(DONE)
    first, *warnings = capsys.readouterr().out.splitlines()
    assert first.startswith("song.wav: done in ") and first.endswith(str(Path("stems/song")))
    assert warnings == ["    no AAF: a package is not here", "    the residual is\\nloud"]


def test_a_file_that_is_dropped_again_is_told_how_to_have_it_split_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(replace(DONE, state=FileState.SAME, same_as="song.wav"))
    (line,) = capsys.readouterr().out.splitlines()
    assert "the same as before: " + str(Path("stems/song")) in line
    assert line.endswith("delete that folder and touch the file to split it again")


def test_json_has_warnings_a_time_stamp_and_round_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    tell(DONE, as_json=True)
    line = json.loads(capsys.readouterr().out)
    assert line["warnings"] == list(DONE.warnings) and line["seconds"] == 1.23
    at = datetime.fromisoformat(line["at"])
    assert at.tzinfo is not None and at.timestamp() == 1_750_000_000


@pytest.mark.parametrize(
    ("rows", "waiting", "expected"),
    [
        ((), 0, "nothing to do"),
        ((DONE, replace(DONE, name="b.wav"), FAILED), 1, "1 done, 1 failed, 1 waits for its model"),
        ((replace(DONE, state=FileState.WAITING), DONE), 2, "1 done, 2 wait for their models"),
        ((replace(DONE, state=FileState.SAME, same_as="song.wav"),), 0, "1 the same as before"),
    ],
)
def test_the_closing_line_counts_files_by_how_they_ended(
    rows: Sequence[FileRow], waiting: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(*rows).conclude(waiting)
    assert capsys.readouterr().err == f"stembridge: {expected}\n"
