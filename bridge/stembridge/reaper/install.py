"""The scripts in REAPER's resource folder: put there, configured, made known to REAPER, and taken away again.

Everything lies in one folder, ``Scripts/Stembridge``, with a record of what was written; besides it only a
marked block in ``Scripts/__startup.lua`` is ours: it makes REAPER list the actions. Where ReaPack has brought
the scripts, ReaPack lists them too: they get their configuration and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path

from stembridge import __version__
from stembridge.errors import OutputError, RequestError
from stembridge.reaper.actions import LOOP
from stembridge.settings import Settings

FOLDER = "Stembridge"
"""Name of our folder under REAPER's Scripts."""
CONFIG_NAME = "stembridge_config.json"
RECORD_NAME = "installed.json"
"""Beside the configuration: sha256 by name of every file that an installation wrote."""
STARTUP_NAME = "__startup.lua"
"""The script that REAPER runs when it starts."""
PACKAGE = "reaper_scripts/stembridge.lua"
"""The package file of ReaPack, below the folder of the repository that it came from."""
LANGUAGES = ("lua", "py")

_BEGIN = b"-- stembridge: begin"
_END = b"-- stembridge: end"
_BLOCK_LINES = (
    _BEGIN + b" (written by `stembridge reaper install`, goes with `stembridge reaper uninstall`)",
    b"do",
    b'  local path = reaper.GetResourcePath() .. "/Scripts/Stembridge/lib/register.lua"',
    b"  if reaper.file_exists(path) then pcall(dofile, path) end",
    b"end",
    _END,
)
_MARK = rb"^-- stembridge: (?:begin|end)"
_BLOCK = re.compile(
    rb"^" + _BEGIN + rb"[^\n]*\n(?:(?!" + _MARK + rb").)*^" + _END + rb"[^\n]*(?:\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def resource_places(system: str, environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return where REAPER keeps its settings: the usual place first, then those of portable installations.

    Parameters
    ----------
    system : as `sys.platform`
    """
    if system == "win32":
        usual = [Path(environ["APPDATA"]) / "REAPER"] if environ.get("APPDATA") else []
        programs = [environ[name] for name in ("ProgramFiles", "ProgramFiles(x86)") if environ.get(name)]
        return (*usual, *(Path(folder) / name for folder in programs for name in ("REAPER (x64)", "REAPER")))
    if system == "darwin":
        usual = [home / "Library" / "Application Support" / "REAPER"]
        return (*usual, Path("/Applications"), home / "Applications")
    usual = [home / ".config" / "REAPER"]
    beside = [Path("/opt/REAPER"), home / "opt" / "REAPER"]
    executable = shutil.which("reaper", path=environ.get("PATH"))
    if executable is not None:
        beside.insert(0, Path(executable).resolve().parent)
    return (*usual, *dict.fromkeys(beside))


def find_resource(places: Sequence[Path]) -> Path:
    """Return the one place that holds a reaper.ini.

    Raises
    ------
    RequestError
        None does, or several do.
    """
    found = [place for place in places if (place / "reaper.ini").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(repr(str(place)) for place in found)
        raise RequestError(f"several REAPERs are here: {names}", "name one with --resource DIR")
    names = ", ".join(repr(str(place)) for place in places)
    raise RequestError(
        f"no REAPER was found: no reaper.ini in {names}",
        "start REAPER once, or name its folder with --resource DIR: Options > Show REAPER resource path",
    )


def check_resource(folder: Path) -> Path:
    """Return a resource folder that was named, absolute.

    Raises
    ------
    RequestError
        It holds no reaper.ini.
    """
    if not (folder / "reaper.ini").is_file():
        raise RequestError(
            f"{str(folder)!r} is no resource folder of REAPER: it holds no reaper.ini",
            "start REAPER once; Options > Show REAPER resource path names the folder",
        )
    return folder.absolute()


def find_scripts() -> Path:
    """Return the folder with actions and lib: a wheel's own, or the source tree of an editable install."""
    package = Path(str(resources.files("stembridge")))
    for folder in (package / "_data" / "reaper_scripts", package.parent.parent / "reaper_scripts"):
        if (folder / "lib").is_dir():
            return folder
    raise RequestError("this installation of Stembridge has no scripts for REAPER", "install it again")


def find_cli() -> Path:
    """Return the `stembridge` command that belongs to this interpreter, else the one on the PATH.

    Raises
    ------
    RequestError
        There is neither.
    """
    name = "stembridge.exe" if os.name == "nt" else "stembridge"
    # Not resolved: the interpreter of a virtual environment is a link out of it.
    beside = Path(sys.executable).absolute().with_name(name)
    if beside.is_file():
        return beside
    found = shutil.which("stembridge")
    if found is None:
        raise RequestError(
            f"no stembridge command beside {sys.executable!r} nor on the PATH", "install Stembridge again"
        )
    return Path(found).absolute()


def install(resource: Path, settings: Settings, *, language: str, cli: Path, scripts: Path) -> list[str]:
    """Put the scripts of one language where REAPER finds them; return a line for each thing that was done.

    Parameters
    ----------
    resource : REAPER's resource folder
    language : of `LANGUAGES`
    cli : the command that the scripts run
    scripts : as `find_scripts` gives it

    Raises
    ------
    RequestError
        Python was asked for, and ReaPack has installed the Lua actions.
    OutputError
        `__startup.lua` holds half of our block.
    """
    config = _config(settings, cli)
    package = find_package(resource)
    if package is not None:
        if language != "lua":
            raise RequestError(
                f"ReaPack has installed the Lua actions in {str(package)!r}",
                "remove the package in ReaPack first, so that no action appears twice",
            )
        told = _uninstall_own(resource)
        if told:
            told.append("run the action stembridge.lua once: it takes the former actions out of the list")
        told += _sync(package, {CONFIG_NAME: config})
        told.append(f"ReaPack's scripts in {str(package)!r} know Stembridge now")
        version = _package_version(package)
        if version != __version__:
            told.append(f"they are of version {version}, Stembridge is {__version__}: update both")
        return told
    # Before any file is written: a block that is broken ends the installation.
    startup, text = _startup_with_block(resource)
    root = resource / "Scripts" / FOLDER
    wanted = {name: path.read_bytes() for name, path in _script_files(scripts, language)}
    # An action that no record knows would appear twice all the same.
    strays = [
        f"actions/{path.name}" for each in LANGUAGES for path in root.glob(f"actions/stembridge_*.{each}")
    ]
    told = _sync(root, {**wanted, CONFIG_NAME: config}, strays)
    actions = sum(name.startswith("actions/") and Path(name).stem != LOOP for name in wanted)
    kind = "Python" if language == "py" else "Lua"
    told.append(f"{actions} {kind} actions are in {str(root)!r}")
    if _write_if_other(startup, text):
        told.append(f"{str(startup)!r} makes REAPER list them when it starts")
    return told


def uninstall(resource: Path) -> list[str]:
    """Take away everything that `install` wrote; return a line for each thing that was done."""
    told = _uninstall_own(resource)
    package = find_package(resource)
    if package is not None:
        told += _sync(package, {})
        told.append(f"ReaPack's scripts in {str(package)!r} stay: remove the package in ReaPack")
    return told


def _uninstall_own(resource: Path) -> list[str]:
    """Take away what `install` wrote itself, and leave what ReaPack brought."""
    told = []
    startup = resource / "Scripts" / STARTUP_NAME
    if startup.exists():
        text = startup.read_bytes()
        rest = _without_block(text, startup)
        if rest != text:
            if rest:
                _write_if_other(startup, rest)
                told.append(f"Stembridge's lines are gone from {str(startup)!r}, all others stay")
            else:
                startup.unlink()
                told.append(f"{str(startup)!r} held Stembridge's lines alone: it is gone")
    root = resource / "Scripts" / FOLDER
    if (root / RECORD_NAME).exists():
        told += _sync(root, {})
        left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
        stay = f"; what is not Stembridge's stays there: {', '.join(left)}" if left else ""
        told.append(f"the scripts are gone from {str(root)!r}{stay}")
    return told


def find_register(resource: Path) -> Path:
    """Return the script that makes REAPER list the actions without a restart."""
    root = find_package(resource) or resource / "Scripts" / FOLDER
    return root / "lib" / "register.lua"


def find_package(resource: Path) -> Path | None:
    """Return the folder into which ReaPack has put the scripts, None where it has not."""
    return next((path.parent for path in sorted((resource / "Scripts").glob(f"*/{PACKAGE}"))), None)


def _package_version(folder: Path) -> str:
    text = (folder / Path(PACKAGE).name).read_text("utf-8", errors="replace")
    found = re.search(r"@version\s+(\S+)", text)
    return found[1] if found else "unknown"


def _config(settings: Settings, cli: Path) -> bytes:
    values = {
        "cli": str(cli),
        "connection_file": str(settings.connection_file),
        "work_dir": str(settings.reaper_work_dir),
        "version": __version__,
    }
    return (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode("utf-8", errors="surrogateescape")


def _script_files(scripts: Path, language: str) -> Iterator[tuple[str, Path]]:
    """Yield name and place of every file to install: the actions of one language, and all of lib."""
    suffixes = {f".{each}" for each in LANGUAGES}
    for folder, endings in (("actions", {f".{language}"}), ("lib", suffixes)):
        for path in sorted((scripts / folder).glob("*")):
            if path.suffix in endings:
                yield f"{folder}/{path.name}", path


def _sync(root: Path, wanted: Mapping[str, bytes], strays: Sequence[str] = ()) -> list[str]:
    """Make ``root`` hold ``wanted`` and nothing else of ours; return a line for each file that was set aside.

    ``strays`` are to go too, though we may not have written them. A file whose content is neither the new one
    nor the one that was installed is somebody's own work: it is kept under another name.
    """
    known = _read_record(root)
    told = []
    for name in sorted({*known, *wanted, *strays}):
        path, content = root / name, wanted.get(name)
        held = path.read_bytes() if path.is_file() else None
        if held is not None and held != content and _hash(held) != known.get(name):
            kept = _free_name(path)
            path.rename(kept)
            told.append(f"{str(path)!r} was edited: kept as {kept.name!r}")
        if content is None:
            path.unlink(missing_ok=True)
            _remove_bytecode(path)
        elif held != content:
            _write(path, content)
    record = {"version": __version__, "files": {name: _hash(content) for name, content in wanted.items()}}
    if wanted:
        _write_if_other(root / RECORD_NAME, json.dumps(record, indent=1).encode() + b"\n")
    else:
        (root / RECORD_NAME).unlink(missing_ok=True)
    for folder in (root / "actions", root / "lib", root):
        # What is left in one is not ours.
        with suppress(OSError):
            folder.rmdir()
    return told


def _read_record(root: Path) -> dict[str, str]:
    """Return the sha256 by name of what an earlier installation wrote; nothing where that cannot be read."""
    try:
        files = json.loads((root / RECORD_NAME).read_bytes())["files"]
        # A name that leads out of the folder was never written by us.
        return {str(name): str(value) for name, value in files.items() if ".." not in Path(name).parts}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _remove_bytecode(path: Path) -> None:
    """Remove what Python has made of a module of ours."""
    if path.suffix != ".py":
        return
    cache = path.parent / "__pycache__"
    for compiled in cache.glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    with suppress(OSError):
        cache.rmdir()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _free_name(path: Path) -> Path:
    kept = path.with_name(f"{path.name}.bak")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.bak{number}")
    return kept


def _startup_with_block(resource: Path) -> tuple[Path, bytes]:
    """Return the start-up script and what it is to hold: our block first, then all that was there."""
    path = resource / "Scripts" / STARTUP_NAME
    text = _without_block(path.read_bytes(), path) if path.exists() else b""
    newline = b"\r\n" if b"\r\n" in text else b"\n"
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else b""
    # In front, because nothing may follow a `return`.
    return path, mark + newline.join((*_BLOCK_LINES, b"")) + text[len(mark) :]


def _without_block(text: bytes, path: Path) -> bytes:
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else b""
    rest = mark + _BLOCK.sub(b"", text[len(mark) :])
    if re.search(_MARK, rest[len(mark) :], re.MULTILINE):
        raise OutputError(
            f"{str(path)!r} holds only half of Stembridge's lines", "remove the rest of them by hand"
        )
    return rest


def _write_if_other(path: Path, content: bytes) -> bool:
    """Write a file unless it holds that already; tell whether it was written."""
    if path.is_file() and path.read_bytes() == content:
        return False
    _write(path, content)
    return True


def _write(path: Path, content: bytes) -> None:
    """Write a file by one rename, so that REAPER never sees half of it; links and rights stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.resolve()
    temporary = target.with_name(f"{target.name}.new")
    try:
        temporary.write_bytes(content)
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
