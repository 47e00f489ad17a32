"""Use an `Index` as a LangChain ``VectorStore``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from typing_extensions import override

from ragkit.embedders._langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Embedder
from ragkit_pipelines.langchain.embeddings import RagkitEmbeddings, embedder_of
from ragkit_pipelines.langchain.incoming import Ids, Metadatas
from ragkit_pipelines.langchain.metadata_text import Conversion, check_conversion
from ragkit_pipelines.langchain.retriever import RagkitRetriever
from ragkit_pipelines.langchain.searching import Searches
from ragkit_pipelines.langchain.store_writes import StoreWrites

AnyEmbedding = str | Embedder | Embeddings
Metric = Literal["cosine", "ip", "l2"]


class RagkitVectorStore(StoreWrites):
    """Documents in a ragkit `Index`, with exact filters, upserts by id, durable writes and batched searches.

    Every change is committed when the method returns. Higher scores are better. A filter is a filter of `ragkit.where`,
    or a function of a document or of its metadata. Filters are exact: a search returns k documents if at least k
    documents match. Methods that begin with ``a`` do not block the event loop.

    Pickled and copied stores with a path are opened read-only; stores in memory are copied with their vectors.

    Attributes:
        index: The index, which stays open until the store is closed.
        searches: The searches that all methods share, with many queries per call.

    Examples:
        >>> store = RagkitVectorStore("hash:256")
        >>> ids = store.add_texts(["dim the lamp", "play a song"], [{"lang": "en"}, {"lang": "en"}], ids=["a", "b"])
        >>> [document.id for document in store.similarity_search("lamps", k=1, filter={"lang": "en"})]
        ['a']
    """

    def __init__(
        self,
        embedding: AnyEmbedding | None = None,
        *,
        path: str | Path | None = None,
        index: Index | None = None,
        metric: Metric = "cosine",
        factory: str = "auto",
        read_only: bool = False,
        metadata_conversion: Conversion = None,
    ) -> None:
        """Create a store, or open the one at ``path``.

        Args:
            embedding: LangChain embeddings, a ragkit embedder or its spec; None to use the embedder of the index at
                ``path``.
            path: A folder, which is opened if it contains an index; None for a store in memory.
            index: An index to wrap instead, with its embedder and settings.
            metric: Metric of a new store: ``"cosine"``, ``"ip"`` or ``"l2"``.
            factory: Search structure of a new store, see `Index.create`.
            read_only: Whether to open the store at ``path`` for searching only, while other processes may write.
            metadata_conversion: ``"text"`` to store dates and times in metadata as ISO 8601 text, and UUIDs and paths
                as text; values of filters are converted as well. If None, such values raise an error.

        Raises:
            InvalidInputError: If arguments cannot be combined, or the index was built with another embedder.
            IndexLockedError: If the index at ``path`` is already open for writing, and `read_only` is False.
        """
        check_conversion(metadata_conversion)
        if index is not None and (embedding is not None or path is not None or read_only):
            raise InvalidInputError(
                "`index` has its own embedder, folder and mode; omit `embedding`, `path` and `read_only`"
            )
        embedder = None if embedding is None else embedder_of(embedding)
        if read_only:
            if path is None:
                raise InvalidInputError("`read_only` needs the `path` of a stored index")
            index = Index.open(path, embedder=embedder, read_only=True)
        elif index is None and embedder is not None:
            index = Index.create(path, embedder=embedder, metric=metric, factory=factory, exist_ok=True)
        elif index is None and path is not None:
            index = Index.open(path)
        if index is None:
            raise InvalidInputError("pass `embedding`, the `path` of a stored index, or `index`")
        self.index, self.metadata_conversion = index, metadata_conversion
        self.searches = Searches(index, metadata_conversion)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.index, self.metadata_conversion)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and release its lock. Safe to call twice; documents in memory are lost."""
        self.index.close()

    @classmethod
    @override
    def from_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        embedding: AnyEmbedding,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        *,
        path: str | Path | None = None,
        metric: Metric = "cosine",
        metadata_conversion: Conversion = None,
    ) -> Self:
        """Create a store and add texts.

        Args:
            texts: The texts.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            metadatas: One per text.
            ids: One per text; None for a new id.
            path: A folder; None for a store in memory.
            metric: Metric of a new store.
            metadata_conversion: ``"text"`` to store dates, times, UUIDs and paths in metadata as text.

        Returns:
            The store.
        """
        store = cls(embedding, path=path, metric=metric, metadata_conversion=metadata_conversion)
        return store._filled(lambda: store.add_texts(texts, metadatas, ids))

    @classmethod
    @override
    def from_documents(  # type: ignore[override]
        cls,
        documents: Iterable[Document],
        embedding: AnyEmbedding,
        ids: Ids | None = None,
        *,
        path: str | Path | None = None,
        metric: Metric = "cosine",
        metadata_conversion: Conversion = None,
    ) -> Self:
        """Create a store and add documents; the arguments are those of `from_texts` and `add_documents`."""
        store = cls(embedding, path=path, metric=metric, metadata_conversion=metadata_conversion)
        return store._filled(lambda: store.add_documents(documents, ids))

    @classmethod
    def from_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Sequence[float]]],
        embedding: AnyEmbedding,
        metadatas: Metadatas | None = None,
        ids: Ids | None = None,
        *,
        path: str | Path | None = None,
        metric: Metric = "cosine",
        metadata_conversion: Conversion = None,
    ) -> Self:
        """Create a store and add texts with vectors, as `add_embeddings` does; ``embedding`` embeds the queries."""
        store = cls(embedding, path=path, metric=metric, metadata_conversion=metadata_conversion)
        return store._filled(lambda: store.add_embeddings(text_embeddings, metadatas, ids))

    @classmethod
    @override
    async def afrom_texts(cls, *arguments: Any, **named: Any) -> Self:
        return await asyncio.to_thread(cls.from_texts, *arguments, **named)

    @classmethod
    @override
    async def afrom_documents(cls, *arguments: Any, **named: Any) -> Self:
        return await asyncio.to_thread(cls.from_documents, *arguments, **named)

    @classmethod
    def load_local(
        cls,
        folder_path: str | Path,
        embeddings: AnyEmbedding | None = None,
        *,
        read_only: bool = False,
        allow_dangerous_deserialization: bool = False,  # noqa: ARG003 - FAISS requires it; nothing is unpickled here
    ) -> Self:
        """Open a store that `save_local` wrote, or that was created with a path.

        Args:
            folder_path: The folder.
            embeddings: The embeddings that the store was created with; None for an embedder of ragkit.
            read_only: Whether to open the store for searching only.
            allow_dangerous_deserialization: Accepted for compatibility with LangChain's FAISS, and not used.

        Returns:
            The store.

        Raises:
            InvalidInputError: If there is no index in the folder.
        """
        if (Path(folder_path) / "index.pkl").is_file() and not (Path(folder_path) / "index.sqlite").is_file():
            raise InvalidInputError(
                f"{folder_path} contains a store of LangChain's FAISS; import it first with `ragkit index "
                f"import-langchain {folder_path} --out FOLDER --embedder SPEC`, and open that folder"
            )
        embedder = None if embeddings is None else embedder_of(embeddings)
        return cls(index=Index.open(folder_path, embedder=embedder, read_only=read_only))

    def save_local(self, folder_path: str | Path) -> None:
        """Save a copy of the store, such as one in memory, to a folder from which `load_local` opens it.

        Args:
            folder_path: A new or empty folder, or one with a saved store, which is replaced. Nothing happens if it is
                the folder of this store, because every change is already stored there.

        Raises:
            InvalidInputError: If the folder contains anything else.
            IndexLockedError: If the store in the folder is open for writing.
        """
        self.index.save(folder_path)

    @property
    @override
    def embeddings(self) -> Embeddings | None:
        """The embeddings; None if the index has no embedder."""
        embedder = self.index.embedder
        if isinstance(embedder, LangChainEmbedder):
            return cast("Embeddings", embedder.embeddings)
        return None if embedder is None else RagkitEmbeddings(embedder)

    @override
    def as_retriever(  # type: ignore[override]
        self,
        *,
        search_type: Literal["similarity", "similarity_score_threshold", "mmr"] = "similarity",
        search_kwargs: dict[str, Any] | None = None,
        k: int = 4,
        name: str | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        callbacks: Callbacks = None,
        verbose: bool = False,
    ) -> RagkitRetriever:
        """Return a retriever of this store whose ``batch`` is one search.

        Args:
            search_type: ``"similarity"``, ``"similarity_score_threshold"`` or ``"mmr"``.
            search_kwargs: ``k``, ``filter``, ``score_threshold``, ``fetch_k``, ``lambda_mult``.
            k: Number of documents, unless ``search_kwargs`` contains ``k``.
            name: Name of the retriever in traces.
            tags: Tags of the traces.
            metadata: Metadata of the traces.
            callbacks: Callbacks of every call, in addition to those of its config.
            verbose: Whether to print every call.

        Returns:
            The retriever.
        """
        return RagkitRetriever(
            vectorstore=self,
            search_type=search_type,
            search_kwargs=search_kwargs or {},
            k=k,
            name=name,
            tags=tags,
            metadata=metadata,
            callbacks=callbacks,
            verbose=verbose,
        )

    def _filled(self, add: Callable[[], object]) -> Self:
        """Add to a new store, and close it after an error."""
        try:
            add()
        except BaseException:
            self.close()
            raise
        return self


def _restored(kind: type[RagkitVectorStore], index: Index, conversion: Conversion) -> RagkitVectorStore:
    return kind(index=index, metadata_conversion=conversion)
