"""Search of one commit: exact or approximate, with or without a filter."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from ragkit.index.exact import GATHER, Found, merged, nearest
from ragkit.index.snapshot import State

_DECIMALS = 6  # approximate indexes add in a different order, so scores are compared at 1e-6


def find(state: State, queries: NDArray[np.float32], k: int, matched: NDArray[np.int64] | None) -> Found:
    """Find the k nearest rows of each query.

    Args:
        state: The commit.
        queries: f32[m, dim].
        k: Number of rows, 0 or more.
        matched: i64, the rows that may be found, ascending; None for all rows with a document.

    Returns:
        f32[m, k] scores and i64[m, k] rows, padded with -inf and -1 if there are fewer.
    """
    if not k or not len(queries) or not state.live or (matched is not None and not len(matched)):
        return np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
    rows, barred = state.facts["rows"], state.dead

    def exact(rows: NDArray[np.generic], dead: NDArray[np.bool_] | None = None) -> Found:
        vectors, euclidean = cast("NDArray[np.floating]", rows), state.facts["metric"] == "l2"
        return nearest(queries, vectors, k, euclidean=euclidean, dead=dead, doubt=state.doubt(queries))

    if matched is not None:
        if state.segment is None or len(matched) <= GATHER * rows:
            scores, places = exact(state.vectors if len(matched) == rows else state.vectors_of(matched))
            return scores, np.where(places < 0, -1, matched[places])
        barred = np.ones(rows, dtype=np.bool_)
        barred[matched] = False
    if state.segment is None:
        with state.vector_blocks.checked_meanwhile() as vectors:
            return exact(vectors, barred)
    built = state.segment.rows
    parts = [state.segment.search(queries, k, None if barred is None else barred[:built])]
    if built < rows:
        scores, places = exact(state.vector_blocks.since(built), None if barred is None else barred[built:])
        parts.append((scores, np.where(places < 0, -1, places + built)))
    return merged(parts, k, _DECIMALS)
