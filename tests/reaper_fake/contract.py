"""The contract table read: which functions and parameter names exist, and what they take and give."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CONTRACT_FILE = Path(__file__).parents[1] / "reaper_contract.toml"

Language = Literal["lua", "python"]


class ContractBreach(AssertionError):
    """Raised, and recorded, when a script does what REAPER's API would not do or a user would not want."""


@dataclass(frozen=True, slots=True)
class Field:
    """One argument or one result: its name, its kind, and whether it may be left out."""

    name: str
    kind: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the API in both languages."""

    name: str
    args: tuple[Field, ...]
    returns: tuple[Field, ...]
    python_args: tuple[Field, ...]
    python_returns: tuple[str, ...] | None
    only: Language | None

    def args_in(self, language: Language) -> tuple[Field, ...]:
        """Return what a script of `language` passes."""
        return self.args if language == "lua" else self.python_args

    def accepts(self, count: int, language: Language) -> bool:
        """Return whether so many arguments will do; Python takes no fewer than all."""
        args = self.args_in(language)
        fewest = len(args)
        while language == "lua" and fewest and args[fewest - 1].is_optional:
            fewest -= 1
        return fewest <= count <= len(args)


@dataclass(frozen=True, slots=True)
class Keys:
    """The parameter names of one kind of object."""

    writable: frozenset[str]
    read_only: frozenset[str]
    strings: frozenset[str]
    strings_read_only: frozenset[str]

    def has_string(self, key: str) -> bool:
        """Return whether `key` names a text: P_EXT takes any name of the script's own behind the colon."""
        if key.startswith("P_EXT:"):
            return "P_EXT:" in self.strings and key != "P_EXT:"
        return key in self.strings | self.strings_read_only


@dataclass(frozen=True, slots=True)
class Contract:
    """The whole table."""

    functions: dict[str, Function]
    keys: dict[str, Keys]
    actions: dict[int, str]
    gfx_functions: dict[str, tuple[int, int]]
    gfx_writable: frozenset[str]
    gfx_read_only: frozenset[str]


@functools.cache
def read_contract(path: Path = CONTRACT_FILE) -> Contract:
    """Return the table in `path`; a tuple length that does not follow from the names is an error there."""
    table = tomllib.loads(path.read_text("utf-8"))
    gfx = table["gfx"]
    return Contract(
        functions={name: _read_function(name, entry) for name, entry in table["functions"].items()},
        keys={kind: _read_keys(table[kind]) for kind in ("item", "take", "track", "project")},
        actions={int(number): name for number, name in table["actions"].items()},
        gfx_functions={name: (fewest, most) for name, (fewest, most) in gfx["functions"].items()},
        gfx_writable=frozenset(gfx["variables"]["writable"]),
        gfx_read_only=frozenset(gfx["variables"]["read_only"]),
    )


def _read_function(name: str, entry: dict[str, Any]) -> Function:
    args = _read_fields(entry["args"])
    returns = _read_fields(entry["returns"])
    if "python" not in entry:
        assert len(returns) <= 1 or entry.get("only") == "lua", (
            f"{name}: several returns need a `python` line"
        )
        return Function(name, args, returns, args, None, entry.get("only"))
    known = {field.name: field for field in (*returns, *args)}
    python_args = tuple(_read_field(word) if ":" in word else known[word] for word in entry["python"].split())
    if "python_returns" in entry:
        names = tuple(entry["python_returns"].split())
    else:
        names = ("retval",) * ("retval" in known) + tuple(field.name for field in python_args)
    assert len(names) == entry["tuple"], f"{name}: {names} is not a tuple of {entry['tuple']}"
    return Function(name, args, returns, python_args, names, entry.get("only"))


def _read_fields(text: str) -> tuple[Field, ...]:
    return tuple(_read_field(word) for word in text.split())


def _read_field(word: str) -> Field:
    name, kind = word.split(":")
    return Field(name, kind.removesuffix("?"), kind.endswith("?"))


def _read_keys(entry: dict[str, list[str]]) -> Keys:
    return Keys(
        writable=frozenset(entry["writable"]),
        read_only=frozenset(entry["read_only"]),
        strings=frozenset(entry["strings"]),
        strings_read_only=frozenset(entry.get("strings_read_only", ())),
    )
