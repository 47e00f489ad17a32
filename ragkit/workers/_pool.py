"""`WorkerPool`: runs batches on workers; results are in order, runs can resume, and missing results are reported."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from ragkit._extras import require
from ragkit._progress import progress
from ragkit.errors import InvalidInputError, MissingResultsError
from ragkit.workers._batches import Batch, Done, Missing, Work, decode_results, encode_items, key_of
from ragkit.workers._engines import Attempt, Engine, InlineEngine
from ragkit.workers._shards import Shards

EngineName = Literal["inline", "process", "ray"]
_ENGINES = ("inline", "process", "ray")
_AHEAD = 4  # batches read ahead per worker, so that a slow worker does not block the others


class WorkerPool:
    """Runs batches on workers. Every engine gives the same bytes.

    Attributes:
        engine: ``"inline"`` for this process, ``"process"`` for processes of this machine, ``"ray"`` for a Ray cluster.
        workers: Number of workers; always 1 inline.
        threads: Threads per worker, for OpenMP and therefore FAISS and torch; not changed inline.
        attempts: Number of attempts before a batch is abandoned. The death of a worker counts as an attempt.
        address: Address of a running Ray cluster. If None, use the connected cluster, or start one on this machine.

    Examples:
        >>> from ragkit.workers import Batch, EmbedTexts
        >>> done = WorkerPool("inline").map_batches(EmbedTexts("hash:8"), [Batch(["a", "b"], ["dim", "the lamp"])])
        >>> done[0].ids, done[0].results.shape
        (['a', 'b'], (2, 8))
    """

    def __init__(
        self,
        engine: EngineName = "process",
        *,
        workers: int = 2,
        threads: int = 1,
        attempts: int = 3,
        address: str | None = None,
    ) -> None:
        """Set the options; workers start when there is work.

        Raises:
            InvalidInputError: If an argument is invalid.
            MissingExtraError: If the engine is Ray and Ray is not installed.
        """
        if engine not in _ENGINES:
            raise InvalidInputError(f"`engine` must be one of {_ENGINES}, got {engine!r}")
        for name, value in {"workers": workers, "threads": threads, "attempts": attempts}.items():
            if type(value) is not int or value < 1:
                raise InvalidInputError(f"`{name}` must be a whole number of at least 1, got {value!r}")
        if address is not None and engine != "ray":
            raise InvalidInputError(f"`address` is that of a Ray cluster; engine {engine!r} has none")
        if engine == "ray":
            require("ray")
        self.engine, self.workers, self.threads, self.attempts = engine, workers, threads, attempts
        self.address = address

    def map_batches(self, work: Work, batches: Iterable[Batch], *, folder: str | Path | None = None) -> list[Done]:
        """Run all batches.

        Args:
            work: The work, which is sent to the workers.
            batches: Batches, read as needed.
            folder: Folder to store each completed batch, so that the same call resumes after an interruption, on any
                engine. Its file ``quarantine.jsonl`` lists abandoned batches. None to store nothing.

        Returns:
            The results, in the order of the batches.

        Raises:
            MissingResultsError: If a batch was abandoned; the error contains the results of the others.
            WorkerError: If no worker can start.
            OSError: If a completed batch cannot be written, for example on a full disk; earlier ones remain stored.
        """
        total = len(batches) if isinstance(batches, Sequence) else None
        ended: list[Done | Missing] = []
        with progress("working", total) as advance:
            for each in self.stream(work, batches, folder=folder):
                ended.append(each)
                advance(1)
        done = [each for each in ended if isinstance(each, Done)]
        missing = [each for each in ended if isinstance(each, Missing)]
        if missing:
            raise MissingResultsError(done, missing)
        return done

    def stream(
        self, work: Work, batches: Iterable[Batch], *, folder: str | Path | None = None
    ) -> Generator[Done | Missing, None, None]:
        """Run batches, and yield each once it and all before it have ended; abandoned batches are included.

        Only a few batches are kept in memory. Leaving the loop early stops the workers.

        Args:
            work: The work.
            batches: Batches, read as needed.
            folder: As for `map_batches`.

        Yields:
            A `Done` or a `Missing` for each batch, in the order of the batches.
        """
        shards = None if folder is None else Shards(Path(folder))
        if shards:
            shards.write_quarantine([])
        with ExitStack() as stack:
            yield from _Run(self, work, shards, stack).outcomes(iter(batches))

    def start(self, work: Work) -> Engine:
        """Create the engine for some work; it starts in its ``with`` block."""
        if self.engine == "inline":
            return InlineEngine(work)
        if self.engine == "process":
            from ragkit.workers._processes import ProcessEngine

            return ProcessEngine(work, workers=self.workers, threads=self.threads)
        from ragkit.workers._on_ray import RayEngine

        return RayEngine(work, workers=self.workers, threads=self.threads, address=self.address)


@dataclass(slots=True)
class _Open:
    """A batch that was read and not yet yielded."""

    batch: Batch
    items: bytes
    key: str
    outcome: Done | Missing | None
    attempts: int = 0
    running: bool = False


class _Run:
    """One call of `WorkerPool.stream`: the open batches by number."""

    def __init__(self, pool: WorkerPool, work: Work, shards: Shards | None, stack: ExitStack) -> None:
        self._pool, self._work, self._shards, self._stack = pool, work, shards, stack
        self._fingerprint = work.fingerprint
        self._window = 1 if pool.engine == "inline" else _AHEAD * pool.workers
        self._engine: Engine | None = None
        self._open: dict[int, _Open] = {}
        self._missing: list[Missing] = []

    def outcomes(self, batches: Iterator[Batch]) -> Iterator[Done | Missing]:
        """Yield the outcomes in the order of the batches, which are read a few ahead."""
        numbered = enumerate(batches)
        while True:
            for place, batch in islice(numbered, self._window - len(self._open)):
                self._open[place] = self._opened(batch)
            if not self._open:
                return
            first = min(self._open)
            while (outcome := self._open[first].outcome) is None:
                self._advance()
            del self._open[first]
            yield outcome

    def _opened(self, batch: Batch) -> _Open:
        items = encode_items(batch)
        key = key_of(self._fingerprint, items)
        stored = self._shards.read(key) if self._shards else None
        return _Open(batch, items, key, None if stored is None else Done(batch.ids, decode_results(stored)))

    def _advance(self) -> None:
        """Send waiting batches to free workers, then wait until an attempt ends or a worker becomes ready."""
        if self._engine is None:  # started only if there is work left
            self._engine = self._stack.enter_context(self._pool.start(self._work))
        waiting = [place for place, each in self._open.items() if each.outcome is None and not each.running]
        for place in waiting[: self._engine.free()]:
            self._engine.submit(place, self._open[place].items)
            self._open[place].running = True
        for attempt in self._engine.collect():
            self._settle(self._open[attempt.place], attempt)

    def _settle(self, each: _Open, attempt: Attempt) -> None:
        each.running = False
        each.attempts += 1
        results, reason = None, attempt.reason
        try:
            results = None if attempt.results is None else decode_results(attempt.results)
        except InvalidInputError as error:
            reason = str(error)
        if results is not None:
            if self._shards:
                self._shards.write(each.key, attempt.results or b"")
            each.outcome = Done(each.batch.ids, results)
        elif each.attempts == self._pool.attempts:
            each.outcome = Missing(each.batch.ids, reason, each.attempts)
            self._missing.append(each.outcome)
            if self._shards:
                self._shards.write_quarantine(self._missing)
