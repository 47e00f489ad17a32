"""`Index`: one object in which vectors, ids, texts and metadata commit together.

The truth is an append-only array file of vectors and a SQLite database. A write appends the vectors, waits for the
disk, and then commits one transaction that records the new length; what lies past that length does not exist. FAISS is
used to compute, and its own files are a cache.

This module is what users see. `store` keeps the commits, `opening` makes and opens it, `adding` and `writing` change
it, `reading` and `searching` answer, `maintenance` and `checking` look after it.
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
    from ragkit.ingest.syncing import SyncReport
    from ragkit.workers.pool import WorkerPool


class Index:
    """Documents found by vectors; made by `create` or `open`, closed by `close` or the end of a ``with`` block.

    One process writes at a time, any number read. Any thread may search at any time and sees one commit. In a forked
    process, an index that was open for writing can only be read.

    Attributes:
        path: The folder; a temporary one for an index in memory.
        embedder: What turns texts into vectors; None where vectors are given.

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
        """Whether nothing may be written, as in a process that was forked from the one that writes."""
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
        """Make an empty index.

        Args:
            path: A new or empty folder; None for an index in memory.
            embedder: An embedder or its spec; None where all vectors will be given, with ``dim``.
            dim: Length of a vector, where there is no embedder to say.
            metric: ``"cosine"`` (vectors are brought to length 1), ``"ip"`` or ``"l2"``.
            dtype: Precision in which vectors are stored.
            factory: ``"flat"`` for exact search, ``"auto"`` to choose by size, a FAISS factory string, or ``"cagra"``
                for a graph on a GPU, where FAISS was built with cuVS.
            device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, several of these, or ``"auto"`` for a GPU where FAISS sees one.
            exist_ok: Whether to open an index that is there already, if it was made with the same arguments.

        Returns:
            The index, open for writing.

        Raises:
            InvalidInputError: If an argument is out of its range, or the folder holds something else.
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

        Each block of vectors and each document is checked against its checksum when it is first read.

        Args:
            path: The folder.
            embedder: Takes the place of the embedder that the index names; it must give the same vectors.
            device: Where to search, as in `create`.
            read_only: Whether to leave writing to others.
            verify: Whether to check everything now, which reads the whole folder.

        Returns:
            The index.

        Raises:
            InvalidInputError: If there is no index, or the embedder is another one.
            CorruptIndexError: If a part that was read is damaged. Later reads raise it too.
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
        """Let go of files and of the lock; closing twice does no harm."""
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
        """Add documents, or put them in the place of those with the same id.

        Every batch is committed for itself, so an interrupted call has kept what it had done, and the same call again
        goes on from there: what is stored already is neither embedded nor written again, but where ``vectors`` are
        given, which may be others. A text that stands in the index under another id is not embedded either.

        Args:
            documents: Documents, strings or LangChain documents, any number of them; one without an id is called by a
                hash of its content.
            vectors: float[n, dim], where the documents were embedded before.
            batch_size: Documents that are embedded and committed together; 1,024, or 16,384 with ``vectors``, if None.
            pool: Workers that embed; each loads the embedder by its spec. This process alone writes.

        Returns:
            Their ids, in order.

        Raises:
            InvalidInputError: If a document or a vector is not what it should be; its batch is not added.
            MissingResultsError: If the pool gave texts up; all other documents are added.
        """
        return add_documents(self._store, self.embedder, documents, vectors=vectors, batch_size=batch_size, pool=pool)

    def sync(self, documents: str | Path | Iterable[AnyDocument], *, chunker: str | Chunker = "tokens") -> SyncReport:
        """Make the index hold a folder's files, or these documents and no others.

        A file that has not changed is neither read again nor embedded, the pieces of files that vanished are removed,
        and those of a file that cannot be read any more stay. Documents that do not come from this folder stay as well.
        Folders are told apart by their names, so that one may be moved: do not sync two of one name.

        Args:
            documents: A folder, for all of its files; or documents, strings or LangChain documents.
            chunker: How files are cut, see `ragkit.ingest.load_chunker`; tokens are those of the embedder.

        Returns:
            What was done.
        """
        from ragkit.ingest.syncing import sync_documents, sync_folder

        self._store.check_writable()
        if isinstance(documents, (str, Path)):
            return sync_folder(self, Path(documents), chunker)
        return sync_documents(self, documents)

    def delete(self, ids: Collection[str]) -> int:
        """Remove documents.

        Args:
            ids: Their ids; those that are not in the index are passed over.

        Returns:
            How many were removed.
        """
        return remove(self._store, checked_texts("ids", ids))

    def index_field(self, field: str) -> None:
        """Keep a table of a metadata field's values, so that filters on it are compiled faster.

        Args:
            field: The name of the field.

        Raises:
            InvalidInputError: If it is not text.
        """
        index_field(self._store, field)

    # -- reading -------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._store.state.live

    def get(self, ids: Collection[str]) -> list[Document]:
        """Read documents by id.

        Args:
            ids: Their ids; those that are not in the index are passed over.

        Returns:
            The documents, in the order of their ids.
        """
        return self._reader.by_ids(checked_texts("ids", ids))

    def get_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> list[Document | None]:
        """Read documents by the keys that `search_vectors` gives.

        Args:
            keys: Any number; -1 stands for none.

        Returns:
            For each key its document, None where there is none (any more).
        """
        return self._reader.by_keys(np.asarray(keys, dtype=np.int64).ravel().tolist())

    def keys(self, where: Where | None = None) -> NDArray[np.int64]:
        """The keys of all documents, or of those that a filter lets through, for `get_by_keys`.

        A key is given once and never again: a document whose text is replaced has a new one.

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
            f32[n, dim], a row of zeros for an id that is not in the index.
        """
        return self._reader.vectors_by_ids(checked_texts("ids", ids))

    @property
    def version(self) -> int:
        """Number of the last commit that was seen; it grows with every change."""
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
        """Find the documents nearest to a text, or to each of several.

        Args:
            queries: One text or several.
            k: How many documents, 0 or more.
            where: A filter on metadata, as `ragkit.where` reads it; it is applied before the search.

        Returns:
            For a text its hits, the best first; for a sequence a list for each. Exact search gives k of them, or all
            that match where fewer do.

        Raises:
            InvalidInputError: If the index has no embedder, or an argument is out of its range.
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
        """Find the documents nearest to some vectors, all of one commit.

        Args:
            queries: float[m, dim].
            k: How many documents, 0 or more.
            where: A filter on metadata.

        Returns:
            For each query keys, scores and documents, the best first. Other callers may get the same documents: do not
            change their metadata.
        """
        found = self._reader.nearest_documents(np.asarray(queries), k, where)
        return [[(key, score, each.plain or each.fresh()) for key, score, each in row] for row in found]

    def search_vectors(
        self, queries: NDArray[np.floating], k: int = 10, *, where: Where | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the documents nearest to some vectors, without reading their texts.

        Args:
            queries: float[m, dim].
            k: How many, 0 or more.
            where: A filter on metadata.

        Returns:
            f32[m, k] scores, higher for nearer (negative squared distances under ``"l2"``), and i64[m, k] keys for
            `get_by_keys`; -inf and -1 where fewer match.
        """
        return self._reader.nearest_keys(np.asarray(queries), k, where)

    def get_vectors_by_keys(self, keys: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """Read vectors by the keys that `search_vectors` gives.

        Args:
            keys: n keys.

        Returns:
            f32[n, dim] as they are stored; zeros for -1 and for what was removed and compacted away.
        """
        return self._reader.vectors_by_keys(np.asarray(keys, dtype=np.int64).ravel())

    def refresh(self) -> None:
        """See what another process has committed since; `search` does so by itself."""
        self._store.refresh()

    def stats(self) -> IndexStats:
        """Sizes and settings.

        Returns:
            What is committed.
        """
        return stats_of(self._store)

    def verify(self) -> None:
        """Check every checksum and that all parts say the same.

        Raises:
            CorruptIndexError: If they do not; it names everything that was found.
        """
        from ragkit.index.integrity import problems

        with self._store.reading() as state:
            found = problems(self.path, self._store.database, state)
        if found:
            raise CorruptIndexError(self.path, "; ".join(found[:20]))

    def compact(self) -> None:
        """Give back the room of removed documents, and build what approximate search needs anew."""
        from ragkit.index.maintenance import compact

        with self._store.changing():
            compact(self._store)

    def tune(
        self, *, target_recall: float = 0.95, k: int = 10, queries: NDArray[np.floating] | None = None, seed: int = 0
    ) -> Mapping[str, float]:
        """Measure approximate against exact search and choose the fastest setting that is good enough.

        Args:
            target_recall: Share of the k true neighbours that must be found, above 0 and at most 1.
            k: How many neighbours.
            queries: float[m, dim], queries of your own; stored vectors, themselves left out, if None.
            seed: Seed of the draw of these.

        Returns:
            The recall that was measured and the setting, which are kept with the index.
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
