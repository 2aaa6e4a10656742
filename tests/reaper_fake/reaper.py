"""The host: tabs, pointers, ticks, dialogs, one list of breaches, and the state that tests compare."""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from reaper_fake.contract import Contract, ContractBreach, Language, read_contract
from reaper_fake.media import MediaShelf
from reaper_fake.model import FakeProject, Item, Source, Take, Track
from reaper_fake.window import Window

TICK_S = 1 / 30
_GUID = re.compile(r"\{[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\}")
POINTER_TYPES = {
    "project": "ReaProject*",
    "track": "MediaTrack*",
    "item": "MediaItem*",
    "take": "MediaItem_Take*",
    "source": "PCM_source*",
    "accessor": "AudioAccessor*",
}


@dataclass(eq=False, slots=True)
class Accessor:
    """One audio accessor of a take."""

    take: Take
    is_destroyed: bool = False


@dataclass(eq=False, slots=True)
class Pointer:
    """What a script holds of an object. It dies with the object, and with every undo and redo."""

    kind: str
    address: int
    target: Any
    is_dead: bool = False


class Script(Protocol):
    """One running script of either language."""

    path: Path

    @property
    def globals(self) -> Any:
        """The script's global names."""

    @property
    def is_running(self) -> bool:
        """Whether anything is deferred."""

    def start(self) -> None:
        """Run the file."""

    def run_deferred(self) -> None:
        """Run what was deferred by the last tick."""

    def finish(self) -> None:
        """Run what was to happen at exit."""


