"""LangChain embeddings as embedders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragkit._pairwise import lengths
from ragkit._text import refuse_bare_string
from ragkit.errors import InvalidInputError


class LangChainEmbedder:
    """An embedder that uses a LangChain ``Embeddings`` and normalises its vectors.

    LangChain does not report versions, so the fingerprint consists of the class, the model's name and the dimensions.

    Attributes:
        embeddings: The LangChain object.
    """

    def __init__(self, embeddings: Any) -> None:
        """Wrap a LangChain ``Embeddings``."""
        self.embeddings = embeddings

    @property
    def name(self) -> str:
        """The class and the model; this is not a spec, so an index must be opened with the object itself."""
        model = getattr(self.embeddings, "model", None) or getattr(self.embeddings, "model_name", None)
        return f"langchain:{type(self.embeddings).__name__}" + (f":{model}" if isinstance(model, str) else "")

    @property
    def fingerprint(self) -> str:
        """The module, the class, the model and the dimensions."""
        return f"{type(self.embeddings).__module__}.{self.name}:{self.dim}"

    @cached_property
    def dim(self) -> int:
        """Number of dimensions, determined by embedding a word."""
        return len(self.embeddings.embed_query("dimensions"))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n documents as unit vectors or zeros, f32[n, dim]."""
        refuse_bare_string("texts", texts)
        return self._rows(self.embeddings.embed_documents(list(texts)) if len(texts) else [], len(texts))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n queries, with one call each, as unit vectors or zeros, f32[n, dim]."""
        refuse_bare_string("texts", texts)
        return self._rows([self.embeddings.embed_query(text) for text in texts], len(texts))

    async def aembed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n queries concurrently with the object's async method, as unit vectors or zeros, f32[n, dim]."""
        refuse_bare_string("texts", texts)
        return self._rows(await asyncio.gather(*map(self.embeddings.aembed_query, texts)), len(texts))

    def _rows(self, given: Sequence[Sequence[float]], count: int) -> NDArray[np.float32]:
        if not count:
            return np.zeros((0, self.dim), dtype=np.float32)
        try:
            rows = np.array(given, dtype=np.float32)
        except ValueError as error:
            raise InvalidInputError(f"{self.name} gave vectors of different lengths: {error}") from error
        if rows.ndim != 2 or len(rows) != count:
            raise InvalidInputError(f"{self.name} must give {count} vectors of numbers, got shape {rows.shape}")
        own = lengths(rows)
        if not own.sum() < np.inf:  # also false for NaN
            raise InvalidInputError(f"{self.name} gave a vector with NaN or an infinite number")
        rows /= np.where(own > 0, own, 1)[:, None]
        return rows
