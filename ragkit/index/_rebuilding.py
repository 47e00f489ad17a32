"""Rebuilding an index with another embedder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ragkit.errors import InvalidInputError
from ragkit.index._core import Index
from ragkit.records import Document

if TYPE_CHECKING:
    from ragkit.protocols import Embedder

_BATCH = 1024


def rebuild_index(index: Index, path: str | Path | None, *, embedder: str | Embedder) -> Index:
    """Embed the documents of an index with another embedder, such as a fine-tuned one, into a new index.

    The old index is unchanged. Rerun an interrupted rebuild to resume; rerun a completed one to apply later changes of
    the old index.

    Args:
        index: The index of the documents.
        path: A new or empty folder, or that of an earlier rebuild; None for an index in memory.
        embedder: The new embedder or its spec.

    Returns:
        The new index, open for writing, with the ids, texts, metadata and settings of the old one.

    Raises:
        InvalidInputError: If the folder is that of the index itself, or if it contains anything else.

    Examples:
        >>> old = Index.create(None, embedder="hash:64")
        >>> ids = old.add([Document("dim the lamp", id="a")])
        >>> new = rebuild_index(old, None, embedder="hash:128")
        >>> new.stats().dim, new.get(["a"])[0].text
        (128, 'dim the lamp')
        >>> old.close(), new.close()
        (None, None)
    """
    if path is not None and Path(path).resolve() == index.path.resolve():
        raise InvalidInputError(f"{path} is the index that is read; give another folder, and remove the old one later")
    facts = index._store.state.facts
    rebuilt = Index.create(
        path,
        embedder=embedder,
        metric=facts["metric"],
        dtype=facts["dtype"],
        factory=facts["factory"],
        exist_ok=path is not None,
    )
    try:
        rebuilt.sync(_documents(index))
        for field in facts["indexed"]:
            rebuilt.index_field(field)
    except BaseException:
        rebuilt.close()
        raise
    return rebuilt


def _documents(index: Index) -> Iterator[Document]:
    keys = index.keys()
    for start in range(0, len(keys), _BATCH):
        yield from (each for each in index.get_by_keys(keys[start : start + _BATCH]) if each is not None)
