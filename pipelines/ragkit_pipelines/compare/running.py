"""Run the cells of a comparison, in this process or on workers, each of which runs one cell at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, cast
from warnings import warn

from ragkit._observation import observed
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, RagkitWarning, WorkerError
from ragkit.finetuning._manifest import run_hash
from ragkit.models import load_model
from ragkit.models._response_cache import AnswerCache
from ragkit.workers._batches import Batch, Done, Function, Missing
from ragkit.workers._pool import WorkerPool
from ragkit.workers._shards import Shards
from ragkit_pipelines.compare.jobs import Job, jobs_on, run_job
from ragkit_pipelines.compare.progress import Watch, watching
from ragkit_pipelines.compare.results import Cell, Row
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, Strategy, Varied
from ragkit_pipelines.compare.strategies.timing import Clock, TimedEmbedder

if TYPE_CHECKING:
    from ragkit.tasks import Task


def run_jobs(jobs: Sequence[Job], workers: WorkerPool | None, log: Callable[[Row], None]) -> list[Cell]:
    """Run jobs, or load their stored results; a job that fails has a cell with the error. ``log`` receives each row."""
    with watching(jobs) as watch:
        if workers is not None:
            return _run_on_workers(jobs, workers, watch, log)

        def run(job: Job) -> Cell:
            cell = _run_here(job, watch)
            log(cell.row)
            return cell

        return observed("comparison", jobs[0].setting.task.name, jobs, lambda: list(map(run, jobs)))


def _run_here(job: Job, watch: Watch) -> Cell:
    stored = job.finished()
    if stored is not None:
        watch.loaded(job)
        return stored
    started = perf_counter()
    facts = {"ragkit.pool_size": len(job.setting.pool), "ragkit.seed": job.setting.seed}
    with watch.job(job):
        (cell,) = observed("strategy", job.strategy.name, [job], lambda: [run_job(job)], facts)
    watch.finished(job, cell, perf_counter() - started)
    return cell


def check_shareable(model: object, embedder: object, budget: object, documents: object) -> None:
    """Reject arguments that cannot be shared between processes."""
    for name, value in (("budget", budget), ("documents", documents)):
        if value is not None:
            raise InvalidInputError(f"`{name}` cannot be shared between workers; omit `{name}` or `workers`")
    for name, value in (("model", model), ("embedder", embedder)):
        if value is not None and not isinstance(value, str):
            raise InvalidInputError(
                f"with `workers`, `{name}` must be a spec such as 'tiny' or 'minilm', which each worker loads; got "
                f"{type(value).__name__}"
            )


@dataclass(frozen=True, slots=True)
class _Work:
    """The work of a pool: an item consists of a strategy name, a size and a seed, and its result is a cell."""

    task: Task
    strategies: tuple[Strategy, ...]
    model: str | None
    embedder: str
    trials: int
    held: Mapping[Varied, int]
    folder: Path
    answers: Path
    expected: tuple[str | None, str]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> _Work:
        """Make the work that contains some jobs; workers load the model and the embedder by name."""
        setting, strategies = jobs[0].setting, {job.strategy.name: job.strategy for job in jobs}
        model, embedder = setting.model, setting.embedder
        return cls(
            setting.task,
            tuple(strategies.values()),
            None if model is None else model.name,
            embedder.name,
            setting.trials,
            setting.held,
            setting.folder.resolve(),
            setting.answers.resolve(),
            (None if model is None else model.fingerprint, embedder.fingerprint),
        )

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the results depend on."""
        return run_hash(task=self.task.fingerprint, expected=self.expected, trials=self.trials, held=dict(self.held))

    def start(self) -> Function:
        """Load the models in a worker, and return a function from items to cells."""
        model = None if self.model is None else load_model(self.model)
        clock = Clock()
        embedder = TimedEmbedder(load_embedder(self.embedder), clock)
        found = (None if model is None else model.fingerprint, embedder.fingerprint)
        if found != self.expected:
            raise InvalidInputError(
                f"expected the model and embedder {self.expected}, got {found} in this worker; install the same "
                "versions on all machines"
            )
        by_name = {strategy.name: strategy for strategy in self.strategies}

        def run(items: list[object]) -> list[object]:
            cells: list[object] = []
            for item in cast("list[Mapping[str, object]]", items):
                size, seed = cast("int | None", item["size"]), cast("int", item["seed"])
                pool = self.task.draw(size, self.held.get("data", seed))
                setting = Setting(self.task, pool, seed, model, embedder, self.folder, self.answers, self.trials,
                                  held=self.held, clock=clock)  # fmt: skip
                (job,) = jobs_on(setting, size, [by_name[str(item["strategy"])]])
                cells.append(run_job(job).model_dump())
            return cells

        return run


@dataclass(frozen=True)
class _Failed:
    """Replaces a strategy that no worker finished."""

    name: str
    reason: str

    def run(self, setting: Setting) -> Outcome:  # noqa: ARG002
        raise WorkerError(self.reason)


def _run_on_workers(jobs: Sequence[Job], pool: WorkerPool, watch: Watch, log: Callable[[Row], None]) -> list[Cell]:
    """Run unfinished jobs on the workers of a pool; the cell of a job that no worker finished contains an error."""
    cells = {}
    for job in jobs:
        if (cell := job.finished()) is not None:
            cells[job.identity] = cell
            watch.loaded(job)
            log(cell.row)
    rest = [job for job in jobs if job.identity not in cells]
    first = jobs[0].setting
    if rest and first.model is not None:
        AnswerCache(first.answers).close()  # created once, to avoid a race between workers
    batches = [
        Batch([job.title], [{"strategy": job.strategy.name, "size": job.size, "seed": job.setting.seed}])
        for job in rest
    ]
    missing = []
    with closing(pool.stream(_Work.of(jobs), batches)) as ended:
        for job, each in zip(rest, ended, strict=True):
            if isinstance(each, Done):
                cells[job.identity] = Cell.model_validate(each.results[0])
            else:
                missing.append(each)
                stand_in = _Failed(job.strategy.name, f"{each.reason}, {each.attempts} times")
                cells[job.identity] = run_job(replace(job, strategy=stand_in))
            watch.finished(job, cells[job.identity])
            log(cells[job.identity].row)
    _report_missing(missing, len(jobs), first.folder)
    return [cells[job.identity] for job in jobs]


def _report_missing(missing: Sequence[Missing], count: int, folder: Path) -> None:
    """List the missing results in a file and in a warning."""
    Shards(folder).write_quarantine(missing)
    if missing:
        names = [name for each in missing for name in each.ids]
        shown = "; ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        said = (
            f"{len(names)} of {count} results are missing: {shown}. The first reason: {missing[0].reason}, "
            f"{missing[0].attempts} times. quarantine.jsonl lists all of them; rerun the comparison to retry"
        )
        warn(RagkitWarning(said), stacklevel=5)
