"""Extraction of the option that a completion names, by letter or by words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase, ascii_uppercase
from typing import Literal, Self

from typing_extensions import override

from ragkit.answers._base import AnswerReader, Expected, ReadAnswer, unreadable
from ragkit.answers._labels import Names
from ragkit.answers._reasoning import without_reasoning
from ragkit.answers._wording import announcing, negated, plain
from ragkit.errors import InvalidInputError

MOST_OPTIONS = len(ascii_uppercase)

_MARKUP = re.compile(r"\\(?:text|math)\w{0,12}(?=\{)|\\[()\[\]]|</?answer>", re.IGNORECASE)
_BOXED = re.compile(r"\\f?box(?:ed)?\s*+\{((?:[^{}\n]|\{[^{}\n]*\})*+)")
_OPEN = r"[\s(\[\"'*`$_{#>【「“«„‚『《]*+"
_SHUT = r"[)\]\"'*`$_}】」”“»』》.:,;!?。、।؟،؛…]"
_ALONE = re.compile(rf"{_OPEN}([A-Za-z])(?:\s|{_SHUT})*+")
_FIRST = re.compile(rf"{_OPEN}([A-Z])(?:(?={_SHUT}*[)\].:*]){_SHUT}*+(?=\s|\Z)|\s++[-—]\s|,?\s++(?i:because|since)\s)")
_LISTED = re.compile(r"^[^\S\n]*+[(\[*]*+([A-Z])[)\].:*]++(?=\s|$)", re.MULTILINE)
_REASON = r"(?i:because|since|as|and|or)(?!\w)"
_LINE_END = rf"{_SHUT}*+[^\S\n]*+(?:\n|\Z)"
_UNSPACED = r"\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3"  # a word of these scripts may follow without a space
# A lower-case letter counts only in brackets or at the end of a line: "the answer is a" may continue as "a man".
_LETTER = (
    rf"([A-Z]|(?<=[(\[])[a-z]|[a-z](?={_LINE_END}))"
    rf"(?={_SHUT}|[{_UNSPACED}]|[^\S\n]*(?:\n|\Z)|\s+(?:{_REASON}|[-—(])|\s*[/&])"
)
_ARTICLE = r"(?:(?i:la|le|el|il|o|die|option|opción|opção|opzione|letter|lettre|letra)\s++)?+"
_ANNOUNCED = announcing("answer|option|choice|correct one").pattern
_STATED = re.compile(rf"(?:(?i:{_ANNOUNCED})|\A(?i:it(?:'s|\sis))\s){_ARTICLE}{_OPEN}{_LETTER}")
_AFTER_COLON = re.compile(
    rf"^(?![^\w\n]{{0,40}}+(?i:options|choices))[^\n:]{{1,40}}:[^\S\n]*+{_ARTICLE}{_OPEN}([A-Z])(?:{_LINE_END}|[)\].]\s)",
    re.MULTILINE,
)
_MENTIONED = re.compile(
    rf"(?<![A-Za-z])(?i:answer|option|choice|choose|pick|select|go with|[选選](?:择|擇)?){_OPEN}{_LETTER}"
)
_ANOTHER = re.compile(
    r"[)\]\"'*`}_.]*+\s*+(?:,\s*+(?:(?i:and|or)\s++)?|[/&和或、]\s*+|(?i:and|or)\s++)[(\[\"'*`{]*+"
    r"(?!I\s+[a-z])([A-Z])(?!\w)"
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that a text names.

    Attributes:
        place: Index of the option; None if the text names no option, or more than one.
        how: ``"letter"`` or ``"words"`` if the text names the option by its letter or its words, otherwise ``"none"``.
    """

    place: int | None
    how: Literal["letter", "words", "none"]

    @property
    def letter(self) -> str | None:
        """The letter of the option, A for the first; None if there is no option."""
        return None if self.place is None else ascii_uppercase[self.place]


NO_CHOICE = Choice(None, "none")


