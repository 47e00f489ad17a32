"""Fusion of several rankings of one query, by ranks or by scores."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import InvalidInputError

Fusion = Literal["rrf", "weighted"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
_DECIMALS = 9
_SIGNIFICANT = 6  # decimals of a score that do not depend on the batch in which it was computed

K = TypeVar("K", bound=Hashable)


def fuse(
    rankings: Sequence[Sequence[tuple[K, float]]],
    weights: Sequence[float] | None = None,
    *,
    method: Fusion = "rrf",
    constant: float = 60.0,
) -> dict[K, float]:
    """Combine rankings; the score of an item is the weighted sum of its shares, which are 0 if it is not ranked.

    - ``"rrf"``: the share is 1 / (constant + rank) (reciprocal rank fusion; Cormack et al., 2009).
    - ``"weighted"``: the share is the score, scaled linearly from 0 for the last item to 1 for the first.

    Args:
        rankings: Pairs of item and score, the best first. Only the first of equal items in a ranking counts.
        weights: The weight of each ranking, 1 if None.
        method: The method.
        constant: The constant of ``"rrf"``.

    Returns:
        The fused score of each item, in the order of first appearance in the rankings.

    Examples:
        >>> fuse([[("a", 9.0), ("b", 7.0)], [("b", 0.9)]], method="weighted")
        {'a': 1.0, 'b': 1.0}
    """
    total: dict[K, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        shares = weight * _shares(np.array([score for _, score in ranking], dtype=np.float64), method, constant)
        seen: set[K] = set()
        for (item, _), share in zip(ranking, shares.tolist(), strict=True):
            if item not in seen:
                seen.add(item)
                total[item] = total.get(item, 0.0) + share
    return {item: round(score, _DECIMALS) for item, score in total.items()}


def check_fusion(method: object, depth: object, constant: float = 60.0) -> None:
    """Check the arguments that hybrid selectors and hybrid retrievers share."""
    if method not in FUSIONS:
        raise InvalidInputError(f"`fusion` must be one of {FUSIONS}, got {method!r}")
    if type(depth) is not int or depth < 1 or not 0 <= constant < float("inf"):
        raise InvalidInputError(f"`depth` must be at least 1 and `constant` at least 0, got {depth!r} and {constant!r}")


def _shares(scores: NDArray[np.float64], method: Fusion, constant: float) -> NDArray[np.float64]:
    if method == "rrf":
        return np.asarray(1 / (constant + np.arange(1, len(scores) + 1)))
    scores = scores.round(_SIGNIFICANT)
    spread = np.ptp(scores) if len(scores) else 0.0
    return (scores - scores.min()) / spread if spread else np.ones(len(scores))
