"""The table of scores, for all reports: one row per strategy and one column per pool size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from ragkit_pipelines.compare.results import Results, Row


def score_headings(rows: Sequence[Row]) -> list[str]:
    """Return the headings of the table."""
    return ["strategy", *(f"pool {size}" for size in _sizes(rows))]


def score_lines(rows: Sequence[Row]) -> list[list[str]]:
    """Return the lines of the table: the name and the scores of each strategy."""
    sizes = _sizes(rows)
    return [
        [strategy, *(score_text([row for row in own if row.size == size]) for size in sizes)]
        for strategy, own in by_strategy(rows).items()
    ]


def score_text(rows: Sequence[Row]) -> str:
    """Format the scores of one strategy at one size, from its rows, one per seed.

    Returns:
        The mean and the widest interval; with several seeds, the worst seed too.
    """
    if not rows:
        return ""
    if any(row.error for row in rows):
        return "failed"
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    worst = f", worst seed {min(row.score for row in rows):.3f}" if len(rows) > 1 else ""
    floor = f", {said}" if (said := at_floor_text(rows)) else ""
    return f"{_mean(rows, 'score'):.3f} [{low:.2f}, {high:.2f}]{worst}{floor}"


def at_floor_text(rows: Sequence[Row]) -> str:
    """Say in how many seeds a strategy is not shown to be better than the majority baseline; empty if in none."""
    at_floor = sum(row.at_floor for row in rows)
    if not at_floor:
        return ""
    return "not above the baseline" + (f" in {at_floor} of {len(rows)} seeds" if at_floor < len(rows) else "")


def summary_headings(results: Results) -> list[str]:
    """Return the headings of the table with usage."""
    return [*score_headings(results.rows), "unreadable", "tokens in / out", "fit (s)", "predict (s)"]


def summary_lines(results: Results) -> list[list[str]]:
    """Return the lines of the table, with the tokens and seconds of each strategy at its largest pool."""
    lines = []
    for line, own in zip(score_lines(results.rows), by_strategy(results.rows).values(), strict=True):
        sound = [row for row in own if row.error is None] or own
        last = [row for row in sound if row.size == max(row.size for row in sound)]
        usage = [
            "" if last[0].unreadable is None else f"{_mean(last, 'unreadable'):.0f}",
            f"{_mean(last, 'prompt_tokens'):,.0f} / {_mean(last, 'completion_tokens'):,.0f}",
            f"{_mean(last, 'fit_seconds'):.1f}",
            f"{_mean(last, 'seconds'):.1f}",
        ]
        lines.append([*line, *usage])
    return lines


def rich_table(results: Results) -> Table:
    """Return the table for the terminal, with the tokens and seconds of each strategy at its largest pool."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{results.task}: {results.measured}"), caption=Text(results.baseline))
    for number, heading in enumerate(summary_headings(results)):
        table.add_column(heading, justify="right" if number else "left")
    for line in summary_lines(results):
        table.add_row(*map(Text, line))
    return table


def by_strategy(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each strategy, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.strategy, []).append(row)
    return found


def largest(results: Results) -> list[tuple[str, list[Row]]]:
    """Return the strategies in their order, each with the rows without an error at its largest pool, one per seed."""
    found = []
    for strategy, own in by_strategy([row for row in results.rows if row.error is None and row.n]).items():
        size = max(row.size for row in own)
        found.append((strategy, [row for row in own if row.size == size]))
    return found


def model_of(rows: Sequence[Row]) -> str:
    """Return the name of the language model if a strategy called or trained it; "none" otherwise."""
    used = any(row.prompt_tokens or row.completion_tokens or row.fit_tokens for row in rows)
    return (rows[0].model or "none") if used else "none"


def _sizes(rows: Sequence[Row]) -> list[int]:
    return sorted({row.size for row in rows})


def _mean(rows: Sequence[Row], field: str) -> float:
    return sum(float(getattr(row, field)) for row in rows) / len(rows)
