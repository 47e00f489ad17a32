"""Greedy set choices against the published loops, determinants and literal Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ragkit._mmr import mmr
from ragkit_selectors.stages.diversity import bsr_contributions, cover, dpp

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
            worth = (trade_off if chosen else 1) * (vector @ query) - penalty
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


@pytest.mark.parametrize("trade_off", [0.0, 0.3, 0.6, 1.0])
def test_mmr_equals_langchain(trade_off):
    rng = np.random.default_rng(1)
    for _ in range(20):
        vectors, query = unit(rng.normal(size=(40, 8))), unit(rng.normal(size=8))
        expected = maximal_marginal_relevance(query, list(vectors), lambda_mult=trade_off, k=7)
        assert mmr(query, vectors, 7, trade_off)[0].tolist() == expected


def test_mmr_takes_the_most_relevant_first_and_says_what_likeness_cost():
    query, vectors = unit([1.0, 0.0]), unit([[0.0, 1.0], [0.6, 0.8], [0.8, 0.6]])
    places, costs = mmr(query, vectors, 3, 0.0)
    assert places.tolist() == [2, 0, 1]
    assert costs == pytest.approx([0.0, 0.6, 0.96])


@pytest.mark.parametrize("choose", [lambda *space: mmr(*space)[0], dpp])
def test_copies_keep_the_order_of_the_pool(choose):
    # A matrix product may differ in the last bit between equal rows, by where they stand.
    rng = np.random.default_rng(2)
    for _ in range(20):
        once, query = unit(rng.normal(size=(9, 384))), unit(rng.normal(size=384))
        vectors = np.concatenate([once] * 4)
        places = choose(query, vectors, 36).tolist()
        assert sorted(places) == list(range(36))
        for row in range(9):
            copies = [place for place in places if place % 9 == row]
            assert copies == sorted(copies)


@pytest.mark.parametrize(("rows", "k"), [(0, 0), (0, 3), (4, 0)])
def test_of_nothing_nothing_is_chosen(rows, k):
    query, vectors, parts = np.zeros(2), np.ones((rows, 2)), np.ones((rows, 3))
    for places, amounts in [mmr(query, vectors, k), cover(parts, k)]:
        assert (places.shape, places.dtype) == ((0,), np.intp)
        assert (amounts.shape, amounts.dtype) == ((0,), np.float64)
    assert dpp(query, vectors, k).shape == (0,)
    assert dpp(query, vectors, k).dtype == np.intp


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


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.05, 0.1, 1.0]))
def test_dpp_equals_log_determinants(seed, scale):
    rng = np.random.default_rng(seed)
    query, vectors = unit(rng.normal(size=16)), unit(rng.normal(size=(20, 16)))
    kernel, _ = kernel_of(query, vectors, scale)
    expected = []
    for _ in range(6):
        volumes = {}
        for row in set(range(20)) - set(expected):
            subset = [*expected, row]
            sign, volumes[row] = np.linalg.slogdet(kernel[np.ix_(subset, subset)])
            assert sign == 1
        expected.append(max(volumes, key=volumes.get))
    assert dpp(query, vectors, 6, scale).tolist() == expected


def published_dpp(kernel, k):
    """Chen's greedy as its followers wrote it: what is chosen stays in the race, and nothing ends it."""
    left, rows, chosen = kernel.diagonal().copy(), np.zeros((k, len(kernel))), []
    for turn in range(k):
        place = int(left.argmax())
        chosen.append(place)
        new = (kernel[place] - rows[:turn, place] @ rows[:turn]) / np.sqrt(max(left[place], 1e-300))
        rows[turn] = new
        left = left - new**2
    return chosen


def test_the_published_dpp_repeats_itself_and_ours_does_not():
    three = unit([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    query, vectors = unit([0.3, 0.2, 0.1]), np.concatenate([three, three, three])
    kernel, _ = kernel_of(query, vectors, 0.1)
    assert len(set(published_dpp(kernel, 6))) < 6
    assert dpp(query, vectors, 6).tolist() == [*published_dpp(kernel, 3), 3, 6, 4]
    assert published_dpp(kernel, 3) == [0, 1, 2]


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


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(0, 12))
def test_cover_equals_the_published_greedy_on_cosines(seed, k):
    # Cosines of tokens may be negative, and every row stands twice.
    rng = np.random.default_rng(seed)
    parts = np.tile(rng.uniform(-0.5, 1, size=(5, 3)), (2, 1)) / 3
    assert cover(parts, k)[0].tolist() == literal_cover(parts, k)


def test_cover_counts_what_each_brings():
    places, gains = cover(np.array([[0.5, 0.1, 0.0], [0.4, 0.4, 0.4], [0.5, 0.0, 0.6]]), 3)
    assert places.tolist() == [1, 2, 0]
    assert gains == pytest.approx([1.2, 0.3, 0.6])  # the last one begins a new cover


def test_cover_is_not_led_by_rounding():
    # 0.1 + 0.2 is more than 0.3 by less than counts.
    assert cover(np.array([[0.3, 0.0], [0.1 + 0.2, 0.0], [0.0, 0.2]]), 3)[0].tolist() == [0, 2, 1]


def test_cover_ends_where_the_published_greedy_does_not():
    # More is asked for than there is: every candidate once, the ones that cover nothing last and in their order.
    places, gains = cover(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), 50)
    assert places.tolist() == [1, 3, 0, 2]
    assert gains.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert cover(np.zeros((3, 0)), 5)[0].tolist() == [0, 1, 2]


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


def test_bsr_keeps_what_points_away_and_gives_nothing_for_no_tokens():
    query = np.array([[1, 0], [0, 1]], dtype=np.float32)
    none = np.zeros((0, 2), dtype=np.float32)
    found = bsr_contributions(query, [none, -query[:1], query, none], np.array([0.25, 0.75]))
    assert found.tolist() == [[0, 0], [-0.25, 0], [0.25, 0.75], [0, 0]]
    assert found.dtype == np.float64
    assert bsr_contributions(query, []).shape == (0, 2)
    assert bsr_contributions(none, [query]).shape == (1, 0)
    assert bsr_contributions(query, [none, none]).tolist() == [[0, 0], [0, 0]]
