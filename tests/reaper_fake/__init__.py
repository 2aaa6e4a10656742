"""A strict fake REAPER for tests: one project model behind two faces, `RPR_*` and a Lua 5.4 table.

What is in `tests/reaper_contract.toml` exists and nothing else. A wrong name, arity, kind, parameter name or
value, a stale or null pointer, a change outside of one undo block in one tick, an unbalanced
PreventUIRefresh, a dialog nobody expects and a process that is waited for are each a `ContractBreach`: raised
on the spot, and recorded, so that a script's pcall or except does not hide it. `run_lua`, `run_python` and
`run_until_idle` raise what was recorded; after bare `tick()` calls use `reaper.check()`.

    reaper = FakeReaper(tmp_path)                              # resource folder; one empty tab is open
    reaper.shelf.virtual["/m/a.wav"] = Media(samples, 44100)   # a file of memory; files on disk work too
    track = reaper.add_track("Mix", I_FOLDERDEPTH=1)
    item = reaper.add_item(track, "/m/a.wav", D_POSITION=1.5, take_D_STARTOFFS=0.25)
    cut = section_of(reaper.shelf.source("/m/a.wav"), 0.1, 0.5, is_reversed=True)
    reaper.add_item(track, cut, B_LOOPSRC=1)
    reaper.select(item)
    reaper.answers.append(("MB", 6))                           # the next dialog is a message box: yes
    reaper.spawner = lambda command_line: ""                   # what ExecProcess starts, and returns
    reaper.run_lua(tmp_path / "action.lua")                    # local it = reaper.GetMediaItem(0, 0)
    reaper.run_python(tmp_path / "action.py")                  # it = RPR_GetMediaItem(0, 0)
    assert reaper.state() == other.state()                     # GUIDs are numbered in the order they are met
    heard = render_item(item, reaper.shelf.samples, 44100)     # reaper_fake.playback: the oracle, float64
    with reaper.user_edit("moved"):                            # what the user does between ticks
        item.values["D_POSITION"] = 2.0

- `start_lua` and `start_python` start a script beside others and return it, `tick()` runs everything deferred
  once (`tick_ms` has the real milliseconds of each, `calls_in_tick` counts the last one's calls by name),
  `terminate(script)` ends one as the user does.
- `run_code(language, code)` runs a few lines of either language. An action, which a user starts, leaves an
  undo step "ReaScript: <file>" where its file has run without deferring anything; such lines do not.
- `clock_s` is what time_precise returns; a tick moves it by 1/30 s.
- `window` is the gfx window: `keys`, `click`, `close()`, `shown_texts`. `asked`, `console`, `help_texts`,
  `commands`, `options` and `registered` hold what scripts said; `ext` is the ExtState all of them share.
- Take and track effects are ("gain", factor) or ("tanh", drive) in `fx`; `envelopes`, `stretch_markers` and
  `spectral_edits` of a take are numbers that a test sets.
- `missing` names functions this REAPER is too old for: InsertTrackInProject unless it is emptied.
- `undo_once` and `redo_once` are the user's; every pointer a script held before is stale then.
"""

from reaper_fake.contract import ContractBreach, read_contract
from reaper_fake.media import Media
from reaper_fake.model import FakeProject, Item, Source, Take, Track, section_of
from reaper_fake.playback import render_item, render_project
from reaper_fake.reaper import FakeReaper

__all__ = [
    "ContractBreach",
    "FakeProject",
    "FakeReaper",
    "Item",
    "Media",
    "Source",
    "Take",
    "Track",
    "read_contract",
    "render_item",
    "render_project",
    "section_of",
]
