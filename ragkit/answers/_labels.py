"""Extraction of the label, or of the option by its words, that a completion names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Self

from typing_extensions import override

from ragkit.answers._base import AnswerReader, Expected, ReadAnswer, unreadable
from ragkit.answers._wording import CharacterTable, announcing, negated, plain
from ragkit.errors import InvalidInputError

# Scripts that are written without spaces: each character is a word.
_UNSPACED = "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
# A word may contain a separator or begin with a sign if a digit follows: 3.5, 5,000, -1.
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\s.,{_UNSPACED}-]|(?<=\d)[.,](?=\d)|(?<!\S)-(?=\d))+")
_ONE_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_MARKUP = re.compile(r"\\(?:text|math)\w{0,12}(?=\{)|\\emph(?=\{)|</answer>", re.IGNORECASE)
_ANNOUNCED = announcing(r"answer|label|category|class|classification|intent|topic|sentiment|prediction|choice|option")
_BOXED = re.compile(r"\\boxed\s*\{")
_FILLERS = re.compile("the|an?|most|likely|probably|clearly|option|label|category|class|that|it|is")
_END = re.compile(r"\s*(?:\Z|\n|[.,;:!?)\]}\"'*|(<`_—。、，]|-\s|(?:because|since|as|due to|given)\b)", re.IGNORECASE)
_EXPLAINED = re.compile(r"[\"'*)\]`_]*(?:[.!]\s|,?\s*(?:because|since|as|due to|given)\b)", re.IGNORECASE)
_RETRACTED = re.compile(
    r"\b(?:wait|actually|or|alternatively|instead|rather|correction|sorry|hmm|but|however|maybe|also|answer|label)\b",
    re.IGNORECASE,
)
_LINE = 500  # characters of a line that are searched for another name
_STATEMENTS = 50
_MOST_AROUND = 6  # words around a name in "I would say it is … here"


def _kept_in_words(char: str) -> str:
    """Return the character if words may contain it, otherwise a space."""
    # Combining marks are the vowel signs of many scripts; symbols distinguish C++ and C# from C.
    category = unicodedata.category(char)
    symbol = char in "#%&@.,-" or (category in {"Sm", "Sc", "So"} and char not in "<>|~=")
    return char if char.isalnum() or category[0] == "M" or symbol else " "


_IN_WORDS = CharacterTable(_kept_in_words)


class Word(NamedTuple):
    """A case-folded word of a `plain` text, with its position."""

    text: str
    start: int
    end: int


class Mention(NamedTuple):
    """A position at which a text mentions a name."""

    name: int | None  # index; None if several names differ only in case or punctuation from the text
    start: int
    end: int


class Found(NamedTuple):
    """The index of the name that a text gives as its answer, or None and the reason."""

    name: int | None
    why: str = ""


def words_of(text: str) -> list[Word]:
    """Split a `plain` text into words."""
    return [Word(m[0].casefold(), m.start(), m.end()) for m in _WORD.finditer(text.translate(_IN_WORDS))]


def _length(text: str) -> float:
    """Return the number of words of a `plain` text; a character of a script without spaces counts as half a word."""
    return sum(0.5 if _ONE_CHARACTER.fullmatch(word.text) else 1 for word in words_of(text))


def _surface(text: str) -> str:
    return " ".join(plain(text).split())


def _folded(text: str) -> str:
    return _surface(text).casefold()


def _words(text: str) -> str:
    return "\n".join(word.text for word in words_of(plain(text))) or _folded(text)


_KEYS: tuple[Callable[[str], str], ...] = (str.strip, _surface, _folded, _words)  # from exact to coarse


@dataclass(slots=True)
class _Node:
    """A node of a prefix tree over the words of names."""

    next: dict[str, _Node] = field(default_factory=dict)
    names: list[int] = field(default_factory=list)


class Names:
    """Finds the name that a text gives as its answer; the time does not depend on the number of names.

    Attributes:
        names: The names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._tables: list[dict[str, list[int]]] = [{} for _ in _KEYS]
        self._root = _Node()
        self._surfaces: list[tuple[str, int]] = []
        for index, name in enumerate(names):
            for key, table in zip(_KEYS, self._tables, strict=True):
                table.setdefault(key(name), []).append(index)
            surface = plain(name).strip()
            words = words_of(surface)
            self._surfaces.append((surface, words[0].start if words else 0))
            node = self._root
            for word in words:
                node = node.next.setdefault(word.text, _Node())
            if words:
                node.names.append(index)

    def find(self, text: str) -> Found:
        """Find the single name that a text gives as its answer; several names, or a negated name, count as none.

        The following are tried in order: the whole text, or its first line, is a name; a name is announced
        (``The answer is …``), or begins the first line and only an explanation follows; the last line is a name; a
        short text contains exactly one name as whole words. Longer texts are not searched for names, because they use
        the same words in other meanings, as in "a role in the human body".

        Args:
            text: A completion without reasoning.

        Returns:
            The index of the name, or None and the reason.
        """
        index = self._equal(text)
        if index is not None:
            return Found(index)
        text = _MARKUP.sub(" ", plain(text)).strip()
        first = text.partition("\n")[0]
        for candidate in (text, first, *_after_colon(first)):
            index = self._equal(candidate)
            if index is not None:
                return Found(index)
        stated = self._stated(text)
        if stated:
            return self._only(stated)
        index = self._equal(text.rpartition("\n")[2])
        return self._mentioned(text) if index is None else Found(index)

    def _equal(self, text: str) -> int | None:
        for key, table in zip(_KEYS, self._tables, strict=True):
            indices = table.get(key(text), [])
            if len(indices) == 1:
                return indices[0]
        return None

    def _stated(self, text: str) -> list[Mention]:
        """Return the names that follow the announcement of an answer, or begin the text if it names no other."""
        boxed = [match.end() for match in _BOXED.finditer(text)]
        announced = boxed or [match.end() for match in _ANNOUNCED.finditer(text)]
        stated = [name for at in announced[-_STATEMENTS:] for name in self._leading(text, at)]
        begins = [] if boxed else self._leading(text, 0)
        return [*begins, *stated] if len(begins) == 1 else stated

    def _leading(self, text: str, start: int) -> list[Mention]:
        """Return the name at a position, and other names in the rest of the line unless it is an explanation."""
        line = text[start : start + _LINE].partition("\n")[0]
        words = words_of(line)
        at = 0
        found = self._longest(line, words, at)
        while found is None and at < len(words) and _FILLERS.fullmatch(words[at].text):
            at += 1
            found = self._longest(line, words, at)
        if found is None or not _END.match(line, found.end):
            return []
        rest = line[found.end :]
        others = [mention for mention in self._mentions(rest) if mention.name != found.name]
        explained = others and words_of(rest[: others[0].start]) and _EXPLAINED.match(rest)
        return [found] if explained and not _RETRACTED.search(rest) else [found, *others]

    def _mentioned(self, text: str) -> Found:
        found = list(self._mentions(text))
        if not found:
            return Found(None, "it names none of the expected answers")
        for mention in found:
            if negated(text, mention.start):
                return Found(None, f"it negates {text[mention.start : mention.end]!r:.60}")
        if _length(text) - sum(_length(text[each.start : each.end]) for each in found) > _MOST_AROUND:
            return Found(None, "it is long, and does not say which expected answer it gives")
        return self._only(found)

    def _only(self, found: Sequence[Mention]) -> Found:
        indices = dict.fromkeys(mention.name for mention in found)
        if len(indices) == 1 and found[0].name is not None:
            return Found(found[0].name)
        names = [repr(self.names[index]) for index in indices if index is not None]
        return Found(None, f"it names several of the expected answers: {', '.join(names[:5]) or 'they differ in case'}")

    def _mentions(self, text: str) -> Iterator[Mention]:
        words = words_of(text)
        at = 0
        while at < len(words):
            found = self._longest(text, words, at)
            if found is None or not _stands_alone(text, found):
                at += 1
                continue
            yield found
            while at < len(words) and words[at].start < found.end:
                at += 1

    def _longest(self, text: str, words: Sequence[Word], at: int) -> Mention | None:
        node: _Node | None = self._root
        found = None
        for place in range(at, len(words)):
            node = node.next.get(words[place].text) if node else None
            if node is None:
                break
            if node.names:
                found = node.names, words[place].end
        if found is None:
            return None
        return Mention(self._resolve(text, words[at].start, found[0]), words[at].start, found[1])

    def _resolve(self, text: str, start: int, indices: Sequence[int]) -> int | None:
        """Distinguish names that have the same words by their case and punctuation; None if this is not possible."""
        if len(indices) == 1:
            return indices[0]
        fits = [
            (len(surface), index)
            for index in indices
            for surface, before in [self._surfaces[index]]
            if start >= before and text.startswith(surface, start - before)
        ]
        longest = [index for size, index in fits if size == max(fits)[0]]
        return longest[0] if len(longest) == 1 else None


