"""Search an `Index` for LangChain documents by similarity, relevance or diversity, with LangChain's filters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, ItemsView, KeysView, Mapping, Sequence, ValuesView
from itertools import islice
from typing import Any, cast

import numpy as np
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from numpy.typing import NDArray

from ragkit._mmr import mmr
from ragkit._pairwise import unit
from ragkit._text import refuse_bare_string
from ragkit.embedders._langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError
from ragkit.index import Index
from ragkit.protocols import Embedder
from ragkit.records import Document as Stored
from ragkit_pipelines.langchain.metadata_text import Conversion, as_text

Where = Mapping[str, object]
Filter = Where | Callable[[Any], bool]
Scored = tuple[Document, float]
Vectors = NDArray[np.float32]
_FIRST_FETCH = 64  # documents that a filter function receives first


class FilteredDocument(Document):
    """The document that a filter function receives, which can also be read like its metadata.

    LangChain's in-memory store passes documents to such functions, and its FAISS store passes the metadata; functions
    for either of them work: ``lambda document: document.metadata["n"] > 1`` and ``lambda metadata: metadata["n"] > 1``.
    """

    def __getitem__(self, name: str) -> Any:
        return self.metadata[name]

    def __contains__(self, name: object) -> bool:
        return name in self.metadata

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value of the metadata."""
        return self.metadata.get(name, default)

    def keys(self) -> KeysView[str]:
        """Return the names of the metadata."""
        return self.metadata.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values of the metadata."""
        return self.metadata.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the names and values of the metadata."""
        return self.metadata.items()


class SearchedStore(VectorStore):
    """A vector store whose searches take many queries at once.

    Attributes:
        searches: The searches behind all methods.
    """

    searches: Searches


class Searches:
    """The searches that the vector store and the retriever share.

    Queries are f32[m, dim], or texts for `embed` and `aembed`. A filter is a metadata filter, or a function of a
    document or of its metadata. Every search returns a list per query, the best document first.

    Attributes:
        index: The index.
        conversion: How metadata and values of filters are converted, see `RagkitVectorStore`.
    """

    def __init__(self, index: Index, conversion: Conversion = None) -> None:
        """Search an index."""
        self.index, self.conversion = index, conversion
        self._euclidean = index.stats().metric == "l2"

    def embed(self, queries: Sequence[str]) -> Vectors:
        """Embed queries, f32[m, dim]."""
        refuse_bare_string("queries", queries)
        return self._embedder().embed_queries(queries)

    async def aembed(self, queries: Sequence[str]) -> Vectors:
        """Embed queries without blocking the event loop, with LangChain's async method if there is one."""
        refuse_bare_string("queries", queries)
        embedder = self._embedder()
        if isinstance(embedder, LangChainEmbedder):
            return await embedder.aembed_queries(queries)
        return await asyncio.to_thread(embedder.embed_queries, queries)

    def nearest(self, queries: Vectors, k: int, filter: Filter | None) -> list[list[Scored]]:
        """Return the k most similar documents that match a filter, with their scores."""
        return [[(document, score) for _, score, document in row] for row in self._keyed(queries, k, filter)]

    def relevant(
        self, queries: Vectors, k: int, filter: Filter | None, score_threshold: float | None
    ) -> list[list[Scored]]:
        """Return those of the k most similar documents whose relevance reaches a threshold from 0 to 1."""
        if score_threshold is not None and not 0 <= score_threshold <= 1:
            raise InvalidInputError(f"`score_threshold` must be between 0 and 1, got {score_threshold!r}")
        least, scale = score_threshold or 0.0, self.relevance()
        judged = [[(document, scale(score)) for document, score in row] for row in self.nearest(queries, k, filter)]
        return [[pair for pair in row if pair[1] >= least] for row in judged]

    def relevance(self) -> Callable[[float], float]:
        """Return the function from scores to relevance: the cosine of unit vectors, or 0 if it is negative."""
        if self._euclidean:  # |a - b|^2 = 2 - 2 a.b
            return lambda score: min(1.0, max(0.0, 1 + score / 2))
        return lambda score: min(1.0, max(0.0, score))

    def diverse(
        self, queries: Vectors, k: int, filter: Filter | None, fetch_k: int = 20, lambda_mult: float = 0.5
    ) -> list[list[Scored]]:
        """Return k of ``fetch_k`` candidates by maximal marginal relevance, in the order of selection."""
        k, fetch_k = whole("k", k), whole("fetch_k", fetch_k, least=1)
        if not 0 <= lambda_mult <= 1:
            raise InvalidInputError(f"`lambda_mult` must be between 0 and 1, got {lambda_mult!r}")
        chosen = []
        for query, row in zip(queries, self._keyed(queries, max(k, fetch_k), filter), strict=True):
            vectors = self.index.get_vectors_by_keys([key for key, _, _ in row])
            order, _ = mmr(unit(query[None])[0], unit(vectors), k, lambda_mult)
            chosen.append([(row[n][2], row[n][1]) for n in order.tolist()])
        return chosen

    def _keyed(self, queries: Vectors, k: int, filter: Filter | None) -> list[list[tuple[int, float, Document]]]:
        """Return keys, scores and documents of the most similar documents."""
        k = whole("k", k)
        if callable(filter):
            return self._filtered(queries, k, filter)
        where = None if filter is None else read_where(filter, self.conversion)
        found = self.index.search_documents(queries, k, where=where)
        return [
            [(key, score, of_parts(each.text, each.metadata, each.id)) for key, score, each in row] for row in found
        ]

    def _filtered(
        self, queries: Vectors, k: int, function: Callable[[Any], bool]
    ) -> list[list[tuple[int, float, Document]]]:
        """Return the most similar documents that a function accepts; fetches more until there are k, or no more."""
        found: list[list[tuple[int, float, Document]]] = [[] for _ in range(len(queries))]
        pending, fetch, total = list(range(len(queries))), max(_FIRST_FETCH, 4 * k), len(self.index)
        while pending:
            rows = self.index.search_documents(queries[pending], min(fetch, total))
            for n, row in zip(pending, rows, strict=True):
                accepted = ((key, score, each) for key, score, each in row if function(_filtered(each)))
                found[n] = [
                    (key, score, of_parts(each.text, each.metadata, each.id))
                    for key, score, each in islice(accepted, k)
                ]
            pending = [n for n in pending if len(found[n]) < k and fetch < total]
            fetch *= 4
        return found

    def _embedder(self) -> Embedder:
        if self.index.embedder is None:
            raise InvalidInputError("the index has no embedder for queries; search by vector")
        return self.index.embedder


