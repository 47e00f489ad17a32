"""Greedy set choices against the published loops, determinants and literal Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ragkit_selectors.diversity import bsr_contributions, cover, dpp, mmr

SMALL = st.integers(-3, 3)


def unit(rows):
    rows = np.array(rows, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


@st.composite
def spaces(draw, most=9):
    rows = draw(st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=1, max_size=most))
    return unit(draw(st.tuples(SMALL, SMALL, SMALL))), unit(rows)


def literal_mmr(query, vectors, k, trade_off):
    chosen, penalties = [], []
    while len(chosen) < min(k, len(vectors)):
        best = None
        for place, vector in enumerate(vectors):
            if place in chosen:
                continue
            penalty = (1 - trade_off) * max((vector @ vectors[other] for other in chosen), default=0.0)
            worth = trade_off * (vector @ query) - penalty
            if best is None or worth > best[0] + 1e-9:
                best = (worth, place, penalty)
        chosen.append(best[1])
        penalties.append(best[2])
    return chosen, penalties


@settings(max_examples=200, deadline=None)
@given(space=spaces(), k=st.integers(0, 11), trade_off=st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_mmr_equals_the_loop(space, k, trade_off):
    places, penalties = mmr(*space, k, trade_off)
    expected, costs = literal_mmr(*space, k, trade_off)
    assert places.tolist() == expected
    assert penalties == pytest.approx(costs, abs=1e-9)


def test_mmr_equals_langchain():
    rng = np.random.default_rng(1)
    for _ in range(20):
        vectors, query = unit(rng.normal(size=(40, 8))), unit(rng.normal(size=8))
        expected = maximal_marginal_relevance(query, list(vectors), lambda_mult=0.6, k=7)
        assert mmr(query, vectors, 7, 0.6)[0].tolist() == expected


def kernel_of(query, vectors, scale):
    relevance = (vectors @ query + 1) / 2
    quality = np.exp((relevance - relevance.max()) / (2 * scale))
    return quality[:, None] * ((vectors @ vectors.T + 1) / 2) * quality[None], relevance


@settings(max_examples=200, deadline=None)
@given(space=spaces(), k=st.integers(0, 11), scale=st.sampled_from([0.1, 0.5, 2.0]))
def test_dpp_takes_the_largest_determinant_at_each_step(space, k, scale):
    query, vectors = space
    places = dpp(query, vectors, k, scale).tolist()
    assert len(places) == len(set(places)) == min(k, len(vectors))
    kernel, relevance = kernel_of(query, vectors, scale)

    def determinant(subset):
        return np.linalg.det(kernel[np.ix_(subset, subset)])

    for turn, place in enumerate(places):
        before, free = places[:turn], [row for row in range(len(vectors)) if row not in places[:turn]]
        gains = {row: determinant([*before, row]) / (determinant(before) if before else 1) for row in free}
        if max(gains.values()) > 1e-7:
            assert gains[place] == pytest.approx(max(gains.values()), rel=1e-4, abs=1e-8)
        elif max(gains.values()) < 1e-10:  # nothing adds to the determinant: the rest by relevance
            rest = places[turn:]
            assert rest == sorted(rest, key=lambda row: (-relevance[row].round(9), row))
            break


def test_dpp_never_chooses_twice():
    three = unit([[1, 0], [0, 1], [1, 1]])
    places = dpp(unit([1.0, 0.2]), np.concatenate([three, three, three]), 6).tolist()
    assert sorted(places[:2]) in ([0, 1], [0, 2], [1, 2])
    assert len(set(places)) == 6
    assert dpp(np.zeros(2), np.zeros((3, 2)), 3).tolist() == [0, 1, 2]
    assert dpp(np.zeros(2), np.zeros((0, 2)), 3).tolist() == []


def literal_cover(parts, k):
    """The published greedy, with the two guards that it lacks: k within the pool, nothing twice."""
    chosen, current = [], None
    while len(chosen) < min(k, len(parts)):
        base = np.zeros(parts.shape[1]) if current is None else current
        best = None
        for place in range(len(parts)):
            if place in chosen:
                continue
            total = sum(parts[place]) if current is None else sum(np.maximum(base, parts[place]))
            if best is None or total > best[0] + 1e-9:
                best = (total, place)
        if current is not None and best[0] <= sum(base) + 1e-9:
            current = None  # a new cover
            continue
        current = parts[best[1]].copy() if current is None else np.maximum(base, parts[best[1]])
        chosen.append(best[1])
    return chosen


@settings(max_examples=300, deadline=None)
@given(
    parts=st.integers(0, 4).flatmap(
        lambda width: st.lists(st.lists(st.integers(0, 3), min_size=width, max_size=width), min_size=1, max_size=8)
    ),
    k=st.integers(0, 10),
)
def test_cover_equals_the_published_greedy(parts, k):
    parts = np.array(parts, dtype=np.float64).reshape(len(parts), -1) / 3
    places, gains = cover(parts, k)
    assert places.tolist() == literal_cover(parts, k)
    assert np.all(gains >= 0)


def test_cover_begins_anew_and_ends():
    parts = np.array([[1.0, 0.0], [0.0, 0.9], [1.0, 0.0], [0.0, 0.0]])
    places, gains = cover(parts, 9)
    assert places.tolist() == [0, 1, 2, 3]
    assert gains.tolist() == [1.0, 0.9, 1.0, 0.0]


@settings(max_examples=100, deadline=None)
@given(
    query=st.lists(st.tuples(SMALL, SMALL), max_size=4),
    candidates=st.lists(st.lists(st.tuples(SMALL, SMALL), max_size=4), max_size=5),
    weighted=st.booleans(),
)
def test_bsr_is_the_nearest_token_of_each(query, candidates, weighted):
    asked = unit(query).reshape(-1, 2).astype(np.float32)
    tokens = [unit(each).reshape(-1, 2).astype(np.float32) for each in candidates]
    weights = np.arange(1.0, len(asked) + 1) if weighted else None
    found = bsr_contributions(asked, tokens, weights)
    assert found.shape == (len(tokens), len(asked))
    for row, each in enumerate(tokens):
        for column, one in enumerate(asked.astype(np.float64)):
            nearest = max((float(one @ other) for other in each.astype(np.float64)), default=0.0)
            weight = weights[column] if weighted else 1 / len(asked)
            assert found[row, column] == pytest.approx(weight * nearest, abs=1e-9)
