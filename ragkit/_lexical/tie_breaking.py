"""The ranking of rows by score, and the rule that decides between rows with equal scores."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

_FEW = 64  # sorting up to this many rows is as fast as partitioning them
_Row = TypeVar("_Row")


class Ranking(NamedTuple):
    """Rows with their scores, the best first.

    Attributes:
        rows: i64[m], the indices of the rows.
        scores: f64[m], their scores.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]


def tie_break(row: _Row) -> _Row:
    """Return the number that orders rows with equal scores, the smallest first: the position of the row.

    Every lexical score uses this rule: here in NumPy for arrays of rows, and compiled for single rows in
    `ragkit._lexical.kernels`.
    """
    return row


def top_k(rows: NDArray[np.intp], scores: NDArray[np.float64], k: int) -> Ranking:
    """Return the k rows with the highest scores; `tie_break` orders equal scores.

    Args:
        rows: i64[m], the indices of the rows.
        scores: f64[m], their scores.
        k: The number of rows to return, at least 1.

    Returns:
        The k best rows, or all of them if there are fewer.
    """
    if k < len(rows) and len(rows) > _FEW:
        # Keep every row that ties with the k-th: only the sort may decide which of them is returned.
        kept = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((tie_break(rows), -scores))[:k]
    return Ranking(rows[order], scores[order])
