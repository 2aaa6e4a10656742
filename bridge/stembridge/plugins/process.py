"""One plugin in one child process, and what its end means: nothing that a plugin does passes beyond this."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stembridge.errors import PluginError
from stembridge.text import one_line, shorten

LONGEST_CAUSE = 200


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a plugin may take before it counts as hung, in seconds.

    Parameters
    ----------
    open_s : until it is loaded; some read their sounds from the disk meanwhile
    answer_s : for everything else, a block of audio among it
    """

    open_s: float = 20.0
    answer_s: float = 10.0


USUAL = Deadlines()


@dataclass(frozen=True, slots=True)
class Description:
    """What a plugin says of itself; ``kind`` is 'VST3' or 'Audio Unit'."""

    name: str
    maker: str
    version: str
    category: str
    kind: str
    is_effect: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value of a plugin: its name in presets, raw 0..1, what that, 0 and 1 mean, if a DAW could move it.

    What no DAW could move is a meter, or belongs to the host.
    """

    name: str
    raw_value: float
    text: str
    low_text: str
    high_text: str
    is_automatable: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a plugin made of a block.

    Parameters
    ----------
    samples : (channels, frames); fewer frames than were given while its latency has not passed
    layout : 'plain', 'dual mono' or 'mono on both sides'; see `stembridge.plugins.child.Instances`
    reported_frames : the latency that it reports now, already taken off
    """

    samples: NDArray[np.float32]
    layout: str
    reported_frames: int


