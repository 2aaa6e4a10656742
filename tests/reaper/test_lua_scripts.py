"""The Lua scripts in a strict fake REAPER: what travels, what they do to a project, what the user sees."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import lupa.lua54 as lupa  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lua_stage import RATE, SCRIPTS, Note, Reply, Stage, reply, take_of
from reaper_fake import Media, api
from reaper_fake.contract import read_contract
from reaper_fake.lua_face import LuaScript
from reaper_fake.model import Source, section_of
from reaper_fake.reaper import FakeReaper
from stembridge.reaper.actions import ACTIONS, LOOP, file_stem
from stembridge.reaper.operations import ARGUMENTS, COMMANDS, TAG
from stembridge.reaper.snapshot import ITEM_VALUES, TAKE_VALUES, TRACK_VALUES, read_snapshot

ODD_NAMES = ("Gesang – größer", 'say "hi"', "a, b, c", "one\ntwo", "back\\slash", "日本語 🎚", "$not a name")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# JSON


class Json:
    """The module json.lua in a Lua of its own; texts are bytes."""

    def __init__(self) -> None:
        self.lua = lupa.LuaRuntime(encoding=None)
        self.module = self.lua.execute((SCRIPTS / "lib" / "json.lua").read_bytes())
        self._try = self.lua.eval(b"function(work, value) return pcall(work, value) end")

    def refuse(self, text: str | bytes) -> str:
        """Return why a text is not decoded."""
        raw = text.encode() if isinstance(text, str) else text
        is_done, reason = self._try(self.module[b"decode"], raw)
        assert not is_done, f"{text!r} was taken"
        assert isinstance(reason, bytes)
        return reason.decode()

    def round_trip(self, value: Any) -> Any:
        """Return a value that has been through Lua."""
        text = json.dumps(value, ensure_ascii=False).encode()
        return json.loads(self.module[b"encode"](self.module[b"decode"](text)))


@pytest.fixture(scope="module")
def lua_json() -> Json:
    return Json()


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
)


@given(value=_VALUES)
def test_what_is_handed_back_is_what_came(value: Any, lua_json: Json) -> None:
    assert lua_json.round_trip(value) == value


def test_empty_arrays_and_objects_and_nulls_stay_apart(lua_json: Json) -> None:
    value: dict[str, Any] = {"a": [], "o": {}, "n": None, "deep": [[], {}, None, [None]]}
    assert lua_json.round_trip(value) == value


def test_escapes_are_read(lua_json: Json) -> None:
    text = b'["\\u00e9\\ud83c\\udf9a\\u0000", "\\"\\\\\\/\\b\\f\\n\\r\\t", 1e2, -0.5E-1]'
    decoded = lua_json.module[b"decode"](text)
    assert decoded[1] == "é🎚\0".encode()
    assert decoded[2] == b'"\\/\b\f\n\r\t'
    assert (decoded[3], decoded[4]) == (100.0, -0.05)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ends too soon at byte 1"),
        ("{", "key in quotes"),
        ('{"a" 1}', "':' expected at byte 6"),
        ('{"a": 1,}', "key in quotes"),
        ("[1 2]", "',' or ']' expected at byte 4"),
        ("[1,]", "value expected"),
        ("[1", "',' or ']'"),
        ("01", "no number"),
        ("-", "no number"),
        ("1.", "more text"),
        ("+1", "value expected"),
        ("nul", "value expected"),
        ("NaN", "value expected"),
        ("tru", "value expected"),
        ('"a', "without an end"),
        ('"a\nb"', "control character"),
        ('"\\x41"', "no such escape"),
        ('"\\u12"', "four hex digits"),
        ('"\\ud800"', "half a surrogate"),
        ('"\\ud800\\u0041"', "half a surrogate"),
        ('"\\udc00"', "half a surrogate"),
        ("[] []", "more text"),
        (b'"\xff"', "no UTF-8 at byte 2"),
        ("[" * 200 + "]" * 200, "levels"),
        ('{"a":' * 200 + "1" + "}" * 200, "levels"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str | bytes, reason: str, lua_json: Json) -> None:
    assert reason in lua_json.refuse(text)


@pytest.mark.parametrize(
    "literal",
    ["0/0", "math.huge", "{1}", "{[1.5]=1}", "print", "(function() local t = {} t.t = t return t end)()"],
)
def test_what_json_has_no_form_for_is_refused(literal: str, lua_json: Json) -> None:
    is_done, _ = lua_json._try(lua_json.module[b"encode"], lua_json.lua.eval(literal.encode()))
    assert not is_done


def test_bytes_that_are_no_text_become_question_marks(lua_json: Json) -> None:
    clean = lua_json.module[b"clean"]
    assert clean(b"gr\xf6\xdfer.wav") == b"gr??er.wav"
    assert clean(b"\xff") == b"?"
    assert clean("größer".encode()) == "größer".encode()


# tables and files


def _lua_list(table: Any) -> tuple[Any, ...]:
    return tuple(table[index] for index in range(1, len(table) + 1))


@pytest.fixture(scope="module")
def modules() -> tuple[Any, Any]:
    """The modules collect and apply, outside of any REAPER."""
    lua = lupa.LuaRuntime()

    def load(name: str, *needed: Any) -> Any:
        source = (SCRIPTS / "lib" / f"{name}.lua").read_text(encoding="utf-8")
        return lua.eval("function(code) return assert(load(code)) end")(source)(*needed)

    read_json = load("json")
    collect = load("collect", read_json)
    return collect, load("apply", read_json, collect)


def test_the_scripts_hold_to_the_tables(modules: tuple[Any, Any]) -> None:
    collect, apply = modules
    assert _lua_list(collect.ITEM_VALUES) == ITEM_VALUES
    assert _lua_list(collect.TAKE_VALUES) == TAKE_VALUES
    assert _lua_list(collect.TRACK_VALUES) == TRACK_VALUES
    assert collect.TAG == TAG
    assert {name: _lua_list(kinds) for name, kinds in apply.ARGUMENTS.items()} == ARGUMENTS
    assert _lua_list(apply.COMMANDS) == COMMANDS
    assert set(apply.RUN.keys()) == set(ARGUMENTS)


def test_every_action_has_its_script() -> None:
    found = {path.stem: path.read_text(encoding="utf-8") for path in (SCRIPTS / "actions").glob("*.lua")}
    assert set(found) == {file_stem(action) for action in ACTIONS} | {LOOP}
    for action in ACTIONS:
        assert f'(root, "{action}")' in found[file_stem(action)]


OURS = ("json", "files", "collect", "apply", "panel", "stembridge")
ALL_SCRIPTS = [
    *(SCRIPTS / "lib" / f"{name}.lua" for name in OURS),
    *sorted((SCRIPTS / "actions").glob("*.lua")),
]


@pytest.mark.parametrize("path", ALL_SCRIPTS, ids=lambda path: path.stem)
def test_every_script_compiles_and_knows_only_what_reaper_has(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lua = lupa.LuaRuntime()
    lua.eval("function(code) return assert(load(code, '=script', 't')) end")(text)
    contract = read_contract()
    code = re.sub(r"--.*", "", text)
    for name in re.findall(r"\breaper\.(\w+)", code):
        assert name in contract.functions, name
        assert contract.functions[name].only != "python"
    for name in re.findall(r"\bgfx\.(\w+)", code):
        known = set(contract.gfx_functions) | contract.gfx_writable | contract.gfx_read_only
        assert name in known, name
    assert not re.search(r"\b(os\.execute|os\.exit|io\.popen|require|package)\b", code)
    assert text.startswith("-- @noindex\n-- ")


# collect


def _take_shot(stage: Stage, what: str = "selection", **fields: Any) -> Any:
    return read_snapshot(stage.collect(what, **fields))


def test_a_snapshot_holds_what_the_project_holds(stage: Stage) -> None:
    reaper = stage.reaper
    path = stage.add_media()
    reaper.current.name = str(stage.folder / "Lied, größer.rpp")
    reaper.current.cursor_s = 1 / 3
    reaper.current.time_selection = (0.1, 0.7)
    tracks = [reaper.add_track(name, I_FOLDERDEPTH=float(at == 0)) for at, name in enumerate(ODD_NAMES)]
    tracks[0].ext["stembridge"] = "stem track"
    item = stage.add_item(
        tracks[1], path, name=ODD_NAMES[5], D_POSITION=1 / 3, D_LENGTH=0.1, D_VOL=-0.3, take_D_STARTOFFS=2 / 3
    )
    item.notes, item.ext["stembridge"] = "first\nsecond", '{"job": 1}'
    take_of(item).markers.append((1.5, 'hit "it"', 0))
    other = stage.add_item(tracks[2], path, D_POSITION=4.0)
    reaper.select(item)
    shot = _take_shot(stage)

    assert shot.project.is_saved
    assert shot.project.path == reaper.current.name
    assert shot.project.name == "Lied, größer.rpp"
    assert shot.project.os == "Other"
    assert shot.host.cursor == 1 / 3
    assert shot.host.time_selection == (0.1, 0.7)
    assert tuple(track.name for track in shot.tracks) == ODD_NAMES
    assert shot.tracks[0].tag == "stem track"
    assert [track.depth for track in shot.tracks][:2] == [1, 0]
    [found] = shot.items
    assert found.guid == item.guid
    assert found.track == tracks[1].guid
    assert (found.position, found.values["D_LENGTH"], found.values["D_VOL"]) == (1 / 3, 0.1, -0.3)
    assert (found.notes, found.tag, found.is_selected, found.takes) == (item.notes, '{"job": 1}', True, 1)
    assert found.take.name == ODD_NAMES[5]
    assert found.take.values["D_STARTOFFS"] == 2 / 3
    assert found.take.markers == ((1.5, 'hit "it"', 0),)
    source = found.take.source
    assert (source.path, source.exists, source.rate, source.channels) == (path, True, RATE, 2)
    assert (source.length, source.file_length, source.depth, source.section) == (10.0, 10.0, 0, None)
    assert source.chunk == ""

    everything = _take_shot(stage, "kin", guids=[], path=path)
    assert [entry.guid for entry in everything.items] == [item.guid, other.guid]
    assert [entry.is_selected for entry in everything.items] == [True, False]


def test_every_doubles_last_bit_travels(stage: Stage) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    position = math.nextafter(1234.5678, 2000)
    stage.reaper.select(
        stage.add_item(track, path, D_POSITION=position, D_FADEINLEN=5e-324, D_SNAPOFFSET=1e300)
    )
    [item] = _take_shot(stage).items
    assert item.position == position
    assert item.values["D_FADEINLEN"] == 5e-324
    assert item.values["D_SNAPOFFSET"] == 1e300


def test_a_section_comes_with_its_chunk(stage: Stage) -> None:
    path = stage.add_media()
    source = stage.reaper.shelf.source(path)
    assert source is not None
    track = stage.reaper.add_track("Mix")
    stage.reaper.select(stage.add_item(track, section_of(source, 1.25, 3.5, is_reversed=True)))
    [item] = _take_shot(stage).items
    assert item.take.source.section == (1.25, 3.5, True)
    assert (item.take.source.length, item.take.source.file_length) == (3.5, 10.0)
    assert (item.take.source.depth, item.take.source.type, item.take.source.path) == (1, "WAVE", path)
    assert "<SOURCE SECTION" in item.take.source.chunk


def test_only_what_was_asked_for_is_collected(stage: Stage) -> None:
    first, second = stage.add_media("/media/a.wav"), stage.add_media("/media/b.wav")
    track = stage.reaper.add_track("Mix")
    items = [
        stage.add_item(track, path, D_POSITION=float(at)) for at, path in enumerate([first, second, first])
    ]
    items[1].ext["stembridge"] = "ours"
    stage.reaper.select(items[0])

    def guids(what: str, **fields: Any) -> list[str]:
        return [item.guid for item in _take_shot(stage, what, **fields).items]

    a, b, c = (item.guid for item in items)
    assert guids("selection") == [a]
    assert guids("items", guids=[c, "{GONE}"]) == [c]
    assert guids("kin", guids=[b], path=first) == [a, b, c]
    assert guids("tagged") == [a, b]
    assert guids("project") == []


def test_the_selection_is_the_one_of_when_the_action_was_run(stage: Stage) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    items = [stage.add_item(track, path, D_POSITION=float(at)) for at in range(3)]
    shots: list[Any] = []

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            what = "tagged" if note["action"] == "toggle" else "selection"
            return reply({"do": "collect", "what": what, "then": "x", "with": 1})
        shots.append(read_snapshot(note["result"]))
        return reply()

    stage.courier.answer = answer
    for item, action in zip(items, ("split", "drums_rest", "toggle"), strict=True):
        stage.reaper.select(item)
        stage.start(action)
        stage.reaper.tick()
    stage.reaper.select()
    stage.end()
    assert [[item.guid for item in shot.items] for shot in shots] == [[item.guid] for item in items]
    assert all(shot.items[0].is_selected for shot in shots)


def test_empty_items_and_missing_media_are_said(stage: Stage) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    empty = stage.reaper.add_item(track, D_LENGTH=2.0)
    offline = stage.add_item(track, path, D_POSITION=3.0)
    del stage.reaper.shelf.virtual[path]
    stage.reaper.select(empty, offline)
    first, second = _take_shot(stage).items
    assert (first.take, first.takes) == (None, 0)
    assert not second.take.source.exists


def test_names_and_paths_that_are_no_text_do_not_end_a_collect(stage: Stage) -> None:
    path = stage.add_media("/media/gr\udcf6\udcdfer.wav")
    stage.add_media("/media/gr??er.wav")
    track = stage.reaper.add_track("Spur \udcff")
    good = stage.add_item(track, stage.add_media("/media/good.wav"), D_POSITION=20.0)
    stage.reaper.select(stage.add_item(track, path, name="caf\udce9"), good)
    shot = _take_shot(stage)
    assert shot.tracks[0].name == "Spur ?"
    assert [item.take.name for item in shot.items] == ["caf?", "mix"]
    assert [item.take.source.exists for item in shot.items] == [False, True]
    assert shot.items[0].take.source.path == "/media/gr??er.wav"


def test_an_item_that_cannot_be_read_is_left_out_and_named(stage: Stage) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    odd = stage.add_item(track, path, D_POSITION=1.25, D_VOL=math.inf)
    good = stage.add_item(track, path, D_POSITION=20.0)
    stage.reaper.select(odd, good)
    found: list[Any] = []

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            return reply({"do": "collect", "what": "selection", "then": "next", "with": {}})
        found.append(note["result"])
        return reply()

    stage.courier.answer = answer
    stage.start()
    stage.tick_until(lambda: bool(found) and bool(stage.reaper.window.shown_texts))
    assert [item.guid for item in read_snapshot(found[0]).items] == [good.guid]
    assert any("the item at 1.250 s cannot be read: " in text for text in stage.reaper.window.shown_texts)
    stage.reaper.window.close()
    stage.end()


@pytest.fixture
def running_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a millisecond each time somebody looks at it."""

    def time_precise(host: FakeReaper) -> float:
        host.clock_s += 0.001
        return host.clock_s

    monkeypatch.setattr(api, "time_precise", time_precise)


