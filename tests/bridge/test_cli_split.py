"""`stembridge split`: its presets, its stems, its questions about a model, and its end by Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

import fake_worker
from daemon_harness import DaemonHarness, wait_until
from model_place import CONTENT, Place
from stembridge.cli import main
from stembridge.cli import models as cli_models
from stembridge.manifest import read_manifest
from stembridge.model_store import plan_fetch
from stembridge.synthesis import make_song


@pytest.fixture
def song(tmp_path: Path) -> Path:
    made = make_song(4, seconds=1.2)
    path = tmp_path / "song.wav"
    soundfile.write(path, made.mixture.T, made.sample_rate, subtype="PCM_24")
    return path


def test_each_quality_is_an_overlap_and_shifts_and_a_flag_beside_it_wins(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    wanted = {
        ("--quality", "draft"): (0.1, 0),
        (): (0.25, 0),
        ("--quality", "best"): (0.25, 2),
        ("--quality", "best", "--shifts", "1"): (0.25, 1),
        ("--quality", "draft", "--overlap", "0.5"): (0.5, 0),
    }
    for flags, (overlap, shifts) in wanted.items():
        capsys.readouterr()
        out = str(tmp_path / "out")
        assert main(["split", str(song), "--model", "preview", "--out", out, "--json", *flags]) == 0
        request = json.loads(capsys.readouterr().out.splitlines()[-1])["request"]
        assert (request["overlap"], request["shifts"]) == (overlap, shifts), flags
    daemon.worker_pid()


@pytest.mark.parametrize(
    ("quality", "model"), [("draft", "htdemucs"), ("good", "htdemucs"), ("best", "htdemucs_ft")]
)
def test_each_quality_names_its_model(
    quality: str, model: str, home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(song), "--quality", quality]) == 1
    assert f"model {model} is not on this machine" in capsys.readouterr().err


def test_names_of_files_come_from_the_settings_and_the_flag_wins(
    daemon: DaemonHarness, home: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text('file_names = "{stem} of {name}"\n')
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    wanted: dict[tuple[str, ...], tuple[str, list[str]]] = {
        (): ("{stem} of {name}", []),
        ("--file-names", "{job8} {stem}"): ("{job8} {stem}", []),
        ("--session", "dawproject", "--session", "rpp", "--session", "rpp"): (
            "{stem} of {name}",
            ["dawproject", "rpp"],
        ),
    }
    for flags, (file_names, sessions) in wanted.items():
        capsys.readouterr()
        out = str(tmp_path / "out")
        assert main(["split", str(song), "--model", "preview", "--out", out, "--json", *flags]) == 0
        request = json.loads(capsys.readouterr().out.splitlines()[-1])["request"]
        assert (request["file_names"], request["sessions"]) == (file_names, sessions), flags
    daemon.worker_pid()


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--file-names", "{name}"], 1, "file_names '{name}': without {stem}"),
        (["--file-names", "../{stem}"], 1, "file_names '../{stem}': '/' cannot be"),
        (["--session", "als"], 2, "'als' is not one of 'rpp', 'dawproject', 'aaf'"),
    ],
)
def test_names_and_sessions_that_cannot_be_are_refused_once_and_first(
    flags: list[str], code: int, words: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", "a.wav", "b.wav", "--model", "preview", *flags]) == code
    said = capsys.readouterr().err
    assert said.count(words) == 1


def test_precision_comes_from_the_settings_and_the_flag_wins(
    daemon: DaemonHarness, home: Path, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text('precision = "half"\n')
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    command = ["split", str(song), "--model", "preview", "--out", str(tmp_path / "out")]
    for flags, precision in ((), "half"), (("--precision", "full"), "full"):
        capsys.readouterr()
        assert main([*command, *flags]) == 0
        said = capsys.readouterr().out
        assert read_manifest(Path(said.splitlines()[-1])).model.precision == precision
        assert ("song.wav, preview, half precision" in said) == (precision == "half")
    assert main(["daemon", "status"]) == 0
    told = capsys.readouterr().out
    assert "preview half on cpu" in told and "preview on cpu" in told
    daemon.worker_pid()


@pytest.mark.parametrize("is_json", [False, True])
def test_what_can_be_heard_is_told_before_the_end(
    is_json: bool, daemon: DaemonHarness, song: Path, tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    daemon.start(worker=fake_worker.command(gate))
    flags = ["--seed", str(fake_worker.GATED), "--start", "0.1", "--listen-from", "1.15"]
    program = "from stembridge.cli import run; run()"
    command = [sys.executable, "-c", program, "split", str(song), "--model", "preview"]
    process = subprocess.Popen(
        [*command, "--out", str(out), *flags, *["--json"] * is_json],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    told: list[str] = []
    for line in process.stdout:
        if not is_json and "listen: " in line:
            told.append(line.strip())
        elif is_json and (early := json.loads(line)["early"]):
            told += [stem["path"] for stem in early["stems"]]
            assert (early["start"], early["frames"]) == (48_510, 4_410)
        if len(told) == 4:
            break
    # The second of two seconds is heard while the gate keeps it from its place in the row.
    (hidden,) = out.glob(".stembridge-*-early")
    paths = [str(hidden / f"early-00{number}.wav") for number in range(1, 5)]
    place = "from 0:01.1 for 0.1 s"
    names = ("drums", "bass", "other", "vocals")
    lines = [f"song.wav: listen: {path} ({name}), {place}" for path, name in zip(paths, names, strict=True)]
    assert told == (paths if is_json else lines)
    whole, _ = soundfile.read(song)
    for path in paths:
        samples, rate = soundfile.read(path)
        assert rate == 44_100 and abs(4 * samples - whole[48_510:]).max() < 1e-6
    gate.touch()
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait(60) == 0 and "listen: " not in rest
    daemon.worker_pid()
    (folder,) = out.iterdir()
    assert not [path for path in folder.iterdir() if path.name.startswith("early")]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--listen-from", "1.3"], 1, "--listen-from 1.3 goes beyond the end of the file"),
        (
            ["--listen-from", "1", "--length", "0.5"],
            2,
            "--listen-from 1 lies outside of what is split, 0.000 s",
        ),
        (["--listen-from", "soon"], 2, "--listen-from 'soon' is no time"),
        (["--precision", "double"], 2, "'double' is not one of 'full', 'half'"),
    ],
)
def test_a_place_or_a_precision_that_cannot_be_is_refused(
    flags: list[str], code: int, words: str, home: Path, song: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", str(song), "--model", "preview", *flags]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_what_measures_stems_is_loaded_when_the_model_is_done_and_only_for_the_table(
    flags: list[str], daemon: DaemonHarness, song: Path, tmp_path: Path
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    program = """
import sys
from stembridge.cli import main
from stembridge.client import Client
events, before = Client.events, set()
def watch_events(*args, **options):
    before.add("scipy" in sys.modules)
    for job in events(*args, **options):
        yield job
        if job.progress is not None and job.progress.stage == "separate":
            before.add("scipy" in sys.modules)
