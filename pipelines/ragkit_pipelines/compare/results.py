"""Results of a comparison: rows, paired tests, differences and the recommendation, as JSON and as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.errors import DataFileError
from ragkit.files import checked, with_checksum, without_checksum, write_atomic
from ragkit.text import read_json
from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.reports.escaping import markdown_table
from ragkit_pipelines.compare.reports.score_table import rich_table, score_headings, score_lines
from ragkit_pipelines.compare.statistics.calibration import Calibration
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.tests import wilson

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 2
_File = TypeVar("_File", bound=BaseModel)


class Row(BaseModel):
    """One strategy at one pool size and seed.

    Attributes:
        n: Number of test rows.
        correct: Sum of the scores; the number of correct answers if the metric is all-or-nothing.
        score: ``correct / n``, with the 95 % Wilson interval from ``low`` to ``high``.
        seconds: Prediction time for all rows; ``fit_seconds`` is the time for training and tuning.
        cost: Cost of prediction in US dollars, or None if unknown.
        error: Why the strategy failed, or None.
        cached_tokens: Prompt tokens that came from a prompt cache.
        at_floor: Whether the interval contains the score of the majority baseline. Such a row is not evidence that the
            strategy can do the task at all.
        fit_tokens: Tokens of training, and of the calls that tried settings.
        fit_cost: Cost of the calls made during fitting in US dollars, or None if unknown.
        trials: Number of settings that were tried on held-out examples.
        note: Settings that the strategy selected, or other remarks.
        labels: Number of labelled examples used.
        label_cost: Cost of these labels in US dollars, or None if the price of a label is unknown.
        trained_tokens: The part of ``fit_tokens`` that was trained on, counted once per epoch.
        shared_tokens: Length of the common prefix of all prompts, which a prompt cache can store.
        flops: FLOPs of prediction for all rows, or None if the model's weights are not available.
        cached_flops: The same if the common prefix is computed once.
        fit_flops: FLOPs of training and tuning, or None if unknown.
        calibration: Calibration of the strategy's confidence, or None if it returns no confidence.
        unreadable: Number of completions without an answer of the expected form; None if no completion was read.
        data_seed: Seed of the examples drawn from the pool; equal to ``seed`` unless it was kept fixed.
        model_seed: Seed of training and of the search for a prompt, likewise.
        order_seed: Seed of selectors that select at random, likewise.
    """

    model_config = ConfigDict(extra="forbid")

    strategy: str
    model: str | None
    size: int
    seed: int
    n: int
    correct: float
    score: float
    low: float
    high: float
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    fit_seconds: float
    cost: float | None
    error: str | None = None
    cached_tokens: int = 0
    at_floor: bool = False
    fit_tokens: int = 0
    fit_cost: float | None = None
    trials: int = 0
    note: str = ""
    labels: int = 0
    label_cost: float | None = None
    trained_tokens: int = 0
    shared_tokens: int = 0
    flops: float | None = None
    cached_flops: float | None = None
    fit_flops: float | None = None
    calibration: Calibration | None = None
    unreadable: int | None = None
    data_seed: int | None = None
    model_seed: int | None = None
    order_seed: int | None = None


class Cell(BaseModel):
    """A row with its answers and scores, item by item; the unit in which a comparison is resumed."""

    model_config = ConfigDict(extra="forbid")

    key: str
    row: Row
    answers: list[str]
    scores: list[float]
    prompts: list[str] = []
    confidence: list[float] = []


class Pair(BaseModel):
    """Exact McNemar test of two strategies on the same rows, within one size and seed."""

    a: str
    b: str
    size: int
    seed: int
    only_a: int
    only_b: int
    p: float


class Difference(BaseModel):
    """Mean score of ``a`` minus that of ``b`` at one size, over all seeds of both; see `PairedBootstrap`."""

    a: str
    b: str
    size: int
    seeds: int
    estimate: float
    low: float
    high: float
    p: float
    standard_error: float
    detectable: float


class Recommendation(BaseModel):
    """The strategy to use, with the evidence in words.

    Attributes:
        strategy: The cheapest strategy that is not shown to be worse than the best one by more than the margin; None if
            no strategy is better than the majority baseline.
        evidence: Scores, tests and costs in words.
        best: The strategy with the highest score at the largest pool, or None.
        margin: The difference of mean scores that does not matter.
        saving: The share of the cost or time of a prediction of the best strategy that ``strategy`` saves, 0 to 1.
        saved: What ``saving`` is a share of: ``"cost"`` if all costs are known and not zero, else ``"seconds"``.
        rows_needed: Number of test rows with which a test would probably tell ``strategy`` and ``best`` apart; None if
            they are the same, or their scores are equal.
        significant: Whether the best strategy is significantly better than each of the others.
    """

    strategy: str | None
    evidence: str
    best: str | None = None
    margin: float = 0.01
    saving: float = 0.0
    saved: Literal["cost", "seconds"] = "seconds"
    rows_needed: int | None = None
    significant: bool = False


class Results(BaseModel):
    """The content of `results.json`.

    Attributes:
        schema_version: Version of the file format; files with another version are rejected.
        task: Name of the task.
        leaked_test_rows: Number of test rows that also appeared in the pool and were excluded.
        floor: Score of the majority baseline, which answers every test row with the most frequent output of the pool.
        data: Problems found in the data, and the rows that were removed.
        prices: Token prices used for break-even volumes.
        provenance: Versions, hashes and settings of the run.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
    task: str
    leaked_test_rows: int
    floor: float = 0.0
    data: DataReport | None = None
    prices: PriceRange | None = None
    rows: list[Row]
    pairs: list[Pair]
    differences: list[Difference]
    recommendation: Recommendation
    provenance: dict[str, str] = {}

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
        all_or_nothing = all(row.correct == int(row.correct) for row in self.rows)
        return f"{'accuracy' if all_or_nothing else 'mean score'} on {n} test rows, with 95 % interval"

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
    """Make a row; its score and interval are computed from ``correct`` and ``n``."""
    low, high = wilson(facts["correct"], facts["n"])
    return Row(score=facts["correct"] / facts["n"] if facts["n"] else 0.0, low=low, high=high, **facts)


def read_checked(kind: type[_File], path: Path, content: str) -> _File:
    """Read a file of a comparison, and check its checksum, its schema version and its content."""
    try:
        stored = read_json(checked(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise DataFileError(path, 0, f"expected {content}: {error}") from error
    found = stored.get("schema_version", 1) if isinstance(stored, dict) else None
    if found != SCHEMA:
        raise DataFileError(
            path,
            0,
            f"expected schema version {SCHEMA}, got {found}; rerun the comparison with the same folder to rewrite "
            "the file; finished strategies are not repeated",
        )
    try:
        return kind.model_validate(stored)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataFileError(path, 0, f"`{where}`: {first['msg']}; the file was modified or is damaged") from error


def read_cell(path: Path, key: str) -> Cell | None:
    """Read a finished cell; None if it must be computed again: it is missing, damaged or has other settings."""
    try:
        content = without_checksum(path.read_bytes())
        cell = Cell.model_validate_json(content or b"")
    except (OSError, ValueError):
        return None
    return cell if cell.key == key else None


def write_cell(path: Path, cell: Cell) -> None:
    """Write a finished cell atomically and with a checksum."""
    write_atomic(path, with_checksum(json.dumps(cell.model_dump(), ensure_ascii=False)))
