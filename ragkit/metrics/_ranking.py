"""A metric for answers that are ranked lists: nDCG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from ragkit._text import composed
from ragkit.errors import InvalidInputError
from ragkit.records import Example


@dataclass(frozen=True, slots=True)
class RankedLines:
    """Normalised discounted cumulative gain of an answer that lists items, one per line, the best first.

    The lines of the expected text are the relevant items, all equally relevant. Repeated lines count once. nDCG is a
    mean over the rows, so it is compared like every other metric of single rows.

    Attributes:
        k: Number of lines of the answer that count.
    """

    k: int = 10

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InvalidInputError(f"`k` must be at least 1, got {self.k}")

    @property
    def name(self) -> str:
        """The spec that loads the same metric."""
        return f"ndcg:{self.k}"

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Return nDCG from 0 to 1 for each answer.

        Raises:
            InvalidInputError: If the expected text of a row has no lines.
        """
        return [
            self._ndcg(_lines(answer), _lines(row.output), place)
            for place, (answer, row) in enumerate(zip(answers, rows, strict=True))
        ]

    def _ndcg(self, ranking: Sequence[str], relevant: Sequence[str], place: int) -> float:
        if not relevant:
            raise InvalidInputError(f"the output of rows[{place}] must list the relevant items, one per line")
        wanted = set(relevant)
        gain = sum(1 / log2(rank + 2) for rank, item in enumerate(ranking[: self.k]) if item in wanted)
        return min(1.0, gain / sum(1 / log2(rank + 2) for rank in range(min(self.k, len(wanted)))))


def _lines(text: str) -> list[str]:
    """Return the distinct lines in their order, without outer and repeated white space."""
    lines = (" ".join(line.split()) for line in composed(text).splitlines())
    return list(dict.fromkeys(line for line in lines if line))
