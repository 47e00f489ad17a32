"""The size, the settings and the integrity of an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ragkit.errors import IntegrityError
from ragkit.index._checksum import name_hashes
from ragkit.index._connections import DAMAGE
from ragkit.index._database import Database
from ragkit.index._field_values import value_sums, values_of
from ragkit.index._segment import Segment
from ragkit.index._snapshot import State


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """The size and search settings of an index.

    Attributes:
        documents: Number of documents that can be found.
        rows: Number of stored vectors, including those of removed documents.
        dim: Vector length.
        dtype: Data type of the stored vectors.
        metric: ``"cosine"``, ``"ip"`` or ``"l2"``.
        embedder: The embedder of texts; None if the index only accepts vectors.
        bytes: Bytes on disk.
        factory: Factory string of the approximate part; ``"flat"`` if search is exact.
        built: Number of rows in the approximate part; the rest is searched exactly.
        tuned: Measured recall with its settings; None if `Index.tune` was not called.
    """

    documents: int
    rows: int
    dim: int
    dtype: str
    metric: str
    embedder: str | None
    bytes: int
    factory: str
    built: int
    tuned: Mapping[str, float] | None


def stats_of(folder: Path, state: State) -> IndexStats:
    """Return the size and settings of a commit."""
    facts, segment = state.facts, state.segment
    return IndexStats(
        documents=state.live,
        rows=facts["rows"],
        dim=facts["dim"],
        dtype=facts["dtype"],
        metric=facts["metric"],
        embedder=facts["embedder"],
        bytes=_bytes_of(folder),
        factory=segment.factory if segment else "flat",
        built=segment.rows if segment else 0,
        tuned=facts["tuned"],
    )


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may have compacted the index
            total += path.stat().st_size
    return total


def problems(folder: Path, database: Database, state: State) -> list[str]:
    """Return a description of each damage of an index, inside a snapshot."""
    found: list[str] = []
    checks = (
        _pages(database),
        _documents(database, state),
        _blocks(state),
        _values(database, state),
        _segment(folder, state),
    )
    for check in checks:
        try:
            found.extend(check)
        except (IntegrityError, FileNotFoundError, *DAMAGE) as error:
            found.append(str(error))
    return found


def _pages(database: Database) -> Iterator[str]:
    for (text,) in database.connection.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield text


def _documents(database: Database, state: State) -> Iterator[str]:
    keys, hashes, seen = state.keys.all(), state.ids.all(), 0
    for document in database.every():
        seen += 1
        row = document.row
        if not 0 <= row < len(hashes) or keys[row] != document.key:
            yield f"document {document.id!r} has the vector of another one"
        elif hashes[row] != name_hashes([document.id])[0]:
            yield f"the hash of the id of document {document.id!r} is not what was written"
    if seen != state.live:
        yield f"there are {seen} documents instead of {state.live}"


def _blocks(state: State) -> Iterator[str]:
    for blocks in state.blocks:
        yield from blocks.problems()


def _values(database: Database, state: State) -> Iterator[str]:
    indexed = state.facts["indexed"]
    expected = value_sums(value for each in database.every() for value in values_of(each.key, each.metadata, indexed))
    found = value_sums(database.connection.execute("SELECT document, field, kind, value FROM facts NOT INDEXED"))
    for field, told in indexed.items():
        if not told == expected.get(field, 0) == found.get(field, 0):
            yield f"the values of the field {field!r} are not what was written"


def _segment(folder: Path, state: State) -> Iterator[str]:
    told = state.facts["segment"]
    if told is not None:
        path = folder / f"segment-{state.facts['generation']}.faiss"
        Segment.read(path, told, state.facts["dim"], euclidean=state.facts["metric"] == "l2")
    yield from ()
