"""Documents of one commit, with checks that none is missing because the database is damaged.

Documents that the database does not find are checked against the array files, which have their own checksums.
Documents that were read recently are cached.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ragkit.errors import CorruptIndexError
from ragkit.index._checksum import name_hashes
from ragkit.index._database import Database, Stored, is_text
from ragkit.index._field_values import metadata_of
from ragkit.index._snapshot import State
from ragkit.records import Document

_MOST = 8 * 2**20  # maximum number of cached characters


def by_ids(database: Database, state: State, names: Collection[str]) -> dict[str, Stored]:
    """Return documents by id, inside a snapshot; unknown ids are ignored.

    Raises:
        CorruptIndexError: If a document is missing or does not match its checksum.
    """
    found = database.by_ids(names)
    missing = [name for name in names if name not in found and is_text(name)]
    if missing and len(rows := state.rows_of_ids(missing)):
        there = database.by_keys(state.keys.take(rows).tolist())
        if len(there) < len(rows) or {each.id for each in there.values()}.intersection(missing):
            raise CorruptIndexError(database.path, "a document is not found by its id")
    return found


def known_ids(state: State, names: Sequence[str]) -> list[str]:
    """Return the names whose hashes are stored; all others can be ruled out without a query."""
    names = [name for name in names if is_text(name)]
    rows = state.rows_of_ids(names)
    if not len(rows):
        return []
    there = np.isin(name_hashes(names), state.ids.take(rows))
    return [name for name, known in zip(names, there.tolist(), strict=True) if known]


def listed(database: Database, state: State) -> Iterator[Stored]:
    """Yield all documents with an empty text, inside a snapshot.

    Raises:
        CorruptIndexError: If a document is missing or does not match its checksum.
    """
    count = 0
    for each in database.listed():
        count += 1
        yield each
    if count != state.live:
        raise CorruptIndexError(database.path, f"it holds {count} documents instead of {state.live}")


class Found(NamedTuple):
    """A document that was read."""

    stored: Stored
    plain: Document | None  # None unless all metadata are scalars: others must be parsed for every caller

    def fresh_metadata(self) -> dict[str, Any] | None:
        """Return metadata that the caller may change; None if there are none."""
        if self.plain is None:
            parsed: dict[str, Any] = json.loads(self.stored.metadata)  # it was read before
            return parsed
        return dict(self.plain.metadata) if self.plain.metadata else None

    def fresh(self) -> Document:
        """Return a document whose metadata the caller may change."""
        return Document(self.stored.text, self.stored.id, self.fresh_metadata())


class RecentDocuments:
    """Reads documents by key and caches them until the next commit, up to a size."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: tuple[int, dict[int, Found]] = (-1, {})
        self._size = 0

    def of_commit(self, state: State, keys: Collection[int]) -> dict[int, Found]:
        """Return documents by key, inside a snapshot of a commit; keys of removed documents are ignored.

        Raises:
            CorruptIndexError: If a document is missing or does not match its checksum.
        """
        found = self.by_keys(state.facts["version"], keys)
        missing = [key for key in keys if key not in found]
        rows = state.rows_of_keys(np.array(missing, dtype=np.int64))
        rows = rows[(rows >= 0) if state.dead is None else (rows >= 0) & ~state.dead[rows]]
        if len(rows):
            raise CorruptIndexError(self._database.path, f"the document of row {rows[0]} is missing")
        return found

    def by_keys(
        self, version: int, keys: Collection[int], is_current: Callable[[], bool] | None = None
    ) -> dict[int, Found]:
        """Return documents by different keys; unknown keys are ignored.

        Outside a snapshot of the version, ``is_current`` returns after a read whether the version is still that of the
        last commit; otherwise documents that were just read are omitted.
        """
        kept_version, kept = self._kept  # read as a pair: another thread may replace both
        if kept_version != version or self._size > _MOST:
            kept, self._size = {}, 0
            self._kept = version, kept
        missing = [key for key in keys if key not in kept]
        if missing:
            read = {key: _found(stored) for key, stored in self._database.by_keys(missing).items()}
            if is_current is None or is_current():
                self._size += sum(len(each.stored.text) + len(each.stored.metadata) for each in read.values())
                kept.update(read)
        return {key: kept[key] for key in keys if key in kept}


def _found(stored: Stored) -> Found:
    metadata = metadata_of(stored.metadata, stored.key)
    if "[" in stored.metadata or "{" in stored.metadata[1:]:  # lists or mappings
        return Found(stored, None)
    return Found(stored, Document(stored.text, stored.id, metadata or None))
