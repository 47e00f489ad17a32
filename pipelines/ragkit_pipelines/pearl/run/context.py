"""Contexts determine what a step reads: the whole document, its parts one by one, or retrieved passages.

`Context.open` takes a document and returns a view; the view returns the readings of each step. Each reading is one
model call. If a step has several readings, one further call merges their results.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from typing_extensions import override

from ragkit.errors import InvalidInputError, PromptTooLongError
from ragkit.protocols import LanguageModel
from ragkit_pipelines.pearl.run.calls import ModelCall, Outcome
from ragkit_pipelines.pearl.run.passages import Passage, cut

RESERVED = 1024  # tokens of the model's window that are reserved for the rest of a step's prompt
ADVICE = (
    "raise `max_tokens` if the model accepts more, or pass another context to Pearl: Windows(…) reads the document in "
    "parts, Retrieved(…) shows each step the passages retrieved for it, GistPages(…) shows a summary of every page and "
    "some pages in full"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The parts of the document that one call reads.

    Attributes:
        shared: Text that all steps read, at the beginning of the prompt.
        passages: Passages for this step only.
        part: Which part of the document ``shared`` is; empty for the whole document.
    """

    shared: str = ""
    passages: tuple[Passage, ...] = ()
    part: str = ""


Readings = Generator[Sequence[ModelCall], Sequence[Outcome], list[Reading]]
"""A generator that yields preparatory calls, receives their outcomes, and returns the readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The approximate size of a step's readings.

    Attributes:
        shared: Tokens of the shared text of each reading, which is the same for all steps.
        own: Tokens of the passages of one step.
        before: Number of preparatory calls of a step, each of which reads the first shared text.
        once: Number of calls made once per document.
        once_tokens: Prompt tokens of these calls together.
    """

    shared: tuple[int, ...]
    own: int = 0
    before: int = 0
    once: int = 0
    once_tokens: int = 0


class View(Protocol):
    """A document as the steps of a question read it."""

    def readings(self, step: str, query: str) -> Readings:
        """Return the readings of a step, given its name and its retrieval query."""
        ...

    def sizes(self) -> Sizes:
        """Return the approximate size of the readings."""
        ...


@runtime_checkable
class Context(Protocol):
    """Determines which parts of a document the steps of a plan read."""

    @property
    def fingerprint(self) -> str:
        """Identifies the context: two contexts with the same fingerprint show the same text."""
        ...

    @property
    def holds_texts(self) -> bool:
        """Whether the context has texts of its own, so no document is needed."""
        return False

    def open(self, document: str, model: LanguageModel) -> View:
        """Prepare a document, or raise an error if this context cannot show it."""
        ...


class _Fixed:
    """A view with the same readings for every step."""

    def __init__(self, readings: list[Reading], tokens: list[int]) -> None:
        self._readings, self._tokens = readings, tokens

    def readings(self, step: str, query: str) -> Readings:  # noqa: ARG002 - the same for every step
        yield from ()
        return self._readings

    def sizes(self) -> Sizes:
        return Sizes(shared=tuple(self._tokens))


def room_of(model: LanguageModel, max_tokens: int | None) -> int | None:
    """Return the number of tokens of the document that fit into a prompt; None if there is no limit."""
    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"`max_tokens` must be at least 1, got {max_tokens}")
    window = model.capabilities.window
    if window is None:
        return max_tokens
    left = window - min(RESERVED, window // 2)
    return left if max_tokens is None else min(left, max_tokens)


@dataclass(frozen=True, slots=True)
class WholeText(Context):
    """Every step reads the whole document.

    Attributes:
        max_tokens: Maximum number of tokens of the document; if None, as many as fit into the model's window.
    """

    max_tokens: int | None = None

    @property
    @override
    def fingerprint(self) -> str:
        return "whole"

    @override
    def open(self, document: str, model: LanguageModel) -> View:
        """Prepare a document, or raise `PromptTooLongError` if it is too long. It is never truncated."""
        tokens = model.count_tokens(document)
        room = room_of(model, self.max_tokens)
        if room is not None and tokens > room:
            raise PromptTooLongError(tokens, room, advice=ADVICE)
        return _Fixed([Reading(shared=document)], [tokens])


@dataclass(frozen=True, slots=True)
class Windows(Context):
    """Every step reads each part of the document separately, and a further call merges the results.

    Attributes:
        tokens: Maximum number of tokens of a part.
        overlap: Number of characters that a part repeats from the one before it.
        max_windows: Maximum number of parts. Each is one call for every step that reads the document.
    """

    tokens: int = 4000
    overlap: int = 200
    max_windows: int = 32

    def __post_init__(self) -> None:
        if self.tokens < 16 or self.overlap < 0 or self.max_windows < 1:
            expected = "`tokens` >= 16, `overlap` >= 0 and `max_windows` >= 1"
            raise InvalidInputError(f"Windows needs {expected}, got {self}")

    @property
    @override
    def fingerprint(self) -> str:
        return f"windows:{self.tokens}:{self.overlap}"

    @override
    def open(self, document: str, model: LanguageModel) -> View:
        """Prepare a document, or raise `PromptTooLongError` if it has more than `max_windows` parts."""
        parts = cut(document, self.tokens, model.count_tokens, overlap=self.overlap)
        if len(parts) > self.max_windows:
            advice = f"raise `max_windows` ({self.max_windows}) or `tokens` ({self.tokens}), or use Retrieved(…)"
            raise PromptTooLongError(model.count_tokens(document), self.max_windows * self.tokens, advice=advice)
        if len(parts) < 2:
            return _Fixed([Reading(shared=document)], [model.count_tokens(document)])
        named = [
            Reading(shared=part.text, part=f"part {number} of {len(parts)}") for number, part in enumerate(parts, 1)
        ]
        return _Fixed(named, [model.count_tokens(part.text) for part in parts])