Client.events = watch_events
code = main(sys.argv[1:])
print(code, before, "scipy" in sys.modules)
"""
    command = ["split", str(song), "--model", "preview", "--out", str(tmp_path / "out"), *flags]
    done = subprocess.run(
        [sys.executable, "-c", program, *command], check=False, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == f"0 {{False}} {not flags}", done.stderr
    daemon.worker_pid()


def test_one_stem_is_that_stem_and_the_residual_and_nulls(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["split", str(song), "--model", "preview", "--stems", "vocals", "--out", str(out)]) == 0
    daemon.adopt()
    (folder,) = out.iterdir()
    assert [stem.name for stem in read_manifest(folder).stems] == ["vocals", "residual"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "song - residual.wav",
        "song - vocals.wav",
        "stems.json",
    ]
    capsys.readouterr()
    assert main(["null", str(folder)]) == 0
    assert capsys.readouterr().out.count("exactly 0, every sample") == 2


def test_the_estimate_is_reckoned_first_and_measured_from_then_on(
    daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    for basis in ("(reckoned;", "(measured here)"):
        assert main(["split", str(song), "--model", "preview", "--out", str(tmp_path / "out")]) == 0
        assert basis in capsys.readouterr().err
    daemon.worker_pid()


def test_a_file_that_cannot_be_read_gets_no_estimate(
    daemon: DaemonHarness, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    assert main(["split", str(tmp_path / "missing.wav"), "--model", "preview"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "missing.wav" in said


def test_ctrl_c_cancels_the_running_and_every_waiting_job(
    daemon: DaemonHarness, song: Path, tmp_path: Path
) -> None:
    gate, out = tmp_path / "gate", tmp_path / "out"
    daemon.start(worker=fake_worker.command(gate))
    arguments = ["split", str(song), str(song), str(song), "--model", "preview", "--out", str(out)]
    arguments += ["--seed", str(fake_worker.GATED)]
    process = subprocess.Popen(
        [sys.executable, "-c", "from stembridge.cli import run; run()", *arguments],
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    with daemon.client() as client:
        wait_until(
            lambda: (
                sorted(job.state for job in client.jobs()) == ["queued", "queued", "running"]
                and any(job.progress and job.progress.stage == "separate" for job in client.jobs())
            ),
            "one job to run and two to wait",
        )
        process.send_signal(signal.SIGINT)
        wait_until(
            lambda: sum(job.state == "cancelled" for job in client.jobs()) == 2,
            "the waiting jobs to be cancelled",
        )
        gate.touch()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"nothing half-written" in said and b"Traceback" not in said
        assert [job.state for job in client.jobs()] == ["cancelled"] * 3
    daemon.worker_pid()
    assert not out.exists() or list(out.iterdir()) == []


class Answers(io.StringIO):
    """Somebody at a terminal who types these lines."""

    def isatty(self) -> bool:
        return True


Person = Callable[[str], None]


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    """Put somebody with answers on stdin and a terminal on stderr."""

    def sit_down(answers: str) -> None:
        monkeypatch.setattr(sys, "stdin", Answers(answers))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    return sit_down


@pytest.fixture
def official(place: Place, home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The loopback server as every official place, and no model on this machine."""
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        cli_models, "plan_fetch", lambda model, into: plan_fetch(model, into, origins=place.origins)
    )
    return place


