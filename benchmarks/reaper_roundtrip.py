"""What a producer in REAPER waits for beside the model, and what a short item costs of a long song.

The first figures come from the scripts in the tests' fake REAPER, thirty ticks a second by a real clock, with
a separator that costs next to nothing: from the action to stems in place for 1, 10 and 100 items, the longest
tick that places nothing, and the longest apply, which is one tick and one undo step. A call of the fake's API
costs many times what REAPER's does, and is in all of them. The last figures are seconds inside htdemucs at
its official size with seeded random weights: items of five seconds at several places of a song of four
minutes, as the planner has them separated, against all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile

from report import write_report
from stembridge import catalog, model_store
from stembridge.reaper.preferences import Preferences
from stembridge.reaper.regions import Extent, plan_regions
from stembridge.synthesis import make_song
from stembridge.types import Region, SplitRequest
from stembridge_daemon.supervisor import tuned_environment
from stembridge_daemon.worker.pipeline import run_split

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reaper"))

from fake_house import FakeHouse
from reaper_fake import FakeReaper
from stage import BehindDesk, Stage

SEED = 6
RATE = 44_100
SONG_S = 240
CHOP_S = 5.0
CHOPS_AT_S = (0.0, 61.3, 122.7, 180.1, 234.0)
RESULT = Path(__file__).parent / "results" / "reaper_roundtrip.json"


class LiveReaper(FakeReaper):
    """A fake REAPER whose clock goes on within a tick, so that scripts stop where their time is up."""

    @property
    def clock_s(self) -> float:
        return time.perf_counter()

    @clock_s.setter
    def clock_s(self, _value: float) -> None:
        """Ticks do not move a real clock."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--without-model", action="store_true", help="leave out the cost of a short item")
    parser.add_argument("--split", nargs=3, metavar=("SOURCE", "START", "FRAMES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.split:
        source, start, frames = options.split
        print(json.dumps(measure_split(source, int(start), int(frames))))
        return
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sb") as name:
        for count in options.items:
            for language in ("lua", "python"):
                figures |= measure_items(Path(name) / f"{language}{count}", language, count)
        if not options.without_model:
            figures |= measure_chop(Path(name))
    for label, value in figures.items():
        print(f"{value!s:>10}  {label}")
    write_report("reaper_roundtrip", sys.argv, SEED, figures, options.json)


def measure_items(folder: Path, language: Any, count: int) -> dict[str, float]:
    """Return how long ``count`` items take from the action to stems in place, and the longest ticks."""
    folder.mkdir()
    house = FakeHouse(folder / "home")
    behind = BehindDesk(house)
    stage = Stage(folder, language, behind, make_reaper=LiveReaper)
    song = make_song(SEED, seconds=2.0, sample_rate=RATE).mixture.T
    track = stage.reaper.add_track("Mix")
    items = []
    for number in range(count):
        path = folder / f"song {number}.wav"
        soundfile.write(path, song, RATE, subtype="PCM_24")
        items.append(stage.reaper.add_item(track, str(path), D_POSITION=3.0 * number))
    stage.reaper.select(*items)
    waiting: list[float] = []
    applying: list[float] = []
    began = time.perf_counter()
    stage.start("split")
    while stage.reaper.scripts:
        due = time.perf_counter() + 1 / 30
        behind.pump()
        if stage.reaper.window.is_open:
            stage.reaper.window.close()
        before = len(stage.reaper.current.undo)
        stage.reaper.tick()
        stage.reaper.check()
        is_applied = len(stage.reaper.current.undo) > before
        (applying if is_applied else waiting).append(stage.reaper.tick_ms[-1])
        time.sleep(max(0.0, due - time.perf_counter()))
    took_s = time.perf_counter() - began
    stage.close()
    assert len(stage.reaper.current.undo) == count, "every item is one undo step"
    label = f"{language}, {count} item{'s' * (count > 1)}"
    return {
        f"{label}: from the action to stems in place, ms per item": round(1000 * took_s / count),
        f"{label}: longest tick that places nothing, ms": round(max(waiting), 1),
        f"{label}: longest apply, ms": round(max(applying), 1),
    }


def measure_chop(place: Path) -> dict[str, float]:
    """Return what items of five seconds cost inside the model, as a share of the whole song."""
    from model_files import official_htdemucs, write_safetensors

    write_safetensors(official_htdemucs(), place, "955717e8")
    source = place / "song.wav"
    minute = make_song(SEED, seconds=60.0, sample_rate=RATE).mixture.T
    with soundfile.SoundFile(source, "w", RATE, 2, subtype="PCM_24") as file:
        for _ in range(SONG_S // 60):
            file.write(minute)
    extent = Extent(SONG_S * RATE, RATE)
    chops = []
    for at in CHOPS_AT_S:
        (region,) = plan_regions([(at, at + CHOP_S)], extent, Preferences().handles_s)
        assert region is not None
        chops.append(in_fresh_process(source, region))
    whole = in_fresh_process(source, Region(0, extent.frames))
    median = statistics.median(chop["separate_s"] for chop in chops)
    return {
        "htdemucs, 5 s of a 4 min song: inside the model, s": round(median, 1),
        "htdemucs, all of the 4 min song: inside the model, s": round(whole["separate_s"], 1),
        "htdemucs, 5 s of a 4 min song as a share of all of it, %": round(
            100 * median / whole["separate_s"], 1
        ),
        "htdemucs, 5 s of a 4 min song: segments": statistics.median(chop["steps"] for chop in chops),
    }


def in_fresh_process(source: Path, region: Region) -> dict[str, float]:
    """Return what `measure_split` finds in a process of its own."""
    command = [sys.executable, __file__, "--split", str(source), str(region.start), str(region.frames)]
    environment = tuned_environment(os.environ)
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return dict(json.loads(found.stdout.splitlines()[-1]))


def measure_split(source: str, start: int, frames: int) -> dict[str, float]:
    """Split a region of ``source`` and return the seconds and steps inside the separator."""
    from stembridge_daemon.worker.separating import ResidentModels

    place = Path(source).parent
    found = model_store.locate(catalog.find_model("htdemucs"), [place])
    assert found is not None
    separator = ResidentModels("cpu", threads=0).get(found, ())
    separator.warm_up()
    with tempfile.TemporaryDirectory(prefix="out-", dir=place) as out:
        request = SplitRequest(source, out, "htdemucs", region=Region(start, frames), on_source_grid=True)
        steps = run_split("job", request, separator)
        separating = 0
        while True:
            try:
                separating += next(steps).stage == "separate"
            except StopIteration as stop:
                return {"separate_s": stop.value.separate_s, "steps": separating}


if __name__ == "__main__":
    main()
