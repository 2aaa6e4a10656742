"""The daemon's jobs for REAPER: how they stand, and whether all of them are to be cancelled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from stembridge.errors import RequestError
from stembridge.manifest import FILE_NAME
from stembridge.reaper.actions import ACTIONS
from stembridge.reaper.requests import STEMS_FOLDER
from stembridge.reaper.snapshot import Snapshot, read_snapshot
from stembridge.reaper.tags import OriginalTag, StemTag, read_tag
from stembridge.reaper.turn import Start, Step, Turn
from stembridge.text import clock
from stembridge.types import Job, JobState

MAX_JOBS = 200
MAX_FINAL = 5
"""So many of those that are over are shown."""
MAX_UNPLACED = 20


class JobList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ids of the jobs that the user is asked about."""

    ids: tuple[str, ...] = ()


def start(turn: Turn) -> None:
    """Begin with what lies in the project: stems that are ready may not."""
    turn.collect("tagged", "jobs.collected", JobList())


def take_collected(turn: Turn, _jobs: JobList, result: Any) -> None:
    """List what runs and what came of the last ones; ask whether what runs is to be cancelled."""
    snapshot = read_snapshot(result)
    jobs = [job for job in turn.house.list_jobs(MAX_JOBS) if _is_of_reaper(job, snapshot)]
    running = [job for job in jobs if not job.state.is_final]
    over = [job for job in jobs if job.state.is_final]
    for job in [*running, *over[:MAX_FINAL]]:
        turn.tell(_say(job), is_error=job.state is JobState.FAILED)
    # Takes carry no tag of ours: nobody can tell where they lie.
    unplaced = _find_unplaced(snapshot, over) if turn.preferences.output == "tracks" else []
    for job in unplaced[:MAX_UNPLACED]:
        assert job.result is not None
        turn.tell(
            f"{_name(job)}: its stems are ready in {job.result.folder}, but not in this project: select "
            f"its item and run '{ACTIONS['split']}': it is placed at once."
        )
    if not jobs:
        turn.tell("There are no jobs.")
    if running:
        ids = tuple(job.id for job in running)
        turn.ask("Stembridge: jobs", f"Cancel all {len(ids)}?", "jobs.answered", JobList(ids))


def _is_of_reaper(job: Job, snapshot: Snapshot) -> bool:
    """Tell whether a job is a split for REAPER, or a remix for this project."""
    if job.request is not None:
        return job.request.on_source_grid
    return Path(job.out) == _find_place(snapshot)


def _find_place(snapshot: Snapshot) -> Path:
    return Path(snapshot.project.media_dir) / STEMS_FOLDER


def _say(job: Job) -> str:
    if job.is_paused:
        return f"{_name(job)}: paused"
    match job.state:
        case JobState.QUEUED:
            return f"{_name(job)}: waiting"
        case JobState.RUNNING if job.progress is not None:
            eta_s = job.progress.eta_s
            left = f", {clock(eta_s)} left" if eta_s is not None else ""
            return f"{_name(job)}: {job.progress.stage}, {job.progress.fraction * 100:.0f} %{left}"
        case JobState.FAILED if job.error is not None:
            return f"{_name(job)}: failed: {job.error.message} ({job.error.hint})"
        case JobState.DONE if job.result is not None:
            return f"{_name(job)}: done, in {job.result.folder}"
        case _:
            return f"{_name(job)}: {job.state}"


def _name(job: Job) -> str:
    return f"{Path(job.source).name} ({job.tool})"


def _find_unplaced(snapshot: Snapshot, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs for this project whose stems are on the disk and never were on a track.

    An original names the job of its stems also where these were deleted.
    """
    tags = [read_tag(item.tag) for item in snapshot.items]
    placed = {tag.job for tag in tags if isinstance(tag, StemTag | OriginalTag)}
    place = _find_place(snapshot)
    return [
        job
        for job in jobs
        if job.state is JobState.DONE
        and job.request is not None
        and job.result is not None
        and job.id not in placed
        and Path(job.out) == place
        and (Path(job.result.folder) / FILE_NAME).is_file()
    ]


def take_answer(turn: Turn, jobs: JobList, result: Any) -> None:
    """Cancel the jobs that the user was asked about, if that is wanted."""
    if result.get("answer") != "yes":
        return
    for job_id in jobs.ids:
        # One that has ended meanwhile cannot be cancelled any more.
        with suppress(RequestError):
            turn.house.cancel_job(job_id)
    turn.tell(f"Cancelling {len(jobs.ids)} job{'s' * (len(jobs.ids) != 1)}.")


STARTS: dict[str, Start] = {"jobs": start}
STEPS: dict[str, Step] = {
    "jobs.collected": (JobList, take_collected),
    "jobs.answered": (JobList, take_answer),
}
