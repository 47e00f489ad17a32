"""Escape texts for Markdown, and write tables of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ragkit_pipelines.printable import printable

# Characters that begin code, emphasis, HTML and table cells.
_INLINE = re.compile(r"[\\`*|<]|(?<![^\W_])_|_(?![^\W_])")
# The end of a link's text, of a reference to a link, or of the label that defines one; other brackets mean nothing.
_LINK = re.compile(r"](?=\s*[(\[:])")
_REFERENCE = re.compile(r"&(?=#?\w+;)")
# What begins a heading, a quote, a list, a rule, a fence or an underline.
_BLOCK = re.compile(r"(\d*)([#>+=~.)-])")


def markdown_text(text: str | None) -> str:
    """Escape a text for a part of a line or a table cell: it becomes no link, image, HTML, code or cell of its own."""
    line = _REFERENCE.sub("&amp;", " ".join(printable(text or "").split()))
    return _LINK.sub(r"\\]", _INLINE.sub(r"\\\g<0>", line)).replace("\\<", "&lt;")


def markdown_line(text: str) -> str:
    """Escape a text for a line of its own, such as an item of a list."""
    line = markdown_text(text)
    start = _BLOCK.match(line)
    return f"{start[1]}\\{line[start.start(2) :]}" if start else line


def markdown_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with escaped cells."""
    rows = ["| " + " | ".join(map(markdown_text, line)) + " |" for line in (headings, *lines)]
    return "\n".join([rows[0], "|-" * len(headings) + "|", *rows[1:]])
