"""Workers as actors on a Ray cluster; actors that die are replaced.

Ray's own retries are disabled: they are unbounded, and Ray's data sets lose the order and, if errors are allowed, rows.
The pool manages order and attempts, in the same way on every engine.
"""

from __future__ import annotations

import os
from typing import Any, Self

from typing_extensions import override

from ragkit._extras import require
from ragkit.errors import WorkerError
from ragkit.workers._batches import Function, Work
from ragkit.workers._engines import Attempt, Worker, WorkerEngine, attempt, environment, reason_of, threads_for_openmp

_SECONDS_TO_START = 600


class _ActorWorker(Worker):
    """One actor as the driver sees it; ``pending`` is its current call, first that of `_Actor.problem`."""

    def __init__(self, work: Work, threads: int) -> None:
        import ray

        super().__init__()
        kind: Any = ray.remote(num_cpus=threads, max_restarts=0, max_task_retries=0)(_Actor)
        self.actor: Any = kind.remote(work, threads)
        self.pending: Any = self.actor.problem.remote()

    @override
    def end(self) -> None:
        import ray

        ray.kill(self.actor, no_restart=True)


class RayEngine(WorkerEngine[_ActorWorker]):
    """Actors with at most one batch each; batches are sent only to actors that are ready."""

    def __init__(self, work: Work, *, workers: int, threads: int, address: str | None) -> None:
        """Set the options; each thread of an actor reserves a CPU of the cluster."""
        require("ray")
        super().__init__(work, workers=workers, threads=threads)
        self._address, self._connected = address, False

    @override
    def _start_worker(self) -> _ActorWorker:
        return _ActorWorker(self._work, self._threads)

    @override
    def submit(self, place: int, items: bytes) -> None:
        worker = self._take_worker(place)
        worker.pending = worker.actor.run.remote(place, items)

    @override
    def collect(self) -> list[Attempt]:
        import ray
        from ray.exceptions import RayError

        by_pending = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        none_ready = not any(worker.ready for worker in self._workers)
        seconds = _SECONDS_TO_START if none_ready else None if self._working() else self._patience()
        ended, _ = ray.wait(list(by_pending), num_returns=1, timeout=seconds)
        if not ended and not none_ready:
            return []
        if not ended:
            raise WorkerError(
                f"no worker was ready after {_SECONDS_TO_START} seconds; give the cluster room for one of "
                f"{self._threads} CPUs, or ask for fewer `threads`"
            )
        worker = by_pending[ended[0]]
        try:
            told: Attempt | str | None = ray.get(ended[0])
        except RayError as error:
            worker.end()
            return self._replace(worker, reason_of(error))
        if isinstance(told, str):
            raise WorkerError(f"a worker cannot start: {told}")
        worker.pending = None
        self._started(worker)
        return [] if told is None else [self._settle(worker, told)]

    @override
    def __enter__(self) -> Self:
        import ray

        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        if not ray.is_initialized():
            here = {} if self._address else {"num_cpus": self._count * self._threads, "include_dashboard": False}
            with environment({**quiet, **threads_for_openmp(self._threads)}):
                ray.init(self._address or "local", logging_level="ERROR", log_to_driver=False, **here)
            self._connected = True
        return super().__enter__()

    @override
    def __exit__(self, *_: object) -> None:
        import ray

        super().__exit__()
        if self._connected:
            ray.shutdown()
            self._connected = False


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
