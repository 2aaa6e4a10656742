"""One ``stembridge.toml``: its keys, what each may be, and the line of a mistake."""

from __future__ import annotations

import difflib
import errno
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from stembridge.catalog import find_model
from stembridge.delivery import (
    check_file_names,
    check_format,
    check_practice,
    check_sessions,
    find_policy,
)
from stembridge.errors import ModelError, PresetError, RequestError
from stembridge.manifest import sanitise_name
from stembridge.mixdown.batch import locate_preset
from stembridge.preset_lines import Place, find_line, list_lines
from stembridge.presets import MATCHES, MAX_CEILING_DBTP, MIN_CEILING_DBTP, TAILS
from stembridge.quality import QUALITIES, check_ranges, find_precision
from stembridge.recipes import find_recipe
from stembridge.small_file import read_small_file
from stembridge.toml_text import read_toml, shorten_text, spell_value
from stembridge.watch.failures import FAILED

MAX_BYTES = 1 << 16
"""What nobody writes by hand is not read."""

FOLDER_FILE = "stembridge.toml"
WATCH_TABLE = "watch"

_BARE_WORD = re.compile(r"\s*([\w-]+)\s*=\s*([^\W\d][^\"'#\[{]*?)\s*(?:#.*)?")
_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Said:
    """What one place says of one key, and where that stands, for a message."""

    value: Any
    where: str


@dataclass(frozen=True, slots=True)
class Key:
    """What one key may be.

    Parameters
    ----------
    form : completes 'this is not ...'
    read : returns the value as it is meant, raises TypeError or ValueError for what is not of that form, and
        an error of ours for what is of that form and still cannot be
    """

    form: str
    read: Reader


def read_wish_file(path: Path, *, is_root: bool) -> dict[str, Said] | None:
    """Return what a file says of how a source is split and remixed, by key; None where there is no such file.

    Parameters
    ----------
    is_root : it is the watched folder's own, which may say how that is watched

    Raises
    ------
    RequestError, PresetError, ModelError
        It cannot be read, or a key or a value is not one of ours; with file, line and key.
    """
    document = _read_document(path)
    if document is None:
        return None
    if WATCH_TABLE in document.table and not is_root:
        raise RequestError(
            f"{document.locate((WATCH_TABLE,))}: [{WATCH_TABLE}] says how a whole folder is watched",
            f"move it into the {FOLDER_FILE} of the folder that is watched",
        )
    table = {key: value for key, value in document.table.items() if key != WATCH_TABLE}
    return document.read(table, (), WISHES)


def read_watch_table(path: Path) -> dict[str, Said]:
    """Return what a file says of how its folder is watched, by key; nothing where there is no such file.

    Raises
    ------
    RequestError
        It cannot be read, or a key or a value is not one of ours; with file, line and key.
    """
    document = _read_document(path)
    table = document.table.get(WATCH_TABLE, {}) if document else {}
    if document is None:
        return {}
    if not isinstance(table, Mapping):
        raise RequestError(
            f"{document.locate((WATCH_TABLE,))}: {WATCH_TABLE} = {spell_value(table)} is no table",
            f"as in [{WATCH_TABLE}] with quiet_s = 2 below",
        )
    return document.read(table, (WATCH_TABLE,), WATCHING)


@dataclass(frozen=True, slots=True)
class _Document:
    path: Path
    table: Mapping[str, Any]
    lines: Mapping[Place, int]

    def locate(self, place: Place) -> str:
        line = find_line(self.lines, place)
        return f"{str(self.path)!r}" if line is None else f"{str(self.path)!r}, line {line}"

    def read(self, table: Mapping[str, Any], inside: Place, keys: Mapping[str, Key]) -> dict[str, Said]:
        return {
            name: Said(self._read_value(name, value, where, keys), where)
            for name, value in table.items()
            for where in [self.locate((*inside, name))]
        }

    def _read_value(self, name: str, value: Any, where: str, keys: Mapping[str, Key]) -> Any:
        if name not in keys:
            raise RequestError(f"{where}: {shorten_text(name)} is no key here", _hint_keys(name, keys))
        try:
            found = keys[name].read(value)
            if name == "preset":
                return locate_preset(found, self.path.absolute().parent)
            if name == "presets":
                return tuple(locate_preset(text, self.path.absolute().parent) for text in found)
            return found
        except (TypeError, ValueError):
            raise RequestError(f"{where}: {name} = {spell_value(value)} is not {keys[name].form}") from None
        except RequestError as error:
            raise located(error, where, name) from None


def located(error: RequestError, where: str, key: str) -> RequestError:
    """Return an error of the same kind that says which key of which place it is from.

    Parameters
    ----------
    where : as `Said.where`
    """
    kind = next((known for known in (PresetError, ModelError) if isinstance(error, known)), RequestError)
    # On a command line it is named by the message alone, and changes are those of --set.
    message = error.message.removeprefix("--set ")
    is_named = message.startswith((f"{key} ", f"{key.removesuffix('s')} "))
    return kind(f"{where}: {message}" if is_named else f"{where}: {key}: {message}", error.hint)


