"""The columns of the tables that the Markdown and the HTML report share; the scores are in `score_table`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from ragkit.errors import InvalidInputError
from ragkit.metrics import SetMetric
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.cost_tables import (
    BREAK_EVEN_HEADINGS,
    COST_HEADINGS,
    Lines,
    break_even_lines,
    break_even_note,
    cost_lines,
    trained_and_prompted,
)
from ragkit_pipelines.compare.reports.score_table import largest
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.statistics.best_tests import points
from ragkit_pipelines.compare.statistics.confusion import OTHER, Confusion
from ragkit_pipelines.compare.statistics.crossovers import Crossover, crossover
from ragkit_pipelines.compare.statistics.item_scores import item_scores
from ragkit_pipelines.compare.statistics.learning_curves import (
    Extrapolation,
    extrapolate,
    extrapolate_runs,
    highest_target,
)
from ragkit_pipelines.compare.statistics.set_metrics import stored_metric

MOST_UNREADABLE = 0.05  # share of unreadable completions above which the reports show a warning
MOST_CLASSES = 20  # larger confusion matrices are unreadable; the reports list the most frequent confusions instead
UNKNOWN = "–"
_EMPTY = {None, "0", "0.0000", "none"}  # a column with nothing else says nothing


class ReportTable(NamedTuple):
    """A table of a report: its title, the headings of its columns, its lines, and a note on them."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""


def report_tables(results: Results, items: Items | None) -> list[ReportTable]:
    """Return the tables on costs and statistics that have a line, in the order of the reports."""
    break_even = [line for line in break_even_lines(results) if any(line[2:])]  # at least one volume is known
    tables = [
        known_table("Cost per 1,000 predictions (largest pool)", COST_HEADINGS, cost_lines(results)),
        known_table("Break-even", BREAK_EVEN_HEADINGS, break_even, break_even_note(results)),
        known_table("Calibration", CALIBRATION_HEADINGS, calibration_lines(results), calibration_note(results)),
        known_table(
            "Differences between all strategies (largest pool)", difference_headings(results), difference_lines(results)
        ),
        known_table(
            "Labelled examples needed to match the best strategy", GAP_HEADINGS, gap_lines(items, results.metric)
        ),
        known_table(CROSSOVER_TITLE, CROSSOVER_HEADINGS, crossover_lines(results, items), CROSSOVER_NOTE),
    ]
    found = [table for table in tables if table.lines]
    first = next((index for index, table in enumerate(found) if any(UNKNOWN in line for line in table.lines)), None)
    if first is not None:
        note = f"{found[first].note} {UNKNOWN} means that a value is unknown.".strip()
        found[first] = found[first]._replace(note=note)
    return found


def known_table(title: str, headings: Sequence[str], lines: Lines, note: str = "") -> ReportTable:
    """Make a table without the columns that have no known value; other unknown values are shown as a dash."""
    columns = [index for index in range(len(headings)) if index == 0 or not {line[index] for line in lines} <= _EMPTY]
    known = [[UNKNOWN if (cell := line[index]) is None else cell for index in columns] for line in lines]
    return ReportTable(title, [headings[index] for index in columns], known, note)


# -- statistics --------------------------------------------------------------------------------------------------------


def calibration_lines(results: Results) -> Lines:
    """Return the calibration of each strategy, averaged over the seeds; empty if no strategy returns a confidence."""
    lines: Lines = []
    for strategy, rows in largest(results):
        found = [row.calibration for row in rows if row.calibration is not None]
        if len(found) < len(rows):
            lines.append([strategy, None, None, None])
            continue
        line: list[str | None] = [strategy]
        for name in ("error", "brier"):
            mean, low, high = ([getattr(each, name + end) for each in found] for end in ("", "_low", "_high"))
            line.append(f"{fmean(mean):.3f} [{min(low):.3f}, {max(high):.3f}]")
        line.append(rows[0].confidence_kind or None)
        lines.append(line)
    return lines if any(line[1] for line in lines) else []


CALIBRATION_HEADINGS = (
    "strategy", "expected calibration error, 95 % interval", "Brier score, 95 % interval", "confidence is",
)  # fmt: skip
_SAMPLES = "With --samples 5, the confidence of zero-shot and few-shot is the share of the samples that agree."


def calibration_note(results: Results) -> str:
    """Return how the strategies that prompt a model get a confidence, if one of them has none."""
    prompting = [row for row in results.rows if row.strategy.startswith(("zero-shot", "few-shot")) and not row.error]
    return _SAMPLES if any(row.calibration is None for row in prompting) else ""


def difference_lines(results: Results) -> Lines:
    """Return the differences between all strategies at the largest pool."""
    size = max((each.size for each in results.differences), default=0)
    return [
        [
            each.a,
            each.b,
            f"{each.estimate:+.3f} [{each.low:+.3f}, {each.high:+.3f}]",
            str(each.seeds),
            f"{each.p:.2g}",
            None if each.p_equivalent is None else f"{each.p_equivalent:.2g}",
        ]
        for each in results.differences
        if each.size == size
    ]


def difference_headings(results: Results) -> Sequence[str]:
    """Return the headings of the table of differences."""
    equivalence = f"p of equivalence within {points(results.recommendation.margin)} (uncorrected)"
    return ("a", "b", "a - b, 95 % interval", "seeds", "p (uncorrected)", equivalence)


