"""Run one task through several strategies on the same test rows, and test the differences."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.files import make_folder, with_checksum, write_atomic
from ragkit.models import default_model, load_model
from ragkit.models.budget import Budget
from ragkit.progress import progress
from ragkit_pipelines.compare.data_checks import Checks, check_task
from ragkit_pipelines.compare.documents import AnyDocuments, open_documents
from ragkit_pipelines.compare.parallel import check_poolable, run_pooled
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.provenance import environment
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.results import Cell, Recommendation, Results, Row
from ragkit_pipelines.compare.running import Job, jobs_on, majority_score, run_job
from ragkit_pipelines.compare.statistics.learning_curves import Extrapolation, extrapolate, highest_target
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.strategies.base import VARIED, Outcome, Setting, Strategy, Varied, timed
from ragkit_pipelines.compare.strategies.named import FOR_LABELS, FOR_TEXT, check_strategies, load_strategy
from ragkit_pipelines.compare.strategies.retrieval import check_documents, with_documents

if TYPE_CHECKING:
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.tasks import Task
    from ragkit.workers.pool import WorkerPool

__all__ = [
    "Comparison",
    "Outcome",
    "PriceRange",
    "Recommendation",
    "Results",
    "Row",
    "Setting",
    "Strategy",
    "compare",
    "timed",
]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        results: Rows, paired tests and the recommendation, as in `results.json`.
        cells: The rows with their answers.
        items: The test rows with the answers of all strategies.
        folder: The output folder; None if ``out`` was not given.
    """

    results: Results
    cells: Sequence[Cell]
    items: Items
    folder: Path | None

    @property
    def recommendation(self) -> Recommendation:
        """The recommended strategy, or None with the reason."""
        return self.results.recommendation

    def table(self) -> Any:
        """Return the results as a rich table.

        Returns:
            A table to print with rich.
        """
        return self.results.table()

    def examples_needed(self, strategy: str, to_reach: str | float) -> Extrapolation:
        """Estimate how many examples a strategy needs to reach another strategy or a score.

        Args:
            strategy: A strategy that was run with at least three pool sizes.
            to_reach: A score, or a strategy, whose score at its largest pool is the target.

        Returns:
            The number of examples with a 95 % interval.

        Raises:
            InvalidInputError: If there are too few sizes, or a strategy did not run.
        """
        target = to_reach
        if isinstance(target, str):
            curve = self.items.curve(target)
            scores = curve[max(curve)]
            target = highest_target(sum(sum(each) / len(each) for each in scores.values()) / len(scores), self.items)
        return extrapolate(self.items.curve(strategy), target)

    def html(self) -> str:
        """Return the report as one HTML page that needs no network. Requires the extra ``report``.

        Returns:
            HTML.

        Raises:
            MissingExtraError: If Jinja or matplotlib is not installed.
        """
        from ragkit_pipelines.compare.reports.html import html_report

        return html_report(self.results, self.items)


