"""TOML as people write it, and tables as TOML. Standard library only."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_MOST_BITS = 63
_MOST_DEPTH = 32
_MOST_SHOWN = 200
_PART = r"""(?:"[^"\n]*+"|'[^'\n]*+'|[A-Za-z0-9_-]++)"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-])(?:{_PART}[ \t]*+\.[ \t]*+){{{_MOST_DEPTH}}}")
"""The way of a key that is deeper than all that is read; tomllib takes an hour for one of a megabyte."""


def read_toml(text: str) -> dict[str, Any]:
    """Return what a TOML document says.

    Raises
    ------
    tomllib.TOMLDecodeError
        It is none, or its numbers or its depth are beyond what anybody means: `tomllib` takes or fails at
        those with other errors, and so does what handles them later.
    """
    if long := _LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise tomllib.TOMLDecodeError(f"a key is nested too deep (at line {line}, column 1)")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise tomllib.TOMLDecodeError("a number in it is too long") from None
    except RecursionError:
        raise tomllib.TOMLDecodeError("its lists and tables are nested too deep") from None
    _check_bounds(table, 0)
    return table


def _check_bounds(value: Any, depth: int) -> None:
    if depth > _MOST_DEPTH:
        raise tomllib.TOMLDecodeError("its lists and tables are nested too deep")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise tomllib.TOMLDecodeError("a number in it is too long")
    if isinstance(value, Mapping | list):
        for entry in value.values() if isinstance(value, Mapping) else value:
            _check_bounds(entry, depth + 1)


def spell_value(value: object) -> str:
    """Return a value as a preset writes it, as much of it as an error can hold."""
    return shorten_text(str(value).lower() if isinstance(value, bool) else repr(value))


def shorten_text(text: str) -> str:
    """Return what somebody wrote, as much of it as an error can hold."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def write_toml(table: Mapping[str, Any]) -> str:
    """Return ``table`` as a TOML document that `tomllib.loads` turns into an equal one.

    Values are texts, numbers, truths, lists and tables; there are no dates here.
    """
    return "\n".join(_write_tables(table, ())).lstrip("\n") + "\n"


def _write_tables(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if _is_section(value, path):
            later.append((key, value))
        else:
            yield f"{_write_key(key)} = {_write_value(value)}"
    for key, value in later:
        name = ".".join(_write_key(part) for part in (*path, key))
        for entry in value if isinstance(value, list) else [value]:
            header = f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            has_lines = isinstance(value, list) or not entry or any(
                not _is_section(inner, (*path, key)) for inner in entry.values()
            )  # fmt: skip
            if has_lines:
                yield f"\n{header}"
            yield from _write_tables(entry, (*path, key))


def _is_section(value: Any, path: tuple[str, ...]) -> bool:
    """Tell whether a value gets headers of its own; small tables deep inside stand in their line."""
    if isinstance(value, Mapping):
        return len(path) < 2 and not (path and path[0] == "sends")
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _write_key(key: str) -> str:
    return key if key and _BARE.issuperset(key) else _write_text(key)


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _write_text(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_write_key(key)} = {_write_value(entry)}" for key, entry in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_write_value, value))}]"
    return repr(value)


def _write_text(text: str) -> str:
    """Return a basic string: JSON's escapes are TOML's, and DEL is one more that must not stand bare."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