def _hint_keys(name: str, keys: Collection[str]) -> str:
    if name in WATCHING and keys is not WATCHING:
        return f"below [{WATCH_TABLE}] it is one"
    if name in WISHES and keys is WATCHING:
        return f"it stands above [{WATCH_TABLE}], at the head of the file"
    near = difflib.get_close_matches(name, keys, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"


def _read_document(path: Path) -> _Document | None:
    try:
        # Notepad begins a file with a byte order mark.
        text = read_small_file(path, MAX_BYTES).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise RequestError(
            f"{str(path)!r} cannot be read: {error.strerror or error}", "check its rights, or remove it"
        ) from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{str(path)!r} is no text: {error}", "save it as UTF-8") from None
    try:
        return _Document(path, *_parse(text))
    except tomllib.TOMLDecodeError as error:
        raise _tell_mistake(path, text, str(error)) from None


def _tell_mistake(path: Path, text: str, reason: str) -> RequestError:
    """Return what is wrong with a document, with the line in the place where every other mistake has it."""
    found = _POSITION.search(reason)
    if found is None:
        return RequestError(f"{str(path)!r}: {reason}", "mend or remove that line")
    # Lines end as in TOML, and nowhere else.
    lines = text.rstrip().split("\n")
    number = int(found[1] or len(lines))
    message = f"{str(path)!r}, line {number}: {reason[: found.start()]}"
    bare = _BARE_WORD.fullmatch(lines[number - 1]) if number <= len(lines) else None
    if bare is None:
        return RequestError(message, "mend or remove that line")
    key, word = bare.groups()
    if word.lower() in ("true", "false"):
        return RequestError(message, f"{key} = {word.lower()} in small letters")
    return RequestError(message, f'text needs quotes: {shorten_text(key)} = "{shorten_text(word)}"')


@lru_cache(maxsize=64)
def _parse(text: str) -> tuple[Mapping[str, Any], Mapping[Place, int]]:
    """Return a document's table and its lines: thousands of files lie in one folder, and ask the same one."""
    return read_toml(text), list_lines(text)


# --- what a value may be --------------------------------------------------------------------------------


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not value.strip() or not value.isprintable():
        raise ValueError
    return value


def _read_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(dict.fromkeys(_read_text(entry) for entry in value))


def _read_truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _read_whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if value < 0:
        raise ValueError
    return value


def _read_number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value)


def _choose(allowed: Sequence[str]) -> Key:
    def read(value: Any) -> str:
        if _read_text(value) not in allowed:
            raise ValueError
        return str(value)

    return Key(f"one of {', '.join(allowed)}", read)


def _range(lowest: float, highest: float, unit: str) -> Key:
    def read(value: Any) -> float:
        if not lowest <= _read_number(value) <= highest:
            raise ValueError
        return float(value)

    return Key(f"{lowest:g} to {highest:g} {unit}", read)


def _check(key: Key, check: Callable[[Any], object]) -> Key:
    """Return a key whose value has to pass ``check`` too, which raises an error of ours."""

    def read(value: Any) -> Any:
        found = key.read(value)
        check(found)
        return found

    return Key(key.form, read)


def _read_use(value: Any) -> str:
    use = _read_text(value)
    try:
        return find_recipe(use).use
    except RequestError as error:
        raise RequestError(f"{shorten_text(repr(use))} is none", error.hint) from None


def _read_results(value: Any) -> str:
    name = _read_text(value)
    if sanitise_name(name) != name or name.casefold() == FAILED:
        raise ValueError
    return name


def _read_network(value: Any) -> bool | None:
    return None if value == "auto" else _read_truth(value)


_TEXT = Key("a text", _read_text)
_TEXTS = Key('a list of texts, ["..."]', _read_texts)
_TRUTH = Key("true or false", _read_truth)
_WHOLE = Key("a whole number from 0 on", _read_whole)
_NUMBER = Key("a number", _read_number)

WISHES: Mapping[str, Key] = {
    "use": Key("a text", _read_use),
    "model": _check(_TEXT, find_model),
    "quality": _choose(tuple(QUALITIES)),
    "overlap": _check(_NUMBER, lambda overlap: check_ranges(overlap, 0)),
    "shifts": _check(_WHOLE, lambda shifts: check_ranges(0.0, shifts)),
    "seed": _WHOLE,
    "precision": Key("a text", lambda value: find_precision(_read_text(value))),
    "stems": _TEXTS,
    "two_stems": _TEXT,
    "residual": Key("a text", lambda value: find_policy(_read_text(value))),
    "format": _check(_TEXT, check_format),
    "exact_float": _TRUTH,
    "mono": _TEXTS,
    "mp3": _TRUTH,
    "file_names": _check(_TEXT, check_file_names),
    "sessions": _check(_TEXTS, check_sessions),
    "preset": _TEXT,
    "presets": _TEXTS,
    "changes": Key('a list such as ["vocals.gain_db=-3"]', _read_texts),
    "stems_out": _TRUTH,
    "report": _TRUTH,
    "match": _choose(MATCHES),
    "ceiling_dbtp": _range(MIN_CEILING_DBTP, MAX_CEILING_DBTP, "dBTP"),
    "tail": _choose(TAILS),
    "remix_format": _check(_TEXT, check_format),
    "remix_mp3": _TRUTH,
    "speed": _check(_NUMBER, lambda speed: check_practice(speed, 0.0)),
    "pitch": _check(_NUMBER, lambda pitch: check_practice(1.0, pitch)),
}
"""What can be wished for a file, by key: fields of `SplitRequest`, then those of `RemixRequest`."""

WATCHING: Mapping[str, Key] = {
    "results": Key("a folder's name, other than that of failures", _read_results),
    "quiet_s": _range(0.1, 3600.0, "seconds"),
    "network": Key('"auto", true or false', _read_network),
    "notify": _TRUTH,
    "scan_s": _range(0.5, 86400.0, "seconds"),
}
"""What can be said of how a folder is watched, by key."""
