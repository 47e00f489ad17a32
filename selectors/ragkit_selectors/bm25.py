"""Shared words weighed by how rare they are and how short the example is: BM25 as Lucene computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import bm25s
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.records import Example
from ragkit.text import words
from ragkit_selectors.pool import PoolSelector
from ragkit_selectors.ranking import Ranked, best_of_pool

_DECIMALS = 9


class BM25Selector(PoolSelector):
    """Choose the examples with the highest BM25 score; no word is too common to count, as examples are short.

    A word that stands twice in the query counts twice. Scores are rounded to 9 decimals, so that the order in which
    equal parts were added cannot break a tie.

    Attributes:
        k1: How soon more of the same word stops to matter.
        b: How much long examples are held back, 0 to 1.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play the song", "output": "music"}]
        >>> BM25Selector(pool).select("the lamp, please", k=1)[0].output
        'light'
    """

    def __init__(
        self,
        examples: Sequence[Example | Mapping[str, object]],
        *,
        key: str = "input",
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        """Read and index the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            k1: How soon more of the same word stops to matter, 0 or more.
            b: How much long examples are held back, 0 to 1.

        Raises:
            InvalidInputError: If ``k1`` or ``b`` is out of its range.
        """
        if not 0 <= k1 < float("inf"):
            raise InvalidInputError(f"`k1` must be 0 or more, got {k1!r}")
        if not 0 <= b <= 1:
            raise InvalidInputError(f"`b` must be between 0 and 1, got {b!r}")
        super().__init__(examples, key=key)
        self.k1 = k1
        self.b = b
        self._columns: dict[str, int] = {}
        rows = [[self._columns.setdefault(word, len(self._columns)) for word in words(text)] for text in self._texts]
        # float64: in float32 equal examples can differ and different ones tie.
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64", backend="numpy", csc_backend="numpy")
        if self._columns:
            self._index.index((rows, self._columns), create_empty_token=False, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float64]:
        """Compare a text with the whole pool.

        Args:
            query: A text.

        Returns:
            f64[n], the BM25 score of each example, 0 or more.
        """
        known = [self._columns[word] for word in words(query) if word in self._columns]
        if not known:  # bm25s fails on a query without words
            return np.zeros(len(self))
        return np.asarray(self._index.get_scores(known), dtype=np.float64).round(_DECIMALS)

    @override
    def _ranked(self, texts: Sequence[str], k: int, skipped: NDArray[np.intp]) -> list[Ranked]:
        return [best_of_pool(self.scores(text), k, skipped) for text in texts]

    @override
    def _why(self, text: str, row: int, score: float) -> Mapping[str, object]:
        return {"matched": sorted(set(words(text)) & set(words(self._texts[row]))), "bm25": score}
