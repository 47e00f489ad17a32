"""Paired comparison of two retrievers on the same queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ragkit.errors import InvalidInputError, UnknownSpecError
from ragkit.evaluation._measures import MeasureReport, RetrievalReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference between two reports: the first minus the second.

    Attributes:
        measure: The measure compared.
        mean: Mean difference over the queries.
        low: Lower end of its 95 % interval, by the bootstrap over queries.
        high: Upper end.
        p_value: Two-sided, by a randomisation test: how often a difference as large results if the two values of each
            query are swapped at random (Smucker et al., 2007).
        queries: Number of queries.
    """

    measure: str
    mean: float
    low: float
    high: float
    p_value: float
    queries: int


def compare_retrieval(
    one: MeasureReport, other: MeasureReport, *, measure: str | None = None, seed: int = 0
) -> Difference:
    """Compare two retrievers, or two pipelines, with a paired test.

    Args:
        one: A report.
        other: A report on the same queries.
        measure: The name of a measure; if None, nDCG for retrievers, and the first measure for other reports.
        seed: Seed of the resampling.

    Returns:
        The difference with its interval and p-value.

    Raises:
        UnknownSpecError: If the reports have no such measure.
        InvalidInputError: If the reports are of different queries.
    """
    from scipy.stats import permutation_test

    name = measure or (f"ndcg@{one.k}" if isinstance(one, RetrievalReport) else next(iter(one), ""))
    if name not in one or name not in other:
        raise UnknownSpecError("measure", name, sorted(set(one) & set(other)))
    left, right = one.per_query[name], other.per_query[name]
    if set(left) != set(right):
        raise InvalidInputError(f"the reports are of {len(left)} and {len(right)} queries that are not the same")
    differences = np.array([left[query] - right[query] for query in left])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(differences), size=(9999, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5]).tolist()
    p_value = 1.0
    if differences.any():
        p_value = float(
            permutation_test(
                (differences, np.zeros(len(differences))),
                lambda x, y, axis: np.mean(x - y, axis=axis),
                permutation_type="samples",
                vectorized=True,
                n_resamples=9999,
                batch=1000,
                rng=rng,
            ).pvalue
        )
    return Difference(
        measure=name, mean=float(differences.mean()), low=low, high=high, p_value=p_value, queries=len(differences)
    )
