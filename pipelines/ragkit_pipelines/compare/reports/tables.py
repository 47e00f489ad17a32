"""The columns of the tables that the Markdown and the HTML report share; the scores are in `score_table`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from ragkit.errors import InvalidInputError
from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.cost_tables import (
    BREAK_EVEN_HEADINGS,
    COST_HEADINGS,
    Lines,
    break_even_lines,
    break_even_note,
    cost_lines,
)
from ragkit_pipelines.compare.reports.score_table import largest
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.statistics.confusion import OTHER, Confusion
from ragkit_pipelines.compare.statistics.learning_curves import extrapolate, highest_target

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
            "Differences between all strategies (largest pool)", DIFFERENCE_HEADINGS, difference_lines(results)
        ),
        known_table("Labelled examples needed to match the best strategy", GAP_HEADINGS, gap_lines(items)),
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
        ]
        for each in results.differences
        if each.size == size
    ]


DIFFERENCE_HEADINGS = ("a", "b", "a - b, 95 % interval", "seeds", "p (uncorrected)")


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
    lines: Lines = []
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
