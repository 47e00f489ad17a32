"""Training rows for retrievers: queries with relevant passages and negatives, or with scored passages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ragkit.errors import EmptyPoolError, InvalidInputError


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A query with a relevant passage.

    Attributes:
        query: The query.
        passage: A relevant passage (the positive).
        negatives: Passages that are not relevant; hard negatives are more informative than the passages of other
            queries, see `mine_hard_negatives`.
    """

    query: str
    passage: str
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoredPassages:
    """A query with passages and the scores of a teacher.

    Attributes:
        query: The query.
        passages: At least two passages.
        scores: One score per passage, where higher is better; for an answer model, the log-likelihood of the correct
            answer, in nats.
    """

    query: str
    passages: tuple[str, ...]
    scores: tuple[float, ...]


def checked_pairs(pairs: Sequence[TrainingPair | tuple[str, str]], *, least_negatives: int = 0) -> list[TrainingPair]:
    """Convert pairs to records, and check that they are texts with the same number of negatives."""
    made = [_pair(pair, place) for place, pair in enumerate(pairs)]
    if not made:
        raise EmptyPoolError("retriever training")
    counts = {len(pair.negatives) for pair in made}
    if len(counts) > 1:
        raise InvalidInputError(
            f"all pairs must have the same number of negatives, got from {min(counts)} to {max(counts)}; "
            "mine_hard_negatives gives pairs that do"
        )
    if min(counts) < least_negatives:
        raise InvalidInputError(
            f"each pair needs at least {least_negatives} negative, got {min(counts)}; mine_hard_negatives finds them"
        )
    return made


def _pair(given: Any, place: int) -> TrainingPair:
    pair = TrainingPair(*given) if isinstance(given, tuple) and len(given) == 2 else given
    if not isinstance(pair, TrainingPair):
        raise InvalidInputError(
            f"`pairs[{place}]` must be a TrainingPair or a tuple of query and passage, got {type(pair).__name__}"
        )
    negatives: Any = pair.negatives
    if isinstance(negatives, str):
        raise InvalidInputError(f"`pairs[{place}].negatives` must be a tuple of texts, got one text")
    texts: tuple[Any, ...] = (pair.query, pair.passage, *negatives)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InvalidInputError(f"`pairs[{place}]` must hold texts that are not empty, got {text!r}")
    if pair.passage in pair.negatives:
        raise InvalidInputError(f"`pairs[{place}]` names its passage among its negatives: {pair.passage[:60]!r}")
    return pair


def checked_scored(rows: Sequence[ScoredPassages]) -> list[ScoredPassages]:
    """Check that all rows have the same number of passages, at least two, with finite scores."""
    made = list(rows)
    if not made:
        raise EmptyPoolError("retriever training")
    for place, row in enumerate(made):
        if not isinstance(row, ScoredPassages):
            raise InvalidInputError(f"`rows[{place}]` must be ScoredPassages, got {type(row).__name__}")
        if len(row.passages) < 2 or len(row.passages) != len(made[0].passages):
            raise InvalidInputError(
                f"`rows[{place}]` has {len(row.passages)} passages; each needs at least 2 and as many as the first, "
                f"which has {len(made[0].passages)}"
            )
        if len(row.scores) != len(row.passages) or not all(map(math.isfinite, row.scores)):
            raise InvalidInputError(f"`rows[{place}].scores` must be {len(row.passages)} finite numbers")
    return made
