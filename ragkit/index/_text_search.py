"""Search by text, which an index and a sharded index share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.index._document_inputs import checked_texts
from ragkit.protocols import Embedder
from ragkit.records import Document, Hit, Metadata, span_of
from ragkit.where import Where


class Ranked(NamedTuple):
    """A document that was found; its metadata belong to the caller."""

    id: str
    text: str
    metadata: Metadata | None
    score: float


class TextSearch(ABC):
    """Search by text, and closing.

    Attributes:
        embedder: The embedder of texts; None if there are only vectors.
    """

    embedder: Embedder | None
    _metric: str  # of the scores

    @abstractmethod
    def _nearest(self, vectors: NDArray[np.float32], k: int, where: Where | None) -> Iterable[Iterable[Ranked]]:
        """Return the documents nearest to each vector, best first."""

    @abstractmethod
    def close(self) -> None:
        """Close the files and release the lock. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def search(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, where: Where | None = None
    ) -> list[Hit]: ...
    @overload
    def search(self, queries: Sequence[str], k: int = 10, *, where: Where | None = None) -> list[list[Hit]]: ...
    def search(
        self, queries: str | Sequence[str], k: int = 10, *, where: Where | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """Find the documents nearest to one or several texts.

        Args:
            queries: One text or several.
            k: Number of documents, 0 or more.
            where: A filter on metadata, see `ragkit.where`; it is applied before the search.

        Returns:
            The hits of a text, best first; a list of hits for each text of a sequence. Exact search returns k hits, or
            all matching documents if there are fewer.

        Raises:
            InvalidInputError: If there is no embedder, or if an argument is invalid.
            IntegrityError: If two shards contain documents with the same id.
        """
        if isinstance(queries, str):
            return self.search([queries], k, where=where)[0]
        if self.embedder is None:
            raise InvalidInputError("this index has no embedder; use `search_vectors`")
        asked = checked_texts("queries", queries)
        vectors = self.embedder.embed_queries(asked) if asked else np.zeros((0, self.embedder.dim), dtype=np.float32)
        return [
            [hit_of(each, each.score, rank, {self._metric: each.score}) for rank, each in enumerate(row, 1)]
            for row in self._nearest(vectors, k, where)
        ]


def hit_of(document: Document | Ranked, score: float, rank: int, why: Mapping[str, object]) -> Hit:
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
