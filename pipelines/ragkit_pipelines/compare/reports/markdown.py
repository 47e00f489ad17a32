"""The results as Markdown, and the tables that all reports share."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Results, Row, cell_text
from ragkit_pipelines.compare.statistics.break_even import LEAST_PREFIX, break_even_of
from ragkit_pipelines.compare.statistics.confusion import OTHER, confusions, matrix_lines, recall_lines
from ragkit_pipelines.compare.statistics.costs import per_thousand
from ragkit_pipelines.compare.statistics.learning_curves import GAP_HEADINGS, gap_lines
from ragkit_pipelines.compare.strategies.base import mean_known

MOST_UNREADABLE = 0.05  # share of completions without an answer above which a warning is due
MOST_IN_MARKDOWN = 10  # classes of a matrix that a line can hold


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
        Cells of a table: strategy, tokens read, of these cached, tokens written, seconds, dollars, operations; then
        what learning took: seconds, dollars for calls, dollars for labels, operations.
    """
    lines = []
    for strategy, rows in largest(results):
        answers = sum(row.n for row in rows)
        lines.append(
            [
                strategy,
                f"{1000 * sum(row.prompt_tokens for row in rows) / answers:,.0f}",
                f"{1000 * sum(row.cached_tokens for row in rows) / answers:,.0f}",
                f"{1000 * sum(row.completion_tokens for row in rows) / answers:,.0f}",
                f"{1000 * sum(row.seconds for row in rows) / answers:,.1f}",
                _dollars([per_thousand(row) for row in rows]),
                _operations([None if row.flops is None else 1000 * row.flops / row.n for row in rows]),
                f"{sum(row.fit_seconds for row in rows) / len(rows):,.1f}",
                _dollars([row.fit_cost for row in rows]),
                _dollars([row.label_cost for row in rows]),
                _operations([row.fit_flops for row in rows]),
            ]
        )
    return lines


COST_HEADINGS = (
    "strategy", "tokens read", "of these cached", "tokens written", "seconds", "US dollars", "operations",
    "learning: seconds", "learning: US dollars for calls", "US dollars for labels", "learning: operations",
)  # fmt: skip


