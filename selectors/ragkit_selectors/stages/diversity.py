"""Greedy selection of sets by determinants and by coverage.

Like `ragkit._mmr`, the functions take arrays and return indices. Notation for shapes: m candidates, d dimensions,
t parts of a query.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit._mmr import DOUBT, first_best
from ragkit._pairwise import inner_products


def dpp(query: NDArray[np.float64], vectors: NDArray[np.float64], k: int, scale: float = 0.1) -> NDArray[np.intp]:
    """Select k vectors by greedy MAP inference of a determinantal point process (arXiv 1709.05135).

    The kernel is that of CEIL (arXiv 2302.05698): relevance r = (cosine + 1) / 2 becomes quality
    exp((r - max r) / (2 scale)), and the kernel is quality x similarity x quality. When no vector increases the
    determinant, the most relevant of the remaining ones follow. The query f64[d] and the vectors f64[m, d] have length
    1 or 0.

    Returns:
        intp[min(k, m)], distinct indices in the order of selection.
    """
    count = min(k, len(vectors))
    relevance = (inner_products(vectors, query) + 1) / 2  # also ranks the vectors that do not increase the determinant
    quality = np.exp((relevance - relevance.max(initial=0)) / (2 * scale)) if len(vectors) else relevance
    left = quality**2 * ((np.einsum("md,md->m", vectors, vectors) + 1) / 2)
    rows = np.empty((count, len(vectors)))  # of the incomplete Cholesky factor
    chosen: list[int] = []
    while len(chosen) < count:
        place = first_best(left)
        if left[place] < DOUBT:
            break
        kernel = quality * quality[place] * ((vectors @ vectors[place] + 1) / 2)
        turn = len(chosen)
        rows[turn] = (kernel - rows[:turn, place] @ rows[:turn]) / np.sqrt(left[place])
        left -= rows[turn] ** 2
        chosen.append(place)
        left[chosen] = -np.inf
    rest = np.argsort(-relevance.round(9), kind="stable")
    return np.concatenate([chosen, rest[~np.isin(rest, chosen)]]).astype(np.intp)[:count]


def cover(parts: NDArray[np.float64], k: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Select k candidates that together cover all parts of a query as well as possible (arXiv 2305.14907).

    ``parts`` is f64[m, t], how well each candidate covers each part. Each step selects the candidate that increases the
    sum over parts of the best value so far the most. When no candidate increases it, a new cover begins.

    Returns:
        The distinct indices in the order of selection, intp[min(k, m)], and the gain of each, f64[min(k, m)].
    """
    count = min(k, len(parts))
    places, gains = np.empty(count, dtype=np.intp), np.empty(count)
    free = np.ones(len(parts), dtype=np.bool_)
    covered = np.zeros(parts.shape[1])
    fresh = True
    for turn in range(count):
        worth = _worth(parts, covered, free, fresh=fresh)
        place = first_best(worth)
        if not fresh and worth[place] <= DOUBT:
            fresh = True
            worth = _worth(parts, covered, free, fresh=True)
            place = first_best(worth)
        places[turn], gains[turn], free[place] = place, worth[place], False
        covered = parts[place].copy() if fresh else np.maximum(covered, parts[place])
        fresh = False
    return places, gains


def _worth(
    parts: NDArray[np.float64], covered: NDArray[np.float64], free: NDArray[np.bool_], *, fresh: bool
) -> NDArray[np.float64]:
    grown = parts.sum(axis=1) if fresh else np.maximum(parts - covered, 0).sum(axis=1)
    return np.where(free, grown, -np.inf)


def bsr_contributions(
    query: NDArray[np.float32], tokens: Sequence[NDArray[np.float32]], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Compute how well each candidate covers each token of a query: the terms of BERTScore recall (arXiv 2305.14907).

    The tokens of the query, f32[t, d], and of each candidate, f32[*, d], have length 1; the weights of the query's
    tokens, f64[t], are 1 / t if None.

    Returns:
        f64[m, t], weight times the cosine of the nearest token, which may be negative, as in the paper; 0 for a
        candidate without tokens.
    """
    count = len(query)
    if weights is None:
        weights = np.full(count, 1 / max(count, 1))
    parts = np.zeros((len(tokens), count))
    held = np.array([place for place, each in enumerate(tokens) if len(each)], dtype=np.intp)
    if count and len(held):
        together = np.concatenate([tokens[place] for place in held.tolist()], dtype=np.float64)
        starts = np.cumsum([0, *(len(tokens[place]) for place in held.tolist()[:-1])])
        nearest = np.maximum.reduceat(together @ query.astype(np.float64).T, starts, axis=0)
        parts[held] = nearest * weights
    return parts
