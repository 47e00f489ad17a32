"""LangChain embeddings in ragkit, and ragkit embedders in LangChain."""

import asyncio

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from ragkit import EmbeddingSelector, Index, load_embedder
from ragkit.embedders import HashingEmbedder
from ragkit.embedders._langchain_embeddings import LangChainEmbedder
from ragkit.errors import InvalidInputError
from ragkit.langchain import RagkitEmbeddings
from ragkit.testing import EmbedderContract


class TestLangChainEmbedder(EmbedderContract):
    @pytest.fixture
    def embedder(self):
        return load_embedder(RagkitEmbeddings("hash:128"))


class Fixed(Embeddings):
    """Gives what it is told to."""

    def __init__(self, rows, model="m") -> None:
        self.rows, self.model = rows, model

    def embed_documents(self, texts):
        return self.rows

    def embed_query(self, text):
        return self.rows[0]


def test_ragkit_embeddings_equal_those_of_the_embedder():
    ours, embedder = RagkitEmbeddings("hash:64"), HashingEmbedder(64)
    texts = ["dim the lamp", "", "a song"]
    assert ours.embed_documents(texts) == embedder.embed_documents(texts).tolist()
    assert asyncio.run(ours.aembed_documents(texts)) == ours.embed_documents(texts)
    assert asyncio.run(ours.aembed_query("a")) == ours.embed_query("a") == embedder.embed_queries(["a"])[0].tolist()
    with pytest.raises(InvalidInputError, match="`embedder` must be a spec"):
        RagkitEmbeddings(3)


def test_langchain_embeddings_are_normalised():
    given = DeterministicFakeEmbedding(size=8)
    embedder = load_embedder(given)
    assert isinstance(embedder, LangChainEmbedder)
    rows = np.array(given.embed_documents(["a", "b"]))
    assert np.allclose(embedder.embed_documents(["a", "b"]), rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert np.allclose(asyncio.run(embedder.aembed_queries(["a", "b"])), embedder.embed_queries(["a", "b"]))
    assert embedder.embed_queries([]).shape == (0, 8)
    assert load_embedder(Fixed([[3.0, 4.0]])).embed_documents(["x"]).tolist() == [[np.float32(0.6), np.float32(0.8)]]


def test_different_models_are_different_embedders():
    first, second = (load_embedder(Fixed([[1.0]], model)) for model in "ab")
    assert first.fingerprint != second.fingerprint
    assert first.name == "langchain:Fixed:a"
    with pytest.raises(InvalidInputError, match="give the object itself"):
        load_embedder(first.name)


def test_embeddings_work_in_selectors_and_indexes():
    pool = [{"input": "dim the lamp", "output": "a"}, {"input": "play a song", "output": "b"}]
    selector = EmbeddingSelector(pool, embedder=RagkitEmbeddings("hash:64"))
    assert selector.select("the lamp", k=1)[0].output == "a"
    with Index.create(None, embedder=DeterministicFakeEmbedding(size=8)) as index:
        index.add(["x", "y"])
        assert index.search("y", k=1)[0].text == "y"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[1.0], [1.0, 2.0]], "vectors of different lengths"),
        ([[1.0]], r"must give 2 vectors of numbers, got shape \(1, 1\)"),
        ([[1.0], [float("nan")]], "a vector with NaN or an infinite number"),
    ],
)
def test_invalid_vectors(rows, says):
    with pytest.raises(InvalidInputError, match=says):
        load_embedder(Fixed(rows)).embed_documents(["a", "b"])
