"""The vector store compared with numpy and LangChain's in-memory store, and its errors."""

import asyncio

import numpy as np
import pytest
from exact_scores import exact_order
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from ragkit import Index
from ragkit.embedders import HashingEmbedder
from ragkit.errors import InvalidInputError
from ragkit.langchain import RagkitEmbeddings, RagkitRetriever, RagkitVectorStore

WORDS = ["dim", "lamp", "play", "song", "open", "door", "cold", "rain", "read", "book", "long", "walk"]
TEXTS = [f"{a} {b} {a[::-1]}" for a in WORDS for b in WORDS if a != b]
METADATA = [{"lang": "en" if n % 3 else "fr", "year": 2000 + n % 25, "n": n} for n in range(len(TEXTS))]
IDS = [f"t{n}" for n in range(len(TEXTS))]
QUERIES = ["a lamp", "the song of rain", "walk to the door", "book"]
FILLED = RagkitVectorStore.from_texts(TEXTS, "hash:128", METADATA, ids=IDS)


@pytest.fixture
def store():
    return FILLED


@pytest.fixture(scope="module")
def theirs():
    return InMemoryVectorStore.from_texts(TEXTS, RagkitEmbeddings("hash:128"), METADATA, ids=IDS)


def places(query, k, keep=lambda _: True):
    """What must be found, by brute force in numpy: ids in order, equal cosines in the order of addition."""
    embedder = HashingEmbedder(128)
    order = exact_order(embedder.embed_documents(TEXTS), embedder.embed_queries([query])[0])
    return [IDS[n] for n in order if keep(METADATA[n])][:k]


def ids(documents):
    return [document.id for document in documents]


@pytest.mark.parametrize("query", QUERIES)
def test_results_equal_brute_force(store, query):
    assert ids(store.similarity_search(query, k=7)) == places(query, 7)
    assert ids(asyncio.run(store.asimilarity_search(query, k=7))) == places(query, 7)
    vector = HashingEmbedder(128).embed_queries([query])[0].tolist()
    assert ids(store.similarity_search_by_vector(vector, k=7)) == places(query, 7)
    assert ids(asyncio.run(store.asimilarity_search_by_vector(vector, k=7))) == places(query, 7)
    assert ids(store.search(query, "similarity", k=3)) == places(query, 3)


def test_scores_equal_those_of_langchains_store(store, theirs):
    for query in QUERIES:
        ours = store.similarity_search_with_score(query, k=len(TEXTS))
        expected = {document.id: score for document, score in theirs.similarity_search_with_score(query, k=len(TEXTS))}
        assert {document.id for document, _ in ours} == set(expected)
        assert all(abs(score - expected[document.id]) < 1e-5 for document, score in ours)
        assert asyncio.run(store.asimilarity_search_with_score(query, k=5)) == ours[:5]


LAMPS = ["lamp" in text for text in TEXTS]
FILTERS = [
    ({"lang": "fr"}, lambda m: m["lang"] == "fr"),
    ({"year": {"$gte": 2010, "$lt": 2013}}, lambda m: 2010 <= m["year"] < 2013),
    ({"lang": {"$neq": "en"}}, lambda m: m["lang"] != "en"),
    ({"year": [2001, 2003]}, lambda m: m["year"] in {2001, 2003}),
    ({"$or": [{"year": [2001]}, {"n": {"$neq": 5}, "lang": "fr"}]}, lambda m: m["year"] == 2001 or m["lang"] == "fr"),
    ({"$not": {"lang": {"$neq": "fr"}}}, lambda m: m["lang"] == "fr"),
    ({"$and": [{"n": 17}]}, lambda m: m["n"] == 17),
    ({"lang": "none"}, lambda _: False),
    (lambda document: document.metadata["n"] % 40 == 3, lambda m: m["n"] % 40 == 3),
    (lambda document: "lamp" in document.page_content and document.id != "t0", lambda m: m["n"] and LAMPS[m["n"]]),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "keep"), FILTERS)
