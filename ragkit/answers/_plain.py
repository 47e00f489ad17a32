"""Answer readers that extract a part of the completion: by line, by marker or by pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import regex
from typing_extensions import override

from ragkit.answers._base import AnswerReader, Expected, ReadAnswer, load_reader, unreadable
from ragkit.errors import InvalidInputError

MAX_PATTERN_TEXT = 20_000
PATTERN_SECONDS = 1.0
_FENCE_LINE = re.compile(r"```\w*")


@dataclass(frozen=True)
class FirstLine(AnswerReader):
    """Extracts the first line that is not blank; the delimiters of a code block do not count as lines."""

    spec = "first-line"
    longest = 10_000_000

    @override
    def extract(self, text: str) -> ReadAnswer:
        lines = (line.strip() for line in text.splitlines())
        first = next((line for line in lines if line and not _FENCE_LINE.fullmatch(line)), None)
        return unreadable("the completion has no text in its code block") if first is None else ReadAnswer(first)


@dataclass(frozen=True)
class Whole(AnswerReader):
    """Extracts the whole completion, stripped."""

    spec = "whole"
    longest = 10_000_000

    @override
    def extract(self, text: str) -> ReadAnswer:
        return ReadAnswer(text.strip())


@dataclass(frozen=True)
class Regex(AnswerReader):
    """Extracts the first match of a regular expression: its first group that matched, or the whole match.

    Only the first 20,000 characters of a completion are searched, for one second at most: a pattern with nested
    repetitions such as ``(a+)+b`` takes exponential time on some texts. The completion is then unreadable.

    Attributes:
        pattern: The regular expression, in the syntax of the standard library's `re`.
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            regex.compile(self.pattern)
        except (regex.error, RecursionError, OverflowError) as error:
            raise InvalidInputError(
                f"the pattern {self.pattern!r} of the answer reader 'regex:<pattern>' is not a valid regular "
                f"expression: {error}"
            ) from error

    @property
    @override
    def spec(self) -> str:
        return f"regex:{self.pattern}"

    @override
    def extract(self, text: str) -> ReadAnswer:
        try:
            match = regex.search(self.pattern, text[:MAX_PATTERN_TEXT], timeout=PATTERN_SECONDS)
        except (TimeoutError, MemoryError):
            return unreadable(f"the pattern {self.pattern!r} took longer than {PATTERN_SECONDS:g} s")
        if match is None:
            return unreadable(f"the pattern {self.pattern!r} does not match")
        return ReadAnswer(next((group for group in match.groups() if group is not None), match[0]).strip())

    @override
    @classmethod
    def from_spec(cls, argument: str, expected: Expected) -> Self:
        if not argument:
            raise InvalidInputError(r"the answer reader 'regex' needs a pattern, as in 'regex:Answer: (\w+)'")
        return cls(argument)


@dataclass(frozen=True)
class After(AnswerReader):
    """Extracts the answer from the text after the last marker that is followed by text, with another reader.

    Case is ignored, and a marker that begins with a letter does not match inside a word. If the marker is in bold
    (``**Answer:** 5``), the closing delimiter is not part of the answer.

    Attributes:
        marker: The text before the answer, such as ``"####"`` or ``"Answer:"``.
        reader: The reader that extracts the answer from the text after the marker.
    """

    marker: str
    reader: AnswerReader

    @property
    @override
    def spec(self) -> str:
        return f"after:{self.marker}|{self.reader.spec}"

    @override
    def extract(self, text: str) -> ReadAnswer:
        end = len(text)
        for found in reversed(list(self._places.finditer(text))):
            if text[found.end() : end].strip():
                return self.reader.extract(_outside_bold(text, found, end).strip())
            end = found.start()
        return unreadable(f"no text follows the marker {self.marker!r}")

    @cached_property
    def _places(self) -> re.Pattern[str]:
        start = r"(?<![A-Za-z0-9_])" if self.marker[0].isascii() and self.marker[0].isalnum() else ""
        return re.compile(start + re.escape(self.marker).replace(":", "[:：]"), re.IGNORECASE)

    @override
    @classmethod
    def from_spec(cls, argument: str, expected: Expected) -> Self:
        marker, _, spec = (part.strip() for part in argument.partition("|"))
        if not marker:
            raise InvalidInputError("the answer reader 'after' needs a marker, as in 'after:Answer:|number'")
        return cls(marker, load_reader(spec or "whole", labels=expected.labels, options=expected.options))


@dataclass(frozen=True)
class FinalAnswer(AnswerReader):
    """Extracts the answer at the end of a reasoning: after the marker that the prompt asks for, if it is there.

    Attributes:
        marked: The reader of the answer after the marker.
        unmarked: The reader of a completion without the marker: one that finds an answer anywhere in a text, such as
            the last number; None if such a completion has no answer.
        instruction: The sentence of the prompt that contains the marker, which some models repeat; it is ignored.
    """

    marked: After
    unmarked: AnswerReader | None = None
    instruction: str = ""

    @property
    @override
    def spec(self) -> str:
        return self.marked.spec

    @override
    def extract(self, text: str) -> ReadAnswer:
        own = text.replace(self.instruction, "") if self.instruction else text
        found = self.marked.extract(own)
        return found if found.readable or self.unmarked is None else self.unmarked.extract(own)


def _outside_bold(text: str, marker: re.Match[str], end: int) -> str:
    before, rest = text[: marker.start()].rpartition("\n")[2], text[marker.end() : end].lstrip()
    mark = next((mark for mark in ("**", "__") if mark in before and rest.startswith(mark)), "")
    return rest.removeprefix(mark)
