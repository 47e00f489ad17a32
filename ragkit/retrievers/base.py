"""The base class of retrievers: single queries and batches, sync and async, with argument checks."""

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
        found = self._retrieve(batch, k, where) if batch and k else [[] for _ in batch]
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
        found = await self._aretrieve(batch, k, where) if batch and k else [[] for _ in batch]
        return found[0] if isinstance(queries, str) else found


def checked_queries(queries: object, k: object, where: object) -> list[str]:
    """Check the arguments of a search and return the queries as a list.

    Args:
        queries: One text or several.
        k: Number of documents.
        where: A filter, or None.

    Returns:
        The queries.

    Raises:
        InvalidInputError: If an argument is invalid.
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
    """Convert a document to a hit, whose span comes from the metadata."""
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
    """Replace the scores of hits, and number their ranks in order.

    Args:
        hits: Hits, new scores and additions to `Hit.why`, best first.

    Returns:
        The hits.
    """
    return [
        replace(hit, score=score, rank=rank, why={**hit.why, **why}) for rank, (hit, score, why) in enumerate(hits, 1)
    ]
