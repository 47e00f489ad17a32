"""The size and search settings of an index."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ragkit.index.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """The size and search settings of an index.

    Attributes:
        documents: Number of documents that can be found.
        rows: Number of stored vectors, including those of removed documents.
        dim: Vector length.
        dtype: Data type of the stored vectors.
        metric: ``"cosine"``, ``"ip"`` or ``"l2"``.
        embedder: The embedder of texts; None if the index only accepts vectors.
        bytes: Bytes on disk.
        factory: Factory string of the approximate part; ``"flat"`` if search is exact.
        built: Number of rows in the approximate part; the rest is searched exactly.
        tuned: Measured recall with its settings; None if `Index.tune` was not called.
    """

    documents: int
    rows: int
    dim: int
    dtype: str
    metric: str
    embedder: str | None
    bytes: int
    factory: str
    built: int
    tuned: Mapping[str, float] | None


def stats_of(store: Store) -> IndexStats:
    """Return the sizes of the last commit seen."""
    state = store.state
    facts, segment = state.facts, state.segment
    return IndexStats(
        documents=state.live,
        rows=facts["rows"],
        dim=facts["dim"],
        dtype=facts["dtype"],
        metric=facts["metric"],
        embedder=facts["embedder"],
        bytes=_bytes_of(store.folder),
        factory=segment.factory if segment else "flat",
        built=segment.rows if segment else 0,
        tuned=facts["tuned"],
    )


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may have compacted the index
            total += path.stat().st_size
    return total
