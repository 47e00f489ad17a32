"""Answers with citations and their trace, complete or as a stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ragkit.records import Completion, Hit, Prompt, Usage

# [1], [1, 2] and [1][2], but not the Markdown link [1](address).
_MARK = re.compile(r"\[(\d{1,9}(?:\s*[,;]\s*\d{1,9})*)\](?!\()")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A citation in an answer.

    Attributes:
        number: The number in the answer.
        id: Id of the document.
        source: The document's ``source`` in its metadata, such as its file.
        span: Start and end of the text in its source, in characters; None if the document does not contain them.
        text: The cited text.
    """

    number: int
    id: str
    source: str | None
    span: tuple[int, int] | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedAnswer:
    """An answer with its citations and its trace.

    Attributes:
        text: The answer.
        citations: The citations in it, without repetitions, in the order of the text.
        flagged: Numbers in it that do not refer to a passage of the prompt.
        refused: Whether the documents do not answer the question; `text` is then the refusal.
        question: The query of the retriever. It differs from the question after a conversation.
        hits: The passages in the prompt, numbered from 1.
        dropped: Ids of retrieved passages that are not in the prompt, with the reason.
        prompt: The prompt; None if no model was called.
        completion: The completion of the model.
        rewriting: The completion that rewrote the question, after a conversation.
        seconds: Time of each stage; the time of a batch is divided equally among its questions.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    flagged: tuple[int, ...] = ()
    refused: bool = False
    question: str = ""
    hits: tuple[Hit, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    prompt: Prompt | None = None
    completion: Completion | None = None
    rewriting: Completion | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def supported(self) -> bool:
        """Whether the answer has citations, and all of them refer to passages of the prompt."""
        return bool(self.citations) and not self.flagged

    @property
    def usage(self) -> Usage:
        """Token usage of all calls."""
        return sum((each.usage for each in (self.rewriting, self.completion) if each is not None), Usage())

    @property
    def cost(self) -> float | None:
        """Cost of all calls in US dollars; None if a price is unknown."""
        costs = [each.cost for each in (self.rewriting, self.completion) if each is not None]
        return None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs)


class AnswerStream(Iterator[str]):
    """The pieces of an answer while it is generated; `answer` is the complete answer with its citations."""

    def __init__(self, pieces: Iterator[str], finish: Callable[[str], CitedAnswer]) -> None:
        """Wrap the pieces."""
        self._pieces, self._finish = pieces, finish
        self._text = ""
        self._answer: CitedAnswer | None = None

    def __next__(self) -> str:
        try:
            piece = next(self._pieces)
        except StopIteration:
            if self._answer is None:
                self._answer = self._finish(self._text)
            raise
        self._text += piece
        return piece

    @property
    def answer(self) -> CitedAnswer:
        """The complete answer; reads the rest of the stream first."""
        for _ in self:
            pass
        assert self._answer is not None  # noqa: S101 - set at the end of the stream
        return self._answer


def read_citations(text: str, hits: Sequence[Hit]) -> tuple[tuple[Citation, ...], tuple[int, ...]]:
    """Return the citations in an answer, and the numbers in it that do not refer to a passage."""
    numbers = dict.fromkeys(int(number) for mark in _MARK.findall(text) for number in _NUMBER.findall(mark))
    valid = [number for number in numbers if 1 <= number <= len(hits)]
    return (
        tuple(citation_of(number, hits[number - 1]) for number in valid),
        tuple(number for number in numbers if number not in valid),
    )


def without_marks(text: str) -> str:
    """Remove the citation numbers from an answer, and the space before them."""
    return re.sub(rf"\s*{_MARK.pattern}", "", text)


def citation_of(number: int, hit: Hit) -> Citation:
    """Return the citation of a whole passage."""
    source = (hit.metadata or {}).get("source")
    return Citation(
        number=number, id=hit.id, source=source if isinstance(source, str) else None, span=hit.span, text=hit.text
    )
