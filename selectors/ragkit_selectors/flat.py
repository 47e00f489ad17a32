"""Exact search by inner product on FAISS; the one module of the selectors that imports it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ragkit.extras import require
from ragkit_selectors.candidates import Candidates

DECIMALS = 6
# More than float32 sums in FAISS and the rounding can be wrong by; half precision adds 2**-11 of a vector of length 1.
_DOUBT, _HALF_DOUBT = 1e-5, 6e-4
_BATCH = 256
_TOGETHER = 20  # queries from which FAISS multiplies matrices, which no narrower format can keep up with
_MANY = 5_000  # rows from which reading them is most of the work
_SPARE = 16


class FlatVectors:
    """Vectors of length 1 or 0 in a FAISS ``IndexFlatIP``.

    FAISS finds candidates; their scores are computed again in float64 and compared at 1e-6, so that results depend
    neither on the size of the batch nor on the machine. Reading the vectors is all that a single query does, so it
    looks for candidates in a copy of half precision.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Index f32[n, d]."""
        require("faiss")
        import faiss

        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._half = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._half.train(vectors[:1])  # it has nothing to learn, but wants to be asked
        self.add(vectors)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append f32[m, d]."""
        self._index.add(vectors)
        self._half.add(vectors)

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Forget all but these rows, which move up in this order."""
        kept = self[rows]
        self._index.reset()
        self._half.reset()
        self.add(kept)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The vectors of some rows, f32[m, d]."""
        found: NDArray[np.float32] = self._index.reconstruct_batch(rows)
        return found

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def nearest(
        self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """Find the k nearest rows of each query.

        Args:
            queries: f32[m, d], of length 1 or 0.
            k: How many, at least 1.
            barred: bool[n], rows that may not be found.

        Returns:
            For each query its rows, fewer only where fewer are left, with scores rounded to 6 decimals; equal ones in
            the order of the pool.
        """
        size = left = len(self)
        options = None
        if barred is not None:
            import faiss

            left -= int(np.count_nonzero(barred))
            allowed = np.packbits(~barred, bitorder="little")  # alive as long as FAISS reads it
            options = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed))  # type: ignore[call-arg, arg-type]
        k = min(k, left)
        found: dict[int, Candidates] = {}
        for start in range(0, len(queries), _BATCH):
            open_ = list(range(start, min(start + _BATCH, len(queries))))
            fetch = k + _SPARE
            while open_:
                fetch = min(fetch, left)
                half = len(open_) < _TOGETHER and size >= _MANY
                index, doubt = (self._half, _HALF_DOUBT) if half else (self._index, _DOUBT)
                scores, rows = index.search(
                    queries if len(open_) == len(queries) else queries[open_], fetch, params=options
                )
                for place, lowest, near in zip(open_, scores[:, -1].tolist(), rows, strict=True):
                    ranked = self._rank(queries[place], near, k)
                    # What was not fetched is at most `lowest`; near the border it may tie and stand earlier.
                    if fetch == left or lowest < ranked.scores[-1] - doubt:
                        found[place] = ranked
                open_ = [place for place in open_ if place not in found]
                fetch *= 2
        return [found[place] for place in range(len(queries))]

    def _rank(self, query: NDArray[np.float32], near: NDArray[np.int64], k: int) -> Candidates:
        scores = np.vecdot(self[near], query.astype(np.float64)).round(DECIMALS) + 0.0  # no -0.0
        order = np.lexsort((near, -scores))[:k]
        return Candidates(near[order], scores[order])
