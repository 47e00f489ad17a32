"""Conversion of HTML, PDF, Word and PowerPoint to Markdown with markitdown."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO, IOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from typing_extensions import override

from ragkit.errors import DataFileError, InvalidInputError
from ragkit.extras import require
from ragkit.ingest.html_encoding import decode_page

CONVERTED = {
    ".html": "HtmlConverter",
    ".htm": "HtmlConverter",
    ".xhtml": "HtmlConverter",
    ".pdf": "PdfConverter",
    ".docx": "DocxConverter",
    ".pptx": "PptxConverter",
}


_AS_WRITTEN = {"escape_underscores": False, "escape_asterisks": False, "escape_misc": False}
_GLYPH = re.compile(r"\(cid:\d+\)")
_UNREADABLE = 0.1  # share of glyphs without a Unicode mapping above which a PDF is rejected


class Converted(NamedTuple):
    """A file converted to Markdown.

    Attributes:
        text: The text.
        problem: Description of the missing parts; empty if nothing is missing.
    """

    text: str
    problem: str = ""


def convert(path: Path, encoding: str | None) -> Converted:
    """Convert a file to Markdown; scripts and styles of HTML pages are removed.

    Args:
        path: A file whose suffix is in `CONVERTED`.
        encoding: The encoding detected by `file_facts`, for HTML pages that do not declare one.

    Returns:
        The text, and a description of its missing parts.

    Raises:
        DataFileError: If the file is encrypted or damaged, has the wrong suffix, or contains no text.
        OSError: If it cannot be opened.
    """
    require("markitdown")
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file, warnings.catch_warnings(), _quiet("pdfminer"):
            warnings.simplefilter("ignore")  # converters warn of irregularities in files
            made = _converted(file, suffix, encoding)
    except OSError:
        raise
    except Exception as error:
        raise DataFileError(path, 0, _reason(error, suffix)) from error
    text = made.text.encode("utf-8", "replace").decode()  # replaces lone surrogates
    if not text.strip():
        reason = made.problem or "it holds no text; scanned pages need text recognition first"
        raise DataFileError(path, 0, reason)
    return Converted(text, made.problem)


def _converted(file: BinaryIO, suffix: str, encoding: str | None) -> Converted:
    from markitdown import StreamInfo, converters

    source: BinaryIO = file
    converter: Any = getattr(converters, CONVERTED[suffix])()
    if CONVERTED[suffix] == "HtmlConverter":
        source = BytesIO(decode_page(file.read(), encoding).encode("utf-8", "replace"))
        converter = _html_converter()
    elif suffix != ".pdf":
        converter._html_converter = _html_converter()  # Word and PowerPoint become HTML first
    made = converter.convert(source, StreamInfo(extension=suffix, charset="utf-8"))
    return _without_codes(made.markdown, file) if suffix == ".pdf" else Converted(made.markdown)


def _html_converter() -> Any:
    """Return a converter that adds no Markdown escapes, which split words such as max_open_files and change code."""
    from markitdown import converters

    class AsWritten(converters.HtmlConverter):
        @override
        def convert(self, file_stream: BinaryIO, stream_info: Any, **kwargs: Any) -> Any:
            return super().convert(file_stream, stream_info, **{**kwargs, **_AS_WRITTEN})

    return AsWritten()


def _without_codes(text: str, file: BinaryIO) -> Converted:
    """Replace codes such as ``(cid:16)``, which pdfminer writes for glyphs without a Unicode mapping, by U+FFFD.

    A page may also contain such a code as text, so the glyphs themselves are counted.

    Returns:
        The text, and a description of its missing parts; an empty text if too much is missing.
    """
    if not _GLYPH.search(text):
        return Converted(text)
    from pdfminer.high_level import extract_pages
    from pdfminer.layout import LTChar

    file.seek(0)
    items = (item for page in extract_pages(cast("IOBase", file)) for item in _leaves(page))
    glyphs = [item.get_text() for item in items if isinstance(item, LTChar)]
    unmapped = sum(1 for glyph in glyphs if _GLYPH.fullmatch(glyph))
    if not unmapped:
        return Converted(text)
    problem = (
        f"{unmapped} of {len(glyphs)} glyphs have no Unicode mapping in the fonts of the file, so their characters are "
        "unknown; export it again with embedded Unicode maps, or use text recognition"
    )
    return Converted("" if unmapped > _UNREADABLE * len(glyphs) else _GLYPH.sub("\ufffd", text), problem)


def _leaves(item: object) -> Iterator[object]:
    if isinstance(item, Iterable):
        for each in item:
            yield from _leaves(each)
    else:
        yield item


class _quiet:  # noqa: N801 - used as a function
    """Disables the log of a library during a block."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


def _reason(error: Exception, suffix: str) -> str:
    if isinstance(error, InvalidInputError):
        return str(error)
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
