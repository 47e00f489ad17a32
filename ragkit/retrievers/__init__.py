"""Retrievers, which return hits for queries. All share one protocol, so that they can be combined and nested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.retrievers._base import Hits as Hits
    from ragkit.retrievers._base import RetrieverBase as RetrieverBase
    from ragkit.retrievers._base import Where as Where
    from ragkit.retrievers._base import hit_of as hit_of
    from ragkit.retrievers._bm25 import BM25Retriever as BM25Retriever
    from ragkit.retrievers._chroma_filters import chroma_filter as chroma_filter
    from ragkit.retrievers._dense import DenseRetriever as DenseRetriever
    from ragkit.retrievers._expand import ExpandingRetriever as ExpandingRetriever
    from ragkit.retrievers._hybrid import HybridRetriever as HybridRetriever
    from ragkit.retrievers._langchain_store import LangChainRetriever as LangChainRetriever
    from ragkit.retrievers._loading import load_retriever as load_retriever
    from ragkit.retrievers._mmr import MmrRetriever as MmrRetriever
    from ragkit.retrievers._multi_query import MultiQueryRetriever as MultiQueryRetriever
    from ragkit.retrievers._rerank import RerankingRetriever as RerankingRetriever

_HOME_OF = {
    "BM25Retriever": "_bm25",
    "DenseRetriever": "_dense",
    "ExpandingRetriever": "_expand",
    "Hits": "_base",
    "HybridRetriever": "_hybrid",
    "LangChainRetriever": "_langchain_store",
    "MmrRetriever": "_mmr",
    "MultiQueryRetriever": "_multi_query",
    "RerankingRetriever": "_rerank",
    "RetrieverBase": "_base",
    "Where": "_base",
    "chroma_filter": "_chroma_filters",
    "hit_of": "_base",
    "load_retriever": "_loading",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - the names are in the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
