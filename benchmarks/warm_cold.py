"""What a user waits for: the `demucs` command, begun afresh, against `stembridge split` with a warm daemon.

Both from the shell to finished files on the disk, with the same weights: htdemucs of the official size with
lively seeded ones. `demucs` runs in a plain environment and writes four 16-bit stems; ours starts its command
line, and its files are four stems and the residual, read back and proved. The wall time is that until the
files are there. The CPU time is that of the whole command, for ours with the table that it prints after that,
and with the daemon and its worker (Linux). The settings say `worker_priority = "normal"`: wall times are
compared, and `demucs` ranks no lower either. Called in turn; medians of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from engine import MODEL, SEED, SIGNATURE, plain_environment
from report import write_report
from stembridge.client import Client
from stembridge.manifest import FILE_NAME, read_manifest
from stembridge.settings import Settings, load_settings
from stembridge.synthesis import make_song
from stembridge.types import Precision, SplitRequest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

COLD = "demucs"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COLUMNS = (
    "item", "command", "wall, demucs over ours", "CPU time, demucs over ours", "wall, s", "CPU time, s"
)  # fmt: skip
RESULT = Path(__file__).parent / "results" / "warm_cold.json"

Times = dict[str, float]
Round = dict[str, Times]
"""Wall and CPU seconds of one call each: `COLD`, and ours by precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", nargs="+", type=float, default=[5.0, 30.0], help="lengths in s")
    parser.add_argument("--modes", nargs="+", type=Precision, choices=[*Precision], default=[*Precision])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a small model: shows that this runs, no more")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stembridge-") as name:
        figures = measure(Path(name), options)
    for row in (figures["columns"], *figures["rows"]):
        print(" | ".join(row))
    print(figures["caption"])
    write_report("warm_cold", sys.argv, SEED, figures, options.json)


