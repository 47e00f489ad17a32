"""Exact search: FAISS finds candidates in float32, which are then scored in float64.

Sums in float32 depend on the processor, the number of threads and the batch size. A search therefore fetches more
candidates than requested and scores each in float64 (`ragkit.pairwise`). It searches again if, by a bound on the error
of float32 sums, a row outside the candidates could still belong to the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ragkit.pairwise import candidate_scores

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
    """Find the k nearest rows of each query.

    Args:
        queries: f32[m, d].
        vectors: f32 or f16[n, d].
        k: Number of rows, at least 1.
        euclidean: Whether the score is the negative squared distance; otherwise the inner product.
        dead: bool[n], rows to exclude.
        doubt: Maximum error of a float32 score; None to compute it from the vectors.
        decimals: Number of decimals at which scores are compared; None to compare them as float32.

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
    """Find the k nearest rows of each query by a search whose scores have a bounded error.

    Args:
        queries: f32[m, d].
        vectors: float[n, d].
        k: Number of rows, from 1 to the number of rows that are not excluded.
        search: Function of queries and a number that returns scores and rows of approximately the nearest, best first.
        doubt: Maximum error of the scores of ``search``, for all queries or f64[m].
        spare: Number of candidates beyond k to fetch first.
        euclidean: Whether the score is the negative squared distance; otherwise the inner product.
        dead: bool[n], rows to exclude although ``search`` may return them.
        decimals: Number of decimals at which scores are compared; None to compare them as float32.

    Returns:
        f32[m, k] scores, best first, and i64[m, k] rows; ties in the order of rows.
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
    """Merge the results of several searches over different rows.

    Args:
        parts: Scores and rows of each search, for m queries.
        k: Number of rows.
        decimals: Number of decimals at which scores are compared; None to compare them exactly.

    Returns:
        f32[m, k] and i64[m, k], in the format of `nearest`; a single part is returned unchanged.
    """
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([part[0] for part in parts], axis=1)
    rows = np.concatenate([part[1] for part in parts], axis=1)
    scores, rows = in_order(scores, rows, decimals)
    return _padded(scores[:, :k], rows[:, :k], k)


def in_order(scores: NDArray[np.float32], rows: NDArray[np.int64], decimals: int | None = None) -> Found:
    """Sort by score, then by row.

    Args:
        scores: f32[m, c].
        rows: i64[m, c].
        decimals: Number of decimals at which scores are compared; None to compare them exactly.

    Returns:
        Scores and rows of the same shape.
    """
    with np.errstate(invalid="ignore"):  # -inf - -inf, if rows are missing
        steps = scores[:, :-1] - scores[:, 1:]
    if steps.size == 0 or steps.min() > (0 if decimals is None else 10.0**-decimals):
        return scores, rows
    order = np.lexsort((rows, -(scores if decimals is None else scores.round(decimals))), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def doubt_of(queries: NDArray[np.float32], longest: float, *, euclidean: bool) -> NDArray[np.float64]:
    """Return the maximum error of scores computed in float32, for each query.

    Args:
        queries: f32[m, d].
        longest: Upper bound on the length of all vectors.
        euclidean: Whether scores are distances; otherwise inner products.

    Returns:
        f64[m].
    """
    own = at_most(queries)
    return np.asarray(float32_error(queries.shape[1], (own + longest) ** 2 if euclidean else own * longest))


def float32_error(dim: int, size: Doubt) -> Doubt:
    """Return the largest error of a sum of products in float32, in any order and with or without fused operations.

    The error of each operation is at most 2**-24 of its result, or less than the smallest normal number (Higham,
    "Accuracy and Stability of Numerical Algorithms", section 3.1). The bound has a margin of eight operations, for
    distances that are computed from lengths.

    Args:
        dim: Number of products that are added.
        size: Product of the lengths of the two vectors; for a distance, the square of their sum.

    Returns:
        The error bound.
    """
    return (dim + 8) * (2.0**-24 * 1.01 * size + _TINY)


def at_most(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return lengths, rounded up by more than the error of their computation, which is in float32 for speed.

    Args:
        vectors: f32 or f16[n, d].

    Returns:
        f64[n].
    """
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
    missing = k - scores.shape[1]
    if missing <= 0:
        return scores, rows
    m = len(scores)
    return (
        np.concatenate([scores, np.full((m, missing), -np.inf, dtype=np.float32)], axis=1),
        np.concatenate([rows, np.full((m, missing), -1, dtype=np.int64)], axis=1),
    )


def _search(queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, *, euclidean: bool) -> Found:
    import faiss

    metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
    search = faiss.knn if vectors.dtype == np.float32 else _in_pieces
    if len(queries) < _FEW:
        scores, rows = search(queries, vectors, k, metric=metric)
    else:
        with _large_products():
            scores, rows = search(queries, vectors, k, metric=metric)
    return (-scores if euclidean else scores), rows


def _in_pieces(queries: NDArray[np.float32], vectors: NDArray[np.floating], k: int, metric: int) -> Found:
    import faiss

    best: Found | None = None
    for start in range(0, len(vectors), _PIECE):
        piece = np.asarray(vectors[start : start + _PIECE], dtype=np.float32)
        scores, rows = faiss.knn(queries, piece, min(k, len(piece)), metric=metric)
        rows += start
        if best is not None:
            scores, rows = np.concatenate([best[0], scores], axis=1), np.concatenate([best[1], rows], axis=1)
            sign = 1 if metric == faiss.METRIC_L2 else -1
            order = np.argsort(sign * scores, axis=1, kind="stable")[:, :k]
            scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
        best = scores, rows
    assert best is not None  # noqa: S101 - at least one vector, so at least one piece
    return best


@contextmanager
def _large_products() -> Iterator[None]:
    """Let FAISS use matrix products for small batches too, instead of searching query by query.

    The FAISS setting is global, so it is changed under a lock and restored.
    """
    import faiss

    with _SWITCH:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