def test_filters_are_exact(store, asked, keep):
    for query in QUERIES:
        assert ids(store.similarity_search(query, k=6, filter=asked)) == places(query, 6, keep)
        assert ids(asyncio.run(store.asimilarity_search(query, k=6, filter=asked))) == places(query, 6, keep)
    retriever = store.as_retriever(search_kwargs={"k": 6, "filter": asked})
    assert [ids(found) for found in retriever.batch(QUERIES)] == [places(query, 6, keep) for query in QUERIES]


@settings(max_examples=30, deadline=None)
@given(rows=st.sets(st.integers(0, len(TEXTS) - 1)), k=st.integers(0, 40))
def test_filter_functions_are_exact(rows, k):
    found = FILLED.similarity_search("a lamp", k=k, filter=lambda document: document.metadata["n"] in rows)
    assert ids(found) == places("a lamp", k, lambda m: m["n"] in rows)


@pytest.mark.parametrize("trade_off", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("asked", [None, {"lang": "fr"}, lambda document: document.metadata["lang"] == "fr"])
def test_mmr_equals_langchains_function(store, trade_off, asked):
    embedder = HashingEmbedder(128)
    for query in QUERIES:
        keep = (lambda _: True) if asked is None else (lambda m: m["lang"] == "fr")
        near = places(query, 30, keep)
        vectors = embedder.embed_documents([TEXTS[IDS.index(name)] for name in near])
        vector = embedder.embed_queries([query])[0]
        chosen = maximal_marginal_relevance(vector, vectors.tolist(), lambda_mult=trade_off, k=5)
        expected = [near[place] for place in chosen]
        given = {"k": 5, "fetch_k": 30, "lambda_mult": trade_off, "filter": asked}
        assert ids(store.max_marginal_relevance_search(query, **given)) == expected
        assert ids(store.max_marginal_relevance_search_by_vector(vector.tolist(), **given)) == expected
        assert ids(asyncio.run(store.amax_marginal_relevance_search(query, **given))) == expected
        assert ids(asyncio.run(store.amax_marginal_relevance_search_by_vector(vector.tolist(), **given))) == expected
        assert ids(store.as_retriever(search_type="mmr", search_kwargs=given).batch([query])[0]) == expected


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_relevance_is_the_cosine_for_every_metric(metric):
    store = RagkitVectorStore("hash:128", metric=metric)
    store.add_texts(TEXTS, METADATA, ids=IDS)
    embedder = HashingEmbedder(128)
    for query in QUERIES:
        cosines = embedder.embed_documents(TEXTS) @ embedder.embed_queries([query])[0]
        found = store.similarity_search_with_relevance_scores(query, k=len(TEXTS))
        assert all(abs(score - max(0.0, cosines[IDS.index(each.id)])) < 1e-5 for each, score in found)
        kept = store.similarity_search_with_relevance_scores(query, k=9, score_threshold=0.3)
        assert kept == [pair for pair in found[:9] if pair[1] >= 0.3]
        assert asyncio.run(store.asimilarity_search_with_relevance_scores(query, k=9, score_threshold=0.3)) == kept
        exact = found[0][1]
        assert store.similarity_search_with_relevance_scores(query, k=9, score_threshold=exact)[0] == found[0]
        asked = store.as_retriever(
            search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.3, "k": 9}
        )
        assert asked.batch([query]) == [[document for document, _ in kept]]
        assert asyncio.run(asked.ainvoke(query)) == [document for document, _ in kept]
    assert store._select_relevance_score_fn()(-9.0) == 0.0
    store.index.close()


