"""Confusion matrices, and precision, recall and F1 of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.metrics._classes import read_classes
from ragkit_pipelines.compare.predictions import Items

MOST_CONFUSIONS = 15
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix of one strategy.

    Attributes:
        strategy: Its name.
        classes: The c classes, the most frequent first.
        counts: int[c, c + 1]: test rows by expected class and answer; the last column counts all other answers.
    """

    strategy: str
    classes: Sequence[str]
    counts: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Number of test rows per class, int[c]."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.int64)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Recall of each class, f64[c]."""
        return _share(self._right, self.rows)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Precision of each class, f64[c]; 0 if the class was never predicted."""
        return _share(self._right, self.counts[:, :-1].sum(axis=0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each class, f64[c]."""
        return _share(2 * self._right, self.rows + self.counts[:, :-1].sum(axis=0))

    @property
    def _right(self) -> NDArray[np.int64]:
        return self.counts.diagonal()

    def worst(self, most: int = MOST_CONFUSIONS) -> list[tuple[str, str, int]]:
        """Return class, answer and number of rows of the most frequent confusions; ties are in the order of classes."""
        names = [*self.classes, OTHER]
        found = [
            (self.classes[row], names[column], int(count))
            for (row, column), count in np.ndenumerate(self.counts)
            if count and row != column
        ]
        return sorted(found, key=lambda each: -each[2])[:most]


def confusions(items: Items) -> list[Confusion]:
    """Compute the confusion matrix of each strategy, for the first seed at the largest pool.

    Returns:
        One entry per strategy; empty if the expected outputs are not classes, that is, few and repeated.
    """
    common = Counter(items.expected)
    if not 1 < len(common) <= min(100, len(items.expected) / 2):
        return []
    found = []
    for each in items.shown():
        read = read_classes(each.answers, items.expected)
        counts = np.zeros((len(read.classes), len(read.classes) + 1), dtype=np.int64)
        np.add.at(counts, (read.expected, read.answered), 1)
        found.append(Confusion(each.strategy, read.classes, counts))
    return found


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
