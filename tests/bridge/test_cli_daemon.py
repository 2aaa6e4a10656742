"""`stembridge daemon stop` and `logs`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness
from stembridge import daemon_process
from stembridge.cli import main
from stembridge.synthesis import make_song
from stembridge.types import SplitRequest


@pytest.fixture
def request_of_a_song(tmp_path: Path) -> SplitRequest:
    made = make_song(4, seconds=1.2)
    soundfile.write(tmp_path / "song.wav", made.mixture.T, made.sample_rate, subtype="PCM_24")
    return SplitRequest(str(tmp_path / "song.wav"), str(tmp_path / "out"), "preview")


def test_stop_ends_the_daemon_and_a_second_one_finds_none(
    daemon: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    process = daemon.start()
    assert main(["daemon", "stop"]) == 0
    assert capsys.readouterr().out == f"stembridged stopped, pid {process.pid}\n"
    assert process.wait(30) == 0 and not daemon_process.is_running(daemon.settings)
    assert main(["daemon", "stop"]) == 0
    assert capsys.readouterr().out == "no daemon is running\n"


def test_logs_shows_the_last_lines_of_either_log(
    daemon: DaemonHarness, request_of_a_song: SplitRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["daemon", "logs"]) == 69
    assert "no log at" in capsys.readouterr().err
    daemon.start()
    with daemon.client() as client:
        job = client.wait(client.submit(request_of_a_song).id, 60)
    daemon.worker_pid()
    assert main(["daemon", "logs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(job.id[:8] in line for line in lines)
    assert main(["daemon", "logs", "-n", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == lines[-1:]
    assert main(["daemon", "logs", "--worker"]) == 0
    assert capsys.readouterr().out == daemon.settings.worker_log_file.read_text()


@pytest.mark.parametrize("lines", ["0", "-3"])
def test_a_number_of_lines_is_at_least_one(
    lines: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["daemon", "logs", "-n", lines]) == 2
    assert "x>=1" in capsys.readouterr().err


def test_followed_logs_go_on_as_lines_come_and_end_by_ctrl_c(
    daemon: DaemonHarness, request_of_a_song: SplitRequest, tmp_path: Path
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    command = [sys.executable, "-c", "from stembridge.cli import run; run()"]
    with subprocess.Popen(
        [*command, "daemon", "logs", "-f", "-n", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().strip()
        with daemon.client() as client:
            job = client.submit(request_of_a_song)
            for line in process.stdout:
                if job.id[:8].encode() in line:
                    break
            client.wait(job.id, 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read().split() == [b"cancelled"]
    daemon.worker_pid()
