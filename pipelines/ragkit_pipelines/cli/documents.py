"""Read the documents that a command adds to an index."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from ragkit._text import read_json
from ragkit.errors import DataFileError, InvalidInputError, UnreadFileWarning
from ragkit.index import Index
from ragkit.ingest import load_chunker, load_documents
from ragkit.ingest._chunking import with_lines
from ragkit.records import Document
from ragkit_pipelines.cli.common import report_unread


def read_pieces(file: Path, chunker: str, index: Index) -> list[Document]:
    """Read a document, and split it into pieces for an index."""
    split = load_chunker(chunker, embedder=index.embedder or "minilm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadFileWarning)  # reported below, as for a folder
        read = load_documents(file)
    if not any(document.text.strip() for document in read):
        reasons = "; ".join(each.reason for each in read.unread) or "it contains no text"
        raise DataFileError(file, 0, f"{reasons}; pass a document that can be read")
    report_unread(read.unread)
    return [piece for document in read for piece in with_lines(document, split.chunk(document))]


def read_rows(path: Path, text: str) -> Iterator[Document]:
    """Read the documents of a JSON Lines file, one at a time."""
    try:
        file = path.open("rb")  # decoded line by line, so that an encoding error names its line
    except OSError as error:
        raise DataFileError(path, 0, f"cannot be read ({error.strerror}); expected a JSON Lines file") from error
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = read_json(line)
            except InvalidInputError as error:
                raise DataFileError(path, number, f"{error}; expected one JSON object per line") from error
            if not isinstance(row, dict) or not isinstance(row.get(text), str):
                raise DataFileError(path, number, f"expected a JSON object whose field {text!r} is a string")
            name = row.pop("id" if row.get("id") is not None else "_id", None)  # `_id` as in BEIR
            if name is not None and not isinstance(name, (str, int)):
                raise DataFileError(path, number, f"`id` must be a string or an integer, got {name!r}")
            yield Document(row.pop(text), id=None if name is None else str(name), metadata=row or None)
