"""No process of ours runs what lies in the folder where a command was given."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from stembridge.errors import PluginError
from stembridge.plugins.process import Deadlines, PluginProcess

ROOT = Path(__file__).parents[1]
SOURCES = [path for part in ("bridge", "daemon") for path in sorted((ROOT / part).rglob("*.py"))]


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once anything of the current folder has run."""
    trace = tmp_path / "trace"
    program = f"open({str(trace)!r}, 'w').close()\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("numpy", "stembridge"):
        (folder / f"{name}.py").write_text(program)
    (folder / "pedalboard").mkdir()
    (folder / "pedalboard" / "__init__.py").write_text(program)
    monkeypatch.chdir(folder)
    return trace


def test_a_plugins_process_takes_nothing_from_the_current_folder(trace: Path) -> None:
    with (
        closing(PluginProcess(Path("/nowhere/Nonesuch.vst3"), Deadlines(60.0, 60.0))) as process,
        pytest.raises(PluginError, match="failed while it was opened"),
    ):
        process.open()
    assert not trace.exists()


def test_every_module_that_is_started_is_started_without_the_current_folder() -> None:
    starts = [
        start
        for path in SOURCES
        for start in re.findall(r'sys\.executable,[^\]]*?"-m"', path.read_text("utf-8"))
    ]
    assert len(starts) >= 5
    assert set(starts) == {'sys.executable, "-P", "-m"'}
