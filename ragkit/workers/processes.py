"""Workers as processes of this machine; processes that die are replaced."""

from __future__ import annotations

import signal
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Self

from ragkit.errors import WorkerError
from ragkit.workers.batches import Work
from ragkit.workers.engines import Attempt, Hand, Patience, attempt, chosen, reason_of, settle
from ragkit.workers.environment import environment, threads_for_openmp

_STARTS = 3  # workers in a row that die before any is ready, until an error is raised
_SECONDS_TO_END = 5


class ProcessEngine:
    """Spawned processes, each with its own pipe; batches are sent only to workers that are ready.

    A worker ends when its pipe is closed. If this process is killed, each worker ends after its current batch.
    """

    def __init__(self, work: Work, *, workers: int, threads: int) -> None:
        """Set the options; workers start in the ``with`` block."""
        self._work, self._count, self._threads = work, workers, threads
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._patience = Patience()

    def free(self) -> int:
        """Return the number of workers that are ready for a batch."""
        return len(self._able())

    def _able(self) -> list[_Worker]:
        return self._patience.willing(
            self._workers, [each for each in self._workers if each.ready and each.place is None]
        )

    def submit(self, place: int, items: bytes) -> None:
        """Send a batch to a free worker."""
        worker = chosen(self._able(), place)
        worker.place = place
        with suppress(OSError):  # the worker is dead, which `collect` detects and reports
            worker.pipe.send((place, items))

    def collect(self) -> list[Attempt]:
        """Wait until attempts end or workers become ready; replace workers that died.

        Returns:
            The attempts that ended.

        Raises:
            WorkerError: If workers cannot start.
        """
        by_pipe = {worker.pipe: worker for worker in self._workers}
        ended: list[Attempt] = []
        nobody_works = all(worker.place is None for worker in self._workers)
        for pipe in wait(list(by_pipe), self._patience.left(self._workers) if nobody_works else None):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                told = worker.pipe.recv()
            except (EOFError, OSError):
                ended += self._bury(worker)
                continue
            if isinstance(told, Attempt):
                ended.append(told)
                settle(self._workers, worker, told)
            elif told is None:
                worker.ready, self._failed_starts = True, 0
            else:
                raise WorkerError(f"a worker cannot start: {told}")
        return ended

    def _bury(self, worker: _Worker) -> list[Attempt]:
        """Replace a worker that died; its current batch counts as an attempt."""
        worker.end()
        self._workers.remove(worker)
        how = _way_of_dying(worker.process.exitcode)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise WorkerError(
                    f"{_STARTS} workers died before they were ready ({how}); look at what they printed. A script that "
                    "starts workers must do so under `if __name__ == '__main__':`"
                )
        self._workers.append(_Worker(self._work, self._threads))
        if worker.place is None:
            return []
        ended = Attempt(worker.place, None, f"the worker died ({how})")
        settle(self._workers, worker, ended)
        return [ended]

    def __enter__(self) -> Self:
        try:
            ForkingPickler.dumps(self._work)
        except Exception as error:  # any error that pickling the work may raise
            raise WorkerError(
                f"the work cannot be sent to a process ({reason_of(error)}); it may hold names, settings and functions "
                "that stand at the head of a module, but no open file, lambda or loaded model"
            ) from error
        try:
            for _ in range(self._count):
                self._workers.append(_Worker(self._work, self._threads))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.pipe.close()  # idle workers end themselves
        for worker in self._workers:
            worker.end(seconds=_SECONDS_TO_END if worker.ready and worker.place is None else 0)
        self._workers = []


class _Worker(Hand):
    """One process as its parent sees it."""

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__()
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(work, theirs), daemon=True)
        with environment(threads_for_openmp(threads)):
            self.process.start()
        theirs.close()

    def end(self, seconds: float = 0) -> None:
        self.pipe.close()
        self.process.join(seconds)
        self.process.kill()
        self.process.join()


def _serve(work: Work, pipe: Connection) -> None:
    """Run a worker: prepare, then run batches until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops its workers
    try:
        function = work.start()
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        pipe.send(reason_of(error))
        return
    try:
        pipe.send(None)
        while True:
            place, items = pipe.recv()
            pipe.send(attempt(function, place, items))
    except (EOFError, OSError):
        return


def _way_of_dying(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
