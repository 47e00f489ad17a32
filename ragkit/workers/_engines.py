"""The engines of a pool, which run batches. An engine makes one attempt; the pool decides whether to retry."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import ClassVar, Generic, Self, TypeVar

from typing_extensions import override

from ragkit.errors import WorkerError
from ragkit.workers._batches import Function, Work, run_on

_STARTS = 3  # workers in a row that die before any is ready, until an error is raised
_SECONDS_FOR_OTHERS = 60
_CHANGING_ENVIRONMENT = Lock()


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


class Engine(ABC):
    """Runs batches during a ``with`` block."""

    @abstractmethod
    def free(self) -> int:
        """Return the number of batches that `submit` accepts now."""

    @abstractmethod
    def submit(self, place: int, items: bytes) -> None:
        """Send a batch to a free worker."""

    @abstractmethod
    def collect(self) -> list[Attempt]:
        """Wait until attempts end or a worker becomes ready, and return the attempts that ended.

        Raises:
            WorkerError: If workers cannot start.
        """

    def __enter__(self) -> Self:
        return self

    @abstractmethod
    def __exit__(self, *_: object) -> None: ...


class InlineEngine(Engine):
    """Runs batches in this process, one at a time; the work starts with the first batch."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._function: Function | None = None
        self._waiting: list[tuple[int, bytes]] = []

    @override
    def free(self) -> int:
        return 1 - len(self._waiting)

    @override
    def submit(self, place: int, items: bytes) -> None:
        self._waiting.append((place, items))

    @override
    def collect(self) -> list[Attempt]:
        if self._function is None:
            self._function = self._work.start()
        return [attempt(self._function, *self._waiting.pop())]

    @override
    def __exit__(self, *_: object) -> None:
        self._function = None


class Worker(ABC):
    """The state of a worker outside this process, which is starting when the object is created.

    Attributes:
        ready: Whether it has started.
        place: The number of its current batch; None if it is idle.
        failed: Numbers of the batches that failed on this worker.
        paused: Whether its last attempt failed and no other attempt has ended since.
    """

    def __init__(self) -> None:
        self.ready = False
        self.place: int | None = None
        self.failed: set[int] = set()
        self.paused = False

    @abstractmethod
    def end(self) -> None:
        """Stop the worker, whatever it is doing."""


WorkerT = TypeVar("WorkerT", bound=Worker)


class WorkerEngine(Engine, Generic[WorkerT]):
    """Runs batches on workers with at most one batch each; workers that die are replaced.

    A worker whose batch failed is paused until an attempt of another worker ends, as long as others are working or
    starting. Its machine may be the cause, for example because of a full disk, and it would fail batch after batch
    faster than the others finish them. A failed batch is sent to another worker if there is one. The wait for starting
    workers is limited to one minute in total, as a cluster may never have room for some.
    """

    _start_hint: ClassVar[str] = ""

    def __init__(self, work: Work, *, workers: int, threads: int) -> None:
        self._work, self._count, self._threads = work, workers, threads
        self._workers: list[WorkerT] = []
        self._failed_starts = 0
        self._end_of_patience = monotonic() + _SECONDS_FOR_OTHERS

    @abstractmethod
    def _start_worker(self) -> WorkerT: ...

    @override
    def free(self) -> int:
        return len(self._able())

    def _able(self) -> list[WorkerT]:
        """Return the idle workers that are not paused; if all are paused and nobody else works or starts, one."""
        idle = [worker for worker in self._workers if worker.ready and worker.place is None]
        able = [worker for worker in idle if not worker.paused]
        return able or ([] if self._working() or self._patience() is not None else idle[:1])

    def _working(self) -> bool:
        return any(worker.place is not None for worker in self._workers)

    def _patience(self) -> float | None:
        """Return for how many seconds to wait for starting workers; None if there are none, or after the minute."""
        left = self._end_of_patience - monotonic()
        return left if left > 0 and not all(worker.ready for worker in self._workers) else None

    def _take_worker(self, place: int) -> WorkerT:
        """Assign a batch to a free worker, if possible to one on which it has not failed."""
        worker = min(self._able(), key=lambda each: place in each.failed)
        worker.place = place
        return worker

    def _started(self, worker: WorkerT) -> None:
        worker.ready, self._failed_starts = True, 0

    def _settle(self, worker: WorkerT, ended: Attempt) -> Attempt:
        """Record the outcome of an attempt, and resume paused workers."""
        for other in self._workers:
            other.paused = False
        worker.place, worker.paused = None, ended.results is None
        if ended.results is None:
            worker.failed.add(ended.place)
        return ended

    def _replace(self, worker: WorkerT, how: str) -> list[Attempt]:
        """Replace a worker that died; its current batch counts as an attempt."""
        self._workers.remove(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise WorkerError(f"{_STARTS} workers died before they were ready ({how}){self._start_hint}")
        self._workers.append(self._start_worker())
        if worker.place is None:
            return []
        return [self._settle(worker, Attempt(worker.place, None, f"the worker died ({how})"))]

    @override
    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._workers.append(self._start_worker())
        except BaseException:
            self.__exit__()
            raise
        return self

    @override
    def __exit__(self, *_: object) -> None:
        while self._workers:
            self._workers.pop().end()


def attempt(function: Function, place: int, items: bytes) -> Attempt:
    """Try a batch once, in a worker; an error becomes the reason of the attempt."""
    try:
        return Attempt(place, run_on(function, items))
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        return Attempt(place, None, reason_of(error))


def reason_of(error: BaseException) -> str:
    """Describe an exception in a line of bounded length."""
    try:
        return f"{type(error).__name__}: {error}"[:1000]
    except Exception:  # noqa: BLE001 - the exception of a user may be impossible to print
        return type(error).__name__


def threads_for_openmp(threads: int) -> dict[str, str]:
    """Return the variables that OpenMP reads when it is loaded, before the process could set them itself.

    Waiting threads sleep, because spinning threads would slow down the other workers.
    """
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started in this block, and restore them afterwards."""
    with _CHANGING_ENVIRONMENT:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
