"""The vector index: documents, metadata and vectors that commit together, with exact or approximate search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ragkit.lazy import lazy_names

if TYPE_CHECKING:
    from ragkit.index.core import Index as Index
    from ragkit.index.inspection import IndexStats as IndexStats
    from ragkit.index.rebuilding import rebuild_index as rebuild_index
    from ragkit.index.sharded import ShardedIndex as ShardedIndex

_HOME_OF = {
    "Index": "core",
    "IndexStats": "inspection",
    "ShardedIndex": "sharded",
    "rebuild_index": "rebuilding",
}
__all__ = [*_HOME_OF]  # noqa: PLE0604, RUF100 - the names are in the table above
__getattr__, __dir__ = lazy_names(__name__, _HOME_OF)
