"""The command line as people and scripts meet it: exit codes, one-line errors, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness, wait_until
from stembridge.cli import main
from stembridge.synthesis import make_song

ODD_NAME = 'it\'s a $HOME "song"\n曲 .wav'


@pytest.fixture
def song(tmp_path: Path) -> Path:

    made = make_song(4, seconds=1.2)
    path = tmp_path / ODD_NAME
    soundfile.write(path, made.mixture.T, made.sample_rate, subtype="PCM_24")
    return path


def test_demo_splits_a_song_and_proves_the_null(
    daemon: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--seconds", "2", "--out", str(tmp_path / "demo")]) == 0
    daemon.adopt()
    shown = capsys.readouterr().out
    assert "preview quality" in shown and "uses `preview`" in shown
    for stem in ("drums", "bass", "other", "vocals", "residual"):
        assert f"demo-song-7 - {stem}.wav" in shown
    assert shown.count("exactly 0, every sample") == 2
    assert "every claim of the manifest holds" in shown


def test_split_names_and_null_survive_an_odd_file_name(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out put"
    assert main(["split", str(song), "--model", "preview", "--out", str(out)]) == 0
    daemon.adopt()
    (folder,) = out.iterdir()
    assert len(list(folder.iterdir())) == 6
    assert main(["null", str(folder)]) == 0
    assert main(["null", "--json", str(folder)]) == 0
    report = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert report["failures"] == [] and report["error_f64"] == 0.0 and report["error_f32"] == 0.0


def test_two_stems_are_exactly_two_files(daemon: DaemonHarness, song: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["split", str(song), "--model", "preview", "--two-stems", "vocals", "--out", str(out)]) == 0
    daemon.adopt()
    (folder,) = out.iterdir()
    names = sorted(json.loads((folder / "stems.json").read_text())["stems"], key=lambda stem: stem["name"])
    assert [stem["name"] for stem in names] == ["no_vocals", "vocals"]
    assert main(["null", str(folder)]) == 0


def test_one_bad_file_of_two_costs_only_itself(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    bad = tmp_path / "bad.wav"
    bad.write_text("this is no audio")
    missing = tmp_path / "missing.wav"
    code = main(["split", str(bad), str(missing), str(song), "--model", "preview", "--out", str(out)])
    daemon.adopt()
    assert code == 3
    complaints = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stembridge:")]
    assert len(complaints) == 2
    assert any("bad.wav" in line for line in complaints) and any("missing.wav" in line for line in complaints)
    assert len(list(out.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["split", "song.wav", "--model", "nonesuch"], 1, "nonesuch"),
        (["split", "song.wav", "--model", "preview", "--stems", "kazoo"], 1, "kazoo"),
        (["split", "song.wav", "--model", "preview", "--overlap", "1"], 1, "overlap 1"),
        (["split", "song.wav", "--model", "htdemucs"], 1, "models fetch htdemucs"),
        (["split", "song.wav", "--model", "preview", "--out", "song.wav"], 73, "is a file"),
        (["split", "missing.wav", "--model", "preview"], 1, "missing.wav"),
        (["split"], 2, "Missing argument"),
        (["split", "song.wav", "--stems", "drums", "--two-stems", "bass"], 2, "exclude each other"),
        (["null", "nowhere"], 1, "nowhere"),
        (["jobs", "show", "nonesuch"], 4, "nonesuch"),
        (["daemon", "start", "--device", "abacus"], 2, "abacus"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_a_code(
    arguments: list[str],
    code: int,
    words: str,
    daemon: DaemonHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:

    made = make_song(4, seconds=1.0)
    soundfile.write(tmp_path / "song.wav", made.mixture.T, made.sample_rate, subtype="PCM_24")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    if code != 2:
        assert len([line for line in said.splitlines() if line.startswith("stembridge:")]) == 1
    assert not (tmp_path / "stems").exists()


def test_the_model_of_the_settings_is_used_where_none_was_named(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text('model = "preview"\n')
    assert main(["split", str(song), "--out", str(tmp_path / "out")]) == 0
    daemon.adopt()
    assert "__preview__" in next((tmp_path / "out").iterdir()).name
    capsys.readouterr()
    assert main(["split", str(song), "--quality", "good", "--out", str(tmp_path / "out")]) == 1
    assert "models fetch htdemucs" in capsys.readouterr().err


def test_null_never_calls_a_sum_exact_that_it_could_not_compare(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(song), "--model", "preview", "--out", str(tmp_path / "out")]) == 0
    daemon.adopt()
    (folder,) = (tmp_path / "out").iterdir()
    song.unlink()
    capsys.readouterr()
    assert main(["null", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "against the original's hash" in shown and shown.count("exactly 0") == 2
    stem = next(folder.glob("*vocals.wav"))
    data = bytearray(stem.read_bytes())
    data[-9] ^= 1
    stem.write_bytes(data)
    assert main(["null", str(folder)]) == 1
    shown = capsys.readouterr().out
    assert "exactly 0" not in shown and "vocals.wav" in shown and "fault:" in shown


def test_doctor_gives_its_page_and_the_fault_where_the_settings_are_broken(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(parents=True)
    (home / "settings.toml").write_text("bogus = 1\n")
    assert main(["doctor"]) == 1
    page = capsys.readouterr().out
    assert "bogus is no setting" in page and "torch 2.11" in page


def test_doctor_says_whether_there_is_an_ffmpeg_and_what_for(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(parents=True)
    (home / "settings.toml").write_text("bogus = 1\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    main(["doctor"])
    assert "not found; M4A, AAC, ALAC and WavPack need it" in capsys.readouterr().out
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    main(["doctor"])
    assert str(program) in capsys.readouterr().out


def test_doctor_knows_a_model_name_that_cannot_be_fetched(
    daemon: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.home.mkdir(parents=True)
    (daemon.home / "settings.toml").write_text('model = "htdemuc"\n')
    assert main(["doctor"]) == 1
    daemon.adopt()
    page = capsys.readouterr().out
    assert "did you mean htdemucs" in page and "models fetch htdemuc" not in page


def test_status_without_a_daemon_is_69(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["daemon", "status"]) == 69
    assert "no daemon is running" in capsys.readouterr().err


def test_status_jobs_and_doctor_say_what_is(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["split", str(song), "--model", "preview", "--out", str(tmp_path / "out")])
    daemon.adopt()
    capsys.readouterr()
    assert main(["daemon", "status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["jobs"]["done"] == 1 and status["workers"][0]["models"] == ["preview"]
    assert status["speeds"]["preview on cpu"] > 0
    assert main(["jobs"]) == 0
    listed = capsys.readouterr().out
    assert "done" in listed and "\n曲" not in listed and len(listed.splitlines()) == 1
    assert main(["jobs", "show", listed.split()[0]]) == 0
    assert "accepted" in capsys.readouterr().out
    assert main(["doctor"]) == 1
    page = capsys.readouterr().out
    assert "stembridge models fetch htdemucs" in page and "torch 2.11" in page and "preview on cpu" in page


def test_ctrl_c_cancels_the_job_in_the_daemon_and_leaves_nothing(
    daemon: DaemonHarness, song: Path, tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    daemon.start(worker=fake_worker.command(gate))
    arguments = ["split", str(song), "--model", "preview", "--out", str(out)]
    arguments += ["--seed", str(fake_worker.GATED)]
    program = f"from stembridge.cli import main; import sys; sys.exit(main({arguments!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, env=os.environ)
    with daemon.client() as client:
        wait_until(
            lambda: any(job.progress and job.progress.stage == "separate" for job in client.jobs()),
            "the split to begin",
        )
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "cancel asked" in client.get(client.jobs()[0].id).story[-1].text, "the cancel")
        gate.touch()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130 and b"nothing half-written" in said and b"Traceback" not in said
        assert client.jobs()[0].state == "cancelled"
    daemon.worker_pid()
    assert not out.exists() or list(out.iterdir()) == []


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in ("demo", "split", "conform", "null", "jobs", "models", "daemon", "doctor", "completion"):
        assert command in shown
    assert main(["completion", "bash"]) == 0
    assert "_STEMBRIDGE_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("stembridge split --model htdemucs_", {"htdemucs_ft", "htdemucs_6s"}),
        ("stembridge models fetch prev", {"preview"}),
        ("stembridge split --two-stems dr", {"drums"}),
        ("stembridge split --stems drums,v", {"drums,vocals"}),
    ],
)
def test_tab_completes_models_and_stems(words: str, offered: set[str]) -> None:
    environment = os.environ | {
        "_STEMBRIDGE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    program = "from stembridge.cli import run; run()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered


def test_every_command_of_the_readme_is_there() -> None:
    import click

    from stembridge.cli import cli

    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    context = click.Context(cli)
    for command in cli.list_commands(context):
        assert f"`stembridge {command}" in readme
