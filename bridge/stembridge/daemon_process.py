"""Find the user's daemon, or start it: one per user, held by a lock, never by the existence of a file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stembridge.errors import DaemonUnavailable
from stembridge.file_lock import FileLock, is_locked
from stembridge.settings import Settings
from stembridge.transport import Connection, read_connection

if TYPE_CHECKING:
    import subprocess

START_TIMEOUT_S = 20.0
EXIT_SECOND_DAEMON = 75
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "SYSTEMDRIVE",
    "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "TORCH_HOME",
    "HF_HOME", "HF_HUB_CACHE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip


def is_running(settings: Settings) -> bool:
    """Return whether a daemon holds this user's lock."""
    return is_locked(settings.lock_file)


def find(settings: Settings) -> Connection | None:
    """Return how to reach the running daemon, or None where none runs."""
    return read_connection(settings.connection_file) if is_running(settings) else None


def find_or_start(settings: Settings, *, flags: Sequence[str] = ()) -> Connection:
    """Return how to reach this user's daemon, starting it with ``flags`` where none runs.

    However many clients call this at once, one daemon is started.

    Raises
    ------
    DaemonUnavailable
        The daemon ended while it started (with the last lines of its log) or did not answer in time.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    spawn_lock = FileLock(settings.state_dir / "spawn.lock")
    process: subprocess.Popen[bytes] | None = None
    try:
        while time.monotonic() < deadline:
            connection = find(settings)
            if connection is not None:
                return connection
            if process is None and spawn_lock.acquire() and not is_running(settings):
                process = _spawn(settings, flags)
            if process is not None and process.poll() == EXIT_SECOND_DAEMON:
                # Another was there first; if that one has gone meanwhile, it is our turn again.
                process = None
            if process is not None and process.poll() is not None:
                raise DaemonUnavailable(
                    f"stembridged ended with code {process.returncode}: {_log_tail(settings)}",
                    "stembridge doctor shows more",
                )
            time.sleep(0.01)
    finally:
        spawn_lock.release()
        if process is not None and process.returncode is None:
            # The daemon outlives us, and a Popen would complain about that when it is dropped.
            process.returncode = 0
    raise DaemonUnavailable(
        f"stembridged did not answer within {START_TIMEOUT_S:.0f} s: {_log_tail(settings)}",
        "stembridge daemon logs shows more",
    )


def cleaned_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the part of ``environ`` that a daemon may see: what a shell sets must not steer it."""
    return {name: environ[name] for name in _PASSED_ON if name in environ}


def _command(settings: Settings, flags: Sequence[str]) -> list[str]:
    command = [sys.executable, "-P", "-m", "stembridge_daemon.app"]
    if settings.home is not None:
        command += ["--home", str(settings.home)]
    return [*command, *flags]


def _spawn(settings: Settings, flags: Sequence[str]) -> subprocess.Popen[bytes]:
    import subprocess

    settings.log_file.parent.mkdir(parents=True, exist_ok=True)
    detached: dict[str, object] = {"start_new_session": True}
    if os.name == "nt":
        window = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined,unused-ignore]
        detached = {"creationflags": window}
    with (settings.log_file.parent / "start.log").open("wb") as output:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            _command(settings, flags),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=cleaned_environment(os.environ),
            cwd=settings.state_dir,
            **detached,  # type: ignore[call-overload]
        )
    return process


def _log_tail(settings: Settings) -> str:
    for path in (settings.log_file.parent / "start.log", settings.log_file):
        try:
            lines = path.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            continue
        if lines:
            return lines[-1]
    return "its log is empty"
