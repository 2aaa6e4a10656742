"""What lies in a watched folder: every file that could be taken, by its name and its signature alone."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from stembridge import manifest
from stembridge.stem_tag import read_tag
from stembridge.watch.dropped import Dropped, sign
from stembridge.watch.names import is_ignored_folder, is_ignored_name

FAILED_FOLDER = "failed"
"""Where notes on failed files lie, in the watched folder."""


@dataclass(slots=True)
class ScanNotes:
    """What a scan could not look into: one line per folder or file, with the reason."""

    problems: list[str] = field(default_factory=list)


def scan(root: Path, results: str, notes: ScanNotes | None = None) -> list[Dropped]:
    """Return the files that could be taken, sorted by name.

    Links to files are followed, links to folders are not. What vanishes meanwhile is left out, and so is a
    folder that cannot be listed.

    Parameters
    ----------
    results : the folder that receives results, relative to ``root`` with '/' between folders

    Raises
    ------
    OSError : ``root`` itself is not there or cannot be listed, which says nothing of what lies in it
    """
    notes = notes if notes is not None else ScanNotes()
    base = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
    own = (results, FAILED_FOLDER)
    found: list[Dropped] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(base / folder) as listing:
                entries = list(listing)
        except OSError as error:
            if not folder:
                raise
            if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                notes.problems.append(f"{folder!r} cannot be listed: {error.strerror}")
            continue
        if any(entry.name == manifest.FILE_NAME for entry in entries):
            if not folder:
                notes.problems.append(f"nothing is taken from a result folder: it holds {manifest.FILE_NAME}")
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                if not is_ignored_folder(entry.name) and name not in own:
                    waiting.append(name)
            elif not is_ignored_name(entry.name):
                file = _look_at(name, Path(entry.path), notes)
                if file is not None:
                    found.append(file)
    found.sort(key=lambda file: file.name)
    return found


def look(root: Path, results: str, path: Path) -> Dropped | None:
    """Return one file as `scan` would, None where `scan` would leave it out."""
    base = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links
    try:
        parts = path.relative_to(base).parts
    except ValueError:
        return None
    if not parts or is_ignored_name(parts[-1]):
        return None
    try:
        is_left_out = any(
            _is_left_out(base, parts[:depth], (results, FAILED_FOLDER)) for depth in range(len(parts))
        )
    except OSError:
        return None
    return None if is_left_out else _look_at("/".join(parts), path, ScanNotes())


def is_own(path: Path) -> bool:
    """Tell whether a file is a stem that was made here, by the tag in it; one that cannot be read is not."""
    try:
        return read_tag(path) is not None
    except OSError:
        return False


def _is_left_out(base: Path, parts: tuple[str, ...], own: tuple[str, ...]) -> bool:
    """Tell whether a scan takes nothing from a folder, by its names from the watched one on."""
    folder = base.joinpath(*parts)
    is_foreign = bool(parts) and (
        is_ignored_folder(parts[-1]) or "/".join(parts) in own or folder.is_symlink()
    )
    return is_foreign or (folder / manifest.FILE_NAME).exists()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _look_at(name: str, path: Path, notes: ScanNotes) -> Dropped | None:
    try:
        # Not the listing's own: on Windows that lags behind what is being written, and knows no inode.
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        notes.problems.append(f"{name!r} cannot be looked at: {error.strerror}")
        return None
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return None
    return Dropped(name, path, sign(found))
