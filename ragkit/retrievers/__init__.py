"""Retrievers, which return hits for queries. All share one protocol, so that they can be combined and nested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit.lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.retrievers.base import Hits as Hits
    from ragkit.retrievers.base import RetrieverBase as RetrieverBase
    from ragkit.retrievers.base import Where as Where
    from ragkit.retrievers.base import hit_of as hit_of
    from ragkit.retrievers.bm25 import BM25Retriever as BM25Retriever
    from ragkit.retrievers.chroma_filters import chroma_filter as chroma_filter
    from ragkit.retrievers.dense import DenseRetriever as DenseRetriever
    from ragkit.retrievers.expand import ExpandingRetriever as ExpandingRetriever
    from ragkit.retrievers.hybrid import HybridRetriever as HybridRetriever
    from ragkit.retrievers.langchain_store import LangChainRetriever as LangChainRetriever
    from ragkit.retrievers.mmr import MmrRetriever as MmrRetriever
    from ragkit.retrievers.multi_query import MultiQueryRetriever as MultiQueryRetriever
    from ragkit.retrievers.rerank import RerankingRetriever as RerankingRetriever

_HOME_OF = {
    "BM25Retriever": "bm25",
    "DenseRetriever": "dense",
    "ExpandingRetriever": "expand",
    "Hits": "base",
    "HybridRetriever": "hybrid",
    "LangChainRetriever": "langchain_store",
    "MmrRetriever": "mmr",
    "MultiQueryRetriever": "multi_query",
    "RerankingRetriever": "rerank",
    "RetrieverBase": "base",
    "Where": "base",
    "chroma_filter": "chroma_filters",
    "hit_of": "base",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - the names are in the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
