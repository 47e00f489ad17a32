"""The only thread that uses a GPU; it batches pending searches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit.index.exact import Found
from ragkit.index.gpu_cards import Card, Kind

_TOGETHER = 4096  # queries per batch


@dataclass
class _Search:
    queries: NDArray[np.float32]
    k: int
    done: Future[Found] = field(default_factory=Future)


@dataclass
class _Call:
    work: Callable[[Card], Any]
    done: Future[Any] = field(default_factory=Future)


class Worker:
    """A thread that owns a GPU and the index on it."""

    def __init__(self, make: Callable[[], Card]) -> None:
        """Start the thread, which initialises the GPU."""
        self._jobs: queue.SimpleQueue[_Search | _Call | None] = queue.SimpleQueue()
        self._index: object = None
        self._card: Card
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True, name="ragkit-gpu")
        self._started: Future[None] = Future()
        self._thread.start()
        self._started.result()
        self.max_k, self.graphs = self._card.max_k, self._card.graphs

    def call(self, work: Callable[[Card], Any]) -> Any:
        """Run a function on the thread and return its result."""
        job = _Call(work)
        self._jobs.put(job)
        return job.done.result()

    def load(self, vectors: NDArray[np.floating], *, euclidean: bool, kind: Kind) -> None:
        """Copy vectors to the GPU; they replace earlier ones."""

        def work(card: Card) -> None:
            self._index = None  # free its memory first
            self._index = card.put(vectors, euclidean=euclidean, kind=kind)

        self.call(work)

    def search(self, queries: NDArray[np.float32], k: int) -> Future[Found]:
        """Queue a search for the k nearest rows."""
        job = _Search(queries, k)
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Stop the thread and free the GPU."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self, make: Callable[[], Card]) -> None:
        try:
            self._card = make()
        except BaseException as error:  # noqa: BLE001 - passed to the constructor
            self._started.set_exception(error)
            return
        self._started.set_result(None)
        job = self._jobs.get()
        while job is not None:
            following: list[_Search | _Call | None] = []
            if isinstance(job, _Search):
                self._search(self._pending(job, following))
            else:
                self._call(job)
            job = following[0] if following else self._jobs.get()
        self._index = None
        del self._card

    def _call(self, job: _Call) -> None:
        try:
            job.done.set_result(job.work(self._card))
        except BaseException as error:  # noqa: BLE001 - passed to the caller
            job.done.set_exception(error)

    def _pending(self, first: _Search, following: list[_Search | _Call | None]) -> list[_Search]:
        """Return all pending searches up to a limit; another job that follows them is put into ``following``."""
        jobs, total = [first], len(first.queries)
        while total < _TOGETHER:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if not isinstance(job, _Search):
                following.append(job)
                break
            jobs.append(job)
            total += len(job.queries)
        return jobs

    def _search(self, jobs: list[_Search]) -> None:
        """Run searches as one batch."""
        try:
            queries = np.concatenate([job.queries for job in jobs]) if len(jobs) > 1 else jobs[0].queries
            scores, rows = self._card.search(self._index, queries, max(job.k for job in jobs))
        except BaseException as error:  # noqa: BLE001 - passed to the callers
            for job in jobs:
                job.done.set_exception(error)
            return
        start = 0
        for job in jobs:
            end = start + len(job.queries)
            job.done.set_result((scores[start:end, : job.k], rows[start:end, : job.k]))
            start = end
