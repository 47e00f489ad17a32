"""An adapter for LangChain's ``BaseExampleSelector``.

This module imports LangChain, so `BaseSelector.as_langchain` imports it only when it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ragkit._extras import require
from ragkit.errors import InvalidInputError
from ragkit.records import Example, Selection
from ragkit_selectors.lazy_hits import Hits
from ragkit_selectors.pool import AnyExample

require("langchain_core")
from langchain_core.callbacks import CallbackManager, CallbackManagerForRetrieverRun  # noqa: E402 - after the check
from langchain_core.documents import Document  # noqa: E402
from langchain_core.example_selectors import BaseExampleSelector  # noqa: E402
from langchain_core.runnables.config import var_child_runnable_config  # noqa: E402

if TYPE_CHECKING:
    from ragkit_selectors.base import BaseSelector


class LangChainSelector(BaseExampleSelector):
    """Selects examples and returns copies of the original mappings of the pool, in the order of the prompt.

    Inside a chain, each selection is a retriever run of the chain's callbacks.

    Attributes:
        selector: The selector; new examples are added to its pool.
        k: Number of examples to select.
        input_key: The input variable that is searched; if a prompt has only one variable, that one.
    """

    def __init__(self, selector: BaseSelector, k: int, input_key: str) -> None:
        """Wrap a selector."""
        self.selector, self.k, self.input_key = selector, k, input_key

    def add_example(self, example: dict[str, Any]) -> str:
        """Add a copy of an example to the pool and return its id."""
        return self.selector.add([self._read(example)])[0]

    async def aadd_example(self, example: dict[str, Any]) -> str:
        """Add an example to the pool and return its id, without blocking the event loop."""
        return await asyncio.to_thread(self.add_example, example)

    def select_examples(self, input_variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Select examples for the variables of a prompt, the most similar last unless a stage orders them."""
        query = self._query(input_variables)
        run = _started(query, type(self).__name__)
        try:
            selection = self.selector.select(query, self.k)
        except BaseException as error:
            if run is not None:
                run.on_retriever_error(error)
            raise
        if run is not None:
            run.on_retriever_end(_documents(selection))
        hits = selection.hits
        given = [self._given(each) for each in hits.given] if isinstance(hits, Hits) else []  # nothing was selected
        return given if selection.ordered else given[::-1]

    async def aselect_examples(self, input_variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Select examples as `select_examples` does, without blocking the event loop."""
        return await asyncio.to_thread(self.select_examples, input_variables)

    def _query(self, input_variables: Mapping[str, Any]) -> str:
        return variable_of(input_variables, self.input_key)

    def _read(self, example: Mapping[str, Any]) -> AnyExample:
        """Return an example as it is added to the pool."""
        return deepcopy(example)

    def _given(self, example: AnyExample) -> dict[str, Any]:
        """Return a copy of the example that the user passed; changing it does not change the pool."""
        return deepcopy(_mapping(example))


def variable_of(input_variables: Mapping[str, Any], name: str) -> str:
    """Return the text of an input variable; if there is only one variable, it may have another name.

    Raises:
        InvalidInputError: If the variable is missing or is not text.
    """
    value = input_variables.get(name)
    if name not in input_variables and len(input_variables) == 1:
        (value,) = input_variables.values()
    if not isinstance(value, str):
        raise InvalidInputError(
            f"input variable {name!r} must be text, got {value!r}; given: {sorted(map(str, input_variables))}"
        )
    return value


def _mapping(given: AnyExample) -> dict[str, Any]:
    if not isinstance(given, Example):
        return dict(given)
    fields = {"input": given.input} if isinstance(given.input, str) else dict(given.input)
    return {**fields, "output": given.output}


def _started(query: str, name: str) -> CallbackManagerForRetrieverRun | None:
    """Start a retriever run for the callbacks of the chain that this code runs in; None if there are none."""
    config = var_child_runnable_config.get() or {}
    callbacks = config.get("callbacks")
    if not callbacks:
        return None
    manager = CallbackManager.configure(
        callbacks, inheritable_tags=config.get("tags"), inheritable_metadata=config.get("metadata")
    )
    return manager.on_retriever_start(None, query, name=name)


def _documents(selection: Selection) -> Sequence[Document]:
    """Return the selected examples as the documents of a retriever run, the best first."""
    return [Document(hit.text, id=hit.id, metadata={"score": hit.score}) for hit in selection.hits]