def check_options(options: Sequence[str]) -> None:
    """Check that there is a letter for every option: 1 to 26 options."""
    if not 1 <= len(options) <= MOST_OPTIONS:
        raise InvalidInputError(f"expected 1 to {MOST_OPTIONS} options, got {len(options)}")


def read_option(text: str, options: Sequence[str]) -> Choice:
    r"""Extract the option that a text names by its letter or by its words.

    Examples of letters are ``A``, ``(A) …``, ``The answer is A`` and ``\boxed{A}``. Reasoning between ``<think>`` tags
    is ignored.

    Args:
        text: A completion.
        options: The options, at most 26.

    Returns:
        The choice. The first letter of a sentence, as in "The …" or "A man …", does not count as a choice.

    Raises:
        InvalidInputError: If there are no options, or more than 26.
    """
    check_options(options)
    outside = without_reasoning(text)
    return NO_CHOICE if outside.truncated else _read(outside.text, len(options), Names(options))


@dataclass(frozen=True)
class ChoiceReader(AnswerReader):
    """Extracts the capital letter of the option that a completion names.

    Attributes:
        options: The options, which may also be named by their words; None to accept any letter.
    """

    options: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.options is not None:
            check_options(self.options)

    spec = "choice"

    @override
    def extract(self, text: str) -> ReadAnswer:
        count = MOST_OPTIONS if self.options is None else len(self.options)
        choice = _read(text, count, self._names)
        return ReadAnswer(choice.letter) if choice.letter else unreadable("it does not name exactly one option")

    @cached_property
    def _names(self) -> Names:
        return Names(self.options or ())

    @override
    @classmethod
    def from_spec(cls, argument: str, expected: Expected) -> Self:
        if argument:
            raise InvalidInputError(f"the answer reader 'choice' takes no argument, got {argument!r}")
        return cls(expected.options)


def _read(text: str, count: int, names: Names) -> Choice:
    cleaned = _MARKUP.sub(" ", plain(text)).strip()
    boxed = dict.fromkeys(match[1].strip() for match in _BOXED.finditer(cleaned))
    read = {_read_one(part, count, names) for part in boxed or [cleaned]}
    return read.pop() if len(read) == 1 else NO_CHOICE


def _read_one(text: str, count: int, names: Names) -> Choice:
    letters = set(_letters(text, count))
    if letters:
        place = ascii_uppercase.index(letters.pop())
        return NO_CHOICE if letters or place >= count else Choice(place, "letter")
    place_of_words = names.find(text).name
    return NO_CHOICE if place_of_words is None else Choice(place_of_words, "words")


def _letters(text: str, count: int) -> list[str]:
    """Return the letters that the strongest evidence in a text names."""
    lines = [line for line in text.split("\n") if line.strip()] or [""]
    alone = [match[1].upper() for line in (lines[0], lines[-1]) if (match := _ALONE.fullmatch(line))]
    if alone:
        return alone
    first = _FIRST.match(text)
    listed = [match[1] for match in _LISTED.finditer(text)]
    repeats_options = listed[:1] == ["A"] and "B" in listed
    begins = [first[1], *_another(text, first, count)] if first and not repeats_options else []
    stated = [*begins, *_named(_STATED, text, count), *_named(_AFTER_COLON, text, count)]
    return stated or list(_named(_MENTIONED, text, count)) or (listed if repeats_options else [])


def _named(pattern: re.Pattern[str], text: str, count: int) -> Iterator[str]:
    for match in pattern.finditer(text):
        unknown = match[1].islower() and ascii_lowercase.index(match[1]) >= count  # a word, such as "x"
        if not unknown and not negated(text, match.start()):
            yield match[1].upper()
            yield from _another(text, match, count)


def _another(text: str, match: re.Match[str], count: int) -> Iterator[str]:
    """Yield a second letter that follows the matched one, as in ``A or B``."""
    another = _ANOTHER.match(text, match.end(1))
    if another and ascii_uppercase.index(another[1]) < count:
        yield another[1]
