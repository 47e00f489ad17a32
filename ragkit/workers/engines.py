"""The engines of a pool: where a batch is worked on. They try it once; the pool decides about another attempt."""

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
    """How one attempt at a batch ended.

    Attributes:
        place: The number of the batch.
        results: Its results as bytes; None where it failed.
        reason: Why it failed.
    """

    place: int
    results: bytes | None
    reason: str = ""


class Engine(Protocol):
    """Some workers, for the length of a ``with`` block; leaving it ends them."""

    def free(self) -> int:
        """How many batches `submit` takes at once now."""
        ...

    def submit(self, place: int, items: bytes) -> None:
        """Give a batch to a free worker."""
        ...

    def collect(self) -> list[Attempt]:
        """Wait until something happens: attempts end, or a worker becomes ready."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Hand:
    """What a worker has in hand, as its engine sees it.

    A worker whose batch failed rests until another's attempt ends, as long as others work or start: its machine may be
    the trouble, such as one with a full disk, and would fail batch after batch faster than the others finish them. A
    batch that failed goes to another worker where there is one.

    Attributes:
        ready: Whether it has started.
        place: The number of the batch in hand, None for none.
        failed: Numbers of the batches that failed here.
        rests: Whether the last one failed and no other attempt has ended since.
    """

    def __init__(self) -> None:
        """Nothing is in hand."""
        self.ready = False
        self.place: int | None = None
        self.failed: set[int] = set()
        self.rests = False


HandT = TypeVar("HandT", bound=Hand)


class Patience:
    """How long others that start are waited for: a minute in all, as some may never find room on a cluster."""

    def __init__(self) -> None:
        """The minute begins."""
        self._end = monotonic() + _SECONDS_FOR_OTHERS

    def willing(self, workers: Sequence[HandT], idle: Sequence[HandT]) -> list[HandT]:
        """Those of the idle workers that may be given a batch now.

        Args:
            workers: All workers.
            idle: Those that are ready and have nothing in hand.

        Returns:
            The idle ones that do not rest; where nobody else is to be waited for and all rest, one of them.
        """
        fresh = [worker for worker in idle if not worker.rests]
        others = any(worker.place is not None for worker in workers) or self.left(workers) is not None
        return fresh or ([] if others else list(idle[:1]))

    def left(self, workers: Sequence[Hand]) -> float | None:
        """Seconds for which workers that start are still waited for.

        Returns:
            Seconds; None where none starts, or the minute is over.
        """
        left = self._end - monotonic()
        return left if left > 0 and not all(worker.ready for worker in workers) else None


def chosen(able: Sequence[HandT], place: int) -> HandT:
    """The worker to give a batch to.

    Returns:
        One at which it has not failed, where there is one.
    """
    return min(able, key=lambda worker: place in worker.failed)


def settle(workers: Sequence[Hand], worker: Hand, ended: Attempt) -> None:
    """Note how an attempt ended and let the others go on."""
    for other in workers:
        other.rests = False
    worker.place, worker.rests = None, ended.results is None
    if ended.results is None:
        worker.failed.add(ended.place)


class InlineEngine:
    """Works in this process, one batch after another."""

    def __init__(self, work: Work) -> None:
        """Nothing is loaded before the first batch."""
        self._work = work
        self._function: Function | None = None
        self._waiting: list[tuple[int, bytes]] = []

    def free(self) -> int:
        """One, while none is waiting."""
        return 1 - len(self._waiting)

    def submit(self, place: int, items: bytes) -> None:
        """Keep a batch for `collect`."""
        self._waiting.append((place, items))

    def collect(self) -> list[Attempt]:
        """Work on the batch that waits.

        Returns:
            How it ended.
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
        function: What `Work.start` gave.
        place: The number of the batch.
        items: The batch.

    Returns:
        Its results, or what its error says.
    """
    try:
        return Attempt(place, run_on(function, items))
    except Exception as error:  # noqa: BLE001 - the work is the user's and may raise anything
        return Attempt(place, None, reason_of(error))


def reason_of(error: BaseException) -> str:
    """Say what was raised, in a line of bounded length.

    Returns:
        Its type and its message.
    """
    return f"{type(error).__name__}: {error}"[:1000]
