"""Several rankings in one: by the ranks or by the scores that an example has in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder
from ragkit_selectors.candidates import Candidates, best_of_pool
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.selecting import PoolSelector

_DECIMALS = 9


class HybridSelector(PoolSelector):
    """Fuse the rankings of several selectors over one pool, by default BM25 and embeddings.

    ``"rrf"``: the sum of weight / (60 + rank) over the rankings (Cormack et al., 2009). ``"weighted"``: the sum of
    weight x score, each ranking's scores spread from 0 to 1. Each ranking counts down to ``depth``; what stands in none
    of them scores 0.

    Attributes:
        parts: The selectors, by name.
        weights: What each of them weighs.
        fusion: The rule.
        depth: How far down each ranking counts.

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
        fusion: Literal["rrf", "weighted"] = "rrf",
        depth: int = 100,
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Build the parts.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            weights: Names of selectors, each with its weight above 0; ``{"bm25": 1, "embedding": 1}`` if None.
            embedder: For ``"embedding"``, an embedder or its spec.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that holds the answer.
            fusion: ``"rrf"`` for ranks, ``"weighted"`` for scores.
            depth: How far down each ranking counts, at least 1.
            vectors: f32[n, d], the examples as the embedder embeds them, where that was done before.

        Raises:
            InvalidInputError: If an argument is out of its range.
        """
        from ragkit_selectors.loading import load_source

        weights = {"bm25": 1.0, "embedding": 1.0} if weights is None else dict(weights)
        if not weights or not all(0 < weight < float("inf") for weight in weights.values()) or "hybrid" in weights:
            raise InvalidInputError(f"`weights` must give selectors other than hybrid a weight above 0, got {weights}")
        if fusion not in {"rrf", "weighted"}:
            raise InvalidInputError(f"`fusion` must be 'rrf' or 'weighted', got {fusion!r}")
        if type(depth) is not int or depth < 1:
            raise InvalidInputError(f"`depth` must be a whole number of at least 1, got {depth!r}")
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
        total = np.zeros(len(self.pool.entries))
        parts: dict[str, NDArray[np.float64]] = {}
        for name, found in lists.items():
            ranks = np.arange(1.0, len(found) + 1)
            if self.fusion == "rrf":
                shares = 1 / (60 + ranks)
            else:
                low, high = found.scores[-1], found.scores[0]
                shares = (found.scores - low) / (high - low) if high > low else np.ones(len(found))
            total[found.rows] += self.weights[name] * shares
            for what, values in ((name, found.scores), (f"{name}_rank", ranks)):
                parts[what] = np.full(len(total), np.nan)
                parts[what][found.rows] = values
        chosen = best_of_pool(total.round(_DECIMALS), n, barred)
        return Candidates(chosen.rows, chosen.scores, {what: values[chosen.rows] for what, values in parts.items()})

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
