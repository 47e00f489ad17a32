"""Contract tests for every `Retriever`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from ragkit.protocols import Retriever
from ragkit.records import Document, Hit
from ragkit.testing._refusing import assert_refused
from ragkit.where import matches, parse_where


class RetrieverContract:
    """Contract tests for every `Retriever`; provide one over exactly `documents` as the fixture ``retriever``.

    Attributes:
        documents: The documents to search; all ids and texts are different.
        queries: Queries, all different; the first is similar to several documents.
        filters: Filters on the metadata of `documents`.
        ranks: False for a retriever whose choice of a document depends on the others; scores may then rise.
        whole: False for a retriever that returns other texts than those of the documents.
    """

    documents: ClassVar[Sequence[Document]] = (
        Document("dim the red lamp", id="dim-red", metadata={"colour": "red", "n": 0}),
        Document("dim the blue lamp", id="dim-blue", metadata={"colour": "blue", "n": 1}),
        Document("light the red lamp", id="light-red", metadata={"colour": "red", "n": 2}),
        Document("move the green lamp", id="move-green", metadata={"colour": "green", "n": 3}),
        Document("where is my card? naïve 東京 \U0001f600", id="odd \x7f 東", metadata={"n": 9, "tags": ["a", "b"]}),
        Document("!?", id="marks"),
    )
    queries: ClassVar[Sequence[str]] = ("dim the red lamp", "where is my card", "", "!?", "東京 \x00 \U0001f600")
    filters: ClassVar[Sequence[dict[str, object]]] = (
        {"colour": "red"},
        {"n": {"$gte": 1}},
        {"$or": [{"colour": "blue"}, {"tags": "b"}]},
        {"n": {"$exists": False}},
        {},
    )
    ranks: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    def test_fits_the_protocol(self, retriever: Retriever) -> None:
        """It has every member of `Retriever`."""
        assert isinstance(retriever, Retriever)

    def test_hits_are_documents(self, retriever: Retriever) -> None:
        """Hits have the id, text and metadata of distinct documents; ranks count up, and scores never rise."""
        known = {each.id: each for each in self.documents}
        for query in self.queries:
            for k in (1, 3, len(self.documents), len(self.documents) + 5):
                hits = retriever.retrieve(query, k)
                assert len(hits) <= min(k, len(self.documents))
                assert len({hit.id for hit in hits}) == len(hits)
                assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
                scores = [hit.score for hit in hits]
                assert all(math.isfinite(score) for score in scores)
                assert scores == sorted(scores, reverse=True) or not self.ranks
                for hit in hits:
                    assert hit.text == known[hit.id].text or not self.whole
                    assert dict(hit.metadata or {}) == dict(known[hit.id].metadata or {}) or not self.whole
        assert retriever.retrieve(self.queries[0], 1)

    def test_fewer_are_the_first_of_more(self, retriever: Retriever) -> None:
        """The k best are the first k of the 2k best."""
        for query in self.queries:
            if self.ranks:
                _assert_same([retriever.retrieve(query, 2)], [retriever.retrieve(query, 4)[:2]])

    def test_a_batch_equals_single_queries(self, retriever: Retriever) -> None:
        """A sequence returns the results of single queries, in order; no queries return an empty list."""
        batch = retriever.retrieve(list(self.queries), 3)
        _assert_same(batch, [retriever.retrieve(query, 3) for query in self.queries])
        _assert_same(retriever.retrieve(list(reversed(self.queries)), 3)[::-1], batch)
        assert retriever.retrieve([], 3) == []

    def test_aretrieve_equals_retrieve(self, retriever: Retriever) -> None:
        """The async method returns the same, for one query and for several, with a filter and without."""
        for where in (None, self.filters[0]):
            batch = asyncio.run(retriever.aretrieve(list(self.queries), 3, where=where))
            _assert_same(batch, retriever.retrieve(list(self.queries), 3, where=where))
            alone = asyncio.run(retriever.aretrieve(self.queries[0], 3, where=where))
            _assert_same([alone], batch[:1])
        assert asyncio.run(retriever.aretrieve([], 3)) == []

    def test_filters(self, retriever: Retriever) -> None:
        """Only matching documents are found, and documents that do not match never displace them."""
        metadata = {each.id: each.metadata for each in self.documents}
        for where in self.filters:
            condition = parse_where(where)
            for query in self.queries:
                every = retriever.retrieve(query, len(self.documents), where=where)
                assert all(matches(condition, metadata[hit.id]) for hit in every)
                first = retriever.retrieve(query, 1, where=where)
                assert len(first) == min(1, len(every))
                unfiltered = {hit.id for hit in retriever.retrieve(query, len(self.documents))}
                assert {own for own in unfiltered if matches(condition, metadata[own])} <= {hit.id for hit in every}
        assert retriever.retrieve(self.queries[0], 3, where={"n": 12345}) == []

    def test_k_of_nothing(self, retriever: Retriever) -> None:
        """With k = 0, nothing is found."""
        assert retriever.retrieve(self.queries[0], 0) == []
        assert retriever.retrieve(list(self.queries), 0) == [[] for _ in self.queries]

    def test_bad_arguments(self, retriever: Retriever) -> None:
        """Invalid arguments are rejected."""
        query = self.queries[0]
        for k in (-1, 1.5, "3", True):
            assert_refused(partial(retriever.retrieve, query, k))
        assert_refused(lambda: retriever.retrieve(query, 1, where={"n": {"$near": 1}}))
        assert_refused(lambda: retriever.retrieve([query, None], 1))  # type: ignore[list-item]


def _assert_same(one: Sequence[Sequence[Hit]], other: Sequence[Sequence[Hit]]) -> None:
    assert [[hit.id for hit in hits] for hits in one] == [[hit.id for hit in hits] for hits in other]
    for left, right in zip(one, other, strict=True):
        assert np.allclose([hit.score for hit in left], [hit.score for hit in right], atol=1e-3)
