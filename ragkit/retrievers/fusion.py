"""Several rankings of one query in one, by their ranks or by their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ragkit.records import Hit
from ragkit.retrievers.base import ranked

Fusion = Literal["rrf", "minmax", "zscore", "dist"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
_DECIMALS = 9
_SEEN = 6  # decimals of a score that do not depend on the batch it was computed in


def fuse(
    rankings: Mapping[str, Sequence[Hit]], weights: Mapping[str, float], k: int, fusion: Fusion, constant: float
) -> list[Hit]:
    """Order the documents of several rankings by the weighted sum of what each ranking gives them.

    Args:
        rankings: Hits by the name of their ranking, the best first; a document is known by its id, and counts once in
            a ranking, where it stands first.
        weights: What each ranking weighs.
        k: How many hits at the most.
        fusion: What a ranking gives, see `HybridRetriever`.
        constant: What is added to a rank under ``"rrf"``.

    Returns:
        The best k; equal sums in the order in which the rankings named them. `Hit.why` holds the sum, and score and
        rank in each ranking.
    """
    first: dict[str, Hit] = {}
    total: dict[str, float] = {}
    why: dict[str, dict[str, object]] = {}
    for name, hits in rankings.items():
        shares = _shares(hits, fusion, constant)
        for place, hit in enumerate(hits):
            first.setdefault(hit.id, hit)
            if name in why.setdefault(hit.id, {}):
                continue
            total[hit.id] = total.get(hit.id, 0.0) + weights[name] * float(shares[place])
            why[hit.id] |= {name: hit.score, f"{name}_rank": place + 1}
    order = sorted(first, key=lambda own: -round(total[own], _DECIMALS))[:k]
    return ranked(
        (first[own], round(total[own], _DECIMALS), {**why[own], fusion: round(total[own], _DECIMALS)}) for own in order
    )


def _shares(hits: Sequence[Hit], fusion: Fusion, constant: float) -> NDArray[np.float64]:
    """What a ranking gives each of its hits, 0 or more; a document that it does not name gets 0."""
    scores = np.array([hit.score for hit in hits], dtype=np.float64).round(_SEEN)
    if fusion == "rrf":
        return np.asarray(1 / (constant + np.arange(1, len(hits) + 1)), dtype=np.float64)
    if not len(hits):
        return scores
    if fusion == "dist":
        return _spread(scores, scores.mean() - 3 * scores.std(), scores.mean() + 3 * scores.std())
    if fusion == "minmax":
        return _spread(scores, scores.min(), scores.max())
    deviation = scores.std()
    return (scores - scores.min()) / deviation if deviation else np.ones(len(scores))


def _spread(scores: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((scores - low) / (high - low), 0, 1) if high > low else np.ones(len(scores))