def measure(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the report; see the module's docstring."""
    home = place / "home"
    home.mkdir()
    # The daemon reads it as well.
    (home / "settings.toml").write_text('worker_priority = "normal"\n', "utf-8")
    settings = load_settings(home=home, environ={})
    repo = write_models(place, settings, is_small=options.small)
    seconds = sorted(options.items)
    songs = {f"{length:g} s": write_song(place, length) for length in seconds}
    with Client(settings) as client:
        modes, refusals = warm_up(client, next(iter(songs.values())), place, options.modes)
        status = client.status()
        worker = status.workers[0]
        assert worker.pid is not None
        pids = (status.pid, worker.pid)
        calls: dict[str, Callable[[Path], Times]] = {COLD: lambda song: split_cold(song, place, repo)}
        for mode in modes:
            calls[mode] = lambda song, mode=mode: split_warm(  # type: ignore[misc]
                song, place, settings, mode, pids
            )
        rounds = time_rounds(calls, songs, options.rounds)
        client.stop(0.0)
        while settings.connection_file.exists():
            time.sleep(0.01)
    rows = [[item, told(side), *describe(rounds[item], side)] for item in songs for side in calls]
    size = "a small model" if options.small else "htdemucs of the official size"
    caption = (
        f"From the shell to the files on the disk, with {size} and lively weights of seed {SEED}; medians of "
        f"{options.rounds} rounds, ratios of the rounds' own. `demucs` begins afresh each time; the daemon "
        f"is warm and its worker computes with {worker.threads or 'all'} threads at normal priority. "
        f"{' '.join(refusals)}".strip()
    )
    ratios = {
        f"{item}, {mode}, {kind}": [round(ratio, 3) for ratio in ratios_of(rounds[item], mode, kind)]
        for item in songs
        for mode in modes
        for kind in ("wall_s", "cpu_s")
    }
    return {"caption": caption, "columns": [*COLUMNS], "rows": rows, "ratios of the rounds": ratios}


def write_models(place: Path, settings: Settings, *, is_small: bool) -> Path:
    """Write one model where the daemon looks for it and as a folder for `demucs --repo`; return that."""
    from model_files import official_htdemucs, small_htdemucs, write_bag, write_safetensors, write_th

    model = small_htdemucs(SEED) if is_small else official_htdemucs(SEED)
    settings.model_dirs[0].mkdir(parents=True)
    write_safetensors(model, settings.model_dirs[0], SIGNATURE)
    repo = place / "repo"
    repo.mkdir()
    write_th(model, repo, SIGNATURE)
    write_bag(repo, MODEL, [SIGNATURE])
    return repo


def write_song(place: Path, seconds: float) -> Path:
    path = place / f"{seconds:g} s.wav"
    song = make_song(SEED, seconds=seconds)
    soundfile.write(path, song.mixture.T, song.sample_rate, subtype="PCM_16")
    return path


def warm_up(
    client: Client, song: Path, place: Path, asked: Sequence[Precision]
) -> tuple[list[Precision], list[str]]:
    """Split once in every mode; return those that the machine has, and why it has not the others."""
    modes: list[Precision] = []
    refusals: list[str] = []
    for mode in asked:
        request = SplitRequest(str(song), str(place / "first"), MODEL, precision=mode)
        result = client.wait(client.submit(request).id).result
        assert result is not None
        used = read_manifest(Path(result.folder)).model.precision
        if used == mode.value:
            modes.append(mode)
        else:
            refusals += [warning for warning in result.warnings if f"{mode} was asked for" in warning]
    return modes, refusals


def time_rounds(
    calls: Mapping[str, Callable[[Path], Times]], songs: Mapping[str, Path], rounds: int
) -> dict[str, list[Round]]:
    """Return the times of every round by item; one round more comes first and is not counted."""
    found: dict[str, list[Round]] = {item: [] for item in songs}
    began = time.perf_counter()
    for number in range(-1, rounds):
        sides = [*calls][:: 1 if number % 2 else -1]
        for item, song in songs.items():
            times = {side: calls[side](song) for side in sides}
            if number >= 0:
                found[item].append(times)
        if number < 0:
            left_s = rounds * (time.perf_counter() - began)
            print(f"{rounds} rounds: about {left_s / 60:.1f} min from here", file=sys.stderr)
    return found


def split_cold(song: Path, place: Path, repo: Path) -> Times:
    """Return the seconds of a `demucs` command; all of its CPU time is its own and its children's."""
    out = place / "cold"
    command = [script("demucs"), "--repo", str(repo), "-n", MODEL, "-d", "cpu", "-o", str(out), str(song)]
    times = run_command(command, plain_environment())
    assert len([*out.rglob("*.wav")]) == 4
    shutil.rmtree(out)
    return times


def split_warm(song: Path, place: Path, settings: Settings, mode: Precision, pids: Sequence[int]) -> Times:
    """Return the seconds of a `stembridge split`, with the CPU time of the daemon's processes ``pids``."""
    out = place / "warm"
    command = [script("stembridge"), "split", str(song), "--out", str(out), "--model", MODEL]
    before_s = sum(cpu_seconds(pid) for pid in pids)
    environment = {**os.environ, "STEMBRIDGE_HOME": str(settings.home)}
    # The set is published whole; what the command then does is measure it for the table that it prints.
    times = run_command(
        [*command, "--precision", mode.value], environment, lambda: any(out.glob(f"*/{FILE_NAME}"))
    )
    assert len([*out.rglob("*.wav")]) == 5
    shutil.rmtree(out)
    times["cpu_s"] += sum(cpu_seconds(pid) for pid in pids) - before_s
    return times


def script(name: str) -> str:
    """Return the path of a console script of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"no command {name!r} beside {sys.executable}"
    return found


def run_command(
    command: Sequence[str], environment: Mapping[str, str], has_files: Callable[[], bool] = lambda: False
) -> Times:
    """Return the seconds until ``has_files``, or else the end of the command, and its CPU time to its end."""
    before, began = os.times(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=dict(environment), stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None and not has_files():
            time.sleep(0.005)
        wall_s = time.perf_counter() - began
        process.wait()
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.read().strip()}")
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": wall_s, "cpu_s": used}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def ratios_of(rounds: Sequence[Round], side: str, kind: str) -> list[float]:
    """Return the cold command's time over the side's in every round; ``kind`` is 'wall_s' or 'cpu_s'."""
    return [one[COLD][kind] / one[side][kind] for one in rounds]


def told(side: str) -> str:
    return f"`{side}`, cold" if side == COLD else f"`stembridge split --precision {side}`, warm"


def describe(rounds: Sequence[Round], side: str) -> list[str]:
    """Return the row of one item and command behind its first two columns."""
    return [
        *(f"{statistics.median(ratios_of(rounds, side, kind)):.2f}" for kind in ("wall_s", "cpu_s")),
        *(f"{statistics.median(one[side][kind] for one in rounds):.2f}" for kind in ("wall_s", "cpu_s")),
    ]


if __name__ == "__main__":
    main()
