"""The search methods of a LangChain ``VectorStore``, with the signatures of LangChain's own stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from langchain_core.documents import Document
from typing_extensions import override

from ragkit_pipelines.langchain.searching import Filter, Scored, SearchedStore, documents_of, one_row, whole

_Row = TypeVar("_Row", list[Document], list[Scored])  # the results of one query


# LangChain's methods accept **kwargs; these do not, so that a misspelt argument is an error. Therefore the methods
# below need "type: ignore[override]". LangChain runs the methods without an async variant here in a thread.
class StoreSearches(SearchedStore):
    """Searches by text and by vector: the k nearest documents, those above a threshold, or diverse ones.

    A filter is a mapping of `ragkit.where`, or a function of a document or of its metadata. ``fetch_k`` is accepted in
    every method because LangChain's FAISS has it; only the diverse searches use it, because filters are exact here.
    """

    @override
    def similarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, filter: Filter | None = None, fetch_k: int | None = None
    ) -> list[Document]:
        """Return the k documents that are most similar to a text."""
        return documents_of(self.similarity_search_with_score(query, k, filter, fetch_k))

    @override
    async def asimilarity_search(  # type: ignore[override]
        self, query: str, k: int = 4, filter: Filter | None = None, fetch_k: int | None = None
    ) -> list[Document]:
        return documents_of(await self.asimilarity_search_with_score(query, k, filter, fetch_k))

    @override
    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, fetch_k: int | None = None
    ) -> list[Scored]:
        """Return the k most similar documents with scores: cosines, inner products or negative squared distances."""
        _check_unused(fetch_k)
        return self._search(self.searches.nearest, query, k, filter)

    @override
    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, fetch_k: int | None = None
    ) -> list[Scored]:
        _check_unused(fetch_k)
        return await self._asearch(self.searches.nearest, query, k, filter)

    @override
    def similarity_search_by_vector(  # type: ignore[override]
        self, embedding: Sequence[float], k: int = 4, filter: Filter | None = None, fetch_k: int | None = None
    ) -> list[Document]:
        """Return the k documents that are most similar to a vector."""
        return documents_of(self.similarity_search_with_score_by_vector(embedding, k, filter, fetch_k))

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, filter: Filter | None = None, fetch_k: int | None = None
    ) -> list[Scored]:
        """Return the k documents that are most similar to a vector, with their scores."""
        _check_unused(fetch_k)
        return self.searches.nearest(one_row(embedding), k, filter)[0]

    @override
    def similarity_search_with_relevance_scores(  # type: ignore[override]
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,
        fetch_k: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Scored]:
        """Return the k documents that are most similar to a text, if their relevance reaches a threshold.

        Args:
            query: The text.
            k: Number of documents.
            filter: A metadata filter, or a function of a document or of its metadata.
            fetch_k: Not used.
            score_threshold: Minimum relevance, from 0 to 1.

        Returns:
            Documents with their relevance: the cosine similarity to the query, or 0 if it is negative.
        """
        _check_unused(fetch_k)
        return self._search(self.searches.relevant, query, k, filter, score_threshold)

    @override
    async def asimilarity_search_with_relevance_scores(  # type: ignore[override]
        self,
        query: str,
        k: int = 4,
        filter: Filter | None = None,
        fetch_k: int | None = None,
        score_threshold: float | None = None,
    ) -> list[Scored]:
        _check_unused(fetch_k)
        return await self._asearch(self.searches.relevant, query, k, filter, score_threshold)

    @override
    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return self.searches.relevance()

    @override
    def max_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Filter | None = None
    ) -> list[Document]:
        """Return documents that are similar to a text and diverse, in the order of selection.

        Args:
            query: The text.
            k: Number of documents.
            fetch_k: Number of candidates.
            lambda_mult: 1 for similarity to the query only, 0 for diversity only.
            filter: A metadata filter, or a function of a document or of its metadata, that the candidates match.

        Returns:
            The documents.
        """
        return documents_of(self._search(self.searches.diverse, query, k, filter, fetch_k, lambda_mult))

    @override
    async def amax_marginal_relevance_search(  # type: ignore[override]
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, filter: Filter | None = None
    ) -> list[Document]:
        return documents_of(await self._asearch(self.searches.diverse, query, k, filter, fetch_k, lambda_mult))

    @override
    def max_marginal_relevance_search_by_vector(  # type: ignore[override]
        self,
        embedding: Sequence[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
    ) -> list[Document]:
        """Return documents that are similar to a vector and diverse, in the order of selection."""
        return documents_of(
            self.max_marginal_relevance_search_with_score_by_vector(
                embedding, k=k, fetch_k=fetch_k, lambda_mult=lambda_mult, filter=filter
            )
        )

    def max_marginal_relevance_search_with_score_by_vector(
        self,
        embedding: Sequence[float],
        *,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
    ) -> list[Scored]:
        """Return documents that are similar to a vector and diverse, with their similarity to the vector."""
        return self.searches.diverse(one_row(embedding), k, filter, fetch_k, lambda_mult)[0]

    def _search(self, search: Callable[..., list[_Row]], query: str, *arguments: object) -> _Row:
        return search(self.searches.embed([query]), *arguments)[0]

    async def _asearch(self, search: Callable[..., list[_Row]], query: str, *arguments: object) -> _Row:
        vectors = await self.searches.aembed([query])
        return (await asyncio.to_thread(search, vectors, *arguments))[0]


def _check_unused(fetch_k: int | None) -> None:
    """Check ``fetch_k``, which has no effect: a filter is applied before the search, whatever the number."""
    if fetch_k is not None:
        whole("fetch_k", fetch_k, least=1)
