"""Vote-k and facility location against literal Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragkit.errors import InvalidInputError
from ragkit_selectors import FacilityLocation, VoteK
from ragkit_selectors.annotation import facility_location, vote_k

POINTS = st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=1, max_size=14)


def unit(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def literal_vote_k(vectors, count, neighbours, rho):
    likeness = (lambda u: (u @ u.T).round(6))(unit(vectors - vectors.mean(axis=0)))
    n = len(vectors)
    near = {
        v: sorted((u for u in range(n) if u != v), key=lambda u: (-likeness[v, u], u))[:neighbours] for v in range(n)
    }
    chosen = []
    while len(chosen) < count:
        best = None
        for u in range(n):
            if u in chosen:
                continue
            voters = [v for v in range(n) if u in near[v]]
            score = sum(rho ** -sum(other in near[v] for other in chosen) for v in voters if v not in chosen)
            key = (round(score, 9), len(voters))
            if best is None or key > best[0]:
                best = (key, u)
        chosen.append(best[1])
    return chosen


@settings(max_examples=150, deadline=None)
@given(points=POINTS, neighbours=st.integers(1, 6), rho=st.sampled_from([2.0, 10.0]), data=st.data())
def test_vote_k_equals_the_rule(points, neighbours, rho, data):
    vectors = np.array(points, dtype=np.float64)
    count = data.draw(st.integers(0, len(points)))
    found = vote_k(vectors, count, neighbours=neighbours, rho=rho).tolist()
    assert found == literal_vote_k(vectors, count, neighbours, rho)


def literal_facility_location(vectors, count):
    likeness = np.maximum((lambda u: u @ u.T)(unit(vectors)), 0).round(6)
    chosen, reached = [], np.zeros(len(vectors))
    while len(chosen) < count:
        gains = [
            -1.0 if row in chosen else np.maximum(likeness[row] - reached, 0).sum().round(6)
            for row in range(len(vectors))
        ]
        chosen.append(int(np.argmax(gains)))
        reached = np.maximum(reached, likeness[chosen[-1]])
    return chosen


@settings(max_examples=150, deadline=None)
@given(points=POINTS, data=st.data())
def test_facility_location_equals_plain_greedy(points, data):
    vectors = np.array(points, dtype=np.float64)
    count = data.draw(st.integers(0, len(points)))
    assert facility_location(vectors, count).tolist() == literal_facility_location(vectors, count)


@pytest.mark.parametrize("choose", [vote_k, facility_location])
def test_always_different(choose):
    rng = np.random.default_rng(0)
    for vectors in (
        np.repeat(rng.normal(size=(20, 8)), 5, axis=0),  # each text five times
        np.ones((60, 4)),
        np.zeros((60, 4)),
        rng.normal(size=(700, 8)),
    ):
        for count in (1, 55, len(vectors)):
            if count <= len(vectors):
                assert len(set(choose(vectors, count).tolist())) == count
    assert choose(np.zeros((1, 3)), 1).tolist() == [0]
    assert choose(np.zeros((0, 3)), 0).tolist() == []


def test_vote_k_spreads_over_clusters():
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(5)
    vectors = np.concatenate([centre + rng.normal(size=(30, 5)) for centre in centres])
    clusters = np.repeat(np.arange(5), 30)
    assert set(clusters[vote_k(vectors, 5, neighbours=29)]) == set(range(5))
    assert set(clusters[facility_location(vectors, 5)]) == set(range(5))


def test_by_texts():
    texts = ["dim the lamp", "dim a lamp", "dim the lamps", "play a song", "play the songs", "open"]
    for chooser in (VoteK("hash:64", neighbours=3), FacilityLocation("hash:64")):
        chosen = chooser.choose(texts, 3)
        assert len(set(chosen)) == 3
        assert all(type(row) is int for row in chosen)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: vote_k(np.zeros((3, 2)), 4), "`count` must be 0 to 3"),
        (lambda: facility_location(np.zeros((3, 2)), -1), "`count` must be 0 to 3"),
        (lambda: vote_k(np.full((3, 2), np.nan), 1), "`vectors` must be finite"),
        (lambda: facility_location(np.zeros(3), 1), "`vectors` must be finite"),
        (lambda: vote_k(np.zeros((3, 2)), 1, neighbours=0), "`neighbours`"),
        (lambda: vote_k(np.zeros((3, 2)), 1, rho=1.0), "`rho`"),
        (lambda: VoteK("hash:8").choose("one text", 1), "`texts` must be a sequence"),
        (lambda: VoteK("hash:8").choose(["a", 3], 1), r"texts\[1\] must be text, got int"),
    ],
)
def test_bad_arguments(work, message):
    with pytest.raises(InvalidInputError, match=message):
        work()
