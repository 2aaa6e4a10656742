"""Presets of a remix: what becomes of each stem, one TOML file each. Standard library only.

::

    [preset]
    name = "Vocal air"
    use = "a dull voice: more air, a little room around it"
    tail = "trim"             # or "extend": the remix goes on until the last tail has died away

    [stems.vocals]
    gain_db = 1.5             # after the effects; or
    mute = true               # or
    solo = true               # mutes all stems that are not soloed, the residual among them
    wet = 1.0                 # the share of the effects in what is heard

    [[stems.vocals.effects]]  # in their order; the table of kinds is docs/effects.md
    kind = "high_shelf"
    cutoff_hz = 9000.0
    gain_db = 4.0

    [[stems.vocals.effects]]
    kind = "plugin"
    path = "ZamCompX2.vst3"   # in an allowed folder: docs/plugins.md
    parameters = { threshold = 0.4 }  # raw, 0 to 1
    state_file = "comp.state" # or state = "base64"; relative to this file
    latency = "auto"          # or "reported"
    block_frames = 512

    [[sends]]                 # a stem of its own: what is sent to it, through its effects
    name = "hall"
    gain_db = -3.0
    levels_db = { vocals = -12.0, other = -18.0 }

    [[sends.effects]]
    kind = "reverb"

    [master]
    match = "lufs"            # or "rms": as loud as the original
    ceiling_dbtp = -1.0       # true peak

Stems that are not named stay as they were split.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn

from stembridge.catalog import CATALOG, FOUR_SOURCES
from stembridge.effects.chain import MAX_BLOCK_FRAMES, MIN_BLOCK_FRAMES, Chain, Effect, PluginEffect
from stembridge.effects.kinds import KINDS, File, check_effect, find_number_fault
from stembridge.errors import PresetError
from stembridge.home_path import find_home
from stembridge.preset_changes import HEARD_KEYS, apply_changes
from stembridge.preset_lines import Place, find_line, list_lines
from stembridge.settings import Settings
from stembridge.small_file import read_small_file
from stembridge.toml_text import read_toml, shorten_text, spell_value, write_toml

MASTER_DELTA = "master_delta"
"""The stem that holds what a non-linear master chain adds."""

MIN_GAIN_DB, MAX_GAIN_DB = -60.0, 24.0
MIN_CEILING_DBTP, MAX_CEILING_DBTP = -30.0, 0.0
MAX_PRESET_BYTES, MAX_STATE_BYTES = 16 << 20, 8 << 20
"""What nobody writes by hand is not read: the daemon's front reads presets too."""

PLUGIN = "plugin"
"""The kind of an effect that is none of our table."""
TAILS = ("trim", "extend")
MATCHES = ("off", "rms", "lufs")
LATENCIES = ("reported", "auto")

_HEAD_KEYS = ("name", "use", "tail")
_STEM_KEYS = ("gain_db", "mute", "solo", "wet", "effects")
_SEND_KEYS = ("name", "gain_db", "wet", "levels_db", "effects")
_MASTER_KEYS = ("match", "ceiling_dbtp", "wet", "effects")
_PLUGIN_KEYS = ("kind", "path", "plugin", "parameters", "state", "state_file", "latency", "block_frames")
_PLUGIN_HINT = "; its own values are parameters, as in --set vocals.plugin.parameters.threshold_db=0.5"
_TABLES = ("preset", "stems", "sends", "master")
_SEND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,39}(?<! )")
_HEAD_FORM = 'begin with [preset], name = "..." and use = "what it is for"'
_EXAMPLES = {
    "name": "Mine",
    "use": "what it is for",
    "path": "ZamCompX2.vst3",
    "plugin": "ZamCompX2",
    "state_file": "comp.state",
}
_TAKEN = ("residual", "mixture", "master", MASTER_DELTA)


@dataclass(frozen=True, slots=True)
class StemChange:
    """What a preset does to one stem: its chain, then its gain; neither where it is muted."""

    gain_db: float = 0.0
    is_muted: bool = False
    is_solo: bool = False
    chain: Chain = Chain()


