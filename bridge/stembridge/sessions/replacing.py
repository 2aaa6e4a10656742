"""Session files that are seen whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stembridge import disk
from stembridge.errors import OutputError
from stembridge.publishing import work_folder


@contextmanager
def replace_file(target: Path) -> Iterator[Path]:
    """Yield a name in a hidden folder beside ``target``; what was written there takes its place.

    After an error nothing is left of it, and ``target`` is as it was. What a crash leaves, the next session
    in that folder removes.

    Raises
    ------
    OutputError : nothing can be written there, or not all of it, or another process writes that very file, or
        its name is too long
    """
    _check_name(target)
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"{str(folder)!r} is no folder", "make it, or choose another with --out")
    with work_folder(folder, target.name) as work, disk.writing(folder):
        hidden = work / target.name
        yield hidden
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        hidden.replace(target)
        disk.sync_folder(folder)


def _check_name(target: Path) -> None:
    try:
        target.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(
                f"{str(target)!r} is too long a name", "choose a shorter one with --out"
            ) from None
