"""The base class of answer readers, and their creation from specs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from ragkit._text import refuse_bare_string
from ragkit.answers._reasoning import without_reasoning
from ragkit.errors import InvalidInputError
from ragkit.registry import find


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The answer extracted from a completion.

    Attributes:
        text: The answer. If the completion has no answer of the expected form, this is the stripped completion without
            its reasoning, which a metric can still score.
        readable: Whether the completion has an answer of the expected form.
        why: The reason why the answer is not readable; empty for a readable answer.
    """

    text: str
    readable: bool = True
    why: str = ""


def unreadable(why: str) -> ReadAnswer:
    """Return the result of a reader that finds no answer of the expected form; `AnswerReader.read` adds the text."""
    return ReadAnswer("", readable=False, why=why)


@dataclass(frozen=True, slots=True)
class Expected:
    """The answers that a task expects.

    Attributes:
        labels: The labels of a classification task; None if there are none.
        options: The options of a multiple-choice question; None if they are not known or differ from row to row.
    """

    labels: tuple[str, ...] | None = None
    options: tuple[str, ...] | None = None


class AnswerReader(ABC):
    """Extracts the answer from a completion.

    A reader implements `extract` and `spec`, overrides `from_spec` if it takes an argument, and is registered with
    ``register("answer reader", name)``.

    Attributes:
        longest: Maximum length of a completion without its reasoning, in characters; longer ones are not read.
    """

    longest: ClassVar[int] = 100_000

    @property
    @abstractmethod
    def spec(self) -> str:
        """The spec that loads this reader; a class attribute for a reader without an argument."""

    @abstractmethod
    def extract(self, text: str) -> ReadAnswer:
        """Return the answer in a completion without reasoning, which is not blank, or `unreadable` with the reason."""

    def read(self, text: str) -> ReadAnswer:
        """Remove the reasoning of a completion, and extract the answer from the rest."""
        outside = without_reasoning(text)
        kept = outside.text.strip()
        if outside.truncated:
            found = unreadable("the completion ends inside its reasoning")
        elif len(kept) > self.longest:
            found = unreadable(f"the completion is longer than {self.longest:,} characters")
        else:
            found = self.extract(kept) if kept else unreadable("the completion is empty")
        if found.readable and not found.text.strip():
            found = unreadable("the answer is empty")
        return found if found.readable else replace(found, text=kept)

    @classmethod
    def from_spec(cls, argument: str, expected: Expected) -> Self:  # noqa: ARG003 - for subclasses
        """Create a reader from the part of a spec after the first colon, and the labels and options of a task.

        Returns:
            The reader.

        Raises:
            InvalidInputError: If the argument or the task does not fit the reader.
        """
        if argument:
            raise InvalidInputError(f"the answer reader {cls.spec!r} takes no argument, got {argument!r}")
        return cls()


def load_reader(
    spec: str | AnswerReader, *, labels: Sequence[str] | None = None, options: Sequence[str] | None = None
) -> AnswerReader:
    """Return the answer reader that a spec describes; a reader is returned unchanged.

    Args:
        spec: ``"first-line"`` (the first line that is not blank), ``"whole"`` (everything, stripped), ``"label"`` (one
            of ``labels``), ``"choice"`` (the letter of an option), ``"number"``, ``"json:<field>"`` (a field of the
            first JSON object; dots name nested fields), ``"regex:<pattern>"`` (group 1, or the whole match if the
            pattern has no group) or ``"after:<marker>"`` (the text after the last marker). A reader for that text may
            follow after ``|``: ``"after:Answer:|number"``.
        labels: The labels of the task, required by ``"label"``.
        options: The options of the question, used by ``"choice"``.

    Returns:
        The reader.

    Raises:
        UnknownSpecError: If no reader has this name.
        InvalidInputError: If the argument in the spec, the labels or the options do not fit the reader.
    """
    if isinstance(spec, AnswerReader):
        return spec
    if not isinstance(spec, str):
        raise InvalidInputError(f"`spec` must be a string or an AnswerReader, got {type(spec).__name__}")
    spec = spec.strip()
    found = find("answer reader", spec)
    reader: type[AnswerReader] = found.load()
    return reader.from_spec(
        spec[len(found.name) + 1 :], Expected(_strings("labels", labels), _strings("options", options))
    )


def _strings(name: str, values: Sequence[str] | None) -> tuple[str, ...] | None:
    if values is None:
        return None
    refuse_bare_string(name, values)
    if not all(isinstance(value, str) for value in values):
        raise InvalidInputError(f"`{name}` must be a list of strings, got {list(values)!r:.80}")
    return tuple(values)
