"""Integrity checks of an index: every checksum, and the consistency of its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ragkit.errors import CorruptIndexError
from ragkit.index.checksum import name_hashes
from ragkit.index.database import DAMAGE, Database, fact_sums
from ragkit.index.metadata import facts_of
from ragkit.index.segment import Segment
from ragkit.index.snapshot import State


def problems(folder: Path, database: Database, state: State) -> list[str]:
    """Check an index for damage, inside a snapshot.

    Args:
        folder: The folder of the index.
        database: Its database.
        state: The commit of the snapshot.

    Returns:
        A description of each problem.
    """
    found: list[str] = []
    checks: list[Callable[[], Iterator[str]]] = [
        lambda: _pages(database),
        lambda: _documents(database, state),
        lambda: _blocks(state),
        lambda: _facts(database, state),
        lambda: _segment(folder, state),
    ]
    for check in checks:
        try:
            found += check()
        except (CorruptIndexError, FileNotFoundError, *DAMAGE) as error:
            found.append(str(error))
    return found


def _pages(database: Database) -> Iterator[str]:
    for (text,) in database.connection.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield text


def _documents(database: Database, state: State) -> Iterator[str]:
    keys = state.keys[~state.dead] if state.dead is not None else state.keys
    hashes, seen = state.id_blocks.all(), 0
    for document in database.every():
        seen += 1
        row = document.row
        if not 0 <= row < len(hashes) or state.keys[row] != document.key:
            yield f"document {document.id!r} has the vector of another one"
        elif hashes[row] != name_hashes([document.id])[0]:
            yield f"the hash of the id of document {document.id!r} is not what was written"
    if seen != len(keys):
        yield f"there are {seen} documents instead of {len(keys)}"


def _blocks(state: State) -> Iterator[str]:
    for blocks in state.blocks:
        yield from blocks.problems()


def _facts(database: Database, state: State) -> Iterator[str]:
    indexed = state.facts["indexed"]
    expected = fact_sums(fact for each in database.every() for fact in facts_of(each.key, each.metadata, indexed))
    found = fact_sums(database.connection.execute("SELECT document, field, kind, value FROM facts NOT INDEXED"))
    for field, told in indexed.items():
        if not told == expected.get(field, 0) == found.get(field, 0):
            yield f"the values of the field {field!r} are not what was written"


def _segment(folder: Path, state: State) -> Iterator[str]:
    told = state.facts["segment"]
    if told is not None:
        Segment.read(folder / f"segment-{state.facts['generation']}.faiss", told)
    yield from ()
