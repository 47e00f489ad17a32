"""Batches of token rows of similar length, which need little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MOST_TOKENS = 32_768  # per batch, including padding


def batches_by_length(rows: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Group rows into batches of similar length, longest first, with at most `MOST_TOKENS` tokens including padding.

    Args:
        rows: Token ids of each row.
        size: Maximum number of rows per batch.

    Yields:
        The row indices of a batch. A row that exceeds `MOST_TOKENS` is a batch of its own.
    """
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    while order:
        take = max(1, min(size, MOST_TOKENS // max(1, len(rows[order[0]]))))
        yield order[:take]
        order = order[take:]
