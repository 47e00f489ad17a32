"""The Markdown report, and the tables that all reports share."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.results import Results, Row, cell_text
from ragkit_pipelines.compare.statistics.break_even import LEAST_PREFIX, break_even_of
from ragkit_pipelines.compare.statistics.confusion import OTHER, confusions, matrix_lines, recall_lines
from ragkit_pipelines.compare.statistics.costs import per_thousand
from ragkit_pipelines.compare.statistics.learning_curves import GAP_HEADINGS, gap_lines
from ragkit_pipelines.compare.strategies.base import mean_known

MOST_UNREADABLE = 0.05  # share of unreadable completions above which the report shows a warning
MOST_IN_MARKDOWN = 10  # classes up to which the confusion matrix fits on a line


def largest(results: Results) -> list[tuple[str, list[Row]]]:
    """Return the rows without an error at each strategy's largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        The strategies in their order, each with its rows, one per seed.
    """
    found = []
    for strategy in dict.fromkeys(row.strategy for row in results.rows):
        own = [row for row in results.rows if row.strategy == strategy and row.error is None and row.n]
        if own:
            size = max(row.size for row in own)
            found.append((strategy, [row for row in own if row.size == size]))
    return found


def cost_lines(results: Results) -> list[list[str]]:
    """Return the cost of 1,000 predictions and of fitting for each strategy, averaged over the seeds.

    Args:
        results: Results of a comparison.

    Returns:
        The cells of a table with the columns `COST_HEADINGS`.
    """
    lines = []
    for strategy, rows in largest(results):
        predictions = sum(row.n for row in rows)
        lines.append(
            [
                strategy,
                f"{1000 * sum(row.prompt_tokens for row in rows) / predictions:,.0f}",
                f"{1000 * sum(row.cached_tokens for row in rows) / predictions:,.0f}",
                f"{1000 * sum(row.completion_tokens for row in rows) / predictions:,.0f}",
                f"{1000 * sum(row.seconds for row in rows) / predictions:,.1f}",
                _dollars([per_thousand(row) for row in rows]),
                _flops([None if row.flops is None else 1000 * row.flops / row.n for row in rows]),
                f"{sum(row.fit_seconds for row in rows) / len(rows):,.1f}",
                _dollars([row.fit_cost for row in rows]),
                _dollars([row.label_cost for row in rows]),
                _flops([row.fit_flops for row in rows]),
            ]
        )
    return lines


COST_HEADINGS = (
    "strategy", "prompt tokens", "of these cached", "completion tokens", "predict (s)", "predict (US$)",
    "predict (FLOPs)", "fit (s)", "fit, calls (US$)", "labels (US$)", "fit (FLOPs)",
)  # fmt: skip


def _dollars(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "unknown" if mean is None else f"{mean:,.4f}"


def _flops(values: Sequence[float | None]) -> str:
    mean = mean_known(values)
    return "unknown" if mean is None else f"{mean:.2g}"


def break_even_lines(results: Results) -> list[list[str]]:
    """Return the volumes from which each trained strategy is cheaper than the best prompted one, at the largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        The cells of a table with the columns `BREAK_EVEN_HEADINGS`; empty if no strategy was trained or none was
        prompted.
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


