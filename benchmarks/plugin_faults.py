"""How long after a plugin's fault the daemon has served the next remix, with the same plugin in order.

Jobs of a real daemon, on a set of short synthetic stems. Each fault is followed at once by a remix whose
plugin is sound; its time counts from when the daemon told of the failure. What a hang takes until then is its
deadline, and stands apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from report import write_report
from stembridge.client import Client
from stembridge.errors import PluginError
from stembridge.plugins.process import USUAL
from stembridge.settings import load_settings
from stembridge.synthesis import make_song
from stembridge.types import RemixRequest, SplitRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from plugins.fixture import FAULTS, build_plugin

RESULT = Path(__file__).parent / "results" / "plugin_faults.json"
SEED = 5
SECONDS = 3.0
ALLOWED_S = 2.0
PRESET = """
[preset]
name = "{name} {fault}"
use = "a benchmark"
[[stems.vocals.effects]]
kind = "plugin"
path = "{name}.vst3"
parameters = {{ fault = {raw} }}
"""
CASES = {
    "crash in process": ("Sound", "crash"),
    "hang in process": ("Sound", "hang"),
    "NaN": ("Sound", "nan"),
    "abort on load": ("Aborts", "none"),
    "hang on load": ("Hangs", "none"),
}
"""What goes wrong -> plugin, and the fault that the preset sets off."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stembridge-") as folder:
        figures = measure(Path(folder), options.rounds)
    for name, value in figures.items():
        print(f"{value!s:>8}  {name}")
    write_report("plugin_faults", sys.argv, SEED, figures, options.json)


def measure(folder: Path, rounds: int) -> dict[str, object]:
    """Return the figures of the report: medians and the worst, in seconds."""
    for name, at_load in (("Sound", "none"), ("Aborts", "abort"), ("Hangs", "hang")):
        build_plugin(folder / "vst3", name, at_load=at_load)
    home = folder / "home"
    home.mkdir()
    (home / "settings.toml").write_text(f"plugin_dirs = [{json.dumps(str(folder / 'vst3'))}]\n")
    failing_s: dict[str, list[float]] = {case: [] for case in CASES}
    next_s: dict[str, list[float]] = {case: [] for case in CASES}
    with Client(load_settings(home=home, environ={})) as client:
        source = split(client, folder)
        sound = order(folder, source, "Sound", "none")
        remix(client, sound)
        alone_s = [remix(client, sound) for _ in range(rounds)]
        pids = [(worker.role, worker.pid) for worker in client.status().workers]
        for _ in range(rounds):
            for case, (name, fault) in CASES.items():
                failing_s[case].append(fail(client, order(folder, source, name, fault)))
                next_s[case].append(remix(client, sound))
        is_alive = pids == [(worker.role, worker.pid) for worker in client.status().workers]
        client.stop(0.0)
    worst = max(max(values) for values in next_s.values())
    figures: dict[str, object] = {"a remix without a fault, s": round(statistics.median(alone_s), 2)}
    for case in CASES:
        figures[f"{case}: until the failure is told, s"] = round(statistics.median(failing_s[case]), 2)
        figures[f"{case}: from there until the next remix is there, s"] = round(
            statistics.median(next_s[case]), 2
        )
    figures |= {
        "deadline of a plugin to load, s": USUAL.open_s,
        "deadline of a plugin for a block, s": USUAL.answer_s,
        "worst time from a fault to the next remix, s": round(worst, 2),
        "asked for, s": ALLOWED_S,
        "holds": worst <= ALLOWED_S,
        "the same daemon and workers all along": is_alive,
    }
    return figures


def split(client: Client, folder: Path) -> Path:
    """Return the stems of a synthetic song."""
    song = make_song(SEED, seconds=SECONDS)
    soundfile.write(folder / "song.wav", song.mixture.T, song.sample_rate, subtype="PCM_16")
    request = SplitRequest(str(folder / "song.wav"), str(folder / "sets"), "preview")
    result = client.wait(client.submit(request).id).result
    assert result is not None
    return Path(result.folder)


def order(folder: Path, source: Path, name: str, fault: str) -> RemixRequest:
    preset = folder / f"{name} {fault}.toml"
    preset.write_text(PRESET.format(name=name, fault=fault, raw=FAULTS[fault]))
    return RemixRequest(str(source), str(folder / "out"), str(preset))


def remix(client: Client, request: RemixRequest) -> float:
    """Return the seconds from the submit until the remix is there."""
    started = time.perf_counter()
    client.wait(client.submit(request).id)
    return time.perf_counter() - started


def fail(client: Client, request: RemixRequest) -> float:
    """Return the seconds from the submit until the daemon says that the plugin failed."""
    started = time.perf_counter()
    try:
        client.wait(client.submit(request).id)
    except PluginError:
        return time.perf_counter() - started
    raise AssertionError("a plugin's fault went unnoticed")


if __name__ == "__main__":
    main()
