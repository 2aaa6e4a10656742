"""What the system refuses is one line for the user, whatever command met it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness
from stembridge.cli import main
from stembridge.errors import DaemonUnavailable
from stembridge.synthesis import make_song


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", "from stembridge.cli import run; run()", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


@pytest.mark.parametrize(
    "arguments",
    [["jobs"], ["daemon", "status"], ["daemon", "start"], ["split", "a.wav", "--model", "preview"]],
)
def test_a_home_that_cannot_be_is_named_with_the_reason(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMBRIDGE_HOME", "/dev/null/x")
    assert main(arguments) == 73
    (said,) = capsys.readouterr().err.splitlines()
    assert "/dev/null/x" in said and "Not a directory" in said


def test_doctor_has_a_remedy_for_such_a_home(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STEMBRIDGE_HOME", "/dev/null/x")
    assert main(["doctor"]) == 1
    page = capsys.readouterr().out
    assert "/dev/null is not a folder" in page and "set STEMBRIDGE_HOME elsewhere" in page


def test_doctor_names_every_folder_that_cannot_be_watched(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(settings: object) -> None:
        raise DaemonUnavailable("no daemon here")

    monkeypatch.setattr("stembridge.cli.doctor.Client", refuse)
    monkeypatch.setattr("stembridge.cli.doctor._hardware", lambda page: None)
    (tmp_path / "drop" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    names = ("drop", "drop/inner", "drop", "file", "gone", "fine")
    (tmp_path / "fine").mkdir()
    folders = ", ".join(f"'{tmp_path / name}'" for name in names)
    home.mkdir()
    (home / "settings.toml").write_text(f"watch_dirs = [{folders}]\n")
    assert main(["doctor"]) == 1
    page = capsys.readouterr().out
    assert page.count("watches  ") == len(set(names))
    faults = [line for line in page.splitlines() if line.startswith("- watch_dirs: ")]
    assert faults == [
        f"- watch_dirs: '{tmp_path}/drop/inner' lies in '{tmp_path}/drop', "
        "which is watched with all that is in it",
        f"- watch_dirs: '{tmp_path}/file' is no folder",
        f"- watch_dirs: '{tmp_path}/gone' is not there",
    ]
    assert f"make the folder, or mend watch_dirs in {home / 'settings.toml'}" in page


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stembridge.cli.jobs.Client", fail)
    with pytest.raises(ZeroDivisionError):
        main(["jobs"])


@pytest.mark.parametrize(("out", "words"), [("file", "File exists"), ("file/below", "Not a directory")])
def test_a_demo_where_a_file_is_says_which(
    out: str,
    words: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["demo", "--seconds", "1", "--out", out]) == 73
    (said,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / out) in said and words in said and "--out" in said


def test_a_demo_on_a_full_disk_names_its_file_and_leaves_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_up(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_up)
    assert main(["demo", "--seconds", "1", "--out", str(tmp_path / "out")]) == 73
    (said,) = capsys.readouterr().err.splitlines()
    assert "demo-song-7.wav" in said and "No space left" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_stdout_cannot_encode_is_spelled_out(daemon: DaemonHarness, tmp_path: Path) -> None:
    made = make_song(4, seconds=1.2)
    soundfile.write(tmp_path / "曲.wav", made.mixture.T, made.sample_rate, subtype="PCM_24")
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    for encoding, spelled in (("ascii", rb"\u66f2 - drums.wav"), ("cp1252", rb"\u66f2 - drums.wav")):
        done = run_command(
            *("split", str(tmp_path / "曲.wav"), "--model", "preview", "--out", str(tmp_path / encoding)),
            PYTHONIOENCODING=encoding,
        )
        assert done.returncode == 0, done.stderr
        assert spelled in done.stdout
    daemon.worker_pid()
