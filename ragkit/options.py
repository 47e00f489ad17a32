"""Which of several options a text names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from ragkit.errors import InvalidInputError
from ragkit.text import folded

_ALONE = re.compile(r"[\s(\[\"'*]*([A-Za-z])[\s)\]\"'*.:,]*")
_FIRST = re.compile(r"[\s(\[*]*([A-Z])[)\].:*]+(?=\s|$)")
_SAID = re.compile(
    r"(?i:\b(?:answer|option|choice)(?:\s++is)?+)\s*+:?+\s*+[(\[\"'*]*+([A-Z]|(?<=[(\[])[a-z])(?=[)\]\"'*.,:;!]|\s*$)"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which option a text names.

    Attributes:
        place: Place of the option, counted from 0; None where the text names none, or more than one.
        how: ``"letter"``, ``"words"`` where the text says the option itself, or ``"none"``.
    """

    place: int | None
    how: Literal["letter", "words", "none"]

    @property
    def letter(self) -> str | None:
        """The option's letter, A for the first."""
        return None if self.place is None else ascii_uppercase[self.place]


MOST_OPTIONS = len(ascii_uppercase)
NO_CHOICE = Choice(None, "none")


def check_options(options: Sequence[str]) -> None:
    """Refuse options that letters cannot name.

    Raises:
        InvalidInputError: If there is no option, or more than letters.
    """
    if not 1 <= len(options) <= MOST_OPTIONS:
        raise InvalidInputError(f"expected 1 to {MOST_OPTIONS} options, got {len(options)}")


def read_option(text: str, options: Sequence[str]) -> Choice:
    """Read which option a text names: ``A``, ``A.``, ``(A) …``, ``The answer is A``, or the words of an option.

    Args:
        text: A short answer.
        options: The options, 26 at the most.

    Returns:
        The choice. A text that only begins with a letter, such as "The …" or "A man …", names none by it.

    Raises:
        InvalidInputError: If there is no option, or more than letters.
    """
    check_options(options)
    letters = _letters(text)
    if letters:
        place = ascii_uppercase.index(letters[0])
        same = len(set(letters)) == 1 and place < len(options)
        return Choice(place, "letter") if same else NO_CHOICE
    said = folded(text)
    equal = [place for place, option in enumerate(options) if folded(option) == said]
    held = [place for place, option in enumerate(options) if f" {folded(option)} " in f" {said} "]
    found = equal or held
    return Choice(found[0], "words") if len(found) == 1 else NO_CHOICE


def _letters(text: str) -> list[str]:
    alone = _ALONE.fullmatch(text)
    if alone:
        return [alone[1].upper()]
    first = _FIRST.match(text)
    return ([first[1]] if first else []) + [found[1].upper() for found in _SAID.finditer(text)]
