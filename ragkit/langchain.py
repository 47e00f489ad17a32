"""Adapters that make ragkit's components usable in LangChain: ``from ragkit.langchain import RagkitVectorStore``.

The names are imported on first use from ``ragkit_pipelines.langchain``. They need langchain-core.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ragkit._extras import require

if TYPE_CHECKING:
    from ragkit_pipelines.langchain.chat_model import RagkitChatModel as RagkitChatModel
    from ragkit_pipelines.langchain.checkpoints import checkpoint_types as checkpoint_types
    from ragkit_pipelines.langchain.embeddings import RagkitEmbeddings as RagkitEmbeddings
    from ragkit_pipelines.langchain.from_langchain import as_selector as as_selector
    from ragkit_pipelines.langchain.parallel import RagkitParallel as RagkitParallel
    from ragkit_pipelines.langchain.reranker import RagkitReranker as RagkitReranker
    from ragkit_pipelines.langchain.retriever import RagkitRetriever as RagkitRetriever
    from ragkit_pipelines.langchain.runnable import as_runnable as as_runnable
    from ragkit_pipelines.langchain.selectors import RagkitExampleSelector as RagkitExampleSelector
    from ragkit_pipelines.langchain.selectors import RagkitHybridExampleSelector as RagkitHybridExampleSelector
    from ragkit_pipelines.langchain.selectors import RagkitMmrExampleSelector as RagkitMmrExampleSelector
    from ragkit_pipelines.langchain.vector_store import RagkitVectorStore as RagkitVectorStore

_HOME_OF = {
    "RagkitChatModel": "ragkit_pipelines.langchain.chat_model",
    "RagkitEmbeddings": "ragkit_pipelines.langchain.embeddings",
    "RagkitExampleSelector": "ragkit_pipelines.langchain.selectors",
    "RagkitHybridExampleSelector": "ragkit_pipelines.langchain.selectors",
    "RagkitMmrExampleSelector": "ragkit_pipelines.langchain.selectors",
    "RagkitParallel": "ragkit_pipelines.langchain.parallel",
    "RagkitReranker": "ragkit_pipelines.langchain.reranker",
    "RagkitRetriever": "ragkit_pipelines.langchain.retriever",
    "RagkitVectorStore": "ragkit_pipelines.langchain.vector_store",
    "as_runnable": "ragkit_pipelines.langchain.runnable",
    "as_selector": "ragkit_pipelines.langchain.from_langchain",
    "checkpoint_types": "ragkit_pipelines.langchain.checkpoints",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - names are the table above


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ragkit.langchain' has no attribute {name!r}")
    require("langchain_core")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
