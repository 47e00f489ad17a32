"""A cache of recently read documents, so that frequent hits are read and parsed only once."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ragkit.index.database import Database, Stored
from ragkit.records import Document

_MOST = 8 * 2**20  # maximum number of cached characters


class Found(NamedTuple):
    """A document that was read.

    Attributes:
        stored: The document as stored.
        plain: The document if all its metadata are scalars; otherwise None, as it must be parsed for every caller.
    """

    stored: Stored
    plain: Document | None

    def fresh_metadata(self) -> dict[str, Any] | None:
        """Return metadata that the caller may change; None if there are none."""
        if self.plain is None:
            parsed: dict[str, Any] = json.loads(self.stored.metadata)
            return parsed
        return dict(self.plain.metadata) if self.plain.metadata else None

    def fresh(self) -> Document:
        """Return a document whose metadata the caller may change."""
        return Document(self.stored.text, self.stored.id, self.fresh_metadata())


class RecentDocuments:
    """Reads documents by key and caches them until the next commit, up to a size."""

    def __init__(self, database: Database) -> None:
        """Read from a database."""
        self._database = database
        self._kept: tuple[int, dict[int, Found]] = (-1, {})
        self._size = 0

    def by_keys(
        self, version: int, keys: Collection[int], is_current: Callable[[], bool] | None = None
    ) -> dict[int, Found]:
        """Read documents by key; unknown keys are ignored.

        Args:
            version: The version of the documents.
            keys: The keys, without duplicates.
            is_current: Returns after a read whether this is still the version of the last commit; otherwise documents
                that were just read are omitted. None inside a snapshot of the version.

        Returns:
            The documents.
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
    if "[" in stored.metadata or "{" in stored.metadata[1:]:  # lists or mappings
        return Found(stored, None)
    return Found(stored, Document(stored.text, stored.id, json.loads(stored.metadata) or None))
