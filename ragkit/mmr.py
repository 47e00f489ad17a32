"""Maximal marginal relevance: a set in which every item is relevant and none repeats another. Arrays in, places out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The order in which a processor adds float64 numbers changes less than this; closer values are ties, and the earlier
# place wins.
DOUBT = 1e-9


def mmr(
    query: NDArray[np.float64], vectors: NDArray[np.float64], k: int, trade_off: float = 0.7
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998; arXiv 2211.13892).

    The first is the most relevant one, whatever the trade-off.

    Args:
        query: f64[d], of length 1 or 0.
        vectors: f64[m, d], of length 1 or 0.
        k: How many, 0 or more.
        trade_off: What relevance weighs, 0 to 1; likeness to what is chosen weighs the rest.

    Returns:
        intp[min(k, m)], the places in the order of choice, and f64 of as many, what likeness cost each.
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
    """The first place whose worth is the highest but for what sums can be wrong by."""
    return int((worth >= worth[worth.argmax()] - DOUBT).argmax())
