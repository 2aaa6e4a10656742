"""What `docs/watch.md` says of keys and states, held against what there is."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import stembridge.watch.status
from stembridge.cli.watch import _json_line
from stembridge.settings import load_settings
from stembridge.watch.dropped import Signature
from stembridge.watch.life import FileRow, FileState
from stembridge.watch.status import FileStatus, NowStatus, WatchStatus
from stembridge.watch.watcher import News
from stembridge.watch.wish_file import WATCHING, WISHES
from stembridge.watch.wishes import read_folder_settings, read_wish

PAGE = (Path(__file__).parents[2] / "docs" / "watch.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """Return what stands in backquotes in the first column of a table."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def example() -> str:
    found = re.search(r"```toml\n(.*?)```", section("What is wished for a file"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_is_understood(tmp_path: Path) -> None:
    (tmp_path / "stembridge.toml").write_text(example(), "utf-8")
    wish = read_wish(tmp_path, "beat.wav", load_settings(home=tmp_path / "home", environ={}))
    assert wish.split.format == "wav24" and wish.split.sessions == ("rpp", "dawproject")
    assert len(wish.remixes) == 2
    assert read_folder_settings(tmp_path).quiet_s == 2


def test_all_keys_stand_there() -> None:
    named = set(re.findall(r"`(\w+)`", section("What is wished for a file").split("| for | keys |")[1]))
    assert set(WISHES) <= named
    assert named <= set(WISHES)
    assert set(tomllib.loads(example())["watch"]) == set(WATCHING)


def test_all_states_stand_there() -> None:
    assert first_cells(section("How a file stands")) == {"settling", *FileState}


def test_all_keys_of_a_line_of_json_stand_there() -> None:
    row = FileRow("song.wav", Signature(1, 2, 3, 4, 5), "", FileState.DONE, 0.0)
    line = json.loads(_json_line(News(Path("drop").absolute(), row)))
    table = section("Lines of JSON")
    assert first_cells(table) == line.keys()


def test_all_keys_of_the_status_stand_there() -> None:
    known = {field.name for kind in (WatchStatus, FileStatus) for field in fields(kind)}
    text = section("stembridge-status.json")
    assert first_cells(text) == known | {"layout"}
    for field in fields(NowStatus):
        assert f"`{field.name}`" in text
    assert f"the {stembridge.watch.status.MOST_FILES} newest" in text
    for seconds in ("HEARTBEAT_S", "PROGRESS_S"):
        assert f"every {getattr(stembridge.watch.status, seconds):g} s" in text
