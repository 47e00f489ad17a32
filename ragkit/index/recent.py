"""Documents that were read lately: what is found again and again is read and parsed once."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from ragkit.index.database import Database, Stored
from ragkit.records import Document

_MOST = 8 * 2**20  # characters that are kept
_SCALARS = (str, int, float, bool, type(None))


class Found(NamedTuple):
    """A document that was read.

    Attributes:
        stored: As it stands in the database.
        plain: The document, where all its metadata are scalars; else None, for it must be parsed for every reader.
    """

    stored: Stored
    plain: Document | None

    def fresh_metadata(self) -> dict[str, Any] | None:
        """Metadata that the reader may change; None where there are none."""
        if self.plain is None:
            parsed: dict[str, Any] = json.loads(self.stored.metadata)
            return parsed
        return dict(self.plain.metadata) if self.plain.metadata else None

    def fresh(self) -> Document:
        """The document for a reader who may change its metadata."""
        return Document(self.stored.text, self.stored.id, self.fresh_metadata())


class RecentDocuments:
    """Reads documents by key and keeps them until the next commit, up to a size."""

    def __init__(self, database: Database) -> None:
        """Read from a database."""
        self._database = database
        self._kept: tuple[int, dict[int, Found]] = (-1, {})
        self._size = 0

    def kept(self, version: int, keys: Collection[int]) -> dict[int, Found] | None:
        """Documents by key, if all of them are known already.

        Args:
            version: The version of which they are to be.
            keys: The keys.

        Returns:
            The documents, or None.
        """
        kept_version, kept = self._kept
        found = {key: kept[key] for key in keys if key in kept} if kept_version == version else {}
        return found if len(found) == len(keys) else None

    def by_keys(self, version: int, keys: Collection[int]) -> dict[int, Found]:
        """Documents by key; missing ones are left out.

        Args:
            version: The version that the snapshot sees which this is called in.
            keys: The keys, each once.

        Returns:
            The documents.
        """
        kept_version, kept = self._kept  # read together: another thread may put others in their place
        if kept_version != version or self._size > _MOST:
            kept, self._size = {}, 0
            self._kept = version, kept
        missing = [key for key in keys if key not in kept]
        if missing:
            read = {key: _found(stored) for key, stored in self._database.by_keys(missing).items()}
            self._size += sum(len(each.stored.text) + len(each.stored.metadata) for each in read.values())
            kept.update(read)
        return {key: kept[key] for key in keys if key in kept}


def _found(stored: Stored) -> Found:
    metadata: dict[str, Any] = json.loads(stored.metadata)
    plain = all(isinstance(value, _SCALARS) for value in metadata.values())
    return Found(stored, Document(stored.text, stored.id, metadata or None) if plain else None)
