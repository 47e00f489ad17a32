"""Exact search by inner product over vectors in memory; the one module of the selectors that imports FAISS."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ragkit.extras import require
from ragkit.index.exact import Found, float32_error, nearest, settled
from ragkit_selectors.candidates import Candidates

DECIMALS = 6
_BATCH = 256
_TOGETHER = 20  # queries from which FAISS multiplies matrices, which no narrower format can keep up with
_MANY = 5_000  # rows from which reading them is most of the work
_SPARE = 16
_UNIT = np.float64(1 + 1e-6)  # more than the rounding to float32 can make of the length of a unit vector


class FlatVectors:
    """Vectors of length 1 or 0, searched by `ragkit.index.exact`; scores are compared at 1e-6.

    Reading the vectors is all that a single query does, so it looks for candidates in a copy of half precision.
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
        import faiss

        self._index.add(vectors)
        self._half.add(vectors)
        held = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        self._vectors: NDArray[np.float32] = held.reshape(-1, self._index.d)  # where FAISS keeps them

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Forget all but these rows, which move up in this order."""
        kept = self[rows]
        self._index.reset()
        self._half.reset()
        self.add(kept)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """The vectors of some rows, f32[m, d]."""
        return self._vectors[rows]

    def __len__(self) -> int:
        return len(self._vectors)

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
        k = min(k, len(self) - (0 if barred is None else int(np.count_nonzero(barred))))
        found: list[Candidates] = []
        for start in range(0, len(queries), _BATCH):
            scores, rows = self._nearest(queries[start : start + _BATCH], k, barred)
            # The decimals that were compared, without what float32 adds to them.
            found += map(Candidates, rows, scores.astype(np.float64).round(DECIMALS))
        return found

    def _nearest(self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None) -> Found:
        doubt = float32_error(self._index.d, _UNIT)
        if len(queries) >= _TOGETHER or len(self) < _MANY:
            return nearest(queries, self._vectors, k, euclidean=False, dead=barred, doubt=doubt, decimals=DECIMALS)
        doubt += 2.0**-11 * _UNIT + 2.0**-25 * self._index.d**0.5  # half precision rounds by 2**-11, or 2**-25 near 0
        options = None
        if barred is not None:
            import faiss

            allowed = np.packbits(~barred, bitorder="little")  # alive as long as FAISS reads it
            options = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed))  # type: ignore[call-arg, arg-type]
        search = partial(self._half.search, params=options)
        return settled(queries, self._vectors, k, search, doubt=doubt, spare=_SPARE, dead=barred, decimals=DECIMALS)
