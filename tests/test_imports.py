"""Who imports what, seen in fresh processes: start-up must stay fast, and torch where it belongs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "torch", "torchaudio", "demucs", "numpy", "scipy", "soundfile", "soxr", "pedalboard", "rich", "watchdog",
}  # fmt: skip


def every_module_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after ``statement``."""
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after ``statement``."""
    return {name.split(".")[0] for name in every_module_after(statement)}


@pytest.mark.parametrize(
    "statement",
    [
        "import stembridge",
        "from stembridge import Client",
        "import stembridge.cli",
        "import stembridge.cli.split, stembridge.cli.jobs, stembridge.cli.daemon, stembridge.cli.null",
        "import stembridge.cli.models, stembridge.cli.demo, stembridge.cli.doctor, stembridge.cli.conform",
        "import stembridge.cli.remix, stembridge.cli.remixing, stembridge.mixdown.batch_file",
        "import stembridge.cli.export",
        "import stembridge.manifest, stembridge.estimate, stembridge.disk, stembridge.model_store",
        "import stembridge.cli.reaper, stembridge.reaper.courier, stembridge.stem_tag",
        "import stembridge.cli.watch, stembridge.watch.ledger, stembridge.watch.wishes",
        "import stembridge_daemon.app",
    ],
)
def test_client_and_front_load_nothing_heavy(statement: str) -> None:
    assert modules_after(statement) & HEAVY == set()


def test_a_daemon_without_reaper_opens_no_desk() -> None:
    assert "stembridge.reaper.desk" not in every_module_after("import stembridge_daemon.app")
    assert "stembridge.reaper.desk" in every_module_after("import stembridge.reaper.desk")


def test_the_check_sees_what_it_looks_for() -> None:
    assert modules_after("import stembridge.audio_io") & HEAVY >= {"numpy", "soundfile"}


def test_a_preview_worker_runs_without_torch() -> None:
    statement = "import stembridge_daemon.worker.main, stembridge_daemon.worker.separators.preview"
    assert modules_after(statement) & {"torch", "torchaudio", "demucs"} == set()


def test_the_public_list_is_what_is_there() -> None:
    import stembridge

    assert stembridge.__all__ == ["Client", "Remix", "Stems", "__version__", "remix", "split"]
    for name in stembridge.__all__:
        assert getattr(stembridge, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = stembridge.nonesuch
