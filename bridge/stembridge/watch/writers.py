"""Whether somebody is writing a file at this moment, where the system can tell. Standard library only."""

from __future__ import annotations

from pathlib import Path


def is_being_written(path: Path) -> bool | None:
    """Tell whether any process has a file open for writing; None where nobody can tell."""
    raise NotImplementedError
