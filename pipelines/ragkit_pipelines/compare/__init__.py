"""Run one task through several strategies on the same test rows, and test the differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragkit._files import make_folder, with_checksum, write_atomic
from ragkit_pipelines.compare.estimating import Estimate, StrategyEstimate, estimate
from ragkit_pipelines.compare.exporting import export_items
from ragkit_pipelines.compare.frames import pandas_frame, polars_frame, row_record
from ragkit_pipelines.compare.judging import Judgement, judge_files
from ragkit_pipelines.compare.options import CompareOptions, refuse_moved_keywords
from ragkit_pipelines.compare.planning import planned
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.markdown import markdown_report
from ragkit_pipelines.compare.reports.summary import html_summary, text_summary
from ragkit_pipelines.compare.results import Cell, Recommendation, Results, Row
from ragkit_pipelines.compare.running import run_jobs
from ragkit_pipelines.compare.statistics.crossovers import Crossover, crossover
from ragkit_pipelines.compare.statistics.item_scores import item_scores
from ragkit_pipelines.compare.statistics.learning_curves import (
    Extrapolation,
    extrapolate,
    extrapolate_runs,
    highest_target,
)
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.recommendation import summarise
from ragkit_pipelines.compare.statistics.set_metrics import set_metric, stored_metric
from ragkit_pipelines.compare.strategies.base import Outcome, Setting, Strategy, timed
from ragkit_pipelines.compare.tracking import Tracker, load_tracker, tracked

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from ragkit.models._budget import Budget
    from ragkit.protocols import Embedder, LanguageModel
    from ragkit.tasks import Task

__all__ = [
    "CompareOptions",
    "Comparison",
    "Estimate",
    "Judgement",
    "Outcome",
    "PriceRange",
    "Recommendation",
    "Results",
    "Row",
    "Setting",
    "Strategy",
    "StrategyEstimate",
    "Tracker",
    "compare",
    "estimate",
    "export_items",
    "judge_files",
    "timed",
]


@dataclass(frozen=True)
class Comparison:
    """A finished comparison; ``print`` and notebooks show the table of scores and the recommendation.

    Attributes:
        results: Rows, paired tests and the recommendation, as in `results.json`.
        cells: The rows with their answers.
        items: The test rows with the answers of all strategies: ``items.rows()``, ``items.to_pandas()``.
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

    def __str__(self) -> str:
        return text_summary(self.results)

    def __repr__(self) -> str:
        strategies, tests = len({row.strategy for row in self.results.rows}), len(self.items.inputs)
        return (
            f"Comparison({strategies} strategies, {tests} test rows, recommendation {self.recommendation.strategy!r})"
        )

    def _repr_html_(self) -> str:
        return html_summary(self.results)

    def to_pandas(self) -> pd.DataFrame:
        """Return a data frame with one line per strategy, pool size and seed.

        Returns:
            The fields of `Row` as columns; those of the calibration are named ``calibration_error`` and so on.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return pandas_frame([row_record(row) for row in self.results.rows])

    def to_polars(self) -> pl.DataFrame:
        """Return the data frame of `to_pandas` as one of Polars.

        Returns:
            A data frame with the same columns.

        Raises:
            MissingExtraError: If Polars is not installed.
        """
        return polars_frame([row_record(row) for row in self.results.rows])

    def table(self) -> Any:
        """Return the results as a table to print with rich."""
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
        target, metric = to_reach, stored_metric(self.results.metric)
        if isinstance(target, str):
            largest = max(self.items.curve(target))
            score = item_scores(self.items, [(target, largest)], metric).by_seed.mean()
            target = highest_target(float(score), self.items)
        if metric is None:
            return extrapolate(self.items.curve(strategy), target)
        sizes = sorted(self.items.curve(strategy))
        return extrapolate_runs(sizes, item_scores(self.items, [(strategy, size) for size in sizes], metric), target)

    def crossover(self, strategy: str, other: str) -> Crossover:
        """Compute the pool size from which on a strategy, such as ``"lora"``, scores higher than another one.

        Args:
            strategy: The strategy that may overtake.
            other: The strategy that may be overtaken, such as ``"few-shot:bm25"``.

        Returns:
            The pool size with a 95 % interval.

        Raises:
            InvalidInputError: If a strategy did not run, or both have fewer than two pool sizes in common.
        """
        for name in (strategy, other):
            self.items.curve(name)
        return crossover(self.items, strategy, other, metric=stored_metric(self.results.metric))

    def html(self) -> str:
        """Return the report as one HTML page that needs no network. Requires the extra ``report``.

        Returns:
            HTML.

        Raises:
            MissingExtraError: If Jinja is not installed.
        """
        from ragkit_pipelines.compare.reports.html import html_report

        return html_report(self.results, self.items)


@refuse_moved_keywords
def compare(
    task: Task,
    strategies: Sequence[str | Strategy] | None = None,
    *,
    model: str | LanguageModel | None = None,
    embedder: str | Embedder = "minilm",
    sizes: Sequence[int | None] = (None,),
    seeds: Sequence[int] = (0,),
    budget: Budget | None = None,
    out: str | Path | None = None,
    options: CompareOptions | None = None,
    tracker: str | Tracker | None = None,
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
        seeds: One seed per run, for everything in ``CompareOptions.vary``.
        budget: Limits of the model calls of all strategies together. A strategy that exceeds the rest of the budget
            fails. Training is not counted, but does not start after the time limit.
        out: Folder for results, responses and trained models; a temporary one if None. ``run.json`` is written at the
            start; ``results.json``, ``items.json`` and ``report.md`` at the end.
        options: What is measured, how it runs, and what is reported; the defaults of `CompareOptions` if None.
        tracker: An experiment tracker, or its spec, such as ``"mlflow"`` or ``"wandb:my-project"``, to which each row
            is logged when it is finished. If the tracker fails, the comparison continues, and the records are sent
            again at the end. Those that are lost are listed in a warning and in ``results.lost_records``.

    Returns:
        The comparison.

    Raises:
        InvalidInputError: If an argument is not valid; nothing is run or written in this case.
    """
    options = options or CompareOptions()
    tracker = load_tracker(tracker)
    with planned(
        task, strategies, model=model, embedder=embedder, sizes=sizes, seeds=seeds, budget=budget, out=out,
        options=options,
    ) as plan, tracked(tracker, plan.task.name, plan.provenance) as run:  # fmt: skip
        if out:
            make_folder(plan.folder)
            write_atomic(plan.folder / "run.json", json.dumps(plan.provenance, ensure_ascii=False, indent=1))
        cells = run_jobs(plan.jobs, options.workers, run.log)
        results = summarise(
            plan.task.name, plan.leaked, cells, floor=plan.baseline, data=plan.data, options=options,
            held=list(plan.held), provenance=plan.provenance, metric=set_metric(plan.task.metric), test=plan.task.test,
        )  # fmt: skip
        items = Items.of(plan.task.test, cells)
        if out:
            _write(plan.folder, results, items)
        if lost := run.finish(results):
            results = results.model_copy(update={"lost_records": lost})
            if out:
                _write(plan.folder, results, items)
    return Comparison(results, cells, items, Path(out) if out else None)


def _write(folder: Path, results: Results, items: Items) -> None:
    write_atomic(folder / "items.json", with_checksum(items.model_dump_json(indent=1)))
    write_atomic(folder / "report.md", markdown_report(results, items))
    write_atomic(folder / "results.json", with_checksum(results.model_dump_json(indent=1)))
