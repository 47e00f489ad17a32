"""What a comparison found: rows, paired tests, a recommendation; as JSON and as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ragkit_pipelines.compare.statistics import holm, mcnemar, wilson

if TYPE_CHECKING:
    from rich.table import Table


class Row(BaseModel):
    """One strategy at one pool size and seed.

    Attributes:
        n: Test rows.
        correct: Sum of the scores; the number of right answers under an all-or-nothing metric.
        score: ``correct / n``, with Wilson's 95 % interval from ``low`` to ``high``.
        seconds: Time spent on answering all rows; ``fit_seconds`` the time spent on learning.
        cost: US dollars, None where unknown.
        error: Why the strategy gave no answers, else None.
        fit_tokens: Tokens of learning: trained on, and read and written to try settings.
        fit_cost: US dollars for calls that learning made, None where unknown.
        trials: Settings that were tried on held-out examples.
        note: What the strategy chose or found on the way.
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
    fit_tokens: int = 0
    fit_cost: float | None = None
    trials: int = 0
    note: str = ""


class Cell(BaseModel):
    """A row with what stands behind it, item by item; the unit in which a comparison is resumed."""

    model_config = ConfigDict(extra="forbid")

    key: str
    row: Row
    answers: list[str]
    scores: list[float]


class Pair(BaseModel):
    """Exact McNemar test of two strategies on the same rows, within one size and seed."""

    a: str
    b: str
    size: int
    seed: int
    only_a: int
    only_b: int
    p: float


class Recommendation(BaseModel):
    """The strategy to use, or None where the data show no difference, and what that rests on."""

    strategy: str | None
    evidence: str


class Results(BaseModel):
    """All of it, as `results.json` holds it."""

    task: str
    leaked_test_rows: int
    rows: list[Row]
    pairs: list[Pair]
    recommendation: Recommendation

    def table(self) -> Table:
        """A table for the terminal: a line for each strategy, a column for each pool size.

        Returns:
            A rich table; with several seeds the mean score and the widest of their intervals.
        """
        from rich.table import Table

        sizes = sorted({row.size for row in self.rows})
        n = max((row.n for row in self.rows), default=0)
        table = Table(title=f"{self.task}: share of {n} test rows answered right, with 95 % interval")
        table.add_column("strategy")
        for size in sizes:
            table.add_column(f"pool {size}", justify="right")
        for heading in ("tokens in / out", "learn s", "answer s"):
            table.add_column(heading, justify="right")
        for strategy in dict.fromkeys(row.strategy for row in self.rows):
            own = [row for row in self.rows if row.strategy == strategy]
            cells = [_score_text([row for row in own if row.size == size]) for size in sizes]
            last = [row for row in own if row.size == max(row.size for row in own)]
            table.add_row(
                strategy,
                *cells,
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
            cells = [_score_text([row for row in own if row.size == size]) for size in sizes]
            lines.append(f"| {strategy} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def _mean(rows: Sequence[Row], field: str) -> float:
    return sum(float(getattr(row, field)) for row in rows) / len(rows)


def _score_text(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    failed = [row.error for row in rows if row.error]
    if failed:
        return "failed"
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    return f"{_mean(rows, 'score'):.3f} [{low:.2f}, {high:.2f}]"


def make_row(**facts: Any) -> Row:
    """A row, its score and interval worked out from ``correct`` and ``n``.

    Returns:
        The row.
    """
    low, high = wilson(facts["correct"], facts["n"])
    return Row(score=facts["correct"] / facts["n"] if facts["n"] else 0.0, low=low, high=high, **facts)


def summarise(task: str, leaked: int, cells: Sequence[Cell]) -> Results:
    """Put cells together: rows, tests between strategies, and a recommendation.

    Returns:
        The results.
    """
    groups: dict[tuple[int, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.row.error is None:
            groups[cell.row.size, cell.row.seed].append(cell)
    pairs = []
    for (size, seed), group in groups.items():
        for a, b in combinations(group, 2):
            only_a, only_b, p = mcnemar(a.scores, b.scores)
            pairs.append(
                Pair(a=a.row.strategy, b=b.row.strategy, size=size, seed=seed, only_a=only_a, only_b=only_b, p=p)
            )
    rows = [cell.row for cell in cells]
    return Results(task=task, leaked_test_rows=leaked, rows=rows, pairs=pairs, recommendation=recommend(rows, pairs))


def recommend(rows: Sequence[Row], pairs: Sequence[Pair], *, level: float = 0.05) -> Recommendation:
    """Name the best strategy at the largest pool, if it beats every other one in every seed.

    Tests of one seed are never pooled with those of another: for each rival the weakest of the seeds counts, then
    Holm's correction over the rivals.

    Returns:
        The recommendation with its evidence.
    """
    sound = [row for row in rows if row.error is None]
    if not sound:
        return Recommendation(strategy=None, evidence="no strategy finished")
    size = max(row.size for row in sound)
    by_strategy: dict[str, list[Row]] = defaultdict(list)
    for row in sound:
        if row.size == size:
            by_strategy[row.strategy].append(row)
    best = max(by_strategy, key=lambda name: _mean(by_strategy[name], "score"))
    rivals = [name for name in by_strategy if name != best]
    own = by_strategy[best]
    said = f"{best} answered {_mean(own, 'score'):.1%} of {own[0].n} test rows right from a pool of {size}"
    if not rivals:
        return Recommendation(strategy=None, evidence=f"{said}; nothing was compared with it")
    worst_p = [
        max((p.p for p in pairs if p.size == size and {p.a, p.b} == {best, rival}), default=1.0) for rival in rivals
    ]
    adjusted = dict(zip(rivals, holm(worst_p), strict=True))
    equal = [name for name in rivals if adjusted[name] >= level]
    if equal:
        return Recommendation(
            strategy=None,
            evidence=f"{said}; no difference shown to {', '.join(equal)} (exact McNemar, Holm-corrected p >= {level})",
        )
    return Recommendation(
        strategy=best,
        evidence=(
            f"{said}, more than each of {len(rivals)} others "
            f"(exact McNemar, Holm-corrected p <= {max(adjusted.values()):.2g})"
        ),
    )


def read_cell(path: Path, key: str) -> Cell | None:
    """Read a finished cell.

    Returns:
        The cell, None where it is absent, damaged or of other settings, so that it is done again.
    """
    try:
        cell = Cell.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cell if cell.key == key else None