def gap_lines(items: Items | None, metric: str = "") -> Lines:
    """Return how many labelled examples each strategy needs to match the best score at the largest pool.

    Empty if no strategy has a learning curve. ``metric`` is the name of the set-level metric, or empty.
    """
    if items is None or not items.answers:
        return []
    size = max(each.size for each in items.answers)
    names = list(dict.fromkeys(each.strategy for each in items.answers if each.size == size))
    if len(names) < 2:
        return []
    lines: Lines = []
    try:
        judge = stored_metric(metric)
    except InvalidInputError:  # not registered, so its scores cannot be recomputed
        return []
    means = {name: float(item_scores(items, [(name, size)], judge).by_seed.mean()) for name in names}
    best = max(means, key=means.__getitem__)
    target = highest_target(means[best], items)
    for name, score in means.items():
        try:
            if name != best and score < target:
                needed = _extrapolated(items, name, target, judge)
                lines.append([name, f"{score:.3f}", f"{target:.3f} ({best})", str(needed).partition(" for a score")[0]])
        except InvalidInputError:  # too few sizes, or not the same seeds at all of them
            continue
    return lines


def _extrapolated(items: Items, name: str, target: float, metric: SetMetric | None) -> Extrapolation:
    curve = items.curve(name)
    if metric is None or len({frozenset(seeds) for seeds in curve.values()}) > 1:
        return extrapolate(curve, target, draws=500)
    runs = item_scores(items, [(name, size) for size in sorted(curve)], metric)
    return extrapolate_runs(sorted(curve), runs, target, draws=500)


GAP_HEADINGS = ("strategy", "score", "target", "labelled examples needed, 95 % interval")


def crossovers(results: Results, items: Items | None) -> list[Crossover]:
    """Return the pool size at which each trained strategy overtakes the best in-context one at the largest pool."""
    if items is None:
        return []
    trained, prompted = trained_and_prompted(results)
    found = []
    for name in trained if prompted else []:
        try:
            found.append(crossover(items, name, prompted[0], metric=stored_metric(results.metric)))
        except InvalidInputError:  # fewer than two sizes, or a metric that is not registered
            continue
    return found


def crossover_lines(results: Results, items: Items | None) -> Lines:
    """Return the pool sizes at which training overtakes in-context examples, with their intervals."""
    return [[each.strategy, each.other, str(each).replace(" examples ", " ")] for each in crossovers(results, items)]


CROSSOVER_TITLE = "Pool size at which training overtakes in-context examples"
CROSSOVER_HEADINGS = ("trained strategy", "in-context strategy", "labelled examples, 95 % interval")
CROSSOVER_NOTE = (
    "The curves are interpolated between the pool sizes that were run; the best in-context strategy at the largest "
    "pool counts. The interval covers items and seeds."
)


# -- classes -----------------------------------------------------------------------------------------------------------


def recall_table(found: Sequence[Confusion]) -> ReportTable:
    """Return the recall of each class for each strategy."""
    lines = [
        [name, str(found[0].rows[index]), *(f"{each.recall[index]:.3f}" for each in found)]
        for index, name in enumerate(found[0].classes)
    ]
    return ReportTable("Recall by class", ("class", "rows", *(each.strategy for each in found)), lines)


def class_lines(found: Confusion) -> list[list[str]]:
    """Return the rows, precision, recall and F1 of each class for one strategy."""
    columns = zip(found.classes, found.rows, found.precision, found.recall, found.f1, strict=True)
    return [[name, str(rows), *(f"{share:.3f}" for share in shares)] for name, rows, *shares in columns]


CLASS_HEADINGS = ("class", "rows", "precision", "recall", "F1")


def matrix_lines(found: Confusion) -> list[list[str]]:
    """Return the confusion matrix of one strategy; empty if there are more than 20 classes."""
    if len(found.classes) > MOST_CLASSES:
        return []
    return [[name, *map(str, counts)] for name, counts in zip(found.classes, found.counts.tolist(), strict=True)]


def matrix_headings(found: Confusion) -> list[str]:
    """Return the headings of a confusion matrix."""
    return ["class", *found.classes, OTHER]


def confusion_lines(found: Confusion) -> list[list[str]]:
    """Return the most frequent confusions of one strategy."""
    return [[name, answer, str(count)] for name, answer, count in found.worst()]


CONFUSION_HEADINGS = ("class", "answer", "rows")


# -- sentences ---------------------------------------------------------------------------------------------------------


def verdict(results: Results) -> str:
    """Return the recommendation in words."""
    chosen = results.recommendation
    return f"Recommendation: {chosen.strategy or 'none'}. {chosen.evidence}."


def data_lines(results: Results) -> list[str]:
    """Return the problems found in the data, and the rows that were removed; empty if the checks were off."""
    if results.data is None:
        return []
    removed = [f"removed rows ({kind}): {count}" for kind, count in results.data.removed.items()]
    return [*results.data.findings, *removed]


def warning_lines(results: Results) -> list[str]:
    """Return warnings about records that the tracker lost, and about strategies with many unreadable completions."""
    lines = []
    if lost := results.lost_records:
        lines.append(f"{len(lost)} records could not be logged to the tracker, such as {lost[0]}")
    for strategy, rows in largest(results):
        unreadable, total = sum(row.unreadable or 0 for row in rows), sum(row.n for row in rows)
        if unreadable > MOST_UNREADABLE * total:
            lines.append(
                f"{strategy}: {unreadable} of {total} completions ({unreadable / total:.1%}) did not contain an answer "
                "of the expected form and count as wrong, so the score says little about the strategy"
            )
    return lines
