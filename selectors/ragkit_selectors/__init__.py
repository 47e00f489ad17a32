"""Selectors: which examples of a pool go into a prompt. `load_selector` turns a name into one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit_selectors.bm25 import BM25Selector
    from ragkit_selectors.embedding import EmbeddingSelector
    from ragkit_selectors.jaccard import JaccardSelector
    from ragkit_selectors.loading import load_selector
    from ragkit_selectors.pool import PoolSelector
    from ragkit_selectors.uniform import RandomSelector

__all__ = [
    "BM25Selector",
    "EmbeddingSelector",
    "JaccardSelector",
    "PoolSelector",
    "RandomSelector",
    "load_selector",
]

_HOME = {
    "BM25Selector": "bm25",
    "EmbeddingSelector": "embedding",
    "JaccardSelector": "jaccard",
    "PoolSelector": "pool",
    "RandomSelector": "uniform",
    "load_selector": "loading",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
