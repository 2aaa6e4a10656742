"""The desk answers whatever comes: orders for a note, one sentence for what is none, and it stays up."""

from __future__ import annotations

import base64
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_house import FakeHouse
from stembridge.reaper.desk import HOLD_S, STARTS, STEPS, Desk
from stembridge.reaper.house import House
from stembridge.reaper.placing import Ticket
from stembridge.reaper.preferences import Preferences, locate_preferences, write_preferences
from stembridge.reaper.requests import Options
from stembridge.reaper.snapshot import ITEM_VALUES, TAKE_VALUES, TRACK_VALUES, read_snapshot
from stembridge.reaper.threads.batch import Batch, Entry, RowState
from stembridge.reaper.turn import pack, unpack
from stembridge.types import SplitRequest

STOPPED, PLAYING, PAUSED, RECORDING = 0, 1, 2, 4
SNAPSHOT: dict[str, Any] = {
    "project": {"name": "p", "path": "/p", "media_dir": "/p/media", "is_saved": True, "rate": 48_000},
    "host": {"play": 0, "cursor": 1.0, "time_selection": [0, 0]},
    "tracks": [
        {"guid": "{T}", "name": "Mix", "tag": "", "fx": 0, "values": dict.fromkeys(TRACK_VALUES, 0.0)},
    ],
    "items": [
        {
            "guid": "{I}", "track": "{T}", "is_selected": True, "notes": "", "tag": "", "takes": 1,
            "values": dict.fromkeys(ITEM_VALUES, 0.0) | {"D_LENGTH": 2.0},
            "take": {
                "guid": "{K}", "index": 0, "name": "song",
                "values": dict.fromkeys(TAKE_VALUES, 1.0) | {"D_PITCH": 0.0},
                "source": {
                    "type": "WAVE", "path": "/p/song.wav", "exists": True, "rate": 44_100, "channels": 2,
                    "length": 9.0, "file_length": 9.0,
                },
            },
        }
    ],
}  # fmt: skip
RESULTS: list[dict[str, Any]] = [
    {}, SNAPSHOT, {"ok": True, "ms": 1.5, "made": {"$a": "{A}"}, "read": {"path": "/p/b.wav"}},
    {"ok": False, "reason": "changed", "at": 0, "text": "changed"}, {"answer": "yes", "values": ["good", ""]},
    {"samples": [1, -2, 3]}, {"done": False},
]  # fmt: skip


@pytest.fixture
def house(tmp_path: Path) -> FakeHouse:
    return FakeHouse(tmp_path / "home")


def ask(house: House, **note: Any) -> dict[str, Any]:
    """Return what the desk replies."""
    return ask_bytes(house, json.dumps({"v": 1, "script": "test"} | note).encode())


def ask_bytes(house: House, note: bytes) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(Desk(house).answer(note))
    assert reply["v"] == 1
    assert ("error" in reply) != ("orders" in reply)
    if "error" in reply:
        assert set(reply["error"]) == {"code", "message", "hint"}
        assert reply["error"]["message"] and "\n" not in reply["error"]["message"]
    return reply


def make_batch() -> Batch:
    """Return a batch that waits for a job and has one entry to place."""
    item = read_snapshot(SNAPSHOT).items[0]
    entry = Entry(ticket=Ticket(item=item, job="a job"), state=RowState.PLACING)
    return Batch(
        options=Options(), items=(item,), windows=(None,), entries=(entry,), subject=item.guid, current=0
    )


