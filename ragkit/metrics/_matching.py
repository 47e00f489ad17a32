"""Metrics for answers that are either correct or wrong: exact match, labels, options and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from ragkit._text import composed, folded
from ragkit.answers._choices import read_option
from ragkit.answers._numbers import NumberReader
from ragkit.answers._plain import FirstLine
from ragkit.errors import InvalidInputError
from ragkit.records import Example

_NUMBERS = NumberReader()
_FIRST_LINE = FirstLine()


def exact_match(answer: str, expected: str) -> float:
    r"""Return 1.0 if the answer equals the expected text, ignoring the amount of white space, and 0.0 otherwise.

    Composed and decomposed letters are equal.

    Returns:
        The score.

    Examples:
        >>> exact_match(" fade lamp,  zone: hall\n", "fade lamp, zone: hall")
        1.0
    """
    return float(composed(answer).split() == composed(expected).split())


def label_match(answer: str, expected: str) -> float:
    """Return 1.0 if the first line of the answer is the expected label, ignoring case and punctuation, or 0.0."""
    return float(folded(_FIRST_LINE.read(answer).text) == folded(expected))


def number_match(answer: str, expected: str) -> float:
    """Return 1.0 if the answer gives the same number as the expected text, otherwise 0.0; `NumberReader` reads both.

    Examples:
        >>> number_match("6 boxes of 250 make 1,500.0 in all.", "1500")
        1.0

    Returns:
        1.0 or 0.0; 0.0 for an answer without a number.

    Raises:
        InvalidInputError: If the expected text does not contain a number.
    """
    right = last_number(expected)
    if right is None:
        raise InvalidInputError(f"the expected text holds no number: {expected[:80]!r}")
    return float(last_number(answer) == right)


def last_number(text: str) -> Decimal | None:
    """Return the number that a text announces as its answer, otherwise its last number; None if there is none."""
    answer = _NUMBERS.read(text)
    return Decimal(answer.text) if answer.readable else None


@dataclass(frozen=True, slots=True)
class ChoiceMatch:
    """A metric that is 1.0 if the answer names the same option as the expected text, by its letter or by its words.

    The options of a row are the list ``"options"`` in its metadata; in a file, this is a field next to ``input`` and
    ``output``. An answer that names no option, or more than one, is wrong.
    """

    name: str = "choice"

    def score_rows(self, answers: Sequence[str], rows: Sequence[Example]) -> list[float]:
        """Score one answer for each row.

        Returns:
            1.0 or 0.0 for each answer.

        Raises:
            InvalidInputError: If a row has no options, or its output does not name one of them.
        """
        return [
            float(_same_option(answer, row, f"rows[{place}]"))
            for place, (answer, row) in enumerate(zip(answers, rows, strict=True))
        ]


def _same_option(answer: str, row: Example, where: str) -> bool:
    options = (row.metadata or {}).get("options")
    if not isinstance(options, list | tuple) or not all(isinstance(option, str) for option in options):
        raise InvalidInputError(f"{where} needs its options, a list of texts in `metadata`, got {options!r}")
    right = read_option(row.output, options).place
    if right is None:
        raise InvalidInputError(f"the output of {where}, {row.output!r}, names none of the options {list(options)}")
    return read_option(answer, options).place == right
