"""Reading an index: documents and vectors by id, by key, or by similarity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._text import shown
from ragkit.errors import CorruptIndexError, InvalidInputError
from ragkit.index._document_inputs import checked_texts
from ragkit.index._documents import Found, RecentDocuments, by_ids
from ragkit.index._exact import GATHER, merged, nearest
from ragkit.index._exact import Found as Nearest
from ragkit.index._field_values import metadata_of
from ragkit.index._filters import Filters
from ragkit.index._inspection import IndexStats, problems, stats_of
from ragkit.index._snapshot import State
from ragkit.index._store import Store
from ragkit.index._text_search import Ranked, TextSearch
from ragkit.index._vectors import checked_vectors
from ragkit.protocols import Embedder
from ragkit.records import Document
from ragkit.where import Where

_MOST_ROWS = 2**31 - 1
_DECIMALS = 6  # approximate indexes add in a different order, so scores are compared at 1e-6


class IndexReader(TextSearch):
    """Everything of an `Index` that reads. Thread-safe; each call sees one commit.

    Attributes:
        path: The folder; a temporary folder for an index in memory.
        embedder: The embedder of texts; None if the index only accepts vectors.
    """

    def __init__(self, store: Store, embedder: Embedder | None) -> None:
        """Read from a store."""
        self.path, self.embedder = store.folder, embedder
        self._store, self._metric = store, store.state.facts["metric"]
        self._filters = Filters(store.database)
        self._recent = RecentDocuments(store.database)

    @property
    def read_only(self) -> bool:
        """Whether the index is read-only, as it is in a process that was forked from the writer."""
        return self._store.read_only

    @property
    def is_stored(self) -> bool:
        """Whether the index is stored in a folder of the user, and not in memory."""
        return self._store.durable

    @property
    def version(self) -> int:
        """Number of the last commit seen; it increases with every change."""
        return self._store.state.facts["version"]

    def __len__(self) -> int:
        return self._store.state.live

    @override
    def close(self) -> None:
        """Close the files and release the lock. Safe to call twice."""
        self._store.close()

    def refresh(self) -> None:
        """Load commits of other processes; `search` does so automatically."""
        self._store.refresh()

    def stats(self) -> IndexStats:
        """Return the size and settings of the index at the last commit."""
        return stats_of(self.path, self._store.state)

    def verify(self) -> None:
        """Verify every checksum and the consistency of all parts.

        Raises:
            CorruptIndexError: If there is damage; the message lists all problems.
        """
        with self._store.reading() as state:
            found = problems(self.path, self._store.database, state)
        if found:
            raise CorruptIndexError(self.path, "; ".join(found[:20]))

    # -- by id and by key ----------------------------------------------------------------------------------------------

    def get(self, ids: Collection[str]) -> list[Document]:
        """Return the documents with some ids, in the order of the ids; unknown ids are ignored."""
        names = checked_texts("ids", ids)
        with self._store.reading() as state:
            found = by_ids(self._store.database, state, dict.fromkeys(names))
        read = (found[name] for name in names if name in found)
        return [Document(each.text, id=each.id, metadata=metadata_of(each.metadata, each.key) or None) for each in read]

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Return the document of each key of `search_vectors`; None for -1 and for documents removed since."""
        asked = _keys(keys).tolist()
        with self._store.reading() as state:
            found = self._recent.of_commit(state, set(asked))
        return [found[key].fresh() if key in found else None for key in asked]

    def keys(self, where: Where | None = None) -> NDArray[np.int64]:
        """Return the keys of all documents, or of those that match a filter on metadata, i64[n], ascending.

        Keys are never reused: a document whose text is replaced gets a new one.
        """
        with self._store.reading() as state:
            if where is not None:
                return state.keys.take(self._filters.rows(state, where))
            keys = state.keys.all()
            return keys.copy() if state.dead is None else keys[~state.dead]

    def get_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of documents by their ids, f32[n, dim], with zeros for unknown ids."""
        names = checked_texts("ids", ids)
        with self._store.reading() as state:
            found = by_ids(self._store.database, state, dict.fromkeys(names))
            rows = np.array([found[name].row if name in found else -1 for name in names], dtype=np.int64)
            return _vectors(state, rows)

    def get_vectors_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of n keys that `search_vectors` returns, f32[n, dim] as stored.

        They are zeros for -1, and for removed documents after compaction.
        """
        asked = _keys(keys)
        with self._store.reading() as state:
            return _vectors(state, state.rows_of_keys(asked))

    # -- by similarity -------------------------------------------------------------------------------------------------

    def search_documents(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Where | None = None
    ) -> list[list[tuple[int, float, Document]]]:
        """Find the documents nearest to query vectors; all come from one commit.

        Args:
            queries: float[m, dim].
            k: Number of documents, 0 or more.
            where: A filter on metadata.

        Returns:
            Keys, scores and documents for each query, best first. Documents may be shared with other callers: do not
            change their metadata.
        """
        found = self._nearest_documents(np.asarray(queries), k, where)
        return [[(key, score, each.plain or each.fresh()) for key, score, each in row] for row in found]

    def search_vectors(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Where | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the documents nearest to query vectors, without reading their texts.

        Args:
            queries: float[m, dim].
            k: Number of documents, 0 or more.
            where: A filter on metadata.

        Returns:
            f32[m, k] scores, higher is nearer (negative squared distances under ``"l2"``), and i64[m, k] keys for
            `get_by_keys`; padded with -inf and -1 if fewer documents match.
        """
        self._store.check_open()
        k = _checked_k(k)
        vectors = checked_vectors(np.asarray(queries), "queries", self._store.state.facts)
        if where is None:
            return self._nearest_keys(self._store.state, vectors, k, None)
        with self._store.reading() as state:
            return self._nearest_keys(state, vectors, k, where)

    @override
    def _nearest(self, vectors: NDArray[np.float32], k: int, where: Where | None) -> Iterable[Iterable[Ranked]]:
        return (
            [Ranked(each.stored.id, each.stored.text, each.fresh_metadata(), score) for _, score, each in row]
            for row in self._nearest_documents(vectors, k, where)
        )

    def _nearest_documents(
        self, queries: NDArray[np.floating], k: int, where: Where | None
    ) -> list[list[tuple[int, float, Found]]]:
        """Return keys, scores and documents for each query, best first, all from one commit."""
        store = self._store
        store.check_open()
        state, result = store.state, None
        k = min(_checked_k(k), state.facts["rows"] + 1)  # more would only be padding
        vectors = checked_vectors(queries, "queries", state.facts)
        # Only the holder of the lock writes, so the state of this object is the last commit, and one statement reads
        # its documents. The search is repeated in a snapshot only if a commit was made in between.
        if where is None and not store.read_only:
            result = self._nearest_keys(state, vectors, k, None)
            keys = _distinct(result[1])
            found = self._recent.by_keys(state.facts["version"], keys, lambda: store.is_last(state))
            if len(found) == len(keys):
                return _joined(*result, found)
        with store.reading() as now:
            if result is None or now is not state:
                result = self._nearest_keys(now, vectors, k, where)
            return _joined(*result, self._recent.of_commit(now, _distinct(result[1])))

    def _nearest_keys(self, state: State, vectors: NDArray[np.float32], k: int, where: Where | None) -> Nearest:
        """Return f32[m, k] scores and i64[m, k] keys, padded with -inf and -1."""
        matched = None if where is None else self._filters.rows(state, where)
        scores, rows = nearest_rows(state, vectors, k, matched)
        if not state.facts["rows"]:
            return scores, rows
        keys = state.keys.take(rows)
        if matched is not None or state.segment is not None or k > state.live:
            keys = np.where(rows < 0, -1, keys)
        return scores, keys


def nearest_rows(state: State, queries: NDArray[np.float32], k: int, matched: NDArray[np.int64] | None) -> Nearest:
    """Find the k nearest rows of f32[m, dim] queries among the matched rows, i64 in ascending order, or all rows.

    Returns:
        f32[m, k] scores and i64[m, k] rows, padded with -inf and -1 if there are fewer.
    """
    if not k or not len(queries) or not state.live or (matched is not None and not len(matched)):
        return np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
    rows, barred = state.facts["rows"], state.dead

    def exact(vectors: NDArray[np.floating], dead: NDArray[np.bool_] | None = None) -> Nearest:
        euclidean = state.facts["metric"] == "l2"
        return nearest(queries, vectors, k, euclidean=euclidean, dead=dead, doubt=state.doubt(queries))

    if matched is not None:
        if state.segment is None or len(matched) <= GATHER * rows:
            scores, places = exact(state.vectors.all() if len(matched) == rows else state.vectors.take(matched))
            return scores, np.where(places < 0, -1, matched[places])
        barred = np.ones(rows, dtype=np.bool_)
        barred[matched] = False
    if state.segment is None:
        with state.vectors.checked_meanwhile() as vectors:
            return exact(vectors, barred)
    built = state.segment.rows
    parts = [state.segment.search(queries, k, None if barred is None else barred[:built])]
    if built < rows:
        scores, places = exact(state.vectors.since(built), None if barred is None else barred[built:])
        parts.append((scores, np.where(places < 0, -1, places + built)))
    return merged(parts, k, _DECIMALS)


def _keys(keys: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    try:
        return np.asarray(keys, dtype=np.int64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"`keys` must be whole numbers as `search_vectors` returns them: {error}") from error


def _checked_k(k: object) -> int:
    if type(k) is not int or not 0 <= k < _MOST_ROWS:
        raise InvalidInputError(f"`k` must be a whole number from 0 to {_MOST_ROWS}, got {shown(k)}")
    return k


def _vectors(state: State, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors of rows, f32[n, dim], with zeros for -1."""
    found = np.zeros((len(rows), state.facts["dim"]), dtype=np.float32)
    found[rows >= 0] = state.vectors.take(rows[rows >= 0])
    return found


def _distinct(keys: NDArray[np.int64]) -> set[int]:
    return {key for key in keys.ravel().tolist() if key >= 0}


def _joined(
    scores: NDArray[np.float32], keys: NDArray[np.int64], found: Mapping[int, Found]
) -> list[list[tuple[int, float, Found]]]:
    return [
        [(key, score, found[key]) for key, score in zip(row, line, strict=True) if key >= 0]
        for row, line in zip(keys.tolist(), scores.tolist(), strict=True)
    ]
