"""Use a LangChain example selector as a ragkit `Selector`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NoReturn

from langchain_core.example_selectors import BaseExampleSelector

from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.records import Example, Fields, Hit, Selection, field_text

Where = Mapping[str, object]


def as_selector(
    selector: BaseExampleSelector, *, input_key: str = "input", output_key: str = "output"
) -> SelectorOfLangChain:
    """Wrap a LangChain example selector for ragkit's pipelines.

    Args:
        selector: The selector. Its own settings determine how many examples it returns, of which the first k are used.
        input_key: The field of an example that contains its input, and the name of the query variable.
        output_key: The field of an example that contains the answer.

    Returns:
        A `Selector` without filters, removal and saving, which LangChain's selectors do not support.

    Raises:
        InvalidInputError: If it is not an example selector.
    """
    if not isinstance(selector, BaseExampleSelector):
        raise InvalidInputError(f"`selector` must be a LangChain example selector, got {type(selector).__name__}")
    return SelectorOfLangChain(selector, input_key, output_key)


class SelectorOfLangChain:
    """A `Selector` that calls a LangChain example selector; created by `as_selector`.

    Attributes:
        selector: The LangChain selector.
        input_key: The field of an example that contains its input.
        output_key: The field of an example that contains the answer.
    """

    def __init__(self, selector: BaseExampleSelector, input_key: str, output_key: str) -> None:
        """Use `as_selector`."""
        self.selector, self.input_key, self.output_key = selector, input_key, output_key

    def __bool__(self) -> bool:
        return True  # does not depend on `len`, which most LangChain selectors do not support

    def __len__(self) -> int:
        examples = getattr(self.selector, "examples", None)
        if examples is None:
            raise UnsupportedError(f"{type(self.selector).__name__} does not report its number of examples")
        return len(examples)

    def select(
        self, query: str | Fields, k: int = 8, *, where: Where | None = None, exclude: Collection[str] = ()
    ) -> Selection:
        """Return the first k examples that the LangChain selector selects, with reciprocal ranks as scores."""
        self._check(k, where, exclude)
        return self._selection(self.selector.select_examples(self._variables(query)), k, exclude)

    def select_many(
        self, queries: Sequence[str | Fields], k: int = 8, *, where: Where | None = None, exclude: Collection[str] = ()
    ) -> list[Selection]:
        """Select examples for each query."""
        return [self.select(query, k, where=where, exclude=exclude) for query in queries]

    async def aselect(
        self, query: str | Fields, k: int = 8, *, where: Where | None = None, exclude: Collection[str] = ()
    ) -> Selection:
        """Do what `select` does, with the async method of the LangChain selector."""
        self._check(k, where, exclude)
        return self._selection(await self.selector.aselect_examples(self._variables(query)), k, exclude)

    def add(self, examples: Sequence[Example]) -> list[str]:
        """Add examples and return their ids."""
        rows = [self._mapping(example) for example in examples]
        for row in rows:
            self.selector.add_example(row)  # type: ignore[arg-type] # LangChain's stores accept any values
        return [_id_of(row) for row in rows]

    def remove(self, ids: Collection[str]) -> NoReturn:
        """Raise an error, because LangChain's selectors do not support this."""
        raise UnsupportedError(
            f"LangChain's selectors cannot remove examples (got {len(ids)} ids); create a new selector"
        )

    def save(self, path: str | Path) -> NoReturn:
        """Raise an error, because LangChain's selectors do not support this."""
        raise UnsupportedError(f"LangChain's selectors cannot be saved to {path}; save the examples instead")

    def _mapping(self, example: Example) -> dict[str, object]:
        fields = {self.input_key: example.input} if isinstance(example.input, str) else example.input
        field_text(fields, self.input_key)  # raises an error if the input is missing
        return {**(example.metadata or {}), **fields, self.output_key: example.output}

    def _check(self, k: int, where: Where | None, exclude: Collection[str]) -> None:
        if type(k) is not int or k < 0:
            raise InvalidInputError(f"`k` must be an integer of at least 0, got {k!r}")
        if where is not None:
            raise UnsupportedError(
                "LangChain's selectors do not support filters; omit `where` or use a ragkit selector"
            )
        if isinstance(exclude, str):
            raise InvalidInputError(f"`exclude` must be a collection of ids, got the string {exclude!r}")

    def _variables(self, query: str | Fields) -> dict[str, str]:
        return {self.input_key: query} if isinstance(query, str) else dict(query)

    def _selection(self, given: Sequence[Mapping[str, Any]], k: int, exclude: Collection[str]) -> Selection:
        named = [(_id_of(row), row) for row in given]
        kept = [(name, self._example(name, row)) for name, row in named if name not in exclude][:k]
        hits = tuple(
            Hit(id=name, score=1 / rank, rank=rank, text=example.text(), metadata=example.metadata)
            for rank, (name, example) in enumerate(kept, 1)
        )
        dropped = tuple((name, "excluded") for name, _ in named if name in exclude)
        return Selection(examples=tuple(example for _, example in kept), hits=hits, dropped=dropped)

    def _example(self, name: str, given: Mapping[str, Any]) -> Example:
        output = given.get(self.output_key)
        if not isinstance(output, str):
            raise InvalidInputError(
                f"the field {self.output_key!r} of an example must be a string; its fields: {sorted(given)}"
            )
        rest = {key: value for key, value in given.items() if key not in {self.input_key, self.output_key}}
        return Example(field_text(given, self.input_key), output, id=name, metadata=rest or None)


def _id_of(given: Mapping[str, Any]) -> str:
    """Return an id that is derived from the content, because LangChain's examples have no ids."""
    return blake2b(json.dumps(given, sort_keys=True, default=repr).encode(), digest_size=8).hexdigest()
