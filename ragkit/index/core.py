"""`Index`: a vector index that commits vectors, ids, texts and metadata together.

The data are stored in an append-only array file of vectors and a SQLite database. A write appends the vectors, waits
until they are on disk, and then commits one transaction that records the new length; rows past that length are ignored.
FAISS is used for computation only, and its files are a cache.

This module contains the public API. `store` manages commits, `opening` creates and opens a store, `adding` and `writer`
change it, `reader` and `searching` answer queries, and `maintenance` and `integrity` compact, tune and verify it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import CorruptIndexError, InvalidInputError
from ragkit.index.adding import add_documents
from ragkit.index.document_cache import Found
from ragkit.index.document_inputs import AnyDocument, checked_texts
from ragkit.index.gpu import Device
from ragkit.index.opening import Metric, create_store, open_store
from ragkit.index.reader import Reader, Where
from ragkit.index.stats import IndexStats, stats_of
from ragkit.index.store import Store
from ragkit.index.writer import index_field, remove
from ragkit.protocols import Embedder
from ragkit.records import Document, Hit, span_of

if TYPE_CHECKING:
    from ragkit.ingest.chunking import Chunker
    from ragkit.ingest.conversion import ConversionLimits
    from ragkit.ingest.syncing import SyncReport
    from ragkit.workers.pool import WorkerPool


class Index:
    """A vector index of documents. Use `create` or `open` to get one, and `close` or a ``with`` block to close it.

    One process can write at a time, while any number of processes read. Any thread may search at any time, and each
    search sees one commit. In a forked process, an index that was open for writing is read-only.

    Attributes:
        path: The folder; a temporary folder for an index in memory.
        embedder: The embedder of texts; None if the index only accepts vectors.

    Examples:
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add([Document("dim the lamp", id="a", metadata={"lang": "en"}), "play a song"])
        >>> [hit.id for hit in index.search("lamps", k=1, where={"lang": "en"})]
        ['a']
        >>> index.close()
    """

    def __init__(self, store: Store, embedder: Embedder | None) -> None:
        """Use `create` or `open`."""
        self.path, self.embedder = store.folder, embedder
        self._store = store
        self._reader = Reader(store)

    @property
    def read_only(self) -> bool:
        """Whether the index is read-only, as it is in a process that was forked from the writer."""
        return self._store.read_only

    # -- opening and closing -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path | None,
        *,
        embedder: str | Embedder | None = "minilm",
        dim: int | None = None,
        metric: Metric = "cosine",
        dtype: Literal["float32", "float16"] = "float32",
        factory: str = "auto",
        device: Device = "auto",
        exist_ok: bool = False,
    ) -> Self:
        """Create an empty index.

        Args:
            path: A new or empty folder; None for an index in memory.
            embedder: An embedder or its spec; None to pass all vectors yourself, which requires ``dim``.
            dim: Vector length, if there is no embedder.
            metric: ``"cosine"`` (vectors are normalised to length 1), ``"ip"`` or ``"l2"``.
            dtype: Data type of the stored vectors.
            factory: ``"flat"`` for exact search, ``"auto"`` to choose by size, a FAISS factory string, or ``"cagra"``
                for a graph on a GPU, which requires FAISS with cuVS.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, several of these, or ``"auto"`` for a GPU if FAISS finds one.
            exist_ok: Whether to open an existing index if it was created with the same arguments.

        Returns:
            The index, open for writing.

        Raises:
            InvalidInputError: If an argument is invalid, or if the folder contains anything else.
        """
        store, loaded = create_store(
            path,
            embedder=embedder,
            dim=dim,
            metric=metric,
            dtype=dtype,
            factory=factory,
            device=device,
            exist_ok=exist_ok,
        )
        return cls(store, loaded)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        embedder: str | Embedder | None = None,
        device: Device = "auto",
        read_only: bool = False,
        verify: bool = False,
    ) -> Self:
        """Open an index at its last commit.

        Each block of vectors and each document is verified against its checksum when it is first read.

        Args:
            path: The folder.
            embedder: An embedder to use instead of the one named in the index; it must produce the same vectors.
            device: The device to search on, as in `create`.
            read_only: Whether to open the index for reading only, which leaves writing to other processes.
            verify: Whether to verify everything now, which reads the whole folder.

        Returns:
            The index.

        Raises:
            InvalidInputError: If there is no index, or if the embedder differs from that of the index.
            CorruptIndexError: If a part that was read is damaged. Later reads may also raise it.
        """
        store, loaded = open_store(path, embedder=embedder, device=device, read_only=read_only)
        index = cls(store, loaded)
        if verify:
            try:
                index.verify()
            except BaseException:
                index.close()
                raise
        return index

    def close(self) -> None:
        """Close the files and release the lock. Safe to call twice."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def add(
        self,
        documents: Iterable[AnyDocument],
        *,
        vectors: NDArray[np.floating] | None = None,
        batch_size: int | None = None,
        pool: WorkerPool | None = None,
    ) -> list[str]:
        """Add documents and replace those with the same id.

        Each batch is a separate commit, so rerun an interrupted call to resume: documents already stored are neither
        embedded nor written again, unless you pass ``vectors``, which may have changed. A text that is stored under
        another id is not embedded again either.

        Args:
            documents: An iterable of documents, strings or LangChain documents. The id of a document without one is a
                hash of its content.
            vectors: float[n, dim], precomputed embeddings of the documents.
            batch_size: Documents that are embedded and committed together; 1,024, or 16,384 with ``vectors``, if None.
            pool: Workers for embedding; each loads the embedder by its spec. Only this process writes.

        Returns:
            Their ids, in order.

        Raises:
            InvalidInputError: If a document or a vector is invalid; its batch is not added.
            MissingResultsError: If the pool abandoned texts; all other documents are added.
        """
        return add_documents(self._store, self.embedder, documents, vectors=vectors, batch_size=batch_size, pool=pool)

    def sync(
        self,
        documents: str | Path | Iterable[AnyDocument],
        *,
        chunker: str | Chunker = "tokens",
        limits: ConversionLimits | None = None,
    ) -> SyncReport:
        """Sync the index with a folder, or with a collection of documents.

        Unchanged files are neither read nor embedded again. Chunks of deleted files are removed, and chunks of files
        that can no longer be read are kept. Documents that were not added from this folder are also kept. Folders are
        identified by name and can therefore be moved; do not sync two folders with the same name. If you pass documents
        instead of a folder, all other documents are removed.

        Args:
            documents: A folder, or documents, strings or LangChain documents that the index is to contain.
            chunker: The chunker of files, see `ragkit.ingest.load_chunker`; tokens are those of the embedder.
            limits: Limits of the conversion of a file, see `ragkit.ingest.ConversionLimits`.

        Returns:
            A report of the changes.
        """
        from ragkit.ingest.syncing import sync_documents, sync_folder

        self._store.check_writable()
        if isinstance(documents, (str, Path)):
            return sync_folder(self, Path(documents), chunker, limits)
        return sync_documents(self, documents)

    def delete(self, ids: Collection[str]) -> int:
        """Remove documents.

        Args:
            ids: Their ids; unknown ids are ignored.

        Returns:
            The number of documents removed.
        """
        return remove(self._store, checked_texts("ids", ids))

    def index_field(self, field: str) -> None:
        """Index the values of a metadata field, so that filters on it are evaluated faster.

        Args:
            field: The name of the field.

        Raises:
            InvalidInputError: If the name is not valid text.
        """
        index_field(self._store, field)

    # -- reading -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._store.state.live

    def get(self, ids: Collection[str]) -> list[Document]:
        """Read documents by id.

        Args:
            ids: Their ids; unknown ids are ignored.

        Returns:
            The documents, in the order of the ids.
        """
        return self._reader.by_ids(checked_texts("ids", ids))

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Read documents by the keys that `search_vectors` returns.

        Args:
            keys: Any number of keys; -1 means no document.

        Returns:
            The document of each key; None for -1 and for documents removed since.
        """
        return self._reader.by_keys(np.asarray(keys, dtype=np.int64).ravel().tolist())

    def keys(self, where: Where | None = None) -> NDArray[np.int64]:
        """Return the keys of all documents, or of those that match a filter, for `get_by_keys`.

        Keys are never reused: a document whose text is replaced gets a new one.

        Args:
            where: A filter on metadata.

        Returns:
            i64[n], ascending.
        """
        return self._reader.keys(where)

    def get_vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Read the vectors of documents.

        Args:
            ids: Their ids.

        Returns:
            f32[n, dim], with zeros for unknown ids.
        """
        return self._reader.vectors_by_ids(checked_texts("ids", ids))

    @property
    def version(self) -> int:
        """Number of the last commit seen; it increases with every change."""
        return self._store.state.facts["version"]

    @overload
    def search(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    def search(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> list[list[Hit]]: ...
    def search(
        self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """Find the documents nearest to one or several texts.

        Args:
            queries: One text or several.
            k: Number of documents, 0 or more.
            where: A filter on metadata, see `ragkit.where`; it is applied before the search.

        Returns:
            The hits of a text, best first; a list of hits for each text of a sequence. Exact search returns k hits, or
            all matching documents if there are fewer.

        Raises:
            InvalidInputError: If the index has no embedder, or if an argument is invalid.
        """
        if isinstance(queries, str):
            return self.search([queries], k, where=where)[0]
        if self.embedder is None:
            raise InvalidInputError("this index has no embedder; use `search_vectors`")
        asked = checked_texts("queries", queries)
        vectors = self.embedder.embed_queries(asked) if asked else np.zeros((0, self.embedder.dim), dtype=np.float32)
        found = self._reader.nearest_documents(vectors, k, where)
        metric = self._store.state.facts["metric"]
        return [[_hit(each, score, rank, metric) for rank, (_, score, each) in enumerate(row, 1)] for row in found]

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
        found = self._reader.nearest_documents(np.asarray(queries), k, where)
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
        return self._reader.nearest_keys(np.asarray(queries), k, where)

    def get_vectors_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Read vectors by the keys that `search_vectors` returns.

        Args:
            keys: n keys.

        Returns:
            f32[n, dim] as stored; zeros for -1 and for removed documents after compaction.
        """
        return self._reader.vectors_by_keys(np.asarray(keys, dtype=np.int64).ravel())

    def refresh(self) -> None:
        """Load commits of other processes; `search` does so automatically."""
        self._store.refresh()

    def stats(self) -> IndexStats:
        """Return the size and settings of the index.

        Returns:
            The state of the last commit.
        """
        return stats_of(self._store)

    def verify(self) -> None:
        """Verify every checksum and the consistency of all parts.

        Raises:
            CorruptIndexError: If there is damage; the message lists all problems.
        """
        from ragkit.index.integrity import problems

        with self._store.reading() as state:
            found = problems(self.path, self._store.database, state)
        if found:
            raise CorruptIndexError(self.path, "; ".join(found[:20]))

    def compact(self) -> None:
        """Reclaim space from removed documents, and rebuild the structure for approximate search."""
        from ragkit.index.maintenance import compact

        with self._store.changing():
            compact(self._store)

    def tune(
        self, *, target_recall: float = 0.95, k: int = 10, queries: NDArray[np.floating] | None = None, seed: int = 0
    ) -> Mapping[str, float]:
        """Measure approximate against exact search and choose the fastest setting that reaches a recall.

        Args:
            target_recall: Share of the k true neighbours to find, above 0 and at most 1.
            k: Number of neighbours.
            queries: float[m, dim], your own queries; if None, stored vectors, each excluded from its own neighbours.
            seed: Seed for sampling the stored vectors.

        Returns:
            The measured recall and the setting, which are stored in the index.
        """
        from ragkit.index.maintenance import tune

        with self._store.changing():
            return tune(self._store, target_recall=target_recall, k=k, queries=queries, seed=seed)


def _hit(found: Found, score: float, rank: int, metric: str) -> Hit:
    metadata = found.fresh_metadata()
    return Hit(
        id=found.stored.id,
        score=score,
        rank=rank,
        text=found.stored.text,
        metadata=metadata,
        span=span_of(metadata),
        why={metric: score},
    )
