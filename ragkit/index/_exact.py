"""Exact search: FAISS finds candidates in float32, which are then scored in float64.

Sums in float32 depend on the processor, the number of threads and the batch size. A search therefore fetches more
candidates than requested and scores each in float64 (`ragkit._pairwise`). It searches again if, by a bound on the error
of float32 sums, a row outside the candidates could still belong to the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ragkit._pairwise import candidate_scores

GATHER = 0.3  # share of allowed rows up to which they are copied and searched separately
_SPARE = 3  # candidates beyond k
_PIECE = 65_536  # float16 rows converted to float32 at a time
_FEW = 4  # number of queries from which a matrix product is faster than a scan per query
_TINY = float(np.finfo(np.float32).tiny)
_SWITCH = Lock()

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
Doubt = np.float64 | NDArray[np.float64]
Search = Callable[[NDArray[np.float32], int], Found]


def nearest(
    queries: NDArray[np.float32],
    vectors: NDArray[np.floating],
    k: int,
    *,
    euclidean: bool,
    dead: NDArray[np.bool_] | None = None,
    doubt: Doubt | None = None,
    decimals: int | None = None,
) -> Found:
    """Find the k nearest rows of each query, k at least 1.

    Scores of f32[m, d] and f32 or f16[n, d] are negative squared distances, or inner products.
    ``dead``, bool[n], are rows to exclude; ``doubt`` is the maximum error of a float32 score, which is computed from
    the vectors if it is None. Scores are compared at a number of decimals; as float32 if it is None.

    Returns:
        f32[m, k] scores, best first, and i64[m, k] rows; ties in the order of rows. Padded with -inf and -1 if there
        are fewer rows.
    """
    n = len(vectors)
    live = n if dead is None else n - int(np.count_nonzero(dead))
    count = min(k, live)
    if not count or not len(queries):
        return _padded(np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64), k)
    if dead is not None and live <= GATHER * n:
        kept = np.flatnonzero(~dead)
        scores, places = nearest(queries, vectors[kept], count, euclidean=euclidean, doubt=doubt, decimals=decimals)
        return _padded(scores, kept[places], k)
    if doubt is None:
        doubt = doubt_of(queries, at_most(vectors).max(), euclidean=euclidean)
    found = settled(
        queries,
        vectors,
        count,
        lambda asked, fetch: _search(asked, vectors, fetch, euclidean=euclidean),
        doubt=doubt,
        spare=_SPARE + (n - live) * count // live,
        euclidean=euclidean,
        dead=dead,
        decimals=decimals,
    )
    return _padded(*found, k)


def settled(
    queries: NDArray[np.float32],
    vectors: NDArray[np.floating],
    k: int,
    search: Search,
    *,
    doubt: Doubt,
    spare: int,
    euclidean: bool = False,
    dead: NDArray[np.bool_] | None = None,
    decimals: int | None = None,
) -> Found:
    """Return the k nearest rows of each query, as `nearest`, by a search whose scores have a bounded error.

    ``search`` returns scores and rows of approximately the nearest for queries and a number, best first; ``doubt`` is
    the maximum error of its scores, for all queries or f64[m], and ``spare`` the number of candidates beyond k to fetch
    first. At least k rows must not be excluded.
    """

    def ranked(near: NDArray[np.int64]) -> Found:
        exact = _rounded(candidate_scores(queries, vectors, near, euclidean=euclidean), decimals)
        exact[near < 0 if dead is None else (near < 0) | dead[near]] = -np.inf
        exact, near = in_order(exact, near)
        return exact[:, :k], near[:, :k]

    if k + spare >= len(vectors):  # every row is a candidate
        return ranked(np.tile(np.arange(len(vectors)), (len(queries), 1)))
    rough, near = search(queries, k + spare)
    scores, rows = ranked(near)
    with np.errstate(invalid="ignore"):  # -inf + inf, if no rows are left and numbers overflow
        limit = _rounded(rough[:, -1] + doubt, decimals)  # upper bound on the score of a row that was not fetched
    open_ = ~(scores[:, -1] > limit)
    if open_.any():
        scores[open_], rows[open_] = settled(
            queries[open_],
            vectors,
            k,
            search,
            doubt=doubt[open_] if isinstance(doubt, np.ndarray) else doubt,
            spare=4 * (k + spare) - k,
            euclidean=euclidean,
            dead=dead,
            decimals=decimals,
        )
    return scores, rows


def merged(parts: Sequence[Found], k: int, decimals: int | None = None) -> Found:
    """Return the merged results of searches over different rows, f32[m, k] and i64[m, k]; a single part as it is.

    Scores are compared at a number of decimals; exactly if it is None.
    """
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([part[0] for part in parts], axis=1)
    rows = np.concatenate([part[1] for part in parts], axis=1)
    scores, rows = in_order(scores, rows, decimals)
    return _padded(scores[:, :k], rows[:, :k], k)


def in_order(scores: NDArray[np.float32], rows: NDArray[np.int64], decimals: int | None = None) -> Found:
    """Sort f32[m, c] scores and i64[m, c] rows by score, then by row, as `merged` does."""
    with np.errstate(invalid="ignore"):  # -inf - -inf, if rows are missing
        steps = scores[:, :-1] - scores[:, 1:]
    if steps.size == 0 or steps.min() > (0 if decimals is None else 10.0**-decimals):
        return scores, rows
    order = np.lexsort((rows, -(scores if decimals is None else scores.round(decimals))), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def doubt_of(queries: NDArray[np.float32], longest: float, *, euclidean: bool) -> NDArray[np.float64]:
    """Return the maximum error of float32 scores for f32[m, d] queries, f64[m].

    ``longest`` is an upper bound on the length of all vectors.
    """
    own = at_most(queries)
    return np.asarray(float32_error(queries.shape[1], (own + longest) ** 2 if euclidean else own * longest))


def float32_error(dim: int, size: Doubt) -> Doubt:
    """Return the largest error of a sum of products in float32, in any order and with or without fused operations.

    The error of each operation is at most 2**-24 of its result, or less than the smallest normal number (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 3.1). The bound has a margin of eight operations, for
    distances that are computed from lengths. ``dim`` products are added; ``size`` is the product of the lengths of the
    two vectors, or for a distance the square of their sum.
    """
    return (dim + 8) * (2.0**-24 * 1.01 * size + _TINY)


def at_most(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the lengths of f32 or f16[n, d], f64[n], rounded up by more than the error of float32."""
    dim, squares = vectors.shape[1], np.empty(len(vectors))
    for start in range(0, len(vectors), _PIECE):
        part = vectors[start : start + _PIECE].astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            squares[start : start + _PIECE] = np.vecdot(part, part)
    return np.asarray(np.sqrt(squares * (1 + dim * 2.0**-22) + dim * _TINY))


