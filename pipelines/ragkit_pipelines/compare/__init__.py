"""Run one task through many strategies on the same rows, and say what the differences are worth."""

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
from ragkit.finetuning.manifest import write_atomic
from ragkit.models import default_model, load_model
from ragkit.models.budget import Budget
from ragkit.progress import progress
from ragkit_pipelines.compare.data_checks import Checks, checked
from ragkit_pipelines.compare.documents import AnyDocuments, opened
from ragkit_pipelines.compare.parallel import check_poolable, run_pooled
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.provenance import surroundings
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.results import Cell, Recommendation, Results
from ragkit_pipelines.compare.running import Job, floor_of, jobs_on, run_job
from ragkit_pipelines.compare.statistics.learning_curves import Extrapolation, extrapolate, highest_target
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.strategies.base import VARIED, Setting, Strategy, Varied
from ragkit_pipelines.compare.strategies.named import FOR_LABELS, FOR_TEXT, check_strategies, load_strategy
from ragkit_pipelines.compare.strategies.retrieval import check_documents, over_documents

if TYPE_CHECKING:
    from ragkit.protocols import Embedder, LanguageModel
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
            target = highest_target(sum(sum(each) / len(each) for each in scores.values()) / len(scores), self.items)
        return extrapolate(self.items.curve(strategy), target)

    def html(self) -> str:
        """The report as one page that needs no network; the extra ``report`` makes it.

        Returns:
            HTML.

        Raises:
            MissingExtraError: If Jinja or matplotlib is not installed.
        """
        from ragkit_pipelines.compare.reports.html import html_report

        return html_report(self.results, self.items)


def compare(  # noqa: PLR0913 - all that a comparison depends on, named
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

    Test rows that stand in the pool are reported and removed first; other faults of the data are reported. Every answer
    of a model and every finished strategy is kept in ``out``: called again after a kill, the comparison goes on where
    it was.

    Args:
        task: The task.
        strategies: Names or objects; what suits the task if None.
        model: The language model, or its spec; `ragkit.models.default_model` if None and a strategy needs one.
        embedder: The embedder of selectors and classifiers, or its spec.
        sizes: Pool sizes; None stands for the whole pool.
        seeds: One for each run: of the draws (``"data"``), of training and the search for prompts (``"model"``), and of
            selectors that draw by chance (``"order"``).
        vary: Which of these three the seeds decide; the others take the first seed in every run.
        trials: Settings that each strategy which can be tuned tries on the same held-out examples of the pool: learning
            rates and epochs of fine-tuning, prompts of ``optimised-prompt``. What that takes is counted as learning. 0
            trains with the usual settings, and lets ``optimised-prompt`` choose the number itself.
        budget: What calls of models may take, all strategies together; a strategy for which too little is left gets an
            error of its own. Training is not counted, but none begins after the budget's seconds are over.
        documents: What ``rag`` and ``pearl`` look things up in: a folder or a file, passages as they stand, an `Index`
            or a retriever.
        checks: What is done about duplicates, contradictions and near leaks: ``"report"`` says them, ``"clean"`` leaves
            them out, ``"off"`` does not look.
        label_price: US dollars for one labelled example, counted for every strategy that uses it.
        prices: What tokens may cost, for the volumes from which training pays; only operations are reckoned if None.
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
    chosen = _chosen(strategies, task, documents)
    _check_arguments(sizes, seeds, vary, trials, label_price)
    if workers is not None:
        check_poolable(model, embedder, budget, documents)
    held: dict[Varied, int] = {what: seeds[0] for what in VARIED if what not in vary} if len(seeds) > 1 else {}
    task, leaked, data = checked(task, checks)
    pools = {(size, seed): task.draw(size, held.get("data", seed)) for size in sizes for seed in seeds}
    needs_model = any(getattr(strategy, "needs_model", False) for strategy in chosen)
    language_model = load_model(model or default_model()) if model or needs_model else None
    check_strategies(chosen, task, language_model)
    check_documents(chosen, task, documents)
    vectors = load_embedder(embedder)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(out) if out else Path(scratch)
        library = None if documents is None else stack.enter_context(opened(documents, folder, vectors))
        if library is not None:
            chosen = over_documents(chosen, task, library)
        provenance = {
            **surroundings(),
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
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "run.json", json.dumps(provenance, ensure_ascii=False, indent=1))
        answers, jobs = folder / "answers.sqlite", dict[tuple[str, str], Job]()
        for (size, seed), pool in pools.items():
            setting = Setting(task, pool, seed, language_model, vectors, folder, answers, trials, budget, held)
            for job in jobs_on(setting, size, chosen):
                jobs.setdefault(job.place, job)
        cells = _run(list(jobs.values()), workers)
        results = summarise(
            task.name,
            leaked,
            cells,
            floor=floor_of(task),
            data=data,
            label_price=label_price,
            prices=prices,
            held=list(held),
            provenance=provenance,
        )
        items = Items.of(task.test, cells)
        if out:
            write_atomic(folder / "items.json", items.model_dump_json(indent=1))
            write_atomic(folder / "report.md", markdown_report(results, items))
            write_atomic(folder / "results.json", results.model_dump_json(indent=1))
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
    """The strategies, those that suit the task where none are named; no name twice."""
    usual = [*(FOR_LABELS if task.labels else FOR_TEXT), *(["rag"] if documents is not None else [])]
    chosen = [load_strategy(strategy) for strategy in strategies or usual]
    names = [strategy.name for strategy in chosen]
    if len(set(names)) < len(names):
        raise InvalidInputError(f"`strategies` names one twice: {names}; give each its own name")
    return chosen


def _check_arguments(
    sizes: Sequence[int | None], seeds: Sequence[int], vary: Sequence[str], trials: int, label_price: float | None
) -> None:
    if trials < 0:
        raise InvalidInputError(f"`trials` must be 0 or more, got {trials}")
    if label_price is not None and not 0 <= label_price < float("inf"):
        raise InvalidInputError(f"`label_price` must be a price of 0 or more, got {label_price!r}")
    if not seeds or not sizes:
        raise InvalidInputError("`sizes` and `seeds` must not be empty")
    unknown = [what for what in vary if what not in VARIED]
    if unknown or not vary or len(set(seeds)) < len(seeds):
        raise InvalidInputError(
            f"`vary` takes some of {list(VARIED)} and `seeds` each number once; got {vary} and {seeds}"
        )
