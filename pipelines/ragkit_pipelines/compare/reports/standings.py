"""How each strategy compares with the best one: differences, corrected p-values and verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ragkit_pipelines.compare.reports.cost_tables import Lines
from ragkit_pipelines.compare.reports.score_table import at_floor_text, largest, model_of
from ragkit_pipelines.compare.reports.tables import ReportTable, known_table
from ragkit_pipelines.compare.results import Difference, Results, Row
from ragkit_pipelines.compare.statistics.best_tests import points

if TYPE_CHECKING:
    from rich.table import Table

WORSE = "significantly worse"
LEVEL = 0.05  # of the corrected tests, as in `recommend`
_END = re.compile(r"; (?![^()]*\))")  # the end of a part of the evidence, outside parentheses


@dataclass(frozen=True, slots=True)
class Standing:
    """A strategy at the largest pool, in comparison with the best one.

    Attributes:
        strategy: Its name.
        model: The language model that it called or trained; "none" if it did neither.
        score: Mean score of the seeds; ``low`` and ``high`` are the bounds of the widest interval.
        remarks: Remarks on the score, such as the worst seed.
        difference: Its score minus that of the best strategy in points, with an interval; None for the best one.
        p: Holm-corrected p-value of the test against the best strategy, or None.
        equivalence: Holm-corrected p-value of its equivalence with the best strategy within the margin, or None.
        verdict: What the test shows, in words; None if there was none.
        recommended: Whether it is the recommended strategy.
    """

    strategy: str
    model: str
    score: float
    low: float
    high: float
    remarks: Sequence[str]
    difference: str | None
    p: str | None
    equivalence: str | None
    verdict: str | None
    recommended: bool


def standings(results: Results) -> list[Standing]:
    """Return the strategies that finished at the largest pool, the best first."""
    found = largest(results)
    size = max((rows[0].size for _, rows in found), default=0)
    at_largest = [(name, rows) for name, rows in found if rows[0].size == size]
    return sorted((_standing(results, name, rows) for name, rows in at_largest), key=lambda each: -each.score)


def _standing(results: Results, name: str, rows: Sequence[Row]) -> Standing:
    chosen, score = results.recommendation, fmean(row.score for row in rows)
    against = None if name == chosen.best else _against_best(results, name, rows[0].size)
    p, equivalence = chosen.corrected.get(name), chosen.equivalence.get(name)
    return Standing(
        strategy=name,
        model=model_of(rows),
        score=score,
        low=min(score, *(row.low for row in rows)),  # a bound may pass the score by rounding
        high=max(score, *(row.high for row in rows)),
        remarks=remarks(rows),
        difference=None if against is None else _points(against, name),
        p=None if p is None else p_text(p),
        equivalence=None if equivalence is None else p_text(equivalence),
        verdict="best score" if name == chosen.best else _verdict(p, equivalence, chosen.margin),
        recommended=name == chosen.strategy,
    )


def _verdict(p: float | None, equivalence: float | None, margin: float) -> str | None:
    """Say what both tests show: a difference, equivalence, both (a small difference), or neither."""
    equivalent = equivalence is not None and equivalence < LEVEL
    if p is None:
        return None
    if p < LEVEL:
        return WORSE + (f", by less than {points(margin)}" if equivalent else "")
    return f"equivalent within {points(margin)}" if equivalent else "no significant difference"


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return the worst seed, unless all seeds have the same score, and whether the baseline was not exceeded."""
    scores = [row.score for row in rows]
    worst = [f"worst seed {min(scores):.3f}"] if max(scores) > min(scores) else []
    return [*worst, *filter(None, [at_floor_text(rows)])]


def _against_best(results: Results, name: str, size: int) -> Difference | None:
    pair = {name, results.recommendation.best}
    return next((each for each in results.differences if each.size == size and {each.a, each.b} == pair), None)


def _points(found: Difference, name: str) -> str:
    """Format a difference in points, from the side of the strategy that is not the best."""
    values = (found.estimate, found.low, found.high)
    if found.a != name:
        values = (-found.estimate, -found.high, -found.low)
    estimate, low, high = (_signed(100 * value) for value in values)
    return f"{estimate} [{low}, {high}]"


def _signed(points: float) -> str:
    text = f"{points:+.1f}".replace("-", "−")
    return "0.0" if text in {"+0.0", "−0.0"} else text


def p_text(p: float) -> str:
    """Format a p-value with two digits, or with more where they would hide on which side of the level it is."""
    if p < 1e-4:
        return "≤ 0.0001"
    text = f"{p:.2g}"
    return text if (float(text) < LEVEL) == (p < LEVEL) else f"{p:.4f}"


def standings_table(results: Results) -> ReportTable | None:
    """Return the comparison with the best strategy as a table; None if there is nothing to compare."""
    found = standings(results)
    if len(found) < 2:
        return None
    lines: Lines = [
        [
            each.strategy + (" (recommended)" if each.recommended else ""), each.model, f"{each.score:.3f}",
            each.difference or "", each.p or "", each.equivalence, each.verdict,
        ]
        for each in found
    ]  # fmt: skip
    return known_table("Comparison with the best strategy (largest pool)", STANDING_HEADINGS, lines, test_note(results))


STANDING_HEADINGS = (
    "strategy", "model", "score", "difference in points, 95 % interval", "Holm-corrected p", "p of equivalence",
    "verdict",
)  # fmt: skip


def judged_table(results: Results, title: str) -> Table:
    """Return the same comparison for the terminal, with the intervals of the scores, without models."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title))
    for heading in ("run", "score, 95 % interval", *STANDING_HEADINGS[3:]):
        table.add_column(heading)
    for each in standings(results):
        score = ", ".join([f"{each.score:.3f} [{each.low:.2f}, {each.high:.2f}]", *each.remarks])
        table.add_row(
            *map(
                Text,
                (each.strategy, score, each.difference or "", each.p or "", each.equivalence or "", each.verdict or ""),
            )
        )
    return table


def test_note(results: Results) -> str:
    """Name the tests behind the p-values."""
    chosen = results.recommendation
    if not chosen.corrected:
        return ""
    count = len(chosen.corrected)
    said = f"The test is the {chosen.test}" + (f", corrected for {count} comparisons (Holm)." if count > 1 else ".")
    if chosen.equivalence:
        said += (
            f" Equivalence within {points(chosen.margin)} is tested by two one-sided tests with the paired bootstrap"
            + (" and the same correction." if count > 1 else ".")
        )
    return said


def detectable_note(results: Results) -> str:
    """Explain the minimum detectable difference; empty if it is unknown."""
    chosen = results.recommendation
    if chosen.detectable is None:
        return ""
    n = max((row.n for row in results.rows), default=0)
    single = " in a single test" if len(chosen.corrected) > 1 else ""
    return (
        f"Minimum detectable difference: {100 * chosen.detectable:.1f} points{single}. With {n:,} test rows, a smaller "
        "true difference would probably not be significant, so “no significant difference” does not mean that two "
        "strategies are equally good."
    )


def evidence_parts(results: Results) -> list[str]:
    """Return the evidence as sentences, without the minimum detectable difference, which has a place of its own."""
    parts = _END.split(results.recommendation.evidence)
    if results.recommendation.detectable is not None:
        parts = [part for part in parts if not part.startswith("minimum detectable difference: ")]
    names = {row.strategy for row in results.rows}
    return [f"{_capital(part, names)}." for part in parts]


def _capital(part: str, names: set[str]) -> str:
    """Begin a sentence with a capital letter, unless it begins with the name of a strategy."""
    return part if any(part.startswith(name) for name in names) else part[:1].upper() + part[1:]
