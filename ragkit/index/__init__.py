"""The vector index: documents, metadata and vectors that commit together, searched exactly or by FAISS."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.index.core import Index as Index
    from ragkit.index.core import IndexStats as IndexStats

__all__ = ["Index", "IndexStats"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ragkit.index.core"), name)
