"""Reading of CSV and TSV files, with detection of the dialect."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from itertools import islice, product
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TextIO

_DELIMITERS = ",;\t|"
_SAMPLE = 1 << 16  # characters
_ROWS = 1000  # number of rows of the sample that are read for each dialect
_LONGEST = 2**31 - 1  # characters of a field; the largest limit that the csv module accepts on all platforms
_LIMIT_LOCK = Lock()
_EXCEL = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)  # first line with which spreadsheets declare the delimiter


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: The line on which the row ends, counted from 1.
        cells: The cells of the row; empty for an empty line.
        problem: The reason why the row cannot be read; empty if it was read.
    """

    line: int
    cells: Sequence[str]
    problem: str = ""


class _Dialect(NamedTuple):
    delimiter: str
    escapechar: str | None = None
    skipinitialspace: bool = False
    quoting: bool = True


def encoding_of(path: Path) -> str:
    """Return the encoding of a file of text: UTF-16 if it begins with that byte-order mark, otherwise UTF-8."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE} else "utf-8-sig"


def read_rows(file: TextIO, *, tabs: bool = False) -> Iterator[Row]:
    """Read the rows of a table, the header first, in the dialect that fits best.

    The file is seekable and was opened with ``newline=""``. Without ``tabs``, the delimiter is detected.

    Yields:
        The rows. Reading continues after a row that cannot be read.
    """
    sample = file.read(_SAMPLE)
    lines = list(StringIO(sample, newline=""))
    stated = _EXCEL.fullmatch(lines[0]) if lines else None
    skipped = 0 if stated is None else 1
    delimiters = "\t" if tabs else stated[1] if stated else _DELIMITERS
    dialect = _dialect(lines[skipped:], delimiters, whole=len(sample) < _SAMPLE)
    file.seek(0)
    reader = _reader(islice(file, skipped, None), dialect)
    while True:
        first = reader.line_num + skipped + 1
        try:
            cells = _next(reader)
        except csv.Error as error:
            yield Row(reader.line_num + skipped, (), f"the row that begins on line {first} cannot be read ({error})")
            continue
        if cells is None:
            return
        yield Row(reader.line_num + skipped, cells)


def _dialect(lines: Sequence[str], delimiters: str, *, whole: bool) -> _Dialect:
    """Return the dialect in which most rows of a sample have as many cells as the header; the simplest in a tie."""
    # `csv.Sniffer` counts characters, so it mistakes quotes, brackets or spaces inside fields for delimiters.
    sample = "".join(lines)
    escapes = (None, "\\") if '\\"' in sample else (None,)
    spaces = (False, True) if ' "' in sample else (False,)
    dialects = [_Dialect(each, escape, space) for space, escape, each in product(spaces, escapes, delimiters)]
    if '"' in sample:
        unquoted = (_Dialect(each, quoting=False) for each in delimiters)
        dialects += [dialect for dialect in unquoted if _quotes_are_text(lines, dialect)]
    best = max(dialects, key=lambda dialect: _fit(lines, dialect, whole=whole))
    return best._replace(skipinitialspace=best.skipinitialspace or _has_spaced_header(lines, best))


def _has_spaced_header(lines: Sequence[str], dialect: _Dialect) -> bool:
    try:
        header: list[str] = next((row for row in _reader(lines, dialect) if row), [])
    except csv.Error:
        return False
    return len(header) > 1 and all(name.startswith(" ") for name in header[1:])


def _fit(lines: Sequence[str], dialect: _Dialect, *, whole: bool) -> float:
    """Return the share of rows with as many cells as the header; 0 if the header has one cell."""
    reader = _reader(lines, dialect)
    sizes: list[int] = []
    while len(sizes) < _ROWS and reader.line_num < len(lines):
        try:
            row = next(reader, None)
        except csv.Error:
            row = []
            sizes.append(0)
        if row:
            sizes.append(len(row))
    if not whole and reader.line_num == len(lines):  # the sample may end within a row
        sizes = sizes[: max(1, len(sizes) - 1)]
    return sizes.count(sizes[0]) / len(sizes) if sizes and sizes[0] > 1 else 0.0


def _quotes_are_text(lines: Sequence[str], dialect: _Dialect) -> bool:
    """Return whether the quotation marks of a sample may be text, because few fields begin and end with one."""
    if dialect.delimiter != "\t" and any(line.count('"') % 2 for line in lines):
        return False
    rows = islice(_reader(lines, dialect), _ROWS)
    begun = [cell.strip() for row in rows for cell in row if cell.strip().startswith('"')]
    closed = sum(1 for cell in begun if len(cell) > 1 and cell.endswith('"'))
    return closed <= len(begun) - closed


def _reader(lines: Iterable[str], dialect: _Dialect) -> Any:
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        escapechar=dialect.escapechar,
        skipinitialspace=dialect.skipinitialspace,
        quoting=csv.QUOTE_MINIMAL if dialect.quoting else csv.QUOTE_NONE,
        strict=True,
    )


def _next(reader: Any) -> list[str] | None:
    """Return the cells of the next row, whose fields may be of any length; None at the end of the file."""
    with _LIMIT_LOCK:  # the limit of the csv module applies to the whole process, so it is raised only during the call
        before = csv.field_size_limit(_LONGEST)
        try:
            row: list[str] | None = next(reader, None)
            return row
        finally:
            csv.field_size_limit(before)
