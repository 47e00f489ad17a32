"""Near-duplicates against all pairs, with keys of one, two and three words, and in a pool that shares its words."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit._text import folded, words
from ragkit_selectors import near_duplicates as module
from ragkit_selectors.near_duplicates import near_duplicates

TEXTS = st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=12).map(" ".join), max_size=12)


def by_hand(texts, near):
    pairs = set()
    for (first, one), (second, other) in combinations(enumerate(texts), 2):
        left, right = set(words(one)), set(words(other))
        union = len(left | right)
        if union and folded(one) != folded(other) and len(left & right) / union >= near:
            pairs.add((first, second))
    return pairs


@pytest.mark.parametrize("shared", [1, 2, 3])
@given(texts=TEXTS, near=st.sampled_from([0.3, 0.5, 0.75, 0.9, 1.0]))
def test_every_kind_of_key_finds_all_pairs(shared, texts, near):
    sets, wholes = module._numbered(texts), [folded(text) for text in texts]
    repeated, candidates = module._repeated(sets, near, shared)
    found = {
        (pair.first, pair.second)
        for place, others in enumerate(module._candidates(sets, near, shared, repeated))
        for pair in module._similar(sets, wholes, place, others, near)
    }
    assert found == by_hand(texts, near)
    assert len(found) <= candidates


def test_a_large_pool_is_searched_by_groups_of_words(monkeypatch: pytest.MonkeyPatch):
    """Each word is in a fifth of the rows, so that single words give too many candidates."""
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.choice(60, 12, replace=False)) for _ in range(600)]
    texts += [" ".join([*text.split(), f"w{number % 60}"]) for number, text in enumerate(texts[:50])]
    wholes = [folded(text) for text in texts]
    expected = by_hand(texts, 0.9)
    assert len(expected) >= 30
    found = near_duplicates(texts, wholes, 0.9, 20)
    assert {(pair.first, pair.second) for pair in found} == expected
    monkeypatch.setattr(module, "_MOST_WORDS", 1)
    assert near_duplicates(texts, wholes, 0.9, 20) is None
