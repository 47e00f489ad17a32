"""From an answer in words to one of several options; what cannot be mapped is counted, never guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Literal

from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.records import Prompt
from ragkit.text import folded
from ragkit_pipelines.pearl.prompts import marked

_ALONE = re.compile(r"[\s(\[\"'*]*([A-Za-z])[\s)\]\"'*.:,]*")
_FIRST = re.compile(r"[\s(\[*]*([A-Z])[)\].:*]+(?=\s|$)")
_SAID = re.compile(
    r"(?i:\b(?:answer|option|choice)(?:\s+is)?)\s*:?\s*[(\[\"'*]*([A-Z]|(?<=[(\[])[a-z])(?=[)\]\"'*.,:;!]|\s*$)"
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


NO_CHOICE = Choice(None, "none")


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
    if not 1 <= len(options) <= len(ascii_uppercase):
        raise InvalidInputError(f"expected 1 to 26 options, got {len(options)}")
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


@dataclass
class OptionMapper:
    """Asks a model which option an answer comes to; the model sees the answer and the question, not the document.

    Attributes:
        model: A model or its spec.
        max_tokens: Tokens of its reply at the most.
        mapped: Answers that came to an option so far.
        unmapped: Answers that did not.
    """

    model: str | LanguageModel
    max_tokens: int = 16
    mapped: int = field(default=0, init=False)
    unmapped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._model = load_model(self.model)

    def map(self, answer: str, question: str, options: Sequence[str]) -> Choice:
        """Map one answer.

        Args:
            answer: The answer in words.
            question: The question.
            options: The options.

        Returns:
            The choice.
        """
        return self.map_many([(answer, question, options)])[0]

    def map_many(self, rows: Sequence[tuple[str, str, Sequence[str]]]) -> list[Choice]:
        """Map answers; the model gets them as one batch. An empty answer is not asked about: it comes to none.

        Args:
            rows: Answer, question and options of each.

        Returns:
            Choices in order.
        """
        asked = [place for place, (answer, _, _) in enumerate(rows) if answer.strip()]
        replies = self._model.generate([_prompt(*rows[place]) for place in asked], max_tokens=self.max_tokens)
        choices = [NO_CHOICE] * len(rows)
        for place, reply in zip(asked, replies, strict=True):
            first = next((line for line in reply.text.splitlines() if line.strip()), "")
            choices[place] = read_option(first, rows[place][2])
        self.mapped += sum(choice.place is not None for choice in choices)
        self.unmapped += sum(choice.place is None for choice in choices)
        return choices


def _prompt(answer: str, question: str, options: Sequence[str]) -> Prompt:
    rows = zip(ascii_uppercase, options, strict=False)  # there are letters left over
    listed = "".join(f"{letter}. {' '.join(option.split())}\n" for letter, option in rows)
    return Prompt(
        "An answer to a question was worked out before. Say which option it comes to.\n\n",
        f"What was worked out:\n{marked('answer', answer)}\nThe question:\n{marked('question', question)}\n"
        f"The options:\n{listed}\n"
        "Write the letter of the option only, or none if the answer comes to no option.\n\nOption:",
    )
