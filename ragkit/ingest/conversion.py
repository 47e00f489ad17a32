"""HTML, PDF, Word and PowerPoint to Markdown, through markitdown."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ragkit.errors import DataFileError
from ragkit.extras import require

CONVERTED = {
    ".html": "HtmlConverter",
    ".htm": "HtmlConverter",
    ".pdf": "PdfConverter",
    ".docx": "DocxConverter",
    ".pptx": "PptxConverter",
}


def convert(path: Path, encoding: str | None) -> str:
    """The text of a file as Markdown; scripts and styles of a web page are left out.

    Args:
        path: A file whose suffix is in `CONVERTED`.
        encoding: What a web page is written in.

    Returns:
        The text.

    Raises:
        DataFileError: If the file is encrypted, damaged, not what its suffix says, or holds no text.
        OSError: If it cannot be opened.
    """
    require("markitdown")
    from markitdown import StreamInfo

    suffix = path.suffix.lower()
    kind = "utf-8" if encoding in {None, "utf-8-sig"} else encoding
    try:
        with path.open("rb") as file, warnings.catch_warnings(), _quiet("pdfminer"):
            warnings.simplefilter("ignore")  # of what the converters find odd in a file
            made = _converter(suffix).convert(file, StreamInfo(extension=suffix, charset=kind))
            text: str = made.markdown
    except OSError:
        raise
    except Exception as error:
        raise DataFileError(path, 0, _reason(error, suffix)) from error
    text = text.encode("utf-8", "replace").decode()  # halves of surrogate pairs are no text
    if not text.strip():
        raise DataFileError(path, 0, "it holds no text; scanned pages need text recognition first")
    return text


def _converter(suffix: str) -> Any:
    from markitdown import converters

    return getattr(converters, CONVERTED[suffix])()


class _quiet:  # noqa: N801 - used as a function
    """Keep a library's log still for the length of a block."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


def _reason(error: Exception, suffix: str) -> str:
    names = [type(each).__name__ for each in _chain(error)]
    if any("Password" in name or "Encrypt" in name for name in names):
        return "it is encrypted; save a copy without a password"
    said = str(error).splitlines()[0][:200] if str(error) else names[0]
    return f"it cannot be read as {suffix} ({names[0]}: {said}); it is damaged, encrypted or of another kind"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 20:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1
