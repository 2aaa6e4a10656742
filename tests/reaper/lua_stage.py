"""A stage for the Lua scripts: a fake REAPER, an installed copy of them, and the courier they talk to."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reaper_fake.contract import Language
from reaper_fake.media import Media
from reaper_fake.model import Item, Source, Take, Track
from reaper_fake.reaper import FakeReaper, Script
from stembridge.reaper.actions import file_stem

SCRIPTS = Path(__file__).resolve().parents[2] / "reaper_scripts"
RATE = 44100

Reply = dict[str, Any]
Note = dict[str, Any]


def reply(*orders: dict[str, Any], **fields: Any) -> Reply:
    """Return a reply with these orders; ``panel`` may be among the fields."""
    return {"v": 1, "orders": list(orders), **fields}


class CountingReaper(FakeReaper):
    """A fake REAPER that knows which functions were called since the last `calls.clear()`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.calls: Counter[str] = Counter()

    def call(self, name: str, args: list[Any], language: Language) -> dict[str, Any]:
        self.calls[name] += 1
        return super().call(name, args, language)


class Courier:
    """The other end of the file route: whoever sits there answers each note once."""

    def __init__(self, answer: Callable[[Note], Reply]) -> None:
        self.answer = answer
        self.notes: list[Note] = []
        self.starts = 0
        self.is_alive = False
        self.request: Path | None = None
        self.status: Path | None = None
        self._done = 0

    def start(self, command: str) -> str:
        """Take the command line as `ExecProcess` gets it."""
        words = shlex.split(command)
        assert words[1:4] == ["reaper", "run", "--request"]
        assert words[5] == "--status"
        self.request, self.status = Path(words[4]), Path(words[6])
        self.starts += 1
        self.is_alive = True
        self._done = 0
        return ""

    def kill(self) -> None:
        """Be gone, in the middle of whatever it was."""
        self.is_alive = False

    def work(self) -> None:
        """Answer the note that lies there, if it is a new one."""
        if not self.is_alive or self.request is None or not self.request.exists():
            return
        said = json.loads(self.request.read_bytes().decode("utf-8"))
        if said["n"] == self._done:
            return
        self._done = said["n"]
        self.notes.append(said["note"])
        self.write({"n": said["n"], "reply": self.answer(said["note"])})

    def write(self, status: Any) -> None:
        """Put a status file down by one rename."""
        assert self.status is not None
        draft = self.status.with_suffix(".tmp")
        draft.write_text(json.dumps(status), encoding="utf-8")
        draft.replace(self.status)


class Stage:
    """One REAPER with Stembridge's Lua actions in it."""

    def __init__(self, folder: Path, answer: Callable[[Note], Reply] | None = None) -> None:
        self.folder = folder
        self.home = folder / "Scripts, größer" / "Stembridge"
        self.work = folder / "state" / "reaper"
        self.reaper = CountingReaper(folder / "resources")
        self.courier = Courier(answer or (lambda _: reply()))
        self.reaper.spawner = self.courier.start
        for part in ("actions", "lib"):
            (self.home / part).mkdir(parents=True)
            for script in (SCRIPTS / part).glob("*.lua"):
                shutil.copy(script, self.home / part)
        config = {
            "cli": str(folder / "my bin" / "stembridge"),
            "connection_file": str(folder / "connection.json"),
            "work_dir": str(self.work),
            "version": "0.1.0",
        }
        (self.home / "stembridge_config.json").write_text(json.dumps(config), encoding="utf-8")

    def action(self, name: str) -> Path:
        """Return the script of an action."""
        return self.home / "actions" / f"{file_stem(name)}.lua"

    def start(self, action: str = "split") -> Script:
        """Run an action as the user does."""
        return self.reaper.start_lua(self.action(action))

    def tick(self, count: int = 1) -> None:
        """Let REAPER and the courier go on."""
        for _ in range(count):
            self.courier.work()
            self.reaper.calls.clear()
            self.reaper.tick()

    def tick_until(self, is_reached: Callable[[], bool], max_ticks: int = 2000) -> None:
        """Let both go on until something is so."""
        for _ in range(max_ticks):
            if is_reached():
                return
            self.tick()
        self.reaper.check()
        raise AssertionError(f"not reached after {max_ticks} ticks")

    def end(self, max_ticks: int = 2000) -> None:
        """Let both go on until no script is left; raise whatever a script did wrong."""
        self.reaper.run_until_idle(max_ticks, self.courier.work)

    def carry_out(self, *orders: dict[str, Any]) -> list[Any]:
        """Give orders in one reply and return what came of each that has a result."""
        results: dict[int, Any] = {}

        def answer(note: Note) -> Reply:
            if note["say"] == "act":
                return reply(*({"then": "step", "with": at} | order for at, order in enumerate(orders)))
            if note["say"] == "resume":
                results[note["with"]] = note["result"]
            return reply()

        self.courier.answer = answer
        self.start()
        self.end()
        return [results[at] for at in sorted(results)]

    def apply(self, *operations: list[Any], label: str = "Stembridge: test") -> dict[str, Any]:
        """Give one order to change the project and return its result."""
        [result] = self.carry_out({"do": "apply", "undo": label, "ops": list(operations)})
        assert isinstance(result, dict)
        return result

    def collect(self, what: str = "selection", **fields: Any) -> dict[str, Any]:
        """Give one order to collect and return the snapshot."""
        [result] = self.carry_out({"do": "collect", "what": what, **fields})
        assert isinstance(result, dict)
        return result

    # what the user has in the project

    def add_media(self, path: str = "/media/mix.wav", seconds: float = 10.0, channels: int = 2) -> str:
        """Put a file of noise where REAPER finds it."""
        samples = np.random.default_rng(1).uniform(-0.5, 0.5, (channels, round(seconds * RATE)))
        self.reaper.shelf.virtual[path] = Media(samples, RATE)
        return path

    def add_item(self, track: Track, source: Source | str, *, name: str = "mix", **values: float) -> Item:
        """Put an item on a track."""
        return self.reaper.add_item(track, source, name=name, **values)


def take_of(item: Item) -> Take:
    """Return the active take of an item that has one."""
    take = item.active_take
    assert take is not None
    return take
