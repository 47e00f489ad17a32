"""Maximal marginal relevance, which selects items that are relevant and differ from each other.

The functions take arrays and return indices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The order of float64 additions, which depends on the processor, changes values by less than this. Closer values are
# ties, which the smaller index wins.
DOUBT = 1e-9


def mmr(
    query: NDArray[np.float64], vectors: NDArray[np.float64], k: int, trade_off: float = 0.7
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Select k vectors by maximal marginal relevance (Carbonell and Goldstein, 1998; arXiv 2211.13892).

    The first selected vector is the most relevant one, whatever the trade-off, which is the weight of relevance from 0
    to 1; similarity to the selected vectors has the remaining weight. The query, f64[d], and the vectors, f64[m, d],
    have length 1 or 0.

    Returns:
        The indices in the order of selection, intp[min(k, m)], and the similarity penalty of each, f64[min(k, m)].
    """
    count = min(k, len(vectors))
    places, costs = np.empty(count, dtype=np.intp), np.zeros(count)
    cosines = vectors @ query
    relevance = trade_off * cosines
    cost, new = np.full(len(vectors), -np.inf), np.empty(len(vectors))
    worth = cosines
    for turn in range(count):
        place = first_best(worth)
        places[turn], costs[turn] = place, cost[place] if turn else 0.0
        relevance[place] = -np.inf
        if turn < count - 1:
            np.dot(vectors, (1 - trade_off) * vectors[place], out=new)
            np.maximum(cost, new, out=cost)
            worth = relevance - cost
    return places, costs.round(9)


def first_best(worth: NDArray[np.float64]) -> int:
    """Return the first index whose value is the maximum within the rounding error of sums (`DOUBT`)."""
    return int((worth >= worth[worth.argmax()] - DOUBT).argmax())
