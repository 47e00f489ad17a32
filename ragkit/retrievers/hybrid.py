"""Several retrievers as one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.protocols import Retriever
from ragkit.retrievers.base import Hits, RetrieverBase, Where
from ragkit.retrievers.fusion import FUSIONS, Fusion, fuse


class HybridRetriever(RetrieverBase):
    """Ask several retrievers and fuse their rankings, such as BM25 and vectors over one index.

    The score of a document is the weighted sum of what each ranking gives it, 0 where it does not name it:

    - ``"rrf"``: 1 / (60 + rank) (Cormack et al., 2009), which looks at ranks alone.
    - ``"minmax"``: the score, spread from 0 for the ranking's last to 1 for its first.
    - ``"zscore"``: how many standard deviations the score lies above the ranking's last.
    - ``"dist"``: the score, spread from 0 at three standard deviations below the mean to 1 at three above.

    Attributes:
        parts: The retrievers by name.
        weights: What each of them weighs.
        fusion: The rule.
        depth: How far down each ranking counts.
        constant: The 60 above.

    Examples:
        >>> from ragkit import BM25Retriever, DenseRetriever, Index
        >>> index = Index.create(None, embedder="hash:256")
        >>> ids = index.add(["dim the lamp", "play a song"])
        >>> hit = HybridRetriever([BM25Retriever(index), DenseRetriever(index)]).retrieve("the lamps", k=1)[0]
        >>> hit.text, sorted(hit.why)
        ('dim the lamp', ['bm25', 'bm25_rank', 'dense', 'dense_rank', 'zscore'])
        >>> index.close()
    """

    name = "hybrid"

    def __init__(
        self,
        retrievers: Sequence[Retriever] | Mapping[str, Retriever],
        *,
        fusion: Fusion = "zscore",
        weights: Sequence[float] | None = None,
        depth: int = 100,
        constant: float = 60.0,
    ) -> None:
        """Put retrievers together.

        Args:
            retrievers: At least one; a mapping names them, otherwise they are called by their own names.
            fusion: The rule.
            weights: A weight above 0 for each, evenly if None.
            depth: How far down each ranking counts, at least 1.
            constant: What is added to a rank under ``"rrf"``, 0 or more.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        self.parts = dict(retrievers) if isinstance(retrievers, Mapping) else _named(retrievers)
        given = [1.0] * len(self.parts) if weights is None else list(weights)
        if not self.parts or not all(isinstance(part, Retriever) for part in self.parts.values()):
            raise InvalidInputError("`retrievers` must hold at least one retriever and nothing else")
        if len(given) != len(self.parts) or not all(0 < weight < float("inf") for weight in given):
            raise InvalidInputError(f"`weights` must give each of {list(self.parts)} a weight above 0, got {weights!r}")
        if fusion not in FUSIONS:
            raise InvalidInputError(f"`fusion` must be one of {FUSIONS}, got {fusion!r}")
        if type(depth) is not int or depth < 1 or not 0 <= constant < float("inf"):
            raise InvalidInputError(
                f"`depth` must be at least 1 and `constant` at least 0, got {depth!r} and {constant!r}"
            )
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
        return [
            fuse(dict(zip(self.parts, lists, strict=True)), self.weights, k, self.fusion, self.constant)
            for lists in zip(*found, strict=True)
        ]


def _named(retrievers: Sequence[Retriever]) -> dict[str, Retriever]:
    """Retrievers by their own names; of several with one name the later ones get a number."""
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