class RunningPlugins:
    """The plugin processes of one piece of work, which any thread may end: what waits for one goes on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[PluginProcess] = set()
        self._has_ended = False

    def add(self, process: PluginProcess) -> None:
        """Take a process in; it is killed at once where all have been ended already."""
        with self._lock:
            self._processes.add(process)
            if self._has_ended:
                process.kill()

    def remove(self, process: PluginProcess) -> None:
        """Forget a process that was closed."""
        with self._lock:
            self._processes.discard(process)

    def end(self) -> None:
        """Kill every process, and every one that comes later."""
        with self._lock:
            self._has_ended = True
            for process in self._processes:
                process.kill()


class PluginProcess:
    """A child process for one plugin, which ends with `close`.

    Parameters
    ----------
    path : the bundle, as `stembridge.plugins.folders.resolve` gives it
    deadlines : what it may take
    running : gets this process, until it is closed

    Raises
    ------
    PluginError
        From every method: the plugin crashed, hung or refused; the child is gone then.
    """

    def __init__(
        self, path: Path, deadlines: Deadlines = USUAL, running: RunningPlugins | None = None
    ) -> None:
        self.name = path.stem
        self._path = path
        self._deadlines = deadlines
        self._is_late = False
        self._running = running
        self._ending = threading.Lock()
        # Without a display a plugin behaves the same everywhere, and opens no window over somebody's work.
        environ = {key: value for key, value in os.environ.items() if key not in _DISPLAYS}
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "stembridge.plugins.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            # A group of its own, so that processes which a plugin starts end with it.
            start_new_session=True,
        )
        if running is not None:
            running.add(self)

    def list_names(self) -> tuple[str, ...]:
        """Return the names of the plugins in the bundle; () for an Audio Unit, which is alone in its own."""
        reply, _ = self._ask(
            {"do": "names", "path": str(self._path)}, "it was opened", self._deadlines.open_s
        )
        return tuple(reply["names"])

    def open(self, plugin: str = "") -> Description:
        """Open the bundle's plugin, or ``plugin`` of several, and return what it says of itself."""
        names = self.list_names()
        if len(names) > 1 and plugin not in names:
            self.close()
            raise PluginError(
                f'"{self._path.name}" holds {len(names)} plugins and none is named "{plugin}"',
                f"plugin = one of {', '.join(names)}",
            )
        request = {"do": "open", "path": str(self._path), "plugin": plugin}
        reply, _ = self._ask(request, "it was opened", self._deadlines.open_s)
        description = Description(**reply)
        self.name = description.name
        return description

    def apply(self, state: bytes, parameters: Mapping[str, float]) -> None:
        """Make ready for audio: restore ``state`` unless it is empty, then set raw values of known names."""
        reply, _ = self._ask(
            {"do": "apply", "parameters": dict(parameters)}, "its state was restored", data=state
        )
        if not reply["was_taken"]:
            self.close()
            raise PluginError(
                f'plugin "{self.name}" did not take the state of the preset',
                "the state is of another plugin or version; save it again with `stembridge plugins show`",
            )

    def load_preset(self, path: Path) -> None:
        """Load a .vstpreset file."""
        self._ask({"do": "load_preset", "path": str(path)}, f"it loaded {path.name}")

    def list_parameters(self) -> tuple[Parameter, ...]:
        """Return the parameters that a preset may set, with the values they have now."""
        reply, _ = self._ask({"do": "parameters"}, "its parameters were read")
        return tuple(Parameter(**parameter) for parameter in reply["parameters"])

    def find_raw_value(self, name: str, text: str) -> float | None:
        """Return the raw value of a known parameter that shows as ``text``, or as the number next to it."""
        reply, _ = self._ask({"do": "find", "name": name, "text": text}, "a value was looked for")
        found: float | None = reply["raw_value"]
        return found

    def read_state(self) -> bytes:
        """Return the raw state: everything the plugin wants to find again."""
        return self._ask({"do": "state"}, "its state was read")[1]

    def process(self, block: NDArray[np.float32], sample_rate: int, block_frames: int) -> Answer:
        """Return what comes out for ``block``, (channels, frames), given on in blocks of ``block_frames``."""
        request = {
            "do": "process",
            "channels": len(block),
            "sample_rate": sample_rate,
            "block_frames": block_frames,
        }
        data = np.ascontiguousarray(block, np.float32).tobytes()
        reply, made = self._ask(request, "it processed audio", data=data)
        channels, frames = reply["shape"]
        if channels != len(block) or frames > block.shape[1]:
            self.close()
            shapes = f"{channels} x {frames} samples for {len(block)} x {block.shape[1]}"
            raise PluginError(f'plugin "{self.name}" gave {shapes}', REMEDY)
        samples = np.frombuffer(made, np.float32).reshape(channels, frames)
        return Answer(samples, reply["layout"], reply["latency_frames"])

    def close(self) -> None:
        """End the child, whatever it is doing; again does nothing."""
        if self._running is not None:
            self._running.remove(self)
        with self._ending:
            self._signal()
            self._child.wait()
        for pipe in filter(None, (self._child.stdin, self._child.stdout)):
            with suppress(OSError):
                pipe.close()

    def kill(self) -> None:
        """Kill the child, from any thread: what it was asked meanwhile raises `PluginError` there."""
        with self._ending:
            self._signal()

    def _ask(
        self, request: Mapping[str, object], doing: str, limit_s: float | None = None, data: bytes = b""
    ) -> tuple[dict[str, Any], bytes]:
        """Return the child's reply and the bytes after it; ``doing`` ends the sentence of an error."""
        limit_s = self._deadlines.answer_s if limit_s is None else limit_s
        line = json.dumps({**request, "limit_s": limit_s, "bytes": len(data)}).encode() + b"\n"
        watch = threading.Timer(limit_s, self._give_up)
        watch.start()
        try:
            reply, made = self._exchange(line + data)
        finally:
            watch.cancel()
            watch.join()
        if reply is None:
            self.close()
            raise self._death(doing, limit_s)
        if "error" in reply:
            self.close()
            cause = shorten(one_line(reply["error"]), LONGEST_CAUSE)
            raise PluginError(f'plugin "{self.name}" failed while {doing}: {cause}', REMEDY)
        return reply, made

    def _exchange(self, message: bytes) -> tuple[dict[str, Any] | None, bytes]:
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(message)
            stdin.flush()
            line = stdout.readline()
            if not line.endswith(b"\n"):
                return None, b""
            reply = json.loads(line)
            length = reply.pop("bytes")
            data = stdout.read(length)
        except (OSError, ValueError):
            # A pipe that broke, or was closed: the child is gone.
            return None, b""
        return (reply, data) if len(data) == length else (None, b"")

    def _give_up(self) -> None:
        self._is_late = True
        self.kill()

    def _signal(self) -> None:
        if sys.platform == "win32":
            self._child.kill()
        elif self._child.returncode is None:
            # Once it was waited for, its number may belong to somebody else.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _death(self, doing: str, limit_s: float) -> PluginError:
        if self._is_late:
            return PluginError(
                f'plugin "{self.name}" did not answer within {limit_s:g} s while {doing}', REMEDY
            )
        return PluginError(
            f'plugin "{self.name}" crashed ({_name_end(self._child.returncode)}) while {doing}', REMEDY
        )


_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
REMEDY = "try another version of it, or do without it; nothing else was affected"


def _name_end(code: int) -> str:
    """Return what an exit code of a child stands for: 'SIGSEGV', 'exit code 1', 'exit code 0xc0000005'."""
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code:#x}" if code > 255 else f"exit code {code}"
