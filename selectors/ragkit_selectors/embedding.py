"""Selection by semantic similarity: the cosine between the embeddings of the query and of each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._extras import require
from ragkit._pairwise import lengths
from ragkit.embedders import load_embedder
from ragkit.embedders._reference import EmbedderReference
from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder
from ragkit_selectors.base import PoolSelector
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.exact_search import FlatVectors
from ragkit_selectors.pool import AnyExample, Pool


class EmbeddingSelector(PoolSelector):
    """Selects the examples whose embeddings are most similar to that of the query; scores are compared at 1e-6.

    Attributes:
        embedder: The embedder.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play a song", "output": "music"}]
        >>> EmbeddingSelector(pool, embedder="hash:256").select("lamps", k=1)[0].output
        'light'
    """

    gives_cosines = True

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        embedder: str | Embedder = "minilm",
        key: str = "input",
        output: str = "output",
        vectors: NDArray[np.float32] | None = None,
    ) -> None:
        """Read the pool and embed it, unless ``vectors``, f32[n, d], are its embeddings by the embedder or its spec."""
        super().__init__(examples, key=key, output=output)
        require("faiss")  # before the model is loaded and the pool embedded
        self.embedder = load_embedder(embedder)
        texts = [entry.text if entry else "" for entry in self.pool.entries]
        given = self._embed(texts) if vectors is None else self._unit(np.asarray(vectors), len(texts))
        self._index = FlatVectors(given)
        self.pool.attach(self._embed, self._index)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "embedder": EmbedderReference(self.embedder)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, embedder=state["embedder"].embedder)

    def vectors(self) -> NDArray[np.float32]:
        """Return the vectors of the pool, f32[n, d], without removed examples."""
        return self._index[self.pool.rows()]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._unit(self.embedder.embed_documents(texts), len(texts))

    def _unit(self, vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        expected = (count, self.embedder.dim)
        right = vectors.shape == expected
        own = lengths(vectors) if right else np.full(1, np.nan)
        if not own.sum() < np.inf:  # false for NaN too
            raise InvalidInputError(
                f"embedder {self.embedder.name!r} must give finite numbers of shape {expected}, got {vectors.shape}"
            )
        return (vectors / np.where(own > 0, own, 1)[:, None]).astype(np.float32)

    @override
    def _best(self, texts: Sequence[str], n: int, excluded: NDArray[np.bool_] | None) -> list[Candidates]:
        return self._index.nearest(self._unit(self.embedder.embed_queries(texts), len(texts)), n, excluded)

    @override
    def _why(self, text: str, example: str, score: float) -> dict[str, object]:
        return {"cosine": score}

    @override
    def _vectors(self, text: str, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        query = self._unit(self.embedder.embed_queries([text]), 1)[0]
        return query.astype(np.float64), self._index[rows].astype(np.float64)

    @override
    def _config(self) -> dict[str, object]:
        return {}

    @override
    def _embedded(self) -> tuple[Embedder, NDArray[np.float32]]:
        return self.embedder, self.vectors()
