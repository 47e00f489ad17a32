"""Sums of token weights: BM25 and the cosine of TF-IDF vectors, without touching rows that cannot be among the best."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from math import log, sqrt
from threading import local
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.postings import Rule
from ragkit.text import words
from ragkit_selectors.candidates import Candidates, best, best_of_pool
from ragkit_selectors.lexical import LexicalSelector, unpacked
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.tokens import Grams

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


class TfidfSelector(WeightedSelector):
    """Choose the examples whose TF-IDF vectors have the highest cosine with the query's.

    Counts times ln((1 + n) / (1 + df)) + 1, vectors of length 1: what scikit-learn's ``TfidfVectorizer`` computes.

    Attributes:
        grams: What is counted.
        sublinear: Whether 1 + ln(count) stands for a count.

    Examples:
        >>> pool = [{"input": "dim the lamp", "output": "light"}, {"input": "play the song", "output": "music"}]
        >>> TfidfSelector(pool, grams=("char", 3, 5)).select("lamps", k=1)[0].output
        'light'
    """

    measure = "tfidf"
    saturated = False

    def __init__(
        self,
        examples: Sequence[AnyExample] | Pool,
        *,
        key: str = "input",
        output: str = "output",
        grams: Grams | tuple[str, int, int] = ("word", 1, 2),
        sublinear: bool = False,
    ) -> None:
        """Read and index the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that holds the answer.
            grams: ``("word", 1, 2)`` for words and pairs of them, ``("char", 3, 5)`` for pieces of words.
            sublinear: Whether 1 + ln(count) stands for a count.
        """
        of, low, high = (grams.of, grams.low, grams.high) if isinstance(grams, Grams) else grams
        super().__init__(examples, Grams(of, low, high), key=key, output=output)  # type: ignore[arg-type]
        self.grams = (of, low, high)
        self.sublinear = sublinear

    @override
    def _norms(self) -> NDArray[np.float64]:
        lists = self._lists
        rows, columns, counts = lists.entries()
        rarity = np.log((1 + lists.documents) / (1 + np.array(lists.frequency, dtype=np.float64))) + 1
        squares = (self._values(counts) * rarity[columns]) ** 2
        # Rounded to multiples of 2**-32, squares add up to the same sum in any order.
        sums = np.bincount(rows, np.round(squares * 2**32) / 2**32, minlength=len(lists))
        return np.sqrt(np.where(sums > 0, sums, 1.0))

    @override
    def _rarity(self, frequency: int) -> float:
        return log((1 + self._lists.documents) / (1 + frequency)) + 1

    @override
    def _values(self, counts: NDArray[np.integer]) -> NDArray[np.float64]:
        exact = counts.astype(np.float64)
        # No row holds a token 0 times; what stands for it in the table of values is never read.
        return 1 + np.log(np.maximum(exact, 1)) if self.sublinear else exact

    @override
    def _asked(self, tokens: Sequence[str]) -> dict[int, float]:
        lists = self._lists
        counted = Counter(token for token in tokens if lists.frequency_of(token))
        times = self._values(np.array(list(counted.values()), dtype=np.int64)).tolist()
        columns = [lists.columns[token] for token in counted]
        weights = [count * self._rarity(lists.frequency[c]) for count, c in zip(times, columns, strict=True)]
        length = sqrt(sum(weight**2 for weight in weights)) or 1.0
        return {column: weight / length for column, weight in zip(columns, weights, strict=True)}

    @override
    def _config(self) -> dict[str, object]:
        return {"grams": list(self.grams), "sublinear": self.sublinear}


def cosine_space(pool: Pool, text: str, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """TF-IDF vectors of a query and of some rows, over the words that they hold.

    Args:
        pool: The pool, whose rare words weigh more.
        text: The query.
        rows: intp[m], rows of the pool.

    Returns:
        f64[d] and f64[m, d], of length 1, or 0 where a text has no word.
    """
    lists = pool.postings(words)
    counted = [Counter(words(text)), *(Counter(words(pool[row].text)) for row in rows.tolist())]
    places: dict[str, int] = {}
    for counts in counted:
        for word in counts:
            places.setdefault(word, len(places))
    held = [lists.frequency_of(word) for word in places]
    rarity = np.log((1 + lists.documents) / (1 + np.array(held, dtype=np.float64))) + 1
    vectors = np.zeros((len(counted), len(places)))
    for row, counts in enumerate(counted):
        vectors[row, [places[word] for word in counts]] = list(counts.values())
    vectors *= rarity
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(lengths > 0, lengths, 1)
    return vectors[0], vectors[1:]
