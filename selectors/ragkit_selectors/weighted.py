"""Ranking by sums of token weights, without touching rows that cannot be among the best."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from threading import local
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.postings import Rule
from ragkit_selectors.candidates import Candidates, best, best_of_pool
from ragkit_selectors.lexical import LexicalSelector, unpacked
from ragkit_selectors.pool import AnyExample, Pool

_DECIMALS = 9
# More than sums of float64 and the rounding can be wrong by.
_DOUBT = 1e-8
# A token in more than one row of _COMMON is added only where it can still change who is best.
_COMMON = 64


class Term(NamedTuple):
    """What one token of a query brings.

    Attributes:
        rows: int32[m], the rows that hold it, ascending.
        weights: f64[m], what it adds to each, 0 or more.
        most: The highest weight.
    """

    rows: NDArray[np.integer]
    weights: NDArray[np.float64]
    most: float


class _Scratch(local):
    """Memory that the compiled loop leaves as it found it, one piece for each thread."""

    def of(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """Zeros f64[n] and any i32[n]."""
        if getattr(self, "size", -1) != n:
            self.size, self.kept = n, (np.zeros(n), np.empty(n, dtype=np.int32))
        return self.kept


_SCRATCH = _Scratch()


class WeightedSelector(LexicalSelector):
    """Ranks by the sum of what each token of the query adds. Scores are rounded to 9 decimals and added from the rarest
    token to the commonest, so that neither a batch nor the history of the pool can break a tie.
    """  # noqa: D205

    def __init__(
        self, examples: Sequence[AnyExample] | Pool, rule: Rule, *, key: str = "input", output: str = "output"
    ) -> None:
        """Read and index the pool."""
        super().__init__(examples, rule, key=key, output=output)
        self._version = -1
        self._terms: dict[int, Term] = {}

    @abstractmethod
    def _asked(self, tokens: Sequence[str]) -> dict[int, float]:
        """The columns of a query's tokens, each with what its weights are multiplied by."""

    saturated: bool

    @abstractmethod
    def _rarity(self, frequency: int) -> float:
        """The rarity of a token that ``frequency`` rows hold."""

    @abstractmethod
    def _norms(self) -> NDArray[np.float64]:
        """What the values of each row are held back by, f64[n]."""

    def _values(self, counts: NDArray[np.integer]) -> NDArray[np.float64]:
        """What stands for a token that a row holds ``counts`` times."""
        return counts.astype(np.float64)

    def scores(self, query: str) -> NDArray[np.float64]:
        """Compare a text with the whole pool.

        Args:
            query: A text.

        Returns:
            f64[n], the score of each row, removed ones among them; 0 or more.
        """
        total = np.zeros(len(self._lists))
        for rows, weights, _ in self._query_terms(query):
            total[rows] += weights
        return total.round(_DECIMALS)

    def contributions(self, query: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """What each token of a query adds to each of some rows.

        Args:
            query: A text.
            rows: intp[m], rows of the pool.

        Returns:
            f64[m, t], 0 or more, for the t different tokens that stand in the pool.
        """
        terms = self._query_terms(query)
        return np.column_stack([_added(term, rows) for term in terms]) if terms else np.zeros((len(rows), 0))

    def _query_terms(self, text: str) -> list[Term]:
        return [self._term(column, times) for column, times in self._sorted(text)]

    def _sorted(self, text: str) -> list[tuple[int, float]]:
        """The columns of a query from the rarest to the commonest, each with what its weights are multiplied by."""
        self._refresh()
        frequency, asked = self._lists.frequency, self._asked(self.rule(text))
        # The sort is stable, so equally rare ones stand as in the query.
        return sorted(((c, times) for c, times in asked.items() if frequency[c]), key=lambda pair: frequency[pair[0]])

    def _refresh(self) -> None:
        """Compute what depends on the whole pool, where that has changed."""
        if self._version != self.pool.version:
            self._row_norms = self._norms()
            self._terms.clear()
            self._table: tuple[NDArray[np.float64], float] | None = None
            self._version = self.pool.version

    @override
    def _compiled(
        self, kernels: ModuleType, texts: Sequence[str], n: int, barred: NDArray[np.bool_]
    ) -> list[Candidates | None]:
        lists, asked = self._lists, [self._sorted(text) for text in texts]
        frequency = lists.frequency
        terms = [(column, times, self._rarity(frequency[column])) for found in asked for column, times in found]
        starts, rows, held, _, _ = lists.packed
        table = self._table  # another thread may begin anew at any time
        if table is None:
            values = self._values(np.arange(int(held.max(initial=0)) + 1))
            highest, least = float(values[-1]), float(self._row_norms.min(initial=1.0))
            table = values, highest / (highest + least if self.saturated else least) if highest else 0.0
            self._table = table
        values, steepest = table
        common = len(lists) // _COMMON
        most = [
            times * (steepest * rarity if frequency[column] <= common else self._term(column, 1).most)
            for column, times, rarity in terms
        ]
        columns, times, rarities = zip(*terms, strict=True) if terms else ((), (), ())
        total, touched = _SCRATCH.of(len(lists))
        filled = (np.empty((len(texts), n), dtype=np.int64), np.empty((len(texts), n)), np.zeros(len(texts), np.int64))
        kernels.weighted(
            np.array(columns, dtype=np.int64),
            np.array([0, *accumulate(map(len, asked))], dtype=np.int64),
            np.array(times, dtype=np.float64),
            np.array(rarities, dtype=np.float64),
            np.array(most, dtype=np.float64),
            *(starts, rows, held, values, self._row_norms, barred, total, touched, self.saturated),
            *filled,
        )
        return unpacked(*filled)

    def _term(self, column: int, times: float) -> Term:
        term = self._terms.get(column)
        if term is None:
            rows = self._lists.rows(column)
            values, rarity = self._values(self._lists.counts(column)), self._rarity(self._lists.frequency[column])
            norms = self._row_norms[rows]
            weights = rarity * (values / (values + norms)) if self.saturated else values * rarity / norms
            term = self._terms[column] = Term(rows, weights, float(weights.max()))
        return term if times == 1 else Term(term.rows, times * term.weights, times * term.most)

    @override
    def _top(self, text: str, n: int, barred: NDArray[np.bool_] | None) -> Candidates:
        terms = self._query_terms(text)
        total = np.zeros(len(self._lists))
        open_ = sum(term.most for term in terms)
        for place, (rows, weights, most) in enumerate(terms):
            if len(rows) * _COMMON > len(total):
                found = _finished(total, terms[place:], open_, n, barred)
                if found is not None:
                    return found
            total[rows] += weights
            open_ -= most
        touched = np.flatnonzero(total) if barred is None else np.flatnonzero((total > 0) & ~barred)
        if len(touched) < n:
            return best_of_pool(total.round(_DECIMALS), n, barred)
        return best(touched, total[touched].round(_DECIMALS), n)


def _finished(
    total: NDArray[np.float64], rest: Sequence[Term], most: float, n: int, barred: NDArray[np.bool_] | None
) -> Candidates | None:
    """The best rows, if the remaining terms can only bring the order of those that are ahead.

    Args:
        total: f64[N], sums so far.
        rest: The terms still to be added.
        most: The most that these can add.
        n: How many rows are asked for.
        barred: bool[N], rows that may not be chosen.

    Returns:
        The n best; None where a row that is not ahead yet could still be among them.
    """
    rows = np.flatnonzero(total)
    if barred is not None:
        rows = rows[~barred[rows]]
    if len(rows) < n:
        return None
    sums = total[rows]
    least = float(np.partition(sums, len(rows) - n)[len(rows) - n])
    if most + _DOUBT >= least:
        return None
    near = sums >= least - most - _DOUBT
    rows, sums = rows[near], sums[near]
    for term in rest:
        sums += _added(term, rows)
    return best(rows, sums.round(_DECIMALS), n)


def _added(term: Term, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """What a term adds to some rows, f64[m]."""
    places = np.minimum(np.searchsorted(term.rows, rows), len(term.rows) - 1)
    return np.where(term.rows[places] == rows, term.weights[places], 0.0)
