"""How large an index is and how it is searched."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ragkit.index.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """The size of an index and how it is searched.

    Attributes:
        documents: Documents that can be found.
        rows: Vectors stored, those of removed documents among them.
        dim: Length of a vector.
        dtype: Precision in which they are stored.
        metric: ``"cosine"``, ``"ip"`` or ``"l2"``.
        embedder: What embeds texts; None where vectors are given.
        bytes: Bytes on disk.
        factory: What the approximate part was built by; ``"flat"`` where search is exact.
        built: Rows in the approximate part; the rest is searched exactly.
        tuned: Measured recall with its settings, None where `Index.tune` was not called.
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
    """The sizes of the last commit that was seen."""
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
        with suppress(FileNotFoundError):  # another process may have compacted
            total += path.stat().st_size
    return total