def test_a_folder_stores_everything(tmp_path):
    given = DeterministicFakeEmbedding(size=12)
    store = RagkitVectorStore(given, path=tmp_path / "s")
    assert store.add_texts(["a", "b"], [{"n": 1}, {"n": [1, {"x": None}]}], ids=["1", None])[0] == "1"
    assert store.embeddings is given
    store.index.close()
    with pytest.raises(InvalidInputError, match="give the object itself"):
        RagkitVectorStore(path=tmp_path / "s")
    with pytest.raises(InvalidInputError, match="other vectors"):
        RagkitVectorStore("hash:12", path=tmp_path / "s")
    again = RagkitVectorStore(DeterministicFakeEmbedding(size=12), path=tmp_path / "s")
    assert again.similarity_search("b", k=1)[0].metadata == {"n": [1, {"x": None}]}
    again.index.close()

    with Index.create(tmp_path / "t", embedder="hash:32") as index:
        index.add(["dim the lamp"])
    opened = RagkitVectorStore(path=tmp_path / "t")
    assert isinstance(opened.embeddings, RagkitEmbeddings)
    assert opened.similarity_search("lamp")[0].page_content == "dim the lamp"
    opened.index.close()
    by_vector = RagkitVectorStore(index=Index.create(None, embedder=None, dim=2))
    assert by_vector.embeddings is None
    by_vector.index.add(["x"], vectors=np.ones((1, 2), dtype=np.float32))
    assert by_vector.similarity_search_by_vector([1, 0])[0].page_content == "x"
    with pytest.raises(InvalidInputError, match="no embedder"):
        by_vector.similarity_search("x")


def test_stored_documents_are_independent_of_given_and_returned_ones(store):
    document = Document(page_content="new", metadata={"list": [1]}, id="own")
    made = RagkitVectorStore("hash:16")
    assert made.add_documents([document, Document(page_content="x")])[0] == "own"
    assert made.add_documents([document], ids=["other"]) == ["other"]
    assert document == Document(page_content="new", metadata={"list": [1]}, id="own")
    found = made.get_by_ids(["own"])[0]
    found.metadata["list"].append(2)
    assert made.get_by_ids(["missing", "own"])[0].metadata == {"list": [1]}
    first, second = made.add_texts(["same", "same"])
    assert first != second
    assert len(made.index) == 5
    assert made.delete([first, "missing"]) is True
    assert asyncio.run(made.adelete([])) is True
    assert len(made.index) == 4
    assert RagkitVectorStore.from_texts([], "hash:16").similarity_search("x") == []
    assert len(asyncio.run(RagkitVectorStore.afrom_texts(["a"], "hash:16")).index) == 1
    with_ids = RagkitVectorStore.from_documents([document, Document(page_content="y")], "hash:16")
    assert with_ids.get_by_ids(["own"])[0] == document


class Counted(Embeddings):
    """Says what it was asked, and whether in the async way."""

    def __init__(self) -> None:
        self.inner, self.asked = RagkitEmbeddings("hash:32"), []

    def embed_documents(self, texts):
        self.asked.append(("documents", list(texts)))
        return [[2 * x for x in row] for row in self.inner.embed_documents(texts)]

    def embed_query(self, text):
        self.asked.append(("query", text))
        return self.inner.embed_query(text)

    async def aembed_query(self, text):
        self.asked.append(("aquery", text))
        return await self.inner.aembed_query(text)


