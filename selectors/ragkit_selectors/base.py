"""Base classes of all selectors: their methods, the validation of arguments, and pipelines of stages."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ragkit._call_site import warn_caller
from ragkit._observation import observed
from ragkit._text import words
from ragkit.errors import EmptyPoolError, InvalidInputError, SmallPoolWarning
from ragkit.records import Fields, Selection, field_text
from ragkit_selectors.lazy_hits import Hits
from ragkit_selectors.pool import AnyExample, Pool
from ragkit_selectors.stages.base import SelectionContext, Stage, Upstream

if TYPE_CHECKING:
    from pathlib import Path

    from ragkit.protocols import Embedder
    from ragkit_selectors.candidates import Candidates
    from ragkit_selectors.langchain import LangChainSelector
    from ragkit_selectors.report import SelectorReport

Where = Mapping[str, object]
_MOST_RANKED = 1_000_000  # candidates, over all queries, that are ranked before the stages process them


class BaseSelector(ABC):
    """A selector, which ranks a pool, followed by stages; ``selector | stage`` appends a stage.

    Several threads may select at the same time, but not while another thread changes the pool.

    Attributes:
        source: The selector that ranks the pool.
        stages: The stages that process the ranking, in order.
    """

    source: PoolSelector
    stages: tuple[Stage, ...]

    def __len__(self) -> int:
        return len(self.source.pool)

    def __or__(self, stage: Stage) -> Pipeline:
        return Pipeline(self.source, (*self.stages, stage))

    def select(
        self, query: str | Fields, k: int = 8, *, where: Where | None = None, exclude: Collection[str] = ()
    ) -> Selection:
        """Select the k best examples for a query.

        Args:
            query: A text, or the fields of an input, of which ``key`` is searched.
            k: Number of examples, 0 or more; if fewer are available, a `SmallPoolWarning` is issued.
            where: A filter on metadata, such as ``{"lang": "en"}``; see `ragkit.where`.
            exclude: Ids of examples to exclude; those in the pool are listed in `Selection.dropped`.

        Returns:
            The examples, best first; equal scores are in the order of the pool.
        """
        return observed("selector", self, [query], lambda: self._select([query], k, where, exclude))[0]

    def select_many(
        self, queries: Sequence[str | Fields], k: int = 8, *, where: Where | None = None, exclude: Collection[str] = ()
    ) -> list[Selection]:
        """Select examples for each of several queries, with the arguments of `select`."""
        if isinstance(queries, (str, Mapping)):
            raise InvalidInputError("`queries` must be a sequence of queries, got a single one; use `select` for it")
        listed = list(queries)
        return observed("selector", self, listed, lambda: self._select(listed, k, where, exclude))

    async def aselect(
        self, query: str | Fields, k: int = 8, *, where: Where | None = None, exclude: Collection[str] = ()
    ) -> Selection:
        """Select examples as `select` does, in another thread, without blocking the event loop."""
        return await asyncio.to_thread(self.select, query, k, where=where, exclude=exclude)

    def add(self, examples: Sequence[AnyExample]) -> list[str]:
        """Add examples at the end of the pool and return their ids; after an error, none are added."""
        return self.source.pool.add(examples)

    def remove(self, ids: Collection[str]) -> int:
        """Remove examples; the others keep their order, and selections are those of a pool that never contained them.

        Returns:
            The number of removed examples; ids that are not in the pool are ignored.

        Raises:
            InvalidInputError: If ``ids`` is a string, or all examples would be removed.
        """
        pool, ids = self.source.pool, _checked_ids("ids", ids)
        if len({name for name in ids if pool.row(name) is not None}) == len(pool):
            raise InvalidInputError("every example would be removed; a selector needs one at least")
        return pool.remove(ids)

    def save(self, path: str | Path) -> None:
        """Save the selector to a folder, from which `load` restores it; a crash leaves the old content intact.

        Args:
            path: A new folder, an empty folder, or a folder with a saved selector.
        """
        from ragkit_selectors.persistence import save

        save(self, path)

    @classmethod
    def load(cls, path: str | Path, *, embedder: str | Embedder | None = None) -> Self:
        """Load a selector that `save` wrote.

        Args:
            path: The folder.
            embedder: Required only if the pool was embedded by a custom embedder that is not registered.

        Returns:
            The selector.

        Raises:
            InvalidInputError: If the folder contains another kind of selector.
        """
        from ragkit_selectors.persistence import load

        loaded = load(path, PoolSelector, embedder=embedder)
        if not isinstance(loaded, cls):
            raise InvalidInputError(f"{path} holds a {type(loaded).__name__}, not a {cls.__name__}")
        return loaded

    def as_langchain(self, *, k: int = 8, input_key: str | None = None) -> LangChainSelector:
        """Return this selector as LangChain's ``BaseExampleSelector``, on the same pool.

        Args:
            k: Number of examples; the most similar one is last unless a stage orders them.
            input_key: The input variable that is searched; the ``key`` of the selector if None.

        Returns:
            The adapter; it returns the original mappings from which the pool was built.
        """
        from ragkit_selectors.langchain import LangChainSelector

        return LangChainSelector(selector=self, k=k, input_key=input_key or self.source.pool.key)

    def report(self, dev: Sequence[AnyExample], *, k: int = 8) -> SelectorReport:
        """Evaluate the selector without a language model, on rows that are not in the pool."""
        from ragkit_selectors.report import report

        return report(self, dev, k=k)

    def _select(
        self, queries: Sequence[str | Fields], k: int, where: Where | None, exclude: Collection[str]
    ) -> list[Selection]:
        if type(k) is not int or k < 0:
            raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
        source, pool, exclude = self.source, self.source.pool, _checked_ids("exclude", exclude)
        texts = [query if isinstance(query, str) else field_text(query, pool.key) for query in queries]
        excluded = pool.excluded(where, exclude)
        available = len(pool) if excluded is None else len(excluded) - int(np.count_nonzero(excluded))
        named = sorted({row for name in exclude if (row := pool.row(name)) is not None})
        if k > available:
            because = f", {len(named)} of them excluded" if named else ""
            because += ", filtered by `where`" if where is not None else ""
            message = f"{k} examples were requested, but the pool has {len(pool)}{because}; {available} are returned"
            warn_caller(SmallPoolWarning(message))
        dropped = tuple((pool[row].id, "excluded") for row in named)
        need = min(k, available)
        if not need or not texts:
            return [Selection(dropped=dropped) for _ in texts]
        first = need
        for stage in reversed(self.stages):
            first = stage.fetch(first)
        first = min(first, available)
        step = max(1, _MOST_RANKED // first)
        parts = (texts[start : start + step] for start in range(0, len(texts), step))
        ranked = chain.from_iterable(source._best(part, first, excluded) for part in parts)
        contexts = (
            SelectionContext(query, text, source, excluded, found, exhausted=len(found) < first or first == available)
            for query, text, found in zip(queries, texts, ranked, strict=True)
        )
        return [self._apply_stages(context, need, dropped) for context in contexts]

    def _apply_stages(self, context: SelectionContext, need: int, dropped: tuple[tuple[str, str], ...]) -> Selection:
        upstream: Upstream = context.best
        for stage in self.stages:
            upstream = partial(stage.take, context, upstream)
        chosen = upstream(need)
        source, pool = context.source, context.source.pool
        entries = [pool[row] for row in chosen.rows.tolist()]
        if context.dropped:
            used = set(chosen.rows.tolist())  # a stage may drop a row that a later stage brings back
            dropped += tuple((pool[row].id, why) for row, why in context.dropped.items() if row not in used)
        return Selection(
            examples=tuple([entry.example for entry in entries]),
            hits=Hits(source, context.text, entries, chosen, context.ranks or range(1, len(entries) + 1)),
            dropped=dropped,
            tokens=context.tokens,
            ordered=context.ordered,
        )


class PoolSelector(BaseSelector):
    """Base class of selectors that rank a pool by similarity to a query, which subclasses define.

    Attributes:
        gives_cosines: Whether the scores are cosines of embeddings.
    """

    gives_cosines: ClassVar[bool] = False

    def __init__(self, examples: Sequence[AnyExample] | Pool, *, key: str = "input", output: str = "output") -> None:
        """Read the pool.

        Args:
            examples: Examples, or mappings with ``input`` and ``output``; other entries become metadata. Mappings may
                have other entries instead: ``key`` then names the searched entry and ``output`` the answer.
            key: ``"input"`` to search whole inputs, or the name of one of their fields.
            output: The entry of a mapping that contains the answer.

        Raises:
            EmptyPoolError: If there are no examples.
        """
        self.pool = examples if isinstance(examples, Pool) else Pool(examples, key=key, output=output)
        if not len(self.pool):
            raise EmptyPoolError(type(self).__name__)
        self.source, self.stages = self, ()

    @property
    def key(self) -> str:
        """The part of an input that is searched."""
        return self.pool.key

    @abstractmethod
    def _best(self, texts: Sequence[str], n: int, excluded: NDArray[np.bool_] | None) -> list[Candidates]:
        """Return the ``n`` best rows for each text that are not ``excluded``, or all of them if there are fewer."""

    @abstractmethod
    def _config(self) -> dict[str, object]:
        """Return the arguments of the constructor except the pool, as values that JSON can represent."""

    def _embedded(self) -> tuple[Embedder, NDArray[np.float32]] | None:
        """Return the embedder and its vectors of the pool if the selector has them; they are saved with it."""
        return None

    def _why(self, text: str, example: str, score: float) -> dict[str, object]:  # noqa: ARG002 - for subclasses
        """Return the components of a score."""
        return {}

    def _vectors(self, text: str, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return vectors of the query and of some rows in one space, f64[d] and f64[m, d], of length 1 or 0."""
        from ragkit._lexical.tfidf import tfidf_vectors

        vectors = tfidf_vectors(self.pool.postings(words), [text, *(self.pool[row].text for row in rows.tolist())])
        return vectors[0], vectors[1:]


