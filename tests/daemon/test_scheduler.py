"""The life cycle of a job, event by event and in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stembridge.types import (
    Early,
    EarlyStem,
    ErrorInfo,
    JobState,
    Progress,
    RemixRequest,
    SplitRequest,
    SplitResult,
)
from stembridge_daemon import scheduler
from stembridge_daemon.scheduler import Instruction, JobRecord, advance

REQUEST = SplitRequest(source="/music/song.wav", out="/music/stems", model="preview")
RECORD = JobRecord("a1", "digest", REQUEST, "1-2", "local", created=0.0)
RUNNING = replace(RECORD, state=JobState.RUNNING, attempt=1)
RESULT = SplitResult("/music/stems/x", 1.0, 0.5, 0.6, -30.0)
ERROR = ErrorInfo("bad_source", "no file 'x'")
EARLY = Early(0, 343_980, 44_100, (EarlyStem("vocals", "/music/stems/.x/early-001.wav"),))

EVENTS = st.sampled_from(
    [
        scheduler.Taken("worker 1"),
        scheduler.Progressed(Progress("separate", 0.5, 3.0)),
        scheduler.Finished(RESULT),
        scheduler.Failed(ERROR),
        scheduler.Heard(EARLY),
        scheduler.CancelAsked(),
        scheduler.PauseAsked(),
        scheduler.ResumeAsked(),
        scheduler.Stopped(),
        scheduler.WorkerDied("SIGSEGV"),
        scheduler.Interrupted(),
        scheduler.LostPlace(),
    ]
)


@given(st.lists(EVENTS, max_size=30))
def test_no_order_of_events_breaks_a_job(events: list[scheduler.Event]) -> None:
    record = RECORD
    for event in events:
        before = record
        transition = advance(record, event)
        record = transition.record
        if before.state.is_final:
            assert record == before and not transition.instructions
        if record.state is JobState.DONE:
            assert record.result == RESULT and record.error is None
        if record.state is JobState.FAILED:
            assert record.error is not None and record.result is None
        if record.state is JobState.RUNNING:
            assert record.attempt >= 1
        if record.state is not JobState.RUNNING:
            assert record.early is None
        if record.state.is_final:
            assert not record.is_paused
        if record != replace(before, progress=record.progress, early=record.early):
            assert Instruction.SAVE in transition.instructions
        assert record.crashes < scheduler.MAX_CRASHES or record.state.is_final
        assert record.attempt - before.attempt in (0, 1)


def test_a_worker_that_dies_three_times_puts_the_job_aside_with_the_cause() -> None:
    record = RECORD
    for _ in range(2):
        record = advance(advance(record, scheduler.Taken("w")).record, scheduler.WorkerDied("SIGKILL")).record
        assert record.state is JobState.QUEUED
    last = advance(advance(record, scheduler.Taken("w")).record, scheduler.WorkerDied("SIGSEGV"))
    assert last.record.state is JobState.FAILED
    assert last.record.error is not None and last.record.error.code == "quarantined"
    assert "SIGSEGV" in last.record.error.message and "/music/song.wav" in last.record.error.message
    assert Instruction.CLEAN in last.instructions


def test_what_is_put_aside_is_told_as_what_it_was() -> None:
    remix = replace(RECORD, request=RemixRequest("/music/set", "/music/out", "karaoke"))
    told = []
    for record in (RECORD, remix):
        last_try = replace(record, state=JobState.RUNNING, crashes=scheduler.MAX_CRASHES - 1)
        error = advance(last_try, scheduler.WorkerDied("SIGSEGV")).record.error
        assert error is not None
        told.append(f"{error.message} {error.hint}")
        last_try = replace(last_try, interruptions=scheduler.MAX_INTERRUPTIONS - 1)
        error = advance(last_try, scheduler.Interrupted()).record.error
        assert error is not None
        told.append(error.message)
    assert "this split of '/music/song.wav'" in told[0] and "converted copy of the file" in told[0]
    assert "in this split of '/music/song.wav'" in told[1]
    assert "this remix of '/music/set'" in told[2] and "another preset" in told[2]
    assert "in this remix of '/music/set'" in told[3] and "split" not in told[2] + told[3]


def test_a_daemon_that_is_killed_does_not_count_against_the_job() -> None:
    record = RECORD
    for _ in range(scheduler.MAX_CRASHES + 1):
        record = advance(advance(record, scheduler.Taken("w")).record, scheduler.Interrupted()).record
    assert record.state is JobState.QUEUED and record.crashes == 0


def test_a_cancel_ends_a_waiting_job_at_once_and_a_running_one_through_the_worker() -> None:
    assert advance(RECORD, scheduler.CancelAsked()).record.state is JobState.CANCELLED
    asked = advance(RUNNING, scheduler.CancelAsked())
    assert asked.record.state is JobState.RUNNING
    assert Instruction.TELL_CANCEL in asked.instructions
    assert advance(asked.record, scheduler.Stopped()).record.state is JobState.CANCELLED


@pytest.mark.parametrize("event", [scheduler.WorkerDied("SIGKILL"), scheduler.Interrupted()])
def test_a_cancel_is_kept_when_worker_or_daemon_die_before_it_is_done(event: scheduler.Event) -> None:
    asked = advance(RUNNING, scheduler.CancelAsked()).record
    ended = advance(asked, event)
    assert ended.record.state is JobState.CANCELLED
    assert Instruction.CLEAN in ended.instructions


def test_a_job_that_was_stopped_without_a_cancel_waits_again() -> None:
    assert advance(RUNNING, scheduler.Stopped()).record.state is JobState.QUEUED


def test_a_pause_keeps_a_waiting_job_where_it_is_and_tells_the_worker_of_a_running_one() -> None:
    waiting = advance(RECORD, scheduler.PauseAsked())
    assert waiting.record == replace(RECORD, is_paused=True) and waiting.record.as_job().is_paused
    assert waiting.instructions == (Instruction.SAVE,)
    running = advance(RUNNING, scheduler.PauseAsked())
    assert running.record == replace(RUNNING, is_paused=True)
    assert running.instructions == (Instruction.SAVE, Instruction.TELL_PAUSE)
    for record in (waiting.record, running.record):
        assert not advance(record, scheduler.PauseAsked()).instructions, "it was paused twice"
        assert not advance(record, scheduler.ResumeAsked()).record.is_paused


def test_a_job_that_is_to_be_cancelled_is_neither_paused_nor_resumed() -> None:
    for record in (RUNNING, replace(RUNNING, is_paused=True)):
        asked = advance(record, scheduler.CancelAsked()).record
        for event in (scheduler.PauseAsked(), scheduler.ResumeAsked()):
            assert advance(asked, event).record == asked
        assert advance(asked, scheduler.LostPlace()).record.state is JobState.CANCELLED


def test_a_job_that_lost_its_place_waits_again_as_paused_as_it_was_and_no_death_is_counted() -> None:
    record = replace(RUNNING, is_paused=True, progress=Progress("separate", 0.5), early=EARLY)
    for _ in range(scheduler.MAX_INTERRUPTIONS + 1):
        lost = advance(record, scheduler.LostPlace())
        assert lost.record == replace(RUNNING, state=JobState.QUEUED, is_paused=True)
        assert Instruction.CLEAN in lost.instructions, "what it had done stays in its hidden folder"
        record = replace(lost.record, state=JobState.RUNNING)


def test_a_worker_that_dies_before_it_has_put_a_paused_job_aside_counts_against_it() -> None:
    died = advance(replace(RUNNING, is_paused=True), scheduler.WorkerDied("SIGSEGV")).record
    assert (died.state, died.crashes, died.is_paused) == (JobState.QUEUED, 1, True)


def test_what_can_be_heard_early_is_told_while_the_job_runs_and_no_longer() -> None:
    heard = advance(RUNNING, scheduler.Heard(EARLY)).record
    assert heard.as_job().early == EARLY
    assert advance(heard, scheduler.PauseAsked()).record.early == EARLY
    ends = (scheduler.Finished(RESULT), scheduler.Failed(ERROR), scheduler.Interrupted())
    assert [advance(heard, event).record.early for event in ends] == [None] * 3


def test_a_result_that_comes_after_the_cancel_counts() -> None:
    asked = advance(RUNNING, scheduler.CancelAsked()).record
    assert advance(asked, scheduler.Finished(RESULT)).record.state is JobState.DONE
