"""Plan a comparison: check its arguments, load what all strategies share, and list the cells to compute."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit._text import read_json
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, MetricError
from ragkit.models import default_model, load_model
from ragkit_pipelines.compare.data_checks import DataReport, check_task
from ragkit_pipelines.compare.documents import open_documents
from ragkit_pipelines.compare.jobs import Job, jobs_on
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.private import refuse_links, refuse_secrets
from ragkit_pipelines.compare.provenance import provenance_of
from ragkit_pipelines.compare.results import MOST_SIZES
from ragkit_pipelines.compare.running import check_shareable
from ragkit_pipelines.compare.strategies.base import VARIED, Setting, Strategy, Varied, check_strategies
from ragkit_pipelines.compare.strategies.named import FOR_LABELS, FOR_TEXT, load_strategy
from ragkit_pipelines.compare.strategies.timing import Clock, TimedEmbedder

if TYPE_CHECKING:
    from ragkit.models._budget import Budget
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A comparison before any strategy is run.

    ``task`` has no excluded rows; ``leaked`` counts the test rows that also appear in the pool; ``held`` are the seeds
    that are the same in all runs; ``baseline`` is the score of the majority baseline.
    """

    task: Task
    leaked: int
    data: DataReport
    baseline: float
    jobs: Sequence[Job]
    held: dict[Varied, int]
    folder: Path
    provenance: dict[str, str]


@contextmanager
def planned(
    task: Task,
    strategies: Sequence[str | Strategy] | None,
    *,
    model: str | LanguageModel | None,
    embedder: str | Embedder,
    sizes: Sequence[int | None],
    seeds: Sequence[int],
    budget: Budget | None,
    out: str | Path | None,
    options: CompareOptions,
) -> Iterator[Plan]:
    """Plan a comparison; see `compare` for the arguments. Documents are open until the block ends."""
    chosen = _load_strategies(strategies, task, options)
    if not seeds or not sizes or len(set(seeds)) < len(seeds):
        raise InvalidInputError(f"`sizes` and `seeds` must not be empty, and `seeds` must be unique; got {seeds}")
    if len(set(sizes)) > MOST_SIZES:
        raise InvalidInputError(f"`sizes` must have at most {MOST_SIZES} values, got {len(set(sizes))}")
    if options.workers is not None:
        check_shareable(model, embedder, budget, options.documents)
    task, leaked, data = check_task(task, options.checks)
    held: dict[Varied, int] = {}
    if len(seeds) > 1:
        held = {what: seeds[0] for what in VARIED if what not in options.vary}
    pools = {(size, seed): task.draw(size, held.get("data", seed)) for size in sizes for seed in seeds}
    needs_model = any(getattr(strategy, "needs_model", False) for strategy in chosen)
    language_model = load_model(model or default_model()) if model or needs_model else None
    check_strategies(chosen, task, language_model, options.documents)
    vectors = load_embedder(embedder)
    with ExitStack() as stack:
        folder = Path(out) if out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        refuse_links(folder)
        library = None
        if options.documents is not None:
            library = stack.enter_context(open_documents(options.documents, folder, vectors))
        jobs: dict[tuple[str, str], Job] = {}
        clock = Clock()
        timed = TimedEmbedder(vectors, clock)
        for (size, seed), pool in pools.items():
            setting = Setting(task, pool, seed, language_model, timed, folder, folder / "answers.sqlite",
                              options.trials, budget, held, library, clock)  # fmt: skip
            for job in jobs_on(setting, size, chosen):
                jobs.setdefault(job.identity, job)
        provenance = provenance_of(
            task, chosen, language_model, vectors, sizes=sizes, seeds=seeds, held=held, library=library,
            day=_stored(folder, "date") or date.today().isoformat(), notes=options.notes,
        )  # fmt: skip
        refuse_secrets(provenance)
        _refuse_other_data(folder, provenance)
        yield Plan(
            task=task, leaked=leaked, data=data, baseline=_majority_score(task), jobs=list(jobs.values()), held=held,
            folder=folder, provenance=provenance,
        )  # fmt: skip


def stored_data(folder: Path) -> str | None:
    """Return the fingerprint of the task of the comparison in a folder; None if the folder has no readable one."""
    return _stored(folder, "data")


def _stored(folder: Path, name: str) -> str | None:
    """Return an entry of the ``run.json`` of a folder; None if it has no readable one."""
    try:
        stored = read_json((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    found = stored.get(name) if isinstance(stored, dict) else None
    return found if isinstance(found, str) else None


def default_strategies(task: Task, documents: object) -> list[str]:
    """Return the names of the strategies that are compared if none are given."""
    return [*(FOR_LABELS if task.labels else FOR_TEXT), *(["rag"] if documents is not None else [])]


def _refuse_other_data(folder: Path, provenance: Mapping[str, str]) -> None:
    """Raise an error if the folder holds a comparison on other data, whose report would be replaced."""
    if stored_data(folder) not in {None, provenance["data"]}:
        raise InvalidInputError(
            f"{folder} holds a comparison on another task: its rows, instruction or metric differ; choose another "
            "folder with `out` (--out), or delete this one"
        )


def _load_strategies(
    strategies: Sequence[str | Strategy] | None, task: Task, options: CompareOptions
) -> list[Strategy]:
    """Load the strategies, or the default ones for the task; names must be unique."""
    chosen = [load_strategy(each) for each in strategies or default_strategies(task, options.documents)]
    names = [strategy.name for strategy in chosen]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"`strategies` must have unique names, got {names}")
    return chosen


def _majority_score(task: Task) -> float:
    """Score the most frequent output of the pool as the answer to every test row; 0 if the metric cannot score it."""
    if str(task.metric).startswith("judge:"):  # scoring would call a model
        return 0.0
    commonest = Counter(example.output for example in task.examples).most_common(1)[0][0]
    try:
        return task.overall_score([commonest] * len(task.test))
    except MetricError:
        return 0.0
