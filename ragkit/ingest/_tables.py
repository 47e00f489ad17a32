"""Rows of CSV and JSON Lines files as documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from ragkit._csv_files import read_rows
from ragkit.errors import InvalidInputError
from ragkit.index._document_inputs import check_values
from ragkit.ingest._sources import SourceFile, Unread, open_text
from ragkit.records import Document

# Metadata fields that ragkit sets; an underscore is appended to a file's own fields with these names.
_OURS = frozenset({"source", "row", "start", "end", "file", "chunker", "parts", "headings", "encoding"})


def csv_rows(file: SourceFile, encoding: str) -> Iterator[Document | Unread]:
    """Read a CSV file with a header, one document per row.

    The column ``text`` is the text, and the others are metadata. Without this column, the text has a line
    ``name: value`` for each column that is not empty.

    Args:
        file: The file.
        encoding: Its encoding.

    Yields:
        A document, or why a row cannot be read.
    """
    with open_text(file.path, encoding, newline="") as opened:
        rows = read_rows(opened, tabs=file.suffix == ".tsv")
        filled = (row for row in rows if row.problem or any(cell.strip() for cell in row.cells))
        header: list[str] = []
        for line, cells, problem in filled:
            where = f"{file.source}, line {line}"
            if problem:
                yield Unread(where, f"{problem}; it is left out")
                if not header:
                    return
            elif not header:
                header = [name.strip() for name in cells]
                twice = next((name for name in header if name and header.count(name) > 1), None)
                if twice is not None:
                    yield Unread(where, f"has the column {twice!r} twice; give each its own name")
                    return
            elif len(cells) != len(header):
                yield Unread(where, f"has {len(cells)} cells, the header has {len(header)}")
            else:
                fields = dict(zip(header, cells, strict=True))
                if (text := fields.pop("text", None)) is None:
                    text = "\n".join(f"{name}: {cell}" for name, cell in fields.items() if cell.strip())
                    fields = {}
                yield _row(text, fields, file.source, line)


def jsonl_rows(file: SourceFile, encoding: str) -> Iterator[Document | Unread]:
    """Read a JSON Lines file, one document per line: an object with a ``text``, whose other fields are metadata.

    Args:
        file: The file.
        encoding: Its encoding.

    Yields:
        A document, or why a line cannot be read.
    """
    with open_text(file.path, encoding) as opened:
        for number, line in enumerate(opened, 1):
            if not line.strip():
                continue
            where = f"{file.source}, line {number}"
            try:
                row = json.loads(line)
                if isinstance(row, dict):
                    check_values(row, "the object")  # an index accepts neither lone surrogates nor infinite numbers
            except InvalidInputError as error:
                yield Unread(where, f"{error}; it is left out")
            except (ValueError, RecursionError) as error:
                yield Unread(where, f"{error}; expected one JSON object per line")
            else:
                if isinstance(row, dict) and isinstance(row.get("text"), str):
                    yield _row(row.pop("text"), row, file.source, number)
                else:
                    yield Unread(where, "expected a JSON object with 'text', a text")


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
