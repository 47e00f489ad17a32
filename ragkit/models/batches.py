"""Rows of tokens in batches of similar length, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MOST_TOKENS = 32_768  # of a batch, padding counted


def batches_by_length(rows: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Places of ``rows`` in batches of similar length, the longest first, each of bounded size with its padding.

    Args:
        rows: Token ids of each.
        size: Rows of a batch at the most.

    Yields:
        Lists of places.
    """
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    while order:
        take = max(1, min(size, MOST_TOKENS // max(1, len(rows[order[0]]))))
        yield order[:take]
        order = order[take:]
