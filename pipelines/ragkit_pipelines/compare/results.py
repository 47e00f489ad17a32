"""What a comparison found: rows, paired tests, differences, a recommendation; as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ragkit.checksums import with_checksum, without_checksum
from ragkit.errors import DataFileError
from ragkit.finetuning.manifest import write_atomic
from ragkit.text import read_json
from ragkit_pipelines.compare.data_checks import DataReport
from ragkit_pipelines.compare.statistics.calibration import Calibration
from ragkit_pipelines.compare.statistics.prices import PriceRange
from ragkit_pipelines.compare.statistics.tests import wilson

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 2


class Row(BaseModel):
    """One strategy at one pool size and seed.

    Attributes:
        n: Test rows.
        correct: Sum of the scores; the number of right answers under an all-or-nothing metric.
        score: ``correct / n``, with Wilson's 95 % interval from ``low`` to ``high``.
        seconds: Time spent on answering all rows; ``fit_seconds`` the time spent on learning.
        cost: US dollars, None where unknown.
        error: Why the strategy gave no answers, else None.
        cached_tokens: Those of the prompt tokens that came from a prompt cache.
        at_floor: Whether the interval reaches down to what one and the same answer to everything scores: then the
            strategy has not shown that it can do the task at all, and says nothing about what it is made of.
        fit_tokens: Tokens of learning: trained on, and read and written to try settings.
        fit_cost: US dollars for calls that learning made, None where unknown.
        trials: Settings that were tried on held-out examples.
        note: What the strategy chose or found on the way.
        labels: Labelled examples that it used.
        label_cost: US dollars that these cost, None where the price of a label is unknown.
        trained_tokens: Those of ``fit_tokens`` that were trained on, each epoch counted.
        shared_tokens: Tokens with which every prompt began alike, which a prompt cache could keep.
        flops: Floating-point operations of answering all rows, None where the model's weights are not at hand.
        cached_flops: The same where what all prompts begin with is read once.
        fit_flops: Floating-point operations of learning, None where they are not known.
        calibration: How far the strategy's confidence can be believed; None where it gives none.
        unreadable: Number of completions without an answer of the expected form; None if no completion was read.
        data_seed: Seed of what was drawn of the pool; ``seed`` but where it was held.
        model_seed: Seed of training and of the search for a prompt, likewise.
        order_seed: Seed of selectors that draw by chance, likewise.
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
    """A row with what stands behind it, item by item; the unit in which a comparison is resumed."""

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
    """Mean score of ``a`` minus that of ``b`` at one size, over all seeds that both have; see `PairedBootstrap`."""

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
    """The strategy to use, or None where the data show no difference, and what that rests on."""

    strategy: str | None
    evidence: str


