"""Stages for the order of the examples in the prompt, and for pinned examples at its beginning."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Literal

import numpy as np

from ragkit.errors import GroupedLabelsWarning, InvalidInputError
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.stages.base import SelectionContext, Upstream

_ORDERS = ("similar_last", "similar_first", "shuffled")
_ENOUGH_TO_GROUP = 6


@dataclass(frozen=True, slots=True)
class Order:
    """Puts the examples into the order of the prompt; must be the last stage.

    Issues a `GroupedLabelsWarning` if six or more examples are grouped by label, which reduces accuracy (banking77,
    1,500 examples: .881 shuffled, .327 grouped; arXiv 2405.00200).

    Attributes:
        order: ``"similar_last"`` (the most similar example is next to the query), ``"similar_first"`` or
            ``"shuffled"``.
        seed: Seed of the shuffle, which is the same for equal queries.
    """

    order: Literal["similar_last", "similar_first", "shuffled"] = "similar_last"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.order not in _ORDERS:
            raise InvalidInputError(f"`order` must be one of {_ORDERS}, got {self.order!r}")

    def fetch(self, n: int) -> int:
        """Return n."""
        return n

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Return n candidates in the order of the prompt."""
        found = upstream(n)
        free = list(range(len(found) - context.pinned))
        pinned = list(range(len(found) - 1, len(free) - 1, -1))
        if self.order == "similar_last":
            free.reverse()
        elif self.order == "shuffled":
            Random(f"{self.seed}:{context.text}".encode("utf-8", "surrogatepass")).shuffle(free)
        places = pinned + free
        context.ordered = True
        context.ranks = [place + 1 for place in places]
        shown = found.take(np.array(places, dtype=np.intp))
        self._warn_of_groups([example.output for example in context.examples(shown)])
        return shown

    @staticmethod
    def _warn_of_groups(labels: list[str]) -> None:
        groups, different = len(list(groupby(labels))), len(set(labels))
        if len(labels) >= _ENOUGH_TO_GROUP and 1 < different == groups < len(labels):
            warnings.warn(
                f"the {len(labels)} examples stand grouped by their {different} labels, which costs accuracy; use "
                'Order("shuffled") or LabelNearest()',
                GroupedLabelsWarning,
                stacklevel=2,
            )


@dataclass(frozen=True, slots=True)
class Pinned:
    """Puts fixed examples at the beginning of every prompt, where a prompt cache can reuse them.

    The remaining examples, up to k, are selected for each query.

    Attributes:
        ids: The ids of the pinned examples, in the order of the prompt.
    """

    ids: tuple[str, ...]

    def __init__(self, ids: tuple[str, ...] | list[str]) -> None:
        if len(set(ids)) < len(ids) or isinstance(ids, str):  # type: ignore[unreachable]
            raise InvalidInputError(f"`ids` must be different ids, which are strings; got {ids!r}")
        object.__setattr__(self, "ids", tuple(ids))

    def fetch(self, n: int) -> int:
        """Return n plus the number of pinned examples, which may be among the candidates."""
        return n + len(self.ids)

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Return the pinned examples together with the best other candidates, n in total."""
        rows: list[int] = []
        for name in self.ids:
            row = context.source.pool.row(name)
            if row is None:
                raise InvalidInputError(f"pinned example {name!r} is not in the pool; pin another one or add it")
            if context.excluded is None or not context.excluded[row]:
                rows.append(row)
        rows = rows[:n]
        found = upstream(n + len(self.ids))
        found = found.take(np.flatnonzero(~np.isin(found.rows, rows))[: n - len(rows)])
        context.pinned = len(rows)
        backwards = np.array(rows[::-1], dtype=np.intp)  # selections are best first, prompts are best last
        nothing, unknown = np.zeros(len(rows)), np.full(len(rows), np.nan)
        return Candidates(
            np.concatenate([found.rows, backwards]),
            np.concatenate([found.scores, nothing]),
            {
                **{name: np.concatenate([values, unknown]) for name, values in found.parts.items()},
                "pinned": np.concatenate([np.zeros(len(found)), np.ones(len(rows))]),
            },
        )
