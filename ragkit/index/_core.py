"""`Index`: a vector index that commits vectors, ids, texts and metadata together.

The data are stored in an append-only array file of vectors and a SQLite database. A write appends the vectors, waits
until they are on disk, and then commits one transaction that records the new length; rows past that length are ignored.
FAISS is used for computation only, and its files are a cache.

This module contains the public API that creates, opens and changes an index; `reader` contains the part that reads.
`opening` creates and opens a `store`, which manages commits, `writer` changes it, and `maintenance` compacts and tunes
it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.index._document_inputs import AnyDocument, checked_texts
from ragkit.index._gpu_cards import Device
from ragkit.index._maintenance import compact, tune
from ragkit.index._opening import Metric, create_store, open_store
from ragkit.index._reader import IndexReader
from ragkit.index._writer import add_documents, index_field, remove
from ragkit.protocols import Embedder

if TYPE_CHECKING:
    from ragkit.ingest._chunking import Chunker
    from ragkit.ingest._conversion import ConversionLimits
    from ragkit.ingest._syncing import SyncReport
    from ragkit.workers._pool import WorkerPool


class Index(IndexReader):
    """A vector index of documents. Use `create` or `open` to get one, and `close` or a ``with`` block to close it.

    One process can write at a time, while any number of processes read. Any thread may search at any time, and each
    search sees one commit. In a forked process, an index that was open for writing is read-only.

    Examples:
        >>> from ragkit import Document
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add([Document("dim the lamp", id="a", metadata={"lang": "en"}), "play a song"])
        >>> [hit.id for hit in index.search("lamps", k=1, where={"lang": "en"})]
        ['a']
        >>> index.close()
    """

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
            dim: Vector length; required without an embedder.
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

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Open an index in a folder read-only in other processes and copies; copy one in memory with its vectors."""
        from ragkit.index._copying import reduced

        return reduced(self)

    def save(self, path: str | Path) -> None:
        """Write a copy of the index, such as one in memory, to a folder that `open` can read.

        Args:
            path: A new or empty folder, or one with an index, which the copy replaces; nothing happens if it is the
                folder of this index, because every change is already stored there.

        Raises:
            InvalidInputError: If the folder contains anything else.
            IndexLockedError: If the index in the folder is open for writing.
        """
        from ragkit.index._copying import save_copy

        save_copy(self, path)

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
        if pool is None:
            return add_documents(self._store, self.embedder, documents, vectors=vectors, batch_size=batch_size)
        if vectors is not None:
            raise InvalidInputError("`pool` is for embedding, but `vectors` are given; leave one of them out")
        from ragkit.index._parallel_add import add_pooled

        return add_pooled(self._store, self.embedder, documents, pool, batch_size)

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
        from ragkit.ingest._syncing import sync_documents, sync_folder

        self._store.check_writable()
        if isinstance(documents, (str, Path)):
            return sync_folder(self, Path(documents), chunker, limits)
        return sync_documents(self, documents)

    def delete(self, ids: Collection[str]) -> int:
        """Remove the documents with some ids and return their number; unknown ids are ignored."""
        return remove(self._store, checked_texts("ids", ids))

    def index_field(self, field: str) -> None:
        """Index the values of a metadata field, so that filters on it are evaluated faster.

        Raises:
            InvalidInputError: If the name is not valid text.
        """
        index_field(self._store, field)

    def compact(self) -> None:
        """Reclaim space from removed documents, and rebuild the structure for approximate search."""
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
        with self._store.changing():
            return tune(self._store, target_recall=target_recall, k=k, queries=queries, seed=seed)