def compare(  # noqa: PLR0913 - all settings of a comparison
    task: Task,
    strategies: Sequence[str | Strategy] | None = None,
    *,
    model: str | LanguageModel | None = None,
    embedder: str | Embedder = "minilm",
    sizes: Sequence[int | None] = (None,),
    seeds: Sequence[int] = (0,),
    vary: Sequence[Varied] = VARIED,
    trials: int = 0,
    budget: Budget | None = None,
    documents: AnyDocuments | None = None,
    checks: Checks = "report",
    label_price: float | None = None,
    prices: PriceRange | None = None,
    out: str | Path | None = None,
    notes: Mapping[str, str] | None = None,
    workers: WorkerPool | None = None,
) -> Comparison:
    """Run strategies on the same test rows and compare them.

    Test rows that also appear in the pool are reported and excluded first; other problems of the data are reported.
    Responses of models and finished strategies are cached in ``out``: an interrupted comparison resumes if it is called
    again.

    Args:
        task: The task.
        strategies: Names or objects; the default strategies for this kind of task if None.
        model: The language model, or its spec; `ragkit.models.default_model` if None and a strategy needs one.
        embedder: The embedder of selectors and classifiers, or its spec.
        sizes: Pool sizes; None is the whole pool.
        seeds: One seed per run. It determines the examples drawn from the pool (``"data"``), training and the search
            for prompts (``"model"``), and selectors that select at random (``"order"``).
        vary: Which of these three vary with the seeds; the others use the first seed in every run.
        trials: Number of settings that each tunable strategy tries on the same held-out examples of the pool: learning
            rates and epochs of fine-tuning, prompts of ``optimised-prompt``. Their cost counts as fitting. With 0,
            fine-tuning uses the default settings, and ``optimised-prompt`` its default number of trials.
        budget: Limits of the model calls of all strategies together. A strategy that exceeds the rest of the budget
            fails. Training is not counted, but does not start after the time limit.
        documents: The documents for ``rag`` and ``pearl``: a folder, a file, a list of passages, an `Index` or a
            retriever.
        checks: Handling of duplicates, contradictions and near-duplicates of test rows: ``"report"`` reports them,
            ``"clean"`` also removes them, ``"off"`` skips the checks.
        label_price: Price of one labelled example in US dollars, charged to every strategy that uses it.
        prices: Possible token prices for break-even volumes; if None, these are computed in FLOPs only.
        out: Folder for results, responses and trained models; a temporary one if None. ``run.json`` is written at the
            start; ``results.json``, ``items.json`` and ``report.md`` at the end.
        notes: Additional entries for the provenance of the results.
        workers: Workers that run strategies in parallel, each with one size and seed at a time; only this process if
            None. The results are the same except for measured seconds. If no worker finishes a strategy, its row
            contains an error, ``quarantine.jsonl`` in ``out`` lists it, and a warning is raised. Workers on several
            machines need ``out`` on a shared disk.

    Returns:
        The comparison.

    Raises:
        InvalidInputError: If an argument is not valid; nothing is run or written in this case.
    """
    chosen = _chosen(strategies, task, documents)
    _check_arguments(sizes, seeds, vary, trials, label_price)
    if workers is not None:
        check_poolable(model, embedder, budget, documents)
    held: dict[Varied, int] = {what: seeds[0] for what in VARIED if what not in vary} if len(seeds) > 1 else {}
    task, leaked, data = check_task(task, checks)
    pools = {(size, seed): task.draw(size, held.get("data", seed)) for size in sizes for seed in seeds}
    needs_model = any(getattr(strategy, "needs_model", False) for strategy in chosen)
    language_model = load_model(model or default_model()) if model or needs_model else None
    check_strategies(chosen, task, language_model)
    check_documents(chosen, task, documents)
    vectors = load_embedder(embedder)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(out) if out else Path(scratch)
        library = None if documents is None else stack.enter_context(open_documents(documents, folder, vectors))
        if library is not None:
            chosen = with_documents(chosen, task, library)
        provenance = {
            **environment(),
            "data": task.fingerprint,
            "strategies": json.dumps([strategy.name for strategy in chosen]),
            "sizes": json.dumps(list(sizes)),
            "seeds": json.dumps(list(seeds)),
            **({"held": json.dumps(held)} if held else {}),
            "model": language_model.fingerprint if language_model else "none",
            "embedder": vectors.fingerprint,
            **({} if library is None else {"documents": library.fingerprint}),
            **(notes or {}),
        }
        if out:
            make_folder(folder)
            write_atomic(folder / "run.json", json.dumps(provenance, ensure_ascii=False, indent=1))
        answers, jobs = folder / "answers.sqlite", dict[tuple[str, str], Job]()
        for (size, seed), pool in pools.items():
            setting = Setting(task, pool, seed, language_model, vectors, folder, answers, trials, budget, held)
            for job in jobs_on(setting, size, chosen):
                jobs.setdefault(job.identity, job)
        cells = _run(list(jobs.values()), workers)
        results = summarise(
            task.name,
            leaked,
            cells,
            floor=majority_score(task),
            data=data,
            label_price=label_price,
            prices=prices,
            held=list(held),
            provenance=provenance,
        )
        items = Items.of(task.test, cells)
        if out:
            write_atomic(folder / "items.json", with_checksum(items.model_dump_json(indent=1)))
            write_atomic(folder / "report.md", markdown_report(results, items))
            write_atomic(folder / "results.json", with_checksum(results.model_dump_json(indent=1)))
    return Comparison(results, cells, items, Path(out) if out else None)


def _run(jobs: Sequence[Job], workers: WorkerPool | None) -> list[Cell]:
    with progress("comparing", len(jobs)) as advance:
        if workers is not None:
            return run_pooled(jobs, workers, advance)
        cells = []
        for job in jobs:
            cells.append(run_job(job))
            advance(1)
        return cells


def _chosen(strategies: Sequence[str | Strategy] | None, task: Task, documents: AnyDocuments | None) -> list[Strategy]:
    """Load the strategies, or the default ones for the task; names must be unique."""
    usual = [*(FOR_LABELS if task.labels else FOR_TEXT), *(["rag"] if documents is not None else [])]
    chosen = [load_strategy(strategy) for strategy in strategies or usual]
    names = [strategy.name for strategy in chosen]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"`strategies` must have unique names, got {names}")
    return chosen


def _check_arguments(
    sizes: Sequence[int | None], seeds: Sequence[int], vary: Sequence[str], trials: int, label_price: float | None
) -> None:
    if trials < 0:
        raise InvalidInputError(f"`trials` must be at least 0, got {trials}")
    if label_price is not None and not 0 <= label_price < float("inf"):
        raise InvalidInputError(f"`label_price` must be a price of at least 0, got {label_price!r}")
    if not seeds or not sizes:
        raise InvalidInputError("`sizes` and `seeds` must not be empty")
    unknown = [what for what in vary if what not in VARIED]
    if unknown or not vary or len(set(seeds)) < len(seeds):
        raise InvalidInputError(
            f"`vary` must be a subset of {list(VARIED)}, and `seeds` must be unique; got {vary} and {seeds}"
        )
