"""Exact search on top of a search that may be wrong by as much as float32 can be."""

import numpy as np
import pytest
from exact_scores import exact_scores

from ragkit import Document, Index
from ragkit.index import _exact as exact
from ragkit.index._exact import at_most, doubt_of, float32_error, in_order, nearest, settled
from ragkit.index._snapshot import Longest

DIM = 24


def expected(vectors, query, k, *, euclidean=False, dead=None, decimals=None):
    scores = exact_scores(vectors, query, euclidean=euclidean, decimals=decimals)
    order = np.argsort(-scores, kind="stable")
    order = order if dead is None else order[~dead[order]]
    return order[:k].tolist(), scores[order[:k]].tolist()


def crowded(rng, count, spread):
    """Vectors around one, so near to each other that float32 cannot tell all of them apart; some are equal."""
    vectors = (rng.normal(size=DIM) + spread * rng.normal(size=(count, DIM))).astype(np.float32)
    vectors[rng.integers(0, count, count // 4)] = vectors[rng.integers(0, count, count // 4)]
    return vectors


@pytest.mark.parametrize("spread", [1e-6, 1e-4, 1.0])
@pytest.mark.parametrize("euclidean", [False, True], ids=["inner product", "distance"])
@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
def test_any_error_within_the_bound_changes_nothing(monkeypatch, spread, euclidean, half):
    rng = np.random.default_rng(round(1e6 * spread) + 2 * euclidean + half)
    asked = []

    def worst(queries, held, k, *, euclidean):
        """What a processor could give: every score is off by up to the whole bound, and ties stand anyhow."""
        asked.append(len(queries))
        true = np.array([exact_scores(held, query, euclidean=euclidean) for query in queries], dtype=np.float64)
        doubt = doubt_of(queries, float(at_most(held).max()), euclidean=euclidean)
        rough = (true + 0.9 * doubt[:, None] * rng.choice([-1, 1], size=true.shape)).astype(np.float32)
        mixed = rng.permutation(len(held))
        rows = mixed[np.argsort(-rough[:, mixed], axis=1, kind="stable")[:, :k]]
        return np.take_along_axis(rough, rows, axis=1), rows

    monkeypatch.setattr(exact, "_search", worst)
    for count, dead_share in ((60, 0.0), (200, 0.4), (200, 0.9)):
        vectors = crowded(rng, count, spread).astype(np.float16 if half else np.float32)
        queries = np.concatenate([crowded(rng, 4, spread), vectors[:3].astype(np.float32)])
        dead = rng.random(count) < dead_share if dead_share else None
        for k in (1, 5, count):
            for decimals in (None, 6):
                scores, rows = nearest(queries, vectors, k, euclidean=euclidean, dead=dead, decimals=decimals)
                for query, line, own in zip(queries, scores, rows, strict=True):
                    right, values = expected(vectors, query, k, euclidean=euclidean, dead=dead, decimals=decimals)
                    assert own[: len(right)].tolist() == right
                    assert line[: len(right)].tolist() == values
                    assert set(own[len(right) :]) <= {-1}
                    assert np.isneginf(line[len(right) :]).all()
    assert max(asked) == 7


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_sums_that_float32_gets_wrong(scale, metric):
    """Large numbers that cancel out leave float32 with noise where the true scores differ."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(300, DIM)) * 1e-3
    vectors[:, :8] += 3e4 * rng.normal(size=(300, 1))
    vectors = (scale * vectors).astype(np.float32)
    queries = rng.normal(size=(5, DIM))
    queries[:, :8] -= queries[:, :8].mean(axis=1, keepdims=True)
    queries = queries.astype(np.float32)
    single = np.argsort(-(queries @ vectors.T), axis=1)[:, :5]
    assert (single != [expected(vectors, query, 5)[0] for query in queries]).any()
    with Index.create(None, embedder=None, dim=DIM, metric=metric) as index:
        index.add([str(row) for row in range(300)], vectors=vectors)
        for batch in (queries, queries[:1]):
            scores, keys = index.search_vectors(batch, 5)
            for query, line, own in zip(batch, scores, keys, strict=True):
                right, values = expected(vectors, query, 5, euclidean=metric == "l2")
                assert own.tolist() == right
                assert line == pytest.approx(values, rel=1e-6)


def test_small_scores_are_not_taken_for_ties():
    vectors = np.array([[3, 0], [5, 0], [4, 0], [5, 0]], dtype=np.float32) * 1e-9
    for metric, query, order in (("ip", [[1, 0]], [1, 3, 2, 0]), ("l2", [[0, 0]], [0, 2, 1, 3])):
        with Index.create(None, embedder=None, dim=2, metric=metric) as index:
            index.add([str(row) for row in range(4)], vectors=vectors)
            assert index.search_vectors(np.array(query), 4)[1].tolist() == [order]


def test_numbers_too_large_for_float32_still_find_every_row():
    vectors = np.array([[1e25, 1], [1e25, -1], [-1e25, 0], [0, 1]], dtype=np.float32)
    scores, rows = nearest(vectors[:1], vectors, 4, euclidean=False)
    assert rows.tolist() == [[0, 1, 3, 2]]
    assert scores[0, 2:].tolist() == [1, -np.inf]


@pytest.mark.parametrize("dim", [1, 3, 384, 4096])
def test_the_bound_holds_for_the_searches_of_faiss(dim):
    rng = np.random.default_rng(dim)
    vectors = (rng.normal(size=(50, dim)) * rng.choice([1e-3, 1, 1e3], size=(50, 1))).astype(np.float32)
    queries = (rng.normal(size=(9, dim)) + 3).astype(np.float32)
    for euclidean in (False, True):
        true = np.array([exact_scores(vectors, query, euclidean=euclidean) for query in queries], dtype=np.float64)
        doubt = doubt_of(queries, float(at_most(vectors).max()), euclidean=euclidean)
        for batch in (queries, queries[:1]):
            scores, rows = exact._search(batch, vectors, 50, euclidean=euclidean)
            off = np.abs(scores - np.take_along_axis(true[: len(batch)], rows, axis=1))
            assert (off < doubt[: len(batch), None]).all()
    assert (at_most(vectors) >= np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1))).all()
    assert at_most(vectors) == pytest.approx(np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1)), rel=2e-3)


def test_few_searches_are_enough_where_nothing_is_tied():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = []

    def counted(queries, k):
        asked.append(len(queries))
        return exact._search(queries, vectors, k, euclidean=False)

    doubt = float32_error(DIM, np.float64(1.001))
    settled(vectors[:500], vectors, 10, counted, doubt=doubt, spare=3)
    assert asked[0] == 500
    assert sum(asked[1:]) < 25


def test_equal_scores_stand_in_the_order_of_rows():
    scores = np.array([[1, 3, 2, 3, -np.inf]], dtype=np.float32)
    rows = np.array([[9, 7, 1, 2, -1]])
    found = in_order(scores, rows)
    assert (found[0].tolist(), found[1].tolist()) == ([[3, 3, 2, 1, -np.inf]], [[2, 7, 1, 9, -1]])
    near = np.array([[0.5, 0.5000001, 0.4]], dtype=np.float32)
    assert in_order(near, np.array([[1, 2, 3]]))[1].tolist() == [[2, 1, 3]]
    assert in_order(near, np.array([[1, 2, 3]]), decimals=6)[1].tolist() == [[1, 2, 3]]


def test_each_vector_is_measured_once(monkeypatch):
    seen, real = [], at_most
    monkeypatch.setattr("ragkit.index._snapshot.at_most", lambda vectors: (seen.append(len(vectors)), real(vectors))[1])
    longest = Longest()
    vectors = np.array([[3, 4], [0, 1], [6, 8]], dtype=np.float32)
    assert longest.of(vectors[:2]) == pytest.approx(5, rel=1e-5)
    assert longest.of(vectors[:2]) == longest.of(vectors[:1]) == pytest.approx(5, rel=1e-5)
    assert longest.of(vectors) == pytest.approx(10, rel=1e-5)
    with Index.create(None, embedder=None, dim=2, metric="ip") as index:
        index.add(["a", "b"], vectors=vectors[:2])
        index.search_vectors(vectors, 1)
        index.add(["c"], vectors=vectors[2:])
        index.search_vectors(vectors, 1)
        index.compact()
        index.search_vectors(vectors, 1)
    assert seen == [2, 1, 2, 1, 3]


def test_a_vector_of_length_one_does_not_depend_on_those_beside_it():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(20, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    with Index.create(None, embedder=None, dim=DIM) as index:
        beside = np.concatenate([vectors, np.zeros((1, DIM), np.float32), 3 * vectors[:1]])
        index.add([Document(str(row), id=str(row)) for row in range(22)], vectors=beside)
        held = index.get_vectors([str(row) for row in range(22)])
        assert np.array_equal(held[:20], vectors)
        assert not held[20].any()
        assert np.linalg.norm(held[21]) == pytest.approx(1, abs=1e-6)
        alone = index.search_vectors(vectors[:1], 5)
        together = index.search_vectors(np.concatenate([vectors[:1], beside[20:]]), 5)
        assert np.array_equal(alone[0], together[0][:1])
        assert np.array_equal(alone[1], together[1][:1])
