"""One frozen `Settings`, made at the top and passed down: defaults < settings.toml < environment < flags.

``STEMBRIDGE_HOME`` (or ``--home``) puts every folder under one root; without it they lie where the system
wants them (platformdirs). Beside it the environment sets what is a client's own to choose, `ENVIRONMENT`. The
daemon never reads the environment, so a setting of the daemon's there is refused rather than half obeyed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from stembridge.delivery import check_file_names
from stembridge.errors import RequestError
from stembridge.home_path import find_home
from stembridge.processor import ALL_CORES
from stembridge.quality import find_precision
from stembridge.types import FILE_NAMES, Precision

DEVICES = ("auto", "cuda", "mps", "cpu")
TRANSPORTS = ("ipc", "tcp")
PRIORITIES = ("low", "normal")
ENVIRONMENT = ("model",)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.

    Parameters
    ----------
    home : root of all folders, or None for the system's own places
    config_file : the TOML file that was looked for
    state_dir : job table, lock, logs
    runtime_dir : socket and connection.json; 0700
    model_dirs : folders with model files, searched in order; downloads go into the first
    model : model used where none is named
    device : 'auto', 'cuda', 'mps' or 'cpu'
    transport : 'ipc' or 'tcp' (loopback with CURVE)
    keep_alive_s : idle seconds before the worker and its models are unloaded; 0 at once, -1 never
    stop_grace_s : seconds a running job may go on after SIGTERM before it is requeued
    threads : threads of a CPU worker; 0 is all cores but one where there are more than two, -1 all of them
    worker_priority : 'low' or 'normal': how the system ranks what splits and renders beside other programs
    compile : have models compiled for the GPU in the background, while they serve as they are
    max_queue : jobs that may wait before the daemon answers busy
    plugin_dirs : folders with plugins that presets may use, beside the system's own
    file_names : what stems are called where nothing else is asked for; see `stembridge.types.SplitRequest`
    watch_dirs : folders that are watched as long as the daemon runs
    precision : how models compute where nothing else is asked for; see `stembridge.types.SplitRequest`
    """

    home: Path | None
    config_file: Path
    state_dir: Path
    runtime_dir: Path
    model_dirs: tuple[Path, ...]
    model: str = "htdemucs"
    device: str = "auto"
    transport: str = "tcp" if os.name == "nt" else "ipc"
    keep_alive_s: float = 300.0
    stop_grace_s: float = 10.0
    threads: int = 0
    worker_priority: str = "low"
    compile: bool = False
    max_queue: int = 512
    plugin_dirs: tuple[Path, ...] = ()
    file_names: str = FILE_NAMES
    watch_dirs: tuple[Path, ...] = ()
    precision: Precision = Precision.FULL

    @property
    def log_file(self) -> Path:
        return self.state_dir / "logs" / "stembridged.log"

    @property
    def worker_log_file(self) -> Path:
        return self.state_dir / "logs" / "worker.log"

    @property
    def render_log_file(self) -> Path:
        return self.state_dir / "logs" / "render.log"

    @property
    def watch_log_file(self) -> Path:
        return self.state_dir / "logs" / "watch.log"

    @property
    def job_table(self) -> Path:
        return self.state_dir / "jobs.sqlite"

    @property
    def lock_file(self) -> Path:
        return self.state_dir / "stembridged.lock"

    @property
    def connection_file(self) -> Path:
        return self.runtime_dir / "connection.json"

    @property
    def reaper_work_dir(self) -> Path:
        """Where REAPER's Lua scripts and `stembridge reaper run` leave notes and replies for each other."""
        return self.state_dir / "reaper"


_FOLDERS = ("model_dirs", "plugin_dirs", "watch_dirs")
_TEXT_CHECKS: Mapping[str, Callable[[str], object]] = {
    "file_names": check_file_names,
    "precision": find_precision,
}
_SPELLINGS = {"int": "a whole number", "float": "a number", "bool": "true or false, without quotes"}
_PLACES = ("home", "config_file", "state_dir", "runtime_dir")


def load_settings(
    *, home: Path | None = None, environ: Mapping[str, str] | None = None, **flags: Any
) -> Settings:
    """Return the settings in force.

    Parameters
    ----------
    home : root of all folders; wins over ``STEMBRIDGE_HOME``; its name must be text
    environ : the environment to read; None means the process's own
    flags : fields of `Settings` that win over everything; None values are passed over

    Raises
    ------
    RequestError
        A key, a type or a value that is not one of ours, with its place.
    """
    environ = os.environ if environ is None else environ
    if home is None and environ.get("STEMBRIDGE_HOME"):
        home = Path(environ["STEMBRIDGE_HOME"])
    values = _default_places(find_home(home).absolute() if home else None)
    values |= _from_file(values["config_file"])
    values |= _from_environment(environ)
    values |= {name: value for name, value in flags.items() if value is not None}
    return _checked(values)


