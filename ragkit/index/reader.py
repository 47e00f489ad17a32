"""Reading an index: documents and vectors by id, by key, or by similarity."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index.document_cache import Found, RecentDocuments
from ragkit.index.documents import by_ids, check_missing
from ragkit.index.exact import Found as Nearest
from ragkit.index.filters import Filters
from ragkit.index.searching import find
from ragkit.index.snapshot import State
from ragkit.index.store import Store
from ragkit.index.vectors import checked_vectors
from ragkit.records import Document

Where = Mapping[str, object]


class Reader:
    """Reads from the commits of a store; see `Index` for the results of its methods. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Read from a store."""
        self._store = store
        self._filters = Filters(store.database)
        self._recent = RecentDocuments(store.database)

    def by_ids(self, ids: Collection[str]) -> list[Document]:
        """Return documents in the order of the ids; unknown ids are ignored."""
        with self._store.reading() as state:
            found = by_ids(self._store.database, state, dict.fromkeys(ids))
        return [
            Document(found[name].text, id=name, metadata=json.loads(found[name].metadata) or None)
            for name in ids
            if name in found
        ]

    def by_keys(self, keys: Iterable[int]) -> list[Document | None]:
        """Return the document of each key; None if it does not exist."""
        asked = list(keys)
        with self._store.reading() as state:
            found = self._recent.by_keys(state.facts["version"], set(asked))
            if missing := set(asked) - found.keys():
                check_missing(self._store.database, state, missing)
        return [found[key].fresh() if key in found else None for key in asked]

    def keys(self, where: Where | None) -> NDArray[np.int64]:
        """Return the keys of all documents that match a filter, i64[n], ascending."""
        with self._store.reading() as state:
            if where is not None:
                return state.keys_of(self._filters.rows(state, where))
            return state.keys.copy() if state.dead is None else state.keys[~state.dead]

    def vectors_by_ids(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return f32[n, dim], with zeros for unknown ids."""
        with self._store.reading() as state:
            found = by_ids(self._store.database, state, dict.fromkeys(ids))
            vectors = np.zeros((len(ids), state.facts["dim"]), dtype=np.float32)
            known = [place for place, name in enumerate(ids) if name in found]
            vectors[known] = state.vectors_of(np.array([found[ids[place]].row for place in known], dtype=np.int64))
        return vectors

    def vectors_by_keys(self, keys: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return f32[n, dim], with zeros for unknown keys."""
        with self._store.reading() as state:
            found = np.zeros((len(keys), state.facts["dim"]), dtype=np.float32)
            if state.facts["rows"]:
                rows = np.minimum(np.searchsorted(state.keys, keys), len(state.keys) - 1)  # keys are ascending
                known = state.keys[rows] == keys
                found[known] = state.vectors_of(rows[known])
        return found

    def nearest_keys(self, queries: NDArray[np.floating], k: int, where: Where | None) -> Nearest:
        """Return f32[m, k] scores and i64[m, k] keys, padded with -inf and -1; documents are not read."""
        self._store.check_open()
        vectors = checked_vectors(queries, "queries", self._store.state.facts)
        if where is None:
            return self._nearest(self._store.state, vectors, k, None)
        with self._store.reading() as state:
            return self._nearest(state, vectors, k, where)

    def nearest_documents(
        self, queries: NDArray[np.floating], k: int, where: Where | None
    ) -> list[list[tuple[int, float, Found]]]:
        """Return keys, scores and documents for each query, best first, all from one commit."""
        store = self._store
        store.check_open()
        state, result = store.state, None
        vectors = checked_vectors(queries, "queries", state.facts)
        # Only the holder of the lock writes, so the state of this object is the last commit, and one statement reads
        # its documents. The search is repeated in a snapshot only if a commit was made in between.
        if where is None and not store.read_only:
            result = self._nearest(state, vectors, k, None)
            keys = _distinct(result[1])
            found = self._recent.by_keys(state.facts["version"], keys, lambda: store.is_last(state))
            if len(found) == len(keys):
                return _joined(*result, found)
        with store.reading() as now:
            if result is None or now is not state:
                result = self._nearest(now, vectors, k, where)
            keys = _distinct(result[1])
            found = self._recent.by_keys(now.facts["version"], keys)
            if missing := keys - found.keys():
                check_missing(store.database, now, missing)
            return _joined(*result, found)

    def _nearest(self, state: State, vectors: NDArray[np.float32], k: int, where: Where | None) -> Nearest:
        if type(k) is not int or k < 0:
            raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
        matched = None if where is None else self._filters.rows(state, where)
        scores, rows = find(state, vectors, k, matched)
        if not state.facts["rows"]:
            return scores, rows
        keys = state.keys_of(rows)
        if matched is not None or state.segment is not None or k > state.live:
            keys = np.where(rows < 0, -1, keys)
        return scores, keys


def _distinct(keys: NDArray[np.int64]) -> set[int]:
    return {key for key in keys.ravel().tolist() if key >= 0}


def _joined(
    scores: NDArray[np.float32], keys: NDArray[np.int64], found: Mapping[int, Found]
) -> list[list[tuple[int, float, Found]]]:
    return [
        [(key, score, found[key]) for key, score in zip(row, line, strict=True) if key >= 0]
        for row, line in zip(keys.tolist(), scores.tolist(), strict=True)
    ]
