"""A retriever that selects relevant hits with little redundancy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._mmr import mmr
from ragkit._pairwise import unit
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Retriever
from ragkit.records import Hit
from ragkit.retrievers._base import Hits, RefiningRetriever, Where, ranked
from ragkit.retrievers._dense import DenseRetriever


class MmrRetriever(RefiningRetriever):
    """Maximal marginal relevance over the hits of another retriever (Carbonell and Goldstein, 1998).

    Similarity is the cosine of the exact vectors in the index. Scores are those of the base retriever, so they may rise
    with the rank. The arguments are attributes of the same names.

    Examples:
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add(["a red lamp", "a red lamp!", "a lamp on a table"])
        >>> [hit.text for hit in MmrRetriever(index, trade_off=0.3).retrieve("red lamp", k=2)]
        ['a red lamp', 'a lamp on a table']
        >>> index.close()
    """

    name = "mmr"

    def __init__(
        self, index: Index, base: Retriever | None = None, *, trade_off: float = 0.7, fetch_k: int = 50
    ) -> None:
        """Select from the hits of a retriever over an index.

        Args:
            index: The index with the vectors of the hits.
            base: The retriever of the candidates; dense retrieval from the index if None.
            trade_off: Weight of relevance, from 0 to 1; the rest is that of similarity to hits already selected.
            fetch_k: Number of candidates, at least 1.

        Raises:
            InvalidInputError: If an argument is invalid.
        """
        if not 0 <= trade_off <= 1:
            raise InvalidInputError(f"`trade_off` must be between 0 and 1, got {trade_off!r}")
        dense = DenseRetriever(index)  # checks that there is an embedder, which `base` does not replace
        super().__init__(base or dense, fetch_k)
        self.index, self.trade_off = index, trade_off

    @override
    def _refined(self, queries: Sequence[str], found: Hits, k: int, where: Where | None) -> Hits:
        assert self.index.embedder is not None  # noqa: S101 - DenseRetriever has checked it
        asked = unit(self.index.embedder.embed_queries(queries))
        return [self._choose(query, hits, k) for query, hits in zip(asked, found, strict=True)]

    def _choose(self, query: NDArray[np.float64], hits: Sequence[Hit], k: int) -> list[Hit]:
        vectors = unit(self.index.get_vectors([hit.id for hit in hits]))
        places, costs = mmr(query, vectors, k, self.trade_off)
        return ranked(
            (hits[place], hits[place].score, {"likeness_cost": cost})
            for place, cost in zip(places.tolist(), costs.tolist(), strict=True)
        )
