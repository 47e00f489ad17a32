"""BM25 in the variant of Lucene."""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.postings import PostingLists
from ragkit._lexical.weighted import WeightedScorer
from ragkit.errors import InvalidInputError

# Chosen by measurements on retrieval and classification in benchmarks/lexical.
K1, B, LANGUAGE = 1.2, 0.75, "english"


class BM25(WeightedScorer):
    """BM25 (Robertson and Zaragoza, 2009) in the variant of Lucene. Repeated terms of a query count once.

    Attributes:
        k1: Term-frequency saturation, 0 or more.
        b: Length normalisation, from 0 to 1.
    """

    name = "bm25"
    saturated = True

    def __init__(self, lists: PostingLists, *, k1: float = K1, b: float = B) -> None:
        """Score the rows of these lists.

        Raises:
            InvalidInputError: If ``k1`` or ``b`` is out of range.
        """
        if not 0 <= k1 < float("inf"):
            raise InvalidInputError(f"`k1` must be 0 or more, got {k1!r}")
        if not 0 <= b <= 1:
            raise InvalidInputError(f"`b` must be between 0 and 1, got {b!r}")
        super().__init__(lists)
        self.k1, self.b = k1, b

    @override
    def _norms(self) -> NDArray[np.float64]:
        lists = self.lists
        mean = lists.total / max(1, lists.documents) or 1.0
        return np.asarray(self.k1 * (1 - self.b + self.b * lists.lengths / mean), dtype=np.float64)

    @override
    def _idf(self, frequency: int) -> float:
        return log(1 + (self.lists.documents - frequency + 0.5) / (frequency + 0.5))
