"""Files that are read whole: regular ones, up to a size; and files that are seen whole, in folders of others.

Standard library only: the front reads so too.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

# Opening a FIFO waits for somebody to write into it.
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)


def read_small_file(path: Path, most_bytes: int) -> bytes:
    """Return what is in a regular file of at most ``most_bytes``; anything else could go on for ever.

    Raises
    ------
    OSError : it cannot be read, is no regular file, or has more
    """
    with open(path, "rb", opener=_open_regular) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        size = f"{most_bytes >> 20} MiB" if most_bytes >= 1 << 20 else f"{most_bytes >> 10} KiB"
        raise OSError(f"it has more than {size}")
    return data


def put_small_file(path: Path, data: bytes, through: Path) -> None:
    """Make ``data`` the content of ``path``, by one rename.

    Parameters
    ----------
    through : a name in a folder on the same volume, which no other process uses

    Raises
    ------
    OSError : it cannot be written; ``path`` is as it was
    """
    try:
        # What lies there may be a link that leads anywhere: in a shared folder anybody can have put it there.
        through.unlink(missing_ok=True)
        with through.open("xb") as file:
            file.write(data)
        through.replace(path)
    except OSError:
        with suppress(OSError):
            through.unlink()
        raise


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | _WITHOUT_WAITING)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("this is no regular file")
    return descriptor
