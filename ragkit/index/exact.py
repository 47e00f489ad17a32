"""Exact search over mapped arrays: FAISS for the products, our own rule for ties, removed rows and half precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray

DECIMALS = 6  # scores are compared at 1e-6
_SPARE = 8
_PIECE = 65_536  # rows of half precision that are widened at once
_FEW = 4  # queries from which one large product beats one scan a query
_SWITCH = Lock()

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


def nearest(
    queries: NDArray[np.float32],
    vectors: NDArray[np.floating],
    k: int,
    *,
    euclidean: bool,
    dead: NDArray[np.bool_] | None = None,
) -> Found:
    """Find the k nearest rows of each query.

    Args:
        queries: f32[m, d].
        vectors: f32 or f16[n, d].
        k: How many, at least 1.
        euclidean: Whether the score is the negative squared distance, else the inner product.
        dead: bool[n], rows that are not to be found.

    Returns:
        f32[m, k] scores, the best first, and i64[m, k] rows; where there are fewer, -inf and -1 fill up. Scores that
        are the same at 6 decimals stand in the order of rows.
    """
    n = len(vectors)
    live = n if dead is None else n - int(np.count_nonzero(dead))
    count = min(k, live)
    if not count or not len(queries):
        return _padded(np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64), k)
    fetch = min(n, count + (1 if dead is None else _SPARE + (n - live) * count // live))
    scores, rows = _search(queries, vectors, fetch, euclidean=euclidean)
    if dead is None and fetch > k and (scores[:, :-1] - scores[:, 1:]).min() > 10.0**-DECIMALS:
        return scores[:, :k], rows[:, :k]  # no tie: nothing to put in order
    scores, rows, settled = _sifted(scores, rows, count, dead, whole=fetch == n)
    while not settled.all():
        open_ = np.flatnonzero(~settled)
        fetch = min(n, 2 * fetch + _SPARE)
        more, their_rows = _search(queries[open_], vectors, fetch, euclidean=euclidean)
        scores[open_], rows[open_], settled[open_] = _sifted(more, their_rows, count, dead, whole=fetch == n)
    return _padded(*_in_order(scores, rows), k)


def merged(parts: list[Found], k: int) -> Found:
    """The best of several searches over different rows.

    Args:
        parts: Scores and rows of each, m queries.
        k: How many.

    Returns:
        f32[m, k] and i64[m, k], as `nearest` gives them.
    """
    if len(parts) == 1:
        return parts[0]
    scores = np.concatenate([part[0] for part in parts], axis=1)
    rows = np.concatenate([part[1] for part in parts], axis=1)
    scores, rows = _in_order(scores, rows)
    return _padded(scores[:, :k], rows[:, :k], k)


def _sifted(
    scores: NDArray[np.float32], rows: NDArray[np.int64], count: int, dead: NDArray[np.bool_] | None, *, whole: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Leave dead rows out and keep ``count``; whether that is settled, or a tie may go on past what was fetched."""
    least = scores[:, -1].round(DECIMALS)  # what was not fetched is at most that
    if dead is not None:
        gone = dead[rows]
        scores = np.where(gone, -np.inf, scores)
    scores, rows = _in_order(scores, rows)
    last = scores[:, count - 1].round(DECIMALS)
    settled = np.full(len(rows), fill_value=True) if whole else last > least
    return scores[:, :count], rows[:, :count], settled


def _in_order(scores: NDArray[np.float32], rows: NDArray[np.int64]) -> Found:
    """Sort by score at 6 decimals, then by row; nothing is moved where nothing is tied or out of order."""
    with np.errstate(invalid="ignore"):  # -inf - -inf, where rows are missing
        steps = scores[:, :-1] - scores[:, 1:]
    if steps.size == 0 or steps.min() > 10.0**-DECIMALS:
        return scores, rows
    order = np.lexsort((rows, -scores.round(DECIMALS)), axis=1)
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


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
    assert best is not None  # noqa: S101 - there is a vector, so there is a piece
    return best


@contextmanager
def _large_products() -> Iterator[None]:
    """Let FAISS multiply matrices for small batches too, which it would search query by query.

    Its switch is one for the whole process, so it is turned under a lock and turned back.
    """
    import faiss

    with _SWITCH:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