class Pipeline(BaseSelector):
    """A selector followed by stages, created by ``selector | stage``."""

    def __init__(self, source: PoolSelector, stages: tuple[Stage, ...]) -> None:
        """Combine a selector with stages.

        Raises:
            InvalidInputError: If an object is not a stage, or the order of the stages is not allowed.
        """
        from ragkit_selectors.stages.prompt_order import Order, Pinned

        for stage in stages:
            if not isinstance(stage, Stage):
                raise InvalidInputError(f"a selector can only be followed by stages, got {type(stage).__name__}")
        late = [(isinstance(stage, Pinned) + 2 * isinstance(stage, Order), stage) for stage in stages]
        for (first, stage), (second, after) in pairwise(late):
            if first and second <= first:
                raise InvalidInputError(
                    f"only `Order` may follow `Pinned`, and nothing may follow `Order`; got {after!r} after {stage!r}"
                )
        self.source, self.stages = source, stages

    @override
    def __repr__(self) -> str:
        return " | ".join([type(self.source).__name__, *map(repr, self.stages)])


def _checked_ids(name: str, ids: Iterable[str]) -> list[str]:
    read = [] if isinstance(ids, str) else list(ids)  # an iterator can be consumed only once
    if isinstance(ids, str) or not all(isinstance(one, str) for one in read):
        raise InvalidInputError(f"`{name}` must be a collection of ids, which are strings; got {ids!r}")
    return read