def test_langchain_embeddings_embed_only_new_texts_and_use_their_async_methods():
    counted = Counted()
    store = RagkitVectorStore(counted)
    store.add_texts(["dim the lamp", "a song"], ids=["1", "2"])
    store.add_texts(["dim the lamp", "a new song"], ids=["1", "2"])
    assert [texts for kind, texts in counted.asked if kind == "documents"] == [
        ["a song", "dim the lamp"],
        ["a new song"],
    ]
    counted.asked.clear()
    assert store.similarity_search_with_score("dim the lamp", k=1)[0][1] == pytest.approx(1, abs=1e-6)
    assert asyncio.run(store.asimilarity_search("dim the lamp", k=1))[0].id == "1"
    assert counted.asked == [("query", "dim the lamp"), ("aquery", "dim the lamp")]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.similarity_search("x", kk=2),
        lambda s: s.similarity_search_with_score("x", fliter={}),
        lambda s: s.max_marginal_relevance_search("x", lambda_=1),
        lambda s: s.search("x", "similarity", kk=2),
        lambda s: s.add_texts(["x"], id=["1"]),
        lambda s: s.add_documents([], idz=[]),
        lambda s: s.as_retriever(kk=1),
        lambda s: asyncio.run(s.asimilarity_search("x", kk=2)),
    ],
)
def test_a_misspelt_argument_is_an_error(store, call):
    with pytest.raises(TypeError, match="unexpected keyword"):
        call(store)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.as_retriever(search_kwargs={"kk": 1}), "takes no 'kk'; it takes fetch_k, filter, k"),
        (lambda s: s.as_retriever(search_kwargs={"lambda_mult": 1}), "similarity search takes no 'lambda_mult'"),
        (lambda s: s.as_retriever().invoke("x", kk=1), "takes no 'kk'"),
        (lambda s: s.as_retriever().batch(["x"], kk=1), "takes no 'kk'"),
        (lambda s: s.as_retriever(search_type="best"), "search_type of best not allowed"),
        (lambda s: RagkitRetriever(vectorstore=s, kk=2), "Extra inputs are not permitted"),
        (lambda s: RagkitRetriever(vectorstore=s, index=s.index), "give one of"),
        (lambda s: RagkitRetriever(k=3), "got none"),
        (lambda s: RagkitRetriever(vectorstore=s, k=-1), "greater than or equal to 0"),
        (lambda s: s.similarity_search("x", k=-1), "`k` must be"),
        (lambda s: s.similarity_search("x", k=-1, filter=lambda _: True), "`k` must be"),
        (lambda s: s.similarity_search("x", k=True, filter=lambda _: True), "`k` must be"),
        (lambda s: s.max_marginal_relevance_search("x", k=-1), "`k` must be"),
        (lambda s: s.max_marginal_relevance_search("x", k="2"), "`k` must be"),
        (lambda s: s.similarity_search("x", filter="lang"), "must be a mapping"),
        (lambda s: s.similarity_search("x", filter={"year": {"$gtt": 1}}), r"Did you mean '\$gt'"),
        (lambda s: s.delete(), "`ids`"),
        (lambda s: s.add_texts("lamp"), "texts"),
        (lambda s: s.add_texts(["a", "b"], [{}]), "`metadatas`"),
        (lambda s: s.add_texts(["a", "b"], ids=["1"]), "`ids`"),
        (lambda s: s.add_texts(["a"], ids=[1]), "`id` must be text, got int"),
        (lambda s: s.add_texts(["a"], [{"when": object()}]), "metadata must be what JSON can hold"),
        (lambda s: s.similarity_search_with_relevance_scores("x", score_threshold=2), "`score_threshold`"),
        (lambda s: s.max_marginal_relevance_search("x", lambda_mult=2), "`lambda_mult`"),
        (lambda s: s.max_marginal_relevance_search("x", fetch_k=0), "`fetch_k` must be"),
        (lambda s: s.similarity_search_by_vector([1.0, 2.0]), r"shape \[n, 128\], got float32 of shape \(1, 2\)"),
        (lambda s: s.similarity_search_by_vector([[1.0]]), "`embedding`"),
        (lambda s: s.similarity_search_by_vector([float("nan")] * 128), "NaN"),
        (lambda _: RagkitVectorStore(), "`embedding`"),
        (lambda s: RagkitVectorStore("hash:8", index=s.index), "`index`"),
        (lambda _: RagkitVectorStore(object()), "`embedder` must be a spec"),
    ],
)
def test_invalid_input(store, call, says):
    before = len(store.index)
    with pytest.raises(ValueError, match=says):
        call(store)
    assert len(store.index) == before


def test_it_is_a_langchain_vector_store(store):
    assert isinstance(store, VectorStore)
    assert type(store).delete is not VectorStore.delete
