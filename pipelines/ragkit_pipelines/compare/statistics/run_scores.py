"""Scores of runs as functions of the test rows, which the bootstrap evaluates on resampled rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ragkit.errors import InvalidInputError
from ragkit.metrics import SetMetric
from ragkit.records import Example

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]

_MOST_SUMS = 4_000_000  # sums computed at once: 16 MB


class RunScores(Protocol):
    """The scores of strategies that answered the same items in the same seeds.

    Attributes:
        shape: Number of strategies, seeds and items.
        by_seed: f64[strategies, seeds]: the scores of all items.
        one_item: The change of a score if one more answer is wrong; 1 divided by the number of items for means.
        span: The highest minus the lowest possible score.
    """

    shape: tuple[int, int, int]
    by_seed: Floats
    one_item: float
    span: float

    def resampled(self, weights: Floats) -> Floats:
        """Return the scores for resampled items, f64[draws, strategies], averaged over the seeds.

        ``weights`` are the shares of the items in each resample, f64[draws, items].
        """
        ...

    def centre(self, drawn: Floats) -> Floats:
        """Return what the scores of the resamples are compared with, f64[strategies]."""
        ...

    def item_variance(self, a: int, b: int, drawn: Floats) -> float:
        """Return the variance of the difference of two strategies due to the choice of the items."""
        ...


class MeanScores:
    """Mean scores: the usual case, in which every item has a score of its own."""

    span = 1.0

    def __init__(self, scores: ArrayLike) -> None:
        """Check f64[strategies, seeds, items], each score from 0 to 1."""
        given = np.asarray(scores, dtype=np.float64)
        if given.ndim != 3 or 0 in given.shape:
            raise InvalidInputError(
                f"`scores` must be a non-empty array [strategies, seeds, items], got shape {given.shape}"
            )
        if not (np.isfinite(given).all() and given.min() >= 0 and given.max() <= 1):
            raise InvalidInputError("`scores` must be between 0 and 1")
        strategies, seeds, items = given.shape
        self.shape = (strategies, seeds, items)
        self.one_item = 1 / items
        self.by_seed: Floats = given.mean(axis=2)
        self._by_item: Floats = given.mean(axis=1)

    def resampled(self, weights: Floats) -> Floats:
        """Return the mean scores of resampled items."""
        return np.asarray(weights @ self._by_item.T, dtype=np.float64)

    def centre(self, drawn: Floats) -> Floats:
        """Return the mean scores of all items."""
        del drawn
        return np.asarray(self._by_item.mean(axis=1), dtype=np.float64)

    def item_variance(self, a: int, b: int, drawn: Floats) -> float:
        """Return the variance of the mean difference, with one pseudo-item."""
        del drawn
        items = self.shape[2]
        difference = self._by_item[a] - self._by_item[b]
        return float((difference.var() + 1 / items) / max(1, items - 1))


class SetScores:
    """Scores of a set-level metric, such as macro-F1, which are recomputed for resampled items.

    A sparse matrix has what each item adds to the sums of each run, so that the sums of thousands of resamples are one
    matrix product.

    Args:
        metric: The metric.
        rows: The test rows.
        answers: The answers of each strategy, by seed: ``answers[strategy][seed][row]``.

    Raises:
        InvalidInputError: If there are no answers, or not one for each row, strategy and seed.
    """

    def __init__(self, metric: SetMetric, rows: Sequence[Example], answers: Sequence[Sequence[Sequence[str]]]) -> None:
        """Compute what each item adds to the sums."""
        from scipy.sparse import csr_array, vstack

        seeds = {len(each) for each in answers}
        if not rows or len(seeds) != 1 or 0 in seeds or any(len(run) != len(rows) for each in answers for run in each):
            raise InvalidInputError("`answers` must hold one answer for each row, strategy and seed, and at least one")
        self.shape = (len(answers), seeds.pop(), len(rows))
        self.span = 1.0 - metric.lowest
        self._metric = metric
        parts = [csr_array(metric.row_sums(run, rows)).T for each in answers for run in each]
        self._width = parts[0].shape[0]
        self._sums: csr_array = vstack(parts, format="csr")
        self.by_seed: Floats = self._scores(np.ones((len(rows), 1)))[0]
        self.one_item = _change_of_one(metric, rows)

    def resampled(self, weights: Floats) -> Floats:
        """Return the scores of resampled items."""
        counts = np.rint(weights.T * self.shape[2]).astype(np.float32)  # not all metrics are the same for shares
        step = max(1, _MOST_SUMS // self._sums.shape[0])
        found = [self._scores(counts[:, start : start + step]) for start in range(0, counts.shape[1], step)]
        return np.asarray(np.concatenate(found).mean(axis=2), dtype=np.float64)

    def centre(self, drawn: Floats) -> Floats:
        """Return the mean of the resamples, because a resample of such a metric is biased like the score itself."""
        return np.asarray(drawn.mean(axis=0), dtype=np.float64)

    def item_variance(self, a: int, b: int, drawn: Floats) -> float:
        """Return the variance of the difference over the resamples, with one pseudo-item."""
        items = self.shape[2]
        return (float((drawn[:, a] - drawn[:, b]).var()) + self.one_item**2) * items / max(1, items - 1)

    def _scores(self, counts: NDArray[np.floating[Any]]) -> Floats:
        """Return the scores for counts of the items, f[items, draws], as f64[draws, strategies, seeds]."""
        strategies, seeds, _ = self.shape
        sums = (self._sums @ counts).reshape(strategies * seeds, self._width, counts.shape[1])
        found = self._metric.of_sums(np.moveaxis(sums, 1, 2))
        return np.asarray(found.T.reshape(-1, strategies, seeds), dtype=np.float64)


def _change_of_one(metric: SetMetric, rows: Sequence[Example]) -> float:
    """Return the root mean square of the changes of a perfect score if one answer is that of another row.

    For accuracy, this would be 1 divided by the number of rows; rare classes of macro-F1 change the score by more.
    """
    from scipy.sparse import csr_array

    expected = [row.output for row in rows]
    distinct = list(dict.fromkeys(expected))
    other = dict(zip(distinct, [*distinct[1:], distinct[0]], strict=True))
    wrong = [other[output] if len(distinct) > 1 else "" for output in expected]
    right, changed = (csr_array(metric.row_sums(answers, rows)) for answers in (expected, wrong))
    total = np.asarray(right.sum(axis=0), dtype=np.float64)
    step = max(1, _MOST_SUMS // max(1, len(total)))
    change = changed - right
    found = [
        metric.of_sums(total + change[start : start + step].toarray()) - metric.of_sums(total)
        for start in range(0, len(rows), step)
    ]
    return float(np.sqrt(np.mean(np.concatenate(found) ** 2)))
