"""Rows of a pool with their scores, and choosing the best so that equal scores stand in the order of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragkit.lexical.ranking import top_k


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be shown for one query, the best first.

    Attributes:
        rows: intp[m], positions in the pool.
        scores: f64[m], likeness to the query; higher is closer.
        parts: What the scores are made of and what moved a row, f64[m] by name, NaN where
            a row has none; shown in `Hit.why`.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: slice | NDArray[np.intp], **parts: NDArray[np.float64]) -> Candidates:
        """Some of the candidates, in the order of ``places``.

        Args:
            places: Positions among these candidates.
            parts: New parts, f64 of the new length.

        Returns:
            The candidates at these places.
        """
        kept = {name: values[places] for name, values in self.parts.items()}
        return Candidates(self.rows[places], self.scores[places], {**kept, **parts})


def best(rows: NDArray[np.intp], scores: NDArray[np.float64], k: int) -> Candidates:
    """Take the k best of some rows.

    Args:
        rows: intp[m], positions in the pool, ascending.
        scores: f64[m], the score of each.
        k: How many, at least 1.

    Returns:
        The best rows; equal scores in the order of the pool.
    """
    return Candidates(*top_k(rows, scores, k))


def best_of_pool(scores: NDArray[np.float64], k: int, barred: NDArray[np.bool_] | None) -> Candidates:
    """Take the k best rows of a whole pool.

    Args:
        scores: f64[n], one score for each row.
        k: How many, at least 1.
        barred: bool[n], rows that may not be chosen.

    Returns:
        The best rows; equal scores in the order of the pool.
    """
    rows = np.arange(len(scores), dtype=np.intp) if barred is None else np.flatnonzero(~barred)
    return best(rows, scores if barred is None else scores[rows], k)


def filled(found: Candidates, n: int, size: int, barred: NDArray[np.bool_] | None) -> Candidates:
    """Append other rows of the pool, in its order and with score 0, until there are n.

    Args:
        found: Candidates, none of them barred.
        n: How many rows.
        size: Rows of the pool.
        barred: bool[size], rows that may not be chosen.

    Returns:
        n candidates, fewer only where fewer are left.
    """
    if len(found) >= n:
        return found
    rest = np.ones(size, dtype=np.bool_) if barred is None else ~barred
    rest[found.rows] = False
    others = np.flatnonzero(rest)[: n - len(found)]
    zeros, unknown = np.zeros(len(others)), np.full(len(others), np.nan)
    parts = {name: np.append(values, unknown) for name, values in found.parts.items()}
    return Candidates(np.append(found.rows, others), np.append(found.scores, zeros), parts)