def split_default(song: Path, out: Path, *flags: str) -> int:
    return main(["split", str(song), "--out", str(out), *flags])


def models_of(out: Path) -> list[str]:
    return [read_manifest(folder).model.name for folder in out.iterdir()]


def test_yes_fetches_without_a_question_and_splits(
    official: Place, daemon: DaemonHarness, song: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    assert split_default(song, tmp_path / "out", "--yes") == 0
    daemon.worker_pid()
    assert "?" not in capsys.readouterr().err
    assert (daemon.home / "models" / "955717e8.safetensors").read_bytes() == CONTENT
    assert len(list((tmp_path / "out").glob("song__htdemucs__*"))) == 1


def test_a_person_is_asked_once_and_yes_fetches(
    official: Place,
    daemon: DaemonHarness,
    song: Path,
    tmp_path: Path,
    person: Person,
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.start(worker=fake_worker.command(tmp_path / "gate"))
    person("y\n")
    assert split_default(song, tmp_path / "out") == 0
    daemon.worker_pid()
    said = capsys.readouterr().err
    assert said.count("[Y/n]") == 1 and "download 3 MB" in said
    assert (daemon.home / "models" / "955717e8.safetensors").exists()


def test_who_does_not_want_the_download_is_offered_the_preview(
    official: Place,
    daemon: DaemonHarness,
    song: Path,
    tmp_path: Path,
    person: Person,
    capsys: pytest.CaptureFixture[str],
) -> None:
    person("n\ny\n")
    assert split_default(song, tmp_path / "out", "--quality", "draft") == 0
    daemon.adopt()
    assert "Split with `preview` instead?" in capsys.readouterr().err
    assert models_of(tmp_path / "out") == ["preview"]
    assert not (daemon.home / "models").exists()


def test_no_to_both_is_one_line_and_no_job(
    official: Place, song: Path, tmp_path: Path, person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    person("n\nn\n")
    assert split_default(song, tmp_path / "out") == 1
    assert "htdemucs was not fetched" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_fetched_the_preview_is_offered(
    official: Place, daemon: DaemonHarness, song: Path, tmp_path: Path, person: Person
) -> None:
    official.status = 503
    person("y\n")
    assert split_default(song, tmp_path / "out") == 0
    daemon.adopt()
    assert models_of(tmp_path / "out") == ["preview"]


def test_a_model_that_was_named_is_never_replaced(
    official: Place, song: Path, tmp_path: Path, person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    person("n\ny\n")
    assert split_default(song, tmp_path / "out", "--model", "htdemucs") == 1
    said = capsys.readouterr().err
    assert said.count("?") == 1 and "preview` instead" not in said
