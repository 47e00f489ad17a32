"""Examples drawn by chance: the baseline that every other selector has to beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.records import Example
from ragkit_selectors.pool import PoolSelector
from ragkit_selectors.ranking import Ranked, best_of_pool


class RandomSelector(PoolSelector):
    """Draw examples uniformly; the same query always gets the same ones, in any process and any order of calls.

    Each row gets a random number as its score, so fewer examples are always the first of more.

    Attributes:
        seed: Another seed gives other draws.

    Examples:
        >>> selector = RandomSelector([{"input": str(n), "output": "a"} for n in range(100)])
        >>> selector.select("query", k=2).examples == selector.select("query", k=8).examples[:2]
        True
    """

    def __init__(
        self, examples: Sequence[Example | Mapping[str, object]], *, key: str = "input", seed: int = 0
    ) -> None:
        """Read the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: The part of an input whose text decides the draw.
            seed: Another seed gives other draws.
        """
        super().__init__(examples, key=key)
        self.seed = seed

    @override
    def _ranked(self, texts: Sequence[str], k: int, skipped: NDArray[np.intp]) -> list[Ranked]:
        return [best_of_pool(self._numbers(text), k, skipped) for text in texts]

    def _numbers(self, text: str) -> NDArray[np.float64]:
        # Bytes seed exactly as the same string would, but for lone surrogates, which a string cannot be seeded with.
        rng = Random(f"{self.seed}:{text}".encode("utf-8", "surrogatepass"))
        return np.array([rng.random() for _ in range(len(self))])
