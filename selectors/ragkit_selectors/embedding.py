"""Likeness of meaning: the cosine between the embeddings of the query and of each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.extras import require
from ragkit.protocols import Embedder
from ragkit.records import Example
from ragkit_selectors.flat import FlatVectors
from ragkit_selectors.pool import PoolSelector
from ragkit_selectors.ranking import Ranked


class EmbeddingSelector(PoolSelector):
    """Choose the examples whose embeddings are nearest to the query's; scores are compared at 1e-6.

    Attributes:
        embedder: What turns texts into vectors.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play a song", "output": "music"}]
        >>> EmbeddingSelector(pool, embedder="hash:256").select("lamps", k=1)[0].output
        'light'
    """

    def __init__(
        self,
        examples: Sequence[Example | Mapping[str, object]],
        *,
        embedder: str | Embedder = "minilm",
        key: str = "input",
    ) -> None:
        """Read and embed the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            embedder: An embedder or its spec, as `ragkit.embedders.load_embedder` reads it.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
        """
        super().__init__(examples, key=key)
        require("faiss")  # before the model is loaded and the pool embedded
        self.embedder = load_embedder(embedder)
        self._vectors = FlatVectors(self._unit(self.embedder.embed_documents(self._texts), len(self)))

    def _unit(self, vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        expected = (count, self.embedder.dim)
        if vectors.shape != expected or not np.isfinite(vectors).all():
            raise InvalidInputError(
                f"embedder {self.embedder.name!r} must give finite numbers of shape {expected}, got {vectors.shape}"
            )
        exact = vectors.astype(np.float64)
        lengths = np.linalg.norm(exact, axis=1, keepdims=True)
        return np.ascontiguousarray(exact / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    @override
    def _ranked(self, texts: Sequence[str], k: int, skipped: NDArray[np.intp]) -> list[Ranked]:
        if not texts:
            return []
        return self._vectors.nearest(self._unit(self.embedder.embed_queries(texts), len(texts)), k, skipped)

    @override
    def _why(self, text: str, row: int, score: float) -> Mapping[str, object]:
        return {"cosine": score}
