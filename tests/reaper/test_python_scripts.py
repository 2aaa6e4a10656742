"""The Python scripts, run in a strict fake REAPER: orders carried out, notes by files and over a socket."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pytest
import zmq

import stembridge
from reaper_fake import FakeReaper, Item, Media, Track, read_contract, section_of
from stembridge.reaper import operations as op
from stembridge.reaper import snapshot as snapshots
from stembridge.reaper.actions import ACTIONS, file_stem

SCRIPTS = Path(__file__).parents[2] / "reaper_scripts"
LIB = SCRIPTS / "lib"
OURS = sorted([*SCRIPTS.glob("actions/*.py"), *LIB.glob("*.py")])
SONG = "/media/song.wav"
RATE = 8000
CONNECTION = {"endpoint": "tcp://127.0.0.1:9", "pid": 1, "protocol": 1, "version": "0.1.0", "server_key": ""}

Note = dict[str, Any]
Kind = TypeVar("Kind", bound=FakeReaper)
Answer = Callable[[Note], dict[str, Any]]


@dataclass
class Courier:
    """Carries notes between files, as `stembridge reaper run` does, to ``answer`` and back."""

    answer: Answer
    notes: list[Note] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    is_dead: bool = False
    answered: int = 0

    def start(self, command_line: str) -> str:
        self.commands.append(command_line)
        return ""

    @property
    def files(self) -> tuple[Path, Path] | None:
        found = re.fullmatch(
            r'"/opt/a place/stembridge" reaper run --request "(.+)" --status "(.+)"', self.commands[-1]
        )
        return (Path(found[1]), Path(found[2])) if found else None

    def carry(self) -> None:
        if self.is_dead or not self.commands or self.files is None:
            return
        request, status = self.files
        if not request.exists():
            return
        said = json.loads(request.read_text("utf-8"))
        if said["n"] == self.answered:
            return
        self.notes.append(said["note"])
        self.answered = said["n"]
        status.write_text(json.dumps({"n": said["n"], "reply": self.answer(said["note"])}), "utf-8")


def install(folder: Path, *, keys: str = "a key") -> Path:
    """Return the folder of the scripts, configured; a daemon that wants ``keys`` cannot be spoken to."""
    root = folder / "Scripts" / "Stembridge"
    shutil.copytree(SCRIPTS / "actions", root / "actions", ignore=shutil.ignore_patterns("*.lua"))
    shutil.copytree(LIB, root / "lib", ignore=shutil.ignore_patterns("*.lua", "__pycache__"))
    connection = folder / "connection.json"
    if keys:
        connection.write_text(json.dumps({**CONNECTION, "server_key": keys}), "utf-8")
    config = {
        "cli": "/opt/a place/stembridge",
        "connection_file": str(connection),
        "work_dir": str(folder / "work"),
        "version": "0.1.0",
    }
    (root / "stembridge_config.json").write_text(json.dumps(config), "utf-8")
    return root


def action(root: Path, name: str = "split") -> Path:
    return root / "actions" / f"{file_stem(name)}.py"


class SlowReaper(FakeReaper):
    """A REAPER whose Python needs a third of a millisecond for each text it makes room for."""

    has_read_an_item = False

    def call(self, name: str, args: list[Any], language: Any) -> dict[str, Any]:
        names = self.contract.functions[name].python_returns
        if names and any(field.kind == "str" for field in self.contract.functions[name].returns):
            self.clock_s += 0.00036
        self.has_read_an_item = self.has_read_an_item or name == "CountTakes"
        return super().call(name, args, language)


class WatchedReaper(FakeReaper):
    """A REAPER that keeps what one function was called with."""

    watched = ""

    def call(self, name: str, args: list[Any], language: Any) -> dict[str, Any]:
        if name == self.watched:
            self.seen.append(args)
        return super().call(name, args, language)

    def watch(self, name: str) -> list[list[Any]]:
        self.watched = name
        self.seen: list[list[Any]] = []
        return self.seen


class PatientReaper(FakeReaper):
    """A REAPER whose user takes a minute to answer."""

    def ask(self, kind: str, text: str) -> Any:
        self.clock_s += 60
        return super().ask(kind, text)


class OddReaper(FakeReaper):
    """A REAPER in which a surrogate in a text of the model is a byte that is no UTF-8."""

    is_marker_read = False

    def call(self, name: str, args: list[Any], language: Any) -> dict[str, Any]:
        found = super().call(name, args, language)
        if name == "GetTakeMarker":
            # Whoever asks a second time leaves no room for the name.
            self.is_marker_read = not self.is_marker_read
            if not self.is_marker_read:
                found["name"] = ""
        for value in found.values():
            if isinstance(value, str):
                value.encode("utf-8", "surrogateescape").decode("utf-8")
        return found


def open_reaper(folder: Path) -> FakeReaper:
    return fill_shelf(FakeReaper(folder))


def fill_shelf(reaper: Kind) -> Kind:
    rng = np.random.default_rng(1)
    for path, seconds in ((SONG, 4), ("/media/stem.wav", 4), ("/media/other.wav", 2)):
        reaper.shelf.virtual[path] = Media(rng.uniform(-1, 1, (2, seconds * RATE)), RATE)
    return reaper


def orders(*wanted: dict[str, Any]) -> Answer:
    """Answer an action with these orders, each with a `then` of its own, and everything else with none."""

    def answer(note: Note) -> dict[str, Any]:
        if note["say"] != "act":
            return {"v": 1, "orders": []}
        return {
            "v": 1,
            "orders": [{"then": str(at), "with": {"at": at}, **order} for at, order in enumerate(wanted)],
        }

    return answer


def carry_out(reaper: FakeReaper, folder: Path, *wanted: dict[str, Any], ticks: int = 3000) -> list[Any]:
    """Return what came of the orders of one action, in the order they were answered."""
    courier = Courier(orders(*wanted))
    reaper.spawner = courier.start
    reaper.run_python(action(install(folder)), max_ticks=ticks, between_ticks=courier.carry)
    return [note["result"] for note in courier.notes if note["say"] == "resume"]


def apply(*operations: op.Operation, undo: str = "Stembridge: test") -> dict[str, Any]:
    return {"do": "apply", "undo": undo, "ops": list(operations), "project": ""}


def make_song(reaper: FakeReaper, **values: float) -> tuple[Track, Item]:
    track = reaper.add_track("Mix")
    item = reaper.add_item(track, SONG, name="song", **values)
    reaper.select(item)
    return track, item


# notes and orders


def test_a_snapshot_is_one_that_the_bridge_reads(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, item = make_song(reaper, D_POSITION=1 / 3, take_D_STARTOFFS=0.1, D_FADEINLEN=0.2)
    track.ext["stembridge"] = "a tag"
    item.notes = "two\nlines"
    item.takes[0].markers = [(0.5, "hit", 3)]
    whole = reaper.shelf.source(SONG)
    assert whole is not None
    section = section_of(whole, 0.25, 1.5, is_reversed=True)
    section_item = reaper.add_item(track, section, name="cut", D_POSITION=9)
    reaper.select(item, section_item, reaper.add_item(track, D_POSITION=20, D_LENGTH=1))
    reaper.current.time_selection = (1.0, 2.0)

    (collected,) = carry_out(reaper, tmp_path, {"do": "collect", "what": "selection"})
    snapshot = snapshots.read_snapshot(collected)

    assert snapshot.host.time_selection == (1.0, 2.0)
    assert [(t.name, t.tag, t.values["IP_TRACKNUMBER"]) for t in snapshot.tracks] == [("Mix", "a tag", 1)]
    song, cut, empty = snapshot.items
    assert (song.position, song.is_selected, song.notes, song.track) == (
        1 / 3,
        True,
        "two\nlines",
        track.guid,
    )
    assert song.take is not None and song.take.source is not None
    assert (song.take.name, song.take.values["D_STARTOFFS"], song.take.markers) == (
        "song",
        0.1,
        ((0.5, "hit", 3),),
    )
    source = song.take.source
    assert (source.type, source.path, source.rate, source.length, source.file_length) == (
        "WAVE",
        SONG,
        RATE,
        4,
        4,
    )
    assert (source.exists, source.depth, source.section, source.chunk) == (True, 0, None, "")
    assert cut.take is not None and cut.take.source is not None
    assert cut.take.source.section == (0.25, 1.5, True)
    assert (cut.take.source.depth, cut.take.source.path, cut.take.source.length) == (1, SONG, 1.5)
    assert cut.take.source.file_length == 4
    assert "<SOURCE SECTION" in cut.take.source.chunk
    assert empty.take is None


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ({"what": "selection"}, ["one"]),
        ({"what": "items"}, ["two"]),
        ({"what": "kin", "path": "/media/other.wav"}, ["two", "three"]),
        ({"what": "tagged"}, ["one", "three"]),
        ({"what": "project"}, []),
    ],
)
def test_only_what_was_asked_for_is_collected(
    order: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    reaper = open_reaper(tmp_path)
    track = reaper.add_track()
    one, two, three, _ = (
        reaper.add_item(track, path, name=name, D_POSITION=float(at))
        for at, (name, path) in enumerate(
            [("one", SONG), ("two", SONG), ("three", "/media/other.wav"), ("four", SONG)]
        )
    )
    reaper.select(one)
    three.ext["stembridge"] = "ours"
    (collected,) = carry_out(reaper, tmp_path, {"do": "collect", "guids": [two.guid], **order})
    assert [item.name for item in snapshots.read_snapshot(collected).items] == names


def test_many_items_are_read_over_many_ticks(tmp_path: Path) -> None:
    reaper = fill_shelf(SlowReaper(tmp_path))
    track = reaper.add_track()
    items = [reaper.add_item(track, SONG, name=str(at), D_POSITION=float(at)) for at in range(300)]
    reaper.select(*items)
    courier = Courier(orders({"do": "collect", "what": "selection"}))
    reaper.spawner = courier.start
    longest = 0.0
    began = reaper.clock_s

    def measure() -> None:
        nonlocal longest, began
        longest = max(longest, reaper.clock_s - began)
        courier.carry()
        began = reaper.clock_s + 1 / 30

    reaper.run_python(action(install(tmp_path)), max_ticks=3000, between_ticks=measure)
    (collected,) = [note["result"] for note in courier.notes if note["say"] == "resume"]
    assert [item.name for item in snapshots.read_snapshot(collected).items] == [str(at) for at in range(300)]
    assert longest < 0.020


def test_what_vanishes_while_it_is_read_is_left_out(tmp_path: Path) -> None:
    reaper = fill_shelf(SlowReaper(tmp_path))
    track = reaper.add_track()
    items = [reaper.add_item(track, SONG, name=str(at), D_POSITION=float(at)) for at in range(30)]
    reaper.select(*items)
    courier = Courier(orders({"do": "collect", "what": "selection"}))
    reaper.spawner = courier.start
    script = reaper.start_python(action(install(tmp_path)))
    while not reaper.has_read_an_item:
        courier.carry()
        reaper.tick()
    with reaper.user_edit():
        track.remove_item(items[-1])
    while script in reaper.scripts:
        courier.carry()
        reaper.tick()
    reaper.check()
    (collected,) = [note["result"] for note in courier.notes if note["say"] == "resume"]
    assert [item.name for item in snapshots.read_snapshot(collected).items] == [str(at) for at in range(29)]


def test_what_comes_of_orders_whose_project_was_closed(tmp_path: Path) -> None:
    reaper = fill_shelf(SlowReaper(tmp_path))
    _, item = make_song(reaper)
    courier = Courier(
        orders(
            {"do": "wait", "seconds": 1},
            apply(op.set_item(item.guid, "B_MUTE", 1)),
            {"do": "play", "on": True},
            {"do": "undo", "label": "x"},
            {"do": "collect", "what": "selection"},
            {"do": "listen", "guid": item.guid, "start_s": 0.0, "frames": 8, "rate": RATE},
        )
    )
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    project = reaper.current
    reaper.open_tab("other.rpp")
    project.is_open = False
    reaper.projects.remove(project)
    reaper.run_until_idle(between_ticks=courier.carry)
    results = {note["then"]: note["result"] for note in courier.notes if note["say"] == "resume"}
    missing = {"ok": False, "reason": "missing", "at": 0, "text": "the project was closed"}
    assert results == {"0": {}, "1": missing, "2": {}, "3": {"done": False}}
    assert "".join(reaper.console).count("the project was closed before it was read") == 2
    assert courier.notes[-1]["host"]["project"] == "other.rpp"


def test_a_project_closed_while_it_is_read_ends_the_thread(tmp_path: Path) -> None:
    reaper = fill_shelf(SlowReaper(tmp_path))
    track = reaper.add_track()
    reaper.select(*(reaper.add_item(track, SONG, D_POSITION=float(at)) for at in range(30)))
    courier = Courier(orders({"do": "collect", "what": "selection"}))
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    while not reaper.has_read_an_item:
        courier.carry()
        reaper.tick()
    project = reaper.current
    reaper.open_tab("other.rpp")
    project.is_open = False
    reaper.projects.remove(project)
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act"]
    assert reaper.console == ["Stembridge: the project was closed before it was read\n"]


def test_bad_bytes_in_texts_become_question_marks(tmp_path: Path) -> None:
    reaper = fill_shelf(OddReaper(tmp_path))
    odd = "/media/od\udcff\udc80d.wav"
    reaper.shelf.virtual[odd] = reaper.shelf.virtual["/media/od??d.wav"] = reaper.shelf.virtual[SONG]
    track = reaper.add_track("tr\udce4ck")
    item = reaper.add_item(track, odd, name="n\udcc3(me")
    item.takes[0].markers = [(1.5, "m\udcfcrk", 7)]
    item.notes = "fine"
    reaper.select(item)
    (collected,) = carry_out(reaper, tmp_path, {"do": "collect", "what": "selection"})
    snapshot = snapshots.read_snapshot(collected)
    assert reaper.console == []
    assert snapshot.tracks[0].name == "tr?ck"
    take = snapshot.items[0].take
    assert take is not None and take.source is not None
    assert (take.name, take.markers) == ("n?(me", ((1.5, "m?rk", 7),))
    assert (take.source.path, take.source.exists) == ("/media/od??d.wav", False)


def test_an_item_that_cannot_be_read_does_not_keep_the_others(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, item = make_song(reaper)
    reaper.select(item, reaper.add_item(track, SONG, name="odd", D_POSITION=5, D_VOL=float("nan")))
    (collected,) = carry_out(reaper, tmp_path, {"do": "collect", "what": "selection"})
    assert [item.name for item in snapshots.read_snapshot(collected).items] == ["song"]
    assert "the item at 5.000 s cannot be read" in "".join(reaper.console)


def test_every_operation_does_what_it_says(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, item = make_song(reaper, D_POSITION=1.0, D_VOL=0.5)
    other = reaper.add_item(track, "/media/other.wav", D_POSITION=10, take_D_PAN=0.25)
    reaper.select(other)
    gone = reaper.add_item(track, SONG, D_POSITION=30)
    dropped = reaper.add_track("Drop")
    (result,) = carry_out(
        reaper,
        tmp_path,
        apply(
            op.expect_item(item.guid, {"D_POSITION": 1.0}),
            op.expect_take(item.guid, {"D_PLAYRATE": 1.0}),
            op.expect_track(track.guid, {"IP_TRACKNUMBER": 1}),
            op.insert_track("$t", track.guid, 0),
            op.set_track("$t", "D_PANLAW", 1),
            op.set_track_text("$t", "P_NAME", "vocals"),
            op.set_track_text("$t", op.TAG, "stem"),
            op.color_track("$t", (1, 2, 3)),
            op.insert_track("$t2", track.guid, 1),
            op.add_item("$i", "$t"),
            op.add_take("$k", "$i"),
            op.set_file("$k", "/media/stem.wav"),
            op.set_item("$i", "D_LENGTH", 2.0),
            op.wrap_section("$i", ["LENGTH 1.5", "STARTPOS 0.25", "OVERLAP 0.01"]),
            op.copy_item(item.guid, "$i", "D_POSITION", 0.5),
            op.copy_take(other.guid, "$k", "D_PAN"),
            op.set_item_text("$i", "P_NOTES", "a note"),
            op.set_take("$k", "D_STARTOFFS", 0.125),
            op.set_take_text("$i", "P_NAME", "song - vocals"),
            op.color_take("$k", (4, 5, 6)),
            op.mark_take("$k", 0.75, "hit", 9),
            op.add_take("$second", item.guid),
            op.activate(item.takes[0].guid),
            op.split_item("$right", other.guid, 11.0),
            op.remove_item(gone.guid),
            op.remove_track(dropped.guid),
            op.select_only(item.guid),
            op.command(op.TOGGLE_REVERSE),
            op.restore_selection(),
            op.read_file("bounce", "$k"),
            op.project_text("RENDER_FILE", "/renders"),
            op.project_value("RENDER_SRATE", 48000),
        ),
    )
    assert result["ok"], result
    assert [t.name for t in reaper.current.tracks] == ["Mix", "vocals", ""]
    stem_track = reaper.current.tracks[1]
    assert (stem_track.values["D_PANLAW"], stem_track.ext["stembridge"]) == (1, "stem")
    assert int(stem_track.values["I_CUSTOMCOLOR"]) & 0x1000000
    (stem,) = stem_track.items
    assert (stem.values["D_POSITION"], stem.values["D_LENGTH"], stem.notes) == (1.5, 2.0, "a note")
    (take,) = stem.takes
    assert take.source is not None
    assert (take.source.offset_s, take.source.length_s, take.source.root.path) == (
        0.25,
        1.5,
        "/media/stem.wav",
    )
    assert (take.name, take.values["D_STARTOFFS"], take.values["D_PAN"]) == ("song - vocals", 0.125, 0.25)
    assert take.markers == [(0.75, "hit", 9)]
    assert int(take.values["I_CUSTOMCOLOR"]) & 0x1000000
    assert len(item.takes) == 2 and item.values["I_CURTAKE"] == 0
    assert item.takes[0].source is not None and item.takes[0].source.is_reversed
    assert [i.values["D_POSITION"] for i in track.sorted_items] == [1.0, 10, 11]
    right = track.sorted_items[-1]
    assert [i for i in reaper.current.items if i.values.get("B_UISEL")] == [other, right]
    assert reaper.current.texts["RENDER_FILE"] == "/renders"
    assert reaper.current.values["RENDER_SRATE"] == 48000
    assert [label for label, _ in reaper.current.undo] == ["Stembridge: test"]
    assert result["read"] == {"bounce": "/media/stem.wav"}
    assert result["made"]["$t"] == stem_track.guid
    assert result["made"]["$i"] == stem.guid
    assert result["made"]["$k"] == take.guid
    assert set(result["made"]) == {"$t", "$t2", "$i", "$k", "$second", "$right"}
    assert result["ms"] >= 0


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_peaks_of_new_media_are_built_to_their_end(is_wrapped: bool, tmp_path: Path) -> None:
    reaper = fill_shelf(WatchedReaper(tmp_path))
    calls = reaper.watch("PCM_Source_BuildPeaks")
    track, _ = make_song(reaper)
    operations = [
        op.add_item("$i", track.guid),
        op.add_take("$k", "$i"),
        op.set_file("$k", "/media/stem.wav"),
    ]
    if is_wrapped:
        operations.append(op.wrap_section("$i", ["LENGTH 1.5", "STARTPOS 0.25"]))
    carry_out(reaper, tmp_path, apply(*operations))
    source = track.items[-1].takes[0].source
    assert source is not None and source.peaks_left == 0
    assert (source.parent is not None) == is_wrapped
    assert [mode for _, mode in calls] == [0, 1, 1, 2]


def test_a_take_is_found_by_its_own_name_among_many(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track = reaper.add_track()
    items = [reaper.add_item(track, SONG, D_POSITION=float(at)) for at in range(5)]
    first, last = items[0].takes[0].guid, items[4].takes[0].guid
    results = carry_out(
        reaper,
        tmp_path,
        apply(op.set_take(last, "D_VOL", 0.5), op.set_take(items[2].guid, "D_VOL", 0.25)),
        apply(
            op.remove_item(items[1].guid), op.set_take(last, "D_PAN", 0.5), op.set_take(first, "D_PAN", -0.5)
        ),
        apply(op.set_take(last, "D_PITCH", 1.0), op.set_item(items[3].guid, "D_VOL", 2.0)),
    )
    assert [result["ok"] for result in results] == [True, True, True]
    values = [items[at].takes[0].values for at in (0, 2, 4)]
    assert [(v["D_VOL"], v.get("D_PAN", 0), v.get("D_PITCH", 0)) for v in values] == [
        (1, -0.5, 0),
        (0.25, 0, 0),
        (0.5, 0.5, 1),
    ]
    assert items[3].values["D_VOL"] == 2.0


def test_an_item_is_looked_for_where_it_was(tmp_path: Path) -> None:
    reaper = fill_shelf(SlowReaper(tmp_path))
    track = reaper.add_track()
    items = [reaper.add_item(track, SONG, D_POSITION=float(at)) for at in range(300)]
    last = [apply(op.set_item(items[at].guid, "B_MUTE", 1)) for at in (298, 299, 298)]
    searched, found_behind, found = carry_out(reaper, tmp_path, *last)
    assert searched["ms"] > 100
    assert found_behind["ms"] > 100
    assert found["ms"] < 5


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (op.expect_item("ITEM", {"D_POSITION": 1.0 + 2**-52}), "changed"),
        (op.expect_take("ITEM", {"D_VOL": 1.0, "D_PITCH": -0.5}), "changed"),
        (op.expect_track("TRACK", {"D_VOL": 0.5}), "changed"),
        (op.expect_take("EMPTY", {"D_VOL": 1.0}), "missing"),
        (op.set_item("{0}", "D_VOL", 1.0), "missing"),
        (op.set_take("{0}", "D_VOL", 1.0), "missing"),
        (op.remove_track("{0}"), "missing"),
    ],
)
def test_a_project_that_has_changed_is_not_touched(
    expected: op.Operation, reason: str, tmp_path: Path
) -> None:
    reaper = open_reaper(tmp_path)
    track, item = make_song(reaper, D_POSITION=1.0)
    empty = reaper.add_item(track, D_POSITION=7)
    names = {"ITEM": item.guid, "TRACK": track.guid, "EMPTY": empty.guid}
    expected[1] = names.get(str(expected[1]), expected[1])
    before = reaper.state()["projects"]
    (result,) = carry_out(reaper, tmp_path, apply(op.set_track(track.guid, "D_VOL", 0.1), expected))
    assert (result["ok"], result["reason"], result["at"]) == (False, reason, 1)
    assert result["text"]
    assert reaper.state()["projects"] == before


@pytest.mark.parametrize("undo", ["Stembridge: test", ""])
def test_an_error_in_the_middle_is_taken_back(undo: str, tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, item = make_song(reaper)
    before = reaper.state()["projects"][0]
    (result,) = carry_out(
        reaper,
        tmp_path,
        apply(
            op.select_only(item.guid),
            op.insert_track("$t", track.guid, 0),
            op.set_item(item.guid, "B_MUTE", 1),
            op.add_item("$i", "$t"),
            op.add_take("$k", "$i"),
            op.set_file("$k", "/media/gone.wav"),
            undo=undo,
        ),
    )
    assert (result["ok"], result["reason"], result["at"]) == (False, "error", 5)
    assert "/media/gone.wav" in result["text"]
    after = reaper.state()["projects"][0]
    assert after["tracks"] == before["tracks"]
    assert (after["undo"], len(after["redo"])) == ([], 1)


def test_a_rendering_that_made_no_take_is_taken_back(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    _, item = make_song(reaper)
    take = item.takes[0].guid
    before = reaper.state()["projects"][0]["tracks"]
    refused, done = carry_out(
        reaper,
        tmp_path,
        apply(op.set_item(item.guid, "D_VOL", 2), op.demand_new_take(item.guid, take)),
        apply(op.add_take("$new", item.guid), op.activate("$new"), op.demand_new_take(item.guid, take)),
    )
    assert (refused["ok"], refused["reason"], refused["at"]) == (False, "error", 1)
    assert done["ok"], done
    reaper.undo_once()
    assert reaper.state()["projects"][0]["tracks"] == before


@pytest.mark.parametrize(
    "bad",
    [
        ["run", "rm"],
        [],
        "remove_track",
        [["set_item"], 1],
        op.command(40001),
        ["set_item", "{0}", "D_VOL"],
        ["set_item", "{0}", "D_VOL", "1"],
        ["set_item", "{0}", "D_VOL", True],
        ["set_item", 7, "D_VOL", 1.0],
        ["expect_item", "{0}", {"D_VOL": "loud"}],
        ["wrap_section", "{0}", "LENGTH 1"],
        ["insert_track", "$t", "{0}", 0.5],
        ["add_item", "name", "{0}"],
        op.set_item("$never", "D_VOL", 1.0),
    ],
)
def test_what_no_script_may_do_is_refused_before_anything_is_done(bad: Any, tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    before = reaper.state()["projects"]
    (result,) = carry_out(reaper, tmp_path, apply(op.set_track(track.guid, "D_VOL", 0.1), bad))
    assert (result["ok"], result["reason"], result["at"]) == (False, "error", 1)
    assert reaper.state()["projects"] == before


def test_an_apply_without_a_label_leaves_no_undo_step(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    _, item = make_song(reaper)
    (result,) = carry_out(reaper, tmp_path, apply(op.read_file("file", item.guid), undo=""))
    assert result["read"] == {"file": SONG}
    assert reaper.current.undo == []


def test_the_users_selection_outlives_an_apply_that_forgets_it(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, item = make_song(reaper)
    other = reaper.add_item(track, SONG, D_POSITION=9)
    (result,) = carry_out(reaper, tmp_path, apply(op.select_only(other.guid)))
    assert result["ok"]
    assert [found for found in reaper.current.items if found.values.get("B_UISEL")] == [item]


def test_stems_of_a_tab_behind_wait_until_it_is_in_front(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    project = reaper.current
    courier = Courier(orders(apply(op.insert_track("$t", track.guid, 0)), {"do": "wait", "seconds": 0.1}))
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    reaper.open_tab("other.rpp")
    for _ in range(60):
        courier.carry()
        reaper.tick()
    assert len(project.tracks) == 1
    assert [note["say"] for note in courier.notes] == ["act"]
    assert "tab is in front" in reaper.help_texts[-1]
    reaper.current = project
    reaper.run_until_idle(between_ticks=courier.carry)
    assert len(project.tracks) == 2


def test_the_daemon_hears_that_reaper_plays_while_nothing_else_is_said(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    project = reaper.current
    give_orders = orders(apply(op.insert_track("$t", track.guid, 0)))

    def answer(note: Note) -> dict[str, Any]:
        if note["say"] == "ping":
            return {"v": 1, "error": {"code": "request", "message": "no note says ping"}}
        return give_orders(note)

    courier = Courier(answer)
    reaper.spawner = courier.start

    def tick(count: int) -> None:
        for _ in range(count):
            courier.carry()
            reaper.tick()

    reaper.start_python(action(install(tmp_path)))
    behind = reaper.open_tab("other.rpp")
    project.play_state = 1
    tick(90)
    notes = courier.notes
    assert notes[0]["say"] == "act" and 4 <= len(notes) - 1 <= 6
    assert [(note["say"], note["host"]["play"]) for note in notes[1:]] == [("ping", 1)] * (len(notes) - 1)
    project.play_state, behind.play_state = 0, 4
    tick(20)
    assert notes[-1]["host"]["play"] == 4
    behind.play_state = 0
    tick(10)
    count = len(notes)
    tick(60)
    assert len(notes) == count
    reaper.current = project
    reaper.run_until_idle(between_ticks=courier.carry)
    assert len(project.tracks) == 2 and reaper.console == []


def test_a_newer_reaper_places_stems_in_a_tab_behind(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.missing.clear()
    track, _ = make_song(reaper)
    project = reaper.current
    courier = Courier(orders(apply(op.insert_track("$t", track.guid, 0), op.add_item("$i", "$t"))))
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    other = reaper.open_tab("other.rpp")
    reaper.run_until_idle(between_ticks=courier.carry)
    assert (len(project.tracks), len(other.tracks)) == (2, 0)


def test_questions_are_asked_and_answered(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.answers.extend(
        [
            ("MB", 6),
            ("MB", 7),
            ("MB", 2),
            ("GetUserInputs", "htdemucs\nvocals, drums"),
            ("GetUserInputs", None),
            ("GetUserFileNameForRead", "/media/stem.wav"),
            ("GetUserFileNameForRead", None),
        ]
    )
    fields = {
        "do": "ask",
        "kind": "fields",
        "title": "Split",
        "captions": ["Model", "Stems,any"],
        "values": ["a", "b"],
    }
    file = {"do": "ask", "kind": "file", "title": "Stems", "path": "/media"}
    results = carry_out(
        reaper,
        tmp_path,
        {"do": "ask", "kind": "yes_no", "title": "Model", "text": "Fetch it?"},
        {"do": "ask", "kind": "yes_no", "title": "Model", "text": "Fetch it?"},
        {"do": "ask", "kind": "yes_no_cancel", "title": "Model", "text": "Fetch it?"},
        fields,
        fields,
        file,
        file,
    )
    assert [result["answer"] for result in results] == [
        "yes",
        "no",
        "cancel",
        "yes",
        "cancel",
        "yes",
        "cancel",
    ]
    assert [result["values"] for result in results[3:]] == [
        ["htdemucs", "vocals, drums"],
        [],
        ["/media/stem.wav"],
        [],
    ]
    asked = dict(reaper.asked)["GetUserInputs"]
    assert asked == "Split: Model,Stems any,extrawidth=120,separator=\n [a\nb]"


def test_what_is_told_is_shown_together_where_something_went_wrong(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    tell = {"do": "tell", "text": "3 items split", "is_error": False}
    bad = {"do": "tell", "text": "drums.mid is MIDI: skipped", "is_error": True}
    assert carry_out(reaper, tmp_path, bad, tell) == [{}, {}]
    assert reaper.console == ["Stembridge: drums.mid is MIDI: skipped\nStembridge: 3 items split\n"]


def test_what_is_told_where_all_went_well_is_on_the_status_line(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    carry_out(reaper, tmp_path, {"do": "tell", "text": "3 items split", "is_error": False})
    assert reaper.console == []
    assert reaper.help_texts[-1] == "Stembridge: 3 items split"


def test_what_is_remembered_comes_back_in_the_next_note(tmp_path: Path) -> None:
    reaper = fill_shelf(WatchedReaper(tmp_path))
    written = reaper.watch("SetExtState")
    remember = {"do": "remember", "key": "split", "value": 'model="ö"\n'}
    courier = Courier(orders(remember, {"do": "wait", "seconds": 0}))
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    assert courier.notes[0]["memory"] == {}
    assert courier.notes[-1]["memory"] == {"split": 'model="ö"\n'}
    assert [is_kept for _, key, _, is_kept in written if key == "memory"] == [True]
    assert "\n" not in reaper.ext["stembridge", "memory"]


def test_an_item_is_listened_to(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    _, item = make_song(reaper, D_POSITION=3.0, take_D_STARTOFFS=0.5)
    (heard,) = carry_out(
        reaper, tmp_path, {"do": "listen", "guid": item.guid, "start_s": 1.0, "frames": 5000, "rate": RATE}
    )
    expected = reaper.shelf.virtual[SONG].samples[0, RATE : RATE + 5000]
    assert np.array(heard["samples"]) / 2**23 == pytest.approx(expected, abs=2**-23)


@pytest.mark.parametrize(("speed", "count"), [(0.75, 5000), (1.1, 5000), (2.0, 5000), (1.00001, 0)])
def test_listening_gives_the_samples_of_the_source_however_fast_it_plays(
    speed: float, count: int, tmp_path: Path
) -> None:
    reaper = open_reaper(tmp_path)
    _, item = make_song(reaper, D_POSITION=3.0, take_D_STARTOFFS=0.5, take_D_PLAYRATE=speed)
    (heard,) = carry_out(
        reaper, tmp_path, {"do": "listen", "guid": item.guid, "start_s": 1.0, "frames": 5000, "rate": RATE}
    )
    expected = reaper.shelf.virtual[SONG].samples[0, RATE : RATE + count]
    assert np.array(heard["samples"]) / 2**23 == pytest.approx(expected, abs=2**-23)


def test_playing_and_undoing(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    change = apply(op.set_track(track.guid, "D_VOL", 0.5), undo="Stembridge: quieter")
    results = carry_out(
        reaper,
        tmp_path,
        {"do": "undo", "label": "Stembridge: quieter"},
        change,
        {"do": "undo", "label": "Stembridge: louder"},
        {"do": "undo", "label": "Stembridge: quieter"},
        {"do": "play", "on": True},
    )
    assert [result.get("done") for result in results] == [False, None, False, True, None]
    assert reaper.current.tracks[0].values["D_VOL"] == 1
    assert reaper.current.play_state & 1


def test_an_order_of_tomorrow_is_said_and_keeps_no_other(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    unknown: list[dict[str, Any]] = [
        {"do": "dance"},
        {"do": "collect", "what": "the moon"},
        {"do": "wait", "seconds": 0},
    ]
    assert carry_out(reaper, tmp_path, *unknown) == [{}]
    (said,) = reaper.console
    assert "knows no order 'dance'" in said and "stembridge reaper install" in said
    assert "nothing is known of collecting 'the moon'" in said
    assert said.count("\n") == 2


def test_a_reply_that_makes_no_sense_is_shown_as_a_defect_and_ends_its_thread(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(lambda note: {"v": 1})
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    (said,) = reaper.console
    assert "please report it" in said and "KeyError: 'orders'" in said
    assert ("stembridge", "alive") not in reaper.ext


def test_the_check_goes_on_in_the_tab_it_opened(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    make_song(reaper)
    project = reaper.current
    results = carry_out(
        reaper,
        tmp_path,
        apply(op.command(op.NEW_PROJECT_TAB), undo=""),
        apply(op.project_value("RENDER_SRATE", 8000), undo=""),
    )
    assert [result["ok"] for result in results] == [True, True]
    assert len(reaper.projects) == 2
    assert reaper.current.values["RENDER_SRATE"] == 8000
    assert "RENDER_SRATE" not in project.values


def test_an_apply_names_its_project(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.current.name = "/songs/one.rpp"
    _, item = make_song(reaper)
    reaper.open_tab("/songs/two.rpp")
    change = {**apply(op.set_item(item.guid, "B_MUTE", 1)), "project": "/songs/one.rpp"}
    (result,) = carry_out(reaper, tmp_path, change)
    assert result["ok"]
    assert [len(project.undo) for project in reaper.projects] == [1, 0]


def test_an_apply_that_makes_no_sense_is_answered(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    (result,) = carry_out(reaper, tmp_path, {"do": "apply", "undo": "x", "ops": None})
    assert (result["ok"], result["reason"], result["at"]) == (False, "error", 0)


def test_waits_come_due_by_the_clock_and_hold_nobody_up(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(
        orders({"do": "wait", "seconds": 5}, {"do": "wait", "seconds": 1}, {"do": "play", "on": False})
    )
    reaper.spawner = courier.start
    began = reaper.clock_s
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    assert [note["then"] for note in courier.notes[1:]] == ["2", "1", "0"]
    assert 5 <= reaper.clock_s - began < 6


def test_a_note_tells_what_reaper_is_doing(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.current.name = "/songs/two.rpp"
    reaper.current.play_state = 5
    reaper.open_tab("/songs/one.rpp").cursor_s = 1 / 3
    reaper.current.play_state = 0
    courier = Courier(orders({"do": "wait", "seconds": 0.2}))
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path), "audition"))
    reaper.current = reaper.projects[0]
    reaper.run_until_idle(between_ticks=courier.carry)
    act, resume = courier.notes
    assert (act["v"], act["script"], act["say"], act["action"]) == (1, "python 0.1.0", "act", "audition")
    here = {"cursor": 1 / 3, "time_selection": [0.0, 0.0], "project": "/songs/one.rpp"}
    assert act["host"] == {"play": 0, **here}
    assert resume["host"] == {"play": 5, **here}
    assert resume["with"] == {"at": 0}


def test_the_panel_is_the_status_line(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    panels = iter([{"line": "song: separate", "fraction": 0.4, "eta_s": 12.3}, {"line": "song: placing"}])

    def answer(note: Note) -> dict[str, Any]:
        wait = [] if note["say"] == "resume" else [{"do": "wait", "seconds": 0.1, "then": "x"}]
        return {"v": 1, "orders": wait, "panel": next(panels)}

    courier = Courier(answer)
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    shown = [text for text in reaper.help_texts if text]
    assert shown == ["Stembridge: song: separate (40%, 12 s left)", "Stembridge: song: placing"]
    assert reaper.help_texts[-1] == ""


# one loop for all actions


def test_an_action_run_meanwhile_is_left_to_the_loop(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 1}))
    reaper.spawner = courier.start
    root = install(tmp_path)
    reaper.start_python(action(root, "split"))
    for name in ("jobs", "settings"):
        second = reaper.start_python(action(root, name))
        reaper.tick()
        assert not second.is_running
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note.get("action") for note in courier.notes if note["say"] == "act"] == [
        "split",
        "jobs",
        "settings",
    ]
    assert len(courier.commands) == 1
    assert ("stembridge", "alive") not in reaper.ext
    assert reaper.current.undo == []


def test_an_action_run_after_reaper_was_held_up_ends_nothing_of_what_is_under_way(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 5}))
    reaper.spawner = courier.start
    root = install(tmp_path)
    first = reaper.start_python(action(root, "split"))
    for _ in range(10):
        courier.carry()
        reaper.tick()
    reaper.clock_s += 3
    reaper.start_python(action(root, "jobs"))
    reaper.run_until_idle(between_ticks=courier.carry)
    said = [note.get("action") or note["say"] for note in courier.notes]
    assert sorted(said) == ["jobs", "resume", "resume", "split"]
    assert not first.is_running and len(courier.commands) == 1
    assert reaper.current.undo == []


def test_the_end_of_a_script_takes_no_other_loop_away(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 5}))
    reaper.spawner = courier.start
    root = install(tmp_path)
    ended = reaper.start_python(action(root, "split"))
    reaper.terminate(ended)
    reaper.start_python(action(root, "jobs"))
    ended.finish()
    courier.answered = 0
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act", "resume"]


def test_an_action_run_right_after_a_long_dialog_is_left_to_the_loop(tmp_path: Path) -> None:
    reaper = fill_shelf(PatientReaper(tmp_path))
    reaper.answers.extend([("MB", 6), ("MB", 6)])
    courier = Courier(orders({"do": "ask", "kind": "yes_no", "title": "Model", "text": "Fetch it?"}))
    reaper.spawner = courier.start
    root = install(tmp_path)
    reaper.start_python(action(root))
    while not reaper.asked:
        courier.carry()
        reaper.tick()
    reaper.start_python(action(root, "jobs"))
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note.get("action") for note in courier.notes if note["say"] == "act"] == ["split", "jobs"]
    assert len(courier.commands) == 1


def test_what_was_left_to_a_loop_that_was_ended_is_not_run_later(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.ext["stembridge", "inbox"] = "remove"
    courier = Courier(orders({"do": "wait", "seconds": 0}))
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    assert [note.get("action") for note in courier.notes if note["say"] == "act"] == ["split"]


def test_a_loop_of_another_interpreter_takes_the_action(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.ext["stembridge", "alive"] = f"{reaper.clock_s:.17g}"
    reaper.ext["stembridge", "inbox"] = "jobs"
    reaper.run_python(action(install(tmp_path)))
    assert reaper.ext["stembridge", "inbox"] == "jobs,split"
    assert reaper.current.undo == []


@pytest.mark.parametrize("left", ["990", "1003", "soon"])
def test_a_loop_that_was_ended_keeps_nobody_from_starting(left: str, tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.ext["stembridge", "alive"] = left
    assert carry_out(reaper, tmp_path, {"do": "wait", "seconds": 0}) == [{}]


def test_a_script_that_is_ended_leaves_no_sign_of_life(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    reaper.spawner = lambda line: ""
    script = reaper.start_python(action(install(tmp_path)))
    reaper.tick()
    assert ("stembridge", "alive") in reaper.ext
    reaper.terminate(script)
    reaper.check()
    assert ("stembridge", "alive") not in reaper.ext


def test_an_interpreter_that_keeps_modules_gets_the_updated_ones(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    root = install(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 0}))
    reaper.spawner = courier.start
    reaper.run_python(action(root), between_ticks=courier.carry)
    for path in (*root.glob("lib/stembridge_*.py"), action(root)):
        path.write_text(path.read_text("utf-8").replace('VERSION = "0.1.0"', 'VERSION = "0.2.0"'), "utf-8")
    courier.answered = 0
    reaper.run_python(action(root), between_ticks=courier.carry)
    assert [note["script"] for note in courier.notes if note["say"] == "act"] == [
        "python 0.1.0",
        "python 0.2.0",
    ]


def test_an_update_waits_until_the_loop_is_over(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    root = install(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 1}))
    reaper.spawner = courier.start
    reaper.start_python(action(root))
    for path in (*root.glob("lib/stembridge_*.py"), action(root, "jobs")):
        path.write_text(path.read_text("utf-8").replace('VERSION = "0.1.0"', 'VERSION = "0.2.0"'), "utf-8")
    reaper.start_python(action(root, "jobs"))
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note.get("action") for note in courier.notes if note["say"] == "act"] == ["split", "jobs"]
    assert {note["script"] for note in courier.notes} == {"python 0.1.0"}


def test_without_a_configuration_the_user_is_told_what_to_do(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    root = install(tmp_path)
    (root / "stembridge_config.json").unlink()
    reaper.run_python(action(root))
    (said,) = reaper.console
    assert "stembridge reaper install" in said
    assert reaper.current.undo == []


# the file route


def test_a_courier_that_died_is_started_again_with_the_same_note(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 0}), is_dead=True)
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    for _ in range(320):
        reaper.tick()
    assert len(courier.commands) == 2
    assert len(set(courier.commands)) == 1
    assert "no answer from Stembridge for 10 s" in reaper.help_texts[-1]
    courier.is_dead = False
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act", "resume"]
    assert list((tmp_path / "work").iterdir()) == []


def test_one_courier_is_enough_however_long_the_job(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 15}))
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act", "resume"]
    assert len(courier.commands) == 1


def test_half_written_and_old_replies_are_not_taken(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders({"do": "wait", "seconds": 0}))
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    reaper.tick()
    assert courier.files is not None
    _, status = courier.files
    for text in ('{"n": 1, "reply": {"v": 1, "ord', '{"n": 0, "reply": {"v": 1, "orders": []}}', "[1]", "7"):
        status.write_text(text, "utf-8")
        for _ in range(5):
            assert reaper.tick()
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act", "resume"]


def test_a_refusal_is_told_and_ends_its_thread(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    error = {"code": "bad_request", "message": "nothing is selected", "hint": "select an item"}
    courier = Courier(lambda note: {"v": 1, "error": error})
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path)), between_ticks=courier.carry)
    assert reaper.console == ["Stembridge: nothing is selected (select an item)\n"]


def test_without_a_socket_module_notes_go_by_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socket", None)
    reaper = open_reaper(tmp_path)
    assert carry_out(reaper, tmp_path, {"do": "wait", "seconds": 0}) == [{}]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    (tmp_path / "work").write_text("in the way")
    courier = Courier(orders({"do": "wait", "seconds": 0}))
    reaper.spawner = courier.start
    reaper.start_python(action(install(tmp_path)))
    for _ in range(5):
        reaper.tick()
    assert str(tmp_path / "work") in reaper.help_texts[-1]
    (tmp_path / "work").unlink()
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act", "resume"]


# the socket


class Desk:
    """A daemon's ROUTER that can be killed; ``answer`` gives the reply, None keeps silent."""

    def __init__(self, folder: Path, answer: Callable[[Note], dict[str, Any] | None]) -> None:
        self._answer = answer
        self._folder = folder / "run"
        self._folder.mkdir(mode=0o700)
        self._connection_file = folder / "connection.json"
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._router: zmq.Socket[bytes] | None = None
        self.received: list[bytes] = []
        self.headers: list[dict[str, Any]] = []
        self.commands: list[str] = []
        self.copies = 1
        self.reply_header: dict[str, Any] = {"t": "orders"}

    def open(self) -> None:
        endpoint = f"ipc://{self._folder}/daemon.sock"
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind(endpoint)
        self._connection_file.write_text(json.dumps({**CONNECTION, "endpoint": endpoint}), "utf-8")

    def kill(self) -> None:
        if self._context is not None:
            self._context.destroy(linger=0)
        self._context = self._router = None

    def start(self, command_line: str) -> str:
        self.commands.append(command_line)
        return ""

    def serve(self, wait_ms: int = 20) -> None:
        if self._router is None or not self._router.poll(wait_ms):
            return
        who, magic, header, *body = self._router.recv_multipart()
        assert magic == b"SB1"
        self.headers.append(json.loads(header))
        self.received.append(b"".join(body))
        reply = self._answer(self.notes[-1])
        if reply is None or self._router is None:
            return
        said = json.dumps({**self.reply_header, "call": self.headers[-1]["call"]}).encode()
        for _ in range(self.copies):
            self._router.send_multipart([who, b"SB1", said, json.dumps(reply).encode()])

    @property
    def notes(self) -> list[Note]:
        return [json.loads(body) for body in self.received]


