"""Statistical tests for published results."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist

from ragkit.errors import DataFileError, InvalidInputError
from ragkit_pipelines.compare.statistics.tests import Z95, mcnemar_counts, minimum_detectable, wilson

_COLUMNS = ("task", "strategy", "size", "n", "score")


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A published mean score.

    Attributes:
        task: Name of the task.
        strategy: Name of the strategy.
        size: Number of in-context or training examples.
        n: Number of test items.
        score: Mean score, 0 to 1.
    """

    task: str
    strategy: str
    size: int
    n: int
    score: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of testing a published difference.

    Attributes:
        paired: Whether results on the same items were compared.
        difference: Score of the first minus that of the second.
        low: Lower bound of the 95 % interval.
        high: Upper bound.
        p: Two-sided p-value.
        detectable: Minimum detectable difference, with a power of 80 %.
    """

    paired: bool
    difference: float
    low: float
    high: float
    p: float
    detectable: float

    def __str__(self) -> str:
        how = "paired" if self.paired else "unpaired"
        interval = f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        if self.p >= 0.05:
            return f"{how}, no significant difference ({interval})"
        return f"{how}, significant difference ({interval}, p {self.p:.2g})"


def read_published(path: str | Path) -> list[PublishedResult]:
    """Read a table of published results.

    Args:
        path: CSV with the columns task, strategy, size, n and score (0 to 1); others are ignored.

    Returns:
        One entry per line, in order.

    Raises:
        DataFileError: If the file cannot be read, a column is missing or a value is not valid.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise DataFileError(
                    path, 1, f"expected the columns {', '.join(_COLUMNS)}; missing: {', '.join(absent)}"
                )
            return [_read(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(path, 0, f"expected a CSV file of results: {error}") from error


def _read(path: Path, line: int, row: dict[str, str]) -> PublishedResult:
    try:
        result = PublishedResult(row["task"], row["strategy"], int(row["size"]), int(row["n"]), float(row["score"]))
    except (TypeError, ValueError) as error:
        raise DataFileError(path, line, f"`size` and `n` must be integers, and `score` a number: {error}") from error
    if result.n < 1 or not 0 <= result.score <= 1:
        raise DataFileError(path, line, f"expected n >= 1 and a score from 0 to 1, got {result.n} and {result.score}")
    return result


def judge_means(a: PublishedResult, b: PublishedResult) -> Verdict:
    """Compare two means without results per item (Newcombe's hybrid score interval, 1998, method 10).

    A paired test would be more powerful, but needs the results per item. Means over several seeds are treated as one
    run of ``n`` items.

    Args:
        a: The first.
        b: The second, of the same task.

    Returns:
        The verdict.

    Raises:
        InvalidInputError: If the tasks differ.
    """
    if a.task != b.task:
        raise InvalidInputError(f"expected results of the same task, got different tasks: {a.task!r} and {b.task!r}")
    low_a, high_a = wilson(a.score * a.n, a.n)
    low_b, high_b = wilson(b.score * b.n, b.n)
    gap = a.score - b.score
    pooled = (a.score * a.n + b.score * b.n) / (a.n + b.n)
    error = sqrt(pooled * (1 - pooled) * (1 / a.n + 1 / b.n))
    return Verdict(
        paired=False,
        difference=gap,
        low=gap - sqrt((a.score - low_a) ** 2 + (high_b - b.score) ** 2),
        high=gap + sqrt((high_a - a.score) ** 2 + (b.score - low_b) ** 2),
        p=_two_sided(gap / error) if error else 1.0,
        detectable=minimum_detectable(error),
    )


def judge_wins(wins: int, losses: int, n: int) -> Verdict:
    """Compare two strategies by the items that only one of them has right (exact McNemar test).

    Args:
        wins: Number of items that only the first has right.
        losses: Number of items that only the second has right.
        n: Number of all items, including those that both or neither have right.

    Returns:
        The verdict; its interval is that of Agresti and Min (2005).

    Raises:
        InvalidInputError: If a count is negative or the counts exceed ``n``.
    """
    if min(wins, losses) < 0 or not 0 < n >= wins + losses:
        raise InvalidInputError(f"expected 0 <= wins + losses <= n, got wins {wins}, losses {losses} and n {n}")
    shifted, items = wins - losses, n + 2
    error = sqrt(wins + losses + 1 - shifted**2 / items) / items
    return Verdict(
        paired=True,
        difference=shifted / n,
        low=max(-1.0, shifted / items - Z95 * error),
        high=min(1.0, shifted / items + Z95 * error),
        p=mcnemar_counts(wins, losses),
        detectable=minimum_detectable(error),
    )


def _two_sided(z: float) -> float:
    return 2 * NormalDist().cdf(-abs(z))
