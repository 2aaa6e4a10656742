"""Files that are read whole: regular ones, up to a size. Standard library only: the front reads so too."""

from __future__ import annotations

import os
import stat
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


def _open_regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | _WITHOUT_WAITING)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("this is no regular file")
    return descriptor
