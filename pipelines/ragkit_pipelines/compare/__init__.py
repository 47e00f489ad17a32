"""Run one task through many strategies on the same rows, and say what the differences are worth."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from traceback import extract_tb
from typing import TYPE_CHECKING, Any
from warnings import warn

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, LeakageWarning, MetricError, RagkitError
from ragkit.finetuning.manifest import run_hash, write_atomic
from ragkit.models import load_model
from ragkit.models.budget import Budget
from ragkit.progress import progress
from ragkit_pipelines.compare.curves import Extrapolation, extrapolate
from ragkit_pipelines.compare.items import Items
from ragkit_pipelines.compare.pooled import Job, run_pooled
from ragkit_pipelines.compare.provenance import surroundings
from ragkit_pipelines.compare.report import markdown_report
from ragkit_pipelines.compare.results import Cell, Recommendation, Results, make_row, read_cell, write_cell
from ragkit_pipelines.compare.setting import Outcome, Setting, Strategy
from ragkit_pipelines.compare.strategies import FOR_LABELS, FOR_TEXT, check_strategies, load_strategy
from ragkit_pipelines.compare.verdict import summarise

if TYPE_CHECKING:
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.records import Example
    from ragkit.tasks import Task
    from ragkit.workers.pool import WorkerPool


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        results: Rows, paired tests and the recommendation, as `results.json` holds them.
        cells: The rows with every answer.
        items: The test rows with every answer.
        folder: Where it is kept, None where nobody asked to keep it.
    """

    results: Results
    cells: Sequence[Cell]
    items: Items
    folder: Path | None

    @property
    def recommendation(self) -> Recommendation:
        """The strategy to use, or None with the reason."""
        return self.results.recommendation

    def table(self) -> Any:
        """The results as a rich table.

        Returns:
            A table to print with rich.
        """
        return self.results.table()

    def examples_needed(self, strategy: str, to_reach: str | float) -> Extrapolation:
        """How many examples a strategy would need to reach another one, or a score, if its curve goes on as it began.

        Args:
            strategy: The strategy that is to learn more; run on three pool sizes at least.
            to_reach: A score, or the strategy whose score at its largest pool is to be reached.

        Returns:
            Number of examples with a 95 % interval.

        Raises:
            InvalidInputError: If there are too few sizes, or a strategy did not run.
        """
        target = to_reach
        if isinstance(target, str):
            curve = self.items.curve(target)
            scores = curve[max(curve)]
            target = sum(sum(each) / len(each) for each in scores.values()) / len(scores)
        return extrapolate(self.items.curve(strategy), target)

    def html(self) -> str:
        """The report as one page that needs no network; the extra ``report`` makes it.

        Returns:
            HTML.

        Raises:
            MissingExtraError: If Jinja or matplotlib is not installed.
        """
        from ragkit_pipelines.compare.page import html_report

        return html_report(self.results, self.items)


