"""A selector that fuses the rankings of several selectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.lexical.fusion import Fusion, check_fusion, fuse
from ragkit.protocols import Embedder
from ragkit_selectors.base import PoolSelector
from ragkit_selectors.candidates import Candidates, filled
from ragkit_selectors.pool import AnyExample, Pool


class HybridSelector(PoolSelector):
    """Fuses the rankings of several selectors over one pool, by default BM25 and embeddings.

    `ragkit.lexical.fusion.fuse` describes the methods. The first ``depth`` examples of each ranking count; an example
    that is not among them scores 0.

    Attributes:
        parts: The selectors by name.
        weights: The weight of each selector.
        fusion: The method.
        depth: Number of examples of each ranking that count.

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
        """Build the selectors over the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            weights: The weight of each selector by its name, above 0; ``{"bm25": 1, "embedding": 1}`` if None.
            embedder: For ``"embedding"``, an embedder or its spec.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that contains the answer.
            fusion: ``"rrf"`` to fuse by ranks, ``"weighted"`` to fuse by scores.
            depth: Number of examples of each ranking that count, at least 1.
            vectors: f32[n, d], embeddings of the examples by the embedder; None to compute them.

        Raises:
            InvalidInputError: If an argument is out of range.
        """
        from ragkit_selectors.loading import load_source

        weights = {"bm25": 1.0, "embedding": 1.0} if weights is None else dict(weights)
        if not weights or not all(0 < weight < float("inf") for weight in weights.values()) or "hybrid" in weights:
            raise InvalidInputError(f"`weights` must give selectors other than hybrid a weight above 0, got {weights}")
        check_fusion(fusion, depth)
        super().__init__(examples, key=key, output=output)
        self.weights, self.fusion, self.depth = weights, fusion, depth
        self.parts = {name: load_source(name, self.pool, embedder=embedder, vectors=vectors) for name in weights}

    @override
    def _best(self, texts: Sequence[str], n: int, barred: NDArray[np.bool_] | None) -> list[Candidates]:
        lists = {name: part._best(texts, self.depth, barred) for name, part in self.parts.items()}
        return [
            self._fuse({name: found[place] for name, found in lists.items()}, n, barred) for place in range(len(texts))
        ]

    def _fuse(self, lists: Mapping[str, Candidates], n: int, barred: NDArray[np.bool_] | None) -> Candidates:
        rankings = [list(zip(found.rows.tolist(), found.scores.tolist(), strict=True)) for found in lists.values()]
        fused = fuse(rankings, list(self.weights.values()), method=self.fusion)
        rows = sorted(fused, key=lambda row: (-fused[row], row))[:n]
        parts: dict[str, NDArray[np.float64]] = {}
        for name, ranking in zip(lists, rankings, strict=True):
            held = {row: (score, rank) for rank, (row, score) in enumerate(ranking, start=1)}
            pairs = np.array([held.get(row, (np.nan, np.nan)) for row in rows]).reshape(-1, 2)
            parts |= {name: pairs[:, 0], f"{name}_rank": pairs[:, 1]}
        found = Candidates(np.array(rows, dtype=np.intp), np.array([fused[row] for row in rows]), parts)
        return filled(found, n, len(self.pool.entries), barred)

    @override
    def _why(self, text: str, example: str, score: float) -> dict[str, object]:
        return {self.fusion: score}

    @override
    def _vectors(self, text: str, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        part = self.parts.get("embedding")
        return super()._vectors(text, rows) if part is None else part._vectors(text, rows)

    @override
    def _prepare(self, texts: Sequence[str]) -> object:
        return {name: part._prepare(texts) for name, part in self.parts.items()}

    @override
    def _extend(self, prepared: object) -> None:
        for name, made in cast("dict[str, object]", prepared).items():
            self.parts[name]._extend(made)

    @override
    def _keep(self, rows: NDArray[np.intp]) -> None:
        for part in self.parts.values():
            part._keep(rows)

    @override
    def _config(self) -> dict[str, object]:
        return {"weights": self.weights, "fusion": self.fusion, "depth": self.depth}

    @override
    def _embedded(self) -> tuple[Embedder, NDArray[np.float32]] | None:
        part = self.parts.get("embedding")
        return None if part is None else part._embedded()
