"""The short reports on a comparison: the scores, the recommendation and warnings, as text and for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from io import StringIO
from typing import TYPE_CHECKING

from ragkit_pipelines.compare.reports.score_table import summary_headings, summary_lines
from ragkit_pipelines.compare.reports.tables import verdict, warning_lines
from ragkit_pipelines.compare.results import Results
from ragkit_pipelines.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 10_000  # characters, more than any table needs, so that the text does not depend on the terminal


def text_summary(results: Results) -> str:
    """Return the scores as a table of text, followed by the recommendation and warnings."""
    return table_text(results.table(), _sentences(results))


def table_text(table: Table, sentences: Iterable[str]) -> str:
    """Return a table as text, followed by sentences."""
    from rich.box import ASCII2
    from rich.console import Console

    table.box = ASCII2  # can be printed in every encoding
    text = StringIO()
    Console(file=text, width=_WIDTH, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return printable("\n".join([*lines, *sentences]))


def html_summary(results: Results) -> str:
    """Return the same as HTML; every text is escaped."""
    head = _cells("th", summary_headings(results))
    body = "".join(f"<tr>{_cells('td', line)}</tr>" for line in summary_lines(results))
    title = _escaped(f"{results.task}: {results.measured}. {results.baseline}")
    paragraphs = "".join(f"<p>{_escaped(line)}</p>" for line in _sentences(results))
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{paragraphs}"


def _sentences(results: Results) -> list[str]:
    failed = [
        f"Failed: {row.strategy}, pool {row.size}, seed {row.seed}: {row.error}" for row in results.rows if row.error
    ]
    return [verdict(results), *(f"Warning: {line}." for line in warning_lines(results)), *failed]


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{_escaped(text)}</{tag}>" for text in texts)


def _escaped(text: str) -> str:
    return escape(printable(text))
