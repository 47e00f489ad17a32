"""Scores of pairs: right, and the same bits whatever stands beside a pair and whatever the processor can do."""

import hashlib
import os
import subprocess
import sys
from math import fsum
from pathlib import Path

import numpy as np
import pytest
from exact_scores import exact_scores

from ragkit import EmbeddingSelector, Example, Index
from ragkit import _pairwise as pairwise
from ragkit._pairwise import candidate_scores, inner_products, lengths, squared_distances, unit

SIZES = [1, 2, 3, 7, 8, 9, 15, 127, 128, 129, 384, 1001]


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(shape).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dim", SIZES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_pair_has_the_same_bits_in_every_batch(dim, dtype, monkeypatch):
    left, right = draw(40, dim, dtype=dtype), draw(dim, dtype=dtype)
    for work in (inner_products, squared_distances):
        alone = np.array([work(row, right) for row in left])
        for rows in (1, 2, 3, 17, 40):
            assert np.array_equal(work(left[:rows], right), alone[:rows])
            assert np.array_equal(work(left[:rows, None], right[None, None])[:, 0], alone[:rows])
        assert np.array_equal(work(np.asfortranarray(left), right), alone)
        assert np.array_equal(work(left[::3], right), alone[::3])
        assert np.array_equal(work(left.reshape(5, 8, dim), right).ravel(), alone)
    queries, rows = draw(6, dim), np.random.default_rng(dim).integers(0, 40, size=(6, 11))
    for at_once in (1, 3 * dim, 40 * dim, 2**20):
        monkeypatch.setattr(pairwise, "_AT_ONCE", at_once)
        pairs = list(zip(left[rows], queries, strict=True))
        found = candidate_scores(queries, left, rows, euclidean=False)
        assert np.array_equal(found, [inner_products(near, query) for near, query in pairs])
        found = candidate_scores(queries, left, rows, euclidean=True)
        assert np.array_equal(found, [-squared_distances(near, query) for near, query in pairs])
        assert np.array_equal(lengths(left), np.sqrt([inner_products(row, row) for row in left]))


@pytest.mark.parametrize("dim", SIZES)
def test_scores_are_right(dim):
    left, right = draw(9, dim), draw(dim)
    expected = [fsum(float(a) * float(b) for a, b in zip(row, right, strict=True)) for row in left]
    assert inner_products(left, right) == pytest.approx(expected, rel=1e-14, abs=1e-14)
    expected = [fsum((float(a) - float(b)) ** 2 for a, b in zip(row, right, strict=True)) for row in left]
    assert squared_distances(left, right) == pytest.approx(expected, rel=1e-14)
    assert lengths(left) == pytest.approx([fsum(float(a) ** 2 for a in row) ** 0.5 for row in left], rel=1e-14)
    assert lengths(unit(left)) == pytest.approx(np.ones(9), rel=1e-14)
    assert not unit(np.zeros((1, dim))).any()
    assert np.array_equal(inner_products(left, right).astype(np.float32), exact_scores(left, right))


class Given:
    """Vectors that were computed before: a text is the number of its row."""

    name, fingerprint, dim = "given", "given", 96

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        vectors = rng.normal(size=(6000, 96)) + 1e-6 * rng.normal(size=(6000, 96))
        vectors[1::2] = vectors[::2]  # each twice, for ties,
        vectors[2::4] = vectors[::4] + 1e-7 * rng.normal(size=(1500, 96))  # and nearly twice
        self.vectors = (vectors / np.sqrt((vectors * vectors).sum(axis=1))[:, None]).astype(np.float32)

    def embed_documents(self, texts):
        return self.vectors[[int(text) for text in texts]]

    embed_queries = embed_documents


def answers():
    """A hash of everything that exact search gives, bit by bit."""
    embedder, found = Given(), []
    queries = [str(row) for row in range(0, 6000, 97)]
    for metric in ("cosine", "ip", "l2"):
        with Index.create(None, embedder=embedder, metric=metric) as index:
            index.add([str(row) for row in range(6000)])
            for batch in (1, 3, 30, len(queries)):
                found += index.search_vectors(embedder.embed_queries(queries[:batch]), 9)
    selector = EmbeddingSelector([Example(str(row), "") for row in range(6000)], embedder=embedder)
    for chosen in (*selector.select_many(queries, 9), *map(selector.select, queries)):
        found.append(np.array([(int(hit.id), hit.score) for hit in chosen.hits]))
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in found)).hexdigest()


def oldest():
    """What makes numpy, its BLAS and FAISS work as on the oldest processor."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    able = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    return {"NPY_DISABLE_CPU_FEATURES": able, "OPENBLAS_CORETYPE": "Prescott", "FAISS_OPT_LEVEL": "generic"}


@pytest.mark.parametrize("environment", ["oldest", "one thread"])
def test_every_processor_gives_the_same_bits(environment):
    other = oldest() if environment == "oldest" else {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", "import test_pairwise; print(test_pairwise.answers())"],
        env={**os.environ, **other, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.stdout.strip() == answers(), ran.stderr
