"""An example selector of LangChain's as a `Selector` of ragkit."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn

from langchain_core.example_selectors import BaseExampleSelector

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.records import Example, Fields, Hit, Selection, field_text


def as_selector(
    selector: BaseExampleSelector, *, input_key: str = "input", output_key: str = "output"
) -> SelectorOfLangChain:
    """An example selector of LangChain's for ragkit's pipelines.

    Args:
        selector: The selector. It says itself how many examples it gives; of more than asked for the first are taken.
        input_key: The entry of an example that is its input, and the variable that a query is asked by.
        output_key: The entry that holds the answer.

    Returns:
        A `Selector`; it cannot filter, remove or save, for LangChain's cannot.

    Raises:
        InvalidInputError: If it is no example selector.
    """
    if not isinstance(selector, BaseExampleSelector):
        raise InvalidInputError(f"`selector` must be a LangChain example selector, got {type(selector).__name__}")
    return SelectorOfLangChain(selector, input_key, output_key)


class SelectorOfLangChain:
    """A LangChain example selector with ragkit's verbs; `as_selector` makes one.

    Attributes:
        selector: The selector.
        input_key: The entry of an example that is its input.
        output_key: The entry that holds the answer.
    """

    def __init__(self, selector: BaseExampleSelector, input_key: str, output_key: str) -> None:
        """Use `as_selector`."""
        self.selector, self.input_key, self.output_key = selector, input_key, output_key

    def __bool__(self) -> bool:
        return True  # not by `len`, which most of LangChain's cannot tell

    def __len__(self) -> int:
        examples = getattr(self.selector, "examples", None)
        if examples is None:
            raise UnsupportedError(f"{type(self.selector).__name__} does not tell how many examples it has")
        return len(examples)

    def select(
        self,
        query: str | Fields,
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> Selection:
        """Choose at most k examples, the first that the selector gives.

        Args:
            query: A text, or the fields of an input.
            k: How many at the most.
            where: Not supported.
            exclude: Ids that are left out.

        Returns:
            The examples; a score is one over the rank, for LangChain gives none.
        """
        self._check(k, where, exclude)
        return self._selection(self.selector.select_examples(self._variables(query)), k, exclude)

    def select_many(
        self,
        queries: Sequence[str | Fields],
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> list[Selection]:
        """Do the same for each query."""
        return [self.select(query, k, where=where, exclude=exclude) for query in queries]

    async def aselect(
        self,
        query: str | Fields,
        k: int = 8,
        *,
        where: Mapping[str, object] | None = None,
        exclude: Collection[str] = (),
    ) -> Selection:
        """`select` in the selector's own async way."""
        self._check(k, where, exclude)
        return self._selection(await self.selector.aselect_examples(self._variables(query)), k, exclude)

    def add(self, examples: Sequence[Example]) -> list[str]:
        """Add examples and give their ids."""
        given = [self._mapping(example) for example in examples]
        for one in given:
            self.selector.add_example(one)  # type: ignore[arg-type] # LangChain's stores take any values
        return [_name(one) for one in given]

    def remove(self, ids: Collection[str]) -> NoReturn:
        """Not supported."""
        raise UnsupportedError(f"LangChain's selectors cannot remove examples; {len(ids)} stay")

    def save(self, path: str | Path) -> NoReturn:
        """Not supported."""
        raise UnsupportedError(f"LangChain's selectors cannot be saved to {path}; save what they were made of")

    def _mapping(self, example: Example) -> dict[str, object]:
        fields = {self.input_key: example.input} if isinstance(example.input, str) else example.input
        field_text(fields, self.input_key)  # an example without it could not be read back
        return {**(example.metadata or {}), **fields, self.output_key: example.output}

    def _check(self, k: int, where: Mapping[str, object] | None, exclude: Collection[str]) -> None:
        if type(k) is not int or k < 0:
            raise InvalidInputError(f"`k` must be a whole number, 0 or more; got {k!r}")
        if where is not None:
            raise UnsupportedError("LangChain's selectors take no filter; leave `where` out or use ragkit's selectors")
        if isinstance(exclude, str):
            raise InvalidInputError(f"`exclude` must be a collection of ids, got one string, {exclude!r}")

    def _variables(self, query: str | Fields) -> dict[str, str]:
        return {self.input_key: query} if isinstance(query, str) else dict(query)

    def _selection(self, given: Sequence[Mapping[str, Any]], k: int, exclude: Collection[str]) -> Selection:
        named = [(_name(one), one) for one in given]
        kept = [(name, self._example(name, one)) for name, one in named if name not in exclude][:k]
        hits = tuple(
            Hit(id=name, score=1 / rank, rank=rank, text=example.text(), metadata=example.metadata)
            for rank, (name, example) in enumerate(kept, 1)
        )
        dropped = tuple((name, "excluded") for name, _ in named if name in exclude)
        return Selection(examples=tuple(example for _, example in kept), hits=hits, dropped=dropped)

    def _example(self, name: str, given: Mapping[str, Any]) -> Example:
        output = given.get(self.output_key)
        if not isinstance(output, str):
            raise InvalidInputError(f"an example must have {self.output_key!r}, a text; its entries: {sorted(given)}")
        rest = {key: value for key, value in given.items() if key not in {self.input_key, self.output_key}}
        return Example(field_text(given, self.input_key), output, id=name, metadata=rest or None)


def _name(given: Mapping[str, Any]) -> str:
    """An id made of the content, for LangChain's examples have none."""
    return blake2b(json.dumps(given, sort_keys=True, default=repr).encode(), digest_size=8).hexdigest()
