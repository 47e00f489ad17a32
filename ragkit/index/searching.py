"""Searching one commit: exact or approximate, whole or filtered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.index.exact import Found, merged, nearest
from ragkit.index.state import State

# Up to this share of rows the matching ones are copied together and searched exactly, also beside a segment.
_GATHER = 0.3


def find(state: State, queries: NDArray[np.float32], k: int, matched: NDArray[np.int64] | None) -> Found:
    """Find the k nearest rows of each query.

    Args:
        state: The commit.
        queries: f32[m, dim].
        k: How many, 0 or more.
        matched: i64, the rows that may be found, ascending; None for all with a document.

    Returns:
        f32[m, k] scores and i64[m, k] rows, -inf and -1 where there are fewer.
    """
    if not k or not len(queries) or not state.live or (matched is not None and not len(matched)):
        return np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
    euclidean, rows = state.facts["metric"] == "l2", len(state.keys)
    barred = state.dead
    if matched is not None:
        if state.segment is None or len(matched) <= _GATHER * rows:
            vectors = state.vectors if len(matched) == rows else state.vectors[matched]
            scores, places = nearest(queries, vectors, k, euclidean=euclidean)
            return scores, np.where(places < 0, -1, matched[places])
        barred = np.ones(rows, dtype=np.bool_)
        barred[matched] = False
    if state.segment is None:
        return nearest(queries, state.vectors, k, euclidean=euclidean, dead=barred)
    built = state.segment.rows
    parts = [state.segment.search(queries, k, None if barred is None else barred[:built])]
    if built < rows:
        tail = None if barred is None else barred[built:]
        scores, places = nearest(queries, state.vectors[built:], k, euclidean=euclidean, dead=tail)
        parts.append((scores, np.where(places < 0, -1, places + built)))
    return merged(parts, k)
