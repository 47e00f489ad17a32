"""Hashes of the ids of all rows, which show without a query that an id is not in an index.

The array file of hashes is verified block by block. An existing id is therefore not mistaken for a new one if the
database is damaged, as most of its pages have no checksum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.index.checksum import name_hashes

_FEW = 16  # up to this number of names, comparing all hashes is faster than sorting
_TAIL = 65_536  # new rows that are scanned before all hashes are sorted again


class IdHashes:
    """The sort order of a growing array of hashes, updated only when needed."""

    def __init__(self) -> None:
        """Start without hashes."""
        self._sorted = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def rows(self, hashes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
        """Find the rows whose ids have the hashes of some names.

        Args:
            hashes: i64[n], the hashes of all rows; those of earlier calls come first.
            names: The names.

        Returns:
            i64, the rows.
        """
        wanted = np.unique(name_hashes(names))
        ordered, rows = self._sorted  # read as a pair: another thread may replace both
        if len(names) > _FEW and len(hashes) - len(ordered) > max(_TAIL, len(ordered) // 8):
            rows = np.argsort(hashes, kind="stable")
            ordered = hashes[rows]
            self._sorted = ordered, rows
        first, stop = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
        known = [rows[start:end] for start, end in zip(first.tolist(), stop.tolist(), strict=True) if start < end]
        later = np.flatnonzero(np.isin(hashes[len(ordered) :], wanted)) + len(ordered)
        return np.concatenate([*known, later])
