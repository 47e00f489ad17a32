"""A retriever for any LangChain retriever or vector store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.index._document_inputs import LangChainDocument
from ragkit.records import Document, Hit
from ragkit.retrievers._base import Hits, RetrieverBase, Where, hit_of
from ragkit.where import matches, parse_where

_FURTHER = 4  # factor by which more documents are fetched if a filter leaves too few


class LangChainRetriever(RetrieverBase):
    """Queries a LangChain vector store or retriever, such as Qdrant, Milvus or pgvector.

    A retriever keeps its own settings: its filter, its score threshold, its search type, and ``k`` if it sets one.
    Filters work with every store: documents that do not match are excluded, and more are fetched from a vector store
    until there are k, or no more. ``native`` also passes the filter to the store, which is faster. The order is that of
    the store. The score is 1 / rank, because the scores of different stores are not comparable.

    Examples:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> from langchain_core.vectorstores import InMemoryVectorStore
        >>> store = InMemoryVectorStore.from_texts(["red", "blue"], DeterministicFakeEmbedding(size=8))
        >>> LangChainRetriever(store).retrieve("blue", k=1)[0].text
        'blue'
    """

    name = "langchain"

    def __init__(self, source: Any, *, native: Callable[[Where], object] | None = None) -> None:
        """Wrap a store or a retriever.

        Args:
            source: A `VectorStore`, or a `BaseRetriever`. A retriever returns the results of its ``invoke``; the number
                of documents can be set only for those that a store creates with ``as_retriever``.
            native: Converts a filter to the ``filter`` argument of the store. A retriever with a filter of its own
                keeps it, and ``native`` is not used.

        Raises:
            InvalidInputError: If the source has another type, or does not accept the filter of ``native``.
        """
        self.source, self.native = source, native
        self._is_store = hasattr(source, "similarity_search")
        if not self._is_store and not hasattr(source, "invoke"):
            kind = type(source).__name__
            raise InvalidInputError(f"`source` must be a vector store or a retriever of LangChain, got {kind}")
        self._takes_k = self._is_store or _searches_a_store(source)
        if native is not None and not self._takes_k:
            raise InvalidInputError("`native` goes with a vector store; a retriever takes no filter")
        self._own: Mapping[str, Any] = source.search_kwargs if self._takes_k and not self._is_store else {}

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return [self._one(query, k, where) for query in queries]

    @override
    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return list(await asyncio.gather(*(self._aone(query, k, where) for query in queries)))

    def _one(self, query: str, k: int, where: Where | None) -> list[Hit]:
        search = self.source.similarity_search if self._is_store else self.source.invoke
        k = fetched = min(k, self._own.get("k", k))
        while True:
            found = search(query, **self._settings(fetched, where))
            hits = _hits(found, k, where)
            if len(hits) >= k or len(found) < fetched or not self._takes_k:
                return hits
            fetched *= _FURTHER

    async def _aone(self, query: str, k: int, where: Where | None) -> list[Hit]:
        search = self.source.asimilarity_search if self._is_store else self.source.ainvoke
        k = fetched = min(k, self._own.get("k", k))
        while True:
            found = await search(query, **self._settings(fetched, where))
            hits = _hits(found, k, where)
            if len(hits) >= k or len(found) < fetched or not self._takes_k:
                return hits
            fetched *= _FURTHER

    def _settings(self, fetched: int, where: Where | None) -> dict[str, object]:
        if not self._takes_k:
            return {}
        if where is None or self.native is None or "filter" in self._own:
            return {"k": fetched}
        return {"k": fetched, "filter": self.native(where)}


def _searches_a_store(retriever: Any) -> bool:
    """Return whether a retriever returns the documents of its store, not their parents, and accepts ``k`` per query."""
    if not hasattr(retriever, "vectorstore"):
        return False
    from langchain_core.vectorstores import VectorStoreRetriever

    return isinstance(retriever, VectorStoreRetriever) and retriever._expects_other_args


def _hits(found: Sequence[LangChainDocument], k: int, where: Where | None) -> list[Hit]:
    condition = parse_where(where or {})
    hits: dict[str, Hit] = {}
    for document in found:
        if not matches(condition, document.metadata):
            continue
        own = _id_of(document)
        if own not in hits and len(hits) < k:
            rank = len(hits) + 1
            read = Document(document.page_content, own, dict(document.metadata) or None)
            hits[own] = hit_of(read, 1 / rank, rank, {"store_rank": rank})
    return list(hits.values())


def _id_of(document: LangChainDocument) -> str:
    """Return the document's own id, or a hash of its text if it has none."""
    own = getattr(document, "id", None)
    text = document.page_content.encode("utf-8", "surrogatepass")
    return str(own) if own is not None else blake2b(text, digest_size=16).hexdigest()