@dataclass(frozen=True, slots=True)
class Send:
    """A return of its own: the sum of stems as they are heard, each at its level in dB, through a chain."""

    name: str
    levels_db: Mapping[str, float]
    chain: Chain
    gain_db: float = 0.0


@dataclass(frozen=True, slots=True)
class Master:
    """What is done to the remix as a whole, in this order.

    Parameters
    ----------
    chain : a linear one runs on every stem, any other becomes a stem `MASTER_DELTA` of its own
    match : 'rms' or 'lufs': one gain brings the remix to the original's level; '' for none
    ceiling_dbtp : true peak that one gain curve, the same for all stems, keeps the remix below; None for none
    """

    chain: Chain = Chain()
    match: str = ""
    ceiling_dbtp: float | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """How loud a stem is in a remix: ``gain`` is a factor."""

    gain: float = 1.0
    is_muted: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset by its name, what it is for in one line, and its changes by stem.

    Parameters
    ----------
    is_extended : the remix goes on until the last tail has died away; else it has the original's length
    text : TOML that reads as this very preset, with what was changed and without other files
    asked_by : the change that brought a stem in, by stem, for those that the file does not name
    """

    name: str
    use: str
    stems: Mapping[str, StemChange]
    sends: tuple[Send, ...] = ()
    master: Master = Master()
    is_extended: bool = False
    text: str = ""
    asked_by: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def chains(self) -> tuple[tuple[str, Chain], ...]:
        """All chains, each with what it is on: stems, then sends, then 'master'."""
        stems = ((stem, change.chain) for stem, change in self.stems.items())
        sends = ((send.name, send.chain) for send in self.sends)
        return (*stems, *sends, ("master", self.master.chain))

    @property
    def effects(self) -> tuple[Effect | PluginEffect, ...]:
        """All effects, in the order of their chains."""
        return tuple(effect for _, chain in self.chains for effect in chain.effects)

    @property
    def named_stems(self) -> tuple[str, ...]:
        """All stems that something is said of, each once."""
        sent = (stem for send in self.sends for stem in send.levels_db)
        return tuple(dict.fromkeys((*self.stems, *sent)))

    @property
    def is_level_only(self) -> bool:
        """Whether faders and mutes say all of it; a ceiling is left to the master of whoever mixes."""
        return not (self.sends or self.master.match or self.effects)

    @property
    def files(self) -> tuple[str, ...]:
        """Whole paths of what its effects read, as impulse responses; plugins and their states are none."""
        return tuple(
            str(value)
            for effect in self.effects
            if isinstance(effect, Effect)
            for key, value in effect.values.items()
            if isinstance(KINDS[effect.kind].parameter(key), File)
        )

    def levels(self, stems: Collection[str]) -> dict[str, Level]:
        """Return the level of each of ``stems``, which are those of one set.

        Raises
        ------
        PresetError
            The preset is for a stem that the set does not have.
        """
        self.check_stems(stems)
        has_solo = any(change.is_solo for change in self.stems.values())
        levels = {}
        for stem in stems:
            change = self.stems.get(stem, StemChange())
            is_muted = change.is_muted or (has_solo and not change.is_solo)
            levels[stem] = Level(10 ** (change.gain_db / 20), is_muted)
        return levels

    def check_stems(self, stems: Collection[str]) -> None:
        """Raise where this preset cannot be rendered from a set of ``stems``.

        Raises
        ------
        PresetError
            It is for a stem that the set does not have, or a send is called like one.
        """
        lacking = [stem for stem in self.named_stems if stem not in stems]
        if lacking:
            self._refuse_lacking(lacking, stems)
        for send in self.sends:
            if send.name.lower() in {stem.lower() for stem in stems}:
                raise PresetError(
                    f"preset {self.name!r} has a send {send.name!r}, and so is one of these stems called",
                    "give the send another name",
                )

    def _refuse_lacking(self, lacking: Sequence[str], stems: Collection[str]) -> NoReturn:
        hint = f"they are {', '.join(stems)}"
        for stem in lacking:
            models = [model.name for model in CATALOG if stem in model.sources]
            near = difflib.get_close_matches(stem, stems, n=1)
            if models and stem not in FOUR_SOURCES:
                hint = f"{' and '.join(models)} has {stem}; {hint}"
            elif near and not models:
                hint = f"did you mean {near[0]}? {hint}"
        if lacking[0] in self.asked_by:
            change = shorten_text(self.asked_by[lacking[0]])
            raise PresetError(f"--set {change}: these stems have no {lacking[0]}", hint)
        names = ", ".join(lacking)
        raise PresetError(f"preset {self.name!r} is for {names}, which these stems do not have", hint)


def find_presets(settings: Settings) -> dict[str, Path]:
    """Return all presets by the names of their files: what is shipped, and the user's own over it."""
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), own_folder(settings)):
        for path in sorted(folder.glob("*.toml")):
            found[path.stem] = path
    return dict(sorted(found.items()))


