"""A comparison on the workers of a pool: one strategy at one size and seed is what a worker does at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast
from warnings import warn

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, RagkitWarning, WorkerError
from ragkit.finetuning.manifest import run_hash
from ragkit.models import load_model
from ragkit.models.answers import AnswerCache
from ragkit.workers.batches import Batch, Done, Function, Missing
from ragkit.workers.pool import WorkerPool
from ragkit.workers.shards import Shards
from ragkit_pipelines.compare.results import Cell
from ragkit_pipelines.compare.setting import Outcome, Setting, Strategy

if TYPE_CHECKING:
    from ragkit.tasks import Task


@dataclass(frozen=True, slots=True)
class Job:
    """What `compare` does once: one strategy at one size and seed.

    Attributes:
        strategy: The strategy.
        size: Size of the pool as it was asked for.
        setting: What it works with.
        key: Hash of the setting.
    """

    strategy: Strategy
    size: int | None
    setting: Setting
    key: str

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.strategy.name}, pool {len(self.setting.pool)}, seed {self.setting.seed}"

    @property
    def file(self) -> Path:
        """Where its cell is kept."""
        return self.setting.folder.parent / f"{self.strategy.name.replace(':', '-').replace('/', '-')}.json"

    @property
    def place(self) -> tuple[str, str]:
        """The same for two jobs that are the same, as those of two sizes that both take the whole pool."""
        return self.key, self.strategy.name


@dataclass(frozen=True, slots=True)
class Cells:
    """Strategies run on a task, as work for a pool: an item names a strategy, a size and a seed, its result is a cell.

    Attributes:
        task: The task, without rows that leak.
        strategies: All strategies.
        model: Spec of the language model, None where there is none.
        embedder: Spec of the embedder.
        trials: Settings that each strategy may try.
        folder: Where answers, cells and trained models are kept; all workers need to see the same one.
        expected: Fingerprints of the model and of the embedder.
    """

    task: Task
    strategies: tuple[Strategy, ...]
    model: str | None
    embedder: str
    trials: int
    folder: str
    expected: tuple[str | None, str]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Cells:
        """The work that some jobs are parts of.

        Returns:
            The work; its model and its embedder are loaded by name.
        """
        setting, strategies = jobs[0].setting, {job.strategy.name: job.strategy for job in jobs}
        model, embedder = setting.model, setting.embedder
        return cls(
            setting.task,
            tuple(strategies.values()),
            None if model is None else model.name,
            embedder.name,
            setting.trials,
            str(setting.answers.parent.resolve()),
            (None if model is None else model.fingerprint, embedder.fingerprint),
        )

    @property
    def fingerprint(self) -> str:
        """What the answers depend on."""
        return run_hash(task=self.task.fingerprint, expected=self.expected, trials=self.trials)

    def start(self) -> Function:
        """Load the models.

        Returns:
            A function from items to cells.

        Raises:
            InvalidInputError: If another model or embedder is found here.
        """
        from ragkit_pipelines.compare import cell_of, setting_of

        model = None if self.model is None else load_model(self.model)
        embedder = load_embedder(self.embedder)
        found = (None if model is None else model.fingerprint, embedder.fingerprint)
        if found != self.expected:
            raise InvalidInputError(
                f"model and embedder are {found} in this worker, expected {self.expected}; install the same everywhere"
            )
        by_name = {strategy.name: strategy for strategy in self.strategies}

        def run(items: list[object]) -> list[object]:
            cells: list[object] = []
            for item in cast("list[Mapping[str, object]]", items):
                size, seed = cast("int | None", item["size"]), cast("int", item["seed"])
                setting, key = setting_of(
                    self.task, self.task.draw(size, seed), seed, model, embedder, Path(self.folder), self.trials
                )
                cells.append(cell_of(Job(by_name[str(item["strategy"])], size, setting, key)).model_dump())
            return cells

        return run


@dataclass(frozen=True)
class _GivenUp:
    """Stands in the place of a strategy that no worker survived."""

    name: str
    reason: str

    def run(self, setting: Setting) -> Outcome:  # noqa: ARG002
        raise WorkerError(self.reason)


def run_pooled(jobs: Sequence[Job], pool: WorkerPool, advance: Callable[[int], None]) -> list[Cell]:
    """Run jobs on the workers of a pool, but for those that are finished.

    Args:
        jobs: The jobs; those that are the same are run once.
        pool: The workers.
        advance: Called with the number of jobs that just ended.

    Returns:
        A cell for each job, in order; with an error where no worker finished it.
    """
    from ragkit_pipelines.compare import cell_of, finished

    cells = {job.place: cell for job in jobs if (cell := finished(job)) is not None}
    advance(sum(job.place in cells for job in jobs))
    rest = list({job.place: job for job in jobs if job.place not in cells}.values())
    answers = jobs[0].setting.answers
    if rest and jobs[0].setting.model is not None:
        AnswerCache(answers).close()  # made once, not by all workers at the same time
    batches = [
        Batch([job.title], [{"strategy": job.strategy.name, "size": job.size, "seed": job.setting.seed}])
        for job in rest
    ]
    missing = []
    with closing(pool.stream(Cells.of(jobs), batches)) as ended:
        for job, each in zip(rest, ended, strict=True):
            if isinstance(each, Done):
                cells[job.place] = Cell.model_validate(each.results[0])
            else:
                missing.append(each)
                stand_in = _GivenUp(job.strategy.name, f"{each.reason}, {each.attempts} times")
                cells[job.place] = cell_of(replace(job, strategy=stand_in))
            advance(sum(other.place == job.place for other in jobs))
    _tell(missing, len(jobs), answers.parent)
    return [cells[job.place] for job in jobs]


def _tell(missing: Sequence[Missing], count: int, folder: Path) -> None:
    """Name what is missing in a file and in a warning."""
    Shards(folder).write_quarantine(missing)
    if missing:
        names = [name for each in missing for name in each.ids]
        shown = "; ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        said = (
            f"{len(names)} of {count} results are missing: {shown}. The first reason: {missing[0].reason}, "
            f"{missing[0].attempts} times. quarantine.jsonl names all; the same call tries them again"
        )
        warn(RagkitWarning(said), stacklevel=4)