def _rounded(scores: NDArray[np.float64], decimals: int | None) -> NDArray[np.float32]:
    if decimals is not None:
        scores = scores.round(decimals) + 0.0  # no -0.0
    with np.errstate(over="ignore"):
        return scores.astype(np.float32)


def _padded(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Found:
    missing = (0, 0), (0, max(0, k - scores.shape[1]))
    if not missing[1][1]:
        return scores, rows
    return np.pad(scores, missing, constant_values=-np.inf), np.pad(rows, missing, constant_values=-1)


def _search(queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, *, euclidean: bool) -> Found:
    """Search in float32; half precision is converted in pieces."""
    if vectors.dtype == np.float32:
        return _knn(queries, vectors, k, euclidean=euclidean)
    best: Found = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(vectors), _PIECE):
        piece = vectors[start : start + _PIECE].astype(np.float32)
        scores, rows = _knn(queries, piece, min(k, len(piece)), euclidean=euclidean)
        best = merged([best, (scores, rows + start)], k)
    return best


def _knn(queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, *, euclidean: bool) -> Found:
    import faiss

    metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
    with _large_products() if len(queries) >= _FEW else nullcontext():
        scores, rows = faiss.knn(queries, vectors, k, metric=metric)
    return (-scores if euclidean else scores), rows


@contextmanager
def _large_products() -> Iterator[None]:
    """Let FAISS use matrix products for small batches too; the setting is global, so it is changed under a lock."""
    import faiss

    with _SWITCH:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
