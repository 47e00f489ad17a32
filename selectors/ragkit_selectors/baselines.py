"""Baseline selectors: random examples, and the same examples for every query."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit_selectors.base import PoolSelector
from ragkit_selectors.candidates import Candidates, best_of_pool
from ragkit_selectors.pool import AnyExample, Pool


class RandomSelector(PoolSelector):
    """Selects examples uniformly at random: the baseline that every other selector has to beat.

    The same query always gets the same examples, in any process and in any order of calls. The score of each row is a
    random number, so a smaller selection is always the beginning of a larger one.

    Attributes:
        seed: The random seed.

    Examples:
        >>> selector = RandomSelector([{"input": str(n), "output": "a"} for n in range(100)])
        >>> selector.select("query", k=2).examples == selector.select("query", k=8).examples[:2]
        True
    """

    def __init__(
        self, examples: Sequence[AnyExample] | Pool, *, key: str = "input", output: str = "output", seed: int = 0
    ) -> None:
        """Read the pool; the text of ``key`` determines the random numbers."""
        super().__init__(examples, key=key, output=output)
        self.seed = seed

    @override
    def _best(self, texts: Sequence[str], n: int, excluded: NDArray[np.bool_] | None) -> list[Candidates]:
        return [best_of_pool(self._numbers(text), n, excluded) for text in texts]

    def _numbers(self, text: str) -> NDArray[np.float64]:
        # Bytes give the same random numbers as the string, which cannot be a seed if it contains lone surrogates.
        rng = Random(f"{self.seed}:{text}".encode("utf-8", "surrogatepass"))
        numbers = np.zeros(len(self.pool.entries))
        numbers[self.pool.rows()] = [rng.random() for _ in range(len(self))]
        return numbers

    @override
    def _config(self) -> dict[str, object]:
        return {"seed": self.seed}


class FixedSelector(PoolSelector):
    """Selects the first k examples of the pool for every query.

    Examples:
        >>> FixedSelector([{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]).select("c", k=1)[0].output
        'b'
    """

    @override
    def _best(self, texts: Sequence[str], n: int, excluded: NDArray[np.bool_] | None) -> list[Candidates]:
        return [best_of_pool(np.zeros(len(self.pool.entries)), n, excluded) for _ in texts]

    @override
    def _config(self) -> dict[str, object]:
        return {}