@dataclass(eq=False)
class FakeReaper:
    """One REAPER with one project tab. Tests build projects through the model; scripts come in by a face.

    `answers` is the queue of what the user says to dialogs: ("MB", 6), ("GetUserInputs", "a,b" or None),
    ("GetUserFileNameForRead", path or None), ("showmenu", 1), ("save", True). A dialog without its answer is
    a breach. `spawner` gets every command line of ExecProcess and returns its output. `missing` are functions
    that this REAPER is too old for.
    """

    resource_path: Path
    contract: Contract = field(default_factory=read_contract)
    missing: set[str] = field(default_factory=lambda: {"InsertTrackInProject"})
    app_version: str = "7.08/linux-x86_64"
    os_name: str = "Other"
    default_media_folder: Path | None = None
    spawner: Callable[[str], str | None] | None = None

    def __post_init__(self) -> None:
        self.shelf = MediaShelf()
        self.window = Window(self)
        self.projects: list[FakeProject] = []
        self.current = self.open_tab()
        self.ext: dict[tuple[str, str], str] = {}
        self.answers: deque[tuple[str, Any]] = deque()
        self.asked: list[tuple[str, str]] = []
        self.console: list[str] = []
        self.help_texts: list[str] = []
        self.commands: list[str] = []
        self.options: list[int] = []
        self.breaches: list[str] = []
        self.scripts: list[Script] = []
        self.clock_s = 1000.0
        self.ticks = 0
        self.tick_ms: list[float] = []
        self.calls_in_tick: dict[str, int] = {}
        self.registered: dict[str, int] = {}
        self.toggle_states: dict[int, int] = {}
        self.listed_files: dict[str, list[str]] = {}
        self.refresh_holds = 0
        self._guids = 0
        self._pointers: dict[int, Pointer] = {}
        self._by_address: dict[int, Pointer] = {}
        self._next_address = 0x7F00_0000_1000

    # breaches

    def breach(self, message: str) -> ContractBreach:
        """Record what a script did wrong and return the error to raise: the record outlives a pcall."""
        self.breaches.append(message)
        return ContractBreach(message)

    def check(self) -> None:
        """Raise everything that was recorded since the last check."""
        if self.breaches:
            text = "\n".join(self.breaches)
            self.breaches.clear()
            raise ContractBreach(text)

    # building projects

    def new_guid(self) -> str:
        """Return a GUID nobody has."""
        self._guids += 1
        return f"{{{self._guids:08X}-5B1D-4FAC-8E00-{self._guids * 7919:012X}}}"

    def open_tab(self, name: str = "", folder: Path | None = None) -> FakeProject:
        """Return a new tab, which is the current one now."""
        place = folder or self.default_media_folder or self.resource_path / "Media"
        self.current = FakeProject(name=name, folder=str(place))
        self.projects.append(self.current)
        return self.current

    def add_track(self, name: str = "", *, project: FakeProject | None = None, **values: float) -> Track:
        """Return a new last track with `values`, as a user made it before any script ran."""
        tab = project or self.current
        track = Track(self.new_guid(), name)
        track.values.update(values)
        return tab.insert_track(len(tab.tracks), track)

    def add_item(
        self, track: Track, source: Source | str | Path | None = None, *, name: str = "", **values: float
    ) -> Item:
        """Return a new item on `track`; `values` name item keys, or take keys with `take_` in front.

        Without D_LENGTH the item is as long as its source.
        """
        item = track.add_item(Item(self.new_guid()))
        if isinstance(source, str | Path):
            path, source = str(source), self.shelf.source(str(source))
            assert source is not None, f"no media at {path}"
        if source is not None:
            take = item.add_take(Take(self.new_guid(), name=name or Path(source.root.path).stem))
            take.set_source(source)
            take.values.update({key[5:]: value for key, value in values.items() if key.startswith("take_")})
            item.values["D_LENGTH"] = float(source.exact_length_s)
        item.values.update({key: value for key, value in values.items() if not key.startswith("take_")})
        if "B_MUTE" in values:
            item.values["B_MUTE_ACTUAL"] = item.values.pop("B_MUTE")
        return item

    def select(self, *items: Item) -> None:
        """Select `items` and no other, as the user does."""
        for item in self.current.items:
            item.values["B_UISEL"] = float(item in items)

    def save(self, project: FakeProject | None = None) -> None:
        """Save the project, as the user does: closing it asks nothing then."""
        tab = project or self.current
        tab.saved_at = len(tab.undo)

    @contextlib.contextmanager
    def user_edit(self, label: str = "user", project: FakeProject | None = None) -> Iterator[FakeProject]:
        """Let a test change the project between ticks as the user would: one undo step of the user's own."""
        tab = project or self.current
        before = tab.copy_tracks()
        yield tab
        tab.undo.append((label, before))
        tab.redo.clear()
        tab.change_count += 1

    # undo

    def begin_block(self, project: FakeProject) -> None:
        """Begin one undo block."""
        if project.block is not None:
            raise self.breach("Undo_BeginBlock2 inside of a block")
        project.block = project.copy_tracks()

    def end_block(self, project: FakeProject, label: str, flags: int) -> None:
        """End the block; without flags it must have left nothing behind."""
        if project.block is None:
            raise self.breach(f"Undo_EndBlock2 without a block: {label}")
        before, project.block = project.block, None
        if flags:
            if not label:
                raise self.breach("an undo step without a name")
            project.undo.append((label, before))
            project.redo.clear()
        elif self._tracks_state(before) != self._tracks_state(project.tracks):
            raise self.breach(f"the block {label!r} leaves changes and adds no undo step")

    def change(self, project: FakeProject | None, what: str) -> None:
        """Fail a change of the project that no undo block holds."""
        if project is None:
            raise self.breach(f"{what}: the object is in no project")
        project.change_count += 1
        if project.block is None:
            raise self.breach(f"{what} changes the project outside of an undo block")

    def step(self, project: FakeProject, *, is_redo: bool = False) -> bool:
        """Return whether one step was undone or redone; pointers into the project are stale then."""
        source, target = (project.redo, project.undo) if is_redo else (project.undo, project.redo)
        if project.block is not None:
            raise self.breach("undo or redo inside of an undo block")
        if not source:
            return False
        label, tracks = source.pop()
        target.append((label, project.replace_tracks(tracks)))
        project.change_count += 1
        for pointer in self._pointers.values():
            if pointer.kind in {"track", "item", "take"}:
                pointer.is_dead = True
        self._pointers = {key: pointer for key, pointer in self._pointers.items() if not pointer.is_dead}
        return True

    def undo_once(self, project: FakeProject | None = None) -> bool:
        """Return whether the user undid one step."""
        return self.step(project or self.current)

    def redo_once(self, project: FakeProject | None = None) -> bool:
        """Return whether the user redid one step."""
        return self.step(project or self.current, is_redo=True)

    # pointers

    def pointer(self, kind: str, target: Any) -> Pointer:
        """Return the pointer to `target`, the same as long as it lives."""
        pointer = self._pointers.get(id(target))
        if pointer is None or pointer.target is not target:
            pointer = Pointer(kind, self._next_address, target)
            self._next_address += 0x40
            self._pointers[id(target)] = pointer
            self._by_address[pointer.address] = pointer
        return pointer

    def find_pointer(self, address: int) -> Pointer | None:
        """Return the pointer that was once at `address`."""
        return self._by_address.get(address)

    def is_alive(self, pointer: Pointer) -> bool:
        """Return whether the object is still there."""
        return not pointer.is_dead and _is_there(pointer.target)

    def call(self, name: str, args: list[Any], language: Language) -> dict[str, Any]:
        """Return every result of one API function by name. `args` are objects of the model, not pointers."""
        from reaper_fake import api

        self.calls_in_tick[name] = self.calls_in_tick.get(name, 0) + 1
        function = self.contract.functions[name]
        try:
            found = getattr(api, name)(self, *args)
        except ContractBreach as broken:
            if str(broken) not in self.breaches:
                self.breaches.append(str(broken))
            raise
        if not function.returns:
            return {}
        values = found if isinstance(found, tuple) else (found,)
        return {entry.name: value for entry, value in zip(function.returns, values, strict=True)}

    # dialogs

    def ask(self, kind: str, text: str) -> Any:
        """Return the next answer, which has to be one for this kind of dialog."""
        self.asked.append((kind, text))
        if not self.answers or self.answers[0][0] != kind:
            raise self.breach(f"unexpected dialog {kind}: {text!r}; next answer: {list(self.answers)[:1]}")
        return self.answers.popleft()[1]

    # time

    def start(self, script: Script) -> Script:
        """Run a script's file, as a user starts an action."""
        self.scripts.append(script)
        self._run_tick([script.start])
        return script

    def tick(self) -> bool:
        """Run what is deferred once, and return whether anything is deferred still."""
        self.clock_s += TICK_S
        self._run_tick([script.run_deferred for script in self.scripts])
        return bool(self.scripts)

    def run_until_idle(
        self, max_ticks: int = 1000, between_ticks: Callable[[], object] | None = None
    ) -> None:
        """Tick until no script is left; raise what was recorded, and complain after `max_ticks`."""
        for _ in range(max_ticks):
            if not self.scripts:
                break
            if between_ticks is not None:
                between_ticks()
            self.tick()
        self.check()
        assert not self.scripts, f"a script still runs after {max_ticks} ticks"

    def run_lua(
        self, path: Path, max_ticks: int = 1000, between_ticks: Callable[[], object] | None = None
    ) -> None:
        """Run a Lua action to its end and raise every breach."""
        self.start_lua(path)
        self.run_until_idle(max_ticks, between_ticks)

    def run_python(
        self, path: Path, max_ticks: int = 1000, between_ticks: Callable[[], object] | None = None
    ) -> None:
        """Run a Python action to its end and raise every breach."""
        self.start_python(path)
        self.run_until_idle(max_ticks, between_ticks)

    def run_code(self, language: Language, code: str) -> Script:
        """Return a script of the resource folder that holds `code`, run to its end; raise every breach."""
        path = self.resource_path / f"snippet.{'lua' if language == 'lua' else 'py'}"
        path.write_text(code, "utf-8")
        script = self.start(self._load(path))
        self.run_until_idle()
        return script

    def start_lua(self, path: Path) -> Script:
        """Start a Lua action and return it; `tick` runs it on."""
        return self.start_action(path)

    def start_python(self, path: Path) -> Script:
        """Start a Python action and return it; `tick` runs it on."""
        return self.start_action(path)

    def start_action(self, path: Path) -> Script:
        """Start an action of either language as a user does."""
        self._refuse_second(path)
        script = self.start(self._load(path))
        self._step_of(script)
        return script

    def run_registered(self, command: int) -> None:
        """Run a script by its command id inside of the tick of another script."""
        path = Path(next(path for path, known in self.registered.items() if known == command))
        self._refuse_second(path)
        script = self._load(path)
        self.scripts.append(script)
        script.start()
        self._step_of(script)

    def _load(self, path: Path) -> Script:
        from reaper_fake.lua_face import LuaScript
        from reaper_fake.python_face import PythonScript

        return LuaScript(self, path) if path.suffix == ".lua" else PythonScript(self, path)

    def _step_of(self, script: Script) -> None:
        """Add the undo step that REAPER makes of a script whose file has run without deferring anything."""
        if not script.is_running:
            tab = self.current
            tab.undo.append((f"ReaScript: {script.path.name}", tab.copy_tracks()))
            tab.redo.clear()

    def _refuse_second(self, path: Path) -> None:
        """Fail where REAPER would ask the user whether to end a script that is run again while it runs."""
        if path.suffix == ".lua" and any(script.path == path for script in self.scripts):
            raise self.breach(f"REAPER asks what to do: {path.name} runs already")

    def terminate(self, script: Script) -> None:
        """End a script as REAPER does when the user says so: only what is to happen at exit runs."""
        self.scripts.remove(script)
        self._run_tick([script.finish])

    def _run_tick(self, steps: list[Callable[[], None]]) -> None:
        """Run `steps` as one tick. An error ends all scripts; a breach before it is what counts."""
        self.ticks += 1
        self.calls_in_tick.clear()
        began = time.perf_counter()
        try:
            for step in steps:
                step()
            for script in [script for script in self.scripts if not script.is_running]:
                self.scripts.remove(script)
                script.finish()
        except BaseException as error:
            self.scripts.clear()
            self._check_tick_end()
            if self.breaches:
                breaches = "\n".join(self.breaches)
                self.breaches.clear()
                raise ContractBreach(breaches) from error
            raise
        else:
            self._check_tick_end()
        finally:
            self.tick_ms.append((time.perf_counter() - began) * 1000)

    def _check_tick_end(self) -> None:
        if self.refresh_holds:
            holds, self.refresh_holds = self.refresh_holds, 0
            self.breach(f"PreventUIRefresh is {holds} at the end of a tick")
        for project in self.projects:
            if project.block is not None:
                project.block = None
                self.breach("an undo block is open at the end of a tick")

    # what tests compare

    def state(self, names: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return all that a user has, comparable: GUIDs are numbered in the order they are met.

        `names` replaces texts first: the folder of a test, the id of a job.
        """
        found = {
            "projects": [self._project_state(project) for project in self.projects],
            "current": self.projects.index(self.current),
            "ext": {f"{section}/{key}": value for (section, key), value in sorted(self.ext.items())},
        }
        seen: dict[str, str] = {}
        for project in self.projects:
            for guid in _guids(project.tracks):
                seen.setdefault(guid, f"{{{len(seen)}}}")
        replaced: dict[str, Any] = _replace(found, seen, names or {})
        return replaced

    def _project_state(self, project: FakeProject) -> dict[str, Any]:
        return {
            "name": project.name,
            "tracks": self._tracks_state(project.tracks),
            "values": dict(sorted(project.values.items())),
            "texts": dict(sorted(project.texts.items())),
            "ext": {f"{section}/{key}": value for (section, key), value in sorted(project.ext.items())},
            "cursor": project.cursor_s,
            "time_selection": project.time_selection,
            "loop": project.loop,
            "play_state": project.play_state,
            "undo": [label for label, _ in project.undo],
            "redo": [label for label, _ in project.redo],
        }

    def _tracks_state(self, tracks: list[Track]) -> list[dict[str, Any]]:
        return [
            {
                "guid": track.guid,
                "name": track.name,
                "values": _set_values(track.values),
                "texts": dict(sorted(track.texts.items())),
                "ext": dict(sorted(track.ext.items())),
                "fx": list(track.fx),
                "items": [_item_state(item) for item in track.sorted_items],
            }
            for track in tracks
        ]


def _item_state(item: Item) -> dict[str, Any]:
    return {
        "guid": item.guid,
        "values": _set_values(item.values),
        "notes": item.notes,
        "ext": dict(sorted(item.ext.items())),
        "takes": [
            {
                "guid": take.guid,
                "name": take.name,
                "values": _set_values(take.values),
                "ext": dict(sorted(take.ext.items())),
                "source": source_state(take.source),
                "fx": list(take.fx),
                "envelopes": take.envelopes,
                "stretch_markers": take.stretch_markers,
                "spectral_edits": take.spectral_edits,
                "markers": list(take.markers),
            }
            for take in item.takes
        ],
    }


def source_state(source: Source | None) -> dict[str, Any] | None:
    """Return a source by path and section."""
    if source is None:
        return None
    if source.parent is None:
        return {"kind": source.kind, "path": source.path, "length": float(source.exact_length_s)}
    return {
        "kind": source.kind,
        "offset": source.offset_s,
        "length": source.length_s,
        "reversed": source.is_reversed,
        "whole": source.is_whole,
        "overlap": source.overlap_s,
        "parent": source_state(source.parent),
    }


def _set_values(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values in order, without those that were never anything but 0."""
    return {key: value for key, value in sorted(values.items()) if value}


def _guids(tracks: list[Track]) -> Iterator[str]:
    for track in tracks:
        yield track.guid
        for item in track.sorted_items:
            yield item.guid
            yield from (take.guid for take in item.takes)


def _replace(value: Any, guids: dict[str, str], names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for text, name in names.items():
            value = value.replace(text, name)
        return _GUID.sub(lambda match: guids.setdefault(match[0], f"{{{len(guids)}}}"), value)
    if isinstance(value, dict):
        return {_replace(key, guids, names): _replace(entry, guids, names) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(entry, guids, names) for entry in value]
    return value


def _is_there(target: Any) -> bool:
    """Return whether `target` hangs in an open project, or belongs to the script."""
    if isinstance(target, FakeProject):
        return target.is_open
    if isinstance(target, Track):
        return target.project is not None and target.project.is_open
    if isinstance(target, Item):
        return target.track is not None and _is_there(target.track)
    if isinstance(target, Take):
        return target.item is not None and _is_there(target.item)
    if isinstance(target, Source):
        return not target.is_destroyed and (target.owner is None or _is_there(target.owner))
    return not target.is_destroyed
