"""Selection of texts to label before any labels exist: vote-k and facility location."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

from ragkit._text import refuse_bare_string
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError
from ragkit.protocols import Embedder

_BLOCK = 512
_DECIMALS = 6  # cosines of float32 vectors are compared at 1e-6, as in the selectors


def vote_k(vectors: NDArray[np.floating], count: int, *, neighbours: int = 150, rho: float = 10.0) -> NDArray[np.intp]:
    """Select texts that are near many other texts and not yet covered by selected ones: vote-k (arXiv 2209.01975).

    Each text votes for its nearest neighbours by the cosine of mean-centred vectors. A vote counts ``rho**-s``, where s
    is the number of selected texts that the voter votes for; votes of selected texts do not count. The text with the
    highest sum of votes is selected next; ties go to the larger number of unweighted votes, then to the earlier text.

    Args:
        vectors: float[n, d].
        count: Number of texts to select, 0 to n.
        neighbours: Number of nearest neighbours that each text votes for; all others if there are fewer.
        rho: Discount for voters that are already covered by a selected text, above 1.

    Returns:
        intp[count], distinct indices in the order of selection.

    Raises:
        InvalidInputError: If an argument is out of range.
    """
    unit = _checked(vectors, count, centred=True)
    if type(neighbours) is not int or neighbours < 1 or not 1 < rho < float("inf"):
        raise InvalidInputError(f"`neighbours` must be 1 or more and `rho` above 1, got {neighbours!r} and {rho!r}")
    n = len(unit)
    near = _nearest(unit, max(0, min(neighbours, n - 1)))
    votes = np.bincount(near.ravel(), minlength=n)
    # The voters of text u are voters[starts[u] : starts[u + 1]].
    voters = np.repeat(np.arange(n), near.shape[1])[np.argsort(near.ravel(), kind="stable")]
    starts = np.concatenate([[0], np.cumsum(votes)])
    worth = np.ones(n)  # weight of the votes of each text
    scores, free = votes.astype(np.float64), np.ones(n, dtype=np.bool_)
    chosen = np.empty(count, dtype=np.intp)
    for turn in range(count):
        best = np.where(free, scores.round(9), -np.inf)
        leaders = np.flatnonzero(best == best.max())
        row = leaders[np.argmax(votes[leaders])]
        chosen[turn], free[row] = row, False
        for voter in {int(row), *voters[starts[row] : starts[row + 1]].tolist()}:
            less = 0.0 if voter == row or not free[voter] else worth[voter] / rho
            scores[near[voter]] -= worth[voter] - less
            worth[voter] = less
    return chosen


def facility_location(vectors: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Select texts that cover all texts: maximise the sum over texts of the cosine to the nearest selected text.

    The lazy greedy algorithm (Minoux, 1978) is used: the gain of a text can only shrink, so most gains need not be
    computed again.

    Args:
        vectors: float[n, d]; cosines below 0 count as 0.
        count: Number of texts to select, 0 to n.

    Returns:
        intp[count], distinct indices in the order of selection; ties go to the earlier text.
    """
    unit = _checked(vectors, count, centred=False)
    reached = np.zeros(len(unit))
    blocks = (unit[at : at + _BLOCK] @ unit.T for at in range(0, len(unit), _BLOCK))
    sums = [np.maximum(block, 0).round(_DECIMALS).sum(axis=1) for block in blocks]
    bounds = np.concatenate([np.zeros(0), *sums]).round(_DECIMALS)
    heap = [(-bound, row, 0) for row, bound in enumerate(bounds.tolist())]  # negative bound, row, turn of the bound
    heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, row, turn = heap[0]
        similarity = np.maximum(unit @ unit[row], 0).round(_DECIMALS)
        if turn == len(chosen):
            chosen.append(row)
            np.maximum(reached, similarity, out=reached)
            heapreplace(heap, (float("inf"), row, -1))
        else:
            gain = float(np.maximum(similarity - reached, 0).sum().round(_DECIMALS))
            heapreplace(heap, (-gain, row, len(chosen)))
    return np.array(chosen, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class VoteK:
    """Selects texts to label by `vote_k` on embeddings.

    Attributes:
        embedder: An embedder or its spec.
        neighbours: Number of nearest neighbours that each text votes for.
        rho: Discount for voters that are already covered by a selected text.

    Examples:
        >>> VoteK("hash:64", neighbours=2).choose(["dim the lamp", "dim a lamp", "dim the lamps", "play a song"], 1)
        [0]
    """

    embedder: str | Embedder = "minilm"
    neighbours: int = 150
    rho: float = 10.0

    def choose(self, texts: Sequence[str], count: int) -> list[int]:
        """Select ``count`` of the texts, and return their distinct indices in the order of selection."""
        vectors = _embedded(self.embedder, texts)
        return list(map(int, vote_k(vectors, count, neighbours=self.neighbours, rho=self.rho)))


@dataclass(frozen=True, slots=True)
class FacilityLocation:
    """Selects texts to label by `facility_location` on embeddings.

    Attributes:
        embedder: An embedder or its spec.
    """

    embedder: str | Embedder = "minilm"

    def choose(self, texts: Sequence[str], count: int) -> list[int]:
        """Select ``count`` of the texts, and return their distinct indices in the order of selection."""
        return list(map(int, facility_location(_embedded(self.embedder, texts), count)))


def _embedded(embedder: str | Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    refuse_bare_string("texts", texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(f"texts[{place}] must be text, got {type(text).__name__}")
    return load_embedder(embedder).embed_documents(texts)


def _checked(vectors: NDArray[np.floating], count: int, *, centred: bool) -> NDArray[np.float64]:
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InvalidInputError(f"`vectors` must be finite numbers of shape [n, d], got shape {vectors.shape}")
    if type(count) is not int or not 0 <= count <= len(vectors):
        raise InvalidInputError(f"`count` must be 0 to {len(vectors)}, the number of texts; got {count!r}")
    exact = vectors.astype(np.float64)
    if centred and len(exact):
        exact = exact - exact.mean(axis=0)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.where(lengths > 0, lengths, 1))


def _nearest(unit: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """Return the k nearest other rows of each row, intp[n, k]; ties are in the order of the rows."""
    n = len(unit)
    near = np.empty((n, k), dtype=np.intp)
    for at in range(0, n if k else 0, _BLOCK):
        similarity = (unit[at : at + _BLOCK] @ unit.T).round(_DECIMALS)
        own = np.arange(len(similarity))
        similarity[own, at + own] = -np.inf
        border = np.partition(similarity, n - k, axis=1)[:, n - k]
        for row, (values, least) in enumerate(zip(similarity, border, strict=True)):
            kept = np.flatnonzero(values >= least)
            near[at + row] = kept[np.argsort(-values[kept], kind="stable")[:k]]
    return near
