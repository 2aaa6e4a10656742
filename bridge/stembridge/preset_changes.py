"""Values that stand in place of a preset's own, as `--set` writes them. Standard library only.

::

    vocals.gain_db=-3                  a stem's own key
    vocals.compressor.threshold_db=-20 the one effect of that kind
    vocals.effects.0.mix=0.2           an effect by its place, from 0
    sends.hall.gain_db=-6              a send by its name
    sends.hall.levels_db.vocals=-9
    master.match=lufs
    tail=extend
"""

from __future__ import annotations

import copy
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from stembridge.errors import PresetError
from stembridge.preset_lines import Place
from stembridge.toml_text import read_toml, shorten_text

HEARD_KEYS = ("gain_db", "wet", "effects")
"""Of a stem: what nobody hears of one that is muted."""

_FORM = "as in vocals.gain_db=-3 or vocals.compressor.threshold_db=-20"


def apply_changes(
    table: Mapping[str, Any], changes: Sequence[str]
) -> tuple[dict[str, Any], dict[Place, str]]:
    """Return a preset's table with ``changes`` in it, and which of them stands at which place.

    Parameters
    ----------
    table : of a preset that can be read; it stays as it is
    changes : 'place=value', later ones win

    Raises
    ------
    PresetError
        Not of that form, or nothing is there that could be changed. The values are not looked at.
    """
    changed = copy.deepcopy(dict(table))
    places: dict[Place, str] = {}
    for text in changes:
        name, is_change, value = text.partition("=")
        parts = [part.strip() for part in name.split(".")]
        if not is_change or not all(parts) or not value.strip() or not text.isprintable():
            raise PresetError(f"--set {shorten_text(repr(text))} is no change", _FORM)
        target = _Target(changed, text)
        place = target.find(parts)
        target.put(place, _read_value(value.strip()))
        places[place] = text
    _drop_silenced(changed, places)
    return changed, places


def _drop_silenced(table: Mapping[str, Any], places: Mapping[Place, str]) -> None:
    """Take out what is said of a stem that a change mutes, so that the preset still reads."""
    for stem, entry in table.get("stems", {}).items():
        if ("stems", stem, "mute") in places and entry["mute"] is True:
            for key in HEARD_KEYS:
                entry.pop(key, None)


def _read_value(text: str) -> Any:
    """Return what TOML reads, and where it is none, a number or the text itself."""
    try:
        found = read_toml(f"value = {text}")
    except tomllib.TOMLDecodeError:
        found = {}
    if found:
        return found["value"]
    try:
        return float(text)
    except ValueError:
        return text


class _Target:
    """Finds the place that one change means."""

    def __init__(self, table: dict[str, Any], text: str) -> None:
        self._table = table
        self._text = text

    def find(self, parts: list[str]) -> Place:
        first, rest = parts[0], parts[1:]
        if first == "tail" and not rest:
            return ("preset", "tail")
        if first in ("tail", "preset"):
            raise self._error(f"{'.'.join(parts)} cannot be changed", "tail=trim or tail=extend")
        if not rest:
            raise self._error(f"what of {first} is meant?", _FORM)
        if first == "master":
            return self._find_inside(("master",), "master", self._table.get("master", {}), rest)
        if first == "sends":
            return self._find_in_send(rest)
        stem = self._table.get("stems", {}).get(first, {})
        return self._find_inside(("stems", first), first, stem, rest)

    def _find_in_send(self, parts: list[str]) -> Place:
        sends = self._table.get("sends", [])
        names = [str(send["name"]) for send in sends]
        if parts[0] not in names:
            known = f"there are {', '.join(names)}" if names else "this preset has none"
            raise self._error(f"there is no send {parts[0]!r}", known)
        if len(parts) == 1:
            raise self._error(f"what of {parts[0]} is meant?", _FORM)
        index = names.index(parts[0])
        if parts[1] == "levels_db" and len(parts) == 3:
            return ("sends", index, "levels_db", parts[2])
        return self._find_inside(("sends", index), parts[0], sends[index], parts[1:])

    def _find_inside(self, place: Place, name: str, entry: Mapping[str, Any], parts: list[str]) -> Place:
        """Return a key's place in a stem, a send or the master, or that of a parameter in its chain."""
        if len(parts) == 1:
            return (*place, parts[0])
        effects = entry.get("effects", [])
        is_chain = isinstance(effects, list) and all(map(_is_effect, effects))
        if not is_chain:
            raise self._error(f"{name}.effects are none any more", "another --set has taken them away")
        if parts[0] == "effects":
            index, rest = self._read_index(name, effects, parts[1]), parts[2:]
        else:
            index, rest = self._find_kind(name, effects, parts[0]), parts[1:]
        if not rest:
            raise self._error(f"what of {name}.effects.{index} is meant?", _FORM)
        if rest[0] == "parameters" and len(rest) > 1:
            return (*place, "effects", index, "parameters", ".".join(rest[1:]))
        if len(rest) > 1:
            raise self._error(f"{'.'.join(rest)} is no parameter", _FORM)
        return (*place, "effects", index, rest[0])

    def _read_index(self, name: str, effects: Sequence[Any], text: str) -> int:
        if text not in map(str, range(len(effects))):
            places = f"0 to {len(effects) - 1}" if effects else "it has none"
            raise self._error(f"{name} has no effect {shorten_text(text)}", places)
        return int(text)

    def _find_kind(self, name: str, effects: Sequence[Mapping[str, Any]], kind: str) -> int:
        kinds = [effect["kind"] for effect in effects]
        found = [index for index, entry in enumerate(kinds) if entry == kind]
        if not found:
            near = difflib.get_close_matches(kind, kinds, n=1)
            known = f"its effects are {', '.join(kinds)}" if kinds else "it has no effects"
            raise self._error(
                f"{name} has no effect {kind!r}", f"did you mean {near[0]}? {known}" if near else known
            )
        if len(found) > 1:
            forms = " or ".join(f"{name}.effects.{index}" for index in found)
            raise self._error(f"{name} has {len(found)} effects of kind {kind}", f"say {forms}")
        return found[0]

    def put(self, place: Place, value: Any) -> None:
        """Put a value at a place that was found; tables on the way are made."""
        inside: Any = self._table
        for part in place[:-1]:
            inside = inside[part] if isinstance(part, int) else inside.setdefault(part, {})
        if not isinstance(inside, dict):
            raise self._error(f"there is no {place[-2]} any more", "another --set has taken it away")
        inside[place[-1]] = value

    def _error(self, message: str, hint: str) -> PresetError:
        return PresetError(f"--set {shorten_text(self._text)}: {message}", hint)


def _is_effect(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("kind"), str)
