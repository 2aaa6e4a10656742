"""The kinds of session files, and a result folder as any of them.

A kind's module is imported when it is asked for: not all that they need is always installed.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Protocol

from stembridge.delivery import check_sessions
from stembridge.errors import StembridgeError
from stembridge.manifest import Manifest
from stembridge.sessions.arrangement import Arrangement, arrange

_WRITERS = {
    "rpp": ("stembridge.sessions.rpp", "write_rpp"),
    "dawproject": ("stembridge.sessions.dawproject", "write_dawproject"),
    "aaf": ("stembridge.sessions.aaf", "write_aaf"),
}
"""Kind of `stembridge.types.SESSIONS` -> module and function; a session file ends on its kind's name."""

TELL_S = 1.0
"""How often is told that a session is being written: some take in all audio, on a slow disk for minutes."""

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """Writes an arrangement whose relative files lie in ``folder``; ``target`` is seen whole or not."""

    def __call__(self, arrangement: Arrangement, folder: Path, target: Path) -> None: ...


def write_session(kind: str, arrangement: Arrangement, folder: Path, target: Path) -> None:
    """Write one session file, in place of one that is there.

    Parameters
    ----------
    folder : where the tracks' relative files lie: that of ``target``

    Raises
    ------
    StembridgeError : the kind is unknown or needs what is not installed, does not hold such audio, or the
        file cannot be written
    """
    check_sessions((kind,))
    module, name = _WRITERS[kind]
    writer: Writer = getattr(importlib.import_module(module), name)
    writer(arrangement, folder, target)


def write_sessions(
    kinds: Sequence[str], folder: Path, document: Manifest, *, name: str
) -> Generator[float, None, tuple[str, ...]]:
    """Write session files beside the files of a set; yield the fraction that is done, return remarks.

    A session that cannot be written is a remark: the set is whole without it.

    Parameters
    ----------
    name : of the sessions, without the ending
    """
    remarks: list[str] = []
    try:
        arrangement = arrange(folder, document, name=name)
    except StembridgeError as error:
        return (f"no session was written: {error.message}",)
    remarks += arrangement.remarks
    for number, kind in enumerate(kinds, 1):
        try:
            with closing(_write_beside(kind, arrangement, folder)) as waiting:
                for _ in waiting:
                    yield (number - 1) / len(kinds)
        except (StembridgeError, OSError) as error:
            _log.warning("no %s session: %s", kind, error)
            remarks.append(f"no {kind} session was written: {error}")
        yield number / len(kinds)
    return tuple(remarks)


def _write_beside(kind: str, arrangement: Arrangement, folder: Path) -> Generator[None, None, None]:
    """Write one session in a thread of its own, yield every `TELL_S`; closing this waits for its end."""
    with ThreadPoolExecutor(1, "session") as pool:
        target = folder / name_session(arrangement, kind)
        writing = pool.submit(write_session, kind, arrangement, folder, target)
        while not wait([writing], TELL_S).done:
            yield
        writing.result()


def name_session(arrangement: Arrangement, kind: str) -> str:
    """Return what a session's file is called."""
    return f"{arrangement.name}.{kind}"
