"""Syncing an index with a folder or with a collection of documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit._progress import progress
from ragkit.errors import InvalidInputError
from ragkit.index._documents import listed
from ragkit.ingest._chunking import Chunker, load_chunker, with_lines
from ragkit.ingest._conversion import ConversionLimits
from ragkit.ingest._loading import facts_of, read_file
from ragkit.ingest._sources import SourceFile, Unread, find_files
from ragkit.records import Document

if TYPE_CHECKING:
    from ragkit.index import Index
    from ragkit.index._document_inputs import AnyDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """The changes made by `Index.sync`.

    Attributes:
        new: Number of texts that were new or changed.
        removed: Number of documents removed.
        unchanged: Number of unchanged files.
        unread: Files and lines that could not be read, with the reason.
    """

    new: int
    removed: int
    unchanged: int = 0
    unread: tuple[Unread, ...] = ()


@dataclass(slots=True)
class _Held:
    """The chunks of one file in the index.

    Attributes:
        ids: Their ids.
        states: The hashes of the file and the names of the chunker in their metadata.
        parts: The number of chunks recorded in the last chunk; missing after an interrupted call.
    """

    ids: set[str] = field(default_factory=set)
    states: set[tuple[object, object]] = field(default_factory=set)
    parts: object = None


def sync_folder(
    index: Index, folder: Path, chunker: str | Chunker, limits: ConversionLimits | None = None
) -> SyncReport:
    """Add new and changed files of a folder, then remove deleted ones.

    Args:
        index: The index.
        folder: The folder.
        chunker: The chunker of files, or its spec.
        limits: Limits of the conversion of a file; by default, those of `ConversionLimits`.

    Returns:
        A report of the changes.

    Raises:
        InvalidInputError: If the folder does not exist or has no files; nothing is changed then.
    """
    if index.embedder is None:
        raise InvalidInputError("this index has no embedder, so it cannot read files; make one with an embedder")
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is not a folder; pass a folder, or documents")
    cut = load_chunker(chunker, embedder=index.embedder)
    found = find_files(folder)
    held = _held(index, f"{folder.resolve().name}/")
    run = _Run(cut, held, limits or ConversionLimits())
    before = index._store.state.facts["next_key"]
    with progress("reading files", len(found)) as advance:
        index.add(run.pieces(found, advance))
    there = {each.source for each in found}
    gone = {own for source, each in held.items() if source not in there for own in each.ids}
    removed = index.delete(gone | run.stale)
    return SyncReport(
        new=index._store.state.facts["next_key"] - before,
        removed=removed,
        unchanged=run.unchanged,
        unread=tuple(run.unread),
    )


def sync_documents(index: Index, documents: Iterable[AnyDocument]) -> SyncReport:
    """Add documents, then remove all others.

    Args:
        index: The index.
        documents: The documents that the index is to contain.

    Returns:
        A report of the changes.
    """
    before = index._store.state.facts["next_key"]
    kept = set(index.add(documents))
    with index._store.reading() as state:
        gone = [each.id for each in listed(index._store.database, state) if each.id not in kept]
    return SyncReport(new=index._store.state.facts["next_key"] - before, removed=index.delete(gone))


class _Run:
    """One sync: yields the chunks of new and changed files, and collects the other changes.

    Attributes:
        stale: Ids of old chunks that a changed file no longer has.
        unchanged: Number of unchanged files.
        unread: Files and lines that could not be read.
    """

    def __init__(self, chunker: Chunker, held: dict[str, _Held], limits: ConversionLimits) -> None:
        self._chunker, self._held, self._limits = chunker, held, limits
        self.stale: set[str] = set()
        self.unchanged = 0
        self.unread: list[Unread] = []

    def pieces(self, files: list[SourceFile | Unread], advance: Callable[[int], None]) -> Iterator[Document]:
        """Yield the chunks of new and changed files; ``advance`` is called for each file."""
        for file in files:
            advance(1)
            facts = file if isinstance(file, Unread) else facts_of(file, self._limits)
            if isinstance(file, Unread) or isinstance(facts, Unread):
                self.unread.append(Unread(*facts))
                continue
            held = self._held.get(file.source, _Held())
            if held.states == {(facts.hash, self._chunker.name)} and held.parts == len(held.ids):
                self.unchanged += 1
                continue
            failures = len(self.unread)
            made: set[str] = set()
            waiting: Document | None = None
            for item in read_file(file, facts, self._limits):
                if isinstance(item, Unread):
                    self.unread.append(item)
                    continue
                for piece in with_lines(item, self._chunker.chunk(item)):
                    if waiting is not None:
                        yield waiting
                    waiting = _named(piece, file.source, facts.hash, self._chunker.name)
                    made.add(waiting.id or "")
            if waiting is not None:  # the last chunk records that all are stored
                yield replace(waiting, metadata={**(waiting.metadata or {}), "parts": len(made)})
            if waiting is not None or len(self.unread) == failures:
                self.stale |= held.ids - made


def _named(piece: Document, source: str, file_hash: str, chunker: str) -> Document:
    metadata = dict(piece.metadata or {})
    row = f":{metadata['row']}" if "row" in metadata else ""
    name = f"{source}{row}#{metadata['start']}-{metadata['end']}"
    return Document(piece.text, id=name, metadata={**metadata, "file": file_hash, "chunker": chunker})


def _held(index: Index, prefix: str) -> dict[str, _Held]:
    """Return the chunks of a folder in the index, by file."""
    found: dict[str, _Held] = {}
    with index._store.reading() as state:
        for each in listed(index._store.database, state):
            metadata = json.loads(each.metadata)
            source = metadata.get("source")
            if not isinstance(source, str) or not source.startswith(prefix) or "file" not in metadata:
                continue
            held = found.setdefault(source, _Held())
            held.ids.add(each.id)
            held.states.add((metadata.get("file"), metadata.get("chunker")))
            held.parts = metadata.get("parts", held.parts)
    return found
