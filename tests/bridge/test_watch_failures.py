"""Notes in ``failed/``: what a person finds there, under any name, and when it goes away again."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path

import pytest

from full_disk import full_disk
from stembridge.types import ErrorInfo
from stembridge.watch.failures import FAILED, note_path, remove_note, write_note

ERROR = ErrorInfo("bad_source", "'beat.wav' promises 4000 bytes and has 2000", "export it again")
AT = datetime(2026, 9, 21, 14, 3, 5).timestamp()


def everything_in(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_a_note_says_what_happened_and_what_to_do(tmp_path: Path) -> None:
    assert write_note(tmp_path, "drums/beat.wav", ERROR, job="w-12ab", at=AT)
    text = (tmp_path / "failed" / "drums" / "beat.wav.txt").read_text("utf-8")
    assert text.splitlines()[:6] == [
        "Stembridge could not finish this file.",
        "",
        "File: drums/beat.wav",
        "When: 2026-09-21 14:03:05",
        "What: 'beat.wav' promises 4000 bytes and has 2000",
        "Help: export it again",
    ]
    assert "To try again" in text and "touch it" in text
    assert "Job: w-12ab" in text and "stembridge jobs show w-12ab" in text


def test_what_came_to_no_job_names_none(tmp_path: Path) -> None:
    write_note(tmp_path, "beat.wav", ErrorInfo("bad_source", "no audio"))
    text = note_path(tmp_path, "beat.wav").read_text("utf-8")
    assert "Job:" not in text and "jobs show" not in text and "Help:" not in text
    assert f"When: {datetime.now().astimezone():%Y-%m-%d}" in text


def test_more_can_be_said(tmp_path: Path) -> None:
    write_note(tmp_path, "beat.wav", ERROR, lines=["The stems are there: stems/beat__htdemucs__12345678"])
    lines = note_path(tmp_path, "beat.wav").read_text("utf-8").splitlines()
    assert lines[6] == "The stems are there: stems/beat__htdemucs__12345678"


def test_a_later_note_takes_the_place_of_the_first(tmp_path: Path) -> None:
    write_note(tmp_path, "beat.wav", ERROR)
    write_note(tmp_path, "beat.wav", ErrorInfo("internal", "another cause"))
    text = note_path(tmp_path, "beat.wav").read_text("utf-8")
    assert "another cause" in text and "promises" not in text
    assert everything_in(tmp_path) == ["failed", "failed/beat.wav.txt"]


def test_no_name_and_no_cause_can_forge_a_line(tmp_path: Path) -> None:
    name = "a\r\nWhat: all is well\nb.wav"
    assert write_note(tmp_path, name, ErrorInfo("x", "one\r\nJob: w-evil", "two\nthree"), lines=["x\ny"])
    lines = note_path(tmp_path, name).read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith(("What:", "Job:"))] == ["What: one\\r\\nJob: w-evil"]
    assert "File: a\\r\\nWhat: all is well\\nb.wav" in lines and "Help: two\\nthree" in lines


@pytest.mark.parametrize(
    "name",
    [
        "Ünï 歌 \U0001f3b5.wav",
        "  spaces .wav",
        "a/b/c d/e.flac",
        "'; rm -rf $HOME #.wav",
        "n" * 251 + ".wav",
        "歌" * 83 + ".wav",
        "caf\udce9.wav",
        "\udce9" * 251 + ".wav",
    ],
)
def test_a_note_stands_for_any_name(tmp_path: Path, name: str) -> None:
    assert write_note(tmp_path, name, ERROR)
    (note,) = [path for path in (tmp_path / FAILED).rglob("*") if path.is_file()]
    assert note == note_path(tmp_path, name) and note.suffix == ".txt"
    assert len(os.fsencode(note.name)) <= 255
    assert note.read_text("utf-8").count("\nFile: ") == 1
    remove_note(tmp_path, name)
    assert everything_in(tmp_path) == []


def test_names_that_differ_late_have_notes_of_their_own(tmp_path: Path) -> None:
    first, second = ("n" * 245 + ending for ending in ("A.wav", "B.wav"))
    write_note(tmp_path, first, ErrorInfo("x", "cause of A"))
    write_note(tmp_path, second, ErrorInfo("x", "cause of B"))
    assert "cause of A" in note_path(tmp_path, first).read_text("utf-8")
    remove_note(tmp_path, first)
    assert "cause of B" in note_path(tmp_path, second).read_text("utf-8")


def test_two_kinds_of_one_song_have_notes_of_their_own(tmp_path: Path) -> None:
    assert note_path(tmp_path, "song.wav") != note_path(tmp_path, "song.flac")


def test_a_full_disk_leaves_no_half_a_note_and_it_can_be_written_later(tmp_path: Path) -> None:
    with full_disk():
        assert not write_note(tmp_path, "drums/beat.wav", ERROR)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert write_note(tmp_path, "drums/beat.wav", ERROR)
    with full_disk():
        assert not write_note(tmp_path, "drums/beat.wav", ErrorInfo("x", "another"))
    assert "promises" in note_path(tmp_path, "drums/beat.wav").read_text("utf-8")


def test_a_folder_that_is_gone_is_not_made(tmp_path: Path) -> None:
    assert not write_note(tmp_path / "drive", "beat.wav", ERROR)
    remove_note(tmp_path / "drive", "beat.wav")
    assert everything_in(tmp_path) == []


def test_what_stands_in_the_way_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / FAILED).write_text("a file of somebody's")
    assert not write_note(tmp_path, "beat.wav", ERROR)
    remove_note(tmp_path, "beat.wav")
    assert (tmp_path / FAILED).read_text() == "a file of somebody's"


def test_a_note_goes_and_takes_only_empty_folders_along(tmp_path: Path) -> None:
    write_note(tmp_path, "a/b/one.wav", ERROR)
    write_note(tmp_path, "a/two.wav", ERROR)
    remove_note(tmp_path, "a/b/one.wav")
    assert everything_in(tmp_path) == ["failed", "failed/a", "failed/a/two.wav.txt"]
    remove_note(tmp_path, "a/b/one.wav")
    remove_note(tmp_path, "a/two.wav")
    assert everything_in(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    root = tmp_path / "drop"
    (root / FAILED).mkdir(parents=True)
    for place in (root / FAILED / ".stembridge-note.new", note_path(root, "a.wav")):
        place.symlink_to(victim)
    assert write_note(root, "a.wav", ErrorInfo("bad_source", "it is cut off"))
    assert victim.read_text() == "mine" and "cut off" in note_path(root, "a.wav").read_text()
