"""Hashes of the ids of all rows, which tell that an id is not in an index without asking the database.

The array file of hashes is checked block by block, so that an id is never taken for a new one because the database,
in which most pages have no checksum, is damaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.index.checksum import name_hashes

_FEW = 16  # names that are found by comparing every hash, which is faster than sorting them first
_TAIL = 65_536  # new rows that are compared one by one before all hashes are sorted again


class IdHashes:
    """The order of hashes to which others may be added; they are sorted when they are needed."""

    def __init__(self) -> None:
        """Begin with no hashes."""
        self._sorted = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)

    def rows(self, hashes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
        """Find the rows whose ids have the hashes of some names.

        Args:
            hashes: i64[n], the hashes of all rows, those of earlier calls first.
            names: The names.

        Returns:
            i64, the rows.
        """
        wanted = np.unique(name_hashes(names))
        ordered, rows = self._sorted  # read together: another thread may put others in their place
        if len(names) > _FEW and len(hashes) - len(ordered) > max(_TAIL, len(ordered) // 8):
            rows = np.argsort(hashes, kind="stable")
            ordered = hashes[rows]
            self._sorted = ordered, rows
        first, stop = (np.searchsorted(ordered, wanted, side) for side in ("left", "right"))
        known = [rows[start:end] for start, end in zip(first.tolist(), stop.tolist(), strict=True) if start < end]
        later = np.flatnonzero(np.isin(hashes[len(ordered) :], wanted)) + len(ordered)
        return np.concatenate([*known, later])