def compare(  # noqa: PLR0913 - all that a comparison can be told
    task: Task,
    strategies: Sequence[str | Strategy] | None = None,
    *,
    model: str | LanguageModel | None = None,
    embedder: str | Embedder = "minilm",
    sizes: Sequence[int | None] = (None,),
    seeds: Sequence[int] = (0,),
    trials: int = 0,
    budget: Budget | None = None,
    out: str | Path | None = None,
    notes: Mapping[str, str] | None = None,
    workers: WorkerPool | None = None,
) -> Comparison:
    """Run strategies on the same test rows and compare them.

    Test rows that stand in the pool are reported and removed first. Every answer of a model and every finished
    strategy is kept in ``out``: called again after a kill, the comparison goes on where it was.

    Args:
        task: The task.
        strategies: Names or objects; what suits the task if None.
        model: The language model, or its spec; ``"tiny"`` if None and the task is not classification.
        embedder: The embedder of selectors and classifiers, or its spec.
        sizes: Pool sizes; None stands for the whole pool.
        seeds: Seeds of the draws, of selectors and of training.
        trials: Settings that each strategy which can be tuned tries on the same held-out examples of the pool: learning
            rates and epochs of fine-tuning, prompts of ``optimised-prompt``. What that takes is counted as learning. 0
            trains with the usual settings, and lets ``optimised-prompt`` choose the number itself.
        budget: What calls of models may take, all strategies together; a strategy for which too little is left gets an
            error of its own. Training is not counted, but none begins after the budget's seconds are over.
        out: Folder for results, answers and trained models; a temporary one if None. ``run.json`` in it says from
            the start what is run; ``results.json``, ``items.json`` and ``report.md`` come at the end.
        notes: Whatever should be kept with the results, such as who asked for them.
        workers: Workers that run strategies side by side, one strategy at one size and seed each; this process alone
            if None. The results are the same but for measured seconds. What no worker finishes gets an error of its
            own, ``quarantine.jsonl`` in ``out`` names it, and a warning counts it. The workers of several machines
            need ``out`` on a disk that they share.

    Returns:
        The comparison.

    Raises:
        InvalidInputError: If an argument makes no sense; nothing is run or written then.
    """
    chosen = [load_strategy(strategy) for strategy in strategies or (FOR_LABELS if task.labels else FOR_TEXT)]
    names = [strategy.name for strategy in chosen]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"`strategies` names one twice: {names}; give each its own name")
    if trials < 0:
        raise InvalidInputError(f"`trials` must be 0 or more, got {trials}")
    if not seeds or not sizes:
        raise InvalidInputError("`sizes` and `seeds` must not be empty")
    _check_workers(workers, model, embedder, budget)
    leaks = task.leaks()
    if leaks:
        first = task.test[leaks[0].test].text()
        said = f"{len(leaks)} of {len(task.test)} test rows stand in the pool and are removed, such as {first[:60]!r}"
        warn(LeakageWarning(said), stacklevel=2)
        task = task.without_leaks()
    if not task.test:
        raise InvalidInputError('the task has no test row to compare on; give rows with "split": "test"')
    pools = {(size, seed): task.draw(size, seed) for size in sizes for seed in seeds}
    language_model = load_model(model or "tiny") if model or not task.labels else None
    check_strategies(chosen, task, language_model)
    vectors = load_embedder(embedder)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(out) if out else Path(scratch)
        provenance = {
            **surroundings(),
            "data": task.fingerprint,
            "strategies": json.dumps(names),
            "sizes": json.dumps(list(sizes)),
            "seeds": json.dumps(list(seeds)),
            "model": language_model.fingerprint if language_model else "none",
            "embedder": vectors.fingerprint,
            **(notes or {}),
        }
        if out:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "run.json", json.dumps(provenance, ensure_ascii=False, indent=1))
        jobs = []
        for (size, seed), pool in pools.items():
            setting, key = setting_of(task, pool, seed, language_model, vectors, folder, trials, budget)
            jobs += [Job(strategy, size, setting, key) for strategy in chosen]
        cells = _run(jobs, workers)
        results = summarise(task.name, len(leaks), cells, floor=_floor(task), provenance=provenance)
        items = Items.of(task.test, cells)
        if out:
            write_atomic(folder / "items.json", items.model_dump_json(indent=1))
            write_atomic(folder / "report.md", markdown_report(results))
            write_atomic(folder / "results.json", results.model_dump_json(indent=1))
    return Comparison(results, cells, items, Path(out) if out else None)


def _floor(task: Task) -> float:
    """What the commonest output of the pool scores as the answer to every test row; 0 where that cannot be judged."""
    if str(task.metric).startswith("judge:"):  # a model would have to be asked
        return 0.0
    commonest = Counter(example.output for example in task.examples).most_common(1)[0][0]
    try:
        return sum(task.score_all([commonest] * len(task.test))) / len(task.test)
    except MetricError:
        return 0.0