def test_an_action_begins_with_an_order(house: FakeHouse) -> None:
    (order,) = ask(house, say="act", action="split")["orders"]
    assert (order["do"], order["what"], order["then"]) == ("collect", "tagged", "batch.selected")
    assert order["then"] in STEPS


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (b"", "truncated"),
        (b"no json", "malformed"),
        (b'{"v": 1, "say": "act"', "truncated"),
        (b"\xff\xfe{}", "not understood"),
        (b"[]", "array"),
        (b"null", "null"),
        (b'{"say": "act"}', "`v`"),
        (b'{"v": 1}', "`say`"),
        (b'{"v": 1, "say": 3}', "$.say"),
        (b'{"v": 1, "say": "act", "host": {"play": "loud"}}', "$.host.play"),
        (b'{"v": 1, "say": "act", "memory": []}', "$.memory"),
        (b'{"v": 1, "say": "cancel", "rows": "all"}', "$.rows"),
        (b"[" * 100_000, "not understood"),
        (b'{"v": 1, "say": "act", "later": ' + b"[" * 100_000, "not understood"),
    ],
)
def test_what_is_no_note_is_answered_with_a_sentence(house: FakeHouse, note: bytes, said: str) -> None:
    error = ask_bytes(house, note)["error"]
    assert (
        error["code"] == "bad_request" and "not understood" in error["message"] and said in error["message"]
    )
    assert error["hint"] == "stembridge reaper install"


@pytest.mark.parametrize(
    "note", [{"v": 2, "say": "act", "action": "split"}, {"v": 3, "utter": ["all", "is", "new"]}]
)
def test_another_version_is_told_both_whatever_else_it_says(house: FakeHouse, note: dict[str, Any]) -> None:
    error = ask_bytes(house, json.dumps(note).encode())["error"]
    assert error["code"] == "bad_protocol"
    assert error["message"] == f"the script speaks version {note['v']}, this daemon speaks 1"


@pytest.mark.parametrize(
    "note",
    [
        {"say": "act", "action": "juggle"},
        {"say": "act"},
        {"say": "resume", "then": "batch.juggle", "with": pack(make_batch())},
        {"say": "sing"},
    ],
)
def test_what_the_desk_does_not_know_is_named(house: FakeHouse, note: dict[str, Any]) -> None:
    error = ask(house, **note)["error"]
    asked = note.get("action") or note.get("then") or note["say"]
    assert repr(asked) in error["message"] and "update" in error["hint"]


@pytest.mark.parametrize(
    "carried",
    ["", 'no base85 ~~~"', pack(make_batch())[:-7], pack(make_batch())[::-1], pack(None), "é" * 40,
     base64.b85encode(zlib.compress(b"\x91" * 100_000)).decode(), base64.b85encode(b"no zlib").decode()],
    ids=["empty", "garbage", "cut", "turned", "none", "no ascii", "deep", "not packed"],
)  # fmt: skip
def test_what_was_not_packed_here_is_refused(house: FakeHouse, carried: str) -> None:
    for then in STEPS:
        error = ask(house, say="resume", then=then, result={}, **{"with": carried})["error"]
        assert (error["code"], error["hint"]) == ("bad_request", "run the action again"), then


def test_what_another_thread_has_packed_is_refused(house: FakeHouse) -> None:
    ticket = pack(Ticket(item=make_batch().items[0], job="a"))
    assert ask(house, say="resume", then="batch.look", **{"with": ticket})["error"]["code"] == "bad_request"


def test_a_bomb_does_not_go_off(house: FakeHouse) -> None:
    bomb = pack(msgspec.structs.replace(make_batch(), label=" " * (65 << 20)))
    assert len(bomb) < 1 << 20
    error = ask(house, say="resume", then="batch.look", result={}, **{"with": bomb})["error"]
    assert error["code"] == "bad_request"


def test_what_is_packed_comes_back_as_it_was() -> None:
    batch = make_batch()
    assert unpack(pack(batch), Batch) == batch
    assert set(pack(batch)).isdisjoint("\"\\'"), "a word that every script can quote"


@pytest.mark.parametrize(
    "result",
    [[], [1], 1, "yes", True, {"samples": "loud"}, {"samples": [0.5]}, {"read": []}, {"read": {"path": 3}},
     {"answer": ["yes"]}, {"values": "x"}, {"ok": "yes"}, {"made": [1]}],
)  # fmt: skip
def test_a_result_of_a_wrong_shape_is_refused(house: FakeHouse, result: Any) -> None:
    for then in STEPS:
        error = ask(house, say="resume", then=then, result=result, **{"with": pack(make_batch())})["error"]
        assert error["code"] == "bad_request" and "$.result" in error["message"], then


