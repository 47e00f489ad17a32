"""`Index` as LangChain's ``VectorStore``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from typing_extensions import override

from ragkit.embedders.langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Embedder
from ragkit.text import refuse_bare_string
from ragkit_pipelines.langchain.embeddings import RagkitEmbeddings, embedder_of
from ragkit_pipelines.langchain.filters import Filter
from ragkit_pipelines.langchain.retriever import RagkitRetriever
from ragkit_pipelines.langchain.searching import Scored, SearchedStore, Searches, documents_of, of_parts, one_row

AnyEmbedding = str | Embedder | Embeddings
Metadatas = Sequence[dict[str, Any]]
Ids = Sequence[str | None]


# LangChain's methods take **kwargs and pass them on; these do not, so that a misspelt argument is an error. That is
# what every "type: ignore[override]" below is for.
class RagkitVectorStore(SearchedStore):
    """Documents in a ragkit `Index`: exact filters, upsert by id, safe saves, and many queries as one search.

    Every change is committed when the call returns; there is nothing to save. Scores are higher for nearer documents.
    Filters are those of `ragkit.where`, or a function of a `Document`; they are exact, so as many documents as were
    asked for are found wherever as many match. Methods that begin with ``a`` do not block the event loop.

    Attributes:
        index: The index, which stays open until it is closed.
        searches: The searches behind all methods, many queries at once.

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
        """Make a store, or open the one at ``path``.

        Args:
            embedding: LangChain embeddings, a ragkit embedder or its spec; None where the index at ``path`` names one.
            path: A folder; what stands in it is opened. None for a store in memory.
            index: An index to wrap instead; it comes with its embedder and settings.
            metric: Of a new store: ``"cosine"``, ``"ip"`` or ``"l2"``.
            factory: Of a new store: how it is searched, as `Index.create` takes it.

        Raises:
            InvalidInputError: If arguments do not go together, or the index was made with another embedder.
        """
        if index is not None and (embedding is not None or path is not None):
            raise InvalidInputError("`index` comes with its embedder and folder; give it alone")
        if index is None and embedding is not None:
            embedder = embedder_of(embedding)
            index = Index.create(path, embedder=embedder, metric=metric, factory=factory, exist_ok=True)
        elif index is None and path is not None:
            index = Index.open(path)
        if index is None:
            raise InvalidInputError("give `embedding`, the `path` of a stored index, or `index`")
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
        """Make a store and add texts.

        Args:
            texts: Any number.
            embedding: LangChain embeddings, a ragkit embedder or its spec.
            metadatas: One a text.
            ids: One a text; None for a new one.
            path: A folder; None for a store in memory.

        Returns:
            The store.
        """
        store = cls(embedding, path=path)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    @override
    async def afrom_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        embedding: AnyEmbedding,
        metadatas: Metadatas | None = None,
        *,
        ids: Ids | None = None,
        path: str | Path | None = None,
    ) -> Self:
        """`from_texts` without blocking the event loop."""
        return await asyncio.to_thread(cls.from_texts, texts, embedding, metadatas, ids=ids, path=path)

    @property
    @override
    def embeddings(self) -> Embeddings | None:
        """What embeds texts; None for an index of given vectors."""
        embedder = self.index.embedder
        if isinstance(embedder, LangChainEmbedder):
            return cast("Embeddings", embedder.embeddings)
        return None if embedder is None else RagkitEmbeddings(embedder)

    # -- writing -------------------------------------------------------------------------------------------------------

    @override
    def add_texts(  # type: ignore[override]
        self, texts: Iterable[str], metadatas: Metadatas | None = None, *, ids: Ids | None = None
    ) -> list[str]:
        """Add texts, or put them in the place of those with the same id.

        Args:
            texts: Any number.
            metadatas: One a text.
            ids: One a text; None for a new one.

        Returns:
            Their ids.

        Raises:
            InvalidInputError: If there are not as many ids or metadata as texts.
        """
        listed = texts if isinstance(texts, str) else list(texts)
        refuse_bare_string("texts", listed)
        if metadatas is not None and len(metadatas) != len(listed):
            raise InvalidInputError(f"`metadatas` must be {len(listed)}, one a text; got {len(metadatas)}")
        pairs = zip(listed, metadatas or [{}] * len(listed), strict=True)
        return self.add_documents([of_parts(text, metadata, None) for text, metadata in pairs], ids=ids)

    @override
    async def aadd_texts(  # type: ignore[override]
        self, texts: Iterable[str], metadatas: Metadatas | None = None, *, ids: Ids | None = None
    ) -> list[str]:
        """`add_texts` without blocking the event loop."""
        return await asyncio.to_thread(self.add_texts, texts, metadatas, ids=ids)

    @override
    def add_documents(  # type: ignore[override]
        self, documents: Sequence[Document], *, ids: Ids | None = None, batch_size: int | None = None
    ) -> list[str]:
        """Add documents, or put them in the place of those with the same id; what is stored already is not embedded.

        Args:
            documents: Documents; they are not changed.
            ids: One a document, before its own; None for its own, or a new one.
            batch_size: Documents that are embedded and committed together.

        Returns:
            Their ids.

        Raises:
            InvalidInputError: If there are not as many ids as documents.
        """
        if ids is not None:
            refuse_bare_string("ids", cast("Sequence[str]", ids))
            if len(ids) != len(documents):
                raise InvalidInputError(f"`ids` must be {len(documents)}, one a document; got {len(ids)}")
        named = [
            document.model_copy(update={"id": document.id or str(uuid4()) if own is None else own})
            for document, own in zip(documents, ids or [None] * len(documents), strict=True)
        ]
        return self.index.add(named, batch_size=batch_size)

    @override
    async def aadd_documents(  # type: ignore[override]
        self, documents: Sequence[Document], *, ids: Ids | None = None, batch_size: int | None = None
    ) -> list[str]:
        """`add_documents` without blocking the event loop."""
        return await asyncio.to_thread(self.add_documents, documents, ids=ids, batch_size=batch_size)

    @override
    def delete(self, ids: Sequence[str] | None = None) -> bool:  # type: ignore[override]
        """Remove documents.

        Args:
            ids: Their ids; those that are not in the store are passed over. None, which would mean all, is refused.

        Returns:
            True.

        Raises:
            InvalidInputError: If ``ids`` is None.
        """
        if ids is None:
            raise InvalidInputError("`ids` must be the ids to remove, got None; to begin anew, make another store")
        self.index.delete(ids)
        return True

    @override
    async def adelete(self, ids: Sequence[str] | None = None) -> bool:  # type: ignore[override]
        """`delete` without blocking the event loop."""
        return await asyncio.to_thread(self.delete, ids)

    # -- reading -------------------------------------------------------------------------------------------------------

    @override
    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Read documents by id, in the order of their ids; missing ones are left out."""
        return [of_parts(found.text, found.metadata, found.id) for found in self.index.get(ids)]

    @override
    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """`get_by_ids` without blocking the event loop."""
        return await asyncio.to_thread(self.get_by_ids, ids)

    @override
    def similarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        """The k documents nearest to a text."""
        return documents_of(self.similarity_search_with_score(query, k, filter=filter))

    @override
    async def asimilarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        """The k documents nearest to a text."""
        return documents_of(await self.asimilarity_search_with_score(query, k, filter=filter))

    @override
    def similarity_search_with_score(self, query: str, k: int = 4, *, filter: Filter | None = None) -> list[Scored]:
        """The k documents nearest to a text with scores: cosines, inner products or negative squared distances."""
        return self.searches.nearest(self.searches.embed([query]), k, filter)[0]

    @override
    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, *, filter: Filter | None = None
    ) -> list[Scored]:
        """The k documents nearest to a text with their scores."""
        vectors = await self.searches.aembed([query])
        return (await asyncio.to_thread(self.searches.nearest, vectors, k, filter))[0]

    @override
    def similarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        """The k documents nearest to a vector."""
        return documents_of(self.similarity_search_with_score_by_vector(embedding, k, filter=filter))

    @override
    async def asimilarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, *, filter: Filter | None = None
    ) -> list[Document]:
        """The k documents nearest to a vector."""
        return await asyncio.to_thread(self.similarity_search_by_vector, embedding, k, filter=filter)

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, *, filter: Filter | None = None
    ) -> list[Scored]:
        """The k documents nearest to a vector with their scores."""
        return self.searches.nearest(one_row(embedding), k, filter)[0]

    @override
    def similarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None, score_threshold: float | None = None
    ) -> list[Scored]:
        """The k documents nearest to a text, those whose relevance reaches a threshold.

        Args:
            query: The text.
            k: How many documents.
            filter: A filter on metadata, or a function of a `Document`.
            score_threshold: The least relevance, 0 to 1.

        Returns:
            Documents with their relevance: the cosine to the query, negative ones as 0.
        """
        return self.searches.relevant(self.searches.embed([query]), k, filter, score_threshold)[0]

    @override
    async def asimilarity_search_with_relevance_scores(  # type: ignore[override]
        self, query: str, k: int = 4, *, filter: Filter | None = None, score_threshold: float | None = None
    ) -> list[Scored]:
        """The k documents nearest to a text, those whose relevance reaches a threshold."""
        vectors = await self.searches.aembed([query])
        return (await asyncio.to_thread(self.searches.relevant, vectors, k, filter, score_threshold))[0]

    @override
    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return self.searches.relevance()

    @override
    def max_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, *, filter: Filter | None = None
    ) -> list[Document]:
        """Documents near a text and unlike each other, in the order of choice.

        Args:
            query: The text.
            k: How many documents.
            fetch_k: How many candidates are looked at.
            lambda_mult: 1 for likeness to the query alone, 0 for unlikeness alone.
            filter: A filter on metadata, or a function of a `Document`; candidates are those that it lets through.

        Returns:
            The documents.
        """
        vectors = self.searches.embed([query])
        return self.searches.diverse(vectors, k, filter, fetch_k=fetch_k, lambda_mult=lambda_mult)[0]

    @override
    async def amax_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, *, filter: Filter | None = None
    ) -> list[Document]:
        """Documents near a text and unlike each other, in the order of choice."""
        vectors = await self.searches.aembed([query])
        work = self.searches.diverse
        return (await asyncio.to_thread(work, vectors, k, filter, fetch_k=fetch_k, lambda_mult=lambda_mult))[0]

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
        """Documents near a vector and unlike each other, in the order of choice."""
        return self.searches.diverse(one_row(embedding), k, filter, fetch_k=fetch_k, lambda_mult=lambda_mult)[0]

    @override
    async def amax_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
    ) -> list[Document]:
        """Documents near a vector and unlike each other, in the order of choice."""
        work = self.max_marginal_relevance_search_by_vector
        return await asyncio.to_thread(work, embedding, k, fetch_k, lambda_mult, filter=filter)

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
        """This store as a retriever whose ``batch`` is one search.

        Args:
            search_type: ``"similarity"``, ``"similarity_score_threshold"`` or ``"mmr"``.
            search_kwargs: ``k``, ``filter``, ``score_threshold``, ``fetch_k``, ``lambda_mult``.
            k: How many documents, where ``search_kwargs`` does not say.
            tags: What traces are tagged with.
            metadata: What traces carry.

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
