"""A selector that fuses the rankings of several selectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.fusion import Fusion, check_fusion, fuse
from ragkit._lexical.tie_breaking import top_k
from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder
from ragkit_selectors.base import PoolSelector
from ragkit_selectors.candidates import Candidates, filled
from ragkit_selectors.pool import AnyExample, Pool


class HybridSelector(PoolSelector):
    """Fuses the rankings of several selectors over one pool, by default BM25 and embeddings.

    `ragkit._lexical.fusion.fuse` describes the methods. The first ``depth`` examples of each ranking count; an example
    that is not among them scores 0.

    Attributes:
        parts: The selectors by name.
        weights: The weight of each selector by its name, above 0; by default ``{"bm25": 1, "embedding": 1}``.
        fusion: ``"rrf"`` to fuse by ranks, ``"weighted"`` to fuse by scores.
        depth: Number of examples of each ranking that count, at least 1.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play a song", "output": "music"}]
        >>> hit = HybridSelector(pool, {"bm25": 1, "tfidf": 0.5}).select("a lamp", k=1).hits[0]
        >>> sorted(hit.why)
        ['bm25', 'bm25_rank', 'rrf', 'tfidf', 'tfidf_rank']
    """

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        weights: Mapping[str, float] | None = None,
        *,
        embedder: str | Embedder = "minilm",
        key: str = "input",
        output: str = "output",
        fusion: Fusion = "rrf",
        depth: int = 100,
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Build the selectors over the pool; `EmbeddingSelector` describes ``embedder`` and ``vectors``."""
        from ragkit_selectors.loading import load_source

        weights = {"bm25": 1.0, "embedding": 1.0} if weights is None else dict(weights)
        if not weights or not all(0 < weight < float("inf") for weight in weights.values()) or "hybrid" in weights:
            raise InvalidInputError(f"`weights` must give selectors other than hybrid a weight above 0, got {weights}")
        check_fusion(fusion, depth)
        super().__init__(examples, key=key, output=output)
        self.weights, self.fusion, self.depth = weights, fusion, depth
        self.parts = {name: load_source(name, self.pool, embedder=embedder, vectors=vectors) for name in weights}

    @override
    def _best(self, texts: Sequence[str], n: int, excluded: NDArray[np.bool_] | None) -> list[Candidates]:
        lists = {name: part._best(texts, self.depth, excluded) for name, part in self.parts.items()}
        by_text = (dict(zip(lists, found, strict=True)) for found in zip(*lists.values(), strict=True))
        return [self._fuse(found, n, excluded) for found in by_text]

    def _fuse(self, lists: Mapping[str, Candidates], n: int, excluded: NDArray[np.bool_] | None) -> Candidates:
        rankings = [list(zip(found.rows.tolist(), found.scores.tolist(), strict=True)) for found in lists.values()]
        fused = fuse(rankings, list(self.weights.values()), method=self.fusion)
        best = top_k(np.array(list(fused), dtype=np.intp), np.array(list(fused.values())), n)
        parts: dict[str, NDArray[np.float64]] = {}
        for name, ranking in zip(lists, rankings, strict=True):
            held = {row: (score, rank) for rank, (row, score) in enumerate(ranking, start=1)}
            pairs = np.array([held.get(row, (np.nan, np.nan)) for row in best.rows.tolist()]).reshape(-1, 2)
            parts |= {name: pairs[:, 0], f"{name}_rank": pairs[:, 1]}
        return filled(Candidates(*best, parts), n, len(self.pool.entries), excluded)

    @override
    def _why(self, text: str, example: str, score: float) -> dict[str, object]:
        return {self.fusion: score}

    @override
    def _vectors(self, text: str, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        part = self.parts.get("embedding")
        return super()._vectors(text, rows) if part is None else part._vectors(text, rows)

    @override
    def _config(self) -> dict[str, object]:
        return {"weights": self.weights, "fusion": self.fusion, "depth": self.depth}

    @override
    def _embedded(self) -> tuple[Embedder, NDArray[np.float32]] | None:
        part = self.parts.get("embedding")
        return None if part is None else part._embedded()
