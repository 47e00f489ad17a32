"""Every retriever against the contract suite."""

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore

from ragkit import BM25Retriever, DenseRetriever, HybridRetriever, Index, RerankingRetriever, ScriptedModel
from ragkit.retrievers import ExpandingRetriever, LangChainRetriever, MmrRetriever, MultiQueryRetriever
from ragkit.retrievers._base import RetrieverBase
from ragkit.testing import RetrieverContract
from ragkit.where import matches, parse_where

DOCUMENTS = RetrieverContract.documents


@pytest.fixture
def index():
    with Index.create(None, embedder="hash:256") as made:
        made.add(DOCUMENTS)
        yield made


class TestDense(RetrieverContract):
    @pytest.fixture
    def retriever(self, index):
        return DenseRetriever(index)


class TestBm25(RetrieverContract):
    @pytest.fixture(params=["english", None, "german"])
    def retriever(self, index, request):
        return BM25Retriever(index, analyzer=request.param)


class TestBm25OfDocuments(RetrieverContract):
    @pytest.fixture
    def retriever(self):
        return BM25Retriever(DOCUMENTS)


class TestHybrid(RetrieverContract):
    @pytest.fixture(params=["rrf", "weighted"])
    def retriever(self, index, request):
        return HybridRetriever([DenseRetriever(index), BM25Retriever(index)], fusion=request.param, weights=[1, 0.5])


class TestReranking(RetrieverContract):
    @pytest.fixture(params=["lengths", "tokens", "model", "encoder"])
    def retriever(self, index, request, tiny):
        class Encoder:
            def predict(self, pairs, show_progress_bar):
                assert not show_progress_bar
                return [float(len(set(query) & set(text))) for query, text in pairs]

        reranker = {
            "lengths": lambda queries, texts: [
                len(text) - len(query) for query, text in zip(queries, texts, strict=True)
            ],
            "tokens": "tokens:hash:64",
            "model": tiny,
            "encoder": Encoder(),
        }[request.param]
        return RerankingRetriever(DenseRetriever(index), reranker, fetch_k=20)


class TestMmr(RetrieverContract):
    ranks = False

    @pytest.fixture(params=["dense", "bm25"])
    def retriever(self, index, request):
        return MmrRetriever(index, None if request.param == "dense" else BM25Retriever(index), fetch_k=20)


class TestMultiQuery(RetrieverContract):
    @pytest.fixture
    def retriever(self, index):
        return MultiQueryRetriever(
            HybridRetriever([BM25Retriever(index)]), ScriptedModel(lambda _: "1. red lamps\n- card")
        )


class TestExpanding(RetrieverContract):
    @pytest.fixture
    def retriever(self, index):
        return ExpandingRetriever(index, DenseRetriever(index))


def store():
    made = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    made.add_documents(
        [LangChainDocument(each.text, id=each.id, metadata=dict(each.metadata or {})) for each in DOCUMENTS]
    )
    return made


class Everything(BaseRetriever):
    def _get_relevant_documents(self, query, *, run_manager):
        return store().similarity_search(query, k=100)


class TestLangChain(RetrieverContract):
    @pytest.fixture(params=["store", "as_retriever", "retriever"])
    def retriever(self, request):
        sources = {"store": store, "as_retriever": lambda: store().as_retriever(), "retriever": Everything}
        return LangChainRetriever(sources[request.param]())


class Starving(RetrieverBase):
    """Filters what it has found, as many stores do."""

    def __init__(self, index) -> None:
        self.dense = DenseRetriever(index)

    def _retrieve(self, queries, k, where):
        condition = parse_where(where or {})
        found = self.dense.retrieve(queries, k)
        return [[hit for hit in hits if matches(condition, hit.metadata)] for hits in found]


class Backwards(Starving):
    def _retrieve(self, queries, k, where):
        return [hits[::-1] for hits in self.dense.retrieve(queries, k, where=where)]


class Batched(Starving):
    def _retrieve(self, queries, k, where):
        return self.dense.retrieve(queries, k, where=where)[::-1]


class Leaking(Starving):
    def _retrieve(self, queries, k, where):
        return self.dense.retrieve(queries, k)


class Blocking(Starving):
    def _retrieve(self, queries, k, where):
        return self.dense.retrieve(queries, k, where=where)

    async def _aretrieve(self, queries, k, where):
        return self.dense.retrieve(queries, k)


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        (Starving, RetrieverContract.test_filters),
        (Leaking, RetrieverContract.test_filters),
        (Backwards, RetrieverContract.test_hits_are_documents),
        (Backwards, RetrieverContract.test_fewer_are_the_first_of_more),
        (Batched, RetrieverContract.test_a_batch_equals_single_queries),
        (Blocking, RetrieverContract.test_aretrieve_equals_retrieve),
    ],
)
def test_a_broken_retriever_fails(broken, test, index):
    test(RetrieverContract(), DenseRetriever(index))
    with pytest.raises(AssertionError):
        test(RetrieverContract(), broken(index))
