"""An answer, what it cites, and how it came about."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ragkit.records import Completion, Hit, Prompt, Usage

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
    r"(?:(?::\d+)?†[^\]】\n]*)?\s*[\]］】](?!\()",
    re.DOTALL | re.IGNORECASE,
)
_RANGE = re.compile(r"(\d+)(?:\s*[-\u2010-\u2014]\s*(\d+))?")
_LONGEST_RANGE = 100  # of a longer one, such as one of years, only the ends count


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """What a number in an answer points at.

    Attributes:
        number: The number, as it stands in the answer.
        id: Id of the document.
        source: The file or whatever else the document's metadata call its source.
        span: Start and end of the text in its source, in characters; None where the document does not say.
        text: The text that is cited.
    """

    number: int
    id: str
    source: str | None
    span: tuple[int, int] | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CitedAnswer:
    """An answer with its evidence and its trace.

    Attributes:
        text: The answer.
        citations: What the numbers in it point at, each once, in their order in the text.
        flagged: Numbers in it that point at nothing that was shown.
        refused: Whether the documents do not answer the question; `text` then says so.
        question: The question as it was searched, which is another one than asked after a conversation.
        hits: The passages that were shown, numbered from 1.
        dropped: Ids that were found and not shown, with the reason.
        prompt: What the model was asked; None where none was.
        completion: What it answered.
        rewriting: The completion that made the question, after a conversation.
        seconds: Time of each stage; a batch's time is shared out.
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
        """Whether the answer cites something, and nothing that was not shown."""
        return bool(self.citations) and not self.flagged

    @property
    def usage(self) -> Usage:
        """Tokens of all calls."""
        return sum((each.usage for each in (self.rewriting, self.completion) if each is not None), Usage())

    @property
    def cost(self) -> float | None:
        """Money of all calls in US dollars; None where a price is unknown."""
        costs = [each.cost for each in (self.rewriting, self.completion) if each is not None]
        return None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs)


def read_citations(text: str, hits: Sequence[Hit]) -> tuple[tuple[Citation, ...], tuple[int, ...]]:
    """Check the numbers in an answer against the passages that were shown.

    Args:
        text: The answer.
        hits: The passages, numbered from 1.

    Returns:
        What the numbers point at, and the numbers that point at nothing.
    """
    numbers = dict.fromkeys(number for mark in _marks(text) for number in _numbers(mark["places"]))
    good = [number for number in numbers if 1 <= number <= len(hits)]
    return (
        tuple(citation_of(number, hits[number - 1]) for number in good),
        tuple(number for number in numbers if number not in good),
    )


def without_marks(text: str) -> str:
    """An answer without the numbers that cite, and without the space before them.

    Args:
        text: The answer.

    Returns:
        The bare answer.
    """
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
    """A citation of a whole passage."""
    source = (hit.metadata or {}).get("source")
    return Citation(
        number=number, id=hit.id, source=source if isinstance(source, str) else None, span=hit.span, text=hit.text
    )
