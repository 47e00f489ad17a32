"""The engines of a pool: where a batch is worked on. They try it once; the pool decides about another attempt."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from ragkit.workers.batches import Function, Work, run_on


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
