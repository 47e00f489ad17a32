"""Documents in memory, for retrievers that need no vectors."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index._document_inputs import AnyDocument, Incoming, checked_texts, read_documents
from ragkit.records import Document
from ragkit.where import matches, parse_where


class MemoryDocuments:
    """Documents by id, with the methods of an `Index` that read, add and delete documents.

    Each document has a key. Keys increase and are never reused: a document that is replaced gets a new one.

    Attributes:
        version: A number that increases with every change.
    """

    def __init__(self, documents: Iterable[AnyDocument] = ()) -> None:
        """Store documents."""
        self.version = 0
        self._documents: dict[int, Document] = {}
        self._incoming: dict[str, tuple[int, Incoming]] = {}
        self._next = 0
        self._lock = RLock()
        self.add(documents)

    def add(self, documents: Iterable[AnyDocument]) -> list[str]:
        """Return the ids of documents after adding them and replacing those with the same id.

        Raises:
            InvalidInputError: If a document is invalid; no documents are added then.
        """
        if isinstance(documents, str):
            raise InvalidInputError("`documents` must be a sequence of documents, got one string; put it in a list")
        read = read_documents(list(documents), 0)
        with self._lock:
            for each in read:
                key, known = self._incoming.get(each.id, (-1, None))
                if each != known:
                    self._documents.pop(key, None)
                    self._incoming[each.id] = self._next, each
                    metadata = json.loads(each.metadata) or None
                    self._documents[self._next] = Document(each.text, id=each.id, metadata=metadata)
                    self._next += 1
                    self.version += 1
        return [each.id for each in read]

    def delete(self, ids: Collection[str]) -> int:
        """Delete documents and return their number; unknown ids are ignored."""
        with self._lock:
            known = [
                self._incoming.pop(own)[0] for own in dict.fromkeys(checked_texts("ids", ids)) if own in self._incoming
            ]
            for key in known:
                del self._documents[key]
            self.version += bool(known)
        return len(known)

    def keys(self, where: Mapping[str, object] | None = None) -> NDArray[np.int64]:
        """Return the keys of all documents, or of those that match a filter, i64[n] in ascending order."""
        condition = parse_where(where or {})
        with self._lock:
            held = [key for key, each in self._documents.items() if where is None or matches(condition, each.metadata)]
        return np.array(held, dtype=np.int64)

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Return the document of each key; None if it was deleted."""
        return [self._documents.get(int(key)) for key in keys]

    def refresh(self) -> None:
        """Do nothing: no other process changes these documents."""
