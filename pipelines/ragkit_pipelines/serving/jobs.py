"""The request queue of a server, which forms batches and drops cancelled requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Protocol

from ragkit.errors import InvalidInputError, RagkitError
from ragkit.models._sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion
from ragkit_pipelines.serving.bodies import Call

if TYPE_CHECKING:
    from ragkit.models._streaming import TokenLogprob

    Piece = tuple[str, Sequence[TokenLogprob]]

Result = Completion | Exception


class QueueFullError(RagkitError):
    """The request queue is full."""


class Job:
    """A call that is queued on the event loop, and processed in another thread.

    Attributes:
        call: The prompt and its settings.
        sampling: The validated settings.
        key: Jobs with equal keys can share a batch.
        row: The tokens of the prompt, for a local model.
        streams: Whether the response is streamed.
        arrived: Arrival time on the monotonic clock.
        logprobs: Tokens of the response with log-probabilities, if they were requested.
    """

    def __init__(
        self, call: Call, sampling: Sampling, key: Hashable, *, streams: bool, row: list[int] | None = None
    ) -> None:
        """Create a job for a call that the model supports."""
        self.call, self.sampling, self.key, self.row, self.streams = call, sampling, key, row, streams
        self.arrived = 0.0
        self.logprobs: list[TokenLogprob] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._items: asyncio.Queue[Piece | Result] = asyncio.Queue()
        self._cancelled = Event()

    def begin(self) -> None:
        """Record the arrival, and deliver the pieces of the response to this event loop."""
        self.arrived, self._loop = time.monotonic(), asyncio.get_running_loop()

    def hear(self, piece: str, tokens: Sequence[TokenLogprob]) -> None:
        """Receive a piece of the response; called by the thread that generates it."""
        self.logprobs.extend(tokens)
        if self.streams and self._loop is not None:
            self._loop.call_soon_threadsafe(self._items.put_nowait, (piece, tokens))

    def settle(self, result: Result) -> None:
        """Receive the final result: the completion or an error."""
        self._items.put_nowait(result)

    async def next(self) -> Piece | Result:
        """Return the next piece of the response, or the final result."""
        return await self._items.get()

    async def result(self) -> Completion:
        """Return the completion, or raise the error."""
        while isinstance(result := await self.next(), tuple):
            pass
        if isinstance(result, Exception):
            raise result
        return result

    def cancel(self) -> None:
        """Mark the job as cancelled."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether the job was cancelled; called by the thread that generates the response."""
        return self._cancelled.is_set()


class Backend(Protocol):
    """The models of a server.

    Attributes:
        models: The models by name.
        batch_size: Maximum number of jobs per batch.
        workers: Number of batches that run concurrently.
    """

    models: dict[str, LanguageModel]
    batch_size: int
    workers: int

    def job(self, call: Call, *, streams: bool) -> Job:
        """Create the job for a call; raises `RagkitError` if the model does not support it."""
        ...

    def run(self, jobs: list[Job]) -> Sequence[Result]:
        """Process jobs with equal keys; called in a worker thread."""
        ...


class Lane:
    """The request queue of a backend.

    A job waits a moment for others, and for a free worker. Waiting jobs with equal settings form a batch. The oldest
    job comes first, so every job is eventually processed.
    """

    def __init__(self, backend: Backend, *, gather: float, max_waiting: int) -> None:
        """Create the queue; see `Server` for the arguments."""
        self.backend, self.max_waiting = backend, max_waiting
        self.gather = gather if backend.batch_size > 1 else 0.0
        self.waiting: list[Job] = []
        self._arrived = asyncio.Event()
        self._free = asyncio.Semaphore(backend.workers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: list[Job] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        """Add all jobs to the queue, or none.

        Raises:
            QueueFullError: If the queue is full.
            InvalidInputError: If there are more jobs than the queue can ever hold.
        """
        if len(jobs) > self.max_waiting:
            raise InvalidInputError(
                f"a request can contain at most {self.max_waiting} prompts, got {len(jobs)}; send several requests"
            )
        if len(self.waiting) + len(jobs) > self.max_waiting:
            self.waiting = [job for job in self.waiting if not job.is_cancelled()]
        if len(self.waiting) + len(jobs) > self.max_waiting:
            raise QueueFullError(f"the request queue is full ({len(self.waiting)} are waiting); retry later")
        for job in jobs:
            job.begin()
        self.waiting.extend(jobs)
        self._arrived.set()

    async def run(self) -> None:
        """Process jobs until this task is cancelled, then cancel all jobs."""
        pool = ThreadPoolExecutor(self.backend.workers, thread_name_prefix="ragkit-serve")
        try:
            while True:
                await self._arrived.wait()
                if len(self.waiting) < self.backend.batch_size:
                    await asyncio.sleep(self.waiting[0].arrived + self.gather - time.monotonic())
                await self._free.acquire()
                if not (batch := self._next_batch()):
                    self._free.release()
                    continue
                task = asyncio.create_task(self._process(batch, pool))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for job in (*self.waiting, *self._running):
                job.cancel()
            for job in self.waiting:
                job.settle(QueueFullError("the server is shutting down"))
            pool.shutdown(wait=True, cancel_futures=True)
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next_batch(self) -> list[Job]:
        active = [job for job in self.waiting if not job.is_cancelled()]
        batch = [job for job in active if job.key == active[0].key][: self.backend.batch_size]
        taken = set(map(id, batch))
        self.waiting = [job for job in active if id(job) not in taken]
        if not self.waiting:
            self._arrived.clear()
        return batch

    async def _process(self, batch: list[Job], pool: ThreadPoolExecutor) -> None:
        self._running.extend(batch)
        results: Sequence[Result]
        try:
            results = await asyncio.get_running_loop().run_in_executor(pool, self.backend.run, batch)
        except Exception as error:  # noqa: BLE001 - reported to the clients of the batch; the server keeps running
            results = [error] * len(batch)
        finally:
            self._free.release()
            for job in batch:
                self._running.remove(job)
        for job, result in zip(batch, results, strict=True):
            job.settle(result)
