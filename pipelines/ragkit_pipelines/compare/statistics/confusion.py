"""Which classes each strategy gets right, and which it takes for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragkit.text import folded
from ragkit_pipelines.compare.predictions import Items

MOST_CLASSES = 20  # a matrix of more cannot be read; the commonest confusions are shown instead
MOST_CONFUSIONS = 15
OTHER = "anything else"


@dataclass(frozen=True, slots=True)
class Confusion:
    """What one strategy answered to the test rows of each class.

    Attributes:
        strategy: Its name.
        classes: The c classes, the commonest first.
        counts: int[c, c + 1]: test rows of each class by the answer; the last column holds answers that are no class.
    """

    strategy: str
    classes: Sequence[str]
    counts: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Test rows of each class, int[c]."""
        return np.asarray(self.counts.sum(axis=1), dtype=np.int64)

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of the rows of each class that were answered with it, f64[c]."""
        return _share(self._right, self.rows)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of the answers of each class that were right, f64[c]; 0 where it was never answered."""
        return _share(self._right, self.counts[:, :-1].sum(axis=0))

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of both, f64[c]."""
        return _share(2 * self._right, self.rows + self.counts[:, :-1].sum(axis=0))

    @property
    def _right(self) -> NDArray[np.int64]:
        return self.counts.diagonal()

    def worst(self, most: int = MOST_CONFUSIONS) -> list[tuple[str, str, int]]:
        """The wrong answers that are given most often.

        Args:
            most: How many at the most.

        Returns:
            Class, answer and number of rows, the commonest first, equal ones in the order of the classes.
        """
        names = [*self.classes, OTHER]
        found = [
            (self.classes[row], names[column], int(count))
            for (row, column), count in np.ndenumerate(self.counts)
            if count and row != column
        ]
        return sorted(found, key=lambda each: -each[2])[:most]


def confusions(items: Items) -> list[Confusion]:
    """Count what the strategies answered to each class, for the first seed at the largest pool.

    Case and punctuation of an answer do not count, unless classes differ in nothing else.

    Args:
        items: The items of a comparison.

    Returns:
        One entry for each strategy; none where the expected outputs are no classes, that is few and repeated.
    """
    common = Counter(items.expected)
    if not 1 < len(common) <= min(100, len(items.expected) / 2):
        return []
    classes = [name for name, _ in common.most_common()]
    read = folded if len({folded(name) for name in classes}) == len(classes) else str.strip
    places = {read(name): place for place, name in enumerate(classes)}
    expected = [places[read(name)] for name in items.expected]
    found = []
    for each in items.shown():
        counts = np.zeros((len(classes), len(classes) + 1), dtype=np.int64)
        np.add.at(counts, (expected, [places.get(read(answer), len(classes)) for answer in each.answers]), 1)
        found.append(Confusion(each.strategy, classes, counts))
    return found


def class_lines(found: Confusion) -> list[list[str]]:
    """The classes of one strategy as cells of a table.

    Args:
        found: What it answered.

    Returns:
        Class, rows, precision, recall and F1.
    """
    columns = zip(found.classes, found.rows, found.precision, found.recall, found.f1, strict=True)
    return [[name, str(rows), *(f"{share:.3f}" for share in shares)] for name, rows, *shares in columns]


CLASS_HEADINGS = ("class", "rows", "precision", "recall", "F1")


def recall_lines(found: Sequence[Confusion]) -> list[list[str]]:
    """Recall of every class by every strategy, as cells of a table.

    Args:
        found: What the strategies answered.

    Returns:
        Class, rows, and recall strategy by strategy; the classes in their order.
    """
    return [
        [name, str(found[0].rows[place]), *(f"{each.recall[place]:.3f}" for each in found)]
        for place, name in enumerate(found[0].classes)
    ]


def matrix_lines(found: Confusion) -> list[list[str]]:
    """The matrix of one strategy as cells of a table.

    Args:
        found: What it answered.

    Returns:
        Class, then rows by answer; none where there are more than 20 classes.
    """
    if len(found.classes) > MOST_CLASSES:
        return []
    return [[name, *map(str, counts)] for name, counts in zip(found.classes, found.counts.tolist(), strict=True)]


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
