"""The results as Markdown, and the tables that all reports share."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit_pipelines.compare.costs import per_thousand
from ragkit_pipelines.compare.results import Results, Row


def largest(results: Results) -> list[tuple[str, list[Row]]]:
    """Rows without an error at each strategy's largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        Strategies in their order, each with its rows, one for each seed.
    """
    found = []
    for strategy in dict.fromkeys(row.strategy for row in results.rows):
        own = [row for row in results.rows if row.strategy == strategy and row.error is None and row.n]
        if own:
            size = max(row.size for row in own)
            found.append((strategy, [row for row in own if row.size == size]))
    return found


def cost_lines(results: Results) -> list[list[str]]:
    """What a thousand answers take, strategy by strategy, in the mean of the seeds.

    Args:
        results: Results of a comparison.

    Returns:
        Cells of a table: strategy, tokens read, of these cached, tokens written, seconds, dollars, seconds of learning.
    """
    lines = []
    for strategy, rows in largest(results):
        answers = sum(row.n for row in rows)
        prices = [price for row in rows if (price := per_thousand(row)) is not None]
        lines.append(
            [
                strategy,
                f"{1000 * sum(row.prompt_tokens for row in rows) / answers:,.0f}",
                f"{1000 * sum(row.cached_tokens for row in rows) / answers:,.0f}",
                f"{1000 * sum(row.completion_tokens for row in rows) / answers:,.0f}",
                f"{1000 * sum(row.seconds for row in rows) / answers:,.1f}",
                f"{sum(prices) / len(prices):,.4f}" if len(prices) == len(rows) else "unknown",
                f"{sum(row.fit_seconds for row in rows) / len(rows):,.1f}",
            ]
        )
    return lines


COST_HEADINGS = ("strategy", "tokens read", "of these cached", "tokens written", "seconds", "US dollars", "learning, s")


def difference_lines(results: Results) -> list[list[str]]:
    """All differences at the largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        Cells of a table: both strategies, the difference with its interval, seeds, p-value, what could be shown.
    """
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


DIFFERENCE_HEADINGS = ("a", "b", "a - b, 95 % interval", "seeds", "p, uncorrected", "smallest likely to be shown")


def verdict(results: Results) -> str:
    """The recommendation in words.

    Args:
        results: Results of a comparison.

    Returns:
        Sentences.
    """
    chosen = results.recommendation
    return f"Recommendation: {chosen.strategy or 'none'}. {chosen.evidence}."


def data_lines(results: Results) -> list[str]:
    """What is wrong with the data, and what was left out of it.

    Args:
        results: Results of a comparison.

    Returns:
        Sentences; none where nothing is wrong, or nobody looked.
    """
    if results.data is None:
        return []
    left_out = [f"{count} {kind} rows were left out" for kind, count in results.data.removed.items()]
    return [*results.data.findings, *left_out]


def markdown_report(results: Results) -> str:
    """All results as a page of Markdown.

    Args:
        results: Results of a comparison.

    Returns:
        The page; names that came from elsewhere cannot break out of their cells.
    """
    n = max((row.n for row in results.rows), default=0)
    failed = [f"- {_cell(row.strategy)}, pool {row.size}, seed {row.seed}: {_cell(row.error)}"
              for row in results.rows if row.error]  # fmt: skip
    parts = [
        f"# {_cell(results.task)}",
        _cell(verdict(results)),
        f"Share of {n} test rows answered right, with 95 % interval. {results.leaked_test_rows} more stood in the pool "
        f"and were removed. One and the same answer to everything scores {results.floor:.3f}.",
        results.markdown(),
        *(["## Data", "\n".join(f"- {_cell(line)}" for line in data)] if (data := data_lines(results)) else []),
        "## A thousand answers, at the largest pool",
        _table(COST_HEADINGS, cost_lines(results)),
        "## Differences at the largest pool",
        _table(DIFFERENCE_HEADINGS, difference_lines(results)),
        *(["## Failed", "\n".join(failed)] if failed else []),
        "## From",
        _table(("what", "value"), [[name, value] for name, value in results.provenance.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(headings) + " |", "|-" * len(headings) + "|"]
    return "\n".join(rows + ["| " + " | ".join(map(_cell, line)) + " |" for line in lines])


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
