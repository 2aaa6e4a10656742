"""A producer's REAPER with the Python scripts in it, and the desk in this process behind them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fake_house import FakeHouse
from reaper_fake import FakeReaper, Item, Track, render_project
from script_modules import forget_scripts
from stembridge.reaper.actions import file_stem
from stembridge.reaper.desk import Desk
from stembridge.wavfile import write_wav

SCRIPTS = Path(__file__).parents[2] / "reaper_scripts"
RATE = 8000


class Studio:
    """Runs actions as clicks in the action list do; what is told to the user is kept.

    Parameters
    ----------
    folder : everything lies here
    house : the daemon's stand-in
    """

    def __init__(
        self, folder: Path, house: FakeHouse | None = None, reaper: FakeReaper | None = None
    ) -> None:
        self.folder = folder
        self.house = house or FakeHouse(folder / "home", costs={"htdemucs": 0.5, "preview": 0.1})
        self.desk = Desk(self.house)
        self.reaper = reaper or FakeReaper(folder / "resource")
        self.reaper.spawner = self._spawn
        self.told: list[tuple[str, bool]] = []
        self.orders: list[dict[str, Any]] = []
        self._files: tuple[Path, Path] | None = None
        self._answered = 0
        self._root = self._install()

    def _install(self) -> Path:
        root = self.folder / "Scripts" / "Stembridge"
        for part in ("actions", "lib"):
            shutil.copytree(
                SCRIPTS / part, root / part, ignore=shutil.ignore_patterns("*.lua", "__pycache__")
            )
        connection = self.folder / "connection.json"
        endpoint = {
            "endpoint": "tcp://127.0.0.1:9",
            "pid": 1,
            "protocol": 1,
            "version": "0",
            "server_key": "k",
        }
        connection.write_text(json.dumps(endpoint), "utf-8")
        config = {
            "cli": "/opt/stembridge",
            "connection_file": str(connection),
            "work_dir": str(self.folder / "work"),
            "version": "0.1.0",
        }
        (root / "stembridge_config.json").write_text(json.dumps(config), "utf-8")
        return root

    def _spawn(self, command_line: str) -> str:
        words = command_line.split('"')
        self._files = (Path(words[3]), Path(words[5]))
        return ""

    def _carry(self) -> None:
        if self._files is None or not self._files[0].exists():
            return
        said = json.loads(self._files[0].read_text("utf-8"))
        if said["n"] == self._answered:
            return
        self._answered = said["n"]
        reply = json.loads(self.desk.answer(json.dumps(said["note"]).encode()))
        if "error" in reply:
            self.told.append((reply["error"]["message"], True))
        for order in reply.get("orders", []):
            self.orders.append(order)
            if order["do"] == "tell":
                self.told.append((order["text"], order["is_error"]))
        self._files[1].write_text(json.dumps({"n": said["n"], "reply": reply}), "utf-8")

    def run(self, action: str, *answers: tuple[str, Any]) -> list[str]:
        """Run an action to its end with these answers to its dialogs; return what it told."""
        self.told.clear()
        self.orders.clear()
        self._files, self._answered = None, 0
        self.reaper.answers.extend(answers)
        self.reaper.run_python(
            self._root / "actions" / f"{file_stem(action)}.py", max_ticks=5000, between_ticks=self._carry
        )
        forget_scripts()
        assert not self.reaper.answers, f"never asked: {list(self.reaper.answers)}"
        return [text for text, _ in self.told]

    @property
    def titles(self) -> list[str]:
        """Titles of the dialogs of the last action, in order."""
        return [order["title"] for order in self.orders if order["do"] == "ask"]

    @property
    def defaults(self) -> list[list[str]]:
        """What stood in the fields of the last action's dialogs."""
        return [
            order["values"] for order in self.orders if order["do"] == "ask" and order["kind"] == "fields"
        ]

    def add_song(self, name: str = "song", *, seconds: float = 4.0, seed: int = 1, **values: float) -> Item:
        """Return a new selected item of a noisy stereo file, on a track of its own."""
        path = self.folder / f"{name}.wav"
        noise = np.random.default_rng(seed).integers(-(2**21), 2**21, (2, round(seconds * RATE))) / 2.0**23
        write_wav(path, noise, RATE, "PCM_24")
        item = self.reaper.add_item(self.reaper.add_track(name), path, name=name, **values)
        self.reaper.select(item)
        return item

    def listen(self) -> NDArray[np.float64]:
        """Return what the project plays from its beginning on."""
        return render_project(self.reaper.current, self.reaper.shelf.samples, RATE)

    def read_file(self, item: Item) -> NDArray[np.float64]:
        """Return the samples of the file that an item plays."""
        take = item.active_take
        assert take is not None
        assert take.source is not None
        return self.reaper.shelf.samples(take.source.root.path)

    @property
    def tracks(self) -> Any:
        """All that the current project holds, to be compared with another time."""
        number = self.reaper.projects.index(self.reaper.current)
        return self.reaper.state()["projects"][number]["tracks"]

    def find_track(self, name: str) -> Track:
        return next(track for track in self.reaper.current.tracks if track.name == name)

    @property
    def track_names(self) -> list[str]:
        return [track.name for track in self.reaper.current.tracks]


def fields(*values: str) -> tuple[str, str]:
    """Return what a user types into a dialog's fields."""
    return ("GetUserInputs", "\n".join(values))


YES, NO = ("MB", 6), ("MB", 7)
