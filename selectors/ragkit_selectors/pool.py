"""What all selectors over a fixed pool share: reading the pool, checking the question, building the answer."""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ragkit.errors import EmptyPoolError, InvalidInputError, SmallPoolWarning
from ragkit.records import Example, Fields, Hit, Selection, field_text
from ragkit_selectors.ranking import Ranked
from ragkit_selectors.reading import read_example


class PoolSelector(ABC):
    """Chooses from a pool that is given once; a subclass says how rows are ranked.

    Attributes:
        key: The part of an input that is searched.
    """

    def __init__(self, examples: Sequence[Example | Mapping[str, object]], *, key: str = "input") -> None:
        """Read the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``; their other entries become metadata.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.

        Raises:
            EmptyPoolError: If there is no example.
            InvalidInputError: If an example cannot be read, or two have the same id.
        """
        self.key = key
        self._examples = tuple(read_example(example, place) for place, example in enumerate(examples))
        if not self._examples:
            raise EmptyPoolError(type(self).__name__)
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._texts: list[str] = []
        for place, example in enumerate(self._examples):
            name = str(place) if example.id is None else example.id
            if name in self._rows:
                raise InvalidInputError(
                    f"ids must be unique, but examples[{self._rows[name]}] and examples[{place}] both have id {name!r} "
                    "(an example without an id is called by its position)"
                )
            try:
                text = example.text(key)
            except InvalidInputError as error:
                raise InvalidInputError(f"examples[{place}]: {error}") from error
            self._rows[name] = place
            self._ids.append(name)
            self._texts.append(text)

    def __len__(self) -> int:
        return len(self._examples)

    def select(self, query: str | Fields, k: int = 8, *, exclude: Collection[str] = ()) -> Selection:
        """Choose the k best examples for a query.

        Args:
            query: A text, or the fields of an input, of which ``key`` is searched.
            k: How many, 0 or more; a `SmallPoolWarning` is given where there are fewer.
            exclude: Ids that may not be chosen; those in the pool are listed in `Selection.dropped`.

        Returns:
            The examples, best first; equal scores in the order of the pool.
        """
        return self._choose([query], k, exclude)[0]

    def select_many(
        self, queries: Sequence[str | Fields], k: int = 8, *, exclude: Collection[str] = ()
    ) -> list[Selection]:
        """Do what `select` does for each of several queries.

        Args:
            queries: Texts or the fields of inputs.
            k: How many for each, 0 or more.
            exclude: Ids that may not be chosen for any of them.

        Returns:
            One selection for each query.

        Raises:
            InvalidInputError: If ``queries`` is a single query.
        """
        if isinstance(queries, (str, Mapping)):
            raise InvalidInputError("`queries` must be a sequence of queries, got a single one; use `select` for it")
        return self._choose(queries, k, exclude)

    async def aselect(self, query: str | Fields, k: int = 8, *, exclude: Collection[str] = ()) -> Selection:
        """Do what `select` does in another thread, without blocking the event loop.

        Args:
            query: A text or the fields of an input.
            k: How many, 0 or more.
            exclude: Ids that may not be chosen.

        Returns:
            The examples, best first.
        """
        return await asyncio.to_thread(self.select, query, k, exclude=exclude)

    @abstractmethod
    def _ranked(self, texts: Sequence[str], k: int, skipped: NDArray[np.intp]) -> list[Ranked]:
        """Rank rows for each text: ``k`` of them, 1 … n - len(skipped), none of them in ``skipped`` (ascending)."""

    def _why(self, text: str, row: int, score: float) -> Mapping[str, object]:  # noqa: ARG002 - for subclasses
        """Explain one chosen row."""  # noqa: DOC201
        return {}

    def _choose(self, queries: Sequence[str | Fields], k: int, exclude: Collection[str]) -> list[Selection]:
        if type(k) is not int or k < 0:
            raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
        if isinstance(exclude, str) or not all(isinstance(name, str) for name in exclude):
            raise InvalidInputError(f"`exclude` must be a collection of ids, which are strings; got {exclude!r}")
        texts = [query if isinstance(query, str) else field_text(query, self.key) for query in queries]
        skipped = np.array(sorted({self._rows[name] for name in exclude if name in self._rows}), dtype=np.intp)
        available = len(self) - len(skipped)
        if k > available:
            warnings.warn(
                f"{k} examples were asked for, the pool has {len(self)}"
                f"{f', {len(skipped)} of them excluded' if len(skipped) else ''}; {available} are given",
                SmallPoolWarning,
                stacklevel=3,
            )
        dropped = tuple((self._ids[row], "excluded") for row in skipped)
        if not min(k, available):
            return [Selection(dropped=dropped) for _ in texts]
        ranked = self._ranked(texts, min(k, available), skipped)
        return [self._selection(text, found, dropped) for text, found in zip(texts, ranked, strict=True)]

    def _selection(self, text: str, found: Ranked, dropped: tuple[tuple[str, str], ...]) -> Selection:
        pairs = list(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
        hits = tuple(
            Hit(
                id=self._ids[row],
                score=score,
                rank=rank,
                text=self._texts[row],
                metadata=self._examples[row].metadata,
                why=self._why(text, row, score),
            )
            for rank, (row, score) in enumerate(pairs, start=1)
        )
        return Selection(examples=tuple(self._examples[row] for row, _ in pairs), hits=hits, dropped=dropped)
