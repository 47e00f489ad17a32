"""Stages that drop examples: leaks and duplicates, dissimilar examples, and examples that exceed a token limit."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ragkit._text import folded, spaced, words
from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel
from ragkit.templates import Template
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.stages.base import SelectionContext, Upstream

_PIECE = re.compile(r"\w+|[^\w\s]")


def count_pieces(text: str) -> int:
    """Count words (or characters, in scripts without spaces) and punctuation marks, as an estimate of tokens."""
    return len(_PIECE.findall(spaced(text)))


class _Sieve(ABC):
    """A stage that drops candidates, and requests more until enough have passed."""

    __slots__ = ()

    def fetch(self, n: int) -> int:
        """Return slightly more than n."""
        return n + 8

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Return the first n candidates that pass."""
        fetch = self.fetch(n)
        while True:
            found = upstream(fetch)
            kept = self._sift(context, found, n)
            if len(kept) >= n or len(found) < fetch:
                return found.take(np.array(kept[:n], dtype=np.intp))
            fetch *= 4

    @abstractmethod
    def _sift(self, context: SelectionContext, found: Candidates, n: int) -> list[int]:
        """Return the indices of the first n candidates that pass; add reasons for the others to ``context.dropped``."""


@dataclass(frozen=True, slots=True)
class Guard(_Sieve):
    """Drops examples that are duplicates or near-duplicates of the query or of a selected example.

    Texts that differ only in case and punctuation are duplicates. Near-duplicates are found by the Jaccard similarity
    of their words.

    Attributes:
        near: Minimum similarity of near-duplicates; None to drop only duplicates.
    """

    near: float | None = 0.9

    def __post_init__(self) -> None:
        if self.near is not None and not 0 < self.near <= 1:
            raise InvalidInputError(f"`near` must be above 0 and at most 1, or None; got {self.near!r}")

    def _sift(self, context: SelectionContext, found: Candidates, n: int) -> list[int]:
        kept: list[int] = []
        shown = [("the query", folded(context.text), set(words(context.text)))]
        for place, row in enumerate(found.rows.tolist()):
            entry = context.entry(row)
            whole, held = folded(entry.text), set(words(entry.text))
            reason = self._reason(whole, held, shown)
            if reason:
                context.dropped[row] = reason
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
            similarity = len(held & other_held) / union if union else 0.0
            if self.near is not None and similarity >= self.near:
                return f"nearly the same text as {name} (Jaccard {similarity:.2f})"
        return ""


@dataclass(frozen=True, slots=True)
class MinScore(_Sieve):
    """Drops examples that are not similar to the query; fewer than k examples, or none, may remain.

    Attributes:
        score: Minimum score of the selector.
        jaccard: Minimum Jaccard similarity of normalised words; works with any selector.
        cosine: Minimum cosine; requires an embedding selector or a hybrid selector that contains one.
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

    def _sift(self, context: SelectionContext, found: Candidates, n: int) -> list[int]:
        kept: list[int] = []
        bounds = ("score", self.score), ("jaccard", self.jaccard), ("cosine", self.cosine)
        values = {name: (self._values(name, context, found), bound) for name, bound in bounds if bound is not None}
        for place in range(len(found)):
            low = [(name, got[place], bound) for name, (got, bound) in values.items() if not got[place] >= bound]
            if not low:
                kept.append(place)
            elif place < n:  # reasons only for examples that would have been selected, not for thousands of others
                context.dropped[int(found.rows[place])] = f"{low[0][0]} {low[0][1]:.3f} is below {low[0][2]}"
        return kept

    @staticmethod
    def _values(name: str, context: SelectionContext, found: Candidates) -> list[float]:
        if name == "score":
            return list(found.scores)
        if name == "jaccard":
            query = set(words(context.text))
            held = [set(words(context.entry(row).text)) for row in found.rows.tolist()]
            return [len(query & other) / max(1, len(query | other)) for other in held]
        if context.source.gives_cosines:
            return list(found.scores)
        if "embedding" not in found.parts:
            kind = type(context.source).__name__
            raise InvalidInputError(f"MinScore(cosine=…) needs an embedding selector before it, not {kind}")
        return list(found.parts["embedding"])


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """Drops examples that would exceed a token limit, and continues with the next; `Selection.tokens` is the sum.

    Attributes:
        limit: Maximum number of tokens of all selected examples together, as the template renders them.
        counter: A function that returns the number of tokens of a text, a model, or the spec of a model; ``"words"``
            counts words and punctuation marks, which are usually somewhat fewer than the tokens of a model.
        template: Format of the examples.
    """

    limit: int = 1000
    counter: str | LanguageModel | Callable[[str], int] = "words"
    template: Template = field(default_factory=Template)

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 0:
            raise InvalidInputError(f"`limit` must be a whole number, 0 or more; got {self.limit!r}")

    def fetch(self, n: int) -> int:
        """Return four times n."""
        return 4 * n

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Return up to n candidates that fit, out of the 4n best ones."""
        found, count, used = upstream(self.fetch(n)), self._count(), 0
        kept: list[int] = []
        for place, example in enumerate(context.examples(found)):
            size = count(self.template.render_example(example))
            if used + size > self.limit:
                context.dropped[int(found.rows[place])] = f"{size} tokens do not fit: {used} of {self.limit} are taken"
                continue
            used += size
            kept.append(place)
            if len(kept) == n:
                break
        context.tokens = used
        return found.take(np.array(kept, dtype=np.intp))

    def _count(self) -> Callable[[str], int]:
        if self.counter == "words":
            return count_pieces
        if isinstance(self.counter, (str, LanguageModel)):
            return load_model(self.counter).count_tokens
        return self.counter