@pytest.mark.parametrize("what", ["selection", "tagged", "all"])
def test_many_items_are_read_over_many_ticks(stage: Stage, running_clock: None, what: str) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    items = [stage.add_item(track, path, D_POSITION=float(at)) for at in range(300)]
    stage.reaper.select(*items)
    reads: list[int] = []

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            return reply({"do": "collect", "what": what, "then": "next", "with": {}})
        return reply()

    stage.courier.answer = answer
    stage.start()
    texts = [stage.reaper.calls["GetSetMediaItemInfo_String"]]
    while stage.reaper.scripts:
        stage.tick()
        reads.append(stage.reaper.calls["GetActiveTake"])
        texts.append(stage.reaper.calls["GetSetMediaItemInfo_String"])
    stage.reaper.check()
    assert sum(reads) == 300
    assert max(reads) <= 12
    assert max(texts) <= 40
    assert len(read_snapshot(stage.courier.notes[-1]["result"]).items) == 300


def test_a_tick_reads_as_many_items_as_it_has_time_for(stage: Stage) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    stage.reaper.select(*[stage.add_item(track, path, D_POSITION=float(at)) for at in range(50)])
    stage.courier.answer = lambda note: (
        reply({"do": "collect", "what": "selection", "then": "next", "with": None})
        if note["say"] == "act"
        else reply()
    )
    stage.start()
    stage.tick_until(lambda: stage.reaper.calls["GetActiveTake"] > 0)
    assert stage.reaper.calls["GetActiveTake"] == 50
    stage.end()


def test_an_item_removed_while_others_are_read_is_left_out(stage: Stage, running_clock: None) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    items = [stage.add_item(track, path, D_POSITION=float(at)) for at in range(100)]
    stage.reaper.select(*items)
    stage.courier.answer = lambda note: (
        reply({"do": "collect", "what": "selection", "then": "next", "with": None})
        if note["say"] == "act"
        else reply()
    )
    stage.start()
    stage.tick_until(lambda: stage.reaper.calls["GetActiveTake"] > 0)
    with stage.reaper.user_edit():
        track.remove_item(items[-1])
    stage.end()
    found = read_snapshot(stage.courier.notes[-1]["result"]).items
    assert [item.guid for item in found] == [item.guid for item in items[:-1]]