BROKEN: list[tuple[Any, str]] = [
    ({}, "project"),
    (SNAPSHOT | {"tracks": {}}, "$.tracks"),
    (SNAPSHOT | {"items": None}, "$.items"),
    (SNAPSHOT | {"items": [SNAPSHOT["items"][0] | {"values": {"D_POSITION": 0.0}}]}, "D_LENGTH"),
    (SNAPSHOT | {"items": [SNAPSHOT["items"][0] | {"take": {"guid": "{K}"}}]}, "index"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN)
def test_a_snapshot_that_lacks_something_is_refused_by_its_name(
    house: FakeHouse, broken: Any, said: str
) -> None:
    packed = {"with": pack(make_batch())}
    error = ask(house, say="resume", then="batch.selected", result=broken, **packed)["error"]
    assert error["code"] == "bad_request" and "snapshot" in error["message"] and said in error["message"]


@pytest.mark.parametrize(("broken", "said"), BROKEN)
def test_one_item_s_snapshot_that_lacks_something_fails_that_item(
    house: FakeHouse, broken: Any, said: str
) -> None:
    packed = {"with": pack(make_batch())}
    reply = ask(house, say="resume", then="batch.kin", result=broken, **packed)
    told = [order["text"] for order in reply["orders"] if order["do"] == "tell"]
    assert any("snapshot" in text and said in text for text in told)


def test_a_step_that_fails_is_told_and_logged(
    house: FakeHouse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(STARTS, "split", lambda turn: turn.memory["never remembered"])
    error = ask(house, say="act", action="split")["error"]
    assert (error["code"], error["hint"]) == ("internal", "stembridge daemon logs")
    assert "never remembered" in caplog.text


def test_a_typo_in_the_preferences_ends_nothing_that_is_under_way(house: FakeHouse) -> None:
    path = locate_preferences(house.settings)
    write_preferences(path, Preferences(hold_while="playing"))
    desk = Desk(house)
    playing = {"v": 1, "host": {"play": PLAYING}}
    resumed = {"say": "resume", "then": "batch.look", "with": pack(Batch(options=Options())), "result": {}}
    assert "error" not in reply_of(desk, playing | resumed)
    path.write_text("hold_while = ", "utf-8")
    assert "error" not in reply_of(desk, playing | resumed)
    assert house.held == [HOLD_S, HOLD_S], "what was set when the file was sound is still so"
    refusal = reply_of(desk, {"v": 1, "say": "act", "action": "split"})["error"]
    assert str(path) in refusal["message"]


def test_a_ping_says_what_reaper_does_and_is_given_nothing_to_do(house: FakeHouse) -> None:
    assert ask(house, say="ping", host={"play": RECORDING}) == {"v": 1, "orders": []}
    assert house.held == [HOLD_S]


def reply_of(desk: Desk, note: dict[str, Any]) -> Any:
    return json.loads(desk.answer(json.dumps(note).encode()))


def test_preferences_that_are_wrong_are_named(house: FakeHouse) -> None:
    path = locate_preferences(house.settings)
    path.parent.mkdir(parents=True)
    path.write_text("output = 'both'")
    error = ask(house, say="act", action="split")["error"]
    assert str(path) in error["message"] and "takes" in error["hint"]


HOLDS = [
    (
        "recording",
        {STOPPED: False, PLAYING: False, PAUSED: False, RECORDING: True, PLAYING | RECORDING: True},
    ),
    ("playing", {STOPPED: False, PLAYING: True, PAUSED: False, RECORDING: True, PLAYING | RECORDING: True}),
    ("never", {STOPPED: False, PLAYING: False, PAUSED: False, RECORDING: False, PLAYING | RECORDING: False}),
]


@pytest.mark.parametrize(("hold_while", "states"), HOLDS)
@pytest.mark.parametrize(
    "note",
    [
        {"say": "act", "action": "split"},
        {"say": "cancel", "row": "x"},
        {"say": "resume", "then": "batch.look", "with": pack(make_batch())},
    ],
    ids=["act", "cancel", "resume"],
)
def test_every_note_tells_whether_the_worker_is_to_wait(
    house: FakeHouse, hold_while: str, states: dict[int, bool], note: dict[str, Any]
) -> None:
    write_preferences(locate_preferences(house.settings), Preferences(hold_while=hold_while))
    for play, is_held in states.items():
        house.held.clear()
        assert "orders" in ask(house, host={"play": play, "cursor": 0.0, "project": ""}, **note)
        assert house.held == ([HOLD_S] if is_held else []), play


def test_cancel_names_one_row_or_all_and_forgives_unknown_ones(house: FakeHouse) -> None:
    house.holds_jobs = True
    for job_id in "abc":
        house.submit(SplitRequest("/s", "/o", "preview"), job_id)
    assert ask(house, say="cancel", row="b")["orders"] == []
    assert [job.state for job in house.jobs.values()] == ["queued", "cancelled", "queued"]
    assert ask(house, say="cancel", row="unknown", rows=["a"])["orders"] == []
    assert house.jobs["a"].state == "queued"
    ask(house, say="cancel", row="all", rows=["unknown", "a"])
    assert [job.state for job in house.jobs.values()] == ["cancelled", "cancelled", "queued"]


@cache
def make_house() -> FakeHouse:
    """Return a house for tests that play many notes: it can write nothing, and nothing is ever done."""
    house = FakeHouse(Path("/nowhere"))
    house.holds_jobs = house.holds_errands = True
    return house


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def walk(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of everything in a JSON value."""
    found = [path]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found += walk(inner, (*path, key))
    return found


@st.composite
def mutated_notes(draw: st.DrawFn) -> dict[str, Any]:
    """Return a note that a script could send, with some of it replaced or left out."""
    then = draw(st.sampled_from(sorted(STEPS)))
    kind = STEPS[then][0]
    others = (make_batch(), make_batch().entries[0], None)
    carried = draw_struct(draw, kind) if draw(st.booleans()) else draw(st.sampled_from(others))
    note: dict[str, Any] = {
        "v": 1, "script": "lua 0.1.0",
        "say": draw(st.sampled_from(["resume", "resume", "resume", "act", "cancel"])),
        "host": {"play": 0, "cursor": 1.0, "project": ""}, "memory": {"split": "x"},
        "action": draw(st.sampled_from(sorted(STARTS))), "then": then, "with": pack(carried),
        "result": json.loads(json.dumps(draw(st.sampled_from(RESULTS)))), "row": "all", "rows": ["a", "b"],
    }  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        *way, last = draw(st.sampled_from(walk(note)[1:]))
        owner = note
        for key in way:
            owner = owner[key]
        if draw(st.booleans()) or isinstance(owner, list):
            owner[last] = draw(JSON)
        else:
            del owner[last]
    return note


def draw_struct(draw: st.DrawFn, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
    """Return what a step may be about, made of nothing but its types."""
    if kind is Batch:
        batch = make_batch()
        changes = {
            "items": (),
            "windows": (),
            "entries": (),
            "subject": "gone",
            "current": 7,
            "folder": "/nowhere",
        }
        kept = draw(st.sets(st.sampled_from(sorted(changes))))
        return msgspec.structs.replace(batch, **{name: changes[name] for name in kept})
    try:
        return kind()
    except TypeError:
        return None


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(note=mutated_notes())
def test_whatever_is_wrong_with_a_note_it_is_answered(note: dict[str, Any]) -> None:
    ask_bytes(make_house(), json.dumps(note).encode())
    assert ask(make_house(), say="act", action="split")["orders"]


@settings(max_examples=200, deadline=None)
@given(note=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_answered(note: bytes) -> None:
    ask_bytes(make_house(), note)
