"""The interface between a selector and its stages: each stage requests the best candidates from the previous one.

A stage is called with ``upstream``, a function that returns the n best candidates of the previous stage or selector, or
all of them if there are fewer. A stage that drops candidates can therefore request more, and stages can be combined in
any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit.records import Example, Fields
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.pool import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ragkit_selectors.base import PoolSelector

Upstream = Callable[[int], Candidates]


@dataclass(slots=True)
class SelectionContext:
    """The state of one query while the stages process it.

    Attributes:
        query: The original query.
        text: The part of the query that is searched.
        source: The selector that ranked the pool.
        excluded: bool[n], rows that must not be selected; None if all may be.
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
    excluded: NDArray[np.bool_] | None
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
            (self.found,) = self.source._best([self.text], n, self.excluded)
            self.exhausted = len(self.found) < n
        return self.found if n >= len(self.found) else self.found.take(slice(0, n))

    def entry(self, row: int) -> Entry:
        """Return an example with its id and searched text."""
        return self.source.pool[row]

    def examples(self, candidates: Candidates) -> list[Example]:
        """Return the examples of some candidates, in the same order."""
        return [self.entry(row).example for row in candidates.rows.tolist()]


class FetchingStage:
    """Base class of stages that select from ``fetch_k`` candidates, or from n if that is more."""

    __slots__ = ()
    fetch_k: int

    def __post_init__(self) -> None:
        if type(self.fetch_k) is not int or self.fetch_k < 1:
            raise InvalidInputError(f"`fetch_k` must be a whole number of at least 1, got {self.fetch_k!r}")

    def fetch(self, n: int) -> int:
        """Return at least `fetch_k`."""
        return max(n, self.fetch_k)


@runtime_checkable
class Stage(Protocol):
    """A step that selects, drops or orders candidates."""

    def fetch(self, n: int) -> int:
        """Return the number of candidates that the stage requests first in order to return n."""
        ...

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Return n candidates, or fewer if no more candidates pass."""
        ...
