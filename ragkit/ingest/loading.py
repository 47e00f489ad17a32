"""Loading files and folders as documents; files that cannot be read are reported and skipped."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, overload

from ragkit.errors import DataFileError, InvalidInputError, UnreadFileWarning
from ragkit.ingest.conversion import CONVERTED, convert
from ragkit.ingest.tables import csv_rows, jsonl_rows
from ragkit.ingest.text_files import FileFacts, blocks, file_facts
from ragkit.records import Document


class Unread(NamedTuple):
    """A file or line that could not be read.

    Attributes:
        source: The file, with the line number if only a line is affected.
        reason: Why it could not be read.
    """

    source: str
    reason: str


class SourceFile(NamedTuple):
    """A file to be read.

    Attributes:
        path: Its path.
        source: Its name in metadata: the folder's name and the relative path, the file name, or a path of the pattern.
    """

    path: Path
    source: str


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


def load_documents(path: str | Path) -> Loaded:
    """Read a file, all files of a folder, or those that match a pattern.

    HTML, PDF, Word and PowerPoint are converted to Markdown. Each row of a CSV file and each line of a JSON Lines file
    is one document. All other files are read as text. Metadata contain the position of a text: ``source``, ``start``
    and ``end`` in characters of the source's text, and ``row`` for rows. Hidden files are skipped, links are not
    followed, and a text of more than a million characters is split into several documents.

    The id of a row is its field ``id`` or ``_id``. If several rows have the same id, their ids are the file and the row
    instead, and the original id is kept as ``id`` in the metadata. Other fields of a row become metadata. An underscore
    is appended to field names that ragkit uses itself, such as ``source`` and ``row``: ``source_``.

    Args:
        path: A file, a folder, or a pattern such as ``"docs/**/*.md"``.

    Returns:
        The documents in the order of their sources, and the files and lines that could not be read, which are also
        reported in a warning.

    Raises:
        InvalidInputError: If there is no file.
    """
    documents: list[Document] = []
    unread: list[Unread] = []
    for each in find_files(path):
        if isinstance(each, Unread):
            unread.append(each)
            continue
        for item in read_file(each):
            if isinstance(item, Unread):
                unread.append(item)
            else:
                documents.append(item)
    warn_of(unread)
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


def warn_of(unread: Sequence[Unread]) -> None:
    """Warn of skipped files and lines, if there are any."""
    if unread:
        shown = "; ".join(f"{each.source}: {each.reason}" for each in unread[:5])
        more = f"; and {len(unread) - 5} more" if len(unread) > 5 else ""
        warnings.warn(UnreadFileWarning(f"{len(unread)} could not be read: {shown}{more}"), stacklevel=3)


def find_files(path: str | Path) -> list[SourceFile | Unread]:
    """Return the files that a path refers to, sorted by name.

    Args:
        path: A file, a folder, or a pattern.

    Returns:
        Files to read, and files that are skipped.

    Raises:
        InvalidInputError: If there is no file.
    """
    place = Path(path)
    if place.is_dir():
        root = place.resolve()
        found = [_checked(Path(each), f"{root.name}/{Path(each).relative_to(root).as_posix()}") for each in _walk(root)]
    elif place.exists() or place.is_symlink():
        found = [_named(place, place.name)]
    else:
        matched = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob rejects absolute patterns
        found = [_checked(Path(each), Path(each).as_posix()) for each in matched if not Path(each).is_dir()]
    if not found:
        raise InvalidInputError(f"{path} holds no file; give a file, a folder with files, or a pattern that matches")
    return found


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        linked = [each for each in folders if Path(folder, each).is_symlink()]
        yield from (str(Path(folder, each)) for each in sorted([*names, *linked]) if not each.startswith("."))


def _checked(path: Path, source: str) -> SourceFile | Unread:
    if path.is_symlink():
        return Unread(source, "it is a link, and links are not followed")
    if not path.is_file():
        return Unread(source, "it is not a regular file")
    return _named(path, source)


def _named(path: Path, source: str) -> SourceFile | Unread:
    """Return a file, if its name can be stored in metadata."""
    shown = source.encode("utf-8", "backslashreplace").decode()
    return SourceFile(path, source) if shown == source else Unread(shown, "its name is not valid text; rename it")


def read_file(file: SourceFile, facts: FileFacts | None = None) -> Iterator[Document | Unread]:
    """Read one file; large texts are read in blocks.

    Args:
        file: The file.
        facts: The result of `file_facts`, if it was called before.

    Yields:
        Documents, and files and lines that could not be read.
    """
    try:
        for item in _read(file, facts or file_facts(file.path)):
            if isinstance(item, DataFileError):
                where = f"{file.source}, line {item.line}" if item.line else file.source
                yield Unread(where, str(item).partition(": ")[2])
            else:
                yield item
    except DataFileError as error:
        yield Unread(file.source, str(error).partition(": ")[2])
    except OSError as error:
        yield Unread(file.source, f"it cannot be opened ({error.strerror or error})")


def _read(file: SourceFile, facts: FileFacts) -> Iterable[Document | DataFileError]:
    suffix = file.path.suffix.lower()
    if suffix in CONVERTED:
        return _converted(file, facts.encoding)
    if facts.encoding is None:
        raise DataFileError(file.path, 0, facts.problem)
    if suffix in {".csv", ".tsv"}:
        return csv_rows(file.path, file.source, facts.encoding)
    if suffix == ".jsonl":
        return jsonl_rows(file.path, file.source, facts.encoding)
    return _texts(file, facts.encoding)


def _converted(file: SourceFile, encoding: str | None) -> Iterator[Document | DataFileError]:
    text, problem = convert(file.path, encoding)
    yield Document(text, id=file.source, metadata=_place(file.source, 0, text))
    if problem:
        yield DataFileError(file.path, 0, problem)


def _texts(file: SourceFile, encoding: str) -> Iterator[Document]:
    for start, text in blocks(file.path, encoding):
        if text.strip():
            name = file.source if start == 0 else f"{file.source}#{start}"
            more = {} if encoding.startswith("utf-8") else {"encoding": encoding}
            yield Document(text, id=name, metadata={**_place(file.source, start, text), **more})


def _place(source: str, start: int, text: str) -> dict[str, object]:
    return {"source": source, "start": start, "end": start + len(text)}
