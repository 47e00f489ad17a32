"""What every retriever shares: one query or many, sync or async, and the checks before any work."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import overload

from ragkit.errors import InvalidInputError
from ragkit.records import Document, Hit, span_of
from ragkit.where import parse_where

Where = Mapping[str, object]
Hits = list[list[Hit]]


class RetrieverBase(ABC):
    """A `Retriever` but for one method: a subclass answers a batch.

    Attributes:
        name: What a `HybridRetriever` calls its ranking, and a run file its system.
    """

    name = "retriever"

    @abstractmethod
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        """Answer a batch of at least one query, ``k`` at least 1."""

    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        """The same without blocking; on a thread where a subclass does not know better."""
        return await asyncio.to_thread(self._retrieve, queries, k, where)

    @overload  # a string is a query, and a sequence of strings too; the first overload wins
    def retrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    def retrieve(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> Hits: ...
    def retrieve(self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None) -> list[Hit] | Hits:
        """Find documents for one query, or for each of several.

        Args:
            queries: One text or several.
            k: How many documents at the most, 0 or more.
            where: A filter on metadata, as `ragkit.where` reads it.

        Returns:
            For a text its hits, the best first; for a sequence a list for each.
        """
        batch = checked_queries(queries, k, where)
        found = self._retrieve(batch, k, where) if batch and k else [[] for _ in batch]
        return found[0] if isinstance(queries, str) else found

    @overload  # a string is a query, and a sequence of strings too; the first overload wins
    async def aretrieve(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    async def aretrieve(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> Hits: ...
    async def aretrieve(
        self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[Hit] | Hits:
        """`retrieve` without blocking the event loop.

        Returns:
            As `retrieve`.
        """
        batch = checked_queries(queries, k, where)
        found = await self._aretrieve(batch, k, where) if batch and k else [[] for _ in batch]
        return found[0] if isinstance(queries, str) else found


def checked_queries(queries: object, k: object, where: object) -> list[str]:
    """Queries as a list, after a look at everything that was asked.

    Args:
        queries: One text or several.
        k: How many documents.
        where: A filter, or None.

    Returns:
        The queries.

    Raises:
        InvalidInputError: If one of them is not what it should be.
    """
    if type(k) is not int or k < 0:
        raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
    if where is not None:
        parse_where(where)  # type: ignore[arg-type]
    if isinstance(queries, str):
        return [queries]
    if not isinstance(queries, Iterable):
        raise InvalidInputError(f"`queries` must be a text or a sequence of texts, got {type(queries).__name__}")
    batch = list(queries)
    for place, query in enumerate(batch):
        if not isinstance(query, str):
            raise InvalidInputError(f"`queries[{place}]` must be a text, got {type(query).__name__}")
    return batch


def hit_of(document: Document, score: float, rank: int, why: Mapping[str, object]) -> Hit:
    """A document as a hit; its span is what its metadata say."""
    return Hit(
        id=document.id or "",
        score=score,
        rank=rank,
        text=document.text,
        metadata=document.metadata,
        span=span_of(document.metadata),
        why=why,
    )


def ranked(hits: Iterable[tuple[Hit, float, Mapping[str, object]]]) -> list[Hit]:
    """Hits with new scores, and ranks by their order.

    Args:
        hits: Hit, new score and what is added to its `why`, the best first.

    Returns:
        The hits.
    """
    return [
        replace(hit, score=score, rank=rank, why={**hit.why, **why}) for rank, (hit, score, why) in enumerate(hits, 1)
    ]