def _dollars(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "unknown" if mean is None else f"{mean:,.4f}"


def _operations(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "unknown" if mean is None else f"{mean:.2g}"


def break_even_lines(results: Results) -> list[list[str]]:
    """From which volume each trained strategy is cheaper than the best prompted one, at the largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        Cells of a table: both strategies, the volume by money and by operations, each without and with a prompt cache.
        None where nothing was trained or nothing prompted.
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
    "tuned", "cheaper than", "by US dollars from", "prompts cached", "by operations from", "prompts cached",
)  # fmt: skip


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


def warning_lines(results: Results) -> list[str]:
    """Warn of strategies many of whose completions could not be read, so that a low score is not misunderstood.

    Args:
        results: Results of a comparison.

    Returns:
        One sentence for each strategy with more than 5 % of unreadable completions at its largest pool.
    """
    lines = []
    for strategy, rows in largest(results):
        unreadable, asked = sum(row.unreadable or 0 for row in rows), sum(row.n for row in rows)
        if unreadable > MOST_UNREADABLE * asked:
            lines.append(
                f"{strategy}: {unreadable} of {asked} completions ({unreadable / asked:.1%}) did not contain an answer "
                "of the expected form and count as wrong, so the score says little about the strategy"
            )
    return lines


def _class_parts(items: Items | None) -> list[str]:
    """Recall by class, matrices of few classes, and the commonest confusions."""
    found = confusions(items) if items else []
    if not found:
        return []
    parts = ["## Recall by class", _table(("class", "rows", *(each.strategy for each in found)), recall_lines(found))]
    for each in found:
        parts.append(f"## What {cell_text(each.strategy)} confuses")
        if len(each.classes) <= MOST_IN_MARKDOWN:
            parts.append(_table(("class", *each.classes, OTHER), matrix_lines(each)))
        elif worst := each.worst():
            parts.append(_table(("class", "answer", "rows"), [[a, b, str(count)] for a, b, count in worst]))
        else:
            parts.append("Nothing.")
    return parts


def markdown_report(results: Results, items: Items | None = None) -> str:
    """All results as a page of Markdown.

    Args:
        results: Results of a comparison.
        items: The test rows with every answer, for curves and classes; left out if None.

    Returns:
        The page; names that came from elsewhere cannot break out of their cells.
    """
    failed = [f"- {cell_text(row.strategy)}, pool {row.size}, seed {row.seed}: {cell_text(row.error)}"
              for row in results.rows if row.error]  # fmt: skip
    parts = [
        f"# {cell_text(results.task)}",
        cell_text(verdict(results)),
        f"{results.measured[0].upper()}{results.measured[1:]}. {results.leaked_test_rows} more rows stood in the pool "
        f"and were removed. One and the same answer to everything scores {results.floor:.3f}.",
        results.markdown(),
        *[f"**Warning:** {cell_text(line)}." for line in warning_lines(results)],
        *(["## Data", "\n".join(f"- {cell_text(line)}" for line in data)] if (data := data_lines(results)) else []),
        "## A thousand answers, at the largest pool",
        _table(COST_HEADINGS, cost_lines(results)),
        *(
            ["## Break-even", _table(BREAK_EVEN_HEADINGS, even), break_even_note(results)]
            if (even := break_even_lines(results))
            else []
        ),
        *(["## Calibration", _table(CALIBRATION_HEADINGS, trust)] if (trust := calibration_lines(results)) else []),
        "## Differences at the largest pool",
        _table(DIFFERENCE_HEADINGS, difference_lines(results)),
        *(
            ["## Labels that would close the gap", _table(GAP_HEADINGS, gaps)]
            if items and (gaps := gap_lines(items))
            else []
        ),
        *_class_parts(items),
        *(["## Failed", "\n".join(failed)] if failed else []),
        "## From",
        _table(("what", "value"), [[name, value] for name, value in results.provenance.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def calibration_lines(results: Results) -> list[list[str]]:
    """How far the confidence of each strategy can be believed, at its largest pool, in the mean of the seeds.

    Args:
        results: Results of a comparison.

    Returns:
        Cells of a table: strategy, calibration error and Brier score with the widest of the seeds' intervals. None
        where no strategy gives a confidence.
    """
    lines = []
    for strategy, rows in largest(results):
        found = [row.calibration for row in rows if row.calibration is not None]
        if len(found) < len(rows):
            lines.append([strategy, "unknown", "unknown"])
            continue
        error, score = (sum(getattr(each, name) for each in found) / len(found) for name in ("error", "brier"))
        low, high = min(each.error_low for each in found), max(each.error_high for each in found)
        least, most = min(each.brier_low for each in found), max(each.brier_high for each in found)
        lines.append([strategy, f"{error:.3f} [{low:.3f}, {high:.3f}]", f"{score:.3f} [{least:.3f}, {most:.3f}]"])
    return lines if any(line[1] != "unknown" for line in lines) else []


CALIBRATION_HEADINGS = ("strategy", "expected calibration error, 95 % interval", "Brier score, 95 % interval")


def break_even_note(results: Results) -> str:
    """What the volumes rest on.

    Args:
        results: Results of a comparison.

    Returns:
        Sentences.
    """
    money = "Prices of tokens are not given." if results.prices is None else "Ranges are over all prices given."
    priced = all(row.label_cost is not None for row in results.rows)
    labels = "Labels are counted." if priced else "The price of a label is not given, so labels are not counted."
    return f"{money} {labels} Providers keep no beginning under {LEAST_PREFIX:,} tokens."


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(map(cell_text, headings)) + " |", "|-" * len(headings) + "|"]
    return "\n".join(rows + ["| " + " | ".join(map(cell_text, line)) + " |" for line in lines])
