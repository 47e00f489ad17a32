"""Stages that leave examples out: leaks and duplicates, what is not like the query, and what does not fit."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.templates import Template
from ragkit.text import folded, spaced, words
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.stages.base import Asked, Before

_PIECE = re.compile(r"\w+|[^\w\s]")


def count_pieces(text: str) -> int:
    """Count words and punctuation marks, somewhat fewer than a model's tokens.

    In scripts without spaces, each character counts.

    Returns:
        Their number.
    """
    return len(_PIECE.findall(spaced(text)))


class _Sieve(ABC):
    """A stage that lets candidates through or not, and asks for more until it has enough."""

    __slots__ = ()

    def fetch(self, n: int) -> int:
        """A few more than asked for."""
        return n + 8

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Let n through."""
        fetch = self.fetch(n)
        while True:
            found = before(fetch)
            kept = self._sift(asked, found, n)
            if len(kept) >= n or len(found) < fetch:
                return found.take(np.array(kept[:n], dtype=np.intp))
            fetch *= 4

    @abstractmethod
    def _sift(self, asked: Asked, found: Candidates, n: int) -> list[int]:
        """The places of the first n candidates that pass; the reasons of the others go to ``asked.dropped``."""


@dataclass(frozen=True, slots=True)
class Guard(_Sieve):
    """Leave out the query itself, what is nearly the query, and duplicates among the chosen.

    Texts are compared without case and punctuation, nearly the same ones by the Jaccard likeness of their words.

    Attributes:
        near: Likeness from which two texts are nearly the same; None to leave out only what is the same.
    """

    near: float | None = 0.9

    def __post_init__(self) -> None:
        if self.near is not None and not 0 < self.near <= 1:
            raise InvalidInputError(f"`near` must be above 0 and at most 1, or None; got {self.near!r}")

    def _sift(self, asked: Asked, found: Candidates, n: int) -> list[int]:
        kept: list[int] = []
        shown = [("the query", folded(asked.text), set(words(asked.text)))]
        for place, row in enumerate(found.rows.tolist()):
            entry = asked.entry(row)
            whole, held = folded(entry.text), set(words(entry.text))
            reason = self._reason(whole, held, shown)
            if reason:
                asked.dropped[row] = reason
                continue
            shown.append((repr(entry.id), whole, held))
            kept.append(place)
            if len(kept) == n:
                break
        return kept

    def _reason(self, whole: str, held: set[str], shown: list[tuple[str, str, set[str]]]) -> str:
        for name, other_whole, other_held in shown:
            if whole == other_whole:
                return f"same text as {name}"
            union = len(held | other_held)
            likeness = len(held & other_held) / union if union else 0.0
            if self.near is not None and likeness >= self.near:
                return f"nearly the same text as {name} (Jaccard {likeness:.2f})"
        return ""


@dataclass(frozen=True, slots=True)
class MinScore(_Sieve):
    """Leave out what is not like the query; fewer examples, or none, may be left.

    Attributes:
        score: The least score of the selector itself.
        jaccard: The least Jaccard likeness of folded words, behind any selector.
        cosine: The least cosine, behind an embedding selector or a hybrid with one.
    """

    score: float | None = None
    jaccard: float | None = None
    cosine: float | None = None

    def __post_init__(self) -> None:
        if self.score is None and self.jaccard is None and self.cosine is None:
            raise InvalidInputError("`MinScore` needs a bound, such as MinScore(jaccard=0.2)")
        for name, bound in (("score", self.score), ("jaccard", self.jaccard), ("cosine", self.cosine)):
            if bound is not None and not math.isfinite(bound):
                raise InvalidInputError(f"`{name}` must be a finite number, got {bound!r}")

    def _sift(self, asked: Asked, found: Candidates, n: int) -> list[int]:
        kept: list[int] = []
        bounds = {"score": self.score, "jaccard": self.jaccard, "cosine": self.cosine}
        values = {
            name: (self._values(name, asked, found), bound) for name, bound in bounds.items() if bound is not None
        }
        for place in range(len(found)):
            low = [(name, got[place], bound) for name, (got, bound) in values.items() if not got[place] >= bound]
            if not low:
                kept.append(place)
            elif place < n:  # what would have been chosen; the reasons of thousands of others help nobody
                asked.dropped[int(found.rows[place])] = f"{low[0][0]} {low[0][1]:.3f} is below {low[0][2]}"
        return kept

    @staticmethod
    def _values(name: str, asked: Asked, found: Candidates) -> list[float]:
        if name == "score":
            return list(found.scores)
        if name == "jaccard":
            query = set(words(asked.text))
            held = [set(words(asked.entry(row).text)) for row in found.rows.tolist()]
            return [len(query & other) / max(1, len(query | other)) for other in held]
        if asked.source.gives_cosines:
            return list(found.scores)
        if "embedding" not in found.parts:
            kind = type(asked.source).__name__
            raise InvalidInputError(f"MinScore(cosine=…) needs an embedding selector before it, not {kind}")
        return list(found.parts["embedding"])


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """Leave out what does not fit into a number of tokens, and go on with the next; the sum is in `Selection.tokens`.

    Attributes:
        limit: Tokens that all chosen examples may take together, as the template renders them.
        counter: A function from text to a number of tokens, a model or its spec; ``"words"`` counts words and
            punctuation marks, somewhat fewer than a model's tokens.
        template: How examples become text.
    """

    limit: int = 1000
    counter: str | LanguageModel | Callable[[str], int] = "words"
    template: Template = field(default_factory=Template)

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 0:
            raise InvalidInputError(f"`limit` must be a whole number, 0 or more; got {self.limit!r}")

    def fetch(self, n: int) -> int:
        """Four times as many."""
        return 4 * n

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Let through what fits, out of four times as many candidates as asked for."""
        found, count, used = before(self.fetch(n)), self._count(), 0
        kept: list[int] = []
        for place, example in enumerate(asked.examples(found)):
            size = count(self.template.render_example(example))
            if used + size > self.limit:
                asked.dropped[int(found.rows[place])] = f"{size} tokens do not fit: {used} of {self.limit} are taken"
                continue
            used += size
            kept.append(place)
            if len(kept) == n:
                break
        asked.tokens = used
        return found.take(np.array(kept, dtype=np.intp))

    def _count(self) -> Callable[[str], int]:
        if self.counter == "words":
            return count_pieces
        if isinstance(self.counter, (str, LanguageModel)):
            return load_model(self.counter).count_tokens
        return self.counter
