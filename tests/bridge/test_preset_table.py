"""The table of what shipped presets do: all stand in it and keep their promise, which can be broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stembridge.presets import find_presets, read_preset
from stembridge.settings import load_settings

ROOT = Path(__file__).parents[2]
REPORT = json.loads((ROOT / "benchmarks" / "results" / "preset_table.json").read_text("utf-8"))


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import preset_table

    return preset_table


def test_the_page_is_the_one_that_the_benchmark_wrote(table: Any) -> None:
    assert (ROOT / "docs" / "presets.md").read_text("utf-8") == table.make_page(REPORT)


def test_every_shipped_preset_stands_there_and_keeps_its_promise(table: Any, tmp_path: Path) -> None:
    shipped = list(find_presets(load_settings(home=tmp_path, environ={})))
    rows = REPORT["figures"]["presets"]
    assert [row["preset"] for row in rows] == shipped == sorted(table.PROMISES)
    for row in rows:
        promise = table.PROMISES[row["preset"]]
        assert promise.is_kept(row["promise_db"]) and row["is_kept"], row
        assert abs(row["promise_db"]) >= 2.99 or row["preset"].endswith("-at-75"), row
        assert row["is_exact"], row
        heard, _, of = row["untouched"].partition(" of ")
        assert heard == of, row


@pytest.fixture
def case(table: Any, tmp_path: Path) -> Any:
    return table.make_case(tmp_path / "song", 7, 4.0)


def test_no_promise_is_kept_by_a_song_that_nothing_was_done_to(table: Any, case: Any, tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, environ={})
    for name, path in find_presets(settings).items():
        untouched = table.Remix(case, read_preset(path), case.manifest, case.stems, case.original)
        value = table.PROMISES[name].measure(untouched)
        assert not table.PROMISES[name].is_kept(value), (name, value)


def test_what_is_measured_of_a_rendered_preset_is_what_is_there(
    table: Any, case: Any, tmp_path: Path
) -> None:
    settings = load_settings(home=tmp_path, environ={})
    remix = table.render(case, "drum-punch", settings, tmp_path / "out")
    assert set(remix.stems) == {*case.stems, "punch"}
    assert table.PROMISES["drum-punch"].is_kept(table.PROMISES["drum-punch"].measure(remix))
    facts = table.find_facts(remix)
    assert (facts.untouched, facts.untouchable, facts.is_exact) == (7, 7, True)
    bent = dict(remix.stems) | {"bass": remix.stems["bass"] + 2.0**-23}
    facts = table.find_facts(replace(remix, stems=bent))
    assert (facts.untouched, facts.is_exact) == (6, False)
    levels = table.measure_levels(case.sources, case.original + case.sources["piano"])
    assert levels["piano"] == pytest.approx(6.02, abs=0.01)
    assert np.abs([level for name, level in levels.items() if name != "piano"]).max() < 0.01
