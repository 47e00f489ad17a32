"""Apply the tests of a comparison to result files, also those of other programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit._call_site import warn_caller
from ragkit.errors import InvalidInputError, RagkitWarning
from ragkit_pipelines.compare.options import CompareOptions
from ragkit_pipelines.compare.reports.standings import detectable_note, judged_table, test_note
from ragkit_pipelines.compare.reports.summary import table_text
from ragkit_pipelines.compare.reports.tables import verdict
from ragkit_pipelines.compare.results import Cell, Recommendation, Results, make_row
from ragkit_pipelines.compare.score_files import ScoredRun, read_scores
from ragkit_pipelines.compare.statistics.recommendation import summarise

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Judgement:
    """The statistics of result files; ``print`` shows them as a table with the recommendation.

    Attributes:
        results: Scores with intervals, tests of all pairs, and the recommendation, as `compare` returns them. Tokens,
            seconds and pool sizes are 0, because other programs do not report them.
        metric: What the scores measure.
        rows: Number of test rows that all runs share.
        unshared: Number of rows of each run that were left out, because another run does not have them.
    """

    results: Results
    metric: str
    rows: int
    unshared: Mapping[str, int]

    @property
    def recommendation(self) -> Recommendation:
        """The recommended run, with the evidence."""
        return self.results.recommendation

    def table(self) -> Table:
        """Return the scores and the tests against the best run as a table to print with rich."""
        return judged_table(self.results, f"{self.metric} on {self.rows:,} test rows")

    def sentences(self) -> list[str]:
        """Return the recommendation, the test behind the p-values, and the minimum detectable difference, in words."""
        said = [verdict(self.results), test_note(self.results), detectable_note(self.results)]
        return [each for each in said if each]

    def __str__(self) -> str:
        return table_text(self.table(), self.sentences())


def judge_files(paths: Sequence[str | Path], *, metric: str | None = None, margin: float = 0.01) -> Judgement:
    """Compare the runs in result files on the rows that they share, with the statistics of `compare`.

    Three kinds of results are read: the folder of a comparison of ragkit (the strategies at the largest pool), files
    ``samples_*.jsonl`` that lm-evaluation-harness writes with ``--log_samples``, and results of promptfoo in JSON. Rows
    are matched by their content: the input and the expected output, the hash of the document, or the variables of the
    test. Rows of different programs do not match.

    Args:
        paths: Files or folders with at least two runs together.
        metric: The metric, if a file contains several: ``"acc"`` or ``"exact_match,strict-match"`` (with the filter) of
            lm-evaluation-harness; ``"score"``, ``"success"`` or a named score of promptfoo. Its values must be from 0
            to 1, and higher must be better.
        margin: The difference of mean scores that does not matter to the recommendation.

    Returns:
        The tests and the recommendation. If the costs of all runs are known, the cheapest run that is not shown to be
        worse than the best one is recommended, otherwise the best one.

    Raises:
        DataFileError: If a file cannot be read, or has another format or version.
        InvalidInputError: If there are fewer than two runs, if they share no rows, or if they have different metrics.
    """
    if isinstance(paths, str | Path):
        raise InvalidInputError(f"`paths` must be a list of files and folders, got {str(paths)!r}")
    options = CompareOptions(margin=margin)
    files = list(dict.fromkeys(Path(path) for path in paths))
    runs = [run for path in files for run in read_scores(path, metric)]
    names = _names(runs)
    if len(set(names)) < 2:
        raise InvalidInputError(
            f"expected at least two different runs to compare, found {len(set(names))}; pass more files"
        )
    _check_metrics(runs)
    rows = [row for row in runs[0].scores if all(row in run.scores for run in runs)]
    if not rows:
        raise InvalidInputError(_nothing_shared(runs, names))
    unshared = {name: len(run.scores) - len(rows) for name, run in zip(names, runs, strict=True)}
    if any(unshared.values()):
        listed = "; ".join(f"{name}: {count}" for name, count in unshared.items() if count)
        warn_caller(
            RagkitWarning(f"{len(rows)} rows are compared; rows that not all runs have were left out: {listed}")
        )
    known = all(run.cost is not None for run in runs)
    cells = [_cell(name, run, rows, known_cost=known) for name, run in zip(names, runs, strict=True)]
    measured = runs[0].metric
    return Judgement(summarise(measured, 0, cells, floor=None, options=options), measured, len(rows), unshared)


def _names(runs: Sequence[ScoredRun]) -> list[str]:
    """Name the runs as in their files; runs of several files with the same name are preceded by their file."""
    files: dict[str, set[Path]] = {}
    for run in runs:
        files.setdefault(run.name, set()).add(run.file)
    named = [run.name if len(files[run.name]) == 1 and run.name else _with_file(run) for run in runs]
    twice = [each for each, count in Counter(zip(named, (run.seed for run in runs), strict=True)).items() if count > 1]
    if twice:
        raise InvalidInputError(f"the run {twice[0][0]!r} occurs twice; pass each file once")
    return named


def _with_file(run: ScoredRun) -> str:
    return f"{run.file}: {run.name}" if run.file.is_dir() or run.file.suffix == ".json" else str(run.file)


def _check_metrics(runs: Sequence[ScoredRun]) -> None:
    by_metric = {run.metric: run.file for run in runs}
    if len(by_metric) > 1:
        listed = ", ".join(f"{metric!r} ({file})" for metric, file in by_metric.items())
        raise InvalidInputError(f"the files have different metrics: {listed}; choose one that all of them have with "
                                "`metric` (--metric)")  # fmt: skip


def _nothing_shared(runs: Sequence[ScoredRun], names: Sequence[str]) -> str:
    first = runs[0]
    other = next(
        index for index, run in enumerate(runs) if not first.scores.keys() & run.scores.keys() or index + 1 == len(runs)
    )
    return (
        f"the files share no rows: {names[0]!r} has {len(first.scores)} rows and {names[other]!r} has "
        f"{len(runs[other].scores)}, with different content; pass results of one program on the same data set"
    )


def _cell(name: str, run: ScoredRun, rows: Sequence[str], *, known_cost: bool) -> Cell:
    scores = [run.scores[row] for row in rows]
    cost = run.cost * len(rows) / len(run.scores) if known_cost and run.cost is not None else None
    row = make_row(
        strategy=name, model=None, size=0, seed=run.seed, n=len(rows), correct=sum(scores), prompt_tokens=0,
        completion_tokens=0, seconds=0.0, fit_seconds=0.0, cost=cost,
    )  # fmt: skip
    return Cell(key="", row=row, answers=[""] * len(rows), scores=scores)
