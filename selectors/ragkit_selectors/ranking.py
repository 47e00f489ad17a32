"""Choosing the best rows of a pool so that equal scores always stand in the order of the pool."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranked(NamedTuple):
    """The rows chosen for one query, best first.

    Attributes:
        rows: intp[k], positions in the pool.
        scores: f64[k], their scores.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]


def best(rows: NDArray[np.intp], scores: NDArray[np.float64], k: int) -> Ranked:
    """Take the k best of some rows.

    Args:
        rows: intp[m], positions in the pool, ascending.
        scores: f64[m], the score of each.
        k: How many, at least 1.

    Returns:
        The best rows; equal scores in the order of the pool.
    """
    if k < len(rows):
        # Every row tied with the k-th stays: which of them is chosen is for the stable sort to say, not for partition.
        kept = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:k]
    return Ranked(rows[order], scores[order])


def best_of_pool(scores: NDArray[np.float64], k: int, skipped: NDArray[np.intp]) -> Ranked:
    """Take the k best rows of a whole pool.

    Args:
        scores: f64[n], one score for each row.
        k: How many, at least 1.
        skipped: Rows that may not be chosen.

    Returns:
        The best rows; equal scores in the order of the pool.
    """
    rows = np.arange(len(scores), dtype=np.intp)
    if len(skipped):
        rows = np.delete(rows, skipped)
    return best(rows, scores[rows], k)
