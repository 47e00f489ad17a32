"""A LangChain retriever whose ``batch`` and ``abatch`` run one search for all queries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForRetrieverRun,
    Callbacks,
)
from langchain_core.documents import Document
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import ConfigDict, Field, PrivateAttr, field_serializer, model_validator
from typing_extensions import override

from ragkit.embedders._reference import EmbedderReference
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.records import Hit
from ragkit_pipelines.langchain.batches import Manager, configs_of, manager_of, results_or_raise
from ragkit_pipelines.langchain.searching import (
    SearchedStore,
    Searches,
    Vectors,
    documents_of,
    of_parts,
    read_where,
    whole,
)

_OPTIONS = {
    "similarity": {"k", "filter", "fetch_k"},
    "similarity_score_threshold": {"k", "filter", "fetch_k", "score_threshold"},
    "mmr": {"k", "filter", "fetch_k", "lambda_mult"},
}
_NOT_SERIALISED = {"vectorstore", "index", "retriever", "callbacks"}
_Found = list[Document] | Exception


class RagkitRetriever(VectorStoreRetriever):
    """Retrieves documents from an index, a vector store or any retriever of ragkit; arguments are checked.

    `search_kwargs` applies to every call; arguments of a call, as in ``invoke(query, k=2)``, take precedence.

    Attributes:
        vectorstore: The `RagkitVectorStore` to search.
        index: The `Index` to search instead, to which documents are added with `Index.add`; or its path, to open it
            read-only.
        retriever: The retriever to use instead: any object with ``retrieve(queries, k, *, where)`` that returns lists
            of `Hit`.
        k: Number of documents.
        search_type: ``"similarity"``, ``"similarity_score_threshold"`` or ``"mmr"``.
        search_kwargs: ``k``, ``filter``, ``score_threshold``, ``fetch_k``, ``lambda_mult``.
        callbacks: Callbacks of every call, in addition to those of its config.
        verbose: Whether to print every call.

    Examples:
        >>> from ragkit.langchain import RagkitVectorStore
        >>> store = RagkitVectorStore.from_texts(["dim the lamp", "play a song"], "hash:256")
        >>> found = RagkitRetriever(vectorstore=store, k=1).batch(["lamps", "songs"])
        >>> [documents[0].page_content for documents in found]
        ['dim the lamp', 'play a song']
    """

    vectorstore: SearchedStore | None = None  # type: ignore[assignment] # an index and a ragkit retriever have none
    index: Index | None = None
    retriever: Any = None
    k: int = Field(default=4, ge=0, strict=True)
    callbacks: Callbacks = Field(default=None, exclude=True)
    verbose: bool = False

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    _searches: Searches | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _read_source(cls, values: dict[str, Any]) -> dict[str, Any]:
        sources = [name for name in ("vectorstore", "index", "retriever") if values.get(name) is not None]
        if len(sources) != 1:
            raise InvalidInputError(f"give one of `vectorstore`, `index` and `retriever`, got {sources or 'none'}")
        kind = values.get("search_type", "similarity")
        if values.get("retriever") is not None and kind != "similarity":
            raise InvalidInputError(f"`search_type` {kind!r} needs `vectorstore` or `index`")
        if kind in _OPTIONS:
            _check_options(kind, values.get("search_kwargs") or {})
        read = {"k": whole("k", values["k"])} if isinstance(values.get("k"), np.integer) else {}
        index = values.get("index")
        opened = {"index": Index.open(index, read_only=True)} if isinstance(index, str | Path) else {}
        return {**values, **read, **opened}

    @override
    def model_post_init(self, context: Any, /) -> None:
        if self.index is not None:
            self._searches = Searches(self.index)
        elif self.vectorstore is not None:
            self._searches = self.vectorstore.searches

    @override
    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        if self.vectorstore is None:
            return BaseRetriever._get_ls_params(self, **kwargs)
        return super()._get_ls_params(**kwargs)

    @override
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return self._find([query], self._options(kwargs))[0]

    @override
    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return (await self._afind([query], self._options(kwargs)))[0]

    @override
    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """Retrieve documents for a query; ``kwargs`` are those of `search_kwargs`."""
        return self.batch([input], config, **kwargs)[0]

    @override
    async def ainvoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """Do what `invoke` does, without blocking the event loop."""
        return (await self.abatch([input], config, **kwargs))[0]

    @override
    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """Retrieve documents for many queries in one search; callbacks are called for each query.

        Args:
            inputs: The queries.
            config: One configuration for all queries, or one per query.
            return_exceptions: Whether to return an error as the result of a query that failed, instead of raising it.
            **kwargs: The arguments of a single call, such as ``k`` and ``filter``.

        Returns:
            The documents of each query.
        """
        options = self._options(kwargs)
        managers = [
            self._manager(CallbackManager, each).on_retriever_start(
                None, query, name=each.get("run_name") or self.get_name(), run_id=each.pop("run_id", None)
            )
            for query, each in zip(inputs, configs_of(config, len(inputs)), strict=True)
        ]
        try:
            found: list[_Found] = list(self._find(inputs, options)) if inputs else []
        except Exception as error:  # noqa: BLE001 - the error of one query must not affect the others
            found = self._one_by_one(inputs, options, error)
        for manager, result in zip(managers, found, strict=True):
            if isinstance(result, Exception):
                manager.on_retriever_error(result)
            else:
                manager.on_retriever_end(result)
        return results_or_raise(found, return_exceptions=return_exceptions)

    @override
    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        options = self._options(kwargs)
        managers = [
            await self._manager(AsyncCallbackManager, each).on_retriever_start(
                None, query, name=each.get("run_name") or self.get_name(), run_id=each.pop("run_id", None)
            )
            for query, each in zip(inputs, configs_of(config, len(inputs)), strict=True)
        ]
        try:
            found: list[_Found] = list(await self._afind(inputs, options)) if inputs else []
        except Exception as error:  # noqa: BLE001 - the error of one query must not affect the others
            found = await asyncio.to_thread(self._one_by_one, inputs, options, error)
        for manager, result in zip(managers, found, strict=True):
            if isinstance(result, Exception):
                await manager.on_retriever_error(result)
            else:
                await manager.on_retriever_end(result)
        return results_or_raise(found, return_exceptions=return_exceptions)

    @override
    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()  # without callbacks, which are objects of this process
        return {**state, "__dict__": {**state["__dict__"], "callbacks": None}}

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        shared = {} if memo is None else memo
        shared[id(self.callbacks)] = self.callbacks
        return super().__deepcopy__(shared)

    @classmethod
    @override
    def is_lc_serializable(cls) -> bool:
        return True

    @classmethod
    @override
    def get_lc_namespace(cls) -> list[str]:
        return ["ragkit", "langchain"]

    @override
    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """Return the settings and the path of the index; other sources are not serialisable, as in LangChain."""
        index = None if self._searches is None else self._searches.index
        named = index is not None and index.embedder is not None and EmbedderReference(index.embedder).is_spec
        if index is None or not index.is_stored or not named:
            return self.to_json_not_implemented()
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_SERIALISED}
        given = {name: value for name, value in fields.items() if value != type(self).model_fields[name].default}
        return {"lc": 1, "type": "constructor", "id": self.lc_id(), "kwargs": {**given, "index": str(index.path)}}

    @field_serializer("vectorstore", "index", "retriever", "search_kwargs", when_used="json")
    def _described(self, value: Any) -> Any:
        """Return values without live objects: the path of an index, and the names of functions and classes."""
        if isinstance(value, Mapping):
            return {name: repr(each) if callable(each) else each for name, each in value.items()}
        index = value.searches.index if isinstance(value, SearchedStore) else value
        if isinstance(index, Index):
            return str(index.path) if index.is_stored else "in memory"
        return None if value is None else type(value).__name__

    def _manager(self, kind: type[Manager], config: RunnableConfig) -> Manager:
        return manager_of(kind, self, config, self._get_ls_params(), self.callbacks, self.verbose)

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        _check_options(self.search_type, given)
        return {"k": self.k, "filter": None, **self.search_kwargs, **given}

    def _find(self, queries: Sequence[str], options: Mapping[str, Any]) -> list[list[Document]]:
        _check_queries(queries)
        if self._searches is None:
            k = whole("k", options["k"])
            return _read(self.retriever.retrieve(list(queries), k, where=_where(options)))
        return self._nearest(self._searches, self._searches.embed(queries), options)

    async def _afind(self, queries: Sequence[str], options: Mapping[str, Any]) -> list[list[Document]]:
        _check_queries(queries)
        if self._searches is None:
            k = whole("k", options["k"])
            return _read(await self.retriever.aretrieve(list(queries), k, where=_where(options)))
        vectors = await self._searches.aembed(queries)
        return await asyncio.to_thread(self._nearest, self._searches, vectors, options)

    def _nearest(self, searches: Searches, vectors: Vectors, options: Mapping[str, Any]) -> list[list[Document]]:
        if self.search_type == "mmr":
            return [documents_of(row) for row in searches.diverse(vectors, **options)]
        options = {name: value for name, value in options.items() if name != "fetch_k"}  # filters are exact without it
        if self.search_type == "similarity":
            return [documents_of(row) for row in searches.nearest(vectors, **options)]
        return [documents_of(row) for row in searches.relevant(vectors, **options)]

    def _one_by_one(self, queries: Sequence[str], options: Mapping[str, Any], error: Exception) -> list[_Found]:
        """Return the documents or the error of each query, after the search for all of them failed."""
        if len(queries) == 1:
            return [error]
        found: list[_Found] = []
        for query in queries:
            try:
                found += self._find([query], options)
            except Exception as own:  # noqa: BLE001 - returned to the caller
                found.append(own)
        return found


def _check_queries(queries: Sequence[object]) -> None:
    for query in queries:
        if not isinstance(query, str):
            hint = '; for one of its entries, write itemgetter("question") | retriever' * isinstance(query, Mapping)
            raise InvalidInputError(f"a query of a retriever must be text, got {type(query).__name__}{hint}")


def _check_options(kind: str, given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - _OPTIONS[kind])
    if unknown:
        known = ", ".join(sorted(_OPTIONS[kind]))
        raise InvalidInputError(f"{kind} search takes no {', '.join(map(repr, unknown))}; it takes {known}")


def _where(options: Mapping[str, Any]) -> Mapping[str, object] | None:
    if callable(options["filter"]):
        raise InvalidInputError("a ragkit retriever takes a filter on metadata, not a function")
    return None if options["filter"] is None else read_where(options["filter"])


def _read(found: Sequence[Sequence[Hit]]) -> list[list[Document]]:
    return [[of_parts(hit.text, hit.metadata, hit.id) for hit in hits] for hits in found]
