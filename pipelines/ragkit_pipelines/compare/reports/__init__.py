"""Reports of comparisons: Markdown, HTML, and differences between two comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit_pipelines.compare.reports.cost_tables import break_even_lines as break_even_lines
    from ragkit_pipelines.compare.reports.html import html_report as html_report
    from ragkit_pipelines.compare.reports.markdown import markdown_report as markdown_report

_HOME_OF = {"break_even_lines": "cost_tables", "html_report": "html", "markdown_report": "markdown"}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
