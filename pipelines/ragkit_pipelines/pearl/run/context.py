"""What a step is shown of the document: all of it, its parts one after the other, or what was found for the step.

A context opens a document for a model and gives a view; the view gives each step its readings. One reading is one call
of the model; several are calls of their own whose answers are put together by one more.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from typing_extensions import override

from ragkit.errors import InvalidInputError, PromptTooLongError
from ragkit.protocols import LanguageModel
from ragkit_pipelines.pearl.run.calls import Ask, Outcome
from ragkit_pipelines.pearl.run.passages import Passage, cut

ROOM = 1024  # tokens kept free for a step's own words and values where a model's window is the limit
OPTIONS = (
    "raise `max_tokens` if the model reads more, or give Pearl another context: Windows(…) reads part after part, "
    "Retrieved(…) shows each step what is found for it, GistPages(…) shows a summary of every page and some pages whole"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one call is shown.

    Attributes:
        shared: Text that all steps are shown; it stands at the beginning of the prompt.
        passages: Passages for this step.
        part: Which part of the document this is; empty for all of it.
    """

    shared: str = ""
    passages: tuple[Passage, ...] = ()
    part: str = ""


Readings = Generator[Sequence[Ask], Sequence[Outcome], list[Reading]]
"""Yields calls that have to be made first, is sent their outcomes, and returns the readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a step's readings take, about.

    Attributes:
        shared: Tokens at the beginning of the prompt of each reading, the same for all steps.
        own: Tokens of the passages of one step.
        before: Calls that a step makes before its own, each with the first of `shared`.
        once: Calls that are made once for the document.
        once_tokens: Tokens that these read, all together.
    """

    shared: tuple[int, ...]
    own: int = 0
    before: int = 0
    once: int = 0
    once_tokens: int = 0


class View(Protocol):
    """A document as the steps of a question see it."""

    def readings(self, step: str, words: str) -> Readings:
        """What a step is shown, given its name and its own words."""
        ...

    def sizes(self) -> Sizes:
        """What the readings take, about."""
        ...


@runtime_checkable
class Context(Protocol):
    """A way of showing a document to the steps of a plan."""

    @property
    def fingerprint(self) -> str:
        """Equal for two contexts only where steps are shown the same."""
        ...

    @property
    def holds_texts(self) -> bool:
        """Whether it has texts of its own, so that no document is needed."""
        return False

    def open(self, document: str, model: LanguageModel) -> View:
        """Take a document; an error where it cannot be shown in this way."""
        ...


class _Fixed:
    """A view with the same readings for every step."""

    def __init__(self, readings: list[Reading], tokens: list[int]) -> None:
        self._readings, self._tokens = readings, tokens

    def readings(self, step: str, words: str) -> Readings:  # noqa: ARG002 - the same for every step
        yield from ()
        return self._readings

    def sizes(self) -> Sizes:
        return Sizes(shared=tuple(self._tokens))


def tokens_of(text: str, model: LanguageModel) -> int:
    """Tokens of a long text; counted in one piece, as pieces may count differently.

    Returns:
        A count.
    """
    return model.count_tokens(text)


def room_of(model: LanguageModel, max_tokens: int | None) -> int | None:
    """Tokens of the document that a prompt may hold.

    Args:
        model: The model.
        max_tokens: What the user allows; None for all that the model's window leaves.

    Returns:
        A number of tokens, None where neither says.

    Raises:
        InvalidInputError: If ``max_tokens`` is below 1.
    """
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"`max_tokens` must be 1 or more, got {max_tokens}")
    window = model.capabilities.window
    if window is None:
        return max_tokens
    left = window - min(ROOM, window // 2)
    return left if max_tokens is None else min(left, max_tokens)


@dataclass(frozen=True, slots=True)
class WholeText(Context):
    """Every step is shown the whole document.

    Attributes:
        max_tokens: Tokens of the document at the most; what the model's window leaves if None.
    """

    max_tokens: int | None = None

    @property
    @override
    def fingerprint(self) -> str:
        return "whole"

    @override
    def open(self, document: str, model: LanguageModel) -> View:
        """Take a document.

        Returns:
            A view.

        Raises:
            PromptTooLongError: If the document is longer than allowed; nothing is ever cut off.
        """
        tokens = tokens_of(document, model)
        room = room_of(model, self.max_tokens)
        if room is not None and tokens > room:
            raise PromptTooLongError(tokens, room, advice=OPTIONS)
        return _Fixed([Reading(shared=document)], [tokens])


@dataclass(frozen=True, slots=True)
class Windows(Context):
    """Every step is worked on in each part of the document alone, and what the parts gave is made one value.

    Attributes:
        tokens: Tokens of a part at the most.
        overlap: Characters that stand in two neighbouring parts.
        max_windows: Parts at the most; each is a call for every step that reads the document.
    """

    tokens: int = 4000
    overlap: int = 200
    max_windows: int = 32

    def __post_init__(self) -> None:
        if self.tokens < 16 or self.overlap < 0 or self.max_windows < 1:
            wanted = "`tokens` of 16 or more, `overlap` of 0 or more and `max_windows` of 1 or more"
            raise InvalidInputError(f"Windows needs {wanted}, got {self}")

    @property
    @override
    def fingerprint(self) -> str:
        return f"windows:{self.tokens}:{self.overlap}"

    @override
    def open(self, document: str, model: LanguageModel) -> View:
        """Take a document.

        Returns:
            A view.

        Raises:
            PromptTooLongError: If it has more parts than allowed.
        """
        parts = cut(document, self.tokens, model.count_tokens, overlap=self.overlap)
        if len(parts) > self.max_windows:
            advice = f"raise `max_windows` ({self.max_windows}) or `tokens` ({self.tokens}), or use Retrieved(…)"
            raise PromptTooLongError(tokens_of(document, model), self.max_windows * self.tokens, advice=advice)
        if len(parts) < 2:
            return _Fixed([Reading(shared=document)], [tokens_of(document, model)])
        named = [
            Reading(shared=part.text, part=f"part {number} of {len(parts)}") for number, part in enumerate(parts, 1)
        ]
        return _Fixed(named, [tokens_of(part.text, model) for part in parts])
