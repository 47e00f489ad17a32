"""Threads, a limit on concurrent calls, and cancellation.

All threads are daemon threads: a `ThreadPoolExecutor` would keep the program from exiting while a call hangs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

_CACHE_SECONDS = 240.0  # providers keep an unused prefix for at least five minutes

S = TypeVar("S")
T = TypeVar("T")


class Cancellation:
    """Cancels a run from another thread: no further call starts, and the run does not wait for calls in progress."""

    def __init__(self) -> None:
        """Create a cancellation that has not been requested yet."""
        self._requested: Future[None] = Future()
        self._lock = Lock()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._requested.done()

    def cancel(self) -> None:
        """Cancel the run. It is safe to call this more than once."""
        with self._lock:
            if not self._requested.done():
                self._requested.set_result(None)

    def wait(self, seconds: float) -> bool:
        """Sleep until the time is over or the run is cancelled.

        Returns:
            Whether the run is cancelled.
        """
        wait([self._requested], seconds)
        return self.cancelled

    def wait_for(self, future: Future[T], seconds: float | None = None) -> bool:
        """Wait for a future, but not longer than some seconds, and not after a cancellation.

        Args:
            future: The future.
            seconds: The longest wait; None for no limit.

        Returns:
            Whether the future is done.
        """
        futures: list[Future[Any]] = [future, self._requested]
        wait(futures, seconds, FIRST_COMPLETED)
        return future.done()


class Gate:
    """Limits the number of concurrent calls of all questions together, in the order of arrival."""

    def __init__(self, limit: int) -> None:
        """Set the maximum number of concurrent calls."""
        self.limit = limit
        self._free = limit
        self._waiting: deque[Future[None]] = deque()
        self._last_use: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def slot(self, cancellation: Cancellation) -> Iterator[bool]:
        """Wait for a free slot, and release it after the block.

        Yields:
            Whether a slot was acquired; False if the run was cancelled first.
        """
        turn: Future[None] = Future()
        with self._lock:
            self._waiting.append(turn)
            self._admit()
        try:
            yield cancellation.wait_for(turn) and not cancellation.cancelled
        finally:
            with self._lock:
                if turn.done():
                    self._free += 1
                else:
                    self._waiting.remove(turn)
                self._admit()

    def _admit(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._waiting.popleft().set_result(None)

    def is_cold(self, prefix: str) -> bool:
        """Whether a prefix was not sent recently. From now on it counts as sent.

        Args:
            prefix: An identifier of the prefix, such as its hash.

        Returns:
            True for the first caller.
        """
        now = monotonic()
        with self._lock:
            last = self._last_use.get(prefix)
            self._last_use[prefix] = now
            if len(self._last_use) > 10_000:
                self._last_use = {name: at for name, at in self._last_use.items() if now - at < _CACHE_SECONDS}
        return last is None or now - last > _CACHE_SECONDS


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run a function in a daemon thread.

    Returns:
        A future of its result.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on only the thread completes it
    Thread(target=_settle, args=(future, work), daemon=True).start()
    return future


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for the result
        future.set_exception(error)


def in_parallel(work: Callable[[S], T], items: Sequence[S], threads: int) -> list[T]:
    """Apply a function to several items in parallel.

    Args:
        work: The function.
        items: The items.
        threads: Maximum number of threads.

    Returns:
        Results in the order of the items. The first error is raised without waiting for the other items.
    """
    if len(items) <= 1:
        return [work(item) for item in items]
    futures: list[Future[T]] = [Future() for _ in items]
    pending: SimpleQueue[tuple[S, Future[T]]] = SimpleQueue()
    for pair in zip(items, futures, strict=True):
        pending.put(pair)

    def run() -> None:
        with suppress(Empty):
            while True:
                item, future = pending.get_nowait()
                _settle(future, partial(work, item))

    for _ in range(min(len(items), threads)):
        in_thread(run)
    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
        future.result()  # raises the first error
    return [future.result() for future in futures]


async def awaited(work: Callable[[], T], cancellation: Cancellation) -> T:
    """Run a function in a thread of its own, because a shared pool would limit the number of waiting questions.

    Args:
        work: The function.
        cancellation: Is cancelled if the waiting task is cancelled.

    Returns:
        The result of the function.

    Raises:
        CancelledError: If the task is cancelled.
    """
    try:
        return await asyncio.wrap_future(in_thread(work))
    except asyncio.CancelledError:
        cancellation.cancel()
        raise
