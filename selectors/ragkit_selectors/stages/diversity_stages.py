"""Stages that select sets of examples: similar to the query but different from each other, or covering the query."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from sys import maxsize

import numpy as np
from numpy.typing import NDArray

from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.lexical.analysis import load_analyzer
from ragkit.lexical.bm25 import BM25, LANGUAGE
from ragkit.mmr import mmr
from ragkit.protocols import Embedder, TokenEmbedder
from ragkit.records import Example
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.stages.base import Asked, Before
from ragkit_selectors.stages.diversity import bsr_contributions, cover, dpp

_MOST_KEPT = 4096


def _check_fetch(fetch_k: int) -> None:
    if type(fetch_k) is not int or fetch_k < 1:
        raise InvalidInputError(f"`fetch_k` must be a whole number of at least 1, got {fetch_k!r}")


@dataclass(frozen=True, slots=True)
class Mmr:
    """Maximal marginal relevance: similarity to the query, minus similarity to the examples already selected.

    Similarities are cosines of embeddings after an embedding selector, otherwise cosines of TF-IDF vectors.

    Attributes:
        trade_off: Weight of relevance: 1 for similarity to the query only, 0 for diversity only (lambda in arXiv
            2211.13892).
        fetch_k: Number of candidates.
    """

    trade_off: float = 0.7
    fetch_k: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.trade_off <= 1:
            raise InvalidInputError(f"`trade_off` must be between 0 and 1, got {self.trade_off!r}")
        _check_fetch(self.fetch_k)

    def fetch(self, n: int) -> int:
        """Return at least `fetch_k`."""
        return max(n, self.fetch_k)

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Select n candidates."""
        found = before(self.fetch(n))
        query, vectors = asked.source._vectors(asked.text, found.rows)
        places, penalties = mmr(query, vectors, n, self.trade_off)
        return found.take(places, mmr_penalty=penalties)


@dataclass(frozen=True, slots=True)
class Dpp:
    """The most probable subset of a determinantal point process, found greedily (CEIL, arXiv 2302.05698).

    Attributes:
        scale: Smaller values give more weight to similarity to the query than to diversity.
        fetch_k: Number of candidates.
    """

    scale: float = 0.1
    fetch_k: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise InvalidInputError(f"`scale` must be above 0, got {self.scale!r}")
        _check_fetch(self.fetch_k)

    def fetch(self, n: int) -> int:
        """Return at least `fetch_k`."""
        return max(n, self.fetch_k)

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Select n candidates."""
        found = before(self.fetch(n))
        query, vectors = asked.source._vectors(asked.text, found.rows)
        return found.take(dpp(query, vectors, n, self.scale))


@dataclass(frozen=True, slots=True)
class Coverage:
    """Examples that together cover every part of the query, as compositional tasks need (arXiv 2305.14907).

    By default, this is Set-BM25: the parts are words. With an embedder that has ``embed_tokens``, it is Set-BSR: the
    parts are the token embeddings of the query, each covered by the nearest token of an example.

    Attributes:
        embedder: An embedder or its spec; None for words.
        fetch_k: Number of candidates.
    """

    embedder: str | Embedder | None = None
    fetch_k: int = 100
    _tokens: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_fetch(self.fetch_k)

    def fetch(self, n: int) -> int:
        """Return at least `fetch_k`."""
        return max(n, self.fetch_k)

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Select n candidates."""
        found = before(self.fetch(n))
        parts = self._words(asked, found) if self.embedder is None else self._embedded(asked, found)
        places, gains = cover(parts, n)
        return found.take(places, coverage_gain=gains)

    def _words(self, asked: Asked, found: Candidates) -> NDArray[np.float64]:
        scorer = getattr(asked.source, "scorer", None)
        bm25 = scorer if isinstance(scorer, BM25) else BM25(asked.source.pool.postings(load_analyzer(LANGUAGE)))
        return bm25.contributions(asked.text, found.rows)

    def _embedded(self, asked: Asked, found: Candidates) -> NDArray[np.float64]:
        embedder = load_embedder(self.embedder or "")
        if not isinstance(embedder, TokenEmbedder):
            raise UnsupportedError(
                f"embedder {embedder.name!r} has no `embed_tokens`; use Coverage() for words, or another embedder"
            )
        texts = [asked.entry(row).text for row in found.rows.tolist()]
        # A local copy, because another thread may clear the cache.
        known = {text: held for text in (asked.text, *texts) if (held := self._tokens.get(text)) is not None}
        new = sorted({asked.text, *texts} - known.keys())
        embedded = dict(zip(new, embedder.embed_tokens(new), strict=True))
        known |= embedded
        if len(self._tokens) + len(embedded) > _MOST_KEPT:
            self._tokens.clear()
        self._tokens.update(embedded)
        return bsr_contributions(known[asked.text], [known[text] for text in texts])


@dataclass(frozen=True, slots=True)
class LabelNearest:
    """The best example of each label, with labels ordered by their best example; then the second best, and so on.

    Attributes:
        label: ``"output"``, or the metadata entry that contains the label.
        fetch_k: Number of candidates.
    """

    label: str = "output"
    fetch_k: int = 100

    def __post_init__(self) -> None:
        _check_fetch(self.fetch_k)

    def fetch(self, n: int) -> int:
        """Return at least `fetch_k`."""
        return max(n, self.fetch_k)

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Select n candidates."""
        return _in_turn(asked, before(self.fetch(n)), self.label, n)


@dataclass(frozen=True, slots=True)
class LabelBalanced:
    """The most similar examples of each label, in equal numbers over all labels of the pool as far as k allows.

    Attributes:
        label: ``"output"``, or the metadata entry that contains the label.
    """

    label: str = "output"

    def fetch(self, n: int) -> int:  # noqa: ARG002 - as the contract has it
        """Return a number that requests all candidates."""
        return maxsize

    def take(self, asked: Asked, before: Before, n: int) -> Candidates:
        """Select n candidates."""
        return _in_turn(asked, before(self.fetch(n)), self.label, n)


def label_of(example: Example, label: str) -> str:
    """Return the label of an example.

    Args:
        example: The example.
        label: ``"output"`` or the name of a metadata entry.

    Returns:
        The label as text.

    Raises:
        InvalidInputError: If the example does not have the entry.
    """
    if label == "output":
        return example.output
    metadata = example.metadata or {}
    if label not in metadata:
        raise InvalidInputError(f"label {label!r} is not in an example's metadata, which has {sorted(metadata)}")
    return str(metadata[label])


def _in_turn(asked: Asked, found: Candidates, label: str, n: int) -> Candidates:
    seen: defaultdict[str, int] = defaultdict(int)
    turns = np.empty(len(found), dtype=np.intp)
    for place, example in enumerate(asked.examples(found)):
        name = label_of(example, label)
        turns[place] = seen[name]
        seen[name] += 1
    places = np.argsort(turns, kind="stable")[:n]
    return found.take(places, label_turn=turns[places].astype(np.float64) + 1)
