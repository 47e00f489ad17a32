"""The index on a real card: the same answers as on the CPU, whatever changes and whatever is asked."""

import threading

import numpy as np
import pytest

from ragkit import Document, Index

pytestmark = pytest.mark.gpu
RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal(size=(20_000, 64), dtype=np.float32)


@pytest.fixture(autouse=True)
def _card():
    from ragkit.index._gpu_cards import gpu_count

    if not gpu_count():
        pytest.skip("FAISS sees no GPU; install faiss-gpu on a machine with one")


def filled(device, metric="cosine"):
    index = Index.create(None, embedder=None, dim=64, device=device, metric=metric)
    documents = [Document(str(n), id=str(n), metadata={"part": n % 3, "rare": n % 100}) for n in range(len(VECTORS))]
    index.add(documents, vectors=VECTORS)
    return index


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_the_same_as_on_the_cpu(metric):
    one, other = filled("cuda", metric), filled("cpu", metric)
    assert "GPU" in one.stats().factory
    queries = RNG.standard_normal(size=(300, 64), dtype=np.float32)
    for change in (None, "delete", "add", "compact"):
        for index in (one, other):
            if change == "delete":
                index.delete([str(n) for n in range(0, 20_000, 2)])
            elif change == "add":
                index.add([Document("new", id="new"), Document("again", id="7")], vectors=VECTORS[:2])
            elif change == "compact":
                index.compact()
        for k in (1, 10, 500, 3000):
            for where in (None, {"part": 1}, {"part": {"$ne": 1}}, {"rare": 3}, {"part": 7}):
                scores, keys = one.search_vectors(queries, k, where=where)
                expected, right = other.search_vectors(queries, k, where=where)
                assert np.allclose(scores, expected, atol=1e-3)
                assert np.mean(keys == right) > 0.98
    one.close()


def test_many_threads():
    index, expected = filled("cuda"), filled("cpu").search_vectors(VECTORS[:640], 5)[1]
    found = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: index.search_vectors(VECTORS[n : n + 10], 5)[1]}))
        for n in range(0, 640, 10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.mean(np.concatenate([found[n] for n in sorted(found)]) == expected) > 0.99
    index.close()