class Results(BaseModel):
    """All of it, as `results.json` holds it.

    Attributes:
        schema_version: Of this very shape; files of another one are refused.
        task: Name of the task.
        leaked_test_rows: Test rows that stood in the pool and were removed.
        floor: What the commonest output of the pool scores as the answer to every test row.
        data: What is wrong with the data, and what was left out.
        prices: What tokens are reckoned to cost in the volumes from which training pays.
        provenance: Versions, hashes and settings that the results came from.
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
        """Read results that were written before.

        Args:
            path: ``results.json``, or the folder that holds it.

        Returns:
            The results.

        Raises:
            DataFileError: If there are none, they are damaged or have another schema.
        """
        path = Path(path)
        path = path / "results.json" if path.is_dir() else path
        try:
            stored = read_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataFileError(path, 0, f"expected the results of a comparison; {error}") from error
        found = stored.get("schema_version", 1) if isinstance(stored, dict) else None
        if found != SCHEMA:
            raise DataFileError(
                path,
                0,
                f"expected results of schema {SCHEMA}, got {found}; run the comparison again with the same folder: "
                "finished strategies are not repeated",
            )
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataFileError(path, 0, f"`{where}`: {first['msg']}; the file was changed or damaged") from error

    @property
    def measured(self) -> str:
        """What the scores are, in words."""
        n = max((row.n for row in self.rows), default=0)
        right = all(row.correct == int(row.correct) for row in self.rows)
        what = f"share of {n} test rows answered right" if right else f"mean score of {n} test rows"
        return f"{what}, with 95 % interval"

    def table(self) -> Table:
        """A table for the terminal: a line for each strategy, a column for each pool size.

        Returns:
            A rich table; with several seeds the mean score and the widest of their intervals.
        """
        from rich.table import Table
        from rich.text import Text

        sizes = sorted({row.size for row in self.rows})
        table = Table(title=Text(f"{self.task}: {self.measured}"))
        table.add_column("strategy")
        for size in sizes:
            table.add_column(f"pool {size}", justify="right")
        for heading in ("unreadable", "tokens in / out", "learn s", "answer s"):
            table.add_column(heading, justify="right")
        for strategy in dict.fromkeys(row.strategy for row in self.rows):
            own = [row for row in self.rows if row.strategy == strategy]
            cells = [score_text([row for row in own if row.size == size]) for size in sizes]
            sound = [row for row in own if row.error is None] or own
            last = [row for row in sound if row.size == max(row.size for row in sound)]
            table.add_row(
                Text(strategy),
                *map(Text, cells),
                "" if last[0].unreadable is None else f"{_mean(last, 'unreadable'):.0f}",
                f"{_mean(last, 'prompt_tokens'):,.0f} / {_mean(last, 'completion_tokens'):,.0f}",
                f"{_mean(last, 'fit_seconds'):.1f}",
                f"{_mean(last, 'seconds'):.1f}",
            )
        return table

    def markdown(self) -> str:
        """The same table in Markdown, scores only.

        Returns:
            Lines of Markdown.
        """
        sizes = sorted({row.size for row in self.rows})
        lines = ["| strategy | " + " | ".join(f"pool {size}" for size in sizes) + " |", "|-" * (len(sizes) + 1) + "|"]
        for strategy in dict.fromkeys(row.strategy for row in self.rows):
            own = [row for row in self.rows if row.strategy == strategy]
            cells = [score_text([row for row in own if row.size == size]) for size in sizes]
            lines.append(f"| {cell_text(strategy)} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def cell_text(text: str | None) -> str:
    """A text for a cell of a Markdown table, which it cannot break out of.

    Returns:
        One line.
    """
    return " ".join((text or "").split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _mean(rows: Sequence[Row], field: str) -> float:
    return sum(float(getattr(row, field)) for row in rows) / len(rows)


def score_text(rows: Sequence[Row]) -> str:
    """The scores of one strategy at one size in a table.

    Args:
        rows: Its rows, one for each seed.

    Returns:
        Mean and widest interval, with several seeds the worst too; a note if it failed or is not above the baseline.
    """
    if not rows:
        return ""
    if any(row.error for row in rows):
        return "failed"
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    worst = f", worst seed {min(row.score for row in rows):.3f}" if len(rows) > 1 else ""
    floor = ", not above the majority baseline" if any(row.at_floor for row in rows) else ""
    return f"{_mean(rows, 'score'):.3f} [{low:.2f}, {high:.2f}]{worst}{floor}"


def make_row(**facts: Any) -> Row:
    """A row, its score and interval worked out from ``correct`` and ``n``.

    Returns:
        The row.
    """
    low, high = wilson(facts["correct"], facts["n"])
    return Row(score=facts["correct"] / facts["n"] if facts["n"] else 0.0, low=low, high=high, **facts)


def read_cell(path: Path, key: str) -> Cell | None:
    """Read a finished cell.

    Returns:
        The cell, None where it is absent, damaged or of other settings, so that it is done again.
    """
    try:
        content = without_checksum(path.read_bytes())
        cell = Cell.model_validate_json(content or b"")
    except (OSError, ValueError):
        return None
    return cell if cell.key == key else None


def write_cell(path: Path, cell: Cell) -> None:
    """Keep a finished cell, with a checksum: it is there whole or not at all."""
    write_atomic(path, with_checksum(json.dumps(cell.model_dump(), ensure_ascii=False)))
