"""Presets of a remix: what becomes of each stem, one TOML file each. Standard library only.

::

    [preset]
    name = "Karaoke"
    use = "sing over it: everything but the vocals"

    [stems.vocals]
    gain_db = -3.0   # dB, or
    mute = true      # or
    solo = true      # mutes all stems that are not soloed, the residual among them

Stems that are not named stay as they were split. Effects, sends and a master chain belong to the same format
and are refused by name: this version changes levels alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from stembridge.effects.chain import Chain
from stembridge.errors import PresetError
from stembridge.settings import Settings

MASTER_DELTA = "master_delta"
"""The stem that holds what a non-linear master chain adds."""

MIN_GAIN_DB, MAX_GAIN_DB = -60.0, 24.0
_STEM_KEYS = ("gain_db", "mute", "solo")
_ENGINE_TABLES = ("master", "sends")
_ENGINE_KEYS = ("effects", "wet", "tail")
"""What only the remix engine can do."""
_HEADER = re.compile(r"\s*\[{1,2}([^\]]+)\]{1,2}")


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
    text : the file it was read from, with what was changed
    """

    name: str
    use: str
    stems: Mapping[str, StemChange]
    sends: tuple[Send, ...] = ()
    master: Master = Master()
    is_extended: bool = False
    text: str = ""

    def levels(self, stems: Collection[str]) -> dict[str, Level]:
        """Return the level of each of ``stems``, which are those of one set.

        Raises
        ------
        PresetError
            The preset is for a stem that the set does not have.
        """
        lacking = [stem for stem in self.stems if stem not in stems]
        if lacking:
            raise PresetError(
                f"preset {self.name!r} is for {', '.join(lacking)}, which these stems do not have",
                f"they are {', '.join(stems)}",
            )
        has_solo = any(change.is_solo for change in self.stems.values())
        levels = {}
        for stem in stems:
            change = self.stems.get(stem, StemChange())
            is_muted = change.is_muted or (has_solo and not change.is_solo)
            levels[stem] = Level(10 ** (change.gain_db / 20), is_muted)
        return levels


def find_presets(settings: Settings) -> dict[str, Path]:
    """Return all presets by the names of their files: what is shipped, and the user's own over it."""
    found: dict[str, Path] = {}
    for folder in (_shipped_folder(), own_folder(settings)):
        for path in sorted(folder.glob("*.toml")):
            found[path.stem] = path
    return dict(sorted(found.items()))


def own_folder(settings: Settings) -> Path:
    """Return where a user's own presets lie: beside the settings."""
    return settings.config_file.parent / "presets"


def _shipped_folder() -> Path:
    """Return the folder in a wheel, or the source tree's of an editable install."""
    package = Path(str(resources.files("stembridge")))
    installed = package / "_data" / "presets"
    return installed if installed.is_dir() else package.parent.parent / "presets"


def read_preset(path: Path) -> Preset:
    """Return the preset in a file.

    Raises
    ------
    PresetError
        It cannot be read, or a key or value is not one of ours; with the line where it can be told.
    """
    try:
        text = path.read_text("utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PresetError(f"preset {path}: {error}", "mend or remove it") from None
    return _Reader(path, text).read(table)


class _Reader:
    """Reads one file's tables; what is wrong is named with the file's line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()

    def read(self, table: dict[str, Any]) -> Preset:
        for name in table:
            if name in _ENGINE_TABLES:
                raise self._engine_error(name, "")
            if name not in ("preset", "stems"):
                raise self._error(name, "", f"{name} is no table of a preset", "there are preset and stems")
        head = self._read_table(table.get("preset"), "preset")
        for key in head:
            if key not in ("name", "use"):
                raise self._error("preset", key, f"preset.{key} is no key", "there are name and use")
        texts = [self._read_text(head, key) for key in ("name", "use")]
        stems = self._read_table(table.get("stems"), "stems")
        return Preset(
            texts[0], texts[1], {stem: self._read_stem(stem, entry) for stem, entry in stems.items()}
        )

    def _read_table(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise self._error(name, "", f"there is nothing in [{name}]", "see the presets that are shipped")
        return value

    def _read_text(self, head: dict[str, Any], key: str) -> str:
        value = head.get(key)
        if not isinstance(value, str) or not value.strip() or "\n" in value:
            raise self._error("preset", key, f"preset.{key} = {value!r}", "one line of text")
        return value

    def _read_stem(self, stem: str, entry: Any) -> StemChange:
        name = f"stems.{stem}"
        entry = self._read_table(entry, name)
        for key, value in entry.items():
            if key in _ENGINE_KEYS:
                raise self._engine_error(name, key)
            if key not in _STEM_KEYS:
                raise self._error(name, key, f"{name}.{key} is no key", f"there are {', '.join(_STEM_KEYS)}")
            if key != "gain_db" and not isinstance(value, bool):
                raise self._error(name, key, f"{name}.{key} = {value!r}", "true or false")
        gain_db = entry.get("gain_db", 0.0)
        is_number = isinstance(gain_db, int | float) and not isinstance(gain_db, bool)
        if not is_number or not MIN_GAIN_DB <= gain_db <= MAX_GAIN_DB:
            raise self._error(
                name, "gain_db", f"{name}.gain_db = {gain_db!r}", f"dB, {MIN_GAIN_DB:g} to {MAX_GAIN_DB:g}"
            )
        return StemChange(float(gain_db), entry.get("mute", False), entry.get("solo", False))

    def _engine_error(self, table: str, key: str) -> PresetError:
        what = f"{table}.{key}" if key else table
        return self._error(
            table,
            key,
            f"{what} needs the remix engine, which this version has not",
            "gain_db, mute and solo work",
        )

    def _error(self, table: str, key: str, message: str, hint: str) -> PresetError:
        line = self._find_line(table, key)
        place = f"{self._path}, line {line}" if line else str(self._path)
        return PresetError(f"preset {place}: {message}", hint)

    def _find_line(self, table: str, key: str) -> int | None:
        """Return the line of a key, else of its table; None where it is written in another way."""
        inside = found = None
        for number, line in enumerate(self._lines, 1):
            header = _HEADER.match(line)
            if header:
                inside = header[1].replace('"', "").replace(" ", "")
                if inside in (table, f"{table}.{key}"):
                    found = found if found and inside == table else number
            elif key and inside == table and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                return number
        return found
