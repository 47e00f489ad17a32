"""Rules that cut a text into the tokens that lexical selectors count."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ragkit.errors import InvalidInputError
from ragkit.text import words

_SPACES = re.compile(r"\s\s+")


def split(text: str) -> list[str]:
    """Cut at single spaces and change nothing, as ``s.split(" ")`` does.

    Returns:
        The pieces; an empty text gives one empty piece.
    """
    return text.split(" ")


def runs(text: str) -> list[str]:
    """Sequences of one to four words between white space, case kept: the n-grams of BLEU.

    Returns:
        All of them, the single words first.
    """
    cut = text.split()
    return [" ".join(cut[start : start + size]) for size in range(1, 5) for start in range(len(cut) - size + 1)]


@dataclass(frozen=True, slots=True)
class Grams:
    """Sequences of ``low`` to ``high`` neighbours, as scikit-learn's vectorizers cut them.

    Attributes:
        of: ``"word"`` for folded words; ``"char"`` for characters within words, each word between two spaces.
        low: Length of the shortest.
        high: Length of the longest.
    """

    of: Literal["word", "char"]
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.of not in {"word", "char"} or not 1 <= self.low <= self.high:
            given = (self.of, self.low, self.high)
            raise InvalidInputError(f"`grams` must be ('word' or 'char', low, high) with 1 <= low <= high, got {given}")

    def __call__(self, text: str) -> list[str]:
        """Cut a text."""
        if self.of == "word":
            found = words(text)
            if self.high == 1:
                return found
            sizes = range(self.low, min(self.high, len(found)) + 1)
            return [" ".join(found[at : at + size]) for size in sizes for at in range(len(found) - size + 1)]
        return [gram for word in _SPACES.sub(" ", text.lower()).split() for gram in self._within(f" {word} ")]

    def _within(self, word: str) -> list[str]:
        found: list[str] = []
        for size in range(self.low, self.high + 1):
            found += [word[at : at + size] for at in range(max(1, len(word) - size + 1))]
            if size >= len(word):  # a word shorter than the sequence counts once
                break
        return found
