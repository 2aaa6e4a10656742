"""A file in a watched folder, and the marks by which a change of it shows. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Signature(NamedTuple):
    """What changes when somebody writes to a file, or puts another one in its place.

    Parameters
    ----------
    size : in bytes
    mtime_ns : as programs set it; some set it back after they have written
    ctime_ns : as the system sets it, where it does: on Windows it is the time when the file was made
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that could be taken.

    Parameters
    ----------
    name : relative to the watched folder, with '/' between folders on every system; bytes of a name that are
        no UTF-8 stand in it as lone surrogates
    path : absolute
    signature : when it was looked at; of the file itself where ``path`` is a link
    """

    name: str
    path: Path
    signature: Signature


def sign(found: os.stat_result) -> Signature:
    """Return the signature of what `os.stat` or `os.fstat` has found."""
    return Signature(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
