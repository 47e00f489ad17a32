"""Positions at which texts of any script can be split, and normalisation of line ends."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cache

from ragkit._text import SENTENCE_CLOSERS, SENTENCE_ENDS, combining_marks

# Letters that combine with the letter before them: vowels of Thai and Lao, Hangul jamo, sound marks of katakana.
_COMBINING_LETTERS = "\u0e33\u0eb3\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb\uff9e\uff9f"
_JOINERS = "\u200d\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2"  # characters that join the letters on both sides
_LINE_END = re.compile(r"\r\n|\r|\n")
_FLAG = "\U0001f1e6-\U0001f1ff"  # two of these form a flag; adjacent flags are not separated


class UnixText:
    r"""A text whose lines all end with \n, with a mapping from its indices to those of the original.

    Attributes:
        text: The text.

    Examples:
        >>> unix = UnixText("one\r\ntwo")
        >>> unix.text, unix.original(4)
        ('one\ntwo', 5)
    """

    def __init__(self, original: str) -> None:
        """Replace Windows (CRLF) and old Mac (CR) line ends."""
        self.text = original
        self._longer: list[int] = []  # indices of line ends that consist of two characters in the original
        if "\r" in original:
            first, *lines = original.split("\r\n")
            at = len(first)
            for line in lines:
                self._longer.append(at)
                at += 1 + len(line)
            self.text = "\n".join([first, *lines]).replace("\r", "\n")

    def original(self, index: int) -> int:
        """Return the index of a character in the original; for a line end of two characters, that of the first."""
        return index + bisect_left(self._longer, index)


class LineNumbers:
    r"""The line of each character of a text.

    Examples:
        >>> lines = LineNumbers("one\r\ntwo", first=7)
        >>> lines.at(0), lines.at(5)
        (7, 8)
    """

    def __init__(self, text: str, first: int = 1) -> None:
        """Find the line ends of a text whose first line has the number ``first``."""
        self._first, self._starts = first, [end.end() for end in _LINE_END.finditer(text)]

    def at(self, index: int) -> int:
        """Return the number of the line in which a character stands; the end of a line belongs to it."""
        return self._first + bisect_right(self._starts, index)


def last_break(text: str, first: int, last: int) -> int:
    """Find the best index to split a text: after the last paragraph, line, sentence, space or character.

    Returns:
        The index after the last separator, of the first of these kinds, that begins at ``first`` or later and ends at
        ``last`` or earlier; without a separator, the start of the character at ``last``.
    """
    for pattern in _breaks()[:-1]:
        ends = [found.end() for found in pattern.finditer(text, first, last + 1) if found.end() <= last]
        if ends:
            return ends[-1]
    return character_start(text, last)


def character_start(text: str, index: int) -> int:
    """Return an index, or a smaller one if it is at a combining mark or inside a line end."""
    whole = _breaks()[-1]
    while 0 < index < len(text) and not whole.match(text, index - 1):
        index -= 1
    return index


@cache
def _breaks() -> tuple[re.Pattern[str], ...]:
    mark = f"{combining_marks()}\u20dd-\u20e4\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\U000e0100-\U000e01ef"
    line = r"(?>\r\n|\n|\r(?!\n))"
    sentence = rf"(?:[.!?…][\"'”’)\]]*+\s|[{SENTENCE_ENDS}]+[{SENTENCE_CLOSERS}]*+)"
    character = rf"(?:[^\r{_JOINERS}{_FLAG}]|[{_FLAG}](?![{_FLAG}])|\r(?!\n))(?![{_COMBINING_LETTERS}])"
    levels = (line + line, line, sentence, r"[^\S\r]", character)
    return tuple(re.compile(rf"{level}(?![{mark}])") for level in levels)
