"""Searches over an `Index` that give LangChain documents: many queries each, by likeness, relevance or diversity."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from numpy.typing import NDArray

from ragkit.embedders.langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.mmr import mmr
from ragkit.pairwise import unit
from ragkit.protocols import Embedder
from ragkit.text import refuse_bare_string
from ragkit_pipelines.langchain.filters import Filter, read_where

Scored = tuple[Document, float]
Vectors = NDArray[np.float32]
_FEW = 64  # documents that are shown to a filter function at first


class SearchedStore(VectorStore):
    """A vector store whose searches take many queries at once.

    Attributes:
        searches: The searches behind all methods.
    """

    searches: Searches


class Searches:
    """The searches that the vector store and the retriever share.

    Attributes:
        index: What is searched.
    """

    def __init__(self, index: Index) -> None:
        """Search an index."""
        self.index = index
        self._euclidean = index.stats().metric == "l2"

    def embed(self, queries: Sequence[str]) -> Vectors:
        """Embed queries, f32[m, dim]."""
        refuse_bare_string("queries", queries)
        return self._embedder().embed_queries(queries)

    async def aembed(self, queries: Sequence[str]) -> Vectors:
        """Embed queries without blocking the event loop, by LangChain's own async methods where it has them."""
        refuse_bare_string("queries", queries)
        embedder = self._embedder()
        if isinstance(embedder, LangChainEmbedder):
            return await embedder.aembed_queries(queries)
        return await asyncio.to_thread(embedder.embed_queries, queries)

    def nearest(self, queries: Vectors, k: int, filter: Filter | None) -> list[list[Scored]]:
        """The k nearest documents of each query that a filter lets through.

        Args:
            queries: f32[m, dim].
            k: How many.
            filter: A filter on metadata, or a function of a `Document`.

        Returns:
            For each query documents with the index's scores, the best first.
        """
        return [[(document, score) for _, score, document in row] for row in self._keyed(queries, k, filter)]

    def relevant(
        self, queries: Vectors, k: int, filter: Filter | None, score_threshold: float | None
    ) -> list[list[Scored]]:
        """Do what `nearest` does with scores from 0 to 1, none of them below a threshold.

        Args:
            queries: f32[m, dim].
            k: How many.
            filter: A filter on metadata, or a function of a `Document`.
            score_threshold: The least relevance, 0 to 1; None for any.

        Returns:
            For each query documents with their relevance, as `relevance` gives it.

        Raises:
            InvalidInputError: If the threshold is out of its range.
        """
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise InvalidInputError(f"`score_threshold` must be between 0 and 1, got {score_threshold!r}")
        least, scale = score_threshold or 0.0, self.relevance()
        judged = [[(document, scale(score)) for document, score in row] for row in self.nearest(queries, k, filter)]
        return [[pair for pair in row if pair[1] >= least] for row in judged]

    def relevance(self) -> Callable[[float], float]:
        """What turns a score into a relevance: the cosine of vectors of length 1, negative ones as 0."""
        if self._euclidean:  # |a - b|^2 = 2 - 2 a.b
            return lambda score: min(1.0, max(0.0, 1 + score / 2))
        return lambda score: min(1.0, max(0.0, score))

    def diverse(
        self, queries: Vectors, k: int, filter: Filter | None, *, fetch_k: int = 20, lambda_mult: float = 0.5
    ) -> list[list[Document]]:
        """Documents near each query and unlike each other, by maximal marginal relevance.

        Args:
            queries: f32[m, dim].
            k: How many.
            filter: A filter on metadata, or a function of a `Document`.
            fetch_k: How many candidates are looked at.
            lambda_mult: 1 for likeness to the query alone, 0 for unlikeness alone.

        Returns:
            For each query documents in the order of choice.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        _check_k(k)
        if not 0 <= lambda_mult <= 1:
            raise InvalidInputError(f"`lambda_mult` must be between 0 and 1, got {lambda_mult!r}")
        if type(fetch_k) is not int or fetch_k < 1:
            raise InvalidInputError(f"`fetch_k` must be a whole number of at least 1, got {fetch_k!r}")
        chosen = []
        for query, row in zip(queries, self._keyed(queries, max(k, fetch_k), filter), strict=True):
            vectors = self.index.get_vectors_by_keys([key for key, _, _ in row])
            places, _ = mmr(unit(query[None])[0], unit(vectors), k, lambda_mult)
            chosen.append([row[place][2] for place in places.tolist()])
        return chosen

    def _keyed(self, queries: Vectors, k: int, filter: Filter | None) -> list[list[tuple[int, float, Document]]]:
        """Keys, scores and documents of the nearest."""
        if callable(filter):
            return self._let_through(queries, k, filter)
        found = self.index.search_documents(queries, k, where=None if filter is None else read_where(filter))
        return [
            [(key, score, of_parts(each.text, each.metadata, each.id)) for key, score, each in row] for row in found
        ]

    def _let_through(
        self, queries: Vectors, k: int, function: Callable[[Document], bool]
    ) -> list[list[tuple[int, float, Document]]]:
        """The nearest that a function lets through: ever more are fetched until there are k, or no more."""
        _check_k(k)
        found: list[list[tuple[int, float, Document]]] = [[] for _ in range(len(queries))]
        places, fetch, total = list(range(len(queries))), max(_FEW, 4 * k), len(self.index)
        while places:
            rows = self._keyed(queries[places], min(fetch, total), None)
            for place, row in zip(places, rows, strict=True):
                found[place] = [each for each in row if function(each[2])][:k]
            places = [place for place in places if len(found[place]) < k and fetch < total]
            fetch *= 4
        return found

    def _embedder(self) -> Embedder:
        if self.index.embedder is None:
            raise InvalidInputError("this index has no embedder; search by vector")
        return self.index.embedder


def one_row(embedding: Sequence[float] | NDArray[np.floating]) -> Vectors:
    """A vector as a batch of one, f32[1, d].

    Returns:
        The batch.

    Raises:
        InvalidInputError: If it is not one vector.
    """
    row = np.asarray(embedding, dtype=np.float32)
    if row.ndim != 1:
        raise InvalidInputError(f"`embedding` must be one vector, got shape {row.shape}")
    return row[None]


def documents_of(row: Sequence[Scored]) -> list[Document]:
    """Documents without their scores."""
    return [document for document, _ in row]


def of_parts(text: str, metadata: Mapping[str, object] | None, name: str | None) -> Document:
    """A LangChain document."""
    return Document(page_content=text, metadata=metadata or {}, id=name)


def _check_k(k: int) -> None:
    if type(k) is not int or k < 0:
        raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
