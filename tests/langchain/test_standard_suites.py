"""The suites that LangChain ships for the authors of integrations, on our classes."""

import pytest

pytest.importorskip("langchain_tests")
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from ragkit.langchain import RagkitEmbeddings, RagkitRetriever, RagkitVectorStore


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture(params=["cosine", "l2"])
    def vectorstore(self, request, tmp_path):
        store = RagkitVectorStore(self.get_embeddings(), path=tmp_path / "store", metric=request.param)
        yield store
        store.index.close()


class TestVectorStoreInMemory(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self):
        store = RagkitVectorStore(embedding=self.get_embeddings())
        yield store
        store.index.close()


class TestRetriever(RetrieversIntegrationTests):
    retriever_constructor = RagkitRetriever
    retriever_query_example = "a lamp"

    @property
    def retriever_constructor_params(self):
        texts = ["dim the lamp", "a lamp", "the door", "play a song"]
        return {"vectorstore": RagkitVectorStore.from_texts(texts, "hash:64")}


class TestRetrieverOfIndex(RetrieversIntegrationTests):
    retriever_constructor = RagkitRetriever
    retriever_query_example = "a lamp"

    @property
    def retriever_constructor_params(self):
        return {"index": RagkitVectorStore.from_texts(["lamp", "a lamp", "the door", "a song"], "hash:64").index}


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = RagkitEmbeddings
    embedding_model_params = {"embedder": "hash:64"}  # noqa: RUF012 - as the suite has it


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    embeddings_class = RagkitEmbeddings
    embedding_model_params = {"embedder": "hash:64"}  # noqa: RUF012
