"""Lexical scores by the number of different terms that a query and a row share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate, chain
from math import ceil
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.scorer import Filled, LexicalScorer
from ragkit._lexical.tie_breaking import Ranking, top_k

_MAX_TERMS = 127  # the compiled loop counts shared terms in a signed byte


class OverlapScorer(LexicalScorer):
    """Scores rows by the number of shared terms, relative to the sizes of the two sets of terms."""

    @staticmethod
    @abstractmethod
    def _similarity(shared: NDArray[np.int64], sizes: NDArray[np.int32], asked: int) -> NDArray[np.float64]:
        """Score rows with ``sizes`` terms that share ``shared`` terms with a query of ``asked`` terms.

        A score is at most ``shared / asked``.
        """

    @override
    def scores(self, query: str) -> NDArray[np.float64]:
        lists, terms = self.lists, set(self.lists.analyzer(query))
        shared = lists.shared(lists.known(terms))
        return self._similarity(shared.astype(np.int64), lists.distinct, len(terms))

    @override
    def _top(self, query: str, k: int, excluded: NDArray[np.bool_] | None) -> Ranking:
        lists, terms = self.lists, set(self.lists.analyzer(query))
        asked, shared = len(terms), lists.shared(lists.known(terms))
        if excluded is not None:
            shared[excluded] = 0
        least = max(1, int(shared.max(initial=0)))
        while least > 1 and np.count_nonzero(shared >= least) < k:
            least -= 1
        rows = np.flatnonzero(shared >= least)
        scores = self._similarity(shared[rows].astype(np.int64), lists.distinct[rows], asked)
        if least > 1:
            # Minimum number of shared terms with which a row can score as high as the k-th row.
            enough = max(1, ceil(float(np.partition(scores, len(rows) - k)[len(rows) - k]) * asked - 1e-9))
            if enough < least:
                rows = np.flatnonzero(shared >= enough)
                scores = self._similarity(shared[rows].astype(np.int64), lists.distinct[rows], asked)
        return top_k(rows, scores, k)

    @override
    def _fill(self, kernels: ModuleType, queries: Sequence[str], excluded: NDArray[np.bool_], filled: Filled) -> None:
        lists, sets = self.lists, [set(self.lists.analyzer(query)) for query in queries]
        known = [lists.known(terms) if len(terms) <= _MAX_TERMS else [] for terms in sets]
        kernels.overlap(
            np.array(list(chain.from_iterable(known)), dtype=np.int64),
            np.array([0, *accumulate(map(len, known))], dtype=np.int64),
            np.array(list(map(len, sets)), dtype=np.int64),
            *(*lists.arrays[:2], *lists.bitmaps, lists.distinct, excluded, isinstance(self, Jaccard)),
            *filled,
        )


class Jaccard(OverlapScorer):
    """The Jaccard similarity, |A ∩ B| / |A ∪ B|; 0 for two texts without terms."""

    name = "jaccard"

    @staticmethod
    @override
    def _similarity(shared: NDArray[np.int64], sizes: NDArray[np.int32], asked: int) -> NDArray[np.float64]:
        union = sizes + (asked - shared)
        return shared / (union if asked else np.maximum(union, 1))


class Containment(OverlapScorer):
    """The share of the query's terms that a row contains, |A ∩ B| / |A|, regardless of the length of the row."""

    name = "containment"

    @staticmethod
    @override
    def _similarity(shared: NDArray[np.int64], sizes: NDArray[np.int32], asked: int) -> NDArray[np.float64]:
        return shared / max(asked, 1)
