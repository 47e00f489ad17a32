"""The base class of retrievers: single queries and batches, sync and async, with argument checks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import overload

from typing_extensions import override

from ragkit._observation import observed, observed_later
from ragkit._text import shown
from ragkit.errors import InvalidInputError
from ragkit.index._document_inputs import checked_texts
from ragkit.index._text_search import hit_of as hit_of
from ragkit.protocols import Retriever
from ragkit.records import Hit
from ragkit.where import Where as Where
from ragkit.where import parse_where

Hits = list[list[Hit]]


class RetrieverBase(ABC):
    """Base class of retrievers. A subclass implements only `_retrieve`.

    Attributes:
        name: Name of the ranking in a `HybridRetriever`, and of the system in a run file.
    """

    name = "retriever"

    @abstractmethod
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        """Return the hits of at least one query; ``k`` is at least 1."""

    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        """Run `_retrieve` without blocking; by default in a thread."""
        return await asyncio.to_thread(self._retrieve, queries, k, where)

    @overload  # a string is also a sequence of strings; the first overload applies to it
    def retrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    def retrieve(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> Hits: ...
    def retrieve(self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None) -> list[Hit] | Hits:
        """Find documents for one or several queries.

        Args:
            queries: One text or several.
            k: Maximum number of documents, 0 or more.
            where: A filter on metadata, see `ragkit.where`.

        Returns:
            The hits of a text, best first; a list of hits for each text of a sequence.
        """
        batch = checked_queries(queries, k, where)
        if not batch or not k:
            found: Hits = [[] for _ in batch]
        else:
            found = observed("retriever", self, batch, lambda: self._retrieve(batch, k, where))
        return found[0] if isinstance(queries, str) else found

    @overload  # a string is also a sequence of strings; the first overload applies to it
    async def aretrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    async def aretrieve(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> Hits: ...
    async def aretrieve(
        self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[Hit] | Hits:
        """Call `retrieve` without blocking the event loop.

        Returns:
            The result of `retrieve`.
        """
        batch = checked_queries(queries, k, where)
        if not batch or not k:
            found: Hits = [[] for _ in batch]
        else:
            found = await observed_later("retriever", self, batch, lambda: self._aretrieve(batch, k, where))
        return found[0] if isinstance(queries, str) else found


class RefiningRetriever(RetrieverBase):
    """Base class of retrievers that change the hits of another one. A subclass implements only `_refined`.

    Attributes:
        base: The retriever of the candidates.
        fetch_k: Number of candidates per query, at least as many as requested hits.
    """

    def __init__(self, base: Retriever, fetch_k: int) -> None:
        """Refine the hits of a retriever.

        Raises:
            InvalidInputError: If ``fetch_k`` is below 1.
        """
        if type(fetch_k) is not int or fetch_k < 1:
            raise InvalidInputError(f"`fetch_k` must be a whole number of at least 1, got {shown(fetch_k)}")
        self.base, self.fetch_k = base, fetch_k

    @abstractmethod
    def _refined(self, queries: Sequence[str], found: Hits, k: int, where: Where | None) -> Hits:
        """Return the hits of each query, at most k, from its candidates."""

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return self._refined(queries, self.base.retrieve(queries, max(k, self.fetch_k), where=where), k, where)

    @override
    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        found = await self.base.aretrieve(queries, max(k, self.fetch_k), where=where)
        return await asyncio.to_thread(self._refined, queries, found, k, where)


def checked_queries(queries: object, k: object, where: object) -> list[str]:
    """Return one query or several as a list.

    Raises:
        InvalidInputError: If an argument of a search is invalid.
    """
    if type(k) is not int or k < 0:
        raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {shown(k)}")
    if where is not None:
        parse_where(where)  # type: ignore[arg-type]
    return [queries] if isinstance(queries, str) else checked_texts("queries", queries)


def ranked(hits: Iterable[tuple[Hit, float, Mapping[str, object]]]) -> list[Hit]:
    """Return hits, given best first, with new scores, additions to `Hit.why`, and ranks."""
    return [
        replace(hit, score=score, rank=rank, why={**hit.why, **why}) for rank, (hit, score, why) in enumerate(hits, 1)
    ]
