"""The converter of files to Markdown with markitdown, which runs in a child process."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from markitdown import StreamInfo, converters
from pdfminer.high_level import extract_pages
from pdfminer.layout import LTChar
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.ingest._conversion import CONVERTED, Converted
from ragkit.ingest._html_encoding import decode_page
from ragkit.ingest._sources import open_binary

_AS_WRITTEN = {"escape_underscores": False, "escape_asterisks": False, "escape_misc": False}
_GLYPH = re.compile(r"\(cid:\d+\)")
_UNREADABLE = 0.1  # share of glyphs without a Unicode mapping above which a PDF is rejected


def answer_request(request: bytes) -> bytes:
    """Convert a file.

    Args:
        request: Its path, its suffix and the encoding detected by `file_facts`, as JSON.

    Returns:
        The fields of `Converted`, as JSON.

    Raises:
        MemoryError: If the memory limit is reached.
    """
    path, suffix, encoding = json.loads(request)
    warnings.simplefilter("ignore")  # converters warn of irregularities in files
    try:
        with open_binary(Path(path)) as file:
            text, problem = _convert(file.read(), suffix, encoding)
        if not text.strip():
            text, problem = "", problem or "it holds no text; scanned pages need text recognition first"
    except MemoryError:
        raise
    except OSError as error:
        text, problem = "", f"it cannot be opened ({error.strerror or error})"
    except Exception as error:  # converters raise errors of many kinds
        if any(isinstance(each, MemoryError) for each in _chain(error)):
            raise MemoryError from error
        text, problem = "", _reason(error, suffix)
    return json.dumps([text.encode("utf-8", "replace").decode(), problem]).encode()  # replaces lone surrogates


def _convert(content: bytes, suffix: str, encoding: str | None) -> Converted:
    converter: Any = getattr(converters, CONVERTED[suffix])()
    if CONVERTED[suffix] == "HtmlConverter":
        content = decode_page(content, encoding).encode("utf-8", "replace")
        converter = _AsWritten()
    elif suffix != ".pdf":
        converter._html_converter = _AsWritten()  # Word and PowerPoint become HTML first
    made = converter.convert(BytesIO(content), StreamInfo(extension=suffix, charset="utf-8"))
    return _without_codes(made.markdown, content) if suffix == ".pdf" else Converted(made.markdown)


class _AsWritten(converters.HtmlConverter):
    """Adds no Markdown escapes, which split words such as max_open_files and change code."""

    @override
    def convert(self, file_stream: BinaryIO, stream_info: Any, **kwargs: Any) -> Any:
        return super().convert(file_stream, stream_info, **{**kwargs, **_AS_WRITTEN})


def _without_codes(text: str, content: bytes) -> Converted:
    # pdfminer writes ``(cid:16)`` for a glyph without a Unicode mapping, which is replaced by U+FFFD. A page may also
    # contain such a code as text, so the glyphs themselves are counted.
    if not _GLYPH.search(text):
        return Converted(text)
    items = (item for page in extract_pages(BytesIO(content)) for item in _leaves(page))
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
