"""The columns of the tables that the Markdown and the HTML report share; the scores are in `score_table`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.score_table import by_strategy
from ragkit_pipelines.compare.results import Results, Row
from ragkit_pipelines.compare.statistics.break_even import LEAST_PREFIX, break_even_of
from ragkit_pipelines.compare.statistics.confusion import OTHER, Confusion
from ragkit_pipelines.compare.statistics.costs import per_thousand
from ragkit_pipelines.compare.statistics.learning_curves import extrapolate, highest_target
from ragkit_pipelines.compare.strategies.base import mean_known

MOST_UNREADABLE = 0.05  # share of unreadable completions above which the reports show a warning
MOST_CLASSES = 20  # larger confusion matrices are unreadable; the reports list the most frequent confusions instead
Lines = list[list[str]]


class ReportTable(NamedTuple):
    """A table of a report: its title, the headings of its columns, its lines, and a note on them."""

    title: str
    headings: Sequence[str]
    lines: Lines
    note: str = ""


def report_tables(results: Results, items: Items | None) -> list[ReportTable]:
    """Return the tables on costs and statistics that have a line, in the order of the reports."""
    tables = [
        ReportTable("Cost per 1,000 predictions (largest pool)", COST_HEADINGS, cost_lines(results)),
        ReportTable("Break-even", BREAK_EVEN_HEADINGS, break_even_lines(results), break_even_note(results)),
        ReportTable("Calibration", CALIBRATION_HEADINGS, calibration_lines(results)),
        ReportTable("Differences (largest pool)", DIFFERENCE_HEADINGS, difference_lines(results)),
        ReportTable("Labelled examples needed to match the best strategy", GAP_HEADINGS, gap_lines(items)),
    ]
    return [table for table in tables if table.lines]


def largest(results: Results) -> list[tuple[str, list[Row]]]:
    """Return the strategies in their order, each with the rows without an error at its largest pool, one per seed."""
    found = []
    for strategy, own in by_strategy([row for row in results.rows if row.error is None and row.n]).items():
        size = max(row.size for row in own)
        found.append((strategy, [row for row in own if row.size == size]))
    return found


# -- costs -------------------------------------------------------------------------------------------------------------


def cost_lines(results: Results) -> Lines:
    """Return the cost of 1,000 predictions and of fitting for each strategy, averaged over the seeds."""
    return [[strategy, *(column(rows) for column in _COSTS.values())] for strategy, rows in largest(results)]


def _per_thousand(field: str, digits: int = 0) -> Callable[[Sequence[Row]], str]:
    """Make a column of a field of rows, per 1,000 predictions."""

    def column(rows: Sequence[Row]) -> str:
        total = sum(getattr(row, field) for row in rows)
        return f"{1000 * total / sum(row.n for row in rows):,.{digits}f}"

    return column


def _dollars(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "unknown" if mean is None else f"{mean:,.4f}"


def _flops(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "unknown" if mean is None else f"{mean:.2g}"


_COSTS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "prompt tokens": _per_thousand("prompt_tokens"),
    "of these cached": _per_thousand("cached_tokens"),
    "completion tokens": _per_thousand("completion_tokens"),
    "predict (s)": _per_thousand("seconds", digits=1),
    "predict (US$)": lambda rows: _dollars([per_thousand(row) for row in rows]),
    "predict (FLOPs)": lambda rows: _flops([None if row.flops is None else 1000 * row.flops / row.n for row in rows]),
    "fit (s)": lambda rows: f"{sum(row.fit_seconds for row in rows) / len(rows):,.1f}",
    "fit, calls (US$)": lambda rows: _dollars([row.fit_cost for row in rows]),
    "labels (US$)": lambda rows: _dollars([row.label_cost for row in rows]),
    "fit (FLOPs)": lambda rows: _flops([row.fit_flops for row in rows]),
}
COST_HEADINGS = ("strategy", *_COSTS)


# -- break-even --------------------------------------------------------------------------------------------------------


def break_even_lines(results: Results) -> Lines:
    """Return the volumes from which each trained strategy is cheaper than the best prompted one, at the largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        The cells of a table: the trained strategy, the prompted one, and the volumes in US dollars and in FLOPs, each
        without and with a prompt cache; empty if no strategy was trained or none was prompted.
    """
    size = max((row.size for row in results.rows), default=0)
    found = [rows for _, rows in largest(results) if rows[0].size == size and rows[0].prompt_tokens]
    prompted = [rows for rows in found if not rows[0].trained_tokens]
    if not prompted:
        return []
    best = max(prompted, key=lambda rows: sum(row.score for row in rows) / len(rows))
    lines = []
    for rows in found:
        if rows[0].trained_tokens:
            each = break_even_of(rows, best, results.prices)
            volumes = (each.money, each.money_cached, each.operations, each.operations_cached)
            lines.append([each.tuned, each.prompted, *("unknown" if v is None else str(v) for v in volumes)])
    return lines


BREAK_EVEN_HEADINGS = (
    "trained strategy", "prompted strategy", "break-even (US$)", "with prompt cache", "break-even (FLOPs)",
    "with prompt cache",
)  # fmt: skip


def break_even_note(results: Results) -> str:
    """Return the assumptions behind the break-even volumes."""
    money = "No token prices were given." if results.prices is None else "Ranges cover all combinations of prices."
    priced = all(row.label_cost is not None for row in results.rows)
    labels = "Labels are included." if priced else "No label price was given, so labels are not included."
    return f"{money} {labels} Providers do not cache prefixes of fewer than {LEAST_PREFIX:,} tokens."


# -- statistics --------------------------------------------------------------------------------------------------------


def calibration_lines(results: Results) -> Lines:
    """Return the calibration of each strategy, averaged over the seeds; empty if no strategy returns a confidence."""
    lines = []
    for strategy, rows in largest(results):
        found = [row.calibration for row in rows if row.calibration is not None]
        if len(found) < len(rows):
            lines.append([strategy, "unknown", "unknown"])
            continue
        line = [strategy]
        for name in ("error", "brier"):
            mean, low, high = ([getattr(each, name + end) for each in found] for end in ("", "_low", "_high"))
            line.append(f"{fmean(mean):.3f} [{min(low):.3f}, {max(high):.3f}]")
        lines.append(line)
    return lines if any(line[1] != "unknown" for line in lines) else []


CALIBRATION_HEADINGS = ("strategy", "expected calibration error, 95 % interval", "Brier score, 95 % interval")


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
            f"{each.detectable:.3f}",
        ]
        for each in results.differences
        if each.size == size
    ]


DIFFERENCE_HEADINGS = ("a", "b", "a - b, 95 % interval", "seeds", "p (uncorrected)", "minimum detectable difference")


def gap_lines(items: Items | None) -> Lines:
    """Return how many labelled examples each strategy needs to match the best score at the largest pool.

    Empty if no strategy has a learning curve.
    """
    by_size = items.scores() if items else {}
    size = max((size for _, size in by_size), default=0)
    means = {name: fmean(map(fmean, seeds.values())) for (name, found), seeds in by_size.items() if found == size}
    if items is None or len(means) < 2:
        return []
    best = max(means, key=means.__getitem__)
    target = highest_target(means[best], items)
    lines = []
    for name, score in means.items():
        try:
            if name != best and score < target:
                needed = extrapolate(items.curve(name), target, draws=500)
                lines.append([name, f"{score:.3f}", f"{target:.3f} ({best})", str(needed).partition(" for a score")[0]])
        except InvalidInputError:  # too few sizes, or not the same seeds at all of them
            continue
    return lines


GAP_HEADINGS = ("strategy", "score", "target", "labelled examples needed, 95 % interval")


# -- classes -----------------------------------------------------------------------------------------------------------


def recall_table(found: Sequence[Confusion]) -> ReportTable:
    """Return the recall of each class for each strategy."""
    lines = [
        [name, str(found[0].rows[index]), *(f"{each.recall[index]:.3f}" for each in found)]
        for index, name in enumerate(found[0].classes)
    ]
    return ReportTable("Recall by class", ("class", "rows", *(each.strategy for each in found)), lines)


def class_lines(found: Confusion) -> Lines:
    """Return the rows, precision, recall and F1 of each class for one strategy."""
    columns = zip(found.classes, found.rows, found.precision, found.recall, found.f1, strict=True)
    return [[name, str(rows), *(f"{share:.3f}" for share in shares)] for name, rows, *shares in columns]


CLASS_HEADINGS = ("class", "rows", "precision", "recall", "F1")


def matrix_lines(found: Confusion) -> Lines:
    """Return the confusion matrix of one strategy; empty if there are more than 20 classes."""
    if len(found.classes) > MOST_CLASSES:
        return []
    return [[name, *map(str, counts)] for name, counts in zip(found.classes, found.counts.tolist(), strict=True)]


def matrix_headings(found: Confusion) -> list[str]:
    """Return the headings of a confusion matrix."""
    return ["class", *found.classes, OTHER]


def confusion_lines(found: Confusion) -> Lines:
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
    """Return a warning for each strategy many of whose completions could not be read, which lowers its score."""
    lines = []
    for strategy, rows in largest(results):
        unreadable, total = sum(row.unreadable or 0 for row in rows), sum(row.n for row in rows)
        if unreadable > MOST_UNREADABLE * total:
            lines.append(
                f"{strategy}: {unreadable} of {total} completions ({unreadable / total:.1%}) did not contain an answer "
                "of the expected form and count as wrong, so the score says little about the strategy"
            )
    return lines
