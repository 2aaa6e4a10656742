"""Notes in ``failed/``: one text per file that came to nothing, with the cause and what to do about it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath

from stembridge.small_file import put_small_file
from stembridge.text import one_line
from stembridge.types import ErrorInfo

FAILED = "failed"
"""Folder of the notes, in the watched folder."""
_MOST_NAME_BYTES = 255
_ENDING = ".txt"
_TEMPORARY = ".stembridge-note.new"


def note_path(root: Path, name: str) -> Path:
    """Return where the note on a file lies; ``name`` is relative to ``root``, with slashes.

    A file name that leaves no room for the ending is cut, and keeps apart by eight digits of its hash.
    """
    relative = PurePosixPath(name)
    return root.joinpath(FAILED, *relative.parts[:-1], _fit(relative.name))


def write_note(
    root: Path,
    name: str,
    error: ErrorInfo,
    *,
    job: str = "",
    lines: Sequence[str] = (),
    at: float | None = None,
) -> bool:
    """Write the note on a file by one rename; return whether it stands there now.

    Parameters
    ----------
    root : the watched folder; never made
    name : of the file, relative to ``root``, with slashes
    error : what went wrong and what to do about it
    job : id of the job that failed, or '' where it came to none
    lines : what else there is to say, as that the stems are there
    at : wall-clock seconds since the epoch; None means now
    """
    path = note_path(root, name)
    text = _compose(name, error, job, lines, time.time() if at is None else at)
    data = text.replace("\n", os.linesep).encode(errors="backslashreplace")
    try:
        _make_folders(root, path.parent)
        put_small_file(path, data, through=root / FAILED / _TEMPORARY)
    except OSError:
        return False
    return True


def remove_note(root: Path, name: str) -> None:
    """Remove the note on a file where there is one, and the folders that it leaves empty."""
    path = note_path(root, name)
    with suppress(OSError):
        path.unlink()
        for folder in path.parents:
            if folder == root:
                break
            folder.rmdir()


def _fit(file_name: str) -> str:
    name = os.fsencode(file_name)
    if len(name) + len(_ENDING) <= _MOST_NAME_BYTES:
        return file_name + _ENDING
    ending = f"-{hashlib.sha256(name).hexdigest()[:8]}{_ENDING}"
    # Cut between characters: half of one is no name on every system.
    kept = name[: _MOST_NAME_BYTES - len(ending)].decode(errors="ignore")
    return kept.rstrip(" .") + ending


def _make_folders(root: Path, folder: Path) -> None:
    """Make ``folder`` below ``root``, one level at a time, so that a root that is gone stays gone."""
    place = root
    for part in folder.relative_to(root).parts:
        place /= part
        place.mkdir(exist_ok=True)


def _compose(name: str, error: ErrorInfo, job: str, lines: Sequence[str], at: float) -> str:
    when = datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    said = [
        "Stembridge could not finish this file.",
        "",
        f"File: {one_line(name)}",
        f"When: {when}",
        f"What: {one_line(error.message)}",
    ]
    if error.hint:
        said.append(f"Help: {one_line(error.hint)}")
    said += [one_line(line) for line in lines]
    said += [
        "",
        "To try again, save or copy the file here once more, or touch it. It is also tried again when the",
        "settings that apply to it have changed. This note goes away when the file is done, or gone.",
    ]
    if job:
        said += ["", f"Job: {job}", f"More: stembridge jobs show {job}"]
    return "\n".join(said) + "\n"