def _after_colon(line: str) -> Iterator[str]:
    """Yield the text after the first and the last colon of a line that begins with a short title: ``Réponse : …``."""
    for at in dict.fromkeys((line.find(":"), line.rfind(":"))):
        if 0 < at <= 40 and not negated(line, at):
            yield line[at + 1 :]


def _stands_alone(text: str, found: Mention) -> bool:
    """Return whether a mention is not part of a longer word; this is a heuristic in scripts without spaces."""
    after = text[found.end : found.end + 1]
    if after and unicodedata.category(after)[0] == "M":
        return False
    if found.end - found.start > 1 or not _ONE_CHARACTER.match(text[found.start]):
        return True
    return not _ONE_CHARACTER.match(after) and not _ONE_CHARACTER.match(text[max(0, found.start - 1) : found.start])


@dataclass(frozen=True)
class LabelReader(AnswerReader):
    """Extracts the label that a completion names.

    Attributes:
        labels: The labels of the task.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels or not all(label.strip() for label in self.labels):
            raise InvalidInputError(
                f"the answer reader 'label' needs the labels of the task, none of them blank; got {self.labels!r:.80}"
            )

    spec = "label"

    @override
    def extract(self, text: str) -> ReadAnswer:
        found = self._names.find(text)
        return unreadable(found.why) if found.name is None else ReadAnswer(self._names.names[found.name])

    @cached_property
    def _names(self) -> Names:
        return Names(tuple(dict.fromkeys(self.labels)))

    @override
    @classmethod
    def from_spec(cls, argument: str, expected: Expected) -> Self:
        if argument:
            raise InvalidInputError(f"the answer reader 'label' takes no argument, got {argument!r}")
        return cls(expected.labels or ())
