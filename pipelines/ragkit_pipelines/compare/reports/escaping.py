"""Escape texts for Markdown, and write tables of them."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_text(text: str | None) -> str:
    """Escape a text for one line or one table cell of Markdown."""
    return " ".join((text or "").split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with escaped cells."""
    rows = ["| " + " | ".join(map(markdown_text, line)) + " |" for line in (headings, *lines)]
    return "\n".join([rows[0], "|-" * len(headings) + "|", *rows[1:]])
