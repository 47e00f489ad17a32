"""The Markdown report."""

from __future__ import annotations

from collections.abc import Sequence

from ragkit_pipelines.compare.predictions import Items
from ragkit_pipelines.compare.reports.escaping import markdown_line, markdown_table, markdown_text
from ragkit_pipelines.compare.reports.facts import run_facts, version_facts
from ragkit_pipelines.compare.reports.standings import standings_table
from ragkit_pipelines.compare.reports.tables import (
    CONFUSION_HEADINGS,
    confusion_lines,
    data_lines,
    matrix_headings,
    matrix_lines,
    recall_table,
    report_tables,
    verdict,
    warning_lines,
)
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.compare.statistics.confusion import confusions

MOST_IN_MARKDOWN = 10  # classes up to which the confusion matrix fits on a line


def markdown_report(results: Results, items: Items | None = None) -> str:
    """Return the whole report as Markdown.

    Args:
        results: Results of a comparison.
        items: The test rows with all answers, for learning curves and classes; both are omitted if None.

    Returns:
        The page; names are escaped.
    """
    parts = [
        f"# {markdown_text(results.task)}",
        markdown_text(verdict(results)),
        f"{results.measured[0].upper()}{results.measured[1:]}. {results.leaked_test_rows} test rows also appeared in "
        f"the pool and were excluded. {results.baseline}.",
        results.markdown(),
        *_standing_parts(results),
        *[f"**Warning:** {markdown_text(line)}." for line in warning_lines(results)],
        *_list("Data", data_lines(results)),
    ]
    for table in report_tables(results, items):
        parts += [f"## {table.title}", markdown_table(table.headings, table.lines), *filter(None, [table.note])]
    failed = [f"{row.strategy}, pool {row.size}, seed {row.seed}: {row.error}" for row in results.rows if row.error]
    parts += [
        *_class_parts(items),
        *_list("Failed runs", failed),
        "## Run details",
        markdown_table(("name", "value"), [*run_facts(results), *version_facts(results)]),
    ]
    return "\n\n".join(parts) + "\n"


def _standing_parts(results: Results) -> list[str]:
    """A section on the tests against the best strategy, or nothing if only one finished."""
    table = standings_table(results)
    if table is None:
        return []
    parts = [f"## {table.title}", markdown_table(table.headings, table.lines), table.note]
    return [part for part in parts if part]


def _list(title: str, lines: Sequence[str]) -> list[str]:
    """A section with a list, or nothing if the list is empty."""
    return [f"## {title}", "\n".join(f"- {markdown_line(line)}" for line in lines)] if lines else []


def _class_parts(items: Items | None) -> list[str]:
    """Sections on classes: recall, and confusion matrices or the most frequent confusions."""
    found = confusions(items) if items else []
    if not found:
        return []
    recall = recall_table(found)
    parts = [f"## {recall.title}", markdown_table(recall.headings, recall.lines)]
    for each in found:
        parts.append(f"## Confusions: {markdown_text(each.strategy)}")
        if len(each.classes) <= MOST_IN_MARKDOWN:
            parts.append(markdown_table(matrix_headings(each), matrix_lines(each)))
        elif worst := confusion_lines(each):
            parts.append(markdown_table(CONFUSION_HEADINGS, worst))
        else:
            parts.append("All answers are correct.")
    return parts
