"""Workers as processes of this machine; processes that die are replaced."""

from __future__ import annotations

import signal
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import ClassVar, Self, cast

from typing_extensions import override

from ragkit.errors import WorkerError
from ragkit.workers._batches import LARGEST_RESULTS, Work
from ragkit.workers._engines import Attempt, Worker, WorkerEngine, attempt, environment, reason_of, threads_for_openmp

_SECONDS_TO_END = 5
# Messages of a worker are one of these bytes, followed by results or a reason. They are never pickled.
_READY, _CANNOT_START, _RESULTS, _FAILED = b"R", b"C", b"D", b"F"


class _Process(Worker):
    """One process and its pipe. It ends when the pipe is closed, after its current batch if this process is killed."""

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__()
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        with environment(threads_for_openmp(threads)):
            self.process.start()
        theirs.close()

    @override
    def end(self) -> None:
        self.pipe.close()
        self.process.join(_SECONDS_TO_END if self.ready and self.place is None else 0)
        self.process.kill()
        self.process.join()


class ProcessEngine(WorkerEngine[_Process]):
    """Spawned processes, each with its own pipe; batches are sent only to workers that are ready."""

    _start_hint: ClassVar[str] = (
        "; look at what they printed. A script that starts workers must do so under `if __name__ == '__main__':`"
    )

    @override
    def _start_worker(self) -> _Process:
        return _Process(self._work, self._threads)

    @override
    def submit(self, place: int, items: bytes) -> None:
        with suppress(OSError):  # the worker is dead, which `collect` detects and reports
            self._take_worker(place).pipe.send_bytes(items)

    @override
    def collect(self) -> list[Attempt]:
        by_pipe = {worker.pipe: worker for worker in self._workers}
        ended: list[Attempt] = []
        for pipe in wait(list(by_pipe), None if self._working() else self._patience()):
            worker = by_pipe[cast("Connection", pipe)]
            try:
                message = worker.pipe.recv_bytes(LARGEST_RESULTS + 1)
            except (EOFError, OSError):
                worker.end()
                ended += self._replace(worker, _way_of_dying(worker.process.exitcode))
                continue
            kind, content = message[:1], message[1:]
            if kind == _CANNOT_START:
                raise WorkerError(f"a worker cannot start: {content.decode(errors='replace')}")
            if kind == _READY or worker.place is None:
                self._started(worker)
            elif kind == _RESULTS:
                ended.append(self._settle(worker, Attempt(worker.place, content)))
            else:
                ended.append(self._settle(worker, Attempt(worker.place, None, content.decode(errors="replace"))))
        return ended

    @override
    def __enter__(self) -> Self:
        try:
            ForkingPickler.dumps(self._work)
        except Exception as error:  # any error that pickling the work may raise
            raise WorkerError(
                f"the work cannot be sent to a process ({reason_of(error)}); it may hold names, settings and functions "
                "that stand at the head of a module, but no open file, lambda or loaded model"
            ) from error
        return super().__enter__()

    @override
    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.pipe.close()  # idle workers end themselves, all at the same time
        super().__exit__()


def _serve(work: Work, pipe: Connection) -> None:
    """Run a worker: prepare, then run batches until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops its workers
    try:
        function = work.start()
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        pipe.send_bytes(_CANNOT_START + _encoded(reason_of(error)))
        return
    with suppress(EOFError, OSError):
        pipe.send_bytes(_READY)
        while True:
            ended = attempt(function, 0, pipe.recv_bytes())
            pipe.send_bytes(_FAILED + _encoded(ended.reason) if ended.results is None else _RESULTS + ended.results)


def _encoded(reason: str) -> bytes:
    return reason.encode("utf-8", "backslashreplace")


def _way_of_dying(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
