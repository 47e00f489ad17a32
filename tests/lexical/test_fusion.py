"""Fusion against the formulas, for items of any kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit._lexical.fusion import FUSIONS, check_fusion, fuse
from ragkit.errors import InvalidInputError

RANKING = st.dictionaries(st.integers(0, 12), st.integers(-50, 50).map(lambda n: n / 8), max_size=10).map(
    lambda scores: sorted(scores.items(), key=lambda pair: -pair[1])
)


def by_hand(rankings, weights, method, constant):
    total = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        scores = [score for _, score in ranking]
        for rank, (item, score) in enumerate(ranking, 1):
            spread = (score - scores[-1]) / (scores[0] - scores[-1]) if scores[0] > scores[-1] else 1.0
            share = {"rrf": 1 / (constant + rank), "weighted": spread}[method]
            total[item] = total.get(item, 0.0) + weight * share
    return total


@given(
    rankings=st.lists(RANKING, max_size=4),
    weights=st.lists(st.floats(0.1, 3), min_size=4, max_size=4),
    method=st.sampled_from(FUSIONS),
    constant=st.sampled_from([0.0, 10.0, 60.0]),
)
def test_fusion_is_the_weighted_sum_of_shares(rankings, weights, method, constant):
    weights = weights[: len(rankings)]
    fused = fuse(rankings, weights, method=method, constant=constant)
    expected = by_hand(rankings, weights, method, constant)
    assert fused == pytest.approx(expected, abs=1e-8)
    assert list(fused) == list(expected)  # in the order in which the rankings name the items
    ones = by_hand(rankings, [1.0] * len(rankings), method, 60.0)
    assert fuse(rankings, method=method) == pytest.approx(ones, abs=1e-8)


def test_only_the_first_of_equal_items_counts():
    assert fuse([[("x", 3.0), ("y", 2.0), ("x", 1.0)], [("y", 1.0)]]) == {
        "x": round(1 / 61, 9),
        "y": round(1 / 62 + 1 / 61, 9),
    }
    assert fuse([[("x", 3.0), ("x", 1.0)]], method="weighted") == {"x": 1.0}


def test_differences_that_depend_on_the_batch_do_not_count():
    assert fuse([[("x", 0.5 + 1e-8), ("y", 0.5)]], method="weighted") == {"x": 1.0, "y": 1.0}


@pytest.mark.parametrize(
    "arguments", [("sum", 1), ("rrf", 0), ("rrf", 1.5), ("rrf", 1, -1.0), ("rrf", 1, float("nan"))]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(InvalidInputError, match="must be"):
        check_fusion(*arguments)
