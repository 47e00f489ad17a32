"""Cutting a document into passages that know where they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_BREAKS = ("\n\n", "\n", ". ", " ")  # where a text is cut, the best place first


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document.

    Attributes:
        text: Its text.
        span: Start and end in the document, in characters; None where it is no part of it.
    """

    text: str
    span: tuple[int, int] | None = None


def cut(text: str, tokens: int, count: Callable[[str], int], *, overlap: int = 0) -> list[Passage]:
    """Cut a text into passages, at the ends of paragraphs where that fits, else of lines, sentences or words.

    Args:
        text: The text.
        tokens: Tokens of a passage at the most; a word that is longer is cut too.
        count: Counts tokens.
        overlap: Characters at the end of a passage that stand in the next one again.

    Returns:
        Passages in order. Together they hold every character of the text that is no space.
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
    """Where a passage that begins at ``start`` ends: the furthest good place within its tokens."""
    # A token is seldom longer than a dozen characters, so more than that need not be looked at.
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
