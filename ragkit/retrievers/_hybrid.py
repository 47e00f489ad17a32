"""A retriever that fuses the rankings of several retrievers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from typing_extensions import override

from ragkit._lexical.fusion import Fusion, check_fusion, fuse
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Retriever
from ragkit.records import Hit
from ragkit.retrievers._base import Hits, RetrieverBase, Where, ranked


class HybridRetriever(RetrieverBase):
    """Fuses the rankings of several retrievers, such as BM25 and vectors over one index.

    `ragkit._lexical.fusion.fuse` describes the methods. Documents with equal scores are in the order in which the
    retrievers name them.

    Attributes:
        parts: The retrievers by name; the other arguments are attributes of the same names.

    Examples:
        >>> from ragkit import BM25Retriever, DenseRetriever, Index
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add(["dim the lamp", "play a song"])
        >>> hit = HybridRetriever([BM25Retriever(index), DenseRetriever(index)]).retrieve("the lamps", k=1)[0]
        >>> hit.text, sorted(hit.why)
        ('dim the lamp', ['bm25', 'bm25_rank', 'dense', 'dense_rank', 'rrf'])
        >>> index.close()
    """

    name = "hybrid"

    def __init__(
        self,
        retrievers: Sequence[Retriever] | Mapping[str, Retriever],
        *,
        fusion: Fusion = "rrf",
        weights: Sequence[float] | None = None,
        depth: int = 100,
        constant: float = 60.0,
    ) -> None:
        """Combine retrievers.

        Args:
            retrievers: At least one; a mapping names them, otherwise they keep their own names.
            fusion: ``"rrf"`` to fuse by ranks, ``"weighted"`` to fuse by scores.
            weights: The weight of each retriever, above 0; all equal if None.
            depth: Number of hits of each ranking that are fused, at least 1.
            constant: The constant of reciprocal rank fusion, 0 or more.

        Raises:
            InvalidInputError: If an argument is invalid.
        """
        self.parts = dict(retrievers) if isinstance(retrievers, Mapping) else _named(retrievers)
        given = [1.0] * len(self.parts) if weights is None else list(weights)
        if not self.parts or not all(isinstance(part, Retriever) for part in self.parts.values()):
            raise InvalidInputError("`retrievers` must contain at least one retriever, and retrievers only")
        if len(given) != len(self.parts) or not all(0 < weight < float("inf") for weight in given):
            raise InvalidInputError(f"`weights` must give each of {list(self.parts)} a weight above 0, got {weights!r}")
        check_fusion(fusion, depth, constant)
        self.weights = dict(zip(self.parts, given, strict=True))
        self.fusion: Fusion = fusion
        self.depth, self.constant = depth, constant

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        depth = max(k, self.depth)
        return self._fused([part.retrieve(queries, depth, where=where) for part in self.parts.values()], k)

    @override
    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        depth = max(k, self.depth)
        asked = (part.aretrieve(queries, depth, where=where) for part in self.parts.values())
        return self._fused(await asyncio.gather(*asked), k)

    def _fused(self, found: Sequence[Hits], k: int) -> Hits:
        weights = list(self.weights.values())
        return [
            fuse_hits(dict(zip(self.parts, lists, strict=True)), weights, k, self.fusion, self.constant)
            for lists in zip(*found, strict=True)
        ]


def hybrid_of(index: Index, load: Callable[[str], Retriever]) -> HybridRetriever:  # noqa: ARG001 - passed to all factories
    """Create the retriever ``"hybrid"`` of an index from its retrievers ``"bm25"`` and ``"dense"``."""
    return HybridRetriever([load("bm25"), load("dense")])


def fuse_hits(
    rankings: Mapping[str, Sequence[Hit]],
    weights: Sequence[float],
    k: int,
    fusion: Fusion = "rrf",
    constant: float = 60.0,
) -> list[Hit]:
    """Return the k best hits of named rankings of documents, see `ragkit._lexical.fusion.fuse`.

    `Hit.why` holds the fused score, and the score and rank of the document in each ranking.
    """
    pairs = [[(hit.id, hit.score) for hit in hits] for hits in rankings.values()]
    fused = fuse(pairs, weights, method=fusion, constant=constant)
    first: dict[str, Hit] = {}
    why: dict[str, dict[str, object]] = {own: {} for own in fused}
    for name, hits in rankings.items():
        for rank, hit in enumerate(hits, start=1):
            first.setdefault(hit.id, hit)
            if name not in why[hit.id]:
                why[hit.id] |= {name: hit.score, f"{name}_rank": rank}
    best = sorted(fused, key=lambda own: -fused[own])[:k]
    return ranked((first[own], fused[own], {**why[own], fusion: fused[own]}) for own in best)


def _named(retrievers: Sequence[Retriever]) -> dict[str, Retriever]:
    """Retrievers by their own names; if several have the same name, the later ones get a number."""
    named: dict[str, Retriever] = {}
    for retriever in retrievers:
        own = getattr(retriever, "name", None)
        name = free = own if isinstance(own, str) else type(retriever).__name__
        number = 1
        while free in named:
            number += 1
            free = f"{name} {number}"
        named[free] = retriever
    return named
