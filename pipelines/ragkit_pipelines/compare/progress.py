"""The progress of a comparison: bars on a terminal, otherwise lines of the logger ``ragkit.compare``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

from ragkit._progress import open_stages, progress
from ragkit._stages import Stage, duration
from ragkit_pipelines.compare.strategies.base import Trained
from ragkit_pipelines.printable import printable

if TYPE_CHECKING:
    from ragkit_pipelines.compare.jobs import Job
    from ragkit_pipelines.compare.results import Cell

_LOG = logging.getLogger("ragkit.compare")
_EVERY = 30.0  # seconds between two lines about one strategy


@dataclass(frozen=True, slots=True)
class _Measured:
    """The seconds of a finished run, and the part of them that depends on the size of the pool."""

    size: int
    fit: float
    rest: float


class Watch:
    """Reports the runs of a comparison: one strategy at one pool size and seed each."""

    def __init__(self, jobs: Sequence[Job], stage: Stage) -> None:
        """Report the progress of jobs to a stage, and to the log if there is no terminal."""
        self._stage, self._numbers = stage, {job.identity: number for number, job in enumerate(jobs, start=1)}
        self._waiting = {job.identity: job for job in jobs}
        self._measured: dict[str, list[_Measured]] = {}
        self._current: tuple[str, Stage] | None = None
        self._log = not sys.stderr.isatty()
        stage.left_of = self.left

    @contextmanager
    def job(self, job: Job) -> Iterator[None]:
        """Report a run in this process; call `finished` at its end."""
        self._say(job, "started")
        with progress(job.title, None) as stage:
            self._current = self._place(job), stage
            try:
                yield
            finally:
                self._current = None

    def loaded(self, job: Job) -> None:
        """Report a run whose result was stored."""
        del self._waiting[job.identity]
        self._stage.skip(1)
        self._say(job, "loaded from the output folder")

    def finished(self, job: Job, cell: Cell, seconds: float | None = None) -> None:
        """Report the end of a run, and the seconds it took if it ran in this process."""
        row = cell.row
        del self._waiting[job.identity]
        spent = row.seconds + row.fit_seconds if seconds is None else seconds
        if row.error is None:
            known = row.fit_seconds + row.seconds
            share = row.fit_seconds / max(known, 1e-9)
            again = min(spent, known) if known else spent  # importing and loading are not repeated
            measured = _Measured(max(1, row.size), again * share, again * (1 - share))
            self._measured.setdefault(job.strategy.name, []).append(measured)
        self._stage(1)
        end = f"finished in {duration(spent)}" if row.error is None else f"failed after {duration(spent)}: {row.error}"
        left = self.left()
        self._say(job, end + ("" if not left else f"; about {duration(left)} left for {_runs(len(self._waiting))}"))

    def left(self) -> float | None:
        """Estimate the seconds of the other runs from those of the same strategy; None if a strategy is missing."""
        times = [self._expected(job) for job in self._waiting.values()]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) if len(known) == len(times) else None

    def report(self) -> None:
        """Log the state of the current run."""
        if self._current is None:
            return
        place, stage = self._current
        stages = open_stages()
        inner = stages[stages.index(stage) + 1 :] if stage in stages else []
        state = "; ".join(each.status() for each in inner) or "running"
        _LOG.info("%s: %s", place, _line(f"{state} (after {duration(stage.elapsed)})"))

    def _expected(self, job: Job) -> float | None:
        size = max(1, len(job.setting.pool))
        measured = self._measured.get(job.strategy.name)
        if not measured:
            return None
        closest = min(measured, key=lambda each: abs(each.size - size))
        more = size / closest.size  # fitting is taken to be proportional to the pool, or to the steps of training
        if isinstance(job.strategy, Trained):
            steps, trials = job.strategy.training_steps, job.setting.trials
            more = steps(size, trials) / steps(closest.size, trials) if steps(closest.size, trials) else more
        return closest.fit * more + closest.rest

    def _say(self, job: Job, text: str) -> None:
        if self._log:
            _LOG.info("%s: %s", self._place(job), _line(text))

    def _place(self, job: Job) -> str:
        return f"[{self._numbers[job.identity]}/{len(self._numbers)}] {_line(job.title)}"


@contextmanager
def watching(jobs: Sequence[Job]) -> Iterator[Watch]:
    """Report the progress of jobs within a block."""
    with progress("comparing", len(jobs)) as stage:
        watch = Watch(jobs, stage)
        if sys.stderr.isatty():
            yield watch
            return
        with _handler(), _regularly(watch):
            yield watch


@contextmanager
def _regularly(watch: Watch) -> Iterator[None]:
    """Log the state of the current run every 30 seconds."""
    ended = Event()

    def run() -> None:
        while not ended.wait(_EVERY):
            watch.report()

    thread = Thread(target=run, name="ragkit progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _handler() -> Iterator[None]:
    """Show the lines on standard error, unless the program shows them itself or has set the level of the logger."""
    shown = _LOG.hasHandlers() and _LOG.isEnabledFor(logging.INFO)
    if shown or _LOG.level or logging.getLogger("ragkit").level:
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(logging.NOTSET)
        _LOG.propagate = True


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


def _runs(count: int) -> str:
    return f"{count} more run{'s' if count > 1 else ''}"
