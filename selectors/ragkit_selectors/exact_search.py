"""Exact search by inner product over vectors in memory; the only module of the selectors that imports FAISS."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ragkit._extras import require
from ragkit.index._exact import Found, float32_error, nearest, settled
from ragkit_selectors.candidates import Candidates

DECIMALS = 6
_BATCH = 256
_TOGETHER = 20  # from this many queries on, FAISS multiplies matrices, which is faster than any narrower format
_MANY = 5_000  # from this many rows on, reading them dominates the time
_SPARE = 16
_UNIT = np.float64(1 + 1e-6)  # upper bound of the length of a unit vector after rounding to float32


class FlatVectors:
    """Vectors of length 1 or 0, searched by `ragkit.index._exact`; scores are compared at 1e-6.

    The time of a single query is dominated by reading the vectors, so candidates are searched in a half-precision copy.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        """Index f32[n, d]."""
        require("faiss")
        import faiss

        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._half = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._half.train(vectors[:1])  # required by FAISS, although this quantizer has no parameters to train
        self.add(vectors)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append f32[m, d]."""
        import faiss

        self._index.add(vectors)
        self._half.add(vectors)
        held = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        self._vectors: NDArray[np.float32] = held.reshape(-1, self._index.d)  # shares the memory of FAISS

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Keep only these rows, in this order."""
        kept = self[rows]
        self._index.reset()
        self._half.reset()
        self.add(kept)

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the vectors of some rows, f32[m, d]."""
        return self._vectors[rows]

    def __len__(self) -> int:
        return len(self._vectors)

    def nearest(
        self, queries: NDArray[np.float32], k: int, barred: NDArray[np.bool_] | None = None
    ) -> list[Candidates]:
        """Find the k nearest rows of each query.

        Args:
            queries: f32[m, d], of length 1 or 0.
            k: Number of rows, at least 1.
            barred: bool[n], rows that must not be returned; None if all may be.

        Returns:
            For each query its rows, or all that may be returned if there are fewer, with scores rounded to 6 decimals;
            equal scores are in the order of the pool.
        """
        k = min(k, len(self) - (0 if barred is None else int(np.count_nonzero(barred))))
        found: list[Candidates] = []
        for start in range(0, len(queries), _BATCH):
            scores, rows = self._nearest(queries[start : start + _BATCH], k, barred)
            # Only the decimals that were compared, without the error of float32.
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

            allowed = np.packbits(~barred, bitorder="little")  # must stay alive while FAISS reads it
            options = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(allowed))  # type: ignore[call-arg, arg-type]
        search = partial(self._half.search, params=options)
        return settled(queries, self._vectors, k, search, doubt=doubt, spare=_SPARE, dead=barred, decimals=DECIMALS)
