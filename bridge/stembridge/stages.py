"""The stages of long work, each with its share of the way from 0 to 1. Standard library only."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

from stembridge.types import Progress

Outcome = TypeVar("Outcome")

_SEEN_S, _SEEN_FRACTION = 1.0, 0.05
"""From here on the time that is left follows from the time that it took so far."""


def run_to_end(steps: Generator[object, None, Outcome]) -> Outcome:
    """Run ``steps`` without telling how far they are, and return what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome


def tell_time_left(
    steps: Generator[Progress, None, Outcome], clock: Callable[[], float] = time.monotonic
) -> Generator[Progress, None, Outcome]:
    """Run ``steps``, tell their progress with the time that is left, and return what they return.

    Where they do not say it, it follows from the time that they took so far. Closing this generator closes
    ``steps``.

    Parameters
    ----------
    clock : monotonic seconds
    """
    began = clock()
    with closing(steps):
        while True:
            try:
                progress = next(steps)
            except StopIteration as stop:
                outcome: Outcome = stop.value
                return outcome
            taken_s = clock() - began
            if progress.eta_s is None and taken_s >= _SEEN_S and progress.fraction >= _SEEN_FRACTION:
                progress = replace(progress, eta_s=taken_s * (1 - progress.fraction) / progress.fraction)
            yield progress


class Stages:
    """Tells how far work is as a whole from how far a stage is.

    Parameters
    ----------
    begins : where each stage begins, 0..1, in the order in which they come
    """

    def __init__(self, **begins: float) -> None:
        ends = [*list(begins.values())[1:], 1.0]
        self._spans = {name: (begin, end) for (name, begin), end in zip(begins.items(), ends, strict=True)}

    def at(self, stage: str, done: float, eta_s: float | None = None) -> Progress:
        """Return the progress where ``done`` of ``stage`` is done, 0..1; more than 1 counts as 1."""
        begin, end = self._spans[stage]
        return Progress(stage, begin + (end - begin) * min(done, 1.0), eta_s)

    def tell(
        self,
        stage: str,
        steps: Generator[float, None, Outcome],
        after_each: Callable[[], None] = lambda: None,
    ) -> Generator[Progress, None, Outcome]:
        """Run ``steps``, which yield the fraction that is done, tell their progress, return what they return.

        What is told never goes back, though ``steps`` may begin again. Closing this generator closes
        ``steps``; ``after_each`` is called when it is resumed.
        """
        done = 0.0
        with closing(steps):
            while True:
                try:
                    done = max(done, next(steps))
                except StopIteration as stop:
                    outcome: Outcome = stop.value
                    return outcome
                yield self.at(stage, done)
                after_each()
