"""How a watched folder stands, for its status file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from stembridge import __version__
from stembridge.types import Job
from stembridge.watch.folder import WatchedFolder
from stembridge.watch.life import FileRow, FileState
from stembridge.watch.status import MOST_FILES, FileStatus, NowStatus, WatchStatus, machine_name


def view_folder(
    folder: WatchedFolder, jobs: Mapping[str, Job], *, daemon: str, notes: tuple[str, ...], now: float
) -> WatchStatus:
    """Return how a watched folder stands.

    Parameters
    ----------
    jobs : those that are at the daemon, by id, as they were heard of last
    daemon : what is wrong with the daemon, or ''
    notes : what is to be said beside what the folder itself has to say
    now : monotonic seconds
    """
    unsettled = folder.settling.unsettled(now)
    ledger = folder.ledger
    counts = {state.value: ledger.count(state) for state in FileState}
    at_work = [ledger.get(name) for name in ledger.names(FileState.SPLITTING, FileState.REMIXING)]
    settling = [FileStatus(name, "settling", why) for name, why in islice(unsettled.items(), MOST_FILES)]
    known = [_view_row(folder, row) for row in islice(ledger.newest(), MOST_FILES)]
    return WatchStatus(
        folder=str(folder.root),
        updated=0.0,
        pid=os.getpid(),
        machine=machine_name(),
        version=__version__,
        daemon=daemon,
        counts={"settling": len(unsettled), **counts},
        notes=(*folder.notes, *notes),
        now=tuple(_view_work(folder, row, jobs.get(row.job_now)) for row in at_work if row is not None),
        files=(*settling, *known)[:MOST_FILES],
    )


def _view_row(folder: WatchedFolder, row: FileRow) -> FileStatus:
    told = f"as {row.same_as}" if row.same_as else row.error.message if row.error is not None else ""
    return FileStatus(
        file=row.name,
        state=row.state.value,
        detail="; ".join(filter(None, (told, *row.warnings))),
        job=row.job,
        result=_shown(folder, row.folder),
        remixes=tuple(_shown(folder, end.folder) for end in row.ends if end.folder),
        error_code=row.error.code if row.error is not None else "",
        hint=row.error.hint if row.error is not None else "",
        at=row.changed,
    )


def _view_work(folder: WatchedFolder, row: FileRow, job: Job | None) -> NowStatus:
    progress = job.progress if job is not None else None
    stage = progress.stage if progress is not None else "waiting"
    is_paused = job is not None and job.is_paused
    return NowStatus(
        file=row.name,
        state=row.state.value,
        job=row.job_now,
        result=_shown(folder, row.folder),
        at=row.changed,
        stage="paused" if is_paused else stage,
        fraction=progress.fraction if progress is not None else None,
        eta_s=progress.eta_s if progress is not None and not is_paused else None,
    )


def _shown(folder: WatchedFolder, result: str) -> str:
    """Return a result folder as seen from the watched folder, with '/'."""
    try:
        return Path(result).relative_to(folder.root).as_posix() if result else ""
    except ValueError:
        return result
