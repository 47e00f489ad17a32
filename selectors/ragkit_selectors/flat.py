"""Exact search by inner product on FAISS; the one module of the selectors that imports it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.extras import require
from ragkit_selectors.ranking import Ranked, best

DECIMALS = 6
# More than float32 sums in FAISS and the rounding can be wrong by.
_DOUBT = 1e-5
_BATCH = 256
_SPARE = 16


class FlatVectors:
    """Vectors of length 1 or 0 in a FAISS ``IndexFlatIP``.

    FAISS finds candidates; their scores are computed again in float64 and compared at 1e-6, so that results depend
    neither on the size of the batch nor on the machine.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Index f32[n, d]."""
        require("faiss")
        import faiss

        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)

    def nearest(self, queries: NDArray[np.float32], k: int, skipped: NDArray[np.intp]) -> list[Ranked]:
        """Find the k nearest rows of each query.

        Args:
            queries: f32[m, d], of length 1 or 0.
            k: How many, 1 … n - len(skipped).
            skipped: Rows that may not be found.

        Returns:
            For each query its rows, with scores rounded to 6 decimals; equal ones in the order of the pool.
        """
        found: dict[int, Ranked] = {}
        for start in range(0, len(queries), _BATCH):
            open_ = np.arange(start, min(start + _BATCH, len(queries)))
            fetch = k + len(skipped) + _SPARE
            while len(open_):
                fetch = min(fetch, self._index.ntotal)
                scores, rows = self._index.search(queries[open_], fetch)
                for place, lowest, near in zip(open_.tolist(), scores[:, -1].tolist(), rows, strict=True):
                    ranked = self._rank(queries[place], near, k, skipped)
                    # What was not fetched is at most `lowest`; near the border it may tie and stand earlier.
                    if fetch == self._index.ntotal or lowest < ranked.scores[-1] - _DOUBT:
                        found[place] = ranked
                open_ = np.array([place for place in open_.tolist() if place not in found], dtype=np.intp)
                fetch *= 2
        return [found[place] for place in range(len(queries))]

    def _rank(self, query: NDArray[np.float32], near: NDArray[np.int64], k: int, skipped: NDArray[np.intp]) -> Ranked:
        rows = np.setdiff1d(near, skipped)  # sorted, as `best` needs it
        vectors = self._index.reconstruct_batch(rows).astype(np.float64)
        scores = np.einsum("rd,d->r", vectors, query.astype(np.float64)).round(DECIMALS) + 0.0  # no -0.0
        return best(rows.astype(np.intp), scores, k)
