"""Threads for model calls, a shared limit on concurrent calls, and cancellation.

All threads are daemon threads: a `ThreadPoolExecutor` would keep the program from exiting while a call hangs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Protocol, TypeVar, cast

from ragkit.errors import CallCancelledError, InvalidInputError

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


_APPLIED: ContextVar[tuple[Cancellation, ...]] = ContextVar("ragkit-cancellations", default=())


def applied_cancellations() -> tuple[Cancellation, ...]:
    """Return the cancellations that apply to the current call."""
    return _APPLIED.get()


def stop_requested() -> Callable[[], bool]:
    """Return a function that tells whether a cancellation that applies to the current call has been requested.

    Local models call it before each decoding step, so that a cancelled call stops within one step.
    """
    applied = _APPLIED.get()
    return lambda: any(each.cancelled for each in applied)


def raise_if_stopped() -> None:
    """Raise `CallCancelledError` if a cancellation that applies to the current call has been requested."""
    if stop_requested()():
        raise CallCancelledError("the call was cancelled or timed out", maybe_paid=False)


class Cancellation:
    """Cancels model calls from another thread: no further call starts, and nobody waits for calls in progress.

    A local model stops at its next decoding step; a call to a server runs until the server answers.
    """

    def __init__(self) -> None:
        """Create a cancellation that has not been requested yet."""
        self._requested: Future[None] = Future()
        self._lock = Lock()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._requested.done()

    def cancel(self) -> None:
        """Cancel the calls. It is safe to call this more than once."""
        with self._lock:
            if not self._requested.done():
                self._requested.set_result(None)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the cancellation to all calls of local models within a block, also in threads that it starts."""
        token = _APPLIED.set((*_APPLIED.get(), self))
        try:
            yield
        finally:
            _APPLIED.reset(token)

    def wait(self, seconds: float, *others: Cancellation) -> bool:
        """Sleep until the time is over or the calls are cancelled, by this cancellation or one of the others.

        Returns:
            Whether the calls are cancelled.
        """
        requested = [self._requested, *(other._requested for other in others)]
        return bool(wait(requested, seconds, FIRST_COMPLETED).done)

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


async def run_cancellable(work: Callable[[], T]) -> T:
    """Run a function in a thread; if the waiting task is cancelled, so are the model calls of the function.

    Returns:
        The result of the function.

    Raises:
        CancelledError: If the waiting task is cancelled.
    """
    cancellation = Cancellation()
    with cancellation.applied():
        context = copy_context()
    try:
        return await asyncio.get_running_loop().run_in_executor(None, partial(context.run, work))
    except asyncio.CancelledError:
        cancellation.cancel()
        raise


class _Closable(Protocol[T_co]):
    def __next__(self) -> T_co: ...
    def close(self) -> None: ...


async def iterate_cancellable(make: Callable[[], _Closable[T]]) -> AsyncGenerator[T, None]:
    """Run a generator in threads; if the task that iterates is cancelled or stops early, so are its model calls.

    Yields:
        The items of the generator.
    """
    cancellation, end = Cancellation(), object()
    with cancellation.applied():
        context = copy_context()
    loop = asyncio.get_running_loop()
    items = context.run(make)
    try:
        while (item := await loop.run_in_executor(None, partial(context.run, next, items, end))) is not end:
            yield cast("T", item)
    finally:
        cancellation.cancel()
        with suppress(ValueError):  # it is running in a thread, which ends because of the cancellation
            items.close()


class Slots:
    """A limit on concurrent calls, which any number of models can share. Calls wait in the order of their arrival.

    Attributes:
        limit: Maximum number of concurrent calls.
    """

    def __init__(self, limit: int) -> None:
        """Set the maximum number of concurrent calls.

        Raises:
            InvalidInputError: If the number is less than 1.
        """
        if limit < 1:
            raise InvalidInputError(f"the number of concurrent calls must be at least 1, got {limit!r}")
        self.limit = limit
        self._free = limit
        self._waiting: deque[Future[None]] = deque()
        self._lock = Lock()

    @contextmanager
    def slot(self, cancellation: Cancellation) -> Iterator[bool]:
        """Wait for a free slot, and release it after the block.

        Yields:
            Whether a slot was acquired; False if the calls were cancelled first.
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


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run a function in a daemon thread, with the context variables of the caller.

    Returns:
        A future of its result.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on only the thread completes it
    Thread(target=copy_context().run, args=(_settle, future, work), daemon=True).start()
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
        Results in the order of the items. The first error is raised without waiting for the items in progress, and no
        further item starts.
    """
    if len(items) == 1 or threads == 1:
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

    try:
        for _ in range(min(len(items), threads)):
            in_thread(run)
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()  # raises the first error
    except BaseException:
        with suppress(Empty):
            while True:
                pending.get_nowait()
        raise
    return [future.result() for future in futures]