def one_row(embedding: Sequence[float] | NDArray[np.floating]) -> Vectors:
    """Return a vector as a batch of one, f32[1, d]."""
    row = np.asarray(embedding, dtype=np.float32)
    if row.ndim != 1:
        raise InvalidInputError(f"`embedding` must be a single vector, got an array of shape {row.shape}")
    return row[None]


def documents_of(row: Sequence[Scored]) -> list[Document]:
    """Return documents without their scores."""
    return [document for document, _ in row]


def of_parts(text: str, metadata: Mapping[str, object] | None, name: str | None) -> Document:
    """Create a LangChain document."""
    return Document(page_content=text, metadata=metadata or {}, id=name)


def _filtered(document: Stored) -> FilteredDocument:
    return FilteredDocument(page_content=document.text, metadata=dict(document.metadata or {}), id=document.id)


def whole(name: str, number: object, least: int = 0) -> int:
    """Return an integer, which may be one of NumPy."""
    if isinstance(number, np.integer):
        number = int(number)
    if type(number) is not int or number < least:
        raise InvalidInputError(f"`{name}` must be an integer of at least {least}, got {number!r}")
    return number


def read_where(filter: object, conversion: Conversion = None) -> Where:
    """Translate a filter into one of `ragkit.where`: it may contain ``$neq`` for ``$ne``, and a list for ``$in``."""
    if not isinstance(filter, Mapping):
        raise InvalidInputError(
            f'`filter` must be a mapping such as {{"lang": "en"}} or a function of a document, got {filter!r}'
        )
    return _translated(filter if conversion is None else cast("Where", as_text(filter)))


def _translated(filter: Mapping[str, object]) -> dict[str, object]:
    return {name: _entry(name, value) for name, value in filter.items()}


def _entry(name: str, value: object) -> object:
    if name in {"$and", "$or"} and isinstance(value, list | tuple):
        return [_translated(each) if isinstance(each, Mapping) else each for each in value]
    if name == "$not" and isinstance(value, Mapping):
        return _translated(value)
    if isinstance(value, Mapping):
        return {("$ne" if operator == "$neq" else operator): operand for operator, operand in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not str(name).startswith("$"):
        return {"$in": list(value)}
    return value
