"""The process that a plugin lives in: `python -m stembridge.plugins.child`, ended by its host.

Requests come on stdin, replies go to what was stdout: a line of JSON, then as many bytes as its ``bytes``.
The plugin's own chatter on stdout and stderr goes nowhere. Everything runs in the main thread, which some
plugins insist on. A second process waits for the host's end alone, and then ends the plugin with all that it
has started, so that none outlives a host that was killed. Where there is no fork, a watch outside of Python
ends a plugin soon after the time limit that each request brings.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stembridge.plugins.values import find_raw_value

GRACE_S = 5.0
"""What the watch adds to a limit: the host, which can say what happened, is to be first."""
MOST_OPEN = 256
"""More files than are open before the first request."""
SETTLING_FRAMES = 512
HOSTS_OWN = ("buffer_size_frames", "sample_rate_frames", "latency_frames", "current_program")
"""What plugins made with DPF show as parameters and the host sets; a program replaces all other values."""


class Instances:
    """One plugin, opened as often as the channels ask for.

    Stereo is given to a plugin as stereo, or, where it takes none, to two instances of it, one per side. A
    plugin that takes stereo alone gets a mono signal on both sides, and the mean of both is kept.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name
        self._state = b""
        self._parameters: dict[str, float] = {}
        self.layout = "plain"
        self.plugins = [self._load()]

    def apply(self, state: bytes, parameters: Mapping[str, float]) -> bool:
        """Restore ``state``, set raw values, forget all sound; return whether the state was visibly taken."""
        self._state = state
        self._parameters = dict(parameters)
        return self._set_up(self.plugins[0])

    def process(self, block: NDArray[np.float32], sample_rate: int, block_frames: int) -> NDArray[np.float32]:
        """Return what comes out for ``block``, (channels, frames), without the latency it reports."""
        if self.layout == "plain":
            try:
                return _process(self.plugins[0], block, sample_rate, block_frames)
            except ValueError as error:
                # Raised before the plugin has seen a sample.
                if "does not support" not in str(error) or len(block) > 2:
                    raise
                self.layout = "dual mono" if len(block) == 2 else "mono on both sides"
        if self.layout == "mono on both sides":
            both = _process(self.plugins[0], np.repeat(block, 2, axis=0), sample_rate, block_frames)
            kept: NDArray[np.float32] = both.mean(axis=0, keepdims=True, dtype=np.float32)
            return kept
        if len(self.plugins) == 1:
            self.plugins.append(self._load())
            self._set_up(self.plugins[1])
        sides = [
            _process(plugin, block[side : side + 1], sample_rate, block_frames)
            for side, plugin in enumerate(self.plugins)
        ]
        return np.concatenate(sides)

    def _load(self) -> Any:
        from pedalboard import load_plugin

        return load_plugin(self._path, plugin_name=self._name or None)

    def _set_up(self, plugin: Any) -> bool:
        was_taken = True
        if self._state:
            before = plugin.raw_state
            plugin.raw_state = self._state
            was_taken = plugin.raw_state != before or before == self._state
        known = plugin.parameters if self._parameters else {}
        for name, value in self._parameters.items():
            known[name].raw_value = value
        # pedalboard 0.9.26 tries a new plugin on noise and forgets to take that back: without this the first
        # block carries it, and the latency counts as compensated already.
        plugin.reset()
        return was_taken


def _process(
    plugin: Any, block: NDArray[np.float32], sample_rate: int, block_frames: int
) -> NDArray[np.float32]:
    made: NDArray[np.float32] = plugin.process(block, sample_rate, buffer_size=block_frames, reset=False)
    return made


def _describe(plugin: Any) -> dict[str, object]:
    return {
        "name": plugin.name,
        "maker": plugin.manufacturer_name or "",
        "version": plugin.version or "",
        "category": plugin.category or "",
        "kind": "Audio Unit" if type(plugin).__name__ == "AudioUnitPlugin" else "VST3",
        "is_effect": bool(plugin.is_effect),
    }


