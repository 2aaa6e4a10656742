"""Workers beside a DAW: they rank below it, leave it a core, and are told so on their command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon_harness import DaemonHarness
from signals import make_noise, to_ints, write_pcm
from stembridge import processor
from stembridge.cli import main
from stembridge.settings import Settings, load_settings
from stembridge.types import RemixRequest, SplitRequest
from stembridge_daemon import supervisor
from stembridge_daemon.app import default_command
from stembridge_daemon.worker.main import LOW_NICE
from stembridge_daemon.worker_messages import Role

LAST_NICE = 19
"""Nobody ranks below it."""


def settings_of(home: Path, text: str = "") -> Settings:
    home.mkdir(exist_ok=True)
    (home / "settings.toml").write_text(text)
    return load_settings(home=home, environ={})


def nice_of_all_threads(pid: int) -> set[int]:
    """Return the niceness of every thread of a process: Linux keeps one for each (proc(5), field 19)."""
    stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {int(stat.rpartition(")")[2].split()[16]) for stat in stats}


@pytest.mark.parametrize(("text", "added"), [("", LOW_NICE), ('worker_priority = "normal"\n', 0)])
def test_both_workers_run_below_other_programs_unless_that_is_not_wanted(
    text: str, added: int, daemon: DaemonHarness, tmp_path: Path
) -> None:
    """Nothing ranks below the last, so of a run that is there itself the next test alone can tell."""
    settings_of(daemon.home, text)
    process = daemon.start()
    source = write_pcm(tmp_path / "x.wav", to_ints(make_noise(44_100, 2), 16), 44_100, 16)
    with daemon.client() as client:
        split = client.submit(SplitRequest(str(source), str(tmp_path / "out"), "preview"))
        result = client.wait(split.id, 60).result
        assert result is not None
        remix = client.submit(RemixRequest(result.folder, str(tmp_path / "out"), "karaoke"))
        client.wait(remix.id, 60)
    expected = min(LAST_NICE, os.getpriority(os.PRIO_PROCESS, process.pid) + added)
    for role in ("separate", "render"):
        assert nice_of_all_threads(daemon.worker_pid(role)) == {expected}, role


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("priority", "asked"), [("low", [f"{LOW_NICE} of 1"]), ("normal", [])])
def test_a_worker_of_low_priority_asks_for_it_before_it_has_a_second_thread(
    priority: str, asked: list[str], role: Role, tmp_path: Path
) -> None:
    program = """
import os, sys
os.nice = lambda added: print(added, "of", len(os.listdir("/proc/self/task")), file=sys.stderr)
from stembridge_daemon.worker.main import main
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", program, "--priority", priority, "--role", role, "--home", str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == asked


def test_windows_is_asked_for_the_same_when_a_worker_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, flag in (("CREATE_NEW_PROCESS_GROUP", 0x200), ("BELOW_NORMAL_PRIORITY_CLASS", 0x4000)):
        monkeypatch.setattr(subprocess, name, flag, raising=False)
    assert [supervisor._creation_flags(is_low) for is_low in (False, True)] == [0x200, 0x4200]


def test_a_worker_is_told_threads_priority_and_whether_to_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "count_cores", lambda: 8)
    plain = " ".join(default_command(settings_of(tmp_path), Role.SEPARATE))
    assert "--threads 7" in plain and "--priority low" in plain and "--compile" not in plain
    text = 'threads = -1\nworker_priority = "normal"\ncompile = true\n'
    told = " ".join(default_command(settings_of(tmp_path, text), Role.SEPARATE))
    assert "--threads 8" in told and "--priority normal" in told and told.endswith(" --compile")
    renderer = default_command(settings_of(tmp_path, text), Role.RENDER)
    assert "normal" in renderer and "--threads" not in renderer and "--compile" not in renderer


def test_torch_computes_with_the_threads_that_the_worker_is_told(tmp_path: Path) -> None:
    program = """
import sys, torch
from pathlib import Path
from stembridge.errors import StembridgeError
from stembridge.model_store import ModelFiles
from stembridge_daemon.worker.separating import ResidentModels

files = ModelFiles("htdemucs", Path(sys.argv[1]), (Path(sys.argv[1]) / "nothing.th",), None)
try:
    ResidentModels("cpu", 3).get(files, ())
except (StembridgeError, OSError):
    print(torch.get_num_threads())
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


def test_status_says_how_many_threads_compute(
    daemon: DaemonHarness, capsys: pytest.CaptureFixture[str]
) -> None:
    settings_of(daemon.home, "threads = 5\n")
    daemon.start()
    assert main(["daemon", "status"]) == 0
    told = capsys.readouterr().out
    assert told.count("threads") == 1 and "worker (separate) on auto with 5 threads: absent" in told
