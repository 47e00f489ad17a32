"""The tables of costs and of break-even volumes. A cell is None if its value is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ragkit_pipelines.compare.reports.score_table import largest, model_of
from ragkit_pipelines.compare.results import Results, Row
from ragkit_pipelines.compare.statistics.break_even import LEAST_PREFIX, break_even_of
from ragkit_pipelines.compare.statistics.costs import per_thousand
from ragkit_pipelines.compare.strategies.base import mean_known

Lines = list[list[str | None]]


def cost_lines(results: Results) -> Lines:
    """Return the cost of 1,000 predictions and of fitting for each strategy, averaged over the seeds."""
    return [[strategy, *(column(rows) for column in _COSTS.values())] for strategy, rows in largest(results)]


def _per_thousand(field: str, digits: int = 0) -> Callable[[Sequence[Row]], str]:
    """Make a column of a field of rows, per 1,000 predictions."""

    def column(rows: Sequence[Row]) -> str:
        total = sum(getattr(row, field) for row in rows)
        return f"{1000 * total / sum(row.n for row in rows):,.{digits}f}"

    return column


def _dollars(values: Sequence[float | None]) -> str | None:
    mean = mean_known(values)
    return None if mean is None else f"{mean:,.4f}"


def _flops(values: Sequence[float | None]) -> str | None:
    mean = mean_known(values)
    return None if mean is None else f"{mean:.2g}"


_COSTS: Mapping[str, Callable[[Sequence[Row]], str | None]] = {
    "model": model_of,
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


def break_even_lines(results: Results) -> Lines:
    """Return the volumes from which each trained strategy is cheaper than the best prompted one, at the largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        The cells of a table: the trained strategy, the prompted one, and the volumes in US dollars and in FLOPs, each
        without and with a prompt cache, each None if it is unknown; empty if no strategy was trained or none was
        prompted.
    """
    size = max((row.size for row in results.rows), default=0)
    found = [rows for _, rows in largest(results) if rows[0].size == size and rows[0].prompt_tokens]
    prompted = [rows for rows in found if not rows[0].trained_tokens]
    if not prompted:
        return []
    best = max(prompted, key=lambda rows: sum(row.score for row in rows) / len(rows))
    lines: Lines = []
    for rows in found:
        if rows[0].trained_tokens:
            each = break_even_of(rows, best, results.prices)
            volumes = (each.money, each.money_cached, each.operations, each.operations_cached)
            lines.append([each.tuned, each.prompted, *(None if v is None else str(v) for v in volumes)])
    return lines


def trained_and_prompted(results: Results) -> tuple[list[str], list[str]]:
    """Return the strategies that train, and those that prompt an untrained model with examples, the best first.

    Training counts if a model was trained on the examples, by ragkit or by a classifier on top of features. Only
    strategies that finished at the largest pool are included.
    """
    size = max((row.size for row in results.rows), default=0)
    found = [(name, rows) for name, rows in largest(results) if rows[0].size == size]
    found.sort(key=lambda each: -sum(row.score for row in each[1]) / len(each[1]))
    trained = [name for name, rows in found if rows[0].trained_tokens or name.partition(":")[0] in _CLASSIFIERS]
    prompted = [name for name, rows in found if rows[0].prompt_tokens and rows[0].labels and name not in trained]
    return trained, prompted


_CLASSIFIERS = {"tfidf", "classifier-head", "setfit"}

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