def test_a_project_closed_while_it_is_read_is_said(stage: Stage, running_clock: None) -> None:
    path = stage.add_media()
    old = stage.reaper.current
    track = stage.reaper.add_track("Mix")
    stage.reaper.select(*[stage.add_item(track, path, D_POSITION=float(at)) for at in range(100)])
    stage.courier.answer = lambda _: reply(
        {"do": "collect", "what": "selection", "then": "next", "with": None}
    )
    stage.start()
    stage.tick_until(lambda: stage.reaper.calls["GetActiveTake"] > 0)
    stage.reaper.open_tab()
    old.is_open = False
    stage.reaper.projects.remove(old)
    stage.tick_until(lambda: stage.reaper.window.is_open)
    stage.tick()
    assert "the project was closed before it was read" in stage.reaper.window.shown_texts
    stage.reaper.window.close()
    stage.end()
    assert len(stage.courier.notes) == 1


# apply


@pytest.fixture
def song(stage: Stage) -> dict[str, Any]:
    """A project with two tracks and an item on each; the first one is selected."""
    path = stage.add_media()
    mix, bus = stage.reaper.add_track("Mix, größer"), stage.reaper.add_track("Bus")
    item = stage.add_item(mix, path, D_POSITION=1.0, D_LENGTH=4.0, take_D_STARTOFFS=0.5)
    other = stage.add_item(bus, path, D_POSITION=9.0)
    stage.reaper.select(item)
    return {"path": path, "mix": mix, "bus": bus, "item": item, "other": other, "take": take_of(item)}


def test_stems_lie_on_new_tracks_in_one_undo_step(stage: Stage, song: dict[str, Any]) -> None:
    stem = stage.add_media("/media/vocals ü.wav")
    item, mix = song["item"], song["mix"]
    result = stage.apply(
        ["expect_item", item.guid, {"D_POSITION": 1.0, "D_LENGTH": 4.0}],
        ["expect_take", item.guid, {"D_STARTOFFS": 0.5}],
        ["expect_track", mix.guid, {"I_FOLDERDEPTH": 0}],
        ["insert_track", "$vocals", mix.guid, 0],
        ["insert_track", "$drums", mix.guid, 1],
        ["set_track", mix.guid, "I_FOLDERDEPTH", 1],
        ["set_track", "$drums", "I_FOLDERDEPTH", -1],
        ["set_track_text", "$vocals", "P_NAME", ODD_NAMES[1]],
        ["set_track_text", "$vocals", "P_EXT:stembridge", "stem"],
        ["color_track", "$vocals", 1, 2, 3],
        ["add_item", "$item", "$vocals"],
        ["add_take", "$take", "$item"],
        ["set_file", "$take", stem],
        ["set_item", "$item", "D_POSITION", 1 / 3],
        ["set_item_text", "$item", "P_NOTES", "one\ntwo"],
        ["copy_item", item.guid, "$item", "D_LENGTH", 0.25],
        ["copy_take", item.guid, "$item", "D_STARTOFFS", -0.125],
        ["set_take", "$take", "D_PITCH", -2],
        ["set_take_text", "$item", "P_NAME", ODD_NAMES[3]],
        ["color_take", "$take", 0, 0, 0],
        ["mark_take", "$take", 1.5, "hit, here", 7],
        ["set_item", item.guid, "B_MUTE", 1],
        label="Stembridge: split 1 item",
    )
    project = stage.reaper.current
    assert result["ok"]
    assert result["ms"] >= 0
    assert result["read"] == {}
    names = ["Mix, größer", ODD_NAMES[1], "", "Bus"]
    assert [track.name for track in project.tracks] == names
    assert [track.folder_depth for track in project.tracks] == [1, 0, -1, 0]
    vocals = project.tracks[1]
    [new] = vocals.items
    assert result["made"] == {
        "$vocals": vocals.guid,
        "$drums": project.tracks[2].guid,
        "$item": new.guid,
        "$take": take_of(new).guid,
    }
    assert vocals.ext["stembridge"] == "stem"
    assert vocals.values["I_CUSTOMCOLOR"] == 0x1000000 | 1 | 2 << 8 | 3 << 16
    assert (new.position_s, new.length_s, new.notes) == (1 / 3, 4.25, "one\ntwo")
    take = take_of(new)
    assert take.source is not None
    assert take.source.path == stem
    assert take.source.peaks_left == 0
    assert (take.name, take.values["D_STARTOFFS"], take.values["D_PITCH"]) == (ODD_NAMES[3], 0.375, -2.0)
    assert take.values["I_CUSTOMCOLOR"] == 0x1000000
    assert take.markers == [(1.5, "hit, here", 7)]
    assert song["item"].values["B_MUTE_ACTUAL"] == 1
    assert [label for label, _ in project.undo] == ["Stembridge: split 1 item"]
    assert project.selected_items == [song["item"]]


def test_undo_brings_the_project_back(stage: Stage, song: dict[str, Any]) -> None:
    before = stage.reaper.state()["projects"]
    label = "Stembridge: test"
    results = stage.carry_out(
        {"do": "apply", "undo": label, "ops": [["insert_track", "$t", song["mix"].guid, 0]]},
        {"do": "undo", "label": "something else"},
        {"do": "undo", "label": label},
        {"do": "undo", "label": label},
    )
    assert results[0]["ok"]
    assert results[1:] == [{"done": False}, {"done": True}, {"done": False}]
    after = stage.reaper.state()["projects"]
    assert [project | {"redo": []} for project in after] == before


