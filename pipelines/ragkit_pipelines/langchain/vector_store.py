"""Use an `Index` as a LangChain ``VectorStore``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from typing_extensions import override

from ragkit._text import refuse_bare_string
from ragkit.embedders._langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Embedder
from ragkit_pipelines.langchain.embeddings import RagkitEmbeddings, embedder_of
from ragkit_pipelines.langchain.retriever import RagkitRetriever
from ragkit_pipelines.langchain.searching import (
    Filter,
    Scored,
    SearchedStore,
    Searches,
    documents_of,
    of_parts,
    one_row,
)

AnyEmbedding = str | Embedder | Embeddings
Metadatas = Sequence[dict[str, Any]]
Ids = Sequence[str | None]
_Row = TypeVar("_Row", list[Document], list[Scored])  # the results of one query


# LangChain's methods accept **kwargs; these do not, so that a misspelt argument is an error. Therefore the methods
# below need "type: ignore[override]". LangChain runs the methods without an async variant here in a thread.
class RagkitVectorStore(SearchedStore):
    """Documents in a ragkit `Index`, with exact filters, upserts by id, durable writes and batched searches.

    Every change is committed when the method returns, so there is no ``save``. Higher scores are better. A filter is a
    filter of `ragkit.where`, or a function of a `Document`. Filters are exact: a search returns k documents if at least
    k documents match. Methods that begin with ``a`` do not block the event loop.

    Attributes:
        index: The index, which stays open until it is closed.
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
        metric: Literal["cosine", "ip", "l2"] = "cosine",
        factory: str = "auto",
    ) -> None:
        """Create a store, or open the one at ``path``.

        Args:
            embedding: LangChain embeddings, a ragkit embedder or its spec; None to use the embedder of the index at
                ``path``.
            path: A folder, which is opened if it contains an index; None for a store in memory.
            index: An index to wrap instead, with its embedder and settings.
            metric: Metric of a new store: ``"cosine"``, ``"ip"`` or ``"l2"``.
            factory: Search structure of a new store, see `Index.create`.

        Raises:
            InvalidInputError: If arguments cannot be combined, or the index was built with another embedder.
        """
        if index is not None and (embedding is not None or path is not None):
            raise InvalidInputError("`index` has its own embedder and folder; omit `embedding` and `path`")
        if index is None and embedding is not None:
            embedder = embedder_of(embedding)
            index = Index.create(path, embedder=embedder, metric=metric, factory=factory, exist_ok=True)
        elif index is None and path is not None:
            index = Index.open(path)
        if index is None:
            raise InvalidInputError("pass `embedding`, the `path` of a stored index, or `index`")
        self.index = index
        self.searches = Searches(index)

    @classmethod
    @override
    def from_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        embedding: AnyEmbedding,
        metadatas: Metadatas | None = None,
        *,
        ids: Ids | None = None,
        path: str | Path | None = None,
    ) -> Self:
        """Create a store and add texts.

        Args:
            texts: The texts.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            metadatas: One per text.
            ids: One per text; None for a new id.
            path: A folder; None for a store in memory.

        Returns:
            The store.
        """
        store = cls(embedding, path=path)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    @override
    def embeddings(self) -> Embeddings | None:
        """The embeddings; None if the index has no embedder."""
        embedder = self.index.embedder
        if isinstance(embedder, LangChainEmbedder):
            return cast("Embeddings", embedder.embeddings)
        return None if embedder is None else RagkitEmbeddings(embedder)

    @override
    def add_texts(  # type: ignore[override]
        self, texts: Iterable[str], metadatas: Metadatas | None = None, *, ids: Ids | None = None
    ) -> list[str]:
        """Add texts, and replace those with the same id.

        Args:
            texts: The texts.
            metadatas: One per text.
            ids: One per text; None for a new id.

        Returns:
            The ids.

        Raises:
            InvalidInputError: If the number of ids or metadata differs from the number of texts.
        """
        listed = texts if isinstance(texts, str) else list(texts)
        refuse_bare_string("texts", listed)
        if metadatas is not None and len(metadatas) != len(listed):
            raise InvalidInputError(f"`metadatas` must have {len(listed)} items, one per text; got {len(metadatas)}")
        pairs = zip(listed, metadatas or [{}] * len(listed), strict=True)
        return self.add_documents([of_parts(text, metadata, None) for text, metadata in pairs], ids=ids)

    @override
    def add_documents(  # type: ignore[override]
        self, documents: Sequence[Document], *, ids: Ids | None = None, batch_size: int | None = None
    ) -> list[str]:
        """Add documents, and replace those with the same id; unchanged documents are not embedded again.

        Args:
            documents: The documents; they are not modified.
            ids: One per document, which takes precedence over its own id; None for its own id, or a new one.
            batch_size: Number of documents that are embedded and committed together.

        Returns:
            The ids.

        Raises:
            InvalidInputError: If the number of ids differs from the number of documents.
        """
        if ids is not None:
            refuse_bare_string("ids", cast("Sequence[str]", ids))
            if len(ids) != len(documents):
                raise InvalidInputError(f"`ids` must have {len(documents)} items, one per document; got {len(ids)}")
        named = [
            document.model_copy(update={"id": document.id or str(uuid4()) if own is None else own})
            for document, own in zip(documents, ids or [None] * len(documents), strict=True)
        ]
        return self.index.add(named, batch_size=batch_size)

    @override
    def delete(self, ids: Sequence[str] | None = None) -> bool:  # type: ignore[override]
        """Delete documents.

        Args:
            ids: The ids; unknown ids are ignored. None, which would delete all documents, is rejected.

        Returns:
            True.

        Raises:
            InvalidInputError: If ``ids`` is None.
        """
        if ids is None:
            raise InvalidInputError(
                "`ids` must be the ids to delete, got None; to delete all documents, create a new store"
            )
        self.index.delete(ids)
        return True

    @override
    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return documents by id, in the order of the ids; unknown ids are ignored."""
        return [of_parts(found.text, found.metadata, found.id) for found in self.index.get(ids)]

    @override
    def similarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        """Return the k documents that are most similar to a text."""
        return documents_of(self.similarity_search_with_score(query, k, filter=filter))

    @override
    async def asimilarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        return documents_of(await self.asimilarity_search_with_score(query, k, filter=filter))

    @override
    def similarity_search_with_score(self, query: str, k: int = 4, *, filter: Filter | None = None) -> list[Scored]:
        """Return the k most similar documents with scores: cosines, inner products or negative squared distances."""
        return self._search(self.searches.nearest, query, k, filter)

    @override
    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None
    ) -> list[Scored]:
        return await self._asearch(self.searches.nearest, query, k, filter)

    @override
    def similarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        """Return the k documents that are most similar to a vector."""
        return documents_of(self.similarity_search_with_score_by_vector(embedding, k, filter=filter))

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Filter | None = None
    ) -> list[Scored]:
        """Return the k documents that are most similar to a vector, with their scores."""
        return self.searches.nearest(one_row(embedding), k, filter)[0]

    @override
    def similarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None, score_threshold: float | None = None
    ) -> list[Scored]:
        """Return the k documents that are most similar to a text, if their relevance reaches a threshold.

        Args:
            query: The text.
            k: Number of documents.
            filter: A metadata filter, or a function of a `Document`.
            score_threshold: Minimum relevance, from 0 to 1.

        Returns:
            Documents with their relevance: the cosine similarity to the query, or 0 if it is negative.
        """
        return self._search(self.searches.relevant, query, k, filter, score_threshold)

    @override
    async def asimilarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None, score_threshold: float | None = None
    ) -> list[Scored]:
        return await self._asearch(self.searches.relevant, query, k, filter, score_threshold)

    @override
    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return self.searches.relevance()

    @override
    def max_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, *, filter: Filter | None = None
    ) -> list[Document]:
        """Return documents that are similar to a text and diverse, in the order of selection.

        Args:
            query: The text.
            k: Number of documents.
            fetch_k: Number of candidates.
            lambda_mult: 1 for similarity to the query only, 0 for diversity only.
            filter: A metadata filter, or a function of a `Document`, that the candidates match.

        Returns:
            The documents.
        """
        return self._search(self.searches.diverse, query, k, filter, fetch_k, lambda_mult)

    @override
    async def amax_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, *, filter: Filter | None = None
    ) -> list[Document]:
        return await self._asearch(self.searches.diverse, query, k, filter, fetch_k, lambda_mult)

    @override
    def max_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
    ) -> list[Document]:
        """Return documents that are similar to a vector and diverse, in the order of selection."""
        return self.searches.diverse(one_row(embedding), k, filter, fetch_k, lambda_mult)[0]

    @override
    def as_retriever(  # type: ignore[override]
        self,
        *,
        search_type: Literal["similarity", "similarity_score_threshold", "mmr"] = "similarity",
        search_kwargs: dict[str, Any] | None = None,
        k: int = 4,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> RagkitRetriever:
        """Return a retriever of this store whose ``batch`` is one search.

        Args:
            search_type: ``"similarity"``, ``"similarity_score_threshold"`` or ``"mmr"``.
            search_kwargs: ``k``, ``filter``, ``score_threshold``, ``fetch_k``, ``lambda_mult``.
            k: Number of documents, unless ``search_kwargs`` contains ``k``.
            tags: Tags of the traces.
            metadata: Metadata of the traces.

        Returns:
            The retriever.
        """
        return RagkitRetriever(
            vectorstore=self,
            search_type=search_type,
            search_kwargs=search_kwargs or {},
            k=k,
            tags=tags,
            metadata=metadata,
        )

    def _search(self, search: Callable[..., list[_Row]], query: str, *arguments: object) -> _Row:
        return search(self.searches.embed([query]), *arguments)[0]

    async def _asearch(self, search: Callable[..., list[_Row]], query: str, *arguments: object) -> _Row:
        vectors = await self.searches.aembed([query])
        return (await asyncio.to_thread(search, vectors, *arguments))[0]
