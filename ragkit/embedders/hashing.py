"""An embedder without a model: words and their letter triples, hashed into a fixed number of dimensions.

Deterministic on every machine, instant, and good enough to try a pipeline with. It knows spelling, not meaning.
Feature hashing with signs: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError
from ragkit.text import refuse_bare_string, words

_MOST_DIMENSIONS = 1_000_000


class HashingEmbedder:
    """Embed texts by hashing their words and letter triples.

    Attributes:
        dim: Length of a vector.
    """

    def __init__(self, dim: int = 384) -> None:
        """Make an embedder of ``dim`` dimensions.

        Raises:
            InvalidInputError: If ``dim`` is below 1 or above a million.
        """
        if not 1 <= dim <= _MOST_DIMENSIONS:
            raise InvalidInputError(f"`dim` must be between 1 and {_MOST_DIMENSIONS}, got {dim}")
        self.dim = dim

    @property
    def name(self) -> str:
        """The spec, ``hash:384``."""
        return f"hash:{self.dim}"

    @property
    def fingerprint(self) -> str:
        """The spec with the version of the rule."""
        return f"{self.name}:v2"

    def count_tokens(self, text: str) -> int:
        """Number of words of ``text``."""
        return len(words(text))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: n texts.

        Returns:
            f32[n, dim], rows of length 1; a text without words gives a row of zeros.
        """
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
        """Embed questions, in the same way as documents.

        Returns:
            f32[n, dim].
        """
        return self.embed_documents(texts)

    def embed_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Embed each word of each text.

        Returns:
            One f32[t, dim] a text, rows of length 1; a word whose features cancel out is left out.
        """
        refuse_bare_string("texts", texts)
        return [self._without_zeros(self.embed_documents(words(text))) for text in texts]

    @staticmethod
    def _without_zeros(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows[rows.any(axis=1)]


@lru_cache(maxsize=100_000)
def _features(word: str, dim: int) -> tuple[tuple[int, float], ...]:
    """Place and signed weight of a word (1) and of each of its letter triples (1 / their number).

    Returns:
        Pairs of place and weight.
    """
    padded = f"^{word}$"
    triples = [padded[start : start + 3] for start in range(len(padded) - 2)]
    weighted = [(f"w {word}", 1.0), *((f"t {triple}", 1 / len(triples)) for triple in triples)]
    found = []
    for feature, weight in weighted:
        number = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
        found.append((number // 2 % dim, weight if number % 2 else -weight))
    return tuple(found)
