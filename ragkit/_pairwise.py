"""Inner products and distances of pairs of vectors, bit-identical on all processors.

Matrix products add numbers in an order that depends on the shapes, the number of threads and the processor. Here every
pair is computed separately in float64: numbers are multiplied elementwise, and numpy adds each contiguous row in an
order that depends only on its length. Products of float32 numbers are exact in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 2**16  # numbers per block, which fits into the processor cache


def inner_products(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the inner products of float[..., d] and float[..., d], which must broadcast, as f64[...]."""
    products = np.multiply(left, right, dtype=np.float64, order="C")
    return np.asarray(np.add.reduce(products, axis=-1))


def squared_distances(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the squared Euclidean distances of float[..., d] and float[..., d], which must broadcast, as f64[...]."""
    differences = np.subtract(left, right, dtype=np.float64, order="C")
    return inner_products(differences, differences)


def lengths(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Euclidean lengths of float[n, d], f64[n]."""
    squares = np.empty(len(vectors))
    step = max(1, _AT_ONCE // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        squares[start : start + step] = inner_products(part, part)
    return np.sqrt(squares)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows of float[n, d] normalised to length 1, f64[n, d]; zero vectors stay zero."""
    own = lengths(vectors)
    return np.asarray(vectors / np.where(own > 0, own, 1)[:, None], dtype=np.float64)


def candidate_scores(
    queries: NDArray[np.floating], vectors: NDArray[np.floating], rows: NDArray[np.integer], *, euclidean: bool
) -> NDArray[np.float64]:
    """Return the scores of the candidates of float[m, d] queries, given as int[m, c] rows of float[n, d] vectors.

    The scores, f64[m, c], are negative squared distances, or inner products.
    """
    wide = max(1, _AT_ONCE // vectors.shape[1])
    if rows.size <= wide:
        near, asked = vectors[rows], queries[:, None]
        return -squared_distances(near, asked) if euclidean else inner_products(near, asked)
    scores = np.empty(rows.shape)
    many = max(1, wide // rows.shape[1])
    for top in range(0, rows.shape[0], many):
        for left in range(0, rows.shape[1], wide):
            block = np.s_[top : top + many, left : left + wide]
            scores[block] = candidate_scores(queries[top : top + many], vectors, rows[block], euclidean=euclidean)
    return scores
