"""Work on several stems at once: effects run outside of Python's lock, so that two threads get further."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")

THREADS = 2
_TOLD_EVERY_S = 0.1


def run_side_by_side(
    tasks: Sequence[Generator[float, None, None]], interrupt: Callable[[], None] = lambda: None
) -> Generator[float, None, None]:
    """Run every task to its end, two at a time, and yield the fraction that is done of all of them.

    The first error of a task ends the others and is raised. Closing this generator closes the tasks; it
    returns when none runs any more.

    Parameters
    ----------
    tasks : each yields the fraction of it that is done
    interrupt : called once no more is wanted, before the tasks are waited for: it ends what they wait for
    """
    stop = Event()
    done = [0.0] * len(tasks)

    def run(index: int) -> None:
        task = tasks[index]
        try:
            while not stop.is_set():
                done[index] = next(task)
        except StopIteration:
            done[index] = 1.0
        finally:
            task.close()

    with ThreadPoolExecutor(THREADS, "remix") as pool:
        try:
            waiting = {pool.submit(run, index) for index in range(len(tasks))}
            while waiting:
                finished, waiting = wait(waiting, _TOLD_EVERY_S, FIRST_COMPLETED)
                for future in finished:
                    future.result()
                yield sum(done) / len(done)
        finally:
            stop.set()
            interrupt()
            pool.shutdown(cancel_futures=True)


def read_ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """Yield what ``items`` yields, each made in a thread of its own while the one before is used.

    Closing this generator closes ``items``.
    """
    with closing(items), ThreadPoolExecutor(1, "remix") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
