"""What becomes of a dropped file, event by event, without any file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stembridge.types import ErrorInfo, Job, JobState, RemixRequest, SplitRequest, SplitResult
from stembridge.watch.dropped import Signature
from stembridge.watch.life import (
    Begun,
    Event,
    FileRow,
    FileState,
    Found,
    Heard,
    Lost,
    Matched,
    ModelMissed,
    Noted,
    Order,
    Postponed,
    Readied,
    Refused,
    Rejected,
    Retried,
    advance,
    is_handled,
)

SIGNATURE = Signature(device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
SPLIT = SplitRequest("/drop/song.wav", "/drop/stems", "preview")
REMIX = RemixRequest("", "/drop/stems", "karaoke")
ERROR = ErrorInfo("bad_source", "no audio", "record some")
FOUND = Found("song.wav", SIGNATURE, "a" * 64)


def live(*events: Event, row: FileRow | None = None) -> tuple[FileRow | None, tuple[Order, ...]]:
    """Return the row after ``events``, and the orders of the last of them."""
    orders: tuple[Order, ...] = ()
    for second, event in enumerate(events):
        transition = advance(row, event, float(second))
        row, orders = transition.row, transition.orders
    return row, orders


def begun(*remixes: RemixRequest) -> tuple[Event, Event]:
    return FOUND, Begun("wish", "w-1", SPLIT, remixes)


def heard(job_id: str, state: JobState = JobState.DONE, folder: str = "/drop/stems/song") -> Heard:
    result = SplitResult(folder, 1.0, 1.0, 2.5, None) if state is JobState.DONE else None
    return Heard(Job(job_id, SPLIT, state, 0.0, result=result, error=ERROR if not result else None))


def state_after(*events: Event) -> FileState | None:
    row, _ = live(*events)
    return None if row is None else row.state


def test_a_file_is_found_split_and_done() -> None:
    row, orders = live(FOUND)
    assert row is not None and row.state is FileState.WAITING
    assert orders == (Order.SAVE, Order.TELL)
    row, orders = live(*begun())
    assert row is not None and row.job_now == "w-1" and row.request_now == SPLIT
    assert orders == (Order.SAVE, Order.SUBMIT)
    row, orders = live(*begun(), heard("w-1"))
    assert row is not None and row.state is FileState.DONE and row.results == ("/drop/stems/song",)
    assert row.spent_s == 2.5
    assert orders == (Order.SAVE, Order.UNNOTE, Order.TELL)


def test_remixes_come_one_after_another_out_of_the_finished_set() -> None:
    row, orders = live(*begun(REMIX, REMIX), heard("w-1"))
    assert row is not None and row.state is FileState.REMIXING and row.job_now == "w-1-r1"
    assert row.request_now == replace(REMIX, source="/drop/stems/song")
    assert orders == (Order.SAVE, Order.SUBMIT)
    row, orders = live(*begun(REMIX, REMIX), heard("w-1"), heard("w-1-r1", folder="/r1"))
    assert row is not None and row.job_now == "w-1-r2" and Order.SUBMIT in orders
    row, orders = live(*begun(REMIX), heard("w-1"), heard("w-1-r1", folder="/r1"))
    assert row is not None and row.state is FileState.DONE and row.spent_s == 5.0
    assert row.results == ("/drop/stems/song", "/r1")


def test_a_remix_that_fails_leaves_the_stems_and_the_other_remixes() -> None:
    row, orders = live(
        *begun(REMIX, REMIX), heard("w-1"), heard("w-1-r1", JobState.FAILED), heard("w-1-r2", folder="/r2")
    )
    assert row is not None and row.state is FileState.FAILED and row.error == ERROR
    assert row.results == ("/drop/stems/song", "/r2")
    assert Order.NOTE in orders
    row, _ = live(*begun(REMIX), heard("w-1"), Rejected(ERROR))
    assert row is not None and row.state is FileState.FAILED and row.folder == "/drop/stems/song"


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_fails_is_noted_and_told(state: JobState) -> None:
    row, orders = live(*begun(), heard("w-1", state))
    assert row is not None and row.state is FileState.FAILED and not row.is_noted
    assert orders == (Order.SAVE, Order.NOTE, Order.TELL)
    row, _ = live(Noted(), row=row)
    assert row is not None and row.is_noted


def test_news_of_another_job_or_of_one_that_runs_changes_nothing() -> None:
    assert state_after(*begun(), heard("w-2")) is FileState.SPLITTING
    assert state_after(*begun(), heard("w-1", JobState.RUNNING)) is FileState.SPLITTING
    assert state_after(FOUND, heard("")) is FileState.WAITING
    _, orders = live(*begun(), heard("w-1"), heard("w-1"))
    assert orders == ()


def test_a_failed_file_that_is_touched_or_dropped_again_has_another_try() -> None:
    failed = (*begun(), heard("w-1", JobState.FAILED))
    for again in (SIGNATURE._replace(mtime_ns=9), SIGNATURE._replace(inode=9, ctime_ns=9)):
        row, orders = live(*failed, replace(FOUND, signature=again))
        assert row is not None and row.state is FileState.WAITING and row.error is None and not row.job
        assert Order.UNNOTE in orders


def test_other_settings_give_a_failed_file_another_try() -> None:
    row, orders = live(*begun(), heard("w-1", JobState.FAILED), Retried())
    assert row is not None and row.state is FileState.WAITING
    assert orders == (Order.SAVE, Order.UNNOTE)
    assert state_after(*begun(), heard("w-1"), Retried()) is FileState.DONE


def test_a_done_file_is_not_done_again_until_its_result_is_gone() -> None:
    done = (*begun(), heard("w-1"))
    touched = SIGNATURE._replace(mtime_ns=9)
    row, orders = live(*done, replace(FOUND, signature=touched, has_result=True))
    assert row is not None and row.state is FileState.DONE and row.signature == touched
    assert orders == (Order.SAVE, Order.TELL_SAME)
    assert state_after(*done, replace(FOUND, signature=touched)) is FileState.WAITING
    moved = SIGNATURE._replace(inode=9, ctime_ns=9)
    assert state_after(*done, replace(FOUND, signature=moved)) is FileState.DONE


def test_other_bytes_are_a_new_file_but_not_while_the_old_ones_are_at_the_daemon() -> None:
    other = replace(FOUND, sha256="b" * 64, signature=SIGNATURE._replace(size=9))
    row, orders = live(*begun(), heard("w-1"), other)
    assert row is not None and row.state is FileState.WAITING and row.sha256 == "b" * 64 and not row.folder
    assert orders == (Order.SAVE, Order.TELL)
    row, orders = live(*begun(), other)
    assert row is not None and row.state is FileState.SPLITTING and row.sha256 == "a" * 64
    assert orders == ()


def test_a_file_that_is_gone_is_forgotten_unless_it_is_done() -> None:
    assert state_after(FOUND, Lost()) is None
    assert state_after(*begun(), Lost()) is None
    row, orders = live(*begun(), heard("w-1", JobState.FAILED), Lost())
    assert row is None and orders == (Order.FORGET, Order.UNNOTE)
    assert state_after(*begun(), heard("w-1"), Lost()) is FileState.DONE


def test_a_file_waits_for_its_model_and_goes_on_when_it_is_there() -> None:
    missing = ModelMissed(ERROR, "wish", SPLIT)
    row, orders = live(FOUND, missing)
    assert row is not None and row.state is FileState.WAITING_FOR_MODEL and row.split == SPLIT
    assert orders == (Order.SAVE, Order.TELL)
    _, orders = live(FOUND, missing, missing)
    assert orders == ()
    row, orders = live(FOUND, missing, Readied("wish"))
    assert row is not None and row.state is FileState.WAITING and row.error is None
    assert orders == (Order.SAVE,)
    assert state_after(*begun(), ModelMissed(ERROR, "wish", SPLIT)) is FileState.WAITING_FOR_MODEL


def test_a_twin_of_a_done_file_has_its_result() -> None:
    twin, _ = live(*begun(REMIX), heard("w-1"), heard("w-1-r1", folder="/r1"))
    assert twin is not None
    row, orders = live(replace(FOUND, name="copy.wav"), Matched(twin))
    assert row is not None and row.state is FileState.SAME and row.same_as == "song.wav"
    assert row.results == twin.results
    assert orders == (Order.SAVE, Order.UNNOTE, Order.TELL)
    third, _ = live(replace(FOUND, name="third.wav"), Matched(row))
    assert third is not None and third.same_as == "song.wav"


def test_a_wish_that_cannot_be_read_fails_the_file() -> None:
    row, orders = live(FOUND, Refused(ERROR, "mistake-1"))
    assert row is not None and row.state is FileState.FAILED and row.digest == "mistake-1"
    assert Order.NOTE in orders
    assert state_after(*begun(), Refused(ERROR)) is FileState.SPLITTING


def test_a_job_that_ended_long_ago_makes_place_for_another() -> None:
    row, orders = live(*begun(), Postponed())
    assert row is not None and row.state is FileState.WAITING and row.attempt == 1 and not row.job
    assert orders == (Order.SAVE,)


def test_a_disk_that_is_mounted_again_brings_no_news() -> None:
    row, _ = live(FOUND)
    assert row is not None
    assert is_handled(row, SIGNATURE._replace(device=77))
    for field in ("inode", "size", "mtime_ns", "ctime_ns"):
        assert not is_handled(row, SIGNATURE._replace(**{field: 77}))


@pytest.mark.parametrize(
    ("again", "is_meant"),
    [
        (SIGNATURE._replace(mtime_ns=9, ctime_ns=9), True),
        (SIGNATURE._replace(inode=9, ctime_ns=9), True),
        (SIGNATURE._replace(ctime_ns=9), False),
        (SIGNATURE._replace(device=9, inode=9), False),
    ],
    ids=["touched", "replaced", "its rights or its marks", "mounted again"],
)
def test_a_done_file_that_is_dropped_again_is_done_again_where_something_else_is_wished(
    again: Signature, is_meant: bool
) -> None:
    done = (*begun(), heard("w-1"))
    found = replace(FOUND, signature=again, has_result=True)
    row, orders = live(*done, replace(found, has_other_wish=True))
    assert row is not None and row.signature == again
    assert row.state is (FileState.WAITING if is_meant else FileState.DONE)
    assert (Order.TELL in orders) is is_meant and Order.TELL_SAME not in orders
    row, orders = live(*done, found)
    assert row is not None and row.state is FileState.DONE
    assert orders == ((Order.SAVE, Order.TELL_SAME) if is_meant else (Order.SAVE,))


def test_what_the_jobs_of_a_file_warn_of_is_kept_once() -> None:
    def warned(job_id: str, *warnings: str) -> Heard:
        result = SplitResult("/drop/stems/song", 1.0, 1.0, 2.5, None, warnings)
        return Heard(Job(job_id, SPLIT, JobState.DONE, 0.0, result=result))

    row, orders = live(*begun(REMIX), warned("w-1", "loud", "no AAF"), warned("w-1-r1", "no AAF", "late"))
    assert row is not None and row.state is FileState.DONE and row.error is None
    assert row.warnings == ("loud", "no AAF", "late")
    assert Order.NOTE not in orders
    row, _ = live(replace(FOUND, sha256="b" * 64), row=row)
    assert row is not None and row.warnings == ()
