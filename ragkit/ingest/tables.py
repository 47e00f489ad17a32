"""Rows of CSV and JSON Lines files as documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ragkit.csv_files import read_rows
from ragkit.errors import DataFileError, InvalidInputError
from ragkit.index.document_inputs import check_values
from ragkit.records import Document

# Metadata fields that ragkit sets; an underscore is appended to a file's own fields with these names.
_OURS = frozenset({"source", "row", "start", "end", "file", "chunker", "parts", "headings", "encoding"})


def csv_rows(path: Path, source: str, encoding: str) -> Iterator[Document | DataFileError]:
    """Read a CSV file with a header, one document per row.

    The column ``text`` is the text, and the others are metadata. Without this column, the text has a line
    ``name: value`` for each column that is not empty.

    Args:
        path: The file.
        source: Its name in metadata.
        encoding: Its encoding.

    Yields:
        A document, or the error of a row.
    """
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        rows = read_rows(file, tabs=path.suffix.lower() == ".tsv")
        filled = (row for row in rows if row.problem or any(cell.strip() for cell in row.cells))
        header: list[str] = []
        for line, cells, problem in filled:
            if problem:
                yield DataFileError(path, line, f"{problem}; it is left out")
                if not header:
                    return
            elif not header:
                header = [name.strip() for name in cells]
                twice = next((name for name in header if name and header.count(name) > 1), None)
                if twice is not None:
                    yield DataFileError(path, line, f"has the column {twice!r} twice; give each its own name")
                    return
            elif len(cells) != len(header):
                yield DataFileError(path, line, f"has {len(cells)} cells, the header has {len(header)}")
            else:
                yield _record(dict(zip(header, cells, strict=True)), source, line)


def _record(cells: dict[str, str], source: str, line: int) -> Document:
    text = cells.pop("text", None)
    if text is not None:
        return _row(text, cells, source, line)
    return _row("\n".join(f"{name}: {cell}" for name, cell in cells.items() if cell.strip()), {}, source, line)


def jsonl_rows(path: Path, source: str, encoding: str, text: str = "text") -> Iterator[Document | DataFileError]:
    """Read a JSON Lines file, one document per line: an object with a text, whose other fields are metadata.

    Args:
        path: The file.
        source: Its name in metadata.
        encoding: Its encoding.
        text: The field of the text.

    Yields:
        A document, or the error of a line.
    """
    with path.open(encoding=encoding, errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield DataFileError(path, number, f"{error}; expected one JSON object a line")
                continue
            if not isinstance(row, dict) or not isinstance(row.get(text), str):
                yield DataFileError(path, number, f"expected a JSON object with {text!r}, a text")
                continue
            try:  # an index accepts neither lone surrogates nor infinite numbers
                check_values(row, "the object")
            except InvalidInputError as error:
                yield DataFileError(path, number, f"{error}; it is left out")
                continue
            yield _row(row.pop(text), row, source, number)


def _row(text: str, fields: Mapping[str, object], source: str, number: int) -> Document:
    """Convert a row to a document; its id is the field ``id``, or ``_id`` as in BEIR, or else the file and the line."""
    name = f"{source}:{number}"
    rest = {key: value for key, value in fields.items() if key not in {"id", "_id"} or value not in (None, "")}
    for key in ("id", "_id"):
        own = rest.get(key)
        if isinstance(own, str | int) and not isinstance(own, bool) and own != "":
            name = str(rest.pop(key))
            break
    ours = {"source": source, "row": number, "start": 0, "end": len(text)}
    return Document(text, id=name, metadata={**renamed(rest, _OURS), **ours})


def renamed(fields: Mapping[str, object], taken: Iterable[str]) -> dict[str, object]:
    """Append underscores to field names that are taken.

    Args:
        fields: The fields of a user.
        taken: The names that ragkit uses.

    Returns:
        All fields, in order, with unique names.
    """
    used = {*fields, *taken}
    result: dict[str, object] = {}
    for field, value in fields.items():
        name = field
        while name in taken or (name != field and name in used):
            name += "_"
        used.add(name)
        result[name] = value
    return result
