"""Results of a comparison: rows, paired tests, differences and the recommendation, as JSON and as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ragkit._files import with_checksum, without_checksum, write_atomic
from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.reports.escaping import markdown_table
from ragkit_pipelines.compare.reports.score_table import rich_table, score_headings, score_lines
from ragkit_pipelines.compare.statistics.calibration import Calibration
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.set_metrics import set_title
from ragkit_pipelines.compare.statistics.tests import wilson
from ragkit_pipelines.compare.stored_files import SCHEMA, check_indices, check_lengths, read_checked, read_limited

if TYPE_CHECKING:
    from rich.table import Table

MOST_SIZES = 100  # a table has one column per pool size

# The numbers of stored results. Files may have been changed, and reports must not fail on numbers without a meaning.
Count = Annotated[int, Field(ge=0, le=2**53)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**64)]
Amount = Annotated[float, Field(ge=0, le=1e40, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]  # below 0 for metrics such as MCC
Change = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Width = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]


class Row(BaseModel):
    """One strategy at one pool size and seed; `Outcome` describes the fields that are not listed here.

    Attributes:
        n: Number of test rows.
        correct: Sum of the scores; the number of correct answers if the metric is all-or-nothing.
        score: ``correct / n``, with the 95 % Wilson interval from ``low`` to ``high``; for a set-level metric such as
            macro-F1, its value, with a bootstrap interval.
        error: Why the strategy failed, or None.
        at_floor: Whether the interval contains the score of the majority baseline. Such a row is not evidence that the
            strategy can do the task at all.
        label_cost: Cost of the labelled examples in US dollars, or None if the price of a label is unknown.
        shared_tokens: Length of the common prefix of all prompts, which a prompt cache can store.
        flops: FLOPs of prediction for all rows, or None if the model's weights are not available.
        cached_flops: The same if the common prefix is computed once.
        fit_flops: FLOPs of training and tuning, or None if unknown.
        calibration: Calibration of the strategy's confidence, or None if it returns no confidence.
        data_seed: Seed of the examples drawn from the pool; equal to ``seed`` unless it was kept fixed.
        model_seed: Seed of training and of the search for a prompt, likewise.
        order_seed: Seed of selectors that select at random, likewise.
    """

    model_config = ConfigDict(extra="forbid")

    strategy: str
    model: str | None
    size: Count
    seed: Seed
    n: Count
    correct: Amount
    score: Score
    low: Score
    high: Score
    prompt_tokens: Count
    completion_tokens: Count
    seconds: Amount
    fit_seconds: Amount
    cost: Amount | None
    error: str | None = None
    cached_tokens: Count = 0
    at_floor: bool = False
    fit_tokens: Count = 0
    fit_cost: Amount | None = None
    trials: Count = 0
    note: str = ""
    labels: Count = 0
    label_cost: Amount | None = None
    trained_tokens: Count = 0
    shared_tokens: Count = 0
    flops: Amount | None = None
    cached_flops: Amount | None = None
    fit_flops: Amount | None = None
    calibration: Calibration | None = None
    confidence_kind: str = ""
    unreadable: Count | None = None
    data_seed: Seed | None = None
    model_seed: Seed | None = None
    order_seed: Seed | None = None


class Cell(BaseModel):
    """A row with its answers and scores, item by item; the unit in which a comparison is resumed."""

    model_config = ConfigDict(extra="forbid")

    key: str
    row: Row
    answers: list[str]
    scores: list[Share]
    prompts: list[str] = []
    confidence: list[Share] = []
    unreadable_rows: list[Count] = []

    @model_validator(mode="after")
    def _check_lengths(self) -> Cell:
        if self.row.error is None:
            check_lengths(self.row.n, self.answers, self.scores, self.confidence, self.prompts)
            check_indices(self.row.n, self.unreadable_rows)
        return self


class Pair(BaseModel):
    """Exact McNemar test of two strategies on the same rows, within one size and seed."""

    a: str
    b: str
    size: Count
    seed: Seed
    only_a: Count
    only_b: Count
    p: Share


class Difference(BaseModel):
    """Score of ``a`` minus that of ``b`` at one size, over all seeds of both; see `PairedBootstrap`.

    ``p_a_not_worse`` is the one-sided p-value of the hypothesis that ``a`` is worse than ``b`` by the margin or more;
    ``p_b_not_worse`` likewise. ``p_equivalent``, the larger of both, tests that the strategies are equivalent within
    the margin. All three are None if the margin is 0.
    """

    a: str
    b: str
    size: Count
    seeds: Count
    estimate: Change
    low: Change
    high: Change
    p: Share
    standard_error: Amount
    detectable: Width
    p_a_not_worse: Share | None = None
    p_b_not_worse: Share | None = None
    p_equivalent: Share | None = None


class Recommendation(BaseModel):
    """The strategy to use, with the evidence in words.

    Attributes:
        strategy: The cheapest strategy that is not shown to be worse than the best one by more than the margin; None if
            no strategy is better than the majority baseline.
        evidence: Scores, tests and costs in words.
        best: The strategy with the highest score at the largest pool, or None.
        margin: The difference of scores that does not matter.
        saving: The share of the cost or time of a prediction of the best strategy that ``strategy`` saves, 0 to 1.
        saved: What ``saving`` is a share of: ``"cost"`` if all costs are known and not zero, else ``"seconds"``.
        rows_needed: Number of test rows with which a test would probably tell ``strategy`` and ``best`` apart; None if
            they are the same, or their scores are equal.
        significant: Whether the best strategy is significantly better than each of the others.
        test: The test of ``best`` against each other strategy, such as ``"exact McNemar test"``.
        corrected: Its Holm-corrected p-value for each other strategy at the largest pool.
        equivalence: The Holm-corrected p-value of the equivalence of each other strategy with ``best`` within the
            margin; empty if the margin is 0.
        equivalent: Whether ``strategy`` is shown to be equivalent to ``best`` within the margin; None if they are the
            same, or there is no test.
        detectable: Minimum detectable difference between ``best`` and the strategies that are not significantly worse;
            None if all are, or if it is unknown.
    """

    strategy: str | None
    evidence: str
    best: str | None = None
    margin: Share = 0.01
    saving: Share = 0.0
    saved: Literal["cost", "seconds"] = "seconds"
    rows_needed: Count | None = None
    significant: bool = False
    test: str = ""
    corrected: dict[str, Share] = {}
    equivalence: dict[str, Share] = {}
    equivalent: bool | None = None
    detectable: Width | None = None


class Results(BaseModel):
    """The content of `results.json`.

    Attributes:
        schema_version: Version of the file format; files with another version are rejected.
        task: Name of the task.
        leaked_test_rows: Number of test rows that also appeared in the pool and were excluded.
        floor: Score of the majority baseline, which answers every test row with the most frequent output of the pool.
        metric: Name of the set-level metric that decides, such as ``"macro_f1"``; empty if the scores are means.
        data: Problems found in the data, and the rows that were removed.
        prices: Token prices used for break-even volumes.
        provenance: Versions, hashes and settings of the run.
        lost_records: Records that could not be logged to the tracker, each with the reason.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
    task: str
    leaked_test_rows: Count
    floor: Score = 0.0
    metric: str = ""
    data: DataReport | None = None
    prices: PriceRange | None = None
    rows: list[Row]
    pairs: list[Pair]
    differences: list[Difference]
    recommendation: Recommendation
    provenance: dict[str, str] = {}
    lost_records: list[str] = []

    @model_validator(mode="after")
    def _check_sizes(self) -> Results:
        if len({row.size for row in self.rows}) > MOST_SIZES:
            raise ValueError(f"expected at most {MOST_SIZES} pool sizes")
        return self

    @classmethod
    def load(cls, path: str | Path) -> Results:
        """Load the results of a comparison from ``results.json``, or from the folder that contains it.

        Returns:
            The results.

        Raises:
            DataFileError: If the file does not exist, is damaged or has another schema version.
        """
        path = Path(path)
        return read_checked(cls, path / "results.json" if path.is_dir() else path, "the results of a comparison")

    @property
    def measured(self) -> str:
        """What the scores measure, as a phrase."""
        n = max((row.n for row in self.rows), default=0)
        return f"{self.score_title} on {n} test rows, with 95 % interval"

    @property
    def score_title(self) -> str:
        """What a score is: the set-level metric, "accuracy" if all answers are right or wrong, or "mean score"."""
        if self.metric:
            return set_title(self.metric)
        all_or_nothing = all(row.correct == int(row.correct) for row in self.rows)
        return "accuracy" if all_or_nothing else "mean score"

    @property
    def baseline(self) -> str:
        """The score of the majority baseline, as a phrase."""
        return f"Majority baseline: {self.floor:.3f}"

    def table(self) -> Table:
        """Return the scores as a table for the terminal, with one row per strategy and one column per pool size.

        Returns:
            A rich table. With several seeds, it shows the mean score and the widest of their intervals.
        """
        return rich_table(self)

    def markdown(self) -> str:
        """Return the scores as a Markdown table."""
        return markdown_table(score_headings(self.rows), score_lines(self.rows))


def make_row(**facts: Any) -> Row:
    """Make a row; unless they are given, its score and interval are computed from ``correct`` and ``n``."""
    low, high = wilson(facts["correct"], facts["n"])
    score = facts["correct"] / facts["n"] if facts["n"] else 0.0
    return Row(**{"score": score, "low": low, "high": high, **facts})


def read_cell(path: Path, key: str) -> Cell | None:
    """Read a finished cell; None if it must be computed again: it is missing, damaged or has other settings."""
    try:
        content = without_checksum(read_limited(path))
        cell = Cell.model_validate_json(content or b"")
    except (OSError, ValueError):
        return None
    return cell if cell.key == key else None


def write_cell(path: Path, cell: Cell) -> None:
    """Write a finished cell atomically and with a checksum."""
    write_atomic(path, with_checksum(json.dumps(cell.model_dump(), ensure_ascii=False)))