def difference_lines(results: Results) -> list[list[str]]:
    """Return all differences at the largest pool.

    Args:
        results: Results of a comparison.

    Returns:
        The cells of a table with the columns `DIFFERENCE_HEADINGS`.
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


DIFFERENCE_HEADINGS = ("a", "b", "a - b, 95 % interval", "seeds", "p (uncorrected)", "minimum detectable difference")


def verdict(results: Results) -> str:
    """Return the recommendation in words.

    Args:
        results: Results of a comparison.

    Returns:
        Sentences.
    """
    chosen = results.recommendation
    return f"Recommendation: {chosen.strategy or 'none'}. {chosen.evidence}."


def data_lines(results: Results) -> list[str]:
    """Return the problems found in the data, and the rows that were removed.

    Args:
        results: Results of a comparison.

    Returns:
        One line per problem; empty if no problem was found or the checks were off.
    """
    if results.data is None:
        return []
    removed = [f"removed rows ({kind}): {count}" for kind, count in results.data.removed.items()]
    return [*results.data.findings, *removed]


def warning_lines(results: Results) -> list[str]:
    """Return warnings about strategies many of whose completions could not be read, which lowers their score.

    Args:
        results: Results of a comparison.

    Returns:
        One sentence per strategy with more than 5 % of unreadable completions at its largest pool.
    """
    lines = []
    for strategy, rows in largest(results):
        unreadable, total = sum(row.unreadable or 0 for row in rows), sum(row.n for row in rows)
        if unreadable > MOST_UNREADABLE * total:
            lines.append(
                f"{strategy}: {unreadable} of {total} completions ({unreadable / total:.1%}) did not contain an answer "
                "of the expected form and count as wrong, so the score says little about the strategy"
            )
    return lines


def _class_parts(items: Items | None) -> list[str]:
    """Sections on classes: recall, and confusion matrices or the most frequent confusions."""
    found = confusions(items) if items else []
    if not found:
        return []
    parts = ["## Recall by class", _table(("class", "rows", *(each.strategy for each in found)), recall_lines(found))]
    for each in found:
        parts.append(f"## Confusions: {cell_text(each.strategy)}")
        if len(each.classes) <= MOST_IN_MARKDOWN:
            parts.append(_table(("class", *each.classes, OTHER), matrix_lines(each)))
        elif worst := each.worst():
            parts.append(_table(("class", "answer", "rows"), [[a, b, str(count)] for a, b, count in worst]))
        else:
            parts.append("All answers are correct.")
    return parts


def markdown_report(results: Results, items: Items | None = None) -> str:
    """Return the whole report as Markdown.

    Args:
        results: Results of a comparison.
        items: The test rows with all answers, for learning curves and classes; both are omitted if None.

    Returns:
        The page; names are escaped.
    """
    failed = [f"- {cell_text(row.strategy)}, pool {row.size}, seed {row.seed}: {cell_text(row.error)}"
              for row in results.rows if row.error]  # fmt: skip
    parts = [
        f"# {cell_text(results.task)}",
        cell_text(verdict(results)),
        f"{results.measured[0].upper()}{results.measured[1:]}. {results.leaked_test_rows} test rows also appeared in "
        f"the pool and were excluded. {results.baseline}.",
        results.markdown(),
        *[f"**Warning:** {cell_text(line)}." for line in warning_lines(results)],
        *(["## Data", "\n".join(f"- {cell_text(line)}" for line in data)] if (data := data_lines(results)) else []),
        "## Cost per 1,000 predictions (largest pool)",
        _table(COST_HEADINGS, cost_lines(results)),
        *(
            ["## Break-even", _table(BREAK_EVEN_HEADINGS, even), break_even_note(results)]
            if (even := break_even_lines(results))
            else []
        ),
        *(["## Calibration", _table(CALIBRATION_HEADINGS, trust)] if (trust := calibration_lines(results)) else []),
        "## Differences (largest pool)",
        _table(DIFFERENCE_HEADINGS, difference_lines(results)),
        *(
            ["## Labelled examples needed to match the best strategy", _table(GAP_HEADINGS, gaps)]
            if items and (gaps := gap_lines(items))
            else []
        ),
        *_class_parts(items),
        *(["## Failed runs", "\n".join(failed)] if failed else []),
        "## Run details",
        _table(("name", "value"), [[name, value] for name, value in results.provenance.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def calibration_lines(results: Results) -> list[list[str]]:
    """Return the calibration of each strategy at its largest pool, averaged over the seeds.

    Args:
        results: Results of a comparison.

    Returns:
        The cells of a table with the columns `CALIBRATION_HEADINGS`; empty if no strategy returns a confidence.
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
    """Return the assumptions behind the break-even volumes.

    Args:
        results: Results of a comparison.

    Returns:
        Sentences.
    """
    money = "No token prices were given." if results.prices is None else "Ranges cover all combinations of prices."
    priced = all(row.label_cost is not None for row in results.rows)
    labels = "Labels are included." if priced else "No label price was given, so labels are not included."
    return f"{money} {labels} Providers do not cache prefixes of fewer than {LEAST_PREFIX:,} tokens."


def _table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = ["| " + " | ".join(map(cell_text, headings)) + " |", "|-" * len(headings) + "|"]
    return "\n".join(rows + ["| " + " | ".join(map(cell_text, line)) + " |" for line in lines])
