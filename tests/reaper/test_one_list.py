"""Actions that run at the same time share one loop and one list, in both front ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fake_house import FakeHouse
from stage import LANGUAGES, BehindDesk, Stage
from stembridge.reaper.requests import Options
from stembridge.reaper.turn import pack


class Splitting:
    """A desk whose actions go on until they are told to end, each with a row of its own."""

    def __init__(self) -> None:
        self.over: set[str] = set()

    def answer(self, note: bytes) -> bytes:
        said = json.loads(note)
        action = said.get("action") or said["then"]
        is_over = action in self.over
        row = {"id": action, "label": f"item of {action}", "state": "done" if is_over else "running"}
        fraction = 1.0 if is_over else {"split": 0.5, "drums_rest": 0.1}[action]
        panel = {"line": action, "fraction": fraction, "eta_s": 0.0 if is_over else 20.0, "rows": [row]}
        wait = {"do": "wait", "seconds": 0.1, "then": action, "with": pack(Options())}
        return json.dumps({"v": 1, "orders": [] if is_over else [wait], "panel": panel}).encode()


@pytest.fixture(params=LANGUAGES)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    behind = BehindDesk(FakeHouse(tmp_path / "home"))
    found = Stage(tmp_path, request.param, behind)
    found.splitting = Splitting()  # type: ignore[attr-defined]
    behind.desk = found.splitting  # type: ignore[attr-defined]
    yield found
    found.close()


def tick(stage: Any, count: int = 60) -> None:
    """Let REAPER tick without closing the window."""
    for _ in range(count):
        stage.behind.pump()
        stage.reaper.tick()
        stage.reaper.check()


def shown(stage: Any) -> str:
    """Return all that the user sees now."""
    texts = stage.reaper.window.shown_texts if stage.language == "lua" else stage.reaper.help_texts[-1:]
    return "\n".join(texts)


def test_what_runs_at_the_same_time_is_one_list_with_one_total(stage: Any) -> None:
    stage.start("split")
    tick(stage)
    assert ("item of split" if stage.language == "lua" else "50%, 20 s left") in shown(stage)
    stage.start("drums_rest")
    tick(stage)
    if stage.language == "lua":
        assert "item of split" in shown(stage) and "item of drums_rest" in shown(stage)
        assert "40 s left" in shown(stage)
    else:
        assert "30%, 40 s left" in shown(stage)


def test_what_is_over_makes_room_for_what_is_new(stage: Any) -> None:
    stage.start("split")
    tick(stage)
    stage.splitting.over = {"split"}
    tick(stage)
    stage.start("drums_rest")
    tick(stage)
    assert "item of split" not in shown(stage)
    assert ("item of drums_rest" if stage.language == "lua" else "10%, 20 s left") in shown(stage)
