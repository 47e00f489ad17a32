"""The vector index: documents, metadata and vectors that commit together, searched exactly or by FAISS."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ragkit.index.core import Index as Index
    from ragkit.index.stats import IndexStats as IndexStats

__all__ = ["Index", "IndexStats"]
_HOME_OF = {"Index": "core", "IndexStats": "stats"}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ragkit.index.{_HOME_OF[name]}"), name)