def find_preset(name: str, settings: Settings) -> Path:
    """Return the file of a preset.

    Parameters
    ----------
    name : 'karaoke', or 'Karaoke'; what ends in .toml or has a folder in it is a path

    Raises
    ------
    PresetError
        There is none; with the names that come near.
    """
    if name.endswith(".toml") or Path(name).name != name:
        path = find_home(Path(name)).absolute()
        if not path.is_file():
            raise PresetError(f"there is no preset file {path}", "`stembridge presets list` shows names")
        return path
    presets = find_presets(settings)
    plain = "-".join(name.lower().split())
    if plain not in presets:
        near = difflib.get_close_matches(plain, presets, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise PresetError(f"there is no preset {name[:80]!r}", f"{meant}`stembridge presets list` shows all")
    return presets[plain]


def own_folder(settings: Settings) -> Path:
    """Return where a user's own presets lie: beside the settings."""
    return settings.config_file.parent / "presets"


def name_owner(path: Path, settings: Settings) -> str:
    """Return ' (yours)' for behind the name of a user's own preset, and '' for every other."""
    if path.parent != own_folder(settings):
        return ""
    return " (yours, in place of ours)" if (shipped_folder() / path.name).is_file() else " (yours)"


def shipped_folder() -> Path:
    """Return the folder in a wheel, or the source tree's of an editable install."""
    package = Path(str(resources.files("stembridge")))
    installed = package / "_data" / "presets"
    return installed if installed.is_dir() else package.parent.parent / "presets"


def read_preset(path: Path, changes: Sequence[str] = ()) -> Preset:
    """Return the preset in a file.

    Parameters
    ----------
    changes : 'vocals.gain_db=-3': values that stand in place of the file's; see `stembridge.preset_changes`

    Raises
    ------
    PresetError
        It cannot be read, or a key or value is not one of ours; with the line where it can be told, or with
        the change that it comes from.
    """
    try:
        text = read_small_file(path, MAX_PRESET_BYTES).decode()
        table = read_toml(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PresetError(f"preset {path}: {error}", "mend or remove it") from None
    preset = _Reader(path, text, {}).read(table)
    if changes:
        table, places = apply_changes(table, changes)
        changed = _Reader(path, text, places).read(table)
        _check_heard(changed, places)
        asked_by = {_stem_of(place): change for place, change in places.items()}
        new = [stem for stem in asked_by if stem in changed.named_stems and stem not in preset.named_stems]
        return replace(changed, asked_by={stem: asked_by[stem] for stem in new})
    return preset


def _stem_of(place: Place) -> str:
    """Return the stem that a change is of; '' for the master's, the sends' own and the preset's."""
    if place[0] == "stems":
        return str(place[1])
    return str(place[3]) if place[2:3] == ("levels_db",) and len(place) == 4 else ""


def _check_heard(preset: Preset, places: Mapping[Place, str]) -> None:
    """Raise where a change is to be heard of a stem that is silent, since others are soloed."""
    solo = [stem for stem, change in preset.stems.items() if change.is_solo]
    for place, text in places.items():
        if solo and place[0] == "stems" and place[1] not in solo and place[2] in HEARD_KEYS:
            raise PresetError(
                f"--set {shorten_text(text)}: only {' and '.join(solo)} is heard of this preset",
                f"add --set {place[1]}.solo=true",
            )


class _Reader:
    """Reads one file's tables; what is wrong is named with the file's line, or with the change it is from."""

    def __init__(self, path: Path, text: str, changes: Mapping[Place, str]) -> None:
        self._path = path
        self._lines = list_lines(text)
        self._changes = changes

    def read(self, table: Mapping[str, Any]) -> Preset:
        for name in table:
            if name not in _TABLES:
                raise self._error((name,), f"{name} is no table of a preset", f"there are {_list(_TABLES)}")
        if "preset" not in table:
            raise self._error((), "the table [preset] is required", _HEAD_FORM)
        head = self._read_table(table["preset"], ("preset",), _HEAD_FORM)
        self._check_keys(head, ("preset",), _HEAD_KEYS)
        names = [self._read_line(head, ("preset", key)) for key in ("name", "use")]
        if not table.keys() & {"stems", "sends", "master"}:
            raise self._error((), "there is nothing in [stems]", "and no [[sends]] and no [master] either")
        stems = self._read_table(table["stems"], ("stems",)) if "stems" in table else {}
        return Preset(
            names[0],
            names[1],
            {stem: self._read_stem(entry, ("stems", stem)) for stem, entry in stems.items()},
            self._read_sends(table.get("sends", [])),
            self._read_master(table["master"]) if "master" in table else Master(),
            self._read_choice(head, ("preset", "tail"), TAILS) == "extend",
            write_toml(self._settle(table)),
        )

    def _read_stem(self, entry: Any, place: Place) -> StemChange:
        entry = self._read_table(entry, place)
        self._check_keys(entry, place, _STEM_KEYS)
        change = StemChange(
            self._read_gain(entry, (*place, "gain_db")),
            self._read_truth(entry, (*place, "mute")),
            self._read_truth(entry, (*place, "solo")),
            self._read_chain(entry, place),
        )
        if change.is_muted:
            self._check_muted(entry, place)
        return change

    def _check_muted(self, entry: Mapping[str, Any], place: Place) -> None:
        """Raise where something is to be heard of a stem that is muted."""
        stem = place[-1]
        for at in self._changes:
            if at[: len(place)] == place and at[len(place)] in HEARD_KEYS:
                raise self._error(at, f"{stem} is muted by this preset", f"add --set {stem}.mute=false")
        for key in HEARD_KEYS:
            if key in entry:
                fault = f"{stem} is muted, so its {key} would do nothing"
                raise self._error((*place, key), fault, f"leave out {key}, or mute = true")

    def _read_sends(self, entries: Any) -> tuple[Send, ...]:
        sends: list[Send] = []
        for index, entry in enumerate(self._read_tables(entries, ("sends",))):
            place: Place = ("sends", index)
            self._check_keys(entry, place, _SEND_KEYS)
            name = self._read_line(entry, (*place, "name"))
            taken = {send.name.lower() for send in sends}.union(_TAKEN)
            if not _SEND_NAME.fullmatch(name) or name.lower() in taken:
                raise self._error(
                    (*place, "name"),
                    f"a send cannot be called {name!r}",
                    "a name of its own, of letters, digits, spaces, - and _, that no stem has",
                )
            levels = self._read_table(entry.get("levels_db"), (*place, "levels_db"))
            gains = {stem: self._read_gain(levels, (*place, "levels_db", stem)) for stem in levels}
            gain_db = self._read_gain(entry, (*place, "gain_db"))
            sends.append(Send(name, gains, self._read_chain(entry, place), gain_db))
        return tuple(sends)

    def _read_master(self, entry: Any) -> Master:
        entry = self._read_table(entry, ("master",))
        self._check_keys(entry, ("master",), _MASTER_KEYS)
        match = self._read_choice(entry, ("master", "match"), MATCHES)
        ceiling = None
        if entry.get("ceiling_dbtp", "off") != "off":
            allowed = (MIN_CEILING_DBTP, MAX_CEILING_DBTP)
            ceiling = self._read_number(entry, ("master", "ceiling_dbtp"), allowed, "dBTP or 'off'")
        return Master(self._read_chain(entry, ("master",)), "" if match == "off" else match, ceiling)

    def _read_chain(self, entry: Mapping[str, Any], place: Place) -> Chain:
        entries = self._read_tables(entry.get("effects", []), (*place, "effects"))
        effects = [self._read_effect(each, (*place, "effects", at)) for at, each in enumerate(entries)]
        if "wet" in entry and not effects:
            raise self._error((*place, "wet"), f"{_spell(place)}.wet has no effects to mix", "leave it out")
        wet = self._read_number(entry, (*place, "wet"), (0.0, 1.0), "a share") if "wet" in entry else 1.0
        return Chain(tuple(effects), wet)

    def _read_effect(self, entry: Mapping[str, Any], place: Place) -> Effect | PluginEffect:
        kind = entry.get("kind")
        if not isinstance(kind, str):
            fault = "is required" if kind is None else f"= {spell_value(kind)} is no text"
            raise self._error((*place, "kind"), f"{_spell(place)}.kind {fault}", 'as in kind = "reverb"')
        if kind == PLUGIN:
            return self._read_plugin(entry, place)
        values = {key: self._read_value(kind, key, entry[key]) for key in entry if key != "kind"}
        effect = Effect(kind, values)
        try:
            check_effect(effect)
        except PresetError as error:
            named = [key for key in values if f"{kind}.{key} " in f"{error.message} "]
            where = (*place, named[0] if named else "kind")
            raise self._error(where, f"{_spell(place)}: {error.message}", error.hint) from None
        return effect

    def _read_value(self, kind: str, key: str, value: Any) -> Any:
        """Return a parameter's value: numbers as floats, a file's name from the preset's own folder."""
        if isinstance(value, str) and kind in KINDS and isinstance(KINDS[kind].parameter(key), File):
            return str(self._path.absolute().parent / find_home(Path(value)))
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    def _read_plugin(self, entry: Mapping[str, Any], place: Place) -> PluginEffect:
        self._check_keys(entry, place, _PLUGIN_KEYS, _PLUGIN_HINT)
        parameters = entry.get("parameters", {})
        if not isinstance(parameters, Mapping):
            raise self._error((*place, "parameters"), f"{_spell(place)}.parameters is no table")
        raw = {
            name: self._read_number(parameters, (*place, "parameters", name), (0.0, 1.0), "a raw value")
            for name in parameters
        }
        frames = entry.get("block_frames", 512)
        fault = find_number_fault(frames, MIN_BLOCK_FRAMES, MAX_BLOCK_FRAMES)
        if fault or not isinstance(frames, int):
            raise self._error(
                (*place, "block_frames"),
                f"{_spell(place)}.block_frames = {spell_value(frames)} {fault or 'is no whole number'}",
                f"whole frames, {MIN_BLOCK_FRAMES} to {MAX_BLOCK_FRAMES}",
            )
        return PluginEffect(
            self._read_line(entry, (*place, "path")),
            self._read_line(entry, (*place, "plugin")) if "plugin" in entry else "",
            raw,
            self._read_state(entry, place),
            self._read_choice(entry, (*place, "latency"), LATENCIES),
            frames,
        )

    def _read_state(self, entry: Mapping[str, Any], place: Place) -> bytes:
        """Return a plugin's state, from the preset or from a file beside it."""
        if "state" in entry and "state_file" in entry:
            raise self._error(
                (*place, "state_file"), f"{_spell(place)} has state and state_file", "one of them"
            )
        if "state_file" in entry:
            name = self._read_line(entry, (*place, "state_file"))
            try:
                return read_small_file(self._path.parent / name, MAX_STATE_BYTES)
            except OSError as error:
                where = (*place, "state_file")
                raise self._error(where, f"{_spell(where)} = {name!r}: {error}") from None
        text = entry.get("state", "")
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (AttributeError, ValueError, binascii.Error):
            where = (*place, "state")
            raise self._error(
                where, f"{_spell(where)} is no base64", "as `stembridge plugins` gives it"
            ) from None

    def _settle(self, value: Any, name: str = "") -> Any:
        """Return what has been read so that it can be read anywhere: states inside, paths whole.

        What stands in a list ``effects`` is one; a stem may be called anything.
        """
        if isinstance(value, list):
            return [self._settle_effect(each) if name == "effects" else self._settle(each) for each in value]
        if isinstance(value, Mapping):
            return {key: self._settle(entry, key) for key, entry in value.items()}
        return value

    def _settle_effect(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        if entry["kind"] != PLUGIN:
            return {key: self._read_value(entry["kind"], key, value) for key, value in entry.items()}
        settled = {key: value for key, value in entry.items() if key != "state_file"}
        if "state_file" in entry:
            settled["state"] = base64.b64encode(self._read_state(entry, ())).decode()
        return settled

    def _check_keys(
        self, entry: Mapping[str, Any], place: Place, known: Sequence[str], more: str = ""
    ) -> None:
        for key in entry:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                meant = f"did you mean {near[0]}? " if near else ""
                raise self._error(
                    (*place, key),
                    f"{_spell((*place, key))} is no key",
                    f"{meant}there are {_list(known)}{more}",
                )

    def _read_table(
        self, value: Any, place: Place, hint: str = "see the presets that are shipped"
    ) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not value:
            raise self._error(place, f"there is nothing in [{_spell(place)}]", hint)
        return value

    def _read_tables(self, value: Any, place: Place) -> Sequence[Mapping[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
            raise self._error(
                place, f"{_spell(place)} is no list of tables", f"begin each with [[{_spell(place)}]]"
            )
        return value

    def _read_line(self, entry: Mapping[str, Any], place: Place) -> str:
        value = entry.get(str(place[-1]))
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            fault = "is required" if value is None else f"= {spell_value(value)} is no line of text"
            raise self._error(
                place, f"{_spell(place)} {fault}", f'as in {place[-1]} = "{_EXAMPLES[str(place[-1])]}"'
            )
        return value

    def _read_choice(self, entry: Mapping[str, Any], place: Place, choices: Sequence[str]) -> str:
        value = entry.get(str(place[-1]), choices[0])
        if value not in choices:
            fault = f"{_spell(place)} = {spell_value(value)} is none of its words"
            raise self._error(place, fault, f"one of {_list(choices)}")
        return str(value)

    def _read_truth(self, entry: Mapping[str, Any], place: Place) -> bool:
        value = entry.get(str(place[-1]), False)
        if not isinstance(value, bool):
            raise self._error(place, f"{_spell(place)} = {spell_value(value)} is no truth", "true or false")
        return value

    def _read_gain(self, entry: Mapping[str, Any], place: Place) -> float:
        if place[-1] not in entry:
            return 0.0
        return self._read_number(entry, place, (MIN_GAIN_DB, MAX_GAIN_DB), "dB")

    def _read_number(
        self, entry: Mapping[str, Any], place: Place, allowed: tuple[float, float], unit: str
    ) -> float:
        value = entry[str(place[-1])]
        if fault := find_number_fault(value, *allowed):
            hint = f"{unit}, {allowed[0]:g} to {allowed[1]:g}"
            raise self._error(place, f"{_spell(place)} = {spell_value(value)} {fault}", hint)
        return float(value)

    def _error(self, place: Place, message: str, hint: str = "") -> PresetError:
        for end in range(len(place), 0, -1):
            if place[:end] in self._changes:
                return PresetError(f"--set {shorten_text(self._changes[place[:end]])}: {message}", hint)
        line = find_line(self._lines, place)
        where = f"{self._path}, line {line}" if line else str(self._path)
        return PresetError(f"preset {where}: {message}", hint)


def _spell(place: Place) -> str:
    return ".".join(map(str, place))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
