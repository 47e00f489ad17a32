"""The interface between a selector and its stages: each stage requests the best candidates from the previous one.

A stage is called with ``before``, a function that returns the n best candidates of the previous stage or selector, or
all of them if there are fewer. A stage that drops candidates can therefore request more, and stages can be combined in
any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ragkit.records import Example, Fields
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.pool import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ragkit_selectors.base import PoolSelector

Before = Callable[[int], Candidates]


@dataclass(slots=True)
class Asked:
    """The state of one query while the stages process it.

    Attributes:
        query: The original query.
        text: The part of the query that is searched.
        source: The selector that ranked the pool.
        barred: bool[n], rows that must not be selected; None if all may be.
        found: The candidates that the source has returned so far.
        exhausted: Whether the source has no more candidates.
        dropped: Rows that a stage dropped, with the reason.
        tokens: Number of tokens of the selected examples; None until a stage has counted them.
        pinned: Number of candidates at the end that are pinned to the beginning of the prompt.
        ordered: Whether the candidates are in the order of the prompt.
        ranks: The rank of each candidate by score if they are in the order of the prompt.
    """

    query: str | Fields
    text: str
    source: PoolSelector
    barred: NDArray[np.bool_] | None
    found: Candidates
    exhausted: bool
    dropped: dict[int, str] = field(default_factory=dict)
    tokens: int | None = None
    pinned: int = 0
    ordered: bool = False
    ranks: Sequence[int] | None = None

    def best(self, n: int) -> Candidates:
        """Return the n best candidates of the source."""
        if n > len(self.found) and not self.exhausted:
            (self.found,) = self.source._best([self.text], n, self.barred)
            self.exhausted = len(self.found) < n
        return self.found if n >= len(self.found) else self.found.take(slice(0, n))

    def entry(self, row: int) -> Entry:
        """Return the entry of a row."""
        return self.source.pool[row]

    def examples(self, candidates: Candidates) -> list[Example]:
        """Return the examples of some candidates, in the same order."""
        return [self.entry(row).example for row in candidates.rows.tolist()]


@runtime_checkable
class Stage(Protocol):
    """A step that selects, drops or orders candidates."""

    def fetch(self, n: int) -> int:
        """Return the number of candidates that the stage requests first in order to return n."""
        ...

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Return n candidates, or fewer if no more candidates pass."""
        ...
