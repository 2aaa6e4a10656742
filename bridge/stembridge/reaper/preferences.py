"""What a producer has set for REAPER: reaper.toml beside settings.toml."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from stembridge.errors import OutputError, RequestError
from stembridge.looks import DEFAULT_LOOKS, Look, Looks
from stembridge.quality import QUALITIES
from stembridge.settings import Settings
from stembridge.toml_text import read_toml

OUTPUTS = ("tracks", "takes")
HOLDS = ("recording", "playing", "never")
EFFECTS = ("bake", "keep", "skip")


@dataclass(frozen=True, slots=True)
class Preferences:
    """Everything that can be set.

    Parameters
    ----------
    quality : a name of `stembridge.quality.QUALITIES`
    model : a model's name; '' means the quality's
    stems : stems to deliver beside the residual; empty means all
    two_stems : one stem to deliver with all the rest as the second; '' means `stems`
    output : 'tracks' or 'takes'
    handles_s : seconds that are separated beyond what an item plays, on either side
    hold_while : no new segment starts while REAPER is 'recording', or already while it is 'playing'
    effects : what becomes of an item with effects on its take: 'bake' them first, 'keep' them on every stem
        (the sum is then approximate), or 'skip' the item
    looks : name and colour of each stem
    """

    quality: str = "good"
    model: str = ""
    stems: tuple[str, ...] = ()
    two_stems: str = ""
    output: str = "tracks"
    handles_s: float = 1.0
    hold_while: str = "recording"
    effects: str = "bake"
    looks: Looks = field(default_factory=Looks)


_CHOICES = {"quality": tuple(QUALITIES), "output": OUTPUTS, "hold_while": HOLDS, "effects": EFFECTS}
_MAX_HANDLES_S = 60.0


def locate_preferences(settings: Settings) -> Path:
    """Return where the preferences lie: beside the settings."""
    return settings.config_file.with_name("reaper.toml")


def read_preferences(path: Path) -> Preferences:
    """Return what the file at ``path`` sets, the defaults where there is none.

    Raises
    ------
    RequestError
        It cannot be read, or a key or value is not one of ours.
    """
    try:
        table = read_toml(path.read_text("utf-8"))
    except FileNotFoundError:
        return Preferences()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RequestError(f"{path}: {error}", "mend or remove it") from None
    looks = _read_looks(table.pop("looks", {}), path)
    return change_preferences(replace(Preferences(), looks=looks), table, str(path))


def change_preferences(preferences: Preferences, changes: dict[str, Any], where: str) -> Preferences:
    """Return ``preferences`` with ``changes``, each checked; ``where`` names their place in an error.

    Raises
    ------
    RequestError
        A key or value that is not one of ours.
    """
    known = {entry.name for entry in fields(Preferences)} - {"looks"}
    for key, value in changes.items():
        if key not in known:
            raise RequestError(
                f"{where}: {key} is no setting", f"the settings are {', '.join(sorted(known))}"
            )
        preferences = replace(preferences, **{key: _checked(key, value, f"{where}: {key}")})
    return preferences


def write_preferences(path: Path, preferences: Preferences) -> None:
    """Write the file at ``path`` by one rename; what it said of looks stays.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    lines = [
        f"{entry.name} = {_spell(getattr(preferences, entry.name))}"
        for entry in fields(Preferences)
        if entry.name != "looks"
    ]
    for stem, look in preferences.looks.stems.items():
        if DEFAULT_LOOKS.get(stem) != look:
            color = "".join(f"{part:02x}" for part in look.color)
            lines += ["", f"[looks.{_spell(stem)}]", f"name = {_spell(look.name)}", f'color = "#{color}"']
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", "make room or give access") from None


def _checked(key: str, value: Any, where: str) -> Any:
    if key in _CHOICES and value not in _CHOICES[key]:
        raise RequestError(f"{where} = {value!r}", f"one of {', '.join(_CHOICES[key])}")
    if key == "handles_s":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_HANDLES_S:
            raise RequestError(f"{where} = {value!r}", f"seconds, 0 to {_MAX_HANDLES_S:g}")
        return float(value)
    if key == "stems":
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
            raise RequestError(f"{where} = {value!r}", 'a list of names, as ["vocals", "drums"]')
        return tuple(value)
    if not isinstance(value, str):
        raise RequestError(f"{where} = {value!r}", "a text")
    return value


def _read_looks(table: Any, path: Path) -> Looks:
    if not isinstance(table, dict):
        raise RequestError(f"{path}: looks = {table!r}", "tables [looks.STEM] with name and color")
    stems = dict(DEFAULT_LOOKS)
    for stem, entry in table.items():
        where = f"{path}: looks.{stem}"
        if not isinstance(entry, dict) or set(entry) - {"name", "color"}:
            raise RequestError(f"{where} = {entry!r}", "a table with name and color")
        before = Looks().of(stem)
        stems[stem] = Look(
            str(entry.get("name", before.name)),
            _read_color(entry["color"], where) if "color" in entry else before.color,
        )
    return Looks(stems)


def _read_color(text: Any, where: str) -> tuple[int, int, int]:
    try:
        digits = bytes.fromhex(str(text).removeprefix("#"))
        red, green, blue = digits
    except ValueError:
        raise RequestError(f"{where}.color = {text!r}", 'red, green, blue as "#3288bd"') from None
    return red, green, blue


def _spell(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_spell, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(map(_escape, value)) + '"'
    return repr(value)


def _escape(char: str) -> str:
    """Return a character as it stands in a basic string of TOML 1.0."""
    if char in '"\\':
        return f"\\{char}"
    return char if char >= " " and char != "\x7f" else f"\\u{ord(char):04x}"
