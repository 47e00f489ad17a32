"""The cosine of TF-IDF vectors: of a query and a pool, and of chosen rows with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit.text import words
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.tokens import Grams
from ragkit_selectors.weighted import WeightedSelector


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
