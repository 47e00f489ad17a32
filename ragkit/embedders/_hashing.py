"""An embedder without a model, which hashes words and their character trigrams into a fixed number of dimensions.

It is fast, deterministic on every machine, and sufficient for trying a pipeline. It represents spelling, not meaning.
Signed feature hashing: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ragkit._text import refuse_bare_string, words
from ragkit.errors import InvalidInputError

_MOST_DIMENSIONS = 1_000_000


class HashingEmbedder:
    """An embedder that hashes words and their character trigrams.

    Attributes:
        dim: Number of dimensions.
    """

    def __init__(self, dim: int = 384) -> None:
        """Create an embedder with ``dim`` dimensions.

        Raises:
            InvalidInputError: If ``dim`` is less than 1 or greater than one million.
        """
        if not 1 <= dim <= _MOST_DIMENSIONS:
            raise InvalidInputError(f"`dim` must be between 1 and {_MOST_DIMENSIONS}, got {dim}")
        self.dim = dim

    @property
    def name(self) -> str:
        """The spec, such as ``hash:384``."""
        return f"hash:{self.dim}"

    @property
    def fingerprint(self) -> str:
        """The spec with the version of the algorithm."""
        return f"{self.name}:v2"

    def count_tokens(self, text: str) -> int:
        """Count the words of a text."""
        return len(words(text))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed n texts as unit vectors f32[n, dim], which are zeros for a text without words."""
        refuse_bare_string("texts", texts)
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                for place, weight in _features(word, self.dim):
                    row[place] += weight
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        rows /= lengths
        return rows

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed queries like documents."""
        return self.embed_documents(texts)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each word of each text as unit vectors f32[t, dim]; words whose features cancel out are omitted."""
        refuse_bare_string("texts", texts)
        found = [self.embed_documents(words(text)) for text in texts]
        return [rows[rows.any(axis=1)] for rows in found]


@lru_cache(maxsize=100_000)
def _features(word: str, dim: int) -> tuple[tuple[int, float], ...]:
    """Return the dimensions and signed weights of a word (1) and of its character trigrams (1 / their number)."""
    padded = f"^{word}$"
    triples = [padded[start : start + 3] for start in range(len(padded) - 2)]
    weighted = [(f"w {word}", 1.0), *((f"t {triple}", 1 / len(triples)) for triple in triples)]
    found = []
    for feature, weight in weighted:
        number = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
        found.append((number // 2 % dim, weight if number % 2 else -weight))
    return tuple(found)
