"""Candidates: rows of a pool with their scores; equal scores are always in the order of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.tie_breaking import top_k


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
        """Return the candidates at some indices, in their order, with new parts of the new length."""
        kept = {name: values[places] for name, values in self.parts.items()}
        return Candidates(self.rows[places], self.scores[places], {**kept, **parts})


def best_of_pool(scores: NDArray[np.float64], k: int, excluded: NDArray[np.bool_] | None) -> Candidates:
    """Return the k best rows by their scores f64[n], without rows that are excluded, bool[n]; ties as in `top_k`."""
    rows = np.arange(len(scores), dtype=np.intp) if excluded is None else np.flatnonzero(~excluded)
    return Candidates(*top_k(rows, scores[rows], k))


def filled(found: Candidates, n: int, size: int, excluded: NDArray[np.bool_] | None) -> Candidates:
    """Fill up candidates to n, if possible, with other rows of the pool, in its order and with score 0."""
    if len(found) >= n:
        return found
    rest = np.ones(size, dtype=np.bool_) if excluded is None else ~excluded
    rest[found.rows] = False
    others = np.flatnonzero(rest)[: n - len(found)]
    zeros, unknown = np.zeros(len(others)), np.full(len(others), np.nan)
    parts = {name: np.append(values, unknown) for name, values in found.parts.items()}
    return Candidates(np.append(found.rows, others), np.append(found.scores, zeros), parts)