def test_peaks_are_built_a_little_in_every_tick(
    stage: Stage, song: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    build = api.PCM_Source_BuildPeaks

    def spy_build(host: FakeReaper, source: Source, mode: int) -> int:
        modes.append(mode)
        return build(host, source, mode)

    monkeypatch.setattr(api, "PCM_Source_BuildPeaks", spy_build)
    stem = stage.add_media("/media/stem.wav")
    result = stage.apply(
        ["add_item", "$item", song["mix"].guid],
        ["add_take", "$take", "$item"],
        ["set_file", "$take", stem],
    )
    assert result["ok"]
    assert modes == [0, 1, 1, 2]


def test_peaks_of_what_the_user_took_back_are_let_go(stage: Stage, song: dict[str, Any]) -> None:
    stem = stage.add_media("/media/stem.wav")
    operations = [
        ["add_item", "$item", song["mix"].guid],
        ["add_take", "$take", "$item"],
        ["set_file", "$take", stem],
    ]
    stage.courier.answer = lambda _: reply({"do": "apply", "undo": "u", "ops": operations})
    stage.start()
    stage.tick_until(lambda: len(stage.reaper.current.undo) == 1)
    stage.reaper.undo_once()
    stage.end()
    assert len(stage.reaper.current.tracks[0].items) == 1


def test_takes_are_activated_removed_and_split(stage: Stage, song: dict[str, Any]) -> None:
    stem = stage.add_media("/media/stem.wav")
    item = song["item"]
    result = stage.apply(
        ["add_take", "$take", item.guid],
        ["set_file", "$take", stem],
        ["activate", "$take"],
        ["read_file", "new", item.guid],
        ["read_file", "old", song["take"].guid],
        ["activate", song["take"].guid],
        ["split_item", "$right", item.guid, 2.0],
        ["read_file", "right", "$right"],
        ["set_item", "$right", "D_VOL", 0.5],
        ["remove_item", song["other"].guid],
        ["remove_track", song["bus"].guid],
    )
    assert result["ok"], result
    assert result["read"] == {"new": stem, "old": song["path"], "right": song["path"]}
    [track] = stage.reaper.current.tracks
    left, right = track.sorted_items
    assert (left.length_s, right.position_s, right.length_s, right.values["D_VOL"]) == (1.0, 2.0, 3.0, 0.5)
    assert result["made"]["$right"] == right.guid


def test_a_file_becomes_a_section_of_itself(stage: Stage, song: dict[str, Any]) -> None:
    stem = stage.add_media("/media/stem one.wav")
    result = stage.apply(
        ["add_item", "$item", song["mix"].guid],
        ["add_take", "$take", "$item"],
        ["set_file", "$take", stem],
        ["set_item", "$item", "D_LENGTH", 2.0],
        ["wrap_section", "$item", ["LENGTH 3.25", "STARTPOS 1.5", "MODE 2"]],
        ["set_take_text", "$take", "P_NAME", "named afterwards"],
    )
    assert result["ok"], result
    new = next(item for item in song["mix"].items if item.guid == result["made"]["$item"])
    source = take_of(new).source
    assert source is not None
    assert source.parent is not None
    assert (source.offset_s, source.length_s, source.is_reversed) == (1.5, 3.25, True)
    assert source.root.path == stem
    assert take_of(new).name == "named afterwards"


def test_only_the_first_source_is_wrapped(modules: tuple[Any, Any]) -> None:
    chunk = '<ITEM\nPOSITION 1\n<SOURCE MIDI\nE 1 <SOURCE\n<X\n>\n>\nTAKE\n<SOURCE WAVE\nFILE "a"\n>\n>\n'
    wrapped = modules[1].wrap_source(chunk, modules[0].ITEM_VALUES)
    assert wrapped.count("<SOURCE SECTION") == 1
    lines = wrapped.split("\n")
    assert lines[2] == "<SOURCE SECTION"
    assert lines[3 : 3 + len(ITEM_VALUES)] == list(ITEM_VALUES)
    assert wrapped.endswith('E 1 <SOURCE\n<X\n>\n>\n>\nTAKE\n<SOURCE WAVE\nFILE "a"\n>\n>\n')
    assert modules[1].wrap_source("<ITEM\nPOSITION 1\n>\n", modules[0].ITEM_VALUES) is None


def test_commands_work_on_one_item_and_the_selection_stays(stage: Stage, song: dict[str, Any]) -> None:
    result = stage.apply(
        ["select_only", song["other"].guid],
        ["command", 41051],
        ["select_only", song["item"].guid],
        ["restore_selection"],
    )
    assert result["ok"], result
    turned, untouched = take_of(song["other"]).source, take_of(song["item"]).source
    assert turned is not None
    assert turned.is_reversed
    assert untouched is not None
    assert untouched.parent is None
    assert stage.reaper.current.selected_items == [song["item"]]


def test_the_selection_comes_back_by_itself(stage: Stage, song: dict[str, Any]) -> None:
    assert stage.apply(["select_only", song["other"].guid])["ok"]
    assert stage.reaper.current.selected_items == [song["item"]]
    result = stage.apply(["select_only", song["other"].guid], ["set_file", song["item"].guid, "/gone.wav"])
    assert result["reason"] == "error"
    assert [item.guid for item in stage.reaper.current.selected_items] == [song["item"].guid]


def test_what_a_project_renders_with_can_be_set(stage: Stage) -> None:
    result = stage.apply(
        ["project_text", "RENDER_FILE", "/out, größer"], ["project_value", "RENDER_SRATE", 96000]
    )
    assert result["ok"], result
    assert stage.reaper.current.texts["RENDER_FILE"] == "/out, größer"
    assert stage.reaper.current.values["RENDER_SRATE"] == 96000


REFUSED = [
    (
        "changed",
        1,
        [["expect_item", "ITEM", {}], ["expect_item", "ITEM", {"D_POSITION": 1.0000000000000002}]],
    ),
    (
        "changed",
        2,
        [["set_item", "ITEM", "D_VOL", 2], ["remove_track", "BUS"], ["expect_track", "BUS", {"D_VOL": 2}]],
    ),
    ("changed", 0, [["expect_take", "TAKE", {"D_STARTOFFS": 0.25}]]),
    ("missing", 1, [["set_item", "ITEM", "D_VOL", 2], ["set_item", "{GONE}", "D_VOL", 2]]),
    ("missing", 0, [["expect_track", "{GONE}", {}]]),
    ("missing", 0, [["set_take", "EMPTY", "D_VOL", 2]]),
    ("error", 1, [["set_item", "ITEM", "D_VOL", 2], ["set_itme", "ITEM", "D_VOL", 2]]),
    ("error", 1, [["set_item", "ITEM", "D_VOL", 2], ["command", 40001]]),
    ("error", 1, [["set_item", "ITEM", "D_VOL", 2], ["command", 41999.5]]),
    ("error", 1, [["set_item", "ITEM", "D_VOL", 2], ["set_item", "$later", "D_VOL", 2]]),
    ("error", 0, [["set_item", "$later", "D_VOL", 2], ["add_item", "$later", "BUS"]]),
    ("error", 1, [["add_item", "$a", "BUS"], ["add_item", "$a", "BUS"]]),
    ("error", 1, [["add_item", "$a", "BUS"], ["set_track", "$a", "D_VOL", 1]]),
    ("error", 1, [["add_item", "$a", "BUS"], ["expect_item", "$a", {"D_VOL": 1}]]),
    ("error", 0, [["add_item", "a", "BUS"]]),
    ("error", 0, [["set_item", "ITEM", "D_VOL"]]),
    ("error", 0, [["set_item", "ITEM", "D_VOL", 1, 2]]),
    ("error", 0, [["set_item", "ITEM", "D_VOL", "1"]]),
    ("error", 0, [["set_item", "ITEM", "D_VOL", None]]),
    ("error", 0, [["set_item_text", "ITEM", "P_NOTES", 1]]),
    ("error", 0, [["color_track", "BUS", 0.5, 0, 0]]),
    ("error", 0, [["expect_item", "ITEM", [1.0]]]),
    ("error", 0, [["expect_item", "ITEM", {"D_VOL": "1"}]]),
    ("error", 0, [["wrap_section", "ITEM", {"LENGTH": "1"}]]),
    ("error", 0, [[]]),
    ("error", 0, [{"set_item": 1}]),
    ("error", 0, ["set_item"]),
]


@pytest.mark.parametrize(("reason", "at", "operations"), REFUSED)
def test_what_is_refused_touches_nothing(
    stage: Stage, song: dict[str, Any], reason: str, at: int, operations: list[Any]
) -> None:
    empty = stage.reaper.add_item(song["mix"], D_LENGTH=1.0)
    named = {
        "ITEM": song["item"].guid,
        "TAKE": song["take"].guid,
        "BUS": song["bus"].guid,
        "EMPTY": empty.guid,
    }
    operations = copy.deepcopy(operations)
    for operation in operations:
        if isinstance(operation, list):
            operation[:] = [named.get(word, word) if isinstance(word, str) else word for word in operation]
    before = stage.reaper.state()["projects"]
    changes = stage.reaper.current.change_count
    result = stage.apply(*operations)
    assert (result["ok"], result["reason"], result["at"]) == (False, reason, at), result
    assert result["text"]
    assert stage.reaper.state()["projects"] == before
    assert stage.reaper.current.change_count == changes


@pytest.mark.parametrize("label", ["Stembridge: test", ""])
def test_what_fails_in_the_middle_is_undone(stage: Stage, song: dict[str, Any], label: str) -> None:
    with stage.reaper.user_edit("the user's own"):
        song["item"].values["D_VOL"] = 0.7
    before = stage.reaper.state()["projects"]
    result = stage.apply(
        ["insert_track", "$stem", song["mix"].guid, 0],
        ["set_item", song["item"].guid, "B_MUTE", 1],
        ["add_item", "$item", "$stem"],
        ["add_take", "$take", "$item"],
        ["set_file", "$take", "/media/nowhere.wav"],
        label=label,
    )
    assert (result["ok"], result["reason"], result["at"]) == (False, "error", 4)
    assert "/media/nowhere.wav" in result["text"]
    after = stage.reaper.state()["projects"]
    assert [project | {"redo": []} for project in after] == before
    assert [step for step, _ in stage.reaper.current.undo] == ["the user's own"]
    assert stage.reaper.refresh_holds == 0


def test_a_rendering_that_made_no_take_is_undone(stage: Stage, song: dict[str, Any]) -> None:
    item, take = song["item"], song["take"]
    before = stage.reaper.state()["projects"]
    result = stage.apply(["set_item", item.guid, "D_VOL", 2], ["demand_new_take", item.guid, take.guid])
    assert (result["ok"], result["reason"], result["at"]) == (False, "error", 1)
    assert [project | {"redo": []} for project in stage.reaper.state()["projects"]] == before
    item = stage.reaper.current.items[0]
    result = stage.apply(
        ["add_take", "$take", item.guid], ["activate", "$take"], ["demand_new_take", item.guid, take.guid]
    )
    assert result["ok"], result


def test_a_thing_that_an_operation_removed_is_missed_by_the_next(stage: Stage, song: dict[str, Any]) -> None:
    before = stage.reaper.state()["projects"]
    result = stage.apply(["remove_item", song["item"].guid], ["set_item", song["item"].guid, "D_VOL", 2])
    assert (result["reason"], result["at"]) == ("error", 1)
    assert [project | {"redo": []} for project in stage.reaper.state()["projects"]] == before


def test_a_batch_is_one_undo_step_and_one_tick_each(stage: Stage, song: dict[str, Any]) -> None:
    orders = [
        {"do": "apply", "undo": f"step {at}", "ops": [["set_item", song["item"].guid, "D_VOL", at]]}
        for at in range(5)
    ]
    blocks: list[int] = []

    def answer(note: Note) -> Reply:
        return reply(*orders) if note["say"] == "act" else reply()

    stage.courier.answer = answer
    stage.start()
    while stage.reaper.scripts:
        stage.tick()
        blocks.append(stage.reaper.calls["Undo_BeginBlock2"])
    stage.reaper.check()
    assert (sum(blocks), max(blocks)) == (5, 1)
    assert [label for label, _ in stage.reaper.current.undo] == [f"step {at}" for at in range(5)]


def test_tracks_are_inserted_only_while_their_tab_is_in_front(stage: Stage, song: dict[str, Any]) -> None:
    first = stage.reaper.current
    results: list[Any] = []

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            stage.reaper.open_tab()
            operations = [["insert_track", "$t", song["mix"].guid, 0]]
            return reply({"do": "apply", "undo": "u", "ops": operations, "then": "x", "with": 1})
        results.append(note["result"])
        return reply()

    stage.courier.answer = answer
    stage.start()
    stage.tick(50)
    assert (results, len(first.tracks)) == ([], 2)
    assert any("in front again" in text for text in stage.reaper.window.shown_texts)
    stage.reaper.current = first
    stage.tick_until(lambda: bool(results))
    stage.reaper.window.close()
    stage.end()
    assert results[0]["ok"]
    assert len(first.tracks) == 3


def test_the_daemon_hears_that_reaper_plays_while_nothing_else_is_said(
    stage: Stage, song: dict[str, Any]
) -> None:
    first = stage.reaper.current

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            operations = [["insert_track", "$t", song["mix"].guid, 0]]
            return reply({"do": "apply", "undo": "u", "ops": operations, "then": "x", "with": 1})
        if note["say"] == "ping":
            return {"v": 1, "error": {"code": "request", "message": "no note says ping"}}
        return reply()

    stage.courier.answer = answer
    stage.start()
    behind = stage.reaper.open_tab()
    first.play_state = 1
    stage.tick(90)
    notes = stage.courier.notes
    assert [note["say"] for note in notes[:1]] == ["act"] and 4 <= len(notes) - 1 <= 6
    assert [(note["say"], note["host"]["play"]) for note in notes[1:]] == [("ping", 1)] * (len(notes) - 1)
    first.play_state, behind.play_state = 0, 4
    stage.tick(20)
    assert notes[-1]["host"]["play"] == 4
    behind.play_state = 0
    stage.tick(10)
    count = len(notes)
    stage.tick(60)
    assert len(notes) == count
    assert not any("no note says ping" in text for text in stage.reaper.window.shown_texts)
    stage.reaper.current = first
    stage.tick_until(lambda: notes[-1]["say"] == "resume")
    stage.reaper.window.close()
    stage.end()
    assert len(first.tracks) == 3


def test_a_newer_reaper_inserts_tracks_into_a_tab_behind(stage: Stage, song: dict[str, Any]) -> None:
    stage.reaper.missing.clear()
    first = stage.reaper.current

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            stage.reaper.open_tab()
            return reply({"do": "apply", "undo": "u", "ops": [["insert_track", "$t", song["mix"].guid, 0]]})
        return reply()

    stage.courier.answer = answer
    stage.start()
    stage.end()
    assert [len(project.tracks) for project in stage.reaper.projects] == [3, 0]
    assert first.undo[0][0] == "u"


def test_orders_follow_into_a_new_tab_and_out_of_it(stage: Stage, song: dict[str, Any]) -> None:
    stage.reaper.save()
    collect = {"do": "collect", "what": "project"}
    shots = stage.carry_out(
        {"do": "apply", "undo": "", "ops": [["command", 40859]]},
        collect,
        {"do": "apply", "undo": "", "ops": [["command", 40860]]},
        collect,
    )
    assert [shots[0]["ok"], shots[2]["ok"]] == [True, True], shots
    assert [len(shots[at]["tracks"]) for at in (1, 3)] == [0, 2]


# the conversation


def _row(row_id: str, state: str = "running", **fields: Any) -> dict[str, Any]:
    return {"id": row_id, "label": f"item {row_id}", "state": state, **fields}


def _panel(*rows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"line": "Splitting", "eta_s": 65.0, "fraction": 0.4, "rows": list(rows)} | fields


class Splitting:
    """A daemon that splits until it is told to end: every wait is answered by another one."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows) or [_row("a", fraction=0.25, eta_s=12.0, text="separate")]
        self.is_over = False
        self.said: list[Note] = []

    def __call__(self, note: Note) -> Reply:
        self.said.append(note)
        if self.is_over:
            return reply(panel=_panel(*[row | {"state": "done"} for row in self.rows]))
        if note["say"] == "cancel":
            return reply()
        return reply(
            {"do": "wait", "seconds": 0.2, "then": "again", "with": {"n": [None, 1.5, {}]}},
            panel=_panel(*self.rows),
        )

    def says(self, say: str) -> list[Note]:
        return [note for note in self.said if note["say"] == say]


def test_notes_say_what_reaper_does(stage: Stage) -> None:
    stage.reaper.current.name = "/songs/größer.rpp"
    stage.reaper.current.play_state = 5
    stage.reaper.current.cursor_s = 0.1
    orders: list[dict[str, Any]] = [
        {"do": "remember", "key": "split", "value": 'x\n"ü"'},
        {"do": "remember", "key": "other", "value": "2"},
        {"do": "wait", "seconds": 0, "then": "step", "with": [{}, [], None, 0.1, "ü"]},
    ]
    stage.courier.answer = lambda note: reply(*orders) if note["say"] == "act" else reply()
    stage.start()
    stage.end()
    first, last = stage.courier.notes
    assert first == {
        "v": 1,
        "script": "lua 0.1.0",
        "say": "act",
        "action": "split",
        "host": {"play": 5, "cursor": 0.1, "time_selection": [0, 0], "project": "/songs/größer.rpp"},
        "memory": {},
    }
    assert last == {
        "v": 1,
        "script": "lua 0.1.0",
        "say": "resume",
        "then": "step",
        "with": [{}, [], None, 0.1, "ü"],
        "result": {},
        "host": first["host"],
        "memory": {"split": 'x\n"ü"', "other": "2"},
    }
    assert "\n" not in stage.reaper.ext["stembridge", "memory"]
    stage.start("jobs")
    stage.end()
    assert stage.courier.notes[-1]["memory"] == last["memory"]


def test_a_recording_in_another_tab_counts(stage: Stage) -> None:
    notes: list[Note] = []

    def answer(note: Note) -> Reply:
        notes.append(note)
        if note["say"] == "act":
            stage.reaper.open_tab().play_state = 5
            return reply({"do": "wait", "seconds": 0, "then": "x", "with": 1})
        return reply()

    stage.courier.answer = answer
    stage.start()
    stage.end()
    assert [note["host"]["play"] for note in notes] == [0, 5]


def test_waits_come_due_by_the_clock(stage: Stage) -> None:
    due: dict[str, float] = {}

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            waits = {"late": 3.0, "soon": 1.0, "now": 0.0}
            return reply(*[{"do": "wait", "seconds": s, "then": n, "with": 0} for n, s in waits.items()])
        due[note["then"]] = stage.reaper.clock_s
        return reply()

    stage.courier.answer = answer
    stage.start()
    began = stage.reaper.clock_s
    stage.tick(10)
    assert list(due) == ["now"]
    stage.reaper.clock_s += 2.0
    stage.tick(10)
    assert list(due) == ["now", "soon"]
    stage.end()
    assert due["late"] - began == pytest.approx(3.0, abs=0.5)


def test_one_note_is_under_way_at_a_time(stage: Stage) -> None:
    stage.courier.answer = lambda note: (
        reply(*[{"do": "wait", "seconds": 0, "then": str(at), "with": at} for at in range(5)])
        if note["say"] == "act"
        else reply()
    )
    stage.start()
    for tick in range(200):
        if tick % 10 == 0:
            stage.courier.work()
        stage.reaper.tick()
    stage.reaper.check()
    assert [note.get("then") for note in stage.courier.notes] == [None, "0", "1", "2", "3", "4"]
    assert stage.courier.starts == 1
    assert stage.reaper.scripts == []
    assert stage.courier.request is not None
    assert not stage.courier.request.exists()


def test_a_courier_that_was_killed_is_replaced_and_nothing_happens_twice(stage: Stage) -> None:
    song = stage.reaper.add_track("Mix")
    operations = [["insert_track", "$t", song.guid, 0]]

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            return reply({"do": "apply", "undo": "one", "ops": operations, "then": "placed", "with": 1})
        stage.courier.kill()
        return reply({"do": "tell", "text": "too late"})

    stage.courier.answer = answer
    stage.start()
    stage.courier.kill()
    stage.tick(30)
    assert stage.courier.notes == []
    assert not stage.reaper.window.is_open
    stage.reaper.clock_s += 10.0
    stage.tick()
    stage.courier.kill()
    stage.tick(5)
    assert stage.courier.starts == 2
    assert any("no answer from" in text for text in stage.reaper.window.shown_texts)
    stage.reaper.clock_s += 10.0
    stage.tick()
    assert stage.courier.starts == 3
    stage.tick_until(lambda: len(stage.courier.notes) == 2)
    stage.tick(5)
    assert len(stage.reaper.current.tracks) == 2
    assert [label for label, _ in stage.reaper.current.undo] == ["one"]
    assert "too late" in stage.reaper.window.shown_texts
    assert not any("no answer" in text for text in stage.reaper.window.shown_texts)
    stage.reaper.window.close()
    stage.end()


def test_a_reply_with_another_number_is_none(stage: Stage) -> None:
    song = stage.reaper.add_track("Mix")
    apply = {
        "do": "apply",
        "undo": "one",
        "ops": [["insert_track", "$t", song.guid, 0]],
        "then": "x",
        "with": 1,
    }
    answered: list[Note] = []

    def answer(note: Note) -> Reply:
        answered.append(note)
        return reply(apply) if len(answered) == 1 else reply()

    stage.courier.answer = answer
    stage.start()
    stage.courier.work()
    stage.tick_until(lambda: len(stage.reaper.current.tracks) == 2)
    # The note about it is on its way; the old reply still lies there, and so do others that are none.
    assert stage.courier.status is not None
    nothings: list[Any] = [None, [], 5]
    others: list[Any] = [{"n": 2, "reply": nothing} for nothing in nothings]
    for status in [{"n": 1, "reply": reply(apply)}, {"n": 7, "reply": reply(apply)}, [], {"n": 2}, *others]:
        stage.courier.write(status)
        for _ in range(4):
            stage.reaper.tick()
    stage.courier.status.write_text('{"n": 2, "reply": {"v": 1, "ord', encoding="utf-8")
    for _ in range(4):
        stage.reaper.tick()
    assert len(stage.reaper.current.tracks) == 2
    assert len(stage.reaper.scripts) == 1
    stage.end()
    assert len(answered) == 2


def test_a_courier_that_left_for_want_of_work_is_back_with_the_next_note(stage: Stage) -> None:
    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            return reply({"do": "wait", "seconds": 100.0, "then": "x", "with": 1})
        return reply()

    stage.courier.answer = answer
    stage.start()
    stage.tick(10)
    stage.courier.kill()
    stage.reaper.clock_s += 100.0
    stage.tick(10)
    assert stage.courier.starts == 2
    assert len(stage.courier.notes) == 2
    stage.end()


def test_a_request_that_cannot_be_written_is_tried_again(stage: Stage) -> None:
    stage.work.parent.mkdir(parents=True)
    stage.work.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "RecursiveCreateDirectory", lambda *_: 0)
        stage.start()
        stage.tick(5)
    assert any("could not write" in text for text in stage.reaper.window.shown_texts)
    stage.work.unlink()
    assert stage.courier.starts == 0
    stage.tick_until(lambda: stage.courier.starts == 1)
    stage.reaper.window.close()
    stage.end()
    assert len(stage.courier.notes) == 1


def test_a_request_is_replaced_whole(stage: Stage) -> None:
    stage.courier.answer = Splitting()
    stage.start()
    assert stage.courier.request is not None
    with stage.courier.request.open(encoding="utf-8") as first:
        stage.tick_until(lambda: len(stage.courier.notes) == 2)
        assert json.loads(first.read())["n"] == 1
    assert [path.name for path in stage.courier.request.parent.iterdir() if path.suffix == ".tmp"] == []


def test_a_windows_that_renames_onto_nothing_else_is_spoken_to(stage: Stage) -> None:
    stage.reaper.os_name = "Win64"
    stage.courier.answer = lambda note: (
        reply({"do": "wait", "seconds": 0, "then": "x", "with": "x"}) if note["say"] == "act" else reply()
    )
    stage.reaper.ext["stembridge", "inbox"] = "split"
    script = LuaScript(stage.reaper, stage.action("split").with_name(f"{LOOP}.lua"))
    rename = script.globals.os.rename

    def rename_as_windows_does(old: str, new: str) -> Any:
        return (None, "File exists") if Path(new).exists() else rename(old, new)

    script.globals.os.rename = rename_as_windows_does
    stage.reaper.start(script)
    stage.end()
    assert len(stage.courier.notes) == 2
    assert stage.courier.starts == 1


def test_where_nothing_can_be_renamed_a_request_is_written_all_the_same(stage: Stage) -> None:
    stage.reaper.os_name = "Win64"
    stage.courier.answer = lambda note: (
        reply({"do": "wait", "seconds": 0, "then": "x", "with": "x"}) if note["say"] == "act" else reply()
    )
    stage.reaper.ext["stembridge", "inbox"] = "split"
    script = LuaScript(stage.reaper, stage.action("split").with_name(f"{LOOP}.lua"))
    script.globals.os.rename = lambda old, new: (None, "No such file or directory")
    script.globals.os.remove = lambda path: (None, "No such file or directory")
    stage.reaper.start(script)
    stage.end()
    assert [note["say"] for note in stage.courier.notes] == ["act", "resume"]
    assert stage.courier.starts == 1


def test_a_second_action_goes_to_the_script_that_runs(stage: Stage) -> None:
    daemon = Splitting()
    stage.courier.answer = daemon
    stage.start("split")
    stage.tick(10)
    stage.start("toggle")
    stage.start("audition")
    stage.tick(20)
    assert [note["action"] for note in daemon.says("act")] == ["split", "toggle", "audition"]
    assert stage.courier.starts == 1
    assert len(stage.reaper.scripts) == 1
    assert ("stembridge", "inbox") not in stage.reaper.ext
    daemon.is_over = True
    stage.tick(30)
    stage.reaper.window.close()
    stage.end()
    stage.start("null_test")
    stage.tick(10)
    assert stage.courier.starts == 2


def test_the_same_action_again_asks_nothing_and_waits_its_turn(stage: Stage) -> None:
    daemon = Splitting()
    stage.courier.answer = daemon
    for _ in range(3):
        stage.start("split")
        stage.tick(5)
    assert [note["action"] for note in daemon.says("act")] == ["split"] * 3
    assert [script.path.stem for script in stage.reaper.scripts] == [LOOP]
    (command,) = [number for path, number in stage.reaper.registered.items() if LOOP in path]
    assert stage.reaper.toggle_states[command] == 1
    daemon.is_over = True
    stage.tick(30)
    stage.reaper.window.close()
    stage.end()
    assert stage.reaper.toggle_states[command] == 0
    assert stage.reaper.current.undo == []


def test_a_reaper_that_does_not_take_the_loop_says_so(stage: Stage) -> None:
    stage.action("split").with_name(f"{LOOP}.lua").unlink()
    stage.start()
    stage.end()
    assert "does not take" in stage.reaper.console[-1]


def test_a_script_that_died_is_not_waited_for(stage: Stage) -> None:
    stage.reaper.ext["stembridge", "inbox"] = "split,split"
    stage.start("toggle")
    stage.end()
    assert [note["action"] for note in stage.courier.notes] == ["toggle"]


def test_every_action_says_its_own_name(stage: Stage) -> None:
    for action in ACTIONS:
        stage.start(action)
        stage.end()
    assert [note["action"] for note in stage.courier.notes] == list(ACTIONS)


def test_a_script_that_is_ended_leaves_nothing(stage: Stage) -> None:
    stage.courier.answer = Splitting()
    stage.start()
    stage.tick(20)
    (loop,) = stage.reaper.scripts
    stage.reaper.terminate(loop)
    stage.reaper.check()
    assert not stage.reaper.window.is_open


def test_without_its_configuration_an_action_says_what_to_do(stage: Stage) -> None:
    (stage.home / "stembridge_config.json").unlink()
    stage.start()
    stage.end()
    assert "stembridge reaper install" in "".join(stage.reaper.console)
    assert stage.courier.starts == 0
    assert stage.reaper.current.undo == []


def test_the_package_offers_every_action_and_nothing_else(stage: Stage) -> None:
    package = Path(shutil.copy(SCRIPTS / "stembridge.lua", stage.home))
    stage.reaper.shelf.virtual[str(stage.folder / "my bin" / "stembridge")] = Media(np.zeros((1, 1)), RATE)
    stage.reaper.answers.append(("showmenu", 0))
    stage.reaper.start_lua(package)
    stage.end()
    (menu,) = [text for kind, text in stage.reaper.asked if kind == "showmenu"]
    assert menu.split("|") == sorted(file_stem(action).removeprefix("stembridge_") for action in ACTIONS)


def test_what_the_user_is_asked_and_answers(stage: Stage) -> None:
    stage.reaper.answers.extend(
        [
            ("MB", 6),
            ("MB", 7),
            ("MB", 2),
            ("GetUserInputs", "4 stems, fast\n\nü"),
            ("GetUserInputs", None),
            ("GetUserFileNameForRead", "/stems/größer.wav"),
            ("GetUserFileNameForRead", None),
        ]
    )
    fields = {
        "do": "ask",
        "kind": "fields",
        "captions": ["Stems", "Model, own", "x"],
        "values": ["4, 5", "", "a\nb"],
    }
    results = stage.carry_out(
        {"do": "ask", "kind": "yes_no", "title": "Sure?", "text": "It costs 1 GB"},
        {"do": "ask", "kind": "yes_no_cancel", "title": "Sure?", "text": "Keep?"},
        {"do": "ask", "kind": "yes_no_cancel", "title": "Sure?", "text": "Keep?"},
        fields | {"title": "Choose", "text": ""},
        fields | {"title": "Choose", "text": ""},
        {"do": "ask", "kind": "file", "path": "/stems/", "title": "Which", "text": ""},
        {"do": "ask", "kind": "file", "path": None, "title": "Which", "text": ""},
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
    assert results[3]["values"] == ["4 stems, fast", "", "ü"]
    assert results[5]["values"] == ["/stems/größer.wav"]
    assert all(results[at]["values"] == [] for at in (0, 1, 2, 4, 6))
    asked = [text for _, text in stage.reaper.asked]
    assert "Stems,Model  own,x" in asked[3] or "Stems,Model own,x" in asked[3]
    assert "separator=\n" in asked[3]
    assert "[4, 5\n\na b]" in asked[3]
    assert "/stems/" in asked[5]


def test_playing_is_started_and_stopped(stage: Stage) -> None:
    assert stage.carry_out({"do": "play", "on": True}) == [{}]
    assert stage.reaper.current.play_state == 1
    assert stage.carry_out({"do": "play", "on": False}) == [{}]
    assert stage.reaper.current.play_state == 0


@pytest.mark.parametrize("rate_factor", [0.75, 1.0, 1.1, 2.0])
def test_listening_gives_the_samples_of_the_source(stage: Stage, rate_factor: float) -> None:
    path = stage.add_media()
    track = stage.reaper.add_track("Mix")
    item = stage.add_item(
        track, path, D_POSITION=3.0, take_D_STARTOFFS=1.0, take_D_PLAYRATE=rate_factor, take_B_PPITCH=0
    )
    start_s, frames = 2.0, 10000
    order = {"do": "listen", "guid": item.guid, "start_s": start_s, "frames": frames, "rate": RATE}
    [result] = stage.carry_out(order)
    heard = stage.reaper.shelf.virtual[path].samples[0, round(start_s * RATE) :][:frames]
    assert np.array(result["samples"]) / 2**23 == pytest.approx(heard, abs=2**-23)


def test_nothing_is_listened_to_at_a_rate_that_no_accessor_has(stage: Stage) -> None:
    track = stage.reaper.add_track("Mix")
    item = stage.add_item(track, stage.add_media(), take_D_PLAYRATE=1.00001)
    order = {"do": "listen", "guid": item.guid, "start_s": 1.0, "frames": 10, "rate": RATE}
    assert stage.carry_out(order) == [{"samples": []}]


def test_listening_to_what_is_gone_is_said(stage: Stage) -> None:
    [result] = stage.carry_out({"do": "listen", "guid": "{GONE}", "start_s": 0.0, "frames": 10, "rate": RATE})
    assert (result["ok"], result["reason"]) == (False, "missing")


# what the user sees


@pytest.fixture(scope="module")
def panel() -> Any:
    """The module panel.lua outside of any REAPER."""
    lua = lupa.LuaRuntime()
    return Panel(lua, lua.execute((SCRIPTS / "lib" / "panel.lua").read_text(encoding="utf-8")))


class Panel:
    """What the window would draw, and where one can click."""

    def __init__(self, lua: Any, module: Any) -> None:
        self.lua = lua
        self.module = module
        self._measure = lua.eval("function(font, text) return 7 * utf8.len(text) end")

    def arrange(
        self,
        view: dict[str, Any],
        width: float = 460,
        height: float = 200,
        scale: float = 1,
        scroll: float = 0,
    ) -> Any:
        full = {"line": "Splitting", "rows": [], "lines": [], "asked": {}, "is_busy": True} | view
        table = self.lua.table_from(full, recursive=True)
        return self.module.arrange(table, width, height, scale, self._measure, scroll, None)

    def texts(self, page: Any) -> list[str]:
        return [shape.text for shape in page.shapes.values() if shape.kind == "text"]

    def area(self, page: Any, action: str, row: str | None = None) -> tuple[float, float]:
        """Return the middle of what a click would hit."""
        [found] = [area for area in page.areas.values() if area.action == action and area.row == row]
        return found.x + found.w / 2, found.y + found.h / 2


def test_a_row_says_name_state_and_time(panel: Any) -> None:
    view = {"rows": [_row("a", fraction=0.256, eta_s=12.0, text="separate")], "eta_s": 65.0, "fraction": 0.4}
    texts = panel.texts(panel.arrange(view))
    for text in (
        "Splitting",
        "1:05 min left",
        "item a",
        "separate",
        "running 25 %  12 s",
        "Cancel all",
        "Hide",
        "0 of 1",
    ):
        assert text in texts


@given(
    rows=st.lists(
        st.tuples(st.text(), st.sampled_from(["waiting", "running", "done", "odd"]), st.text()), max_size=30
    ),
    lines=st.lists(st.text(), max_size=5),
    size=st.tuples(st.integers(120, 1500), st.integers(110, 900)),
    scale=st.sampled_from([1.0, 1.5, 2.0]),
    scroll=st.floats(-1e4, 1e4),
)
def test_nothing_leaves_the_window(
    panel: Any, rows: list[Any], lines: list[str], size: tuple[int, int], scale: float, scroll: float
) -> None:
    shown = [
        {"id": str(at), "label": name, "state": state, "text": text}
        for at, (name, state, text) in enumerate(rows)
    ]
    told = [{"text": line, "is_error": False} for line in lines]
    page = panel.arrange({"rows": shown, "lines": told, "notice": "No answer " * 20}, *size, scale, scroll)
    assert 0 <= page.scroll <= page.max_scroll
    for shape in page.shapes.values():
        if shape.kind == "text":
            assert shape.x >= -1e-6
            assert shape.x + shape.w <= size[0] + 1e-6
            assert "\n" not in shape.text
    for area in page.areas.values():
        if area.action == "cancel":
            assert area.y >= page.top
            assert area.y + area.h <= page.bottom


def test_long_names_are_cut_and_long_lines_are_wrapped(panel: Any) -> None:
    view = {"rows": [_row("a", label="größer " * 40)], "lines": [{"text": "one two " * 20, "is_error": True}]}
    texts = panel.texts(panel.arrange(view, height=400))
    assert any(text.startswith("größer") and text.endswith("…") for text in texts)
    wrapped = [text for text in texts if text.startswith("one two") or text.startswith("two one")]
    assert len(wrapped) >= 2
    assert " ".join(wrapped).split() == ["one", "two"] * 20


def test_the_window_asks_for_more_height_up_to_a_limit(panel: Any) -> None:
    heights = [
        panel.arrange({"rows": [_row(str(at)) for at in range(count)]}).wanted_height
        for count in (1, 5, 8, 100)
    ]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (200, 440)
    assert panel.arrange({"rows": [_row("a")]}, 920, 400, 2.0).wanted_height == 400


def test_rows_that_have_ended_cannot_be_cancelled(panel: Any) -> None:
    ended = panel.arrange({"rows": [_row("a", "done"), _row("b", "failed")], "is_busy": False})
    assert {area.action for area in ended.areas.values()} == {"hide"}
    assert "Close" in panel.texts(ended)
    asked = panel.arrange({"rows": [_row("a"), _row("b")], "asked": {"a": True}})
    assert [area.row for area in asked.areas.values() if area.action == "cancel"] == ["b"]
    assert "cancelling" in panel.texts(asked)


def test_scrolling_brings_the_last_row(panel: Any) -> None:
    view = {"rows": [_row(str(at)) for at in range(50)]}
    assert "item 0" in panel.texts(panel.arrange(view))
    assert "item 49" not in panel.texts(panel.arrange(view))
    end = panel.texts(panel.arrange(view, scroll=1e9))
    assert "item 49" in end
    assert "item 0" not in end


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1:00 min"), (3599, "59:59 min"), (3900, "1 h 05 min")],
)
def test_times_are_said_as_people_do(panel: Any, seconds: float, text: str) -> None:
    assert panel.module.format_time(seconds) == text


def test_quick_work_opens_no_window(stage: Stage) -> None:
    stage.carry_out({"do": "play", "on": True}, {"do": "wait", "seconds": 0.5})
    assert stage.reaper.window.title == ""


def test_the_window_opens_with_the_first_rows_and_stays_until_it_is_closed(stage: Stage) -> None:
    daemon = Splitting()
    stage.courier.answer = daemon
    stage.start()
    assert not stage.reaper.window.is_open
    stage.tick(20)
    assert stage.reaper.window.title == "Stembridge"
    assert "item a" in stage.reaper.window.shown_texts
    assert "running 25 %  12 s" in stage.reaper.window.shown_texts
    daemon.is_over = True
    stage.tick(60)
    assert "done" in stage.reaper.window.shown_texts
    assert "Close" in stage.reaper.window.shown_texts
    assert len(stage.reaper.scripts) == 1
    stage.reaper.window.close()
    stage.end(5)


@pytest.mark.parametrize("how", ["escape", "close", "button"])
def test_hiding_stops_nothing(stage: Stage, panel: Any, how: str) -> None:
    daemon = Splitting()
    stage.courier.answer = daemon
    stage.start()
    stage.tick(20)
    window = stage.reaper.window
    if how == "escape":
        window.keys.append(27)
    elif how == "close":
        window.close()
    else:
        x, y = panel.area(panel.arrange({"rows": daemon.rows}), "hide")
        window.click(x, y)
        stage.tick()
        window.click(x, y, is_down=False)
    stage.tick(2)
    assert not window.is_open
    before = len(daemon.said)
    stage.tick(30)
    assert len(daemon.said) > before
    assert not window.is_open
    assert not daemon.says("cancel")
    stage.start("jobs")
    stage.tick(20)
    assert window.is_open
    window.keys.append(27)
    daemon.is_over = True
    stage.end()


def _click(stage: Stage, place: tuple[float, float], *, let_go_at: tuple[float, float] | None = None) -> None:
    stage.reaper.window.click(*place)
    stage.tick()
    stage.reaper.window.click(*(let_go_at or place), is_down=False)
    stage.tick()


def test_cancel_says_which_and_what_is_shown(stage: Stage, panel: Any) -> None:
    daemon = Splitting(_row("a"), _row("b"), _row("c", "done"))
    stage.courier.answer = daemon
    stage.start()
    stage.tick(20)
    page = panel.arrange({"rows": daemon.rows})
    _click(stage, panel.area(page, "cancel", "b"), let_go_at=panel.area(page, "hide"))
    stage.tick(10)
    assert daemon.says("cancel") == []
    _click(stage, panel.area(page, "cancel", "b"))
    stage.tick(10)
    [note] = daemon.says("cancel")
    assert (note["row"], note["rows"]) == ("b", ["a", "b", "c"])
    assert "cancelling" in stage.reaper.window.shown_texts
    _click(stage, panel.area(page, "cancel", "b"))
    _click(stage, panel.area(page, "cancel_all"))
    stage.tick(10)
    assert [note["row"] for note in daemon.says("cancel")] == ["b", "all"]
    _click(stage, panel.area(page, "cancel_all"))
    stage.tick(10)
    assert len(daemon.says("cancel")) == 2
    daemon.is_over = True
    stage.tick(30)
    stage.reaper.window.keys.append(27)
    stage.end()


def test_new_work_can_be_cancelled_after_all_was(stage: Stage, panel: Any) -> None:
    daemon = Splitting(_row("a"))
    stage.courier.answer = daemon
    stage.start()
    stage.tick(20)
    cancel_all = panel.area(panel.arrange({"rows": daemon.rows}), "cancel_all")
    _click(stage, cancel_all)
    daemon.is_over = True
    stage.tick(30)
    daemon.is_over, daemon.rows = False, [_row("b")]
    stage.start()
    stage.tick(20)
    _click(stage, cancel_all)
    stage.tick(10)
    assert [note["rows"] for note in daemon.says("cancel")] == [["a"], ["b"]]
    daemon.is_over = True
    stage.tick(30)
    stage.reaper.window.keys.append(27)
    stage.end()


def test_place_and_dock_are_remembered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    window = stage.reaper.window
    opened: list[tuple[float, ...]] = []
    init = window.init

    def spy_init(name: str, *place: float) -> int:
        opened.append(place)
        return int(init(name, *place))

    monkeypatch.setattr(window, "init", spy_init)
    monkeypatch.setattr(window, "dock", lambda state, *_: (257, -40, 30, 500, 300) if _ else 257)
    for _ in range(2):
        stage.courier.answer = lambda _: reply({"do": "tell", "text": "hello"})
        stage.start()
        stage.tick_until(lambda: window.is_open)
        window.keys.append(27)
        stage.end()
    assert opened == [(460, 200, 0), (500, 300, 257, -40, 30)]


def test_the_window_grows_with_its_rows_unless_the_user_sized_it(stage: Stage) -> None:
    daemon = Splitting(_row("a"))
    stage.courier.answer = daemon
    stage.start()
    stage.tick(20)
    variables = stage.reaper.window.variables
    assert variables["h"] == 200
    daemon.rows = [_row(str(at)) for at in range(6)]
    stage.tick(20)
    assert 200 < variables["h"] < 440
    variables["h"] = 260
    daemon.rows = [_row(str(at)) for at in range(60)]
    stage.tick(20)
    assert variables["h"] == 260
    daemon.is_over = True
    stage.tick(20)
    stage.reaper.window.close()
    stage.end()


@pytest.mark.parametrize(
    ("os_name", "is_doubled"), [("Other", False), ("Win64", False), ("macOS-arm64", True)]
)
def test_a_dense_screen_gets_a_window_of_the_same_size(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, os_name: str, is_doubled: bool
) -> None:
    """REAPER on macOS counts the window in points, elsewhere in pixels; it draws in pixels everywhere."""
    window, variables = stage.reaper.window, stage.reaper.window.variables
    init = window.init

    def open_on_dense_screen(name: str, *place: float) -> int:
        code = init(name, *place)
        variables["ext_retina"] = 2.0
        if is_doubled:
            variables.update(w=place[0] * 2, h=place[1] * 2)
        return int(code)

    monkeypatch.setattr(window, "init", open_on_dense_screen)
    stage.reaper.os_name = os_name
    daemon = Splitting()
    stage.courier.answer = daemon
    stage.start()
    stage.tick(20)
    assert (variables["w"], variables["h"]) == (920, 400)
    daemon.rows = [_row(str(at)) for at in range(60)]
    stage.tick(20)
    assert (variables["w"], variables["h"]) == (920, 880)
    daemon.is_over = True
    window.keys.append(27)
    stage.end()


def test_stems_land_where_the_window_is_what_fails(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down() -> None:
        raise RuntimeError("no such screen")

    monkeypatch.setattr(stage.reaper.window, "update", break_down)
    song = stage.reaper.add_track("Mix")
    operations = [["insert_track", "$t", song.guid, 0]]

    def answer(note: Note) -> Reply:
        if note["say"] == "act":
            return reply({"do": "wait", "seconds": 5.0, "then": "x", "with": "x"}, panel=_panel(_row("a")))
        return reply({"do": "apply", "undo": "one", "ops": operations}, panel=_panel(_row("a", "done")))

    stage.courier.answer = answer
    stage.start()
    stage.end()
    assert len(stage.reaper.current.tracks) == 2
    assert len(stage.reaper.console) == 1
    assert "no such screen" in stage.reaper.console[0]


def test_a_refusal_is_shown_and_ends_its_thread(stage: Stage) -> None:
    error = {"code": "no_model", "message": "model x is not here", "hint": "stembridge models fetch x"}
    stage.courier.answer = lambda _: {"v": 1, "error": error}
    stage.start()
    stage.tick(20)
    assert "model x is not here (stembridge models fetch x)" in stage.reaper.window.shown_texts
    stage.reaper.window.close()
    stage.end(5)
    assert stage.reaper.console == []
    assert len(stage.courier.notes) == 1


def test_what_failed_behind_a_hidden_window_is_said_at_the_end(stage: Stage) -> None:
    daemon = Splitting()
    stage.courier.answer = daemon
    stage.start()
    stage.tick(20)
    stage.reaper.window.keys.append(27)
    stage.tick(10)
    stage.courier.answer = lambda _: reply(
        {"do": "tell", "text": "drums: skipped, MIDI"},
        {"do": "tell", "text": "bass: no room", "is_error": True},
    )
    stage.end()
    assert not stage.reaper.window.is_open
    [said] = stage.reaper.console
    assert "drums: skipped, MIDI" in said
    assert "bass: no room" in said


def test_what_came_of_it_behind_a_hidden_window_is_on_the_status_line(stage: Stage) -> None:
    daemon = Splitting()
    stage.courier.answer = daemon
    stage.start()
    stage.tick_until(lambda: stage.reaper.window.is_open)
    stage.reaper.window.close()
    stage.tick(5)
    daemon.is_over = True
    told = [{"do": "tell", "text": "fetched"}, {"do": "tell", "text": "4 stems of mix"}]
    stage.courier.answer = lambda note: reply(*told) if note["say"] == "resume" else daemon(note)
    stage.end()
    assert stage.reaper.help_texts == ["Stembridge: 4 stems of mix"]
    assert stage.reaper.console == []


def test_an_unknown_order_is_said_and_the_rest_goes_on(stage: Stage) -> None:
    stage.courier.answer = lambda note: (
        reply({"do": "dance", "then": "x", "with": 1}, {"do": "wait", "seconds": 0, "then": "y", "with": 2})
        if note["say"] == "act"
        else reply()
    )
    stage.start()
    stage.tick(20)
    assert any("no order called dance" in text for text in stage.reaper.window.shown_texts)
    stage.reaper.window.close()
    stage.end()
    assert [note.get("then") for note in stage.courier.notes] == [None, "y"]


def test_a_reply_that_makes_no_sense_is_said_once_and_survived(stage: Stage) -> None:
    odd: list[Any] = [
        {"orders": [5]},
        {"orders": [{"do": "apply"}]},
        {"panel": {"rows": [1]}},
        {"orders": {"a": 1}},
        {},
    ]
    stage.courier.answer = lambda _: odd.pop()
    for _ in range(5):
        stage.start()
        stage.tick(10)
        stage.reaper.window.close()
        stage.end()
    assert odd == []
