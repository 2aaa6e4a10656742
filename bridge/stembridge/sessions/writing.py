"""The kinds of session files, and a result folder as any of them.

A kind's module is imported when it is asked for: not all that they need is always installed.
"""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from stembridge.delivery import check_sessions
from stembridge.errors import OutputError, StembridgeError
from stembridge.manifest import Manifest
from stembridge.sessions.arrangement import Arrangement, arrange
from stembridge.stages import Stages
from stembridge.text import one_line
from stembridge.types import Progress

_WRITERS = {
    "rpp": ("stembridge.sessions.rpp", "write_rpp"),
    "dawproject": ("stembridge.sessions.dawproject", "write_dawproject"),
    "aaf": ("stembridge.sessions.aaf", "write_aaf"),
}
"""Kind of `stembridge.types.SESSIONS` -> module and function; a session file ends on its kind's name."""

TELL_S = 1.0
"""How often is told that a session is being written: some take in all audio, on a slow disk for minutes."""

_LEFT_BYTES = 1 << 20
"""Left free by a session that comes with a set: what the set still has to write needs that room."""

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


def add_sessions(
    kinds: Sequence[str], work: Path, final: Path, document: Manifest, stages: Stages, *, name: str = ""
) -> Generator[Progress, None, Manifest]:
    """Write session files into a verified work folder; return the manifest that warns of those that failed.

    Parameters
    ----------
    final : what ``work`` is called once it is seen
    stages : has 'session'
    name : of the sessions, as `stembridge.sessions.arrangement.arrange` takes it
    """
    if not kinds:
        return document
    writing = write_sessions(kinds, work, document, name=name, final=final)
    remarks = yield from stages.tell("session", writing)
    return replace(document, warnings=(*document.warnings, *remarks))


def write_sessions(
    kinds: Sequence[str], folder: Path, document: Manifest, *, name: str, final: Path
) -> Generator[float, None, tuple[str, ...]]:
    """Write session files beside the files of a set; yield the fraction that is done, return remarks.

    A session that cannot be written, for whatever reason, is a remark: the set is whole without it.

    Parameters
    ----------
    name : of the sessions, as `stembridge.sessions.arrangement.arrange` takes it
    final : what ``folder`` is called once it is seen: remarks name that
    """

    def remark(what: str, error: Exception) -> str:
        return _remark(what, error).replace(folder.name, final.name)

    try:
        arrangement = arrange(folder, document, name=name, was_just_read=True)
    except Exception as error:  # noqa: BLE001 - a set never fails of its session
        return (remark("no session", error),)
    remarks = [*arrangement.remarks]
    for number, kind in enumerate(kinds, 1):
        try:
            with closing(_write_beside(kind, arrangement, folder)) as waiting:
                for _ in waiting:
                    yield (number - 1) / len(kinds)
        except Exception as error:  # noqa: BLE001 - a set never fails of its session
            remarks.append(remark(f"no {kind} session", error))
        yield number / len(kinds)
    return tuple(remarks)


def _remark(what: str, error: Exception) -> str:
    """Return the remark that there is none; what is no error of ours goes into the log as a whole."""
    is_ours = isinstance(error, StembridgeError)
    _log.warning("%s: %s", what, error, exc_info=not is_ours)
    reason = str(error) if is_ours else f"{type(error).__name__}: {error}"
    return f"{what} was written: {one_line(reason)}"


def _write_beside(kind: str, arrangement: Arrangement, folder: Path) -> Generator[None, None, None]:
    """Write one session in a thread of its own, yield every `TELL_S`; closing this waits for its end."""
    with ThreadPoolExecutor(1, "session") as pool:
        target = folder / name_session(arrangement, kind)
        writing = pool.submit(write_session, kind, arrangement, folder, target)
        while not wait([writing], TELL_S).done:
            yield
        writing.result()
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < _LEFT_BYTES:
        target.unlink()
        raise OutputError(
            f"{str(folder)!r} would have had {free_bytes} bytes left", "make room, then export the set"
        )


def name_session(arrangement: Arrangement, kind: str) -> str:
    """Return what a session's file is called."""
    return f"{arrangement.name}.{kind}"
