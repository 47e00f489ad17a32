"""Workers as actors on a Ray cluster; actors that die are replaced.

Ray's own retries are disabled: they are unbounded, and Ray's data sets lose the order and, if errors are allowed, rows.
The pool manages order and attempts, in the same way on every engine.
"""

from __future__ import annotations

import os
from typing import Any, Self

from ragkit.errors import WorkerError
from ragkit.extras import require
from ragkit.workers.batches import Function, Work
from ragkit.workers.engines import Attempt, Hand, Patience, attempt, chosen, reason_of, settle
from ragkit.workers.environment import environment, threads_for_openmp

_STARTS = 3  # actors in a row that die before any is ready, until an error is raised
_SECONDS_TO_START = 600


class RayEngine:
    """Actors with at most one batch each; batches are sent only to actors that are ready."""

    def __init__(self, work: Work, *, workers: int, threads: int, address: str | None) -> None:
        """Set the options; actors start in the ``with`` block.

        Args:
            work: The work.
            workers: Number of actors; those for which the cluster has no room wait.
            threads: Threads of each actor, which reserve as many CPUs of the cluster.
            address: Address of a running cluster. If None, use the connected cluster, or start one on this machine.
        """
        require("ray")
        self._work, self._count, self._threads, self._address = work, workers, threads, address
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._connected = False
        self._patience = Patience()

    def free(self) -> int:
        """Return the number of actors that are ready for a batch."""
        return len(self._able())

    def _able(self) -> list[_Worker]:
        return self._patience.willing(self._workers, [each for each in self._workers if each.pending is None])

    def submit(self, place: int, items: bytes) -> None:
        """Send a batch to a free actor."""
        worker = chosen(self._able(), place)
        worker.place, worker.pending = place, worker.actor.run.remote(place, items)

    def collect(self) -> list[Attempt]:
        """Wait until an attempt ends or an actor becomes ready; replace actors that died.

        Returns:
            The attempts that ended.

        Raises:
            WorkerError: If actors cannot start.
        """
        import ray
        from ray.exceptions import RayError

        by_pending = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        none_ready = not any(worker.ready for worker in self._workers)
        nobody_works = all(worker.place is None for worker in self._workers)
        patience = self._patience.left(self._workers) if nobody_works else None
        ended, _ = ray.wait(list(by_pending), num_returns=1, timeout=_SECONDS_TO_START if none_ready else patience)
        if not ended and not none_ready:
            return []
        if not ended:
            raise WorkerError(
                f"no worker was ready after {_SECONDS_TO_START} seconds; give the cluster room for one of "
                f"{self._threads} CPUs, or ask for fewer `threads`"
            )
        worker = by_pending[ended[0]]
        try:
            told = ray.get(ended[0])
        except RayError as error:
            return self._bury(worker, reason_of(error))
        if isinstance(told, str):
            raise WorkerError(f"a worker cannot start: {told}")
        worker.ready, worker.pending, self._failed_starts = True, None, 0
        if told is None:
            return []
        settle(self._workers, worker, told)
        return [told]

    def _bury(self, worker: _Worker, how: str) -> list[Attempt]:
        """Replace an actor that died; its current batch counts as an attempt."""
        worker.end()
        self._workers.remove(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts == _STARTS:
                raise WorkerError(f"{_STARTS} workers died before they were ready: {how}")
        self._workers.append(_Worker(self._work, self._threads))
        if worker.place is None:
            return []
        ended = Attempt(worker.place, None, f"the worker died ({how})")
        settle(self._workers, worker, ended)
        return [ended]

    def __enter__(self) -> Self:
        import ray

        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        if not ray.is_initialized():
            here = {} if self._address else {"num_cpus": self._count * self._threads, "include_dashboard": False}
            with environment({**quiet, **threads_for_openmp(self._threads)}):
                ray.init(self._address or "local", logging_level="ERROR", log_to_driver=False, **here)
            self._connected = True
        try:
            for _ in range(self._count):
                self._workers.append(_Worker(self._work, self._threads))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for worker in self._workers:
            worker.end()
        self._workers = []
        if self._connected:
            ray.shutdown()
            self._connected = False


class _Worker(Hand):
    """One actor as the driver sees it; ``pending`` is its current call, first that of `_Actor.problem`."""

    def __init__(self, work: Work, threads: int) -> None:
        import ray

        kind: Any = ray.remote(num_cpus=threads, max_restarts=0, max_task_retries=0)(_Actor)
        super().__init__()
        self.actor: Any = kind.remote(work, threads)
        self.pending: Any = self.actor.problem.remote()

    def end(self) -> None:
        import ray

        ray.kill(self.actor, no_restart=True)


class _Actor:
    """The actor on the cluster."""

    def __init__(self, work: Work, threads: int) -> None:
        os.environ.update(threads_for_openmp(threads))
        self._function: Function
        self._problem: str | None = None
        try:
            self._function = work.start()
        except Exception as error:  # noqa: BLE001 - user code may raise anything
            self._problem = reason_of(error)

    def problem(self) -> str | None:
        return self._problem

    def run(self, place: int, items: bytes) -> Attempt:
        return attempt(self._function, place, items)
