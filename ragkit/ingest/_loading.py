"""Loading files and folders as documents; files that cannot be read are reported and skipped."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from ragkit._breaks import LineNumbers
from ragkit.errors import UnreadFileWarning
from ragkit.ingest._conversion import CONVERTED, ConversionLimits, convert
from ragkit.ingest._sources import SourceFile, find_files
from ragkit.ingest._sources import Unread as Unread
from ragkit.ingest._tables import csv_rows, jsonl_rows
from ragkit.ingest._text_files import FileFacts, blocks, file_facts
from ragkit.records import Document


@dataclass(frozen=True, slots=True)
class Loaded(Sequence[Document]):
    """Documents, and files and lines that could not be read.

    Attributes:
        documents: The documents.
        unread: Files and lines that were skipped, with the reason.
    """

    documents: tuple[Document, ...]
    unread: tuple[Unread, ...] = ()

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Document, ...]: ...
    def __getitem__(self, place: int | slice) -> Document | tuple[Document, ...]:
        return self.documents[place]

    def __len__(self) -> int:
        return len(self.documents)


def load_documents(path: str | Path, *, limits: ConversionLimits | None = None) -> Loaded:
    """Read a file, all files of a folder, or those that match a pattern.

    HTML, PDF, Word and PowerPoint are converted to Markdown, in a child process with limits of time and memory. Each
    row of a CSV file and each line of a JSON Lines file is one document. All other files are read as text. Metadata
    contain the position of a text: ``source``, ``start`` and ``end`` in characters of the source's text, ``line`` for
    texts that were not converted, and ``row`` for rows. Hidden files are skipped, links are not followed, and a text of
    more than a million characters is split into several documents.

    The id of a row is its field ``id`` or ``_id``. If several rows have the same id, their ids are the file and the row
    instead, and the original id is kept as ``id`` in the metadata. Other fields of a row become metadata. An underscore
    is appended to field names that ragkit uses itself, such as ``source`` and ``row``: ``source_``.

    Args:
        path: A file, a folder, or a pattern such as ``"docs/**/*.md"``.
        limits: Limits of the conversion of a file; by default, those of `ConversionLimits`.

    Returns:
        The documents in the order of their sources, and the files and lines that could not be read, which are also
        reported in a warning.

    Raises:
        InvalidInputError: If there is no file.
    """
    limits = limits or ConversionLimits()
    documents: list[Document] = []
    unread: list[Unread] = []
    for file in find_files(path):
        for item in [file] if isinstance(file, Unread) else read_file(file, facts_of(file, limits), limits):
            if isinstance(item, Unread):
                unread.append(item)
            else:
                documents.append(item)
    if unread:
        shown = "; ".join(f"{each.source}: {each.reason}" for each in unread[:5])
        more = f"; and {len(unread) - 5} more" if len(unread) > 5 else ""
        warnings.warn(UnreadFileWarning(f"{len(unread)} could not be read: {shown}{more}"), stacklevel=2)
    return Loaded(tuple(_with_own_ids(documents)), tuple(unread))


def _with_own_ids(documents: Sequence[Document]) -> Sequence[Document]:
    """Identify rows by their file and line if another document has the same id."""
    counts = Counter(each.id for each in documents)
    while any(count > 1 for count in counts.values()):
        given = documents
        documents = [_by_place(each) if counts[each.id] > 1 else each for each in given]
        counts = Counter(each.id for each in documents)
        if documents == given:
            break
    return documents


def _by_place(document: Document) -> Document:
    metadata = document.metadata or {}
    name = f"{metadata.get('source')}:{metadata.get('row')}"
    if "row" not in metadata or document.id == name:
        return document
    return replace(document, id=name, metadata={"id": document.id, **metadata})


def facts_of(file: SourceFile, limits: ConversionLimits) -> FileFacts | Unread:
    """Return the hash and the encoding of a file, or why it cannot be read."""
    try:
        if file.suffix not in CONVERTED:
            return file_facts(file.path)
        if file.path.stat().st_size > limits.mebibytes * 2**20:
            return Unread(file.source, f"it is larger than the {limits.mebibytes} MiB in which it would be converted")
        return file_facts(file.path, binary=True)
    except OSError as error:
        return _unopened(file, error)


def read_file(file: SourceFile, facts: FileFacts | Unread, limits: ConversionLimits) -> Iterator[Document | Unread]:
    """Read one file; large texts are read in blocks.

    Args:
        file: The file.
        facts: The result of `facts_of`.
        limits: Limits of its conversion.

    Yields:
        Documents, and files and lines that could not be read.
    """
    try:
        if isinstance(facts, Unread):
            yield facts
        elif file.suffix in CONVERTED:
            yield from _converted(file, facts.encoding, limits)
        elif facts.encoding is None:
            yield Unread(file.source, facts.problem)
        elif file.suffix in {".csv", ".tsv"}:
            yield from csv_rows(file, facts.encoding)
        elif file.suffix == ".jsonl":
            yield from jsonl_rows(file, facts.encoding)
        else:
            yield from _texts(file, facts.encoding)
    except OSError as error:
        yield _unopened(file, error)


def _unopened(file: SourceFile, error: OSError) -> Unread:
    return Unread(file.source, f"it cannot be opened ({error.strerror or error})")


def _converted(file: SourceFile, encoding: str | None, limits: ConversionLimits) -> Iterator[Document | Unread]:
    text, problem = convert(file, encoding, limits)
    if text:
        yield Document(text, id=file.source, metadata=_place(file.source, 0, text))
    if problem:
        yield Unread(file.source, problem)


def _texts(file: SourceFile, encoding: str) -> Iterator[Document]:
    line = 1
    for start, text in blocks(file.path, encoding):
        if text.strip():
            name = file.source if start == 0 else f"{file.source}#{start}"
            more = {} if encoding.startswith("utf-8") else {"encoding": encoding}
            yield Document(text, id=name, metadata={**_place(file.source, start, text), "line": line, **more})
        line = LineNumbers(text, line).at(len(text))


def _place(source: str, start: int, text: str) -> dict[str, object]:
    return {"source": source, "start": start, "end": start + len(text)}
