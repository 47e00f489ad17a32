"""Questions on their way to a model: put together into batches, bounded, and given up when nobody waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Protocol

from ragkit.errors import InvalidInputError, RagkitError
from ragkit.models.sampling import Sampling
from ragkit.protocols import LanguageModel
from ragkit.records import Completion
from ragkit_pipelines.serving.bodies import Question

Result = Completion | Exception


class FullError(RagkitError):
    """As many questions are waiting as may."""


class Logprob(Protocol):
    """A token that was written, with its log-probability; see `ragkit.models.streaming.TokenLogprob`."""

    @property
    def text(self) -> str:
        """Its text."""
        ...

    @property
    def logprob(self) -> float:
        """In nats."""
        ...

    @property
    def top(self) -> tuple[tuple[str, float], ...]:
        """The likeliest tokens in its place."""
        ...


class Job:
    """One question and what came of it: queued on the event loop, worked on elsewhere.

    Attributes:
        question: What is asked.
        sampling: The settings, checked.
        key: Jobs of equal keys can go to the model together.
        row: The prompt's tokens, where the model is a local one.
        streams: Whether somebody listens while the answer is written.
        arrived: When it came, on the monotonic clock.
        logprobs: Tokens of the answer with log-probabilities, where they were asked for.
    """

    def __init__(
        self, question: Question, sampling: Sampling, key: Hashable, *, streams: bool, row: list[int] | None = None
    ) -> None:
        """Take a question that the model can be asked."""
        self.question, self.sampling, self.key, self.row, self.streams = question, sampling, key, row, streams
        self.arrived = 0.0
        self.logprobs: list[Logprob] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: asyncio.Queue[tuple[str, Sequence[Logprob]] | Result] = asyncio.Queue()
        self._gone = Event()

    def begin(self) -> None:
        """Take a place in the queue; from now on this event loop is told."""
        self.arrived, self._loop = time.monotonic(), asyncio.get_running_loop()

    def hear(self, piece: str, tokens: Sequence[Logprob]) -> None:
        """Take a piece of the answer; called on the thread that computes."""
        self.logprobs.extend(tokens)
        if self.streams and self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.put_nowait, (piece, tokens))

    def settle(self, result: Result) -> None:
        """Take the end: the whole answer or an error."""
        self._told.put_nowait(result)

    async def next(self) -> tuple[str, Sequence[Logprob]] | Result:
        """The next piece of the answer with its tokens, or the end."""
        return await self._told.get()

    async def end(self) -> Completion:
        """The whole answer; what went wrong instead is raised."""
        while isinstance(result := await self.next(), tuple):
            pass
        if isinstance(result, Exception):
            raise result
        return result

    def give_up(self) -> None:
        """Say that nobody waits any more."""
        self._gone.set()

    def is_gone(self) -> bool:
        """Whether nobody waits any more; asked on the thread that computes."""
        return self._gone.is_set()


class Backend(Protocol):
    """Models that share a machine or an account, and how they are best asked.

    Attributes:
        models: The models by name.
        batch_size: Jobs that go together at the most.
        workers: Batches under way at once.
    """

    models: dict[str, LanguageModel]
    batch_size: int
    workers: int

    def job(self, question: Question, *, streams: bool) -> Job:
        """Check a question and make a job of it; raises `RagkitError` where the model cannot do what it asks."""
        ...

    def run(self, jobs: list[Job]) -> Sequence[Result]:
        """Answer jobs of one key; called on a thread."""
        ...


class Lane:
    """The queue before a backend.

    A question waits a moment for others, and for a worker. What waits then with equal settings goes together, the
    oldest first, so that nothing waits for ever.
    """

    def __init__(self, backend: Backend, *, gather: float, most_waiting: int) -> None:
        """Make the queue.

        Args:
            backend: Who answers.
            gather: Seconds that a question waits for others; none where the backend answers one by one.
            most_waiting: Questions that may wait.
        """
        self.backend, self.most_waiting = backend, most_waiting
        self.gather = gather if backend.batch_size > 1 else 0.0
        self.waiting: list[Job] = []
        self._arrived = asyncio.Event()
        self._free = asyncio.Semaphore(backend.workers)
        self._under_way: set[asyncio.Task[None]] = set()
        self._running: list[Job] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the queue, all or none.

        Raises:
            FullError: If it is full.
            InvalidInputError: If they are more than ever may wait.
        """
        if len(jobs) > self.most_waiting:
            raise InvalidInputError(f"a request may hold {self.most_waiting} prompts, got {len(jobs)}; send several")
        if len(self.waiting) + len(jobs) > self.most_waiting:
            raise FullError(f"{len(self.waiting)} requests are waiting, which is all that may; come back later")
        for job in jobs:
            job.begin()
        self.waiting.extend(jobs)
        self._arrived.set()

    async def run(self) -> None:
        """Serve until cancelled; then give up what is under way."""
        pool = ThreadPoolExecutor(self.backend.workers, thread_name_prefix="ragkit-serve")
        try:
            while True:
                await self._arrived.wait()
                if len(self.waiting) < self.backend.batch_size:
                    await asyncio.sleep(self.waiting[0].arrived + self.gather - time.monotonic())
                await self._free.acquire()
                if not (batch := self._take()):
                    self._free.release()
                    continue
                task = asyncio.create_task(self._answer(batch, pool))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
        finally:
            for job in (*self.waiting, *self._running):
                job.give_up()
            for job in self.waiting:
                job.settle(FullError("the server is shutting down"))
            pool.shutdown(wait=True, cancel_futures=True)
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _take(self) -> list[Job]:
        here = [job for job in self.waiting if not job.is_gone()]
        batch = [job for job in here if job.key == here[0].key][: self.backend.batch_size]
        taken = set(map(id, batch))
        self.waiting = [job for job in here if id(job) not in taken]
        if not self.waiting:
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[Job], pool: ThreadPoolExecutor) -> None:
        self._running.extend(batch)
        results: Sequence[Result]
        try:
            results = await asyncio.get_running_loop().run_in_executor(pool, self.backend.run, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told, and the server goes on
            results = [error] * len(batch)
        finally:
            self._free.release()
            for job in batch:
                self._running.remove(job)
        for job, result in zip(batch, results, strict=True):
            job.settle(result)