def _list_parameters(plugin: Any) -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "raw_value": found.raw_value,
            "text": _text(found, f"{found.string_value}"),
            "low_text": _text(found, found.get_text_for_raw_value(0.0)),
            "high_text": _text(found, found.get_text_for_raw_value(1.0)),
            "is_automatable": bool(found.is_automatable),
        }
        for name, found in plugin.parameters.items()
        if name not in HOSTS_OWN
    ]


def _text(parameter: Any, shown: str) -> str:
    text = shown.strip()
    unit = f"{parameter.label or ''}".strip()
    return text if not unit or text.endswith(unit) else f"{text} {unit}"


_REFUSALS = (ImportError, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What pedalboard raises for a plugin that it cannot use."""


class Session:
    """Answers requests, one after the other."""

    def __init__(self) -> None:
        self._held: Instances | None = None

    def answer(self, request: Mapping[str, Any], payload: bytes) -> tuple[dict[str, object], bytes]:
        """Return the reply to one request and the bytes that follow it."""
        if request["do"] == "open":
            self._held = Instances(request["path"], request["plugin"])
            return _describe(self._held.plugins[0]), b""
        if request["do"] == "names":
            return {"names": _names_in(request["path"])}, b""
        held = self._held
        assert held is not None, "the host opens first"
        match request["do"]:
            case "apply":
                return {"was_taken": held.apply(payload, request["parameters"])}, b""
            case "process":
                block = np.frombuffer(payload, np.float32).reshape(request["channels"], -1)
                made = held.process(block, request["sample_rate"], request["block_frames"])
                return self._measured(held, made), np.ascontiguousarray(made, np.float32).tobytes()
            case "parameters":
                return {"parameters": _list_parameters(held.plugins[0])}, b""
            case "find":
                parameter = held.plugins[0].parameters[request["name"]]
                return {"raw_value": find_raw_value(parameter.get_text_for_raw_value, request["text"])}, b""
            case "state":
                # Values that were set reach the part that keeps the state with the next block only.
                held.process(np.zeros((2, SETTLING_FRAMES), np.float32), 48_000, SETTLING_FRAMES)
                return {}, bytes(held.plugins[0].raw_state)
            case "load_preset":
                plugin = held.plugins[0]
                plugin.load_preset(request["path"])
                # What shows the values hears of them this way only, unless the plugin tells it.
                plugin.raw_state = plugin.raw_state
                return {}, b""
        raise ValueError(f"unknown request {request['do']!r}")

    @staticmethod
    def _measured(held: Instances, made: NDArray[np.float32]) -> dict[str, object]:
        return {
            "layout": held.layout,
            "latency_frames": held.plugins[0].reported_latency_samples,
            "shape": made.shape,
        }


def _names_in(path: str) -> Sequence[str]:
    """Return the names of the plugins in a bundle; [] for an Audio Unit."""
    import pedalboard

    if not path.lower().endswith(".vst3"):
        return []
    names: Sequence[str] = pedalboard.VST3Plugin.get_plugin_names_for_file(path)
    return names


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the host closes its end."""
    session = Session()
    while line := requests.readline():
        request = json.loads(line)
        payload = requests.read(request["bytes"])
        if sys.platform == "win32":
            faulthandler.dump_traceback_later(request["limit_s"] + GRACE_S, exit=True)
        try:
            reply, data = session.answer(request, payload)
        except _REFUSALS as error:
            reply, data = {"error": f"{error}" or type(error).__name__}, b""
        if sys.platform == "win32":
            faulthandler.cancel_dump_traceback_later()
        replies.write(json.dumps({**reply, "bytes": len(data)}).encode() + b"\n" + data)
        replies.flush()


def _leave_watch() -> None:
    """Start the process that ends this one's group as soon as the host's end of stdin is closed.

    It is no child of this process: a plugin that waits for children of its own does not meet it.
    """
    if sys.platform == "win32":
        return
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        return
    if os.fork():
        os._exit(0)
    # An end that it held open would keep the host from seeing this process crash.
    os.closerange(1, MOST_OPEN)
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    while not poll.poll():
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    # The host ends this process; a Ctrl-C in its terminal is its own to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _leave_watch()
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    serve(sys.stdin.buffer, replies)
    # Plugins that crash when they are let go are not let go.
    os._exit(0)


if __name__ == "__main__":
    main()
