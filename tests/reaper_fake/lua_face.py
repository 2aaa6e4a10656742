"""REAPER as a Lua script sees it: the tables `reaper` and `gfx` in a Lua 5.4 of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa.lua54 as lupa  # type: ignore[import-untyped]

from reaper_fake.contract import Field, Function
from reaper_fake.reaper import POINTER_TYPES, FakeReaper, Pointer

_PRELUDE = """
local reaper_names, gfx_names, get, set, forbid = ...
local function strict(name, names)
  return setmetatable({}, {
    __index = function(_, key)
      if names[key] ~= nil then return names[key] end
      return get(name, key)
    end,
    __newindex = function(_, key, value) set(name, key, value) end,
  })
end
reaper = strict("reaper", reaper_names)
gfx = strict("gfx", gfx_names)
package.path, package.cpath = "", ""
os.execute = function() forbid("os.execute") end
os.exit = function() forbid("os.exit") end
io.popen = function() forbid("io.popen") end
io.read = function() forbid("io.read") end
python = nil
"""

_ARRAY = """
local breach = ...
return function(first, size)
  local values, count = {}, size
  if type(first) == "number" then count = first
  elseif first ~= nil then
    count = size or #first
    for index = 1, count do values[index] = first[index] end
  end
  if math.type(count) == nil or count < 1 or count > 4194303 then
    breach("reaper.new_array of " .. tostring(count))
  end
  count = math.tointeger(count)
  for index = 1, count do values[index] = values[index] or 0.0 end
  local methods = {}
  function methods.table(offset, amount)
    local found = {}
    offset = offset or 1
    for index = offset, offset + (amount or count - offset + 1) - 1 do found[#found + 1] = values[index] end
    return found
  end
  function methods.clear(value, offset, amount)
    offset = offset or 1
    for index = offset, offset + (amount or count - offset + 1) - 1 do values[index] = value or 0.0 end
  end
  function methods.get_alloc() return count end
  local function check(key)
    local is_inside = math.type(key) ~= nil and key >= 1 and key <= count
    if not is_inside then breach("reaper.array has no " .. tostring(key)) end
  end
  return setmetatable({}, {
    __len = function() return count end,
    __index = function(_, key)
      if methods[key] then return methods[key] end
      check(key)
      return values[key]
    end,
    __newindex = function(_, key, value)
      check(key)
      values[key] = value
    end,
  })
end
"""


class LuaArray:
    """A reaper.array as the API fills it: counted from 0, of a fixed length."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table["get_alloc"]())

    def __setitem__(self, index: int, value: float) -> None:
        self._table[index + 1] = value


class LuaScript:
    """One Lua action: its interpreter, and the functions it deferred."""

    def __init__(self, reaper: FakeReaper, path: Path) -> None:
        self._reaper = reaper
        self.path = path
        self._deferred: list[Any] = []
        self._at_exit: list[Any] = []
        # Latin-1 carries every byte of a Lua string through Python and back.
        self._lua = lupa.LuaRuntime(
            encoding="latin-1",
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=self._refuse_attribute,
        )
        self._new_array = self._execute(_ARRAY, "=array", self._fail)
        window = reaper.window
        functions = {
            name: self._bind(function)
            for name, function in reaper.contract.functions.items()
            if function.only != "python" and name not in reaper.missing
        }
        drawing = {
            name: self._bind_gfx(name, getattr(window, name)) for name in reaper.contract.gfx_functions
        }
        self._execute(
            _PRELUDE,
            "=prelude",
            self._lua.table_from(functions),
            self._lua.table_from(drawing),
            self._get_unknown,
            self._set_unknown,
            self._forbid,
        )

    @property
    def globals(self) -> Any:
        """The script's globals."""
        return self._lua.globals()

    @property
    def is_running(self) -> bool:
        """Whether anything is deferred."""
        return bool(self._deferred)

    def start(self) -> None:
        """Run the file."""
        self._execute(self.path.read_bytes().decode("latin-1"), f"@{self.path}")

    def run_deferred(self) -> None:
        """Run the functions that were deferred."""
        deferred, self._deferred = self._deferred, []
        for function in deferred:
            function()

    def finish(self) -> None:
        """Run the functions that were to run at exit."""
        for function in self._at_exit:
            function()
        self._at_exit.clear()

    def _execute(self, code: str, name: str, *args: Any) -> Any:
        load = self._lua.eval("function(code, name) return assert(load(code, name, 't')) end")
        return load(code, name.encode("utf-8").decode("latin-1"))(*args)

    def _bind(self, function: Function) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            return self._call(function, args)

        return call

    def _call(self, function: Function, args: tuple[Any, ...]) -> Any:
        """Return only the outputs, several as several."""
        host = self._reaper
        name = function.name
        if not function.accepts(len(args), "lua"):
            raise host.breach(f"reaper.{name} takes {len(function.args)} arguments, not {len(args)}")
        if name == "new_array":
            return self._new_array(*args)
        read = [self._read(name, field, value) for field, value in zip(function.args, args, strict=False)]
        if name in {"defer", "runloop", "atexit"}:
            (self._at_exit if name == "atexit" else self._deferred).append(read[0])
            return ()
        if name == "get_action_context":
            command = host.registered.get(str(self.path), 50000)
            return True, _to_lua(str(self.path)), 0, command, -1, -1, -1, ""
        if name == "set_action_options":
            host.options.append(read[0])
            return ()
        found = host.call(name, read, "lua")
        written = tuple(self._write(field, found[field.name]) for field in function.returns)
        return written[0] if len(written) == 1 else written

    def _read(self, name: str, field: Field, value: Any) -> Any:
        """Return the object of the model that an argument means."""
        host = self._reaper
        kind = field.kind
        if value is None and field.is_optional:
            return None
        if kind in POINTER_TYPES or kind == "pointer":
            return self._read_pointer(name, field, value)
        if kind == "bool" and isinstance(value, bool):
            return value
        if (
            kind == "int"
            and isinstance(value, int | float)
            and not isinstance(value, bool)
            and value == int(value)
        ):
            return int(value)
        if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind == "str" and isinstance(value, str) and "\0" not in value:
            return _from_lua(value)
        if kind == "code" and lupa.lua_type(value) == "function":
            return value
        if kind == "array" and lupa.lua_type(value) == "table":
            return LuaArray(value)
        raise host.breach(f"reaper.{name}: {field.name} = {value!r} is no {kind}")

    def _read_pointer(self, name: str, field: Field, value: Any) -> Any:
        host = self._reaper
        kind = field.kind
        where = f"reaper.{name}: {field.name}"
        if kind in {"project", "pointer"} and (value is None or (value == 0 and not isinstance(value, bool))):
            return host.current if kind == "project" else None
        if not isinstance(value, Pointer):
            raise host.breach(f"{where} = {value!r} is no pointer")
        if kind == "pointer":
            return value
        if value.kind != kind:
            raise host.breach(f"{where} is a {value.kind}, no {kind}")
        if not host.is_alive(value):
            raise host.breach(f"{where} is a stale {kind}")
        return value.target

    def _write(self, field: Field, value: Any) -> Any:
        if value is None:
            return None
        if field.kind in POINTER_TYPES:
            return self._reaper.pointer(field.kind, value)
        return _to_lua(value) if isinstance(value, str) else value

    def _bind_gfx(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        fewest, most = self._reaper.contract.gfx_functions[name]

        def call(*args: Any) -> Any:
            if not fewest <= len(args) <= most:
                raise self._reaper.breach(f"gfx.{name} takes {fewest} to {most} arguments, not {len(args)}")
            given = [_from_lua(arg) if isinstance(arg, str) else arg for arg in args]
            if any(arg is None or isinstance(arg, bool) for arg in given):
                raise self._reaper.breach(f"gfx.{name}{tuple(given)}")
            return method(*given)

        return call

    def _get_unknown(self, table: str, name: Any) -> Any:
        contract, variables = self._reaper.contract, self._reaper.window.variables
        if table == "gfx" and name in contract.gfx_writable | contract.gfx_read_only:
            return variables.get(name, 0.0)
        raise self._reaper.breach(f"{table}.{name} is not in the contract")

    def _set_unknown(self, table: str, name: Any, value: Any) -> None:
        if table == "gfx" and name in self._reaper.contract.gfx_writable:
            self._reaper.window.variables[name] = value
            return
        raise self._reaper.breach(f"{table}.{name} cannot be set")

    def _forbid(self, name: str) -> None:
        raise self._reaper.breach(f"{name} blocks or ends REAPER")

    def _fail(self, message: str) -> None:
        raise self._reaper.breach(message)

    def _refuse_attribute(self, target: Any, name: Any, is_setting: bool) -> Any:
        raise AttributeError(f"a pointer has no {name}")


def _from_lua(text: str) -> str:
    """Return the text that the bytes of a Lua string are."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def _to_lua(text: str) -> str:
    """Return the bytes of `text`, one character each."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")
