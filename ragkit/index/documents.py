"""Documents of one commit, with checks that none is missing because the database is damaged.

Every document has a checksum. Documents that the database does not find are checked against the array files, which have
their own checksums.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ragkit.errors import CorruptIndexError
from ragkit.index.checksum import name_hashes
from ragkit.index.database import Database, Stored, is_text
from ragkit.index.snapshot import State


class Listed(NamedTuple):
    """A document without its text."""

    key: int
    id: str
    row: int
    hash: bytes
    checksum: int
    metadata: str


def check_missing(database: Database, state: State, keys: Collection[int]) -> None:
    """Check that no documents have these keys, inside a snapshot.

    Raises:
        CorruptIndexError: If a document has one of the keys.
    """
    rows = state.rows_of_keys(np.array(list(keys), dtype=np.int64))
    if (rows >= 0).any():
        raise CorruptIndexError(database.path, f"the document of row {rows.max()} is missing")


def by_ids(database: Database, state: State, names: Collection[str]) -> dict[str, Stored]:
    """Read documents by id, inside a snapshot.

    Args:
        database: The database.
        state: The commit that the snapshot sees.
        names: The ids; unknown ids are ignored.

    Returns:
        The documents.

    Raises:
        CorruptIndexError: If a document is missing or does not match its checksum.
    """
    found = database.by_ids(names)
    missing = [name for name in names if name not in found and is_text(name)]
    if missing and len(rows := state.rows_of_ids(missing)):
        there = database.by_keys(state.keys_of(rows).tolist())
        if len(there) < len(rows) or {each.id for each in there.values()}.intersection(missing):
            raise CorruptIndexError(database.path, "a document is not found by its id")
    return found


def known_ids(state: State, names: Sequence[str]) -> list[str]:
    """Return the names that may be ids of documents; all others can be ruled out without a query.

    Args:
        state: The commit.
        names: The names.

    Returns:
        The names whose hashes are stored.
    """
    names = [name for name in names if is_text(name)]
    rows = state.rows_of_ids(names)
    if not len(rows):
        return []
    there = np.isin(name_hashes(names), state.id_blocks.take(rows))
    return [name for name, known in zip(names, there.tolist(), strict=True) if known]


def listed(database: Database, state: State) -> Iterator[Listed]:
    """Read all documents without their texts, inside a snapshot.

    Yields:
        The documents.

    Raises:
        CorruptIndexError: If a document is missing or does not match its checksum.
    """
    count = 0
    for each in database.connection.execute("SELECT key, id, row, hash, checksum, metadata FROM documents"):
        database.check(each)
        count += 1
        yield Listed._make(each)
    if count != state.live:
        raise CorruptIndexError(database.path, f"it holds {count} documents instead of {state.live}")
