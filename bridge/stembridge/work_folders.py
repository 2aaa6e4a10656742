"""The hidden folders in which jobs work, each under a lock beside it that dies with its process.

What can be heard of a job before its end lies in a second one: Windows removes no file that a player has
open, and renames no folder with such a file in it.

What nobody holds a crash has left. Standard library only: the daemon's front cleans up too.
"""

from __future__ import annotations

import errno
import logging
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stembridge.errors import OutputError
from stembridge.file_lock import FileLock

PATIENCE_S = 10.0
"""A worker that has lost its daemon ends in the middle of a step, and the next one wants the same folder."""

_LOCK_NAME = re.compile(r"\.stembridge-[0-9a-f]{8}\.lock")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems say that know no locks; some network shares are such."""

_log = logging.getLogger(__name__)


def early_folder(work: Path) -> Path:
    """Return the folder beside a work folder, under the same lock, for what is heard before the end."""
    return work.with_name(f"{work.name}-early")


@contextmanager
def hold_folder(work: Path) -> Iterator[None]:
    """Keep every other process out of a work folder, which need not be there yet.

    Where a player keeps what can be heard early to the end, the lock stays for `sweep`.
    On a file system without locks nobody is kept out.

    Raises
    ------
    OutputError : another process is at it
    OSError : the lock cannot be made
    """
    lock = FileLock(_lock_of(work))
    try:
        is_held = lock.acquire(PATIENCE_S)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        lock.remove()
        yield
        return
    if not is_held:
        raise OutputError(
            f"another process is at the same job in {str(work.parent)!r}", "wait for its end, or end it"
        )
    try:
        lock.write(platform.node())
        yield
    finally:
        (lock.release if _is_left(work) else lock.remove)()


def sweep(out: Path) -> None:
    """Remove what crashes on this machine have left in ``out``: work folders whose lock nobody holds.

    Not every network share tells one machine of another's locks, so theirs stay.
    """
    machine = platform.node()
    with suppress(OSError):
        for path in sorted(out.iterdir()):
            if machine and _LOCK_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                _remove_left(path.with_suffix(""), lambda said: said == machine)


def remove_folder(work: Path) -> None:
    """Remove the work folder of a job that has ended, if it is there and no process is at it."""
    if _lock_of(work).exists():
        _remove_left(work, lambda said: True)
    else:
        remove_both(work)


def remove_both(work: Path) -> None:
    """Remove a work folder that is held and `early_folder`, as far as that can be."""
    for folder in (work, early_folder(work)):
        shutil.rmtree(folder, ignore_errors=True)


def _is_left(work: Path) -> bool:
    return work.exists() or early_folder(work).exists()


def _remove_left(work: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove a work folder and its lock if nobody holds that, and if what the last holder said is ours."""
    lock = FileLock(_lock_of(work))
    with suppress(OSError):
        if not lock.acquire(creates=False):
            return
        is_gone = False
        try:
            if is_ours(lock.read()):
                _log.warning("removing what a crash left: %s", work)
                remove_both(work)
                is_gone = not _is_left(work)
        finally:
            (lock.remove if is_gone else lock.release)()


def _lock_of(work: Path) -> Path:
    return work.with_name(f"{work.name}.lock")