@pytest.fixture
def desks() -> Iterator[list[Desk]]:
    """Give a list for the desks of a test, which are closed after it."""
    opened: list[Desk] = []
    yield opened
    for desk in opened:
        desk.kill()


def talk(reaper: FakeReaper, folder: Path, desk: Desk) -> None:
    """Start an action that speaks to ``desk``."""
    reaper.spawner = desk.start
    reaper.start_python(action(install(folder, keys="")))


def place_one_stem(track: Track) -> Answer:
    """Answer an action with one stem to be placed, and its result with nothing."""
    return orders(
        apply(op.insert_track("$t", track.guid, 0), op.add_item("$i", "$t"), undo="Stembridge: split")
    )


def test_a_conversation_over_the_socket(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    desk = Desk(tmp_path, place_one_stem(track))
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    reaper.run_until_idle(between_ticks=desk.serve)
    assert desk.headers == [{"t": "reaper", "call": "1"}, {"t": "reaper", "call": "2"}]
    assert [note["say"] for note in desk.notes] == ["act", "resume"]
    assert desk.notes[1]["result"]["ok"]
    assert len(reaper.current.tracks) == 2
    assert desk.commands == []


def test_a_daemon_killed_before_it_heard_of_a_result_hears_it_again(
    tmp_path: Path, desks: list[Desk]
) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    place = place_one_stem(track)
    desk = Desk(
        tmp_path, lambda note: None if note["say"] == "resume" and len(desk.received) == 2 else place(note)
    )
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    while len(desk.received) < 2:
        assert reaper.tick()
        desk.serve()
    desk.kill()
    for _ in range(90):
        assert reaper.tick()
    assert "trying again" in reaper.help_texts[-1]
    assert desk.commands == ['"/opt/a place/stembridge" daemon start']
    desk.open()
    reaper.run_until_idle(between_ticks=desk.serve)
    assert len(desk.received) == 3
    assert desk.received[1] == desk.received[2]
    assert desk.notes[2]["result"]["ok"]
    assert len(reaper.current.tracks) == 2
    assert [label for label, _ in reaper.current.undo] == ["Stembridge: split"]
    assert reaper.help_texts[-1] == ""


def test_a_daemon_killed_before_it_gave_orders_is_asked_again(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    place = place_one_stem(track)
    asked_at: list[float] = []

    def answer(note: Note) -> dict[str, Any] | None:
        asked_at.append(reaper.clock_s)
        return None if len(asked_at) == 1 else place(note)

    desk = Desk(tmp_path, answer)
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    while not desk.received:
        assert reaper.tick()
        desk.serve()
    desk.kill()
    reaper.tick()
    desk.open()
    reaper.run_until_idle(between_ticks=desk.serve)
    assert desk.received[0] == desk.received[1]
    assert 1 <= asked_at[1] - asked_at[0] < 2
    assert [note["say"] for note in desk.notes] == ["act", "act", "resume"]
    assert [label for label, _ in reaper.current.undo] == ["Stembridge: split"]


def test_a_reply_that_comes_twice_is_carried_out_once(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    place = apply(op.insert_track("$t", track.guid, 0), undo="Stembridge: split")
    desk = Desk(tmp_path, orders({"do": "wait", "seconds": 0.2}, place))
    desk.copies = 3
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    reaper.run_until_idle(between_ticks=desk.serve)
    assert [note["say"] for note in desk.notes] == ["act", "resume", "resume"]
    assert reaper.console == []
    assert [label for label, _ in reaper.current.undo] == ["Stembridge: split"]


def test_a_daemon_that_keeps_silent_is_asked_again_over_a_new_connection(
    tmp_path: Path, desks: list[Desk]
) -> None:
    reaper = open_reaper(tmp_path)
    track, _ = make_song(reaper)
    place = place_one_stem(track)
    desk = Desk(tmp_path, lambda note: None if len(desk.received) == 1 else place(note))
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    while not desk.received:
        assert reaper.tick()
        desk.serve()
    for _ in range(310):
        assert reaper.tick()
    assert "no answer from the daemon for 10 s" in reaper.help_texts[-1]
    reaper.run_until_idle(between_ticks=desk.serve)
    assert desk.received[0] == desk.received[1]
    assert [label for label, _ in reaper.current.undo] == ["Stembridge: split"]


def test_a_daemon_that_is_not_running_is_started(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    desk = Desk(tmp_path, orders({"do": "wait", "seconds": 0}))
    desks.append(desk)
    talk(reaper, tmp_path, desk)
    for _ in range(310):
        assert reaper.tick()
    assert desk.commands == ['"/opt/a place/stembridge" daemon start'] * 2
    assert "no daemon has left its address" in reaper.help_texts[-1]
    desk.open()
    reaper.run_until_idle(between_ticks=desk.serve)
    assert [note["say"] for note in desk.notes] == ["act", "resume"]


def test_a_daemon_that_wants_keys_after_all_gets_the_note_by_files(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    desk = Desk(tmp_path, lambda note: None)
    talk(reaper, tmp_path, desk)
    for _ in range(10):
        assert reaper.tick()
    courier = Courier(orders({"do": "wait", "seconds": 0}))
    reaper.spawner = courier.start
    (tmp_path / "connection.json").write_text(json.dumps({**CONNECTION, "server_key": "a key"}), "utf-8")
    reaper.run_until_idle(between_ticks=courier.carry)
    assert [note["say"] for note in courier.notes] == ["act", "resume"]


def test_a_note_that_is_too_large_is_said_to_be(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    desk = Desk(tmp_path, lambda note: None)
    desks.append(desk)
    desk.open()
    root = install(tmp_path, keys="")
    zmtp = root / "lib" / "stembridge_zmtp.py"
    text = zmtp.read_text("utf-8")
    assert "MAX_BODY_BYTES = 14 * MAX_BODY_FRAME_BYTES" in text
    zmtp.write_text(
        text.replace("MAX_BODY_BYTES = 14 * MAX_BODY_FRAME_BYTES", "MAX_BODY_BYTES = 10"), "utf-8"
    )
    reaper.spawner = desk.start
    reaper.run_python(action(root), between_ticks=desk.serve)
    (said,) = reaper.console
    assert "at most 10 are taken (select fewer items)" in said


def test_the_daemons_refusal_is_told(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    desk = Desk(tmp_path, lambda note: {})
    desk.reply_header = {"t": "error", "code": "bad_request", "message": "nothing is selected", "hint": ""}
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    reaper.run_until_idle(between_ticks=desk.serve)
    assert reaper.console == ["Stembridge: nothing is selected\n"]


def test_a_daemon_that_is_leaving_is_asked_again(tmp_path: Path, desks: list[Desk]) -> None:
    reaper = open_reaper(tmp_path)
    desk = Desk(tmp_path, orders({"do": "wait", "seconds": 0}))
    desk.reply_header = {"t": "error", "code": "stopping", "message": "the daemon is leaving", "hint": ""}
    desks.append(desk)
    desk.open()
    talk(reaper, tmp_path, desk)
    while "the daemon is leaving" not in "".join(reaper.help_texts):
        assert reaper.tick()
        desk.serve()
    desk.reply_header = {"t": "orders"}
    reaper.run_until_idle(between_ticks=desk.serve)
    assert reaper.console == []
    assert desk.notes[-1]["say"] == "resume"


# what the scripts are held to


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Give what imports a module of the scripts outside of REAPER."""
    monkeypatch.setitem(sys.modules, "reaper_python", ModuleType("reaper_python"))
    monkeypatch.syspath_prepend(str(LIB))
    return importlib.import_module


def test_the_tables_are_those_of_the_bridge(lib: Callable[[str], ModuleType]) -> None:
    applied, collected = lib("stembridge_apply"), lib("stembridge_collect")
    assert {name: kinds for name, (kinds, _) in applied.OPERATIONS.items()} == op.ARGUMENTS
    assert applied.COMMANDS == op.COMMANDS
    assert lib("stembridge_api").TAG == op.TAG
    made = {name for name, kinds in op.ARGUMENTS.items() if kinds[:1] == ("new",)}
    assert set(applied.MADE) == made
    for table in ("ITEM_VALUES", "TAKE_VALUES", "TRACK_VALUES"):
        assert getattr(collected, table) == getattr(snapshots, table)


def test_the_results_in_a_tuple_are_where_the_contract_says(lib: Callable[[str], ModuleType]) -> None:
    contract = read_contract()
    for name, places in lib("stembridge_api").OUTPUTS.items():
        function = contract.functions[name]
        assert function.python_returns is not None
        wanted = [field.name for field in function.returns]
        assert [function.python_returns[place] for place in places] == wanted, name


def test_every_function_with_a_tuple_is_in_the_table(lib: Callable[[str], ModuleType]) -> None:
    contract = read_contract()
    outputs = lib("stembridge_api").OUTPUTS
    used = {name for path in LIB.glob("*.py") for name, _ in _list_calls(path)}
    assert {name for name in used if contract.functions[name].python_returns is not None} == set(outputs)


def test_a_text_that_may_be_null_is_known_to_be(lib: Callable[[str], ModuleType]) -> None:
    contract = read_contract()
    used = {name for path in LIB.glob("*.py") for name, _ in _list_calls(path)}
    nullable = {name for name in used if any(field.is_optional for field in contract.functions[name].returns)}
    assert set(lib("stembridge_api").MAY_BE_NULL) == nullable


@pytest.mark.parametrize("path", sorted(LIB.glob("*.py")), ids=lambda path: path.name)
def test_only_functions_of_the_contract_are_called(path: Path) -> None:
    contract = read_contract()
    for name, count in _list_calls(path):
        function = contract.functions[name]
        assert function.only != "lua", name
        assert count is None or function.accepts(count, "python"), f"{name} with {count} arguments"


def _list_calls(path: Path) -> Iterator[tuple[str, int | None]]:
    """Give each API function that a module names, and with how many arguments it is called there."""
    tree = ast.parse(path.read_text("utf-8"))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "reaper":
            call = called.get(id(node))
            is_plain = call is not None and not any(isinstance(arg, ast.Starred) for arg in call.args)
            yield node.attr, len(call.args) if call is not None and is_plain else None


ALLOWED = {
    "codecs", "collections", "contextlib", "errno", "importlib", "io", "itertools", "json", "math", "os",
    "pathlib", "re", "socket", "stat", "struct", "sys", "traceback", "reaper_python",
}  # fmt: skip


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_script_is_python_3_8_and_imports_little(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), feature_version=(3, 8))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    assert {name for name in modules if not name.startswith("stembridge_")} <= ALLOWED
    assert path.read_text("utf-8").startswith("# @noindex\n# ")


def test_the_scripts_are_linted_as_python_3_8() -> None:
    assert importlib.util.find_spec("ruff") is not None
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--target-version", "py38", str(SCRIPTS)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_every_action_has_its_script() -> None:
    assert {path.stem for path in SCRIPTS.glob("actions/*.py")} == {file_stem(name) for name in ACTIONS}


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_says_its_own_name(name: str, tmp_path: Path) -> None:
    reaper = open_reaper(tmp_path)
    courier = Courier(orders())
    reaper.spawner = courier.start
    reaper.run_python(action(install(tmp_path), name), between_ticks=courier.carry)
    assert [(note["say"], note["action"]) for note in courier.notes] == [("act", name)]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_every_script_has_the_version_of_the_package(path: Path) -> None:
    assert re.findall(r'^VERSION = "(.*)"$', path.read_text("utf-8"), re.MULTILINE) == [
        stembridge.__version__
    ]
