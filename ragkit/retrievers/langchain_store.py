"""Any retriever or vector store of LangChain as one of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from typing_extensions import override

from ragkit.errors import InvalidInputError
from ragkit.index.document_inputs import LangChainDocument
from ragkit.records import Hit, span_of
from ragkit.retrievers.base import Hits, RetrieverBase, Where
from ragkit.where import matches, parse_where

_FURTHER = 4  # how many times more documents are fetched where a filter has left too few


class LangChainRetriever(RetrieverBase):
    """Ask a vector store or a retriever of LangChain: Qdrant, Milvus, pgvector and the rest.

    Filters hold whatever the store understands: documents that do not match are left out, and of a vector store more
    are fetched until there are k or no more. ``native`` hands the filter to the store as well, which is quicker. The
    order is the store's own; the score is 1 / rank, since stores do not agree on what their scores mean.

    Attributes:
        source: The store or retriever.
        native: What a store's own filter looks like.

    Examples:
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> from langchain_core.vectorstores import InMemoryVectorStore
        >>> store = InMemoryVectorStore.from_texts(["red", "blue"], DeterministicFakeEmbedding(size=8))
        >>> LangChainRetriever(store).retrieve("blue", k=1)[0].text
        'blue'
    """

    name = "langchain"

    def __init__(self, source: Any, *, native: Callable[[Where], object] | None = None) -> None:
        """Take a store or a retriever.

        Args:
            source: A `VectorStore`, or a `BaseRetriever`; one that stands for a store gives the store. Any other
                retriever gives as many documents as it gives.
            native: Turns a filter into what the store takes as ``filter``.

        Raises:
            InvalidInputError: If it is neither, or has no filter to hand on to.
        """
        self.source = getattr(source, "vectorstore", source)
        self._is_store = hasattr(self.source, "similarity_search")
        if not self._is_store and not hasattr(self.source, "invoke"):
            kind = type(source).__name__
            raise InvalidInputError(f"`source` must be a vector store or a retriever of LangChain, got {kind}")
        if native is not None and not self._is_store:
            raise InvalidInputError("`native` goes with a vector store; a retriever takes no filter")
        self.native = native

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return [self._one(query, k, where) for query in queries]

    @override
    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        return list(await asyncio.gather(*(self._aone(query, k, where) for query in queries)))

    def _one(self, query: str, k: int, where: Where | None) -> list[Hit]:
        if not self._is_store:
            return _hits(self.source.invoke(query), k, where)
        fetched = k
        while True:
            found = self.source.similarity_search(query, k=fetched, **self._filter(where))
            hits = _hits(found, k, where)
            if len(hits) >= k or len(found) < fetched:
                return hits
            fetched *= _FURTHER

    async def _aone(self, query: str, k: int, where: Where | None) -> list[Hit]:
        if not self._is_store:
            return _hits(await self.source.ainvoke(query), k, where)
        fetched = k
        while True:
            found = await self.source.asimilarity_search(query, k=fetched, **self._filter(where))
            hits = _hits(found, k, where)
            if len(hits) >= k or len(found) < fetched:
                return hits
            fetched *= _FURTHER

    def _filter(self, where: Where | None) -> dict[str, object]:
        return {} if where is None or self.native is None else {"filter": self.native(where)}


def _hits(found: Sequence[LangChainDocument], k: int, where: Where | None) -> list[Hit]:
    condition = parse_where(where or {})
    hits: dict[str, Hit] = {}
    for document in found:
        if not matches(condition, document.metadata):
            continue
        own = _id_of(document)
        if own not in hits and len(hits) < k:
            rank = len(hits) + 1
            metadata = dict(document.metadata)
            hits[own] = Hit(
                id=own,
                score=1 / rank,
                rank=rank,
                text=document.page_content,
                metadata=metadata or None,
                span=span_of(metadata),
                why={"store_rank": rank},
            )
    return list(hits.values())


def _id_of(document: LangChainDocument) -> str:
    """The document's own id; a hash of its text where the store gives none."""
    own = getattr(document, "id", None)
    text = document.page_content.encode("utf-8", "surrogatepass")
    return str(own) if own is not None else blake2b(text, digest_size=16).hexdigest()