def _default_places(home: Path | None) -> dict[str, Any]:
    if home is not None:
        return {
            "home": home,
            "config_file": home / "settings.toml",
            "state_dir": home / "state",
            "runtime_dir": home / "run",
            "model_dirs": (home / "models",),
        }
    from platformdirs import PlatformDirs

    dirs = PlatformDirs("stembridge", appauthor=False)
    return {
        "home": None,
        "config_file": dirs.user_config_path / "settings.toml",
        "state_dir": dirs.user_state_path,
        "runtime_dir": Path(dirs.user_state_dir) / "run",
        "model_dirs": (dirs.user_data_path / "models",),
    }


def _from_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    import tomllib

    from stembridge.toml_text import read_toml

    try:
        # Notepad begins a file with a byte order mark.
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"settings file {path} cannot be read: {error}") from None
    try:
        table = read_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"settings file {path}: {error}", "mend or remove that line") from None
    return {key: _converted(key, value, f"{path}: {key}") for key, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, text in environ.items():
        key = name.removeprefix("STEMBRIDGE_").lower()
        if not name.startswith("STEMBRIDGE_") or key not in _SETTABLE:
            continue
        if key not in ENVIRONMENT:
            raise RequestError(
                f"{name} is set, but the daemon reads no environment", f"set {key} in settings.toml"
            )
        found[key] = _converted(key, text, name)
    return found


_SETTABLE = {field.name: field.type for field in fields(Settings) if field.name not in _PLACES}


def _converted(key: str, value: Any, where: str) -> Any:
    """Return ``value`` in the type of field ``key``; TOML gives types, the environment gives text."""
    if key not in _SETTABLE:
        import difflib

        near = difflib.get_close_matches(key, _SETTABLE, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise RequestError(
            f"{where} is no setting", f"{meant}the settings are {', '.join(sorted(_SETTABLE))}"
        )
    kind = str(_SETTABLE[key])
    try:
        if key in _FOLDERS:
            if not isinstance(value, list):
                raise TypeError
            folders = [find_home(Path(part)) for part in value]
            if key == "watch_dirs":
                _check_absolute(folders, where)
            return tuple(folder.absolute() for folder in folders)
        if kind == "int":
            if isinstance(value, bool) or int(value) != float(value):
                raise TypeError
            return int(value)
        if kind == "bool":
            if not isinstance(value, bool):
                raise TypeError
            return value
        if kind == "float":
            return float(value)
    except (TypeError, ValueError, OverflowError):
        what = 'a list of folders, ["FOLDER"]' if key.endswith("_dirs") else f"of type {kind}"
        raise RequestError(f"{where} = {value!r} is not {what}", _SPELLINGS.get(kind, "")) from None
    if not isinstance(value, str):
        raise RequestError(f"{where} = {value!r} is not of type str", "text, in quotes")
    if key in _TEXT_CHECKS:
        try:
            _TEXT_CHECKS[key](value)
        except RequestError as error:
            raise RequestError(f"{where.removesuffix(key)}{error.message}", error.hint) from None
    return value


def _check_absolute(folders: Iterable[Path], where: str) -> None:
    """Refuse a folder that would be another one for each process, by the folder in which that stands."""
    for folder in folders:
        if not folder.is_absolute():
            raise RequestError(
                f"{where} names {str(folder)!r}, which is not a whole path", 'as in "~/drop" or "/music/drop"'
            )


def _checked(values: dict[str, Any]) -> Settings:
    if "precision" in values:
        values = {**values, "precision": find_precision(values["precision"])}
    settings = Settings(**values)
    for name, value, allowed in (
        ("device", settings.device, DEVICES),
        ("transport", settings.transport, TRANSPORTS),
        ("worker_priority", settings.worker_priority, PRIORITIES),
    ):
        if value not in allowed:
            raise RequestError(f"{name} = {value!r}", f"one of {', '.join(allowed)}")
    if settings.transport == "ipc" and os.name == "nt":
        raise RequestError("transport = 'ipc'", "Windows has only tcp")
    if not settings.model_dirs:
        raise RequestError("model_dirs is empty", "name at least one folder: downloads need a place")
    try:
        str(settings.state_dir).encode()
    except UnicodeEncodeError:
        raise RequestError(
            f"home {str(settings.home)!r} is no valid name", "set STEMBRIDGE_HOME to one that is text"
        ) from None
    if settings.max_queue < 1:
        raise RequestError(f"max_queue = {settings.max_queue}", "at least 1")
    if settings.threads < ALL_CORES:
        raise RequestError(
            f"threads = {settings.threads}", "a number of threads, 0 for all cores but one, -1 for all"
        )
    return settings
