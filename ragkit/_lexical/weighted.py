"""Lexical scores that are sums of term weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from threading import local
from types import ModuleType
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.postings import PostingLists
from ragkit._lexical.scorer import Filled, LexicalScorer

_DECIMALS = 9
_COMMON = 64  # the highest weight of a term is computed exactly if it occurs in more than 1 of this many rows


class Term(NamedTuple):
    """The contribution of one term of a query.

    Attributes:
        rows: i32[m], the rows that contain the term, in ascending order.
        weights: f64[m], the weight that the term adds to the score of each row, 0 or more.
        highest: The highest weight.
    """

    rows: NDArray[np.integer]
    weights: NDArray[np.float64]
    highest: float

    def times(self, factor: float) -> Term:
        """Return the term with all weights multiplied by a factor."""
        return Term(self.rows, factor * self.weights, factor * self.highest)

    def added_to(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the weights that the term adds to the scores of some rows, f64[m]."""
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[places] == rows, self.weights[places], 0.0)


class _Scratch(local):
    """Reusable memory of each thread for the compiled loop, which restores the zeros."""

    def of(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Return an array of zeros f64[n] and an uninitialised array i32[n]."""
        if getattr(self, "size", -1) != n:
            self.size, self.held = n, (np.zeros(n), np.empty(n, dtype=np.int32))
        return self.held


class _Statistics(NamedTuple):
    """The statistics of a term."""

    frequency: int  # rows that contain the term, without removed rows
    idf: float
    highest: float  # upper bound of the weights


class _State(NamedTuple):
    """The values that depend on all rows, for one version of the lists."""

    version: int
    norms: NDArray[np.float64]  # f64[n], the length normalisation of each row
    values: NDArray[np.float64]  # f64[highest count + 1], the value of each count
    steepest: float  # upper bound of a weight divided by the IDF of its term
    statistics: dict[int, _Statistics]  # by column
    terms: dict[int, Term]  # by column


_SCRATCH = _Scratch()


class WeightedScorer(LexicalScorer):
    """Scores rows by the sum of the weights of the query's terms.

    The weight of a term is ``idf * value / (value + norm)`` for a saturated score and ``idf * value / norm`` otherwise,
    with the value of the term's count and the norm of the row. Weights are added from the rarest term to the most
    frequent one, and sums are rounded to 9 decimals, so ties depend neither on the batch nor on the history of the
    lists.
    """

    saturated: ClassVar[bool]

    def __init__(self, lists: PostingLists) -> None:
        """Score the rows of these lists."""
        super().__init__(lists)
        self._last: _State | None = None

    @abstractmethod
    def _idf(self, frequency: int) -> float:
        """Return the inverse document frequency of a term that ``frequency`` rows contain."""

    @abstractmethod
    def _norms(self) -> NDArray[np.float64]:
        """Return the length normalisation of each row, f64[n]."""

    def _query_weights(self, terms: Sequence[str]) -> Mapping[int, float]:
        """Return the columns of the known terms of a query, each with the factor of its weights."""
        return dict.fromkeys(self.lists.known(terms), 1.0)

    def _values(self, counts: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the values of terms that occur ``counts`` times in a row."""
        return counts.astype(np.float64)

    @override
    def scores(self, query: str) -> NDArray[np.float64]:
        total = np.zeros(len(self.lists))
        for rows, weights, _ in self._terms(query):
            total[rows] += weights
        return total.round(_DECIMALS)

    def contributions(self, query: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return what each of the t known terms of a query adds to the scores of m rows, f64[m, t], 0 or more."""
        terms = self._terms(query)
        return np.column_stack([term.added_to(rows) for term in terms]) if terms else np.zeros((len(rows), 0))

    def _terms(self, query: str) -> list[Term]:
        state = self._state()
        found = [(self._term(state, column), factor) for _, column, factor in self._sorted(state, query)]
        return [term if factor == 1 else term.times(factor) for term, factor in found]

    def _sorted(self, state: _State, query: str) -> list[tuple[_Statistics, int, float]]:
        """Return statistics, column and weight factor of a query's terms, from the rarest to the most frequent one."""
        known = state.statistics
        weights = self._query_weights(self.lists.analyzer(query)).items()
        found = [(known.get(column) or self._statistics(state, column), column, factor) for column, factor in weights]
        # The sort is stable, so equally rare terms stay in the order of the query.
        return sorted((each for each in found if each[0].frequency), key=lambda each: each[0].frequency)

    def _state(self) -> _State:
        """Return the values that depend on all rows; they are computed again if the lists have changed."""
        state, lists = self._last, self.lists
        if state is None or state.version != lists.version:
            norms, counts = self._norms(), lists.arrays.counts
            values = self._values(np.arange(int(counts.max(initial=0)) + 1))
            highest, least = float(values[-1]), float(norms.min(initial=1.0))
            steepest = highest / (highest + least if self.saturated else least) if highest else 0.0
            state = self._last = _State(lists.version, norms, values, steepest, {}, {})
        return state

    def _statistics(self, state: _State, column: int) -> _Statistics:
        frequency = self.lists.frequency(column)
        idf = self._idf(frequency)
        # An exact bound pays off for frequent terms, because it determines when a search can stop.
        frequent = frequency * _COMMON > len(self.lists)
        highest = self._term(state, column).highest if frequent else state.steepest * idf
        found = state.statistics[column] = _Statistics(frequency, idf, highest)
        return found

    def _term(self, state: _State, column: int) -> Term:
        term = state.terms.get(column)
        if term is None:
            lists, idf = self.lists, self._idf(self.lists.frequency(column))
            rows, values = lists.rows(column), self._values(lists.counts(column))
            norms = state.norms[rows]
            weights = idf * (values / (values + norms)) if self.saturated else values * idf / norms
            term = state.terms[column] = Term(rows, weights, float(weights.max()))
        return term

    @override
    def _fill(self, kernels: ModuleType, queries: Sequence[str], excluded: NDArray[np.bool_], filled: Filled) -> None:
        lists, state = self.lists, self._state()
        asked = [self._sorted(state, query) for query in queries]
        terms = list(chain.from_iterable(asked))
        kernels.weighted(
            np.array([column for _, column, _ in terms], dtype=np.int64),
            np.array([0, *accumulate(map(len, asked))], dtype=np.int64),
            np.array([factor for _, _, factor in terms], dtype=np.float64),
            np.array([of.idf for of, _, _ in terms], dtype=np.float64),
            np.array([factor * of.highest for of, _, factor in terms], dtype=np.float64),
            *(*lists.arrays, state.values, state.norms, excluded, *_SCRATCH.of(len(lists)), self.saturated),
            *filled,
        )
