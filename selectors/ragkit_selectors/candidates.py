"""Candidates: rows of a pool with their scores; equal scores are always in the order of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragkit.lexical.ranking import top_k


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be selected for one query, the best first.

    Attributes:
        rows: intp[m], indices in the pool.
        scores: f64[m], similarity to the query; higher is more similar.
        parts: Components of the scores and the values by which stages selected rows, f64[m] by name; NaN if a row has
            no value. They appear in `Hit.why`.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: slice | NDArray[np.intp], **parts: NDArray[np.float64]) -> Candidates:
        """Return some of the candidates, in the order of ``places``.

        Args:
            places: Indices of the candidates.
            parts: New parts, f64 of the new length.

        Returns:
            The candidates at these indices.
        """
        kept = {name: values[places] for name, values in self.parts.items()}
        return Candidates(self.rows[places], self.scores[places], {**kept, **parts})


def best(rows: NDArray[np.intp], scores: NDArray[np.float64], k: int) -> Candidates:
    """Return the k best of some rows.

    Args:
        rows: intp[m], indices in the pool, in ascending order.
        scores: f64[m], the score of each row.
        k: Number of rows, at least 1.

    Returns:
        The best rows; equal scores are in the order of the pool.
    """
    return Candidates(*top_k(rows, scores, k))


def best_of_pool(scores: NDArray[np.float64], k: int, barred: NDArray[np.bool_] | None) -> Candidates:
    """Return the k best rows of a whole pool.

    Args:
        scores: f64[n], one score for each row.
        k: Number of rows, at least 1.
        barred: bool[n], rows that must not be selected; None if all may be.

    Returns:
        The best rows; equal scores are in the order of the pool.
    """
    rows = np.arange(len(scores), dtype=np.intp) if barred is None else np.flatnonzero(~barred)
    return best(rows, scores if barred is None else scores[rows], k)


def filled(found: Candidates, n: int, size: int, barred: NDArray[np.bool_] | None) -> Candidates:
    """Fill up candidates to n with other rows of the pool, in the order of the pool and with score 0.

    Args:
        found: Candidates, none of them barred.
        n: Number of rows.
        size: Number of rows of the pool.
        barred: bool[size], rows that must not be selected; None if all may be.

    Returns:
        n candidates, or all rows that may be selected if there are fewer.
    """
    if len(found) >= n:
        return found
    rest = np.ones(size, dtype=np.bool_) if barred is None else ~barred
    rest[found.rows] = False
    others = np.flatnonzero(rest)[: n - len(found)]
    zeros, unknown = np.zeros(len(others)), np.full(len(others), np.nan)
    parts = {name: np.append(values, unknown) for name, values in found.parts.items()}
    return Candidates(np.append(found.rows, others), np.append(found.scores, zeros), parts)
