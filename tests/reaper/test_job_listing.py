"""The list of jobs: what runs, what came of the last ones, and what is ready but lies nowhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stem_items import delete_item, find_stems
from stembridge.types import ErrorInfo, Job, JobState, Progress, RemixRequest
from studio import NO, YES, Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def set_states(studio: Studio, *states: JobState) -> list[str]:
    """Split as many songs, and let the daemon say that their jobs are in these states; return their ids."""
    for number, _ in enumerate(states):
        studio.reaper.select(studio.add_song(f"song{number}", seconds=1.0, seed=number))
        studio.run("split")
    for job_id, state in zip(list(studio.house.jobs), states, strict=True):
        job = studio.house.jobs[job_id]
        if state is JobState.DONE:
            continue
        error = ErrorInfo("source", "the disk is full", "make room") if state is JobState.FAILED else None
        progress = Progress("separate", 0.25, 12.0) if state is JobState.RUNNING else None
        studio.house.jobs[job_id] = replace(job, state=state, result=None, error=error, progress=progress)
    return list(studio.house.jobs)


def test_where_there_are_none_that_is_told(studio: Studio) -> None:
    assert studio.run("jobs") == ["There are no jobs."]


def test_what_runs_is_listed_first_and_cancelled_on_yes(studio: Studio) -> None:
    done, running, queued, failed = set_states(
        studio, JobState.DONE, JobState.RUNNING, JobState.QUEUED, JobState.FAILED
    )
    folder = studio.house.jobs[done].result
    assert folder is not None
    told = studio.run("jobs", YES)
    assert told == [
        "song2.wav (htdemucs): waiting",
        "song1.wav (htdemucs): separate, 25 %, 12 s left",
        "song3.wav (htdemucs): failed: the disk is full (make room)",
        f"song0.wav (htdemucs): done, in {folder.folder}",
        "Cancelling 2 jobs.",
    ]
    assert studio.orders[-2]["text"] == "Cancel all 2?"
    for job_id in (running, queued):
        assert studio.house.jobs[job_id].state is JobState.CANCELLED
    assert studio.house.jobs[failed].state is JobState.FAILED


def test_a_remix_that_somebody_else_renders_is_neither_listed_nor_cancelled(studio: Studio) -> None:
    set_states(studio, JobState.RUNNING)
    request = RemixRequest("/m/set", "/m/out", "karaoke")
    studio.house.jobs["remix"] = Job("remix", None, JobState.RUNNING, created=0.0, remix=request)
    told = studio.run("jobs", YES)
    assert told == ["song0.wav (htdemucs): separate, 25 %, 12 s left", "Cancelling 1 job."]
    assert studio.house.jobs["remix"].state is JobState.RUNNING


def test_a_paused_job_is_listed_as_such_and_not_as_one_that_runs(studio: Studio) -> None:
    for job_id in set_states(studio, JobState.RUNNING, JobState.QUEUED):
        studio.house.jobs[job_id] = replace(studio.house.jobs[job_id], is_paused=True)
    assert studio.run("jobs", NO)[:2] == ["song1.wav (htdemucs): paused", "song0.wav (htdemucs): paused"]


def test_no_cancels_nothing(studio: Studio) -> None:
    (running,) = set_states(studio, JobState.RUNNING)
    studio.run("jobs", NO)
    assert studio.house.jobs[running].state is JobState.RUNNING


def test_stems_that_were_never_placed_are_offered_and_a_split_places_them_at_once(studio: Studio) -> None:
    song = studio.add_song()
    studio.run("split")
    (job,) = studio.house.jobs.values()
    assert job.result is not None
    # As if REAPER had been closed before they were placed.
    assert studio.reaper.undo_once()
    told = studio.run("jobs")
    assert told[1:] == [
        f"song.wav (htdemucs): its stems are ready in {job.result.folder}, but not in this project: select "
        "its item and run 'Split selected items into stems': it is placed at once."
    ]
    (song,) = studio.reaper.current.items
    studio.reaper.select(song)
    studio.run("split")
    assert list(studio.house.jobs) == [job.id]
    assert len(studio.reaper.current.items) == 6
    assert len(studio.run("jobs")) == 1


def test_stems_that_were_placed_and_deleted_are_not_offered(studio: Studio) -> None:
    studio.add_song()
    studio.run("split")
    for stem in find_stems(studio):
        delete_item(stem)
    assert len(studio.run("jobs")) == 1


def test_only_the_last_of_those_that_are_over_are_listed(studio: Studio) -> None:
    set_states(studio, *[JobState.DONE] * 7)
    told = studio.run("jobs")
    assert [line.partition(" ")[0] for line in told] == [f"song{number}.wav" for number in (6, 5, 4, 3, 2)]
