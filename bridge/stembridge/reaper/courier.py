"""Carries notes and replies between a script's files and the daemon, for scripts without a socket."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from stembridge.client import Client
from stembridge.errors import StembridgeError
from stembridge.file_lock import FileLock

LOOK_S = 0.02
LEAVE_S = 60.0
"""Without a new note for so long there is nothing to carry; a script that needs us starts us again."""
GONE_S = 1.0
"""A request that is away for so long has been taken away; on Windows a rename may leave a gap."""


class _Numbered(msgspec.Struct, frozen=True):
    """A note and its number, under which the script waits for the reply."""

    n: int
    note: msgspec.Raw


def carry(client: Client, request: Path, status: Path, *, leave_s: float = LEAVE_S) -> None:
    """Answer each new note in ``request`` by a reply in ``status``, until none has come for ``leave_s``.

    Both are replaced by one rename each time. A second courier for the same files leaves at once; a note may
    be carried twice, the desk is built for that. Where the script has taken its files away, the courier takes
    its own and the folder.
    """
    lock = FileLock(status.with_suffix(".lock"))
    if not lock.acquire():
        return
    last: int | None = None
    idle_since = there_since = time.monotonic()
    try:
        while (now := time.monotonic()) - idle_since < leave_s and now - there_since < GONE_S:
            found = _read(request)
            if request.exists():
                there_since = now
            if found is None or found.n == last:
                time.sleep(LOOK_S)
                continue
            if _write(status, {"n": found.n, "reply": msgspec.Raw(_ask(client, bytes(found.note)))}):
                last = found.n
                idle_since = time.monotonic()
            there_since = time.monotonic()
    finally:
        lock.release()
    if not request.exists():
        _remove_folder(status, lock.path)


def _remove_folder(*files: Path) -> None:
    """Remove what a session has left, and its folder; what is held open stays."""
    with suppress(OSError):
        for path in files:
            path.unlink(missing_ok=True)
        files[0].parent.rmdir()


def _read(path: Path) -> _Numbered | None:
    """Return the note that lies there, or None where there is none that is whole."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Numbered)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _ask(client: Client, note: bytes) -> bytes:
    try:
        return client.reaper(note)
    except StembridgeError as error:
        refusal = {"code": error.code, "message": error.message, "hint": error.hint}
        return msgspec.json.encode({"v": 1, "error": refusal})


def _write(path: Path, content: dict[str, object]) -> bool:
    """Tell whether the file has been replaced; the note is carried once more where it could not be."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(content))
    # On Windows a script that is reading forbids it for a moment.
    for _ in range(50):
        try:
            temporary.replace(path)
        except PermissionError:
            time.sleep(LOOK_S)
        else:
            return True
    with suppress(OSError):
        temporary.unlink()
    return False
