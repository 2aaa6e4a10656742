"""A fake REAPER with the scripts installed as a user has them, and a real daemon in another process behind it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from daemon_harness import DaemonHarness
from reaper_fake import FakeReaper
from reaper_fake.contract import Language
from stembridge import daemon_process
from stembridge.reaper.actions import file_stem
from stembridge.reaper.install import find_scripts, install
from stembridge.reaper.preferences import Preferences, write_preferences

LIMIT_S = 120.0


class Stage:
    """One REAPER and its daemon; `run` runs an action as a click in the action list does.

    Parameters
    ----------
    folder : everything lies here
    language : which of the two front ends is installed
    """

    def __init__(self, folder: Path, language: Language, home: Path) -> None:
        self.language = language
        self.daemon = DaemonHarness(home)
        self.reaper = FakeReaper(folder / "REAPER")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.reaper.spawner = self._spawn
        resource = folder / "REAPER"
        resource.mkdir(exist_ok=True)
        self.cli = _write_cli(folder, home)
        install(
            resource,
            self.daemon.settings,
            language="py" if language == "python" else "lua",
            cli=self.cli,
            scripts=find_scripts(),
        )
        self.actions = resource / "Scripts" / "Stembridge" / "actions"
        write_preferences(
            self.daemon.settings.config_file.with_name("reaper.toml"), Preferences(model="preview")
        )

    def start(self, action: str) -> None:
        """Run an action and leave its loop going."""
        name = file_stem(action)
        if self.language == "python":
            self.reaper.start_python(self.actions / f"{name}.py")
        else:
            self.reaper.start_lua(self.actions / f"{name}.lua")

    def run(self, action: str) -> None:
        """Run an action until its loop has ended."""
        self.start(action)
        self.finish()

    def finish(self, limit_s: float = LIMIT_S) -> None:
        """Let REAPER tick until nothing is deferred any more; the window is closed as soon as it is there."""
        deadline = time.monotonic() + limit_s
        while self.reaper.tick():
            if self.reaper.window.is_open:
                self.reaper.window.close()
            assert time.monotonic() < deadline, f"not done in {limit_s:.0f} s: {self.reaper.help_texts[-3:]}"
            time.sleep(0.002)
        self.reaper.check()

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait()
        if daemon_process.find(self.daemon.settings) is not None:
            self.daemon.adopt()
        self.daemon.close()

    def _spawn(self, command_line: str) -> str:
        self.processes.append(
            subprocess.Popen(shlex.split(command_line), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return ""


def _write_cli(folder: Path, home: Path) -> Path:
    """Return a command `stembridge` that works under ``home``."""
    path = folder / "a place" / "stembridge"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"#!{sys.executable}\nimport os, sys\nos.environ['STEMBRIDGE_HOME'] = {str(home)!r}\n"
        "from stembridge.cli import run\nrun()\n"
    )
    path.chmod(0o755)
    return path
