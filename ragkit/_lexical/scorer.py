"""The base class of lexical scorers, which score all rows and find the best rows of many queries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from os import cpu_count
from types import ModuleType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.postings import PostingLists
from ragkit._lexical.tie_breaking import Ranking, top_k

# Searching shorter lists takes less time than loading the compiled code.
_LARGE = 20_000
_AT_ONCE = 32

Filled = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
"""What a kernel fills in for m queries: i64[m, k] rows, f64[m, k] scores and i64[m], the number of rows found."""


@cache
def load_kernels() -> ModuleType | None:
    """Return the module with the compiled loops; None if numba is not installed."""
    return import_module("ragkit._lexical.kernels") if find_spec("numba") else None


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cpu_count())


class LexicalScorer(ABC):
    """Scores the rows of posting lists by the terms that they share with a query.

    Scores are reproducible: they do not depend on the processor, on the other queries of a batch, or on the order in
    which rows were added and removed. Several threads may search at the same time, but not while rows change.

    Attributes:
        name: The name of the score in `Hit.why`.
        lists: The posting lists.
    """

    name: ClassVar[str]

    def __init__(self, lists: PostingLists) -> None:
        """Score the rows of these lists, including those that are added later."""
        self.lists = lists

    @abstractmethod
    def scores(self, query: str) -> NDArray[np.float64]:
        """Score all rows, including removed rows, f64[n]; 0 for a row without a term of the query."""

    def best(self, queries: Sequence[str], k: int, excluded: NDArray[np.bool_] | None = None) -> list[Ranking]:
        """Find the rows with the highest scores.

        Args:
            queries: The queries.
            k: The number of rows for each query, at least 1.
            excluded: bool[n], rows that must not be returned; None to exclude only the removed rows.

        Returns:
            For each query at most k rows with scores above 0; equal scores are in the order of the rows.
        """
        lists = self.lists
        k = min(k, max(1, len(lists)))
        if excluded is None and lists.removed:
            excluded = ~lists.live
        kernels = load_kernels() if len(lists) >= _LARGE and lists.merged else None
        if kernels is None:
            return [self._top(query, k, excluded) for query in queries]
        parts = [queries[at : at + _AT_ONCE] for at in range(0, len(queries), _AT_ONCE)]
        work = partial(self._compiled, kernels, k=k, excluded=np.zeros(0, np.bool_) if excluded is None else excluded)
        with_threads = len(parts) > 1 and (cpu_count() or 1) > 1
        found = chain.from_iterable(_threads().map(work, parts) if with_threads else map(work, parts))
        return [
            self._top(query, k, excluded) if ranking is None else ranking
            for query, ranking in zip(queries, found, strict=True)
        ]

    def matched(self, query: str, text: str) -> list[str]:
        """Return the terms that a query and a text share, sorted."""
        return sorted(set(self.lists.analyzer(query)) & set(self.lists.analyzer(text)))

    def _top(self, query: str, k: int, excluded: NDArray[np.bool_] | None) -> Ranking:
        """Compute the result of `best` for one query with numpy."""
        scores = self.scores(query)
        rows = np.flatnonzero(scores if excluded is None else (scores > 0) & ~excluded)
        return top_k(rows, scores[rows], k)

    def _compiled(
        self, kernels: ModuleType, queries: Sequence[str], k: int, excluded: NDArray[np.bool_]
    ) -> Sequence[Ranking | None]:
        """Compute the results of `best` on merged lists with compiled code; None for queries that need `_top`."""
        filled = np.empty((len(queries), k), np.int64), np.empty((len(queries), k)), np.zeros(len(queries), np.int64)
        self._fill(kernels, queries, excluded, filled)
        rows, scores, counts = filled
        return [Ranking(rows[at, :n], scores[at, :n]) if n else None for at, n in enumerate(counts.tolist())]

    def _fill(  # noqa: B027 - not every scorer has a kernel
        self, kernels: ModuleType, queries: Sequence[str], excluded: NDArray[np.bool_], filled: Filled
    ) -> None:
        """Call the kernel of this scorer, if it has one; ``excluded`` is bool[0] if all rows may be returned."""
