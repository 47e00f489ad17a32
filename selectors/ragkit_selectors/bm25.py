"""BM25: shared words, rare ones more, held back in long examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.text import words
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.weighted import WeightedSelector


class BM25Selector(WeightedSelector):
    """Choose the examples with the highest BM25 score, as Lucene computes it; no word is too common to count.

    A word that stands twice in the query counts twice.

    Attributes:
        k1: How soon more of the same word stops to matter.
        b: How much long examples are held back, 0 to 1.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play the song", "output": "music"}]
        >>> BM25Selector(pool).select("the lamp, please", k=1)[0].output
        'light'
    """

    measure = "bm25"
    saturated = True

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        key: str = "input",
        output: str = "output",
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        """Read and index the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that holds the answer.
            k1: How soon more of the same word stops to matter, 0 or more.
            b: How much long examples are held back, 0 to 1.

        Raises:
            InvalidInputError: If ``k1`` or ``b`` is out of its range.
        """
        if not 0 <= k1 < float("inf"):
            raise InvalidInputError(f"`k1` must be 0 or more, got {k1!r}")
        if not 0 <= b <= 1:
            raise InvalidInputError(f"`b` must be between 0 and 1, got {b!r}")
        super().__init__(examples, words, key=key, output=output)
        self.k1 = k1
        self.b = b

    @override
    def _norms(self) -> NDArray[np.float64]:
        lists = self._lists
        mean = lists.total / lists.documents or 1.0
        return np.asarray(self.k1 * (1 - self.b + self.b * lists.lengths / mean), dtype=np.float64)

    @override
    def _rarity(self, frequency: int) -> float:
        return log(1 + (self._lists.documents - frequency + 0.5) / (frequency + 0.5))

    @override
    def _asked(self, tokens: Sequence[str]) -> dict[int, float]:
        columns = self._lists.columns
        return {columns[token]: float(times) for token, times in Counter(tokens).items() if token in columns}

    @override
    def _config(self) -> dict[str, object]:
        return {"k1": self.k1, "b": self.b}
