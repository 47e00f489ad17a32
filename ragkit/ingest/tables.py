"""Rows of CSV and JSON lines as documents."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from ragkit.errors import DataFileError, InvalidInputError
from ragkit.index.metadata import check_values
from ragkit.records import Document

_DELIMITERS = ",;\t|"


def csv_rows(path: Path, source: str, encoding: str) -> Iterator[Document | DataFileError]:
    """One document for each row of a table with a header.

    The column ``text`` is the text and the others metadata; without one, the text is a line ``name: value`` for each
    column that is not empty.

    Args:
        path: The file.
        source: What metadata call it.
        encoding: What it is written in.

    Yields:
        A document, or what is wrong with a row.
    """
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = file.read(65536)
        file.seek(0)
        rows = csv.reader(file, delimiter=_delimiter(path, sample))
        try:
            filled = (row for row in rows if any(cell.strip() for cell in row))
            header = [name.strip() for name in next(filled, [])]
            twice = next((name for name in header if name and header.count(name) > 1), None)
            if twice is not None:
                yield DataFileError(path, rows.line_num, f"has the column {twice!r} twice; give each its own name")
                return
            for row in filled:
                if len(row) != len(header):
                    yield DataFileError(path, rows.line_num, f"has {len(row)} cells, the header has {len(header)}")
                    continue
                cells = dict(zip(header, row, strict=True))
                text = cells.pop("text", None)
                if text is None:
                    text = "\n".join(f"{name}: {cell}" for name, cell in cells.items() if cell.strip())
                    cells = {}
                yield _row(text, cells, source, rows.line_num)
        except csv.Error as error:
            yield DataFileError(path, rows.line_num, f"{error}; the rows from here on are left out")


def jsonl_rows(path: Path, source: str, encoding: str, text: str = "text") -> Iterator[Document | DataFileError]:
    """One document for each line, a JSON object with a text; its other fields are metadata.

    Args:
        path: The file.
        source: What metadata call it.
        encoding: What it is written in.
        text: The field that holds the text.

    Yields:
        A document, or what is wrong with a line.
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
            try:  # half a surrogate pair or an infinite number, which no index takes
                check_values(row, "the object")
            except InvalidInputError as error:
                yield DataFileError(path, number, f"{error}; it is left out")
                continue
            yield _row(row.pop(text), row, source, number)


def _row(text: str, fields: dict[str, object] | dict[str, str], source: str, number: int) -> Document:
    own = fields.get("id")
    name = str(own) if isinstance(own, (str, int)) and own != "" else f"{source}:{number}"
    rest = {key: value for key, value in fields.items() if key != "id"}
    metadata = {**rest, "source": source, "row": number, "start": 0, "end": len(text)}
    return Document(text, id=name, metadata=metadata)


def _delimiter(path: Path, sample: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    try:
        return csv.Sniffer().sniff(sample, _DELIMITERS).delimiter
    except csv.Error:
        return ","
