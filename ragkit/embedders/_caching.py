"""An embedder that caches document embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit._text import refuse_bare_string
from ragkit.protocols import Embedder


class RememberingEmbedder:
    """A wrapper that caches the document embeddings of another embedder in memory.

    Several indexes of one pool then embed each document only once. Queries are not cached, so that measured query times
    are realistic.

    Examples:
        >>> from ragkit.embedders import HashingEmbedder
        >>> embedder = RememberingEmbedder(HashingEmbedder(8))
        >>> embedder.embed_documents(["lamp", "lamp"]).shape
        (2, 8)
    """

    def __init__(self, embedder: Embedder) -> None:
        """Wrap an embedder."""
        self.embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def name(self) -> str:
        """The spec of the wrapped embedder."""
        return self.embedder.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the wrapped embedder, which returns the same vectors."""
        return self.embedder.fingerprint

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return self.embedder.dim

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed documents as f32[n, d], and compute only those that are not cached."""
        refuse_bare_string("texts", texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.embedder.embed_documents(new), strict=True))
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, self.dim), dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries as f32[n, d]."""
        return self.embedder.embed_queries(texts)
