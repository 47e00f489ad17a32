"""EmbeddingSelector against brute force in numpy."""

import sys
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ragkit.embedders._hashing import HashingEmbedder
from ragkit.errors import InvalidInputError, MissingExtraError, UnknownSpecError
from ragkit.records import Example
from ragkit_selectors import EmbeddingSelector, exact_search

TEXT = st.lists(st.sampled_from(["a", "b", "lamp", "lamps", "?", "dim"]), max_size=4).map(" ".join)


def brute_force(embedder: HashingEmbedder, texts: list[str], query: str, k: int, excluded: Collection[int] = ()):
    def unit(vectors: NDArray[np.float32]):
        vectors = vectors.astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32).astype(np.float64)

    scores = (unit(embedder.embed_documents(texts)) @ unit(embedder.embed_queries([query]))[0]).round(6).tolist()
    rows = sorted((row for row in range(len(texts)) if row not in excluded), key=lambda row: (-scores[row], row))[:k]
    return [str(row) for row in rows], [scores[row] for row in rows]


@pytest.fixture(autouse=True, scope="module", params=[1, exact_search._MANY], ids=["half precision", "single"])
def _searched_in(request: pytest.FixtureRequest):
    before, exact_search._MANY = exact_search._MANY, request.param
    yield
    exact_search._MANY = before


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=80), queries=st.lists(TEXT, min_size=1, max_size=3), data=st.data())
def test_equals_brute_force(texts: list[str], queries: list[str], data: st.DataObject):
    embedder = HashingEmbedder(32)
    excluded = data.draw(st.sets(st.integers(0, len(texts) - 1), max_size=len(texts) // 2))
    k = data.draw(st.integers(0, len(texts) - len(excluded)))
    selector = EmbeddingSelector([Example(text, "out") for text in texts], embedder=embedder)
    names = {str(row) for row in excluded}
    for query, chosen in zip(queries, selector.select_many(queries, k, exclude=names), strict=True):
        ids, scores = brute_force(embedder, texts, query, k, excluded)
        assert [hit.id for hit in chosen.hits] == ids
        assert [hit.score for hit in chosen.hits] == pytest.approx(scores, abs=1.1e-6)
        assert selector.select(query, k, exclude=names) == chosen


class Fixed:
    """Vectors as given; documents and queries are numbers of rows."""

    name, fingerprint = "fixed", "fixed"

    def __init__(self, vectors: object) -> None:
        self.vectors = np.array(vectors, dtype=np.float32)
        self.dim = 2
        self.batches = []

    def embed_documents(self, texts: list[str]):
        return self.vectors[[int(text) for text in texts]]

    def embed_queries(self, texts: list[str]):
        self.batches.append(len(texts))
        return self.embed_documents(texts)


def test_a_tie_wider_than_what_is_fetched_first():
    vectors = [[0, 1], *[[1, 1]] * 500, [1, 0]]
    selector = EmbeddingSelector([Example(str(row), "out") for row in range(502)], embedder=Fixed(vectors))
    assert [hit.id for hit in selector.select("501", 5).hits] == ["501", "1", "2", "3", "4"]
    hits = selector.select("501", 3, exclude=["501", "2", *map(str, range(4, 300))]).hits
    assert [hit.id for hit in hits] == ["1", "3", "300"]


def test_more_excluded_than_is_fetched_first():
    vectors = [[1, row / 100] for row in range(500)]
    selector = EmbeddingSelector([Example(str(row), "out") for row in range(500)], embedder=Fixed(vectors))
    for count in (10, 17, 100, 490):
        hits = selector.select("0", 8, exclude=[str(row) for row in range(count)]).hits
        assert [hit.id for hit in hits] == [str(row) for row in range(count, count + 8)]


def test_nearly_equal_vectors_across_the_border():
    # The last row is nearest, but by less than 1e-6: FAISS fetches it and its neighbours first, the pool's order wins.
    vectors = [[1, 7e-4 - 1e-6 * row] for row in range(500)]
    selector = EmbeddingSelector([Example(str(row), "out") for row in range(500)], embedder=Fixed([*vectors]))
    angle = np.arctan(np.array(vectors)[:, 1])
    expected = sorted(range(500), key=lambda row: (-round(float(np.cos(angle[row] - angle[499])), 6), row))[:5]
    assert expected[0] == 0
    assert [hit.id for hit in selector.select("499", 5).hits] == [str(row) for row in expected]


@pytest.mark.parametrize("spread", [1e-1, 1e-2, 3e-3, 1e-3])
def test_vectors_that_half_precision_cannot_tell_apart(spread: float):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=64) + spread * rng.normal(size=(600, 64))
    embedder = Fixed(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    embedder.dim = 64
    selector = EmbeddingSelector([Example(str(row), "out") for row in range(600)], embedder=embedder)
    given = embedder.vectors.astype(np.float64)
    exact = (given / np.linalg.norm(given, axis=1, keepdims=True)).astype(np.float32).astype(np.float64)
    queries = [str(row) for row in range(0, 600, 20)]
    together = selector.select_many(queries, 4)
    for query, chosen in zip(queries, together, strict=True):
        expected = np.argsort(-(exact @ exact[int(query)]).round(6), kind="stable")[:4]
        assert [hit.id for hit in chosen.hits] == [str(row) for row in expected.tolist()]
        assert selector.select(query, 4) == chosen


def test_cosine_below_one_millionth_is_a_tie():
    tiny = 2e-4  # cosine 1 - 2e-8
    selector = EmbeddingSelector(
        [Example(str(row), "out") for row in range(4)], embedder=Fixed([[0, 1], [1, tiny], [5, 0], [1, 0.01]])
    )
    hits = selector.select("2", 4).hits
    assert [hit.id for hit in hits] == ["1", "2", "3", "0"]
    assert [hit.score for hit in hits] == pytest.approx([1, 1, 0.99995, 0], abs=1e-6)
    assert hits[0].why == {"cosine": 1.0}


def test_queries_are_embedded_in_one_batch():
    embedder = Fixed([[0, 1], [1, 0]])
    selector = EmbeddingSelector([Example("0", "a"), Example("1", "b")], embedder=embedder)
    chosen = selector.select_many(["0", "1"] * 300, 1)
    assert [selection[0].output for selection in chosen] == ["a", "b"] * 300
    assert embedder.batches == [600]
    assert selector.select_many([], 1) == []


@pytest.mark.parametrize("bad", [[[np.nan, 0]], [[np.inf, 0]], [[1, 2, 3]]])
def test_useless_vectors_are_refused(bad: list[list[float]]):
    with pytest.raises(InvalidInputError, match="finite numbers of shape"):
        EmbeddingSelector([Example("0", "a")], embedder=Fixed(bad))


def test_unknown_embedder():
    with pytest.raises(UnknownSpecError):
        EmbeddingSelector([Example("0", "a")], embedder="minilmm")


def test_without_faiss(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ragkit._extras.find_spec", lambda name: None if name == "faiss" else sys)
    with pytest.raises(MissingExtraError, match=r"ragkit-py\[cpu\]"):
        EmbeddingSelector([Example("0", "a")], embedder="hash:8")
