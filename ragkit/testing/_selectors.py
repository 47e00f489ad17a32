"""Contract tests for every `Selector`."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ragkit.errors import SmallPoolWarning
from ragkit.protocols import Selector
from ragkit.records import Example, Selection
from ragkit.testing._refusing import assert_refused


class SelectorContract:
    """Contract tests for every `Selector`; provide one over a pool of 5 to 500 examples as the fixture ``selector``.

    Attributes:
        queries: Queries, all different.
        ranks: False for a selector whose choice of an example depends on the others, such as stages that select sets.
    """

    ranks: ClassVar[bool] = True
    queries: ClassVar[Sequence[str]] = ("dim the red lamp", "", "where is my card?", "!?", "naïve 東京 \U0001f600")

    def test_fits_the_protocol(self, selector: Selector) -> None:
        """It has every member of `Selector`, and a pool."""
        assert isinstance(selector, Selector)
        assert 5 <= len(selector) <= 500

    def test_k_examples_with_their_hits(self, selector: Selector) -> None:
        """The requested number of distinct examples is returned, with ids and ranks; scores never rise."""
        for query in self.queries:
            for k in (1, 3, len(selector)):
                chosen = selector.select(query, k)
                _assert_consistent(chosen, ranks=self.ranks)
                assert len(chosen) == k

    def test_fewer_are_the_first_of_more(self, selector: Selector) -> None:
        """The k best are the first k of the 2k best."""
        if not self.ranks:
            return
        for query in self.queries:
            assert selector.select(query, 2).examples == selector.select(query, 4).examples[:2]

    def test_same_again(self, selector: Selector) -> None:
        """The same query returns the same examples, whatever was queried in between."""
        first = [selector.select(query, 3) for query in self.queries]
        second = [selector.select(query, 3) for query in reversed(self.queries)][::-1]
        assert _shown(first) == _shown(second)

    def test_select_many_equals_select(self, selector: Selector) -> None:
        """A batch returns the results of single calls, in order; no queries return an empty list."""
        many = selector.select_many(list(self.queries), 3)
        assert _shown(many) == _shown([selector.select(query, 3) for query in self.queries])
        assert selector.select_many([], 3) == []

    def test_aselect_equals_select(self, selector: Selector) -> None:
        """The async method returns the same."""
        for query in self.queries:
            assert _shown([asyncio.run(selector.aselect(query, 3))]) == _shown([selector.select(query, 3)])

    def test_excluded_ids_stay_out(self, selector: Selector) -> None:
        """Excluded examples are not selected, and the others keep their order; unknown ids have no effect."""
        for query in self.queries:
            ranked = [hit.id for hit in selector.select(query, len(selector)).hits]
            excluded = [ranked[0], ranked[2], "no such id \x00"]
            kept = [hit.id for hit in selector.select(query, 2, exclude=excluded).hits]
            assert not set(kept) & set(excluded)
            assert kept == [ranked[1], ranked[3]] or not self.ranks

    def test_filter(self, selector: Selector) -> None:
        """A filter excludes examples that do not match, and a field that no example has is rejected."""
        selector.add([Example("red lamp", "x", id="own 1", metadata={"own": 1}), Example("red", "x", id="own 2")])
        chosen = selector.select(self.queries[0], 1, where={"own": 1})
        assert [hit.id for hit in chosen.hits] == ["own 1"]
        assert_refused(lambda: selector.select(self.queries[0], 1, where={"nowhere": 1}))

    def test_add_and_remove(self, selector: Selector) -> None:
        """Added examples can be selected, removed ones cannot, and the rest is unchanged."""
        before = [_shown(selector.select_many(list(self.queries), 3)), len(selector)]
        assert selector.add([Example("entirely new", "x", id="new")]) == ["new"]
        assert "new" in [hit.id for hit in selector.select("entirely new", len(selector)).hits]
        assert_refused(lambda: selector.add([Example("again", "x", id="new")]))
        assert selector.remove(["new", "no such id \x00"]) == 1
        assert [_shown(selector.select_many(list(self.queries), 3)), len(selector)] == before

    def test_save(self, selector: Selector, tmp_path: Path) -> None:
        """A selector loaded from a folder selects like the one that was saved in it."""
        selector.save(tmp_path / "selector")
        again = type(selector).load(tmp_path / "selector")  # type: ignore[attr-defined]
        assert _shown(again.select_many(list(self.queries), 3)) == _shown(selector.select_many(list(self.queries), 3))

    def test_more_than_the_pool(self, selector: Selector) -> None:
        """If k exceeds the pool, all examples are returned, with a `SmallPoolWarning`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chosen = selector.select(self.queries[0], len(selector) + 1)
        _assert_consistent(chosen, ranks=self.ranks)
        assert len(chosen) == len(selector)
        assert [entry for entry in caught if issubclass(entry.category, SmallPoolWarning)]

    def test_bad_arguments(self, selector: Selector) -> None:
        """A negative k is rejected, and so is a single query in place of a sequence."""
        assert_refused(lambda: selector.select(self.queries[0], -1))
        assert_refused(lambda: selector.select_many(self.queries[0], 1))


def _assert_consistent(chosen: Selection, *, ranks: bool) -> None:
    assert isinstance(chosen, Selection)
    assert len(chosen) == len(chosen.hits) == len({hit.id for hit in chosen.hits})
    assert [hit.rank for hit in chosen.hits] == list(range(1, len(chosen) + 1))
    scores = [hit.score for hit in chosen.hits]
    assert all(math.isfinite(score) for score in scores)
    assert scores == sorted(scores, reverse=True) or not ranks
    for example, hit in zip(chosen, chosen.hits, strict=True):
        assert example.id is None or example.id == hit.id


def _shown(selections: Sequence[Selection]) -> list[list[tuple[str, str]]]:
    return [
        [(hit.id, example.output) for hit, example in zip(chosen.hits, chosen, strict=True)] for chosen in selections
    ]