def _check_workers(workers: WorkerPool | None, model: object, embedder: object, budget: Budget | None) -> None:
    if workers is None:
        return
    if budget is not None:
        raise InvalidInputError("`budget` is kept by one process; leave it or `workers` out")
    for name, value in (("model", model), ("embedder", embedder)):
        if value is not None and not isinstance(value, str):
            raise InvalidInputError(
                f"with `workers`, `{name}` must be a spec such as 'tiny' or 'minilm', which each worker loads; got "
                f"{type(value).__name__}"
            )


def _run(jobs: Sequence[Job], workers: WorkerPool | None) -> list[Cell]:
    with progress("comparing", len(jobs)) as advance:
        if workers is not None:
            return run_pooled(jobs, workers, advance)
        cells = []
        for job in jobs:
            cells.append(cell_of(job))
            advance(1)
        return cells


def setting_of(
    task: Task,
    pool: Sequence[Example],
    seed: int,
    model: LanguageModel | None,
    embedder: Embedder,
    folder: Path,
    trials: int,
    budget: Budget | None = None,
) -> tuple[Setting, str]:
    """What strategies work with on one pool.

    Returns:
        The setting, and a hash of all that its answers depend on.
    """
    key = run_hash(
        task=task.fingerprint,
        seed=seed,
        embedder=embedder.fingerprint,
        pool=len(pool),
        model=model.fingerprint if model else None,
        trials=trials,
    )
    models, answers = folder / "kept" / key / "models", folder / "answers.sqlite"
    return Setting(task, pool, seed, model, embedder, models, answers, trials, budget), key


def finished(job: Job) -> Cell | None:
    """The cell that was kept of a job.

    Returns:
        The cell; None where there is none.
    """
    return read_cell(job.file, run_hash(setting=job.key, strategy=repr(job.strategy)))


def cell_of(job: Job) -> Cell:
    """Run one strategy, or read what it gave before.

    Returns:
        The cell; a strategy that fails gives one with its error, and the others go on.
    """
    kept = finished(job)
    if kept is not None:
        return kept
    strategy, setting, path = job.strategy, job.setting, job.file
    key = run_hash(setting=job.key, strategy=repr(strategy))
    path.parent.mkdir(parents=True, exist_ok=True)
    started = perf_counter()
    error = None
    scores: list[float] = []
    try:
        if setting.budget is not None:
            setting.budget.reserve(calls=0, tokens=0, money=0.0)  # starts the clock, or says that time is over
        outcome = strategy.run(setting)
        scores = setting.task.score_all(outcome.answers)
    except Exception as failure:  # noqa: BLE001 - whatever it is, the other strategies go on
        outcome, error = Outcome([], seconds=perf_counter() - started), _described(failure)
    cell = Cell(
        key=key,
        row=make_row(
            strategy=strategy.name,
            model=setting.model.name if setting.model else setting.embedder.name,
            size=len(setting.pool),
            seed=setting.seed,
            n=len(setting.task.test),
            correct=sum(scores),
            prompt_tokens=outcome.prompt_tokens,
            completion_tokens=outcome.completion_tokens,
            seconds=outcome.seconds,
            fit_seconds=outcome.fit_seconds,
            cost=outcome.cost,
            cached_tokens=outcome.cached_tokens,
            fit_tokens=outcome.fit_tokens,
            fit_cost=outcome.fit_cost,
            trials=outcome.trials,
            note=outcome.note,
            error=error,
        ),
        answers=list(outcome.answers),
        scores=scores,
        prompts=list(outcome.prompts),
    )
    if error is None:
        write_cell(path, cell)
    return cell


def _described(failure: Exception) -> str:
    """An error in one line; one that is not ours with the place it comes from."""
    said = f"{type(failure).__name__}: {failure}"
    if isinstance(failure, RagkitError):
        return said
    last = extract_tb(failure.__traceback__)[-1]
    return f"{said} ({Path(last.filename).name}, line {last.lineno})"
