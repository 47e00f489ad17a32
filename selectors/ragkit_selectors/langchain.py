"""An adapter for LangChain's ``BaseExampleSelector``.

This module imports LangChain, so `BaseSelector.as_langchain` imports it only when it is used.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit.errors import InvalidInputError
from ragkit.records import Example, Selection
from ragkit_selectors.lazy_hits import Hits
from ragkit_selectors.pool import AnyExample

require("langchain_core")
from langchain_core.example_selectors import BaseExampleSelector  # noqa: E402 - after the check

if TYPE_CHECKING:
    from ragkit_selectors.base import BaseSelector


class LangChainSelector(BaseExampleSelector):
    """Selects examples and returns the original mappings of the pool, in the order of the prompt.

    Attributes:
        selector: The selector; new examples are added to its pool.
        k: Number of examples to select.
        input_key: The input variable that is searched.
    """

    def __init__(self, selector: BaseSelector, k: int, input_key: str) -> None:
        """Wrap a selector."""
        self.selector, self.k, self.input_key = selector, k, input_key

    def add_example(self, example: dict[str, Any]) -> str:
        """Add an example to the pool and return its id."""
        return self.selector.add([example])[0]

    async def aadd_example(self, example: dict[str, Any]) -> str:
        """Add an example to the pool and return its id, without blocking the event loop."""
        return await asyncio.to_thread(self.add_example, example)

    def select_examples(self, input_variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Select examples for the variables of a prompt, the most similar last unless a stage orders them."""
        return self._given(self.selector.select(self._query(input_variables), self.k))

    async def aselect_examples(self, input_variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Select examples as `select_examples` does, without blocking the event loop."""
        return self._given(await self.selector.aselect(self._query(input_variables), self.k))

    def _query(self, input_variables: dict[str, Any]) -> str:
        query = input_variables.get(self.input_key)
        if not isinstance(query, str):
            raise InvalidInputError(
                f"input variable {self.input_key!r} must be text, got {query!r}; given: {sorted(input_variables)}"
            )
        return query

    def _given(self, selection: Selection) -> list[dict[str, Any]]:
        hits = selection.hits
        given = [_mapping(each) for each in hits.given] if isinstance(hits, Hits) else []  # else nothing was selected
        return given if selection.ordered else given[::-1]


def _mapping(given: AnyExample) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    if not isinstance(given, Example):
        return dict(given)
    fields = {"input": given.input} if isinstance(given.input, str) else dict(given.input)
    return {**fields, "output": given.output}
