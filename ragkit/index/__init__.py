"""The vector index: documents, metadata and vectors that commit together, with exact or approximate search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit._lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.index._core import Index as Index
    from ragkit.index._inspection import IndexStats as IndexStats
    from ragkit.index._rebuilding import rebuild_index as rebuild_index
    from ragkit.index._sharded import ShardedIndex as ShardedIndex

_HOME_OF = {
    "Index": "_core",
    "IndexStats": "_inspection",
    "ShardedIndex": "_sharded",
    "rebuild_index": "_rebuilding",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - the names are in the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
