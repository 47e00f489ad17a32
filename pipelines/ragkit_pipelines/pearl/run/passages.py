"""Splitting a document into passages with their positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_BREAKS = ("\n\n", "\n", ". ", " ")  # where a text is split, the best place first


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document.

    Attributes:
        text: Its text.
        span: Start and end in the document, in characters; None if the passage is not from the document.
    """

    text: str
    span: tuple[int, int] | None = None


def cut(text: str, tokens: int, count: Callable[[str], int], *, overlap: int = 0) -> list[Passage]:
    """Split a text into passages at the ends of paragraphs if possible, otherwise of lines, sentences or words.

    Args:
        text: The text.
        tokens: Maximum number of tokens of a passage. A longer word is split.
        count: Counts tokens.
        overlap: Number of characters at the end of a passage that the next one repeats.

    Returns:
        Passages in order, which together contain every character of the text except white space.
    """
    found: list[Passage] = []
    start = 0
    while start < len(text):
        end = _end(text, start, tokens, count)
        piece = text[start:end]
        if piece.strip():
            left = start + len(piece) - len(piece.lstrip())
            right = start + len(piece.rstrip())
            found.append(Passage(text[left:right], (left, right)))
        start = end if end >= len(text) else max(start + 1, end - overlap)
    return found


def _end(text: str, start: int, tokens: int, count: Callable[[str], int]) -> int:
    """Find the end of the passage that begins at ``start``: the last good place within its tokens."""
    # Tokens rarely have more than twelve characters, so the passage ends within this many.
    most = min(len(text), start + 12 * tokens)
    if count(text[start:most]) <= tokens:
        low = most
    else:
        low, high = start + 1, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(text[start:middle]) <= tokens else (low, middle)
    if low >= len(text):
        return len(text)
    for mark in _BREAKS:
        at = text.rfind(mark, start + (low - start) // 2, low)
        if at > start:
            return at + len(mark)
    return low
