"""Conversion of HTML, PDF, Word and PowerPoint to Markdown, in a child process with limits of time and memory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from ragkit._extras import require
from ragkit._isolated import IsolatedProcess, IsolationError
from ragkit.errors import InvalidInputError
from ragkit.ingest._sources import SourceFile

# The suffixes of converted files, and the converters of markitdown.
CONVERTED = {
    ".html": "HtmlConverter",
    ".htm": "HtmlConverter",
    ".xhtml": "HtmlConverter",
    ".pdf": "PdfConverter",
    ".docx": "DocxConverter",
    ".pptx": "PptxConverter",
}


@dataclass(frozen=True, slots=True)
class ConversionLimits:
    """What the conversion of one file to Markdown may take; a file that exceeds a limit is reported and skipped.

    Attributes:
        seconds: Elapsed time.
        mebibytes: Memory, in addition to that of the idle converter. It is not limited on macOS.
    """

    seconds: float = 60.0
    mebibytes: int = 1024

    def __post_init__(self) -> None:
        """Check the limits."""
        if not self.seconds > 0 or type(self.mebibytes) is not int or self.mebibytes < 64:
            raise InvalidInputError(
                f"`seconds` must be above 0 and `mebibytes` at least 64, got {self.seconds!r} and {self.mebibytes!r}"
            )


class Converted(NamedTuple):
    """A file converted to Markdown.

    Attributes:
        text: The text; empty if the file could not be converted.
        problem: Why, or a description of the missing parts; empty if nothing is missing.
    """

    text: str
    problem: str = ""


def convert(file: SourceFile, encoding: str | None, limits: ConversionLimits) -> Converted:
    """Convert a file to Markdown; scripts and styles of HTML pages are removed.

    Args:
        file: A file whose suffix is in `CONVERTED`.
        encoding: The encoding detected by `file_facts`, for HTML pages that do not declare one.
        limits: The limits.

    Returns:
        The text, and a description of its missing parts.
    """
    require("markitdown")
    request = json.dumps([os.fsdecode(file.path), file.suffix, encoding]).encode()
    try:
        text, problem = json.loads(_converter(limits.mebibytes).ask(request, seconds=limits.seconds))
    except IsolationError as error:
        return Converted("", f"its conversion {error}")
    return Converted(text, problem)


@cache
def _converter(mebibytes: int) -> IsolatedProcess:
    return IsolatedProcess("ragkit.ingest._converter:answer_request", mebibytes=mebibytes)
