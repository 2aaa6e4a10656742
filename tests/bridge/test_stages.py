"""How far long work is, and how long it will still take."""

from __future__ import annotations

from collections.abc import Generator, Iterator

from stembridge.stages import run_to_end, tell_time_left
from stembridge.types import Progress


def ticks(*times: float) -> Iterator[float]:
    return iter(times)


def work(*progress: Progress) -> Generator[Progress, None, str]:
    yield from progress
    return "the outcome"


def test_the_time_left_follows_from_the_time_taken_once_there_is_enough_to_go_by() -> None:
    times = ticks(100.0, 100.5, 104.0, 110.0, 112.0)
    fractions = [Progress("a", 0.5), Progress("a", 0.01), Progress("b", 0.25), Progress("c", 0.75)]
    told = list(tell_time_left(work(*fractions), lambda: next(times)))
    assert [step.eta_s for step in told] == [None, None, 30.0, 4.0]
    assert [(step.stage, step.fraction) for step in told] == [
        (step.stage, step.fraction) for step in fractions
    ]


def test_work_that_knows_better_is_believed() -> None:
    times = ticks(0.0, 10.0)
    (told,) = tell_time_left(work(Progress("a", 0.5, 3.0)), lambda: next(times))
    assert told.eta_s == 3.0


def test_the_outcome_is_passed_on() -> None:
    assert run_to_end(tell_time_left(work(Progress("a", 0.5)))) == "the outcome"


def test_closing_it_closes_the_work() -> None:
    ended: list[str] = []

    def long_work() -> Generator[Progress, None, None]:
        try:
            yield Progress("a", 0.1)
            yield Progress("a", 0.2)
        finally:
            ended.append("closed")

    steps = tell_time_left(long_work())
    next(steps)
    steps.close()
    assert ended == ["closed"]
