"""Work on threads that nobody has to wait for when the program ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from ragkit_pipelines.pearl.run.concurrency import Cancellation

S = TypeVar("S")
T = TypeVar("T")


def side_by_side(work: Callable[[S], T], items: Sequence[S], threads: int) -> list[T]:
    """Do the same for several items at the same time; one item is done on the caller's own thread.

    A pool of the standard library would not do: it keeps the program from ending while a call hangs.

    Args:
        work: What to do.
        items: With what.
        threads: Threads at the most.

    Returns:
        Results in the order of the items. The first error that is met is raised, and the rest is not waited for.
    """
    if len(items) <= 1:
        return [work(item) for item in items]
    waiting: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[tuple[int, Future[T]]] = SimpleQueue()
    for place in range(len(items)):
        waiting.put(place)

    def run() -> None:
        with suppress(Empty):
            while True:
                place = waiting.get_nowait()
                result: Future[T] = Future()
                try:
                    result.set_result(work(items[place]))
                except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                    result.set_exception(error)
                done.put((place, result))

    for _ in range(min(len(items), threads)):
        Thread(target=run, daemon=True).start()
    results: dict[int, T] = {}
    while len(results) < len(items):
        place, result = done.get()
        results[place] = result.result()
    return [results[place] for place in range(len(items))]


async def in_thread(work: Callable[[], T], cancellation: Cancellation) -> T:
    """Run some work on a thread of its own: a shared pool would let only a few questions wait at once.

    Args:
        work: The work.
        cancellation: What calls the work off where the task that waits for it is cancelled.

    Returns:
        What the work returned.

    Raises:
        CancelledError: If the task is cancelled.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return await asyncio.wrap_future(done)
    except asyncio.CancelledError:
        cancellation.cancel()
        raise
