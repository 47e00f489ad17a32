"""Answers with citations and their trace, complete or as a stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ragkit._breaks import LineNumbers
from ragkit._tuples import restore_tuples
from ragkit.records import Completion, Example, Hit, Prompt, Usage
from ragkit_pipelines.printable import printable

_PLACE = r"(?:(?:passage|source|document|doc)s?\s*)?\d{1,9}(?:\s*[-\u2010-\u2014]\s*\d{1,9})?"
_INDEX = r"(?:\[[^\[\]\n]{0,80}\])+"
_CODE = (
    r"```.*?(?:```|\Z)|`[^`\n]+`"
    rf"|(?<!\w)(?:(?-i:[a-z])|(?=[^\W_]*+_)\w++){_INDEX}"  # a[1]; but a word may be cited without a space: red[1]
    rf"|(?<!\w)\w++{_INDEX}(?=\s*[-+*/]?=)"
)
# [1], [1, 2], [1-3], [^1], 【1】 and 【1†source】; a Markdown link [1](address) and code are none.
_MARK = re.compile(
    rf"(?P<code>{_CODE})|[\[［【]\s*\^?(?P<places>{_PLACE}(?:\s*(?:[,;，、&]|and)\s*{_PLACE})*)"
    r"(?:(?::\d+)?†[^\]】\n]{0,200})?\s*[\]］】](?!\()",
    re.DOTALL | re.IGNORECASE,
)
_RANGE = re.compile(r"(\d+)(?:\s*[-\u2010-\u2014]\s*(\d+))?")
_LONGEST_RANGE = 100  # of a longer one, such as one of years, only the ends count


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A citation in an answer; ``print`` shows its number, source and position.

    Attributes:
        number: The number in the answer.
        id: Id of the document.
        source: The document's ``source`` in its metadata, such as its file.
        span: Start and end of the text in its source, in characters; None if the document does not contain them.
        lines: First and last line of the text in its source; None if the source is not a text file.
        text: The cited text.
    """

    number: int
    id: str
    source: str | None
    span: tuple[int, int] | None
    text: str
    lines: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        restore_tuples(self)

    def __str__(self) -> str:
        place = "" if self.span is None else f", characters {self.span[0]} to {self.span[1]}"
        if self.lines is not None:
            first, last = self.lines
            place = f":{first}" if first == last else f":{first}-{last}"
        return printable(f"[{self.number}] {self.source or self.id}{place}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedAnswer:
    """An answer with its citations and its trace; ``print`` shows the text, then the citations.

    Attributes:
        text: The answer.
        citations: The citations in it, without repetitions, in the order of the text.
        flagged: Numbers in it that do not refer to a passage of the prompt.
        attributed: Whether ragkit added the citation, because the model cited nothing: every word that the answer adds
            to the question occurs in the cited passage.
        refused: Whether the documents do not answer the question; `text` is then the refusal.
        question: The query of the retriever. It differs from the question after a conversation.
        hits: The passages in the prompt, numbered from 1.
        dropped: Ids of retrieved passages that are not in the prompt, with the reason.
        truncated: Ids of passages of which only the beginning is in the prompt, with the reason.
        examples: The demonstrations in the prompt.
        prompt: The prompt; None if no model was called.
        completion: The completion of the model.
        rewriting: The completion that rewrote the question, after a conversation.
        seconds: Time of each stage; the time of a batch is divided equally among its questions.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    flagged: tuple[int, ...] = ()
    attributed: bool = False
    refused: bool = False
    question: str = ""
    hits: tuple[Hit, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    truncated: tuple[tuple[str, str], ...] = ()
    examples: tuple[Example, ...] = ()
    prompt: Prompt | None = None
    completion: Completion | None = None
    rewriting: Completion | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        restore_tuples(self)

    @property
    def supported(self) -> bool:
        """Whether the answer has citations, and all of them refer to passages of the prompt; False for a refusal."""
        return bool(self.citations) and not self.flagged

    @property
    def uncited(self) -> bool:
        """Whether the answer is not a refusal, and does not cite a single passage of the prompt."""
        return not self.refused and not self.citations

    @property
    def usage(self) -> Usage:
        """Token usage of all calls."""
        return sum((each.usage for each in (self.rewriting, self.completion) if each is not None), Usage())

    @property
    def cost(self) -> float | None:
        """Cost of all calls in US dollars; None if a price is unknown."""
        costs = [each.cost for each in (self.rewriting, self.completion) if each is not None]
        return None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs)

    def __str__(self) -> str:
        cited = "\n".join(map(str, self.citations))
        return printable(self.text) + (f"\n\n{cited}" if cited else "")


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
    numbers = dict.fromkeys(number for mark in _marks(text) for number in _numbers(mark["places"]))
    valid = [number for number in numbers if 1 <= number <= len(hits)]
    return (
        tuple(citation_of(number, hits[number - 1]) for number in valid),
        tuple(number for number in numbers if number not in valid),
    )


def without_marks(text: str) -> str:
    """Remove the citation numbers from an answer, and the space before them."""
    kept, at = [], 0
    for mark in _marks(text):
        kept.append(text[at : mark.start()].rstrip())
        at = mark.end()
    return "".join((*kept, text[at:]))


def _marks(text: str) -> Iterator[re.Match[str]]:
    return (match for match in _MARK.finditer(text) if match["places"])


def _numbers(places: str) -> Iterator[int]:
    for first, last in _RANGE.findall(places):
        start, end = int(first), int(last or first)
        yield from range(start, end + 1) if 0 <= end - start < _LONGEST_RANGE else (start, end)


def citation_of(number: int, hit: Hit) -> Citation:
    """Return the citation of a whole passage."""
    source = (hit.metadata or {}).get("source")
    return Citation(
        number=number,
        id=hit.id,
        source=source if isinstance(source, str) else None,
        span=hit.span,
        text=hit.text,
        lines=lines_of(hit, 0, len(hit.text)),
    )


def lines_of(hit: Hit, start: int, end: int) -> tuple[int, int] | None:
    """Return the first and last line of a part of a passage in its file, without white space around it."""
    metadata = hit.metadata or {}
    line, text = metadata.get("line"), hit.text[start:end]
    if type(line) is not int or hit.span is None or hit.span[0] != metadata.get("start") or "row" in metadata:
        return None
    first = start + len(text) - len(text.lstrip())
    lines = LineNumbers(hit.text, line)
    return lines.at(first), lines.at(max(first, start + len(text.rstrip()) - 1))
