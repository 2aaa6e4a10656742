"""A fake REAPER with the scripts installed as a user has them, and something behind it that answers them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zmq
from numpy.typing import NDArray

from daemon_harness import DaemonHarness
from reaper_fake import FakeReaper, render_project
from reaper_fake.contract import Language
from script_modules import forget_scripts
from stembridge import daemon_process, protocol
from stembridge.reaper.actions import file_stem
from stembridge.reaper.desk import Desk
from stembridge.reaper.house import House
from stembridge.reaper.install import find_scripts, install
from stembridge.reaper.preferences import Preferences, write_preferences
from stembridge.settings import Settings
from stembridge.transport import Connection, secure_folder, socket_path, write_connection

LIMIT_S = 120.0
LANGUAGES: tuple[Language, ...] = ("lua", "python")


class Backstage(Protocol):
    """What answers the scripts."""

    settings: Settings

    def spawn(self, command_line: str) -> str:
        """Start what the scripts start."""
        ...

    def pump(self) -> None:
        """Do what is due between two ticks."""
        ...

    def close(self) -> None: ...


class Stage:
    """One REAPER; `run` runs an action as a click in the action list does.

    Parameters
    ----------
    folder : REAPER's resource folder and the installed scripts lie here
    language : which of the two front ends is installed
    """

    def __init__(
        self,
        folder: Path,
        language: Language,
        behind: Backstage,
        preferences: Preferences | None = None,
        make_reaper: Callable[[Path], FakeReaper] = FakeReaper,
    ) -> None:
        self.language = language
        self.behind = behind
        self.reaper = make_reaper(folder / "REAPER")
        self.reaper.spawner = behind.spawn
        resource = folder / "REAPER"
        resource.mkdir()
        (resource / "reaper.ini").touch()
        home = behind.settings.home
        assert home is not None
        install(
            resource,
            behind.settings,
            language="py" if language == "python" else "lua",
            cli=write_cli(folder, home),
            scripts=find_scripts(),
        )
        self.actions = resource / "Scripts" / "Stembridge" / "actions"
        forget_scripts()
        file = behind.settings.config_file.with_name("reaper.toml")
        write_preferences(file, preferences or Preferences(model="preview"))

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

    def tick(self) -> bool:
        """Let REAPER tick once; a window is closed as soon as it is there, so that nothing waits for that."""
        self.behind.pump()
        if self.reaper.window.is_open:
            self.reaper.window.close()
        return self.reaper.tick()

    def finish(self, limit_s: float = LIMIT_S) -> None:
        """Let REAPER tick until nothing is deferred any more."""
        self.run_until(lambda: not self.reaper.scripts, "the script to end", limit_s)

    def run_until(self, is_true: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Let REAPER tick until ``is_true``."""
        deadline = time.monotonic() + limit_s
        while not is_true():
            self.tick()
            self.reaper.check()
            assert time.monotonic() < deadline, f"waited {limit_s:.0f} s for {what}: {self.said}"
            time.sleep(0.001)
        self.reaper.check()

    @property
    def said(self) -> str:
        """What the user has been told, in whatever way."""
        reaper = self.reaper
        return "\n".join([*reaper.help_texts[-3:], *reaper.console, *reaper.window.shown_texts])

    def hear(self, rate: int = 44_100) -> NDArray[np.float64]:
        """Return what the project sounds like, by the oracle."""
        return render_project(self.reaper.current, self.reaper.shelf.samples, rate)

    def close(self) -> None:
        """End what still runs, as REAPER does when it is closed."""
        for script in list(self.reaper.scripts):
            self.reaper.terminate(script)
        self.behind.close()


class BehindDesk:
    """A desk in this process: notes come from files, or over a socket, and are answered between two ticks.

    ``on_note`` is called with each note before it is answered: there a test does what a user does meanwhile.
    """

    def __init__(self, house: House) -> None:
        self.settings = house.settings
        self.desk = Desk(house)
        self.on_note: Callable[[dict[str, Any]], None] = lambda _note: None
        self.notes: list[dict[str, Any]] = []
        self._files: tuple[Path, Path] | None = None
        self._answered = -1
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        path = socket_path(secure_folder(self.settings.runtime_dir))
        self._socket.bind(f"ipc://{path}")
        connection = Connection(f"ipc://{path}", 1, "test", protocol.VERSION)
        write_connection(self.settings.connection_file, connection)

    def spawn(self, command_line: str) -> str:
        words = shlex.split(command_line)
        assert words[1:3] == ["reaper", "run"], command_line
        self._files = Path(words[4]), Path(words[6])
        return ""

    def pump(self) -> None:
        self._pump_files()
        while self._socket.poll(0):
            client, *frames = self._socket.recv_multipart()
            call = protocol.decode_call(frames)
            assert isinstance(call, protocol.Reaper)
            reply = protocol.Orders(reply=self._answer(call.note), call=call.call)
            self._socket.send_multipart([client, *protocol.encode(reply)])

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def _pump_files(self) -> None:
        if self._files is None or not self._files[0].exists():
            return
        said = json.loads(self._files[0].read_text("utf-8"))
        if said["n"] != self._answered:
            self._answered = said["n"]
            reply = json.loads(self._answer(json.dumps(said["note"]).encode()))
            self._files[1].write_text(json.dumps({"n": said["n"], "reply": reply}), "utf-8")

    def _answer(self, note: bytes) -> bytes:
        decoded = json.loads(note)
        self.notes.append(decoded)
        self.on_note(decoded)
        return self.desk.answer(note)


class BehindDaemon:
    """A real `stembridged` in another process, started by the scripts themselves."""

    def __init__(self, home: Path) -> None:
        self.daemon = DaemonHarness(home)
        self.settings = self.daemon.settings
        self.processes: list[subprocess.Popen[bytes]] = []

    def spawn(self, command_line: str) -> str:
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(shlex.split(command_line), stdin=quiet, stdout=quiet, stderr=quiet)
        self.processes.append(process)
        return ""

    def pump(self) -> None:
        """The processes run by themselves."""

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait()
        if daemon_process.find(self.settings) is not None:
            self.daemon.adopt()
        self.daemon.close()


def write_cli(folder: Path, home: Path) -> Path:
    """Return a command `stembridge` that works under ``home``."""
    path = folder / "a place" / "stembridge"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"#!{sys.executable}\nimport os\nos.environ['STEMBRIDGE_HOME'] = {str(home)!r}\n"
        "from stembridge.cli import run\nrun()\n"
    )
    path.chmod(0o755)
    return path
