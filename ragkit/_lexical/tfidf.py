"""The cosine of TF-IDF vectors, which equal those of scikit-learn's ``TfidfVectorizer``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._lexical.postings import PostingLists
from ragkit._lexical.weighted import WeightedScorer


class Tfidf(WeightedScorer):
    """The cosine of the TF-IDF vectors of query and row, with weights count x (ln((1 + n) / (1 + df)) + 1).

    Attributes:
        sublinear: Whether 1 + ln(count) replaces each count.
    """

    name = "tfidf"
    saturated = False

    def __init__(self, lists: PostingLists, *, sublinear: bool = False) -> None:
        """Score the rows of these lists."""
        super().__init__(lists)
        self.sublinear = sublinear

    @override
    def _norms(self) -> NDArray[np.float64]:
        lists = self.lists
        rows, columns, counts = lists.entries()
        squares = (self._values(counts) * _idf(lists.documents, lists.frequencies())[columns]) ** 2
        # Squares that are rounded to multiples of 2**-32 have the same sum in any order.
        sums = np.bincount(rows, np.round(squares * 2**32) / 2**32, minlength=len(lists))
        return np.sqrt(np.where(sums > 0, sums, 1.0))

    @override
    def _idf(self, frequency: int) -> float:
        return log((1 + self.lists.documents) / (1 + frequency)) + 1

    @override
    def _values(self, counts: NDArray[np.integer]) -> NDArray[np.float64]:
        exact = counts.astype(np.float64)
        # The value of count 0 is never used, because no row contains a term 0 times.
        return 1 + np.log(np.maximum(exact, 1)) if self.sublinear else exact

    @override
    def _query_weights(self, terms: Sequence[str]) -> Mapping[int, float]:
        lists = self.lists
        counted = {lists.columns[term]: times for term, times in Counter(terms).items() if term in lists.columns}
        known = [column for column in counted if lists.frequency(column)]
        values = self._values(np.array([counted[column] for column in known], dtype=np.int64)).tolist()
        weights = [value * self._idf(lists.frequency(column)) for value, column in zip(values, known, strict=True)]
        length = sqrt(sum(weight**2 for weight in weights)) or 1.0
        return {column: weight / length for column, weight in zip(known, weights, strict=True)}


def tfidf_vectors(lists: PostingLists, texts: Sequence[str]) -> NDArray[np.float64]:
    """Compute TF-IDF vectors of some texts over the terms that they contain.

    Args:
        lists: The posting lists with the document frequencies.
        texts: n texts.

    Returns:
        f64[n, d], rows of length 1, or of length 0 for a text without terms.
    """
    counted = [Counter(lists.analyzer(text)) for text in texts]
    places = {term: place for place, term in enumerate(dict.fromkeys(term for counts in counted for term in counts))}
    known = [lists.columns.get(term) for term in places]
    frequencies = np.array([0 if column is None else lists.frequency(column) for column in known])
    vectors = np.zeros((len(texts), len(places)))
    for row, counts in enumerate(counted):
        vectors[row, [places[term] for term in counts]] = list(counts.values())
    vectors *= _idf(lists.documents, frequencies)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def _idf(documents: int, frequencies: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.log((1 + documents) / (1 + frequencies.astype(np.float64))) + 1)
