"""REAPER as a Python script sees it: `RPR_*` globals and the module `reaper_python`."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reaper_fake.contract import Field, Function
from reaper_fake.reaper import POINTER_TYPES, FakeReaper

_POINTER = re.compile(r"\((\w+\*)\)0x([0-9A-F]{16})")


class PythonFace:
    """The API functions under their Python names, each checked against the contract."""

    def __init__(self, reaper: FakeReaper) -> None:
        self._reaper = reaper
        self.deferred: list[str] = []
        self.at_exit: list[str] = []

    def names(self) -> dict[str, Callable[..., Any]]:
        """Return `RPR_` names and what to call."""
        return {
            "RPR_" + name: self._bind(function)
            for name, function in self._reaper.contract.functions.items()
            if function.only != "lua" and name not in self._reaper.missing
        }

    def _bind(self, function: Function) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            return self.call(function, args)

        call.__name__ = "RPR_" + function.name
        return call

    def call(self, function: Function, args: tuple[Any, ...]) -> Any:
        """Return what REAPER's wrapper returns: nothing, one value, or a tuple with every argument in it."""
        host = self._reaper
        if not function.accepts(len(args), "python"):
            raise host.breach(
                f"RPR_{function.name} takes {len(function.python_args)} arguments, not {len(args)}"
            )
        read = {
            field.name: self._read(function, field, value)
            for field, value in zip(function.python_args, args, strict=True)
        }
        if function.name in {"defer", "runloop", "atexit"}:
            (self.at_exit if function.name == "atexit" else self.deferred).append(args[0])
            return None
        found = host.call(function.name, [read[field.name] for field in function.args], "python")
        kinds = {field.name: field for field in function.returns}
        written = {name: self._write(kinds[name], value) for name, value in found.items()}
        if function.python_returns is None:
            return next(iter(written.values()), None)
        given = dict(zip((field.name for field in function.python_args), args, strict=True))
        return tuple(written[name] if name in written else given[name] for name in function.python_returns)

    def _read(self, function: Function, field: Field, value: Any) -> Any:
        """Return the object of the model that an argument means."""
        host = self._reaper
        where = f"RPR_{function.name}: {field.name} = {value!r}"
        kind = field.kind
        if kind in POINTER_TYPES or kind == "pointer":
            return self._read_pointer(kind, value, where)
        if kind == "bool" and (isinstance(value, bool) or value in {0, 1}):
            return bool(value)
        if kind == "int" and isinstance(value, int) and -(2**31) <= value < 2**31:
            return int(value)
        if kind == "float" and isinstance(value, int | float):
            return float(value)
        if kind in {"str", "code"} and isinstance(value, str) and "\0" not in value:
            return value
        if kind == "array" and isinstance(value, list):
            return value
        raise host.breach(f"{where} is no {kind}")

    def _read_pointer(self, kind: str, value: Any, where: str) -> Any:
        host = self._reaper
        match = _POINTER.fullmatch(value) if isinstance(value, str) else None
        if (match and int(match[2], 16) == 0) or (value == 0 and not isinstance(value, str)):
            if kind in {"project", "pointer"}:
                return host.current if kind == "project" else None
            raise host.breach(f"{where} is no {kind} but null")
        pointer = host.find_pointer(int(match[2], 16)) if match else None
        if kind == "pointer":
            return pointer
        if pointer is None:
            raise host.breach(f"{where} is no pointer")
        if pointer.kind != kind:
            raise host.breach(f"{where} is no {kind}")
        if not host.is_alive(pointer):
            raise host.breach(f"{where} is stale")
        return pointer.target

    def _write(self, field: Field, value: Any) -> Any:
        kind = field.kind
        if kind in POINTER_TYPES:
            address = 0 if value is None else self._reaper.pointer(kind, value).address
            return f"({POINTER_TYPES[kind]})0x{address:016X}"
        if kind == "bool":
            return int(value)
        if kind == "str" and value is None:
            # REAPER's wrapper decodes what it gets, and it gets None for a null text.
            raise AttributeError("'NoneType' object has no attribute 'decode'")
        return value


class PythonScript:
    """One Python action: its globals, its modules, and what it deferred."""

    def __init__(self, reaper: FakeReaper, path: Path) -> None:
        self._reaper = reaper
        self.path = path
        self._face = PythonFace(reaper)
        self._api = types.ModuleType("reaper_python")
        self._api.__dict__.update(self._face.names())
        self._modules: dict[str, types.ModuleType] = {"reaper_python": self._api}
        self.globals: dict[str, Any] = {"__name__": "__main__", **self._face.names()}

    @property
    def is_running(self) -> bool:
        """Whether anything is deferred."""
        return bool(self._face.deferred)

    def start(self) -> None:
        """Run the file as REAPER does: no `__file__`, no arguments, its folder first in sys.path."""
        self._run(self.path.read_text("utf-8"), str(self.path))

    def run_deferred(self) -> None:
        """Run the code that was deferred."""
        deferred, self._face.deferred = self._face.deferred, []
        for code in deferred:
            self._run(code, "<deferred>")

    def finish(self) -> None:
        """Run the code that was to run at exit."""
        for code in self._face.at_exit:
            self._run(code, "<atexit>")

    def _run(self, code: str, name: str) -> None:
        with self._inside():
            exec(compile(code, name, "exec"), self.globals)

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Let the script see an interpreter of its own, with the modules it imported before."""
        folder = str(self.path.parent)
        inside = folder + os.sep
        argv, path, before = sys.argv, list(sys.path), dict(sys.modules)
        written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        sys.argv, sys.path[:] = [""], [folder, *path]
        for name in self._modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._modules)
        try:
            yield
        finally:
            sys.argv, sys.path[:], sys.dont_write_bytecode = argv, path, written
            for name, module in list(sys.modules.items()):
                if (getattr(module, "__file__", None) or "").startswith(inside) or name in self._modules:
                    self._modules[name] = sys.modules.pop(name)
                    if name in before:
                        sys.modules[name] = before[name]
