"""Stages that select sets of examples: similar to the query but different from each other, or covering the query."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from sys import maxsize

import numpy as np
from numpy.typing import NDArray

from ragkit._lexical.analysis import load_analyzer
from ragkit._lexical.bm25 import BM25, LANGUAGE
from ragkit._mmr import mmr
from ragkit.embedders import load_embedder
from ragkit.errors import InvalidInputError, UnsupportedError
from ragkit.protocols import Embedder, TokenEmbedder
from ragkit.records import Example
from ragkit_selectors.candidates import Candidates
from ragkit_selectors.stages.base import FetchingStage, SelectionContext, Upstream
from ragkit_selectors.stages.diversity import bsr_contributions, cover, dpp

_MOST_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Mmr(FetchingStage):
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
        FetchingStage.__post_init__(self)

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Select n candidates."""
        found = upstream(self.fetch(n))
        query, vectors = context.source._vectors(context.text, found.rows)
        places, penalties = mmr(query, vectors, n, self.trade_off)
        return found.take(places, mmr_penalty=penalties)


@dataclass(frozen=True, slots=True)
class Dpp(FetchingStage):
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
        FetchingStage.__post_init__(self)

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Select n candidates."""
        found = upstream(self.fetch(n))
        query, vectors = context.source._vectors(context.text, found.rows)
        return found.take(dpp(query, vectors, n, self.scale))


@dataclass(frozen=True, slots=True)
class Coverage(FetchingStage):
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

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Select n candidates."""
        found = upstream(self.fetch(n))
        parts = self._words(context, found) if self.embedder is None else self._embedded(context, found)
        places, gains = cover(parts, n)
        return found.take(places, coverage_gain=gains)

    def _words(self, context: SelectionContext, found: Candidates) -> NDArray[np.float64]:
        scorer = getattr(context.source, "scorer", None)
        bm25 = scorer if isinstance(scorer, BM25) else BM25(context.source.pool.postings(load_analyzer(LANGUAGE)))
        return bm25.contributions(context.text, found.rows)

    def _embedded(self, context: SelectionContext, found: Candidates) -> NDArray[np.float64]:
        embedder = load_embedder(self.embedder or "")
        if not isinstance(embedder, TokenEmbedder):
            raise UnsupportedError(
                f"embedder {embedder.name!r} has no `embed_tokens`; use Coverage() for words, or another embedder"
            )
        texts = [context.entry(row).text for row in found.rows.tolist()]
        # A local copy, because another thread may clear the cache.
        known = {text: held for text in (context.text, *texts) if (held := self._tokens.get(text)) is not None}
        new = sorted({context.text, *texts} - known.keys())
        embedded = dict(zip(new, embedder.embed_tokens(new), strict=True))
        known |= embedded
        if len(self._tokens) + len(embedded) > _MOST_KEPT:
            self._tokens.clear()
        self._tokens.update(embedded)
        return bsr_contributions(known[context.text], [known[text] for text in texts])


@dataclass(frozen=True, slots=True)
class LabelNearest(FetchingStage):
    """The best example of each label, with labels ordered by their best example; then the second best, and so on.

    Attributes:
        label: ``"output"``, or the metadata entry that contains the label.
        fetch_k: Number of candidates.
    """

    label: str = "output"
    fetch_k: int = 100

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Select n candidates."""
        return _in_turn(context, upstream(self.fetch(n)), self.label, n)


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

    def take(self, context: SelectionContext, upstream: Upstream, n: int) -> Candidates:
        """Select n candidates."""
        return _in_turn(context, upstream(self.fetch(n)), self.label, n)


def _label_of(example: Example, label: str) -> str:
    if label == "output":
        return example.output
    metadata = example.metadata or {}
    if label not in metadata:
        raise InvalidInputError(f"label {label!r} is not in an example's metadata, which has {sorted(metadata)}")
    return str(metadata[label])


def _in_turn(context: SelectionContext, found: Candidates, label: str, n: int) -> Candidates:
    seen: defaultdict[str, int] = defaultdict(int)
    turns = np.empty(len(found), dtype=np.intp)
    for place, example in enumerate(context.examples(found)):
        name = _label_of(example, label)
        turns[place] = seen[name]
        seen[name] += 1
    places = np.argsort(turns, kind="stable")[:n]
    return found.take(places, label_turn=turns[places].astype(np.float64) + 1)
