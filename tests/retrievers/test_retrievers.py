"""Fusion by value, reranking, diversity, rewriting, neighbours, and stores of others."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import InMemoryVectorStore, VectorStoreRetriever
from pydantic import Field

from ragkit import BM25Retriever, DenseRetriever, Document, HybridRetriever, Index, RerankingRetriever, ScriptedModel
from ragkit.errors import InvalidInputError, UnknownSpecError, UnsupportedError
from ragkit.records import Hit
from ragkit.retrievers import ExpandingRetriever, LangChainRetriever, MmrRetriever, MultiQueryRetriever
from ragkit.retrievers._base import RetrieverBase
from ragkit.retrievers._hybrid import fuse_hits
from ragkit.retrievers._loading import load_retriever, load_retrievers
from ragkit.retrievers._rerank import QueryLikelihood, load_reranker

SCORES = st.lists(st.tuples(st.integers(0, 12), st.floats(-5, 5).map(lambda x: round(x, 3))), max_size=10)


class Given(RetrieverBase):
    def __init__(self, scores) -> None:
        self.scores = sorted(dict(scores).items(), key=lambda pair: -pair[1])

    def _retrieve(self, queries, k, where):
        hits = [Hit(id=str(own), score=score, rank=n) for n, (own, score) in enumerate(self.scores[:k], 1)]
        return [hits for _ in queries]


def fused_by_hand(lists, weights, fusion):
    total = {}
    for pairs, weight in zip(lists, weights, strict=True):
        values = np.array([score for _, score in pairs])
        for rank, (own, score) in enumerate(pairs, 1):
            spread = values.max() - values.min()
            scaled = (score - values.min()) / spread if spread else 1
            share = {"rrf": 1 / (60 + rank), "weighted": scaled}[fusion]
            total[str(own)] = total.get(str(own), 0) + weight * share
    return total


@given(one=SCORES, other=SCORES, fusion=st.sampled_from(["rrf", "weighted"]), weight=st.floats(0.1, 3))
def test_fusion_is_the_weighted_sum(one, other, fusion, weight):
    parts = [Given(one), Given(other)]
    expected = fused_by_hand([part.scores for part in parts], [weight, 1], fusion)
    hits = HybridRetriever(parts, fusion=fusion, weights=[weight, 1]).retrieve("any", 100)
    assert {hit.id for hit in hits} == set(expected)
    assert np.allclose([hit.score for hit in hits], sorted(expected.values(), reverse=True), atol=1e-6)
    assert np.allclose([hit.score for hit in hits], [expected[hit.id] for hit in hits], atol=1e-6)


def test_fusion_says_where_a_score_comes_from():
    hybrid = HybridRetriever({"one": Given([(1, 0.5), (2, 0.4)]), "two": Given([(2, 7.0)])}, fusion="rrf")
    first, second = hybrid.retrieve("any")
    assert first.why == {"one": 0.4, "one_rank": 2, "two": 7.0, "two_rank": 1, "rrf": pytest.approx(1 / 62 + 1 / 61)}
    assert second.why == {"one": 0.5, "one_rank": 1, "rrf": pytest.approx(1 / 61)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retrievers": []}, "at least one retriever"),
        ({"retrievers": ["bm25"]}, "at least one retriever"),
        ({"weights": [1]}, "a weight above 0"),
        ({"weights": [1, 0]}, "a weight above 0"),
        ({"fusion": "sum"}, "must be one of"),
        ({"depth": 0}, "`depth` must be at least 1"),
    ],
)
def test_a_hybrid_of_nothing_sensible_is_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        HybridRetriever(**{"retrievers": [Given([]), Given([])], **arguments})


def test_reranking_judges_the_candidates_of_all_queries_at_once():
    asked = []

    def last_letter(queries, texts):
        asked.append(len(texts))
        return [ord(text[-1]) for text in texts]

    base = BM25Retriever([Document(f"lamp {letter}", id=letter) for letter in "xaz"], analyzer=None)
    hits = RerankingRetriever(base, last_letter, fetch_k=10).retrieve(["lamp", "lamp a", "none"], 2)
    assert [[hit.id for hit in own] for own in hits] == [["z", "x"], ["z", "x"], []]
    assert asked == [6]
    assert hits[0][0].why["base_rank"] == 3


def test_a_language_model_reranks_by_how_likely_the_query_is(tiny):
    texts = ["dim the lamp", "stock prices fell sharply today"]
    scores = QueryLikelihood(tiny)(["dim the lamp"] * 2, texts)
    prompts = [f"Passage: {text}\n\nA question that it answers:" for text in texts]
    assert np.allclose(
        scores * tiny.count_tokens("dim the lamp"), tiny.score(prompts, [" dim the lamp"])[:, 0], atol=1e-3
    )
    assert np.isfinite(QueryLikelihood(tiny)(["lamp"], ["long text " * 5000])).all()


def test_rerankers_that_cannot_be():
    with pytest.raises(UnknownSpecError, match="Did you mean 'cross-encoder"):
        load_reranker("crossencoder:x")
    with pytest.raises(UnsupportedError, match="no probabilities"):
        load_reranker(ScriptedModel([]))
    with pytest.raises(InvalidInputError, match="must be a spec"):
        load_reranker(3)
    with pytest.raises(InvalidInputError, match="must give 1 numbers"):
        RerankingRetriever(Given([(1, 1.0)]), lambda queries, texts: [float("nan")]).retrieve("x")
    with pytest.raises(InvalidInputError, match="must give 1 numbers"):
        RerankingRetriever(Given([(1, 1.0)]), lambda queries, texts: [1, 2]).retrieve("x")


def test_mmr_is_the_greedy_choice_by_hand():
    texts = [f"{a} {b} lamp" for a in ("red", "blue", "green") for b in ("small", "large", "old")]
    with Index.create(None, embedder="hash:64") as index:
        index.add([Document(text, id=text) for text in texts])
        query = index.embedder.embed_queries(["red lamp"])[0].astype(float)
        vectors = {text: index.embedder.embed_documents([text])[0].astype(float) for text in texts}
        chosen = []
        while len(chosen) < 5:
            worth = {
                text: 0.6 * (query @ vectors[text])
                - 0.4 * max((vectors[text] @ vectors[other] for other in chosen), default=0)
                for text in texts
                if text not in chosen
            }
            chosen.append(max(worth, key=lambda text: round(worth[text], 6)))
        assert [hit.id for hit in MmrRetriever(index, trade_off=0.6).retrieve("red lamp", 5)] == chosen


def test_many_queries_are_read_from_the_models_lines():
    asked = []

    class Spy(Given):
        def _retrieve(self, queries, k, where):
            asked.append(list(queries))
            return super()._retrieve(queries, k, where)

    model = ScriptedModel(
        [
            '<think>\nblue lamp</think>1. red lamp\n\n2) "the LIGHT"\n- Red lamp!\n* fourth {query}\n(5) too many',
            "\n \n",
        ]
    )
    hits = MultiQueryRetriever(Spy([(1, 1.0)]), model, n=3).retrieve(["red lamp", "alone"])
    assert asked == [["red lamp", "the LIGHT", "fourth {query}", "too many", "alone"]]
    assert hits[1][0].why["queries"] == ["alone"]
    assert "Question: red lamp\n" in model.asked[0]


def pieces(source, parts, **more):
    start, made = 0, []
    for n, part in enumerate(parts):
        metadata = {"source": source, "start": start, "end": start + len(part), **more}
        made.append(Document(part, id=f"{source}{n}", metadata=metadata))
        start += len(part)
    return made


def test_a_hit_grows_by_its_neighbours():
    text = ["one lamp. ", "two song. ", "three card. ", "four lake. ", "five tree."]
    with Index.create(None, embedder="hash:64") as index:
        index.add([*pieces("a", text), *pieces("b", ["one boat. ", "two card. "]), Document("a card", id="loose")])
        base = BM25Retriever(index, analyzer=None)
        hit = ExpandingRetriever(index, base).retrieve("three", 1)[0]
        assert (hit.id, hit.text, hit.span) == ("a2", "two song. three card. four lake. ", (10, 43))
        assert hit.why["pieces"] == ["a1", "a2", "a3"]
        whole = ExpandingRetriever(index, base, before=None, after=None).retrieve("three", 1)[0]
        assert (whole.text, whole.span) == ("".join(text), (0, len("".join(text))))
        both = ExpandingRetriever(index, base, before=0, after=1).retrieve("one five song", 10)
        assert {hit.text for hit in both} == {"one lamp. two song. three card. ", "five tree.", "one boat. two card. "}
        assert [hit.rank for hit in both] == [1, 2, 3]
        assert "loose" in [hit.id for hit in ExpandingRetriever(index, base).retrieve("card", 5)]


def test_a_neighbour_that_the_filter_bars_stays_out():
    with Index.create(None, embedder="hash:64") as index:
        first, second = pieces("a", ["open words. "], team=1), pieces("a", ["open words. ", "secret words."], team=2)
        index.add([*first, Document(second[1].text, id="secret", metadata=second[1].metadata)])
        hits = ExpandingRetriever(index, BM25Retriever(index)).retrieve("open words", 5, where={"team": 1})
        assert [hit.text for hit in hits] == ["open words. "]


def test_a_store_is_asked_further_until_the_filter_is_satisfied():
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents([LangChainDocument(f"text {n}", id=str(n), metadata={"part": n % 50}) for n in range(200)])
    asked = []

    def native(where):
        asked.append(where)
        return lambda document: document.metadata["part"] == where["part"]

    expected = [document.id for document in store.similarity_search("x", k=200) if document.metadata["part"] == 7]
    for retriever in (LangChainRetriever(store), LangChainRetriever(store, native=native)):
        assert [hit.id for hit in retriever.retrieve("x", 3, where={"part": 7})] == expected[:3]
        assert [hit.id for hit in asyncio.run(retriever.aretrieve("x", 9, where={"part": 7}))] == expected
    assert asked
    with pytest.raises(InvalidInputError, match="vector store or a retriever"):
        LangChainRetriever("store")


class Rated(InMemoryVectorStore):
    """A store with relevance scores, which a threshold needs."""

    def _select_relevance_score_fn(self):
        return lambda similarity: (similarity + 1) / 2


class Parents(BaseRetriever):
    """Finds fragments in a store and returns what they are parts of, as a ParentDocumentRetriever does."""

    vectorstore: InMemoryVectorStore
    search_kwargs: dict = Field(default_factory=dict)

    def _get_relevant_documents(self, query, *, run_manager):
        found = self.vectorstore.similarity_search(query, **self.search_kwargs)
        return [LangChainDocument(f"parent of {each.id}", id=f"parent {each.id}") for each in found]


class OwnSearch(VectorStoreRetriever):
    """A retriever of a store that takes no settings with a query, and returns its documents in another order."""

    def _get_relevant_documents(self, query, *, run_manager):
        return super()._get_relevant_documents(query, run_manager=run_manager)[::-1]


def tenants():
    store = Rated(DeterministicFakeEmbedding(size=8))
    store.add_documents([LangChainDocument(f"text {n}", id=str(n), metadata={"tenant": n % 3}) for n in range(30)])
    return store


def of_tenant(document):
    return document.metadata["tenant"] == 1


RETRIEVERS = {
    "filter": lambda store: store.as_retriever(search_kwargs={"filter": of_tenant, "k": 6}),
    "threshold": lambda store: store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.6, "k": 30}
    ),
    "mmr": lambda store: store.as_retriever(
        search_type="mmr", search_kwargs={"k": 5, "fetch_k": 12, "lambda_mult": 0.1}
    ),
    "k": lambda store: store.as_retriever(search_kwargs={"k": 3}),
    "parents": lambda store: Parents(vectorstore=store),
    "parents of a tenant": lambda store: Parents(vectorstore=store, search_kwargs={"filter": of_tenant, "k": 3}),
    "own search": lambda store: OwnSearch(vectorstore=store, search_kwargs={"k": 4}),
}


@pytest.mark.parametrize("name", RETRIEVERS)
def test_a_retriever_of_langchain_keeps_its_settings(name):
    source = RETRIEVERS[name](tenants())
    retriever = LangChainRetriever(source)
    pairs = [
        (source.invoke("text 5"), retriever.retrieve("text 5", 30)),
        (asyncio.run(source.ainvoke("text 5")), asyncio.run(retriever.aretrieve("text 5", 30))),
        (source.invoke("text 5")[:2], retriever.retrieve("text 5", 2)),
    ]
    for expected, hits in pairs:
        assert 1 < len(expected) < 30
        assert [(hit.id, hit.text) for hit in hits] == [(each.id, each.page_content) for each in expected]


def test_a_retriever_of_a_store_gives_as_many_as_are_asked_for_and_keeps_its_filter():
    store = tenants()
    source = store.as_retriever(search_kwargs={"filter": of_tenant})
    own = [document.id for document in store.similarity_search("x", k=30, filter=of_tenant)]
    for native in (None, lambda _: lambda document: True):  # a filter of ragkit does not replace the retriever's own
        retriever = LangChainRetriever(source, native=native)
        assert [hit.id for hit in retriever.retrieve("x", 9)] == own[:9]
        assert [hit.id for hit in retriever.retrieve("x", 9, where={"tenant": {"$gte": 0}})] == own[:9]
        assert retriever.retrieve("x", 9, where={"tenant": 2}) == []
    with pytest.raises(InvalidInputError):
        LangChainRetriever(Parents(vectorstore=store), native=lambda where: where)


def test_dense_needs_an_embedder():
    with Index.create(None, embedder=None, dim=3) as index, pytest.raises(InvalidInputError, match="no embedder"):
        DenseRetriever(index)


def test_no_retriever_of_a_hybrid_is_lost_by_its_name():
    given = [Given([("x", 1.0)]) for _ in range(4)]
    for part, name in zip(given, ["my own", "my own", "my own 2", "my own"], strict=True):
        part.name = name
    hybrid = HybridRetriever(given)
    assert list(hybrid.parts.values()) == given
    assert list(hybrid.parts) == ["my own", "my own 2", "my own 2 2", "my own 3"]
    for constant in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInputError, match="`constant`"):
            HybridRetriever(given, constant=constant)


def test_a_document_counts_once_in_a_ranking():
    def ranking(*ids):
        return [Hit(id=own, score=1.0, rank=n) for n, own in enumerate(ids, 1)]

    hits = fuse_hits({"a": ranking("x", "y", "x"), "b": ranking("y")}, [1.0, 1.0], 5)
    assert [(hit.id, hit.score) for hit in hits] == [("y", round(1 / 62 + 1 / 61, 9)), ("x", round(1 / 61, 9))]
    assert hits[1].why["a_rank"] == 1


def test_pieces_that_meet_in_a_third_become_one():
    with Index.create(None, embedder="hash:16") as index:
        texts = [f"w{n} " for n in range(6)]
        places = [{"source": "s", "start": 3 * n, "end": 3 * n + 3} for n in range(6)]
        index.add([Document(text, id=f"p{n}", metadata=places[n]) for n, text in enumerate(texts)])
        base = Given([])
        base._retrieve = lambda queries, k, where: [
            [
                Hit(id=f"p{n}", score=1.0, rank=1, text=texts[n], metadata=places[n], span=(3 * n, 3 * n + 3))
                for n in order
            ]
            for order in [(0, 4, 2)]
        ]
        (hit,) = ExpandingRetriever(index, base).retrieve("x")
        assert (hit.id, hit.text, hit.span) == ("p0", "".join(texts), (0, 18))
        assert sorted(hit.why["pieces"]) == [f"p{n}" for n in range(6)]


def test_retrievers_of_an_index_by_name():
    with Index.create(None, embedder="hash:64") as index:
        index.add(["a red lamp", "a song"])
        dense, words, both = load_retrievers(["dense", "bm25", "hybrid"], index)
        assert both.parts == {"bm25": words, "dense": dense}  # the same objects, so nothing is indexed twice
        assert load_retriever("bm25", index).retrieve("lamps", k=1)[0].text == "a red lamp"
        with pytest.raises(UnknownSpecError) as caught:
            load_retriever("bm52", index)
        assert caught.value.suggestions[0] == "bm25"
