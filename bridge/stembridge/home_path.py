"""A '~' at the beginning of a path, as shells read it. Standard library only."""

from __future__ import annotations

from pathlib import Path


def find_home(path: Path) -> Path:
    """Return a path with its '~' put in full; one that names nobody here is a file's name."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
