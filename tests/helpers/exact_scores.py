"""What exact search must give: sums without any rounding on the way, scores as float32, equal ones by position."""

from math import fsum

import numpy as np


def exact_scores(vectors, query, *, euclidean=False, decimals=None):
    """Score every vector: inner products or negative squared distances, each rounded once."""
    asked = [float(number) for number in query]
    pairs = ([(float(number), own) for number, own in zip(row, asked, strict=True)] for row in vectors)
    if euclidean:
        scores = np.array([-fsum((a - b) ** 2 for a, b in each) for each in pairs])
    else:
        scores = np.array([fsum(a * b for a, b in each) for each in pairs])
    with np.errstate(over="ignore"):
        return (scores if decimals is None else scores.round(decimals)).astype(np.float32)


def exact_order(vectors, query, *, euclidean=False):
    """All positions, the best first."""
    return np.argsort(-exact_scores(vectors, query, euclidean=euclidean), kind="stable")


def cosines(vectors, queries):
    """f64[m, n]."""
    unit, asked = (
        each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1, keepdims=True)
        for each in (vectors, queries)
    )
    return asked @ unit.T


def clear_order(vectors, queries, k):
    """The k best by cosine, i[m, k], of vectors of which float32 can tell which is nearer."""
    scores = cosines(vectors, queries)
    order = np.argsort(-scores, axis=1)
    best = np.take_along_axis(scores, order, axis=1)[:, : k + 1]
    assert (best[:, :-1] - best[:, 1:]).min() > 3e-6, "two of these vectors are too near to each other; take others"
    return order[:, :k]


def as_near(found, expected, vectors, queries, doubt=3e-6):
    """Whether these rows are as near as those, in this order, as far as float32 can tell."""
    scores = cosines(vectors, queries)
    near, right = (np.take_along_axis(scores, rows, axis=1) for rows in (found, expected))
    return np.allclose(near, right, rtol=0, atol=doubt)
