"""Threads of a remix: all work is done, the first error ends it, nothing runs on when it is closed."""

from __future__ import annotations

from collections.abc import Generator
from threading import Barrier, Event, current_thread

import pytest

from stembridge.mixdown.side_by_side import read_ahead, run_side_by_side

BOUND_S = 20.0


def test_two_tasks_run_at_the_same_time_and_all_are_done() -> None:
    barrier = Barrier(2)
    ended = []

    def meet(number: int) -> Generator[float, None, None]:
        yield 0.0
        barrier.wait(BOUND_S)
        ended.append(number)
        yield 0.5

    told = list(run_side_by_side([meet(number) for number in range(4)]))
    assert sorted(ended) == [0, 1, 2, 3]
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_the_first_error_ends_the_others_and_is_raised() -> None:
    closed = Event()
    running = Event()

    def go_on() -> Generator[float, None, None]:
        try:
            while True:
                running.set()
                yield 0.5
        finally:
            closed.set()

    def fail() -> Generator[float, None, None]:
        assert running.wait(BOUND_S)
        yield 0.1
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        list(run_side_by_side([go_on(), fail()]))
    assert closed.is_set()


def test_closing_ends_what_runs_and_never_begins_what_waits() -> None:
    begun: list[int] = []
    closed: list[int] = []

    def go_on(number: int) -> Generator[float, None, None]:
        begun.append(number)
        try:
            while True:
                yield 0.5
        finally:
            closed.append(number)

    running = run_side_by_side([go_on(number) for number in range(5)])
    next(running)
    running.close()
    assert sorted(closed) == sorted(begun)
    assert set(begun) <= {0, 1}


def test_reading_ahead_keeps_the_order_and_works_in_another_thread() -> None:
    names = []

    def count() -> Generator[int, None, None]:
        for number in range(1, 30):
            names.append(current_thread().name)
            yield number

    assert list(read_ahead(count())) == list(range(1, 30))
    assert current_thread().name not in names


def test_reading_ahead_makes_the_next_while_this_one_is_used() -> None:
    made = Event()

    def make() -> Generator[int, None, None]:
        yield 1
        made.set()
        yield 2

    ahead = read_ahead(make())
    assert next(ahead) == 1
    assert made.wait(BOUND_S)
    ahead.close()


def test_reading_ahead_raises_where_the_items_end_and_closes_them() -> None:
    closed = Event()

    def fail() -> Generator[int, None, None]:
        try:
            yield 1
            raise ValueError("the cause")
        finally:
            closed.set()

    ahead = read_ahead(fail())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the cause"):
        next(ahead)
    assert closed.is_set()
