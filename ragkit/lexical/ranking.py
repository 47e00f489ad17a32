"""Selection of the best rows by score, with equal scores in the order of the rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FEW = 64  # sorting up to this many rows is as fast as partitioning them


class Ranking(NamedTuple):
    """Rows with their scores, the best first.

    Attributes:
        rows: i64[m], the indices of the rows.
        scores: f64[m], their scores.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]


def top_k(rows: NDArray[np.intp], scores: NDArray[np.float64], k: int) -> Ranking:
    """Return the k rows with the highest scores.

    Args:
        rows: i64[m], the indices of the rows, in ascending order.
        scores: f64[m], their scores.
        k: The number of rows to return, at least 1.

    Returns:
        The k best rows, or all of them if there are fewer; equal scores are in the order of the rows.
    """
    if k < len(rows) and len(rows) > _FEW:
        # Keep every row that ties with the k-th: only the stable sort may decide which of them is returned.
        kept = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
        rows, scores = rows[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")[:k]
    return Ranking(rows[order], scores[order])
