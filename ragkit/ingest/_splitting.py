"""Splitting texts of all scripts at the ends of paragraphs, lines, sentences and words, never within a character."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from ragkit._text import SENTENCE_ENDS, UNSPACED

Measure = Callable[[str], int]
_CLUSTERS = 4  # the index of the finest level
# Code points that continue a character: combining marks, vowel signs, joiners, variation selectors.
_MARK = r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]"
# A grapheme cluster. `\X` alone would count all preceding regional indicators for each flag, which consists of two.
_CHARACTER = rf"(?:\p{{RI}}{{2}}{_MARK}*+|\X)"


def split_spans(
    text: str, first: int, last: int, size: int, measure: Measure, level: int = 0
) -> Iterator[tuple[int, int]]:
    """Split a part of a text into the largest pieces of whole paragraphs, lines, sentences or words.

    Args:
        text: The text, with Unix line ends.
        first: Start of the part.
        last: End of the part.
        size: Maximum size of a piece. Only a single character, including all combining marks, may be larger.
        measure: Returns the size of a text.
        level: The coarsest level to split at, from 0 for paragraphs to 4 for characters.

    Yields:
        Start and end of each piece; the pieces join to the part.
    """
    start, held = first, 0
    for tile, end in _tiles(text, first, last, level):
        added = measure(text[tile:end])
        if held + added > size and start < tile:
            yield start, tile
            start, held = tile, 0
        if added > size and level < _CLUSTERS:
            yield from split_spans(text, tile, end, size, measure, level + 1)
            start, held = end, 0
        else:
            held += added
    if start < last:
        yield start, last


def word_starts(text: str, first: int, last: int) -> list[int]:
    """Find the starts of words; in scripts without spaces, each character counts as a word.

    Args:
        text: The text.
        first: Start of the search.
        last: End of the search.

    Returns:
        The indices, in order.
    """
    begun = [found.start() for found in _patterns()[-1].finditer(text, first, last)]
    return begun[1:] if first and not text[first - 1].isspace() else begun  # the first word may be incomplete


def _tiles(text: str, first: int, last: int, level: int) -> Iterator[tuple[int, int]]:
    start = first
    for found in _patterns()[level].finditer(text, first, last):
        yield start, found.end()
        start = found.end()
    if start < last:
        yield start, last


@cache
def _patterns() -> tuple[Any, ...]:
    """Return the patterns of paragraphs, lines, sentences and words, then of characters, and of words."""
    import regex

    # Possessive quantifiers, and starting at the first character only, keep long runs of full stops or flags linear.
    sentence = rf"(?<![.!?…])[.!?…]++\p{{SB=Close}}*+\s+|(?:[{SENTENCE_ENDS}]|．(?!\p{{N}}))+\p{{SB=Close}}*\s*"
    separators = (r"\n\n|\u2029", r"[\n\u0085\u2028]", sentence, r"\s+|[\u200b、，；：،؛]")
    word = rf"(?!{_MARK})(?:(?=[{UNSPACED}]){_CHARACTER}|[^\s{UNSPACED}]+)[\p{{P}}\s]*"
    levels = [*(rf"(?:{each})(?!{_MARK})" for each in separators), _CHARACTER]
    return tuple(regex.compile(each) for each in (*levels, word))
