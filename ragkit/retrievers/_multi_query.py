"""A retriever that searches with several phrasings of a query."""

from __future__ import annotations

import re
from collections.abc import Sequence

from typing_extensions import override

from ragkit._text import folded
from ragkit.answers import without_reasoning
from ragkit.errors import InvalidInputError
from ragkit.models import load_model
from ragkit.protocols import LanguageModel, Retriever
from ragkit.records import Completion
from ragkit.retrievers._base import Hits, RetrieverBase, Where, ranked
from ragkit.retrievers._hybrid import fuse_hits

_MARK = re.compile(r"^\s*(?:[-*•]|\(?\d+[.):])\s*")  # "1. ", "2) ", "- "
_LONGEST = 1000  # maximum number of characters of a query written by the model


class MultiQueryRetriever(RetrieverBase):
    r"""Rephrases the query with a language model, searches with each phrasing, and fuses the rankings by rank.

    The query itself is always included, with the same weight as each of the others. All queries are in `Hit.why` as
    ``queries``. The arguments are attributes of the same names.

    Examples:
        >>> from ragkit import BM25Retriever, ScriptedModel
        >>> base = BM25Retriever(["the lamp", "the light bulb", "a song"])
        >>> hits = MultiQueryRetriever(base, ScriptedModel(["1. lamp\n2. bulb"]), n=2).retrieve("lantern")
        >>> [hit.text for hit in hits]
        ['the lamp', 'the light bulb']
    """

    name = "multi-query"

    def __init__(self, base: Retriever, model: str | LanguageModel, *, n: int = 3, depth: int = 100) -> None:
        """Rephrase the queries of a retriever.

        Args:
            base: The retriever for all queries.
            model: A model or its spec.
            n: Number of queries to write, at least 1.
            depth: Number of hits of each ranking that are fused, at least 1.

        Raises:
            InvalidInputError: If an argument is invalid.
        """
        if type(n) is not int or n < 1 or type(depth) is not int or depth < 1:
            raise InvalidInputError(f"`n` and `depth` must be whole numbers of at least 1, got {n!r} and {depth!r}")
        self.base, self.model, self.n, self.depth = base, load_model(model), n, depth

    @override
    def _retrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        written = self.model.generate(self._prompts(queries), max_tokens=64 * self.n)
        asked = self._asked(queries, written)
        found = self.base.retrieve([each for own in asked for each in own], max(k, self.depth), where=where)
        return self._fused(asked, found, k)

    @override
    async def _aretrieve(self, queries: Sequence[str], k: int, where: Where | None) -> Hits:
        written = await self.model.agenerate(self._prompts(queries), max_tokens=64 * self.n)
        asked = self._asked(queries, written)
        found = await self.base.aretrieve([each for own in asked for each in own], max(k, self.depth), where=where)
        return self._fused(asked, found, k)

    def _prompts(self, queries: Sequence[str]) -> list[str]:
        told = (
            f"Write {self.n} other search queries that find what the question asks for, each in other words.\n"
            "One query a line, nothing else.\n\nQuestion: "
        )
        return [f"{told}{query}\nQueries:\n" for query in queries]

    def _asked(self, queries: Sequence[str], written: Sequence[Completion]) -> list[list[str]]:
        """Return each query followed by the model's phrasings, without duplicates."""
        asked = []
        for query, answer in zip(queries, written, strict=True):
            different = {folded(query): query}
            for line in without_reasoning(answer.text).text.splitlines():
                text = _MARK.sub("", line).strip().strip('"')[:_LONGEST]
                if text and len(different) <= self.n:
                    different.setdefault(folded(text), text)
            asked.append(list(different.values()))
        return asked

    @staticmethod
    def _fused(asked: Sequence[Sequence[str]], found: Hits, k: int) -> Hits:
        fused, start = [], 0
        for own in asked:
            rankings = {f"query {n}": hits for n, hits in enumerate(found[start : start + len(own)], 1)}
            start += len(own)
            hits = fuse_hits(rankings, [1.0] * len(rankings), k)
            fused.append(ranked((hit, hit.score, {"queries": list(own)}) for hit in hits))
        return fused
