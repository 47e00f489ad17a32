"""The engines of a pool, which run batches. An engine makes one attempt; the pool decides whether to retry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ragkit.workers.batches import Function, Work, run_on

_SECONDS_FOR_OTHERS = 60


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one attempt at a batch.

    Attributes:
        place: The number of the batch.
        results: Its results as bytes; None if it failed.
        reason: Why it failed.
    """

    place: int
    results: bytes | None
    reason: str = ""


class Engine(Protocol):
    """Workers that run during a ``with`` block."""

    def free(self) -> int:
        """Return the number of batches that `submit` accepts now."""
        ...

    def submit(self, place: int, items: bytes) -> None:
        """Send a batch to a free worker."""
        ...

    def collect(self) -> list[Attempt]:
        """Wait until attempts end or a worker becomes ready, and return the attempts that ended."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Hand:
    """The state of a worker, as its engine sees it.

    A worker whose batch failed is paused until an attempt of another worker ends, as long as others are working or
    starting. Its machine may be the cause, for example because of a full disk, and it would fail batch after batch
    faster than the others finish them. A failed batch is sent to another worker if there is one.

    Attributes:
        ready: Whether it has started.
        place: The number of its current batch; None if it is idle.
        failed: Numbers of the batches that failed on this worker.
        rests: Whether its last attempt failed and no other attempt has ended since.
    """

    def __init__(self) -> None:
        """Create the state of a worker that is starting."""
        self.ready = False
        self.place: int | None = None
        self.failed: set[int] = set()
        self.rests = False


HandT = TypeVar("HandT", bound=Hand)


class Patience:
    """Limits the wait for starting workers to one minute in total, as a cluster may never have room for some."""

    def __init__(self) -> None:
        """Start the minute."""
        self._end = monotonic() + _SECONDS_FOR_OTHERS

    def willing(self, workers: Sequence[HandT], idle: Sequence[HandT]) -> list[HandT]:
        """Return the idle workers that may receive a batch now.

        Args:
            workers: All workers.
            idle: Workers that are ready and have no batch.

        Returns:
            The idle workers that are not paused. If all are paused and no other worker is working or starting, one of
            them.
        """
        fresh = [worker for worker in idle if not worker.rests]
        others = any(worker.place is not None for worker in workers) or self.left(workers) is not None
        return fresh or ([] if others else list(idle[:1]))

    def left(self, workers: Sequence[Hand]) -> float | None:
        """Return how long to wait for workers that are starting.

        Returns:
            Seconds; None if no worker is starting, or if the minute is over.
        """
        left = self._end - monotonic()
        return left if left > 0 and not all(worker.ready for worker in workers) else None


def chosen(able: Sequence[HandT], place: int) -> HandT:
    """Return the worker to send a batch to.

    Returns:
        A worker on which the batch has not failed, if there is one.
    """
    return min(able, key=lambda worker: place in worker.failed)


def settle(workers: Sequence[Hand], worker: Hand, ended: Attempt) -> None:
    """Record the outcome of an attempt, and resume paused workers."""
    for other in workers:
        other.rests = False
    worker.place, worker.rests = None, ended.results is None
    if ended.results is None:
        worker.failed.add(ended.place)


class InlineEngine:
    """Runs batches in this process, one at a time."""

    def __init__(self, work: Work) -> None:
        """Set the work, which starts with the first batch."""
        self._work = work
        self._function: Function | None = None
        self._waiting: list[tuple[int, bytes]] = []

    def free(self) -> int:
        """Return 1 if no batch is waiting, otherwise 0."""
        return 1 - len(self._waiting)

    def submit(self, place: int, items: bytes) -> None:
        """Store a batch for `collect`."""
        self._waiting.append((place, items))

    def collect(self) -> list[Attempt]:
        """Run the waiting batch.

        Returns:
            Its outcome.
        """
        if self._function is None:
            self._function = self._work.start()
        return [attempt(self._function, place, items) for place, items in [self._waiting.pop()]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._function = None


def attempt(function: Function, place: int, items: bytes) -> Attempt:
    """Try a batch once, in a worker.

    Args:
        function: The result of `Work.start`.
        place: The number of the batch.
        items: The batch.

    Returns:
        The results, or the error as the reason.
    """
    try:
        return Attempt(place, run_on(function, items))
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        return Attempt(place, None, reason_of(error))


def reason_of(error: BaseException) -> str:
    """Describe an exception in a line of bounded length.

    Returns:
        Its type and message.
    """
    return f"{type(error).__name__}: {error}"[:1000]
