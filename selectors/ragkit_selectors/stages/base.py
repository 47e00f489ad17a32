"""The contract between a selector and the stages behind it: each asks the one before for its best candidates.

A stage is called with ``before``, a function that gives the n best candidates of what stands before it, fewer only
where there are no more. So a stage that drops candidates asks again for more, and stages fit in any order.
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
    """One query on its way through the stages.

    Attributes:
        query: What was asked, as it was given.
        text: The part of it that is searched.
        source: The selector that ranked the pool.
        barred: bool[n], rows that may not be chosen; None where all may.
        found: The candidates that the source has given so far.
        exhausted: Whether there are no more.
        dropped: Rows that a stage left out, with the reason.
        tokens: Tokens that the chosen examples take, once a stage has counted them.
        pinned: How many of the last candidates stand at the head of the prompt whatever is asked.
        ordered: Whether the candidates stand as they should in the prompt.
        ranks: The place of each candidate among the best, where they do.
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
        """The n best candidates of the source."""
        if n > len(self.found) and not self.exhausted:
            (self.found,) = self.source._best([self.text], n, self.barred)
            self.exhausted = len(self.found) < n
        return self.found if n >= len(self.found) else self.found.take(slice(0, n))

    def entry(self, row: int) -> Entry:
        """The entry of a row."""
        return self.source.pool[row]

    def examples(self, candidates: Candidates) -> list[Example]:
        """The examples of some candidates, in their order."""
        return [self.entry(row).example for row in candidates.rows.tolist()]


@runtime_checkable
class Stage(Protocol):
    """Chooses among candidates, drops some or orders them."""

    def fetch(self, n: int) -> int:
        """How many candidates it will want at first, to give n of them."""
        ...

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Give n candidates, fewer only where there are no more that it lets through."""
        ...
