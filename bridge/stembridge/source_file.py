"""Is this a file that may be read at all? Asked by the front before it accepts, and again by the worker."""

from __future__ import annotations

import stat
from pathlib import Path

from stembridge.errors import SourceError


def check_source_file(path: str) -> int:
    """Return the size in bytes of a regular, readable file that is not empty.

    Raises
    ------
    SourceError
        It is missing, a folder, a device, empty, out of reach, or no path at all; the path is named.
    """
    shown = repr(path)
    try:
        found = Path(path).stat()
        if stat.S_ISDIR(found.st_mode):
            raise SourceError(f"{shown} is a folder", "name an audio file")
        if not stat.S_ISREG(found.st_mode):
            raise SourceError(f"{shown} is not a regular file", "name an audio file")
        if found.st_size == 0:
            raise SourceError(f"{shown} is empty: 0 bytes", "export it again")
        with Path(path).open("rb"):
            return found.st_size
    except FileNotFoundError as error:
        raise SourceError(f"{shown} does not exist", "check the path") from error
    except OSError as error:
        raise SourceError(f"{shown} cannot be read: {error.strerror}", "check its rights") from error
    except ValueError as error:
        raise SourceError(f"{shown} is not a path: {error}", "check the path") from error
