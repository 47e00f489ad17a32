"""Splitting a document into passages with their positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ragkit._breaks import UnixText, character_start, last_break
from ragkit._tuples import restore_tuples


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document.

    Attributes:
        text: Its text.
        span: Start and end in the document, in characters; None if the passage is not from the document.
    """

    text: str
    span: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        restore_tuples(self)


def cut(text: str, tokens: int, count: Callable[[str], int], *, overlap: int = 0) -> list[Passage]:
    """Split a text into passages of a number of tokens, at the ends of paragraphs, lines, sentences or words."""
    found: list[Passage] = []
    unix, start = UnixText(text), 0
    while start < len(unix.text):
        end = _end(unix.text, start, tokens, count)
        piece = unix.text[start:end]
        if piece.strip():
            left = unix.original(start + len(piece) - len(piece.lstrip()))
            right = unix.original(start + len(piece.rstrip()))
            found.append(Passage(text[left:right], (left, right)))
        repeated = character_start(unix.text, end - overlap) if end < len(unix.text) else end
        start = repeated if repeated > start else end
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
    at = last_break(text, start + (low - start) // 2, low)
    return at if at > start else low
