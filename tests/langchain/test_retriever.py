"""A batch is one search of the index, and every query has its own callbacks, config and errors."""

import asyncio

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import VectorStoreRetriever

from ragkit import Hit, Index
from ragkit.embedders import HashingEmbedder
from ragkit.errors import InvalidInputError
from ragkit.langchain import RagkitRetriever, RagkitVectorStore

TEXTS = ["dim the lamp", "play a song", "open the door", "read a book", "a long walk"]


class Counting(HashingEmbedder):
    """An embedder that knows how often it was asked."""

    def __init__(self) -> None:
        super().__init__(64)
        self.batches: list[int] = []

    def embed_queries(self, texts):
        if "broken" in texts:
            raise RuntimeError("broken")
        self.batches.append(len(texts))
        return super().embed_queries(texts)


class Told(BaseCallbackHandler):
    """Keeps what retrievers report."""

    def __init__(self) -> None:
        self.events: list[tuple] = []

    def on_retriever_start(self, serialized, query, *, run_id, tags=None, metadata=None, name=None, **_):
        self.events.append(("start", run_id, query, tags, metadata, name))

    def on_retriever_end(self, documents, *, run_id, **_):
        self.events.append(("end", run_id, [document.page_content for document in documents]))

    def on_retriever_error(self, error, *, run_id, **_):
        self.events.append(("error", run_id, str(error)))


class ToldLater(AsyncCallbackHandler):
    """The same for handlers that are awaited."""

    def __init__(self) -> None:
        self.ended = 0

    async def on_retriever_end(self, documents, **_):
        await asyncio.sleep(0)
        self.ended += 1


@pytest.fixture
def embedder():
    return Counting()


@pytest.fixture
def index(embedder):
    made = Index.create(None, embedder=embedder)
    made.add(TEXTS)
    searches = []
    real = made.search_documents

    def search_documents(queries, k=10, *, where=None):
        searches.append(len(queries))
        return real(queries, k, where=where)

    made.search_documents = search_documents
    made.searches = searches
    yield made
    made.close()


@pytest.fixture
def retriever(index):
    return RagkitRetriever(index=index, k=1)


def texts(found):
    return [[document.page_content for document in documents] for documents in found]


def test_a_batch_is_one_search(retriever, index, embedder):
    expected = [[text] for text in TEXTS]
    assert texts(retriever.batch(TEXTS)) == expected
    assert texts(asyncio.run(retriever.abatch(TEXTS))) == expected
    assert texts([retriever.invoke(TEXTS[0])]) == expected[:1]
    assert embedder.batches == [5, 5, 1] == index.searches
    chain = retriever | RunnableLambda(lambda documents: documents[0].page_content)
    assert chain.batch(TEXTS) == TEXTS
    assert asyncio.run(chain.abatch(TEXTS)) == TEXTS
    assert index.searches[3:] == [5, 5]
    assert retriever.batch([]) == []
    assert texts(retriever.batch(TEXTS[:2], k=2)) == texts([retriever.invoke(text, k=2) for text in TEXTS[:2]])
    assert isinstance(retriever, VectorStoreRetriever)


def test_every_query_has_its_callbacks_and_config(retriever):
    told, later = Told(), ToldLater()
    config = [{"callbacks": [told], "tags": [f"t{n}"], "run_name": f"r{n}", "metadata": {"n": n}} for n in range(2)]
    for run in (retriever.batch, lambda *given: asyncio.run(retriever.abatch(*given))):
        told.events.clear()
        run(TEXTS[:2], config)
        starts = [event for event in told.events if event[0] == "start"]
        ends = {event[1]: event[2] for event in told.events if event[0] == "end"}
        assert [event[2] for event in starts] == TEXTS[:2]
        assert [event[5] for event in starts] == ["r0", "r1"]
        assert [event[3][0] for event in starts] == ["t0", "t1"]
        assert [event[4]["n"] for event in starts] == [0, 1]
        assert [ends[event[1]] for event in starts] == [[TEXTS[0]], [TEXTS[1]]]
    asyncio.run(retriever.abatch(TEXTS, {"callbacks": [later]}))
    assert later.ended == 5


def test_a_failing_query_does_not_affect_the_others(retriever):
    told = Told()
    asked = ["dim the lamp", "broken", "play a song"]
    for run in (retriever.batch, lambda *given, **more: asyncio.run(retriever.abatch(*given, **more))):
        told.events.clear()
        found = run(asked, {"callbacks": [told]}, return_exceptions=True)
        assert texts([found[0], found[2]]) == [["dim the lamp"], ["play a song"]]
        assert isinstance(found[1], RuntimeError)
        assert [event[0] for event in told.events] == ["start"] * 3 + ["end", "error", "end"]
        with pytest.raises(RuntimeError, match="broken"):
            run(asked)


def test_64_concurrent_queries_get_their_own_results(index):
    index.add([f"number {n} {'x' * (n % 7)}" for n in range(64)])
    retriever = RagkitRetriever(index=index, k=1)
    asked = [f"number {n} {'x' * (n % 7)}" for n in range(64)]

    async def ask():
        return await asyncio.gather(*map(retriever.ainvoke, asked))

    assert texts(asyncio.run(ask())) == [[text] for text in asked]


def test_a_single_failing_query_is_not_repeated():
    class Failing:
        asked = 0

        def retrieve(self, queries, k=10, *, where=None):
            self.asked += 1
            raise RuntimeError("down")

        async def aretrieve(self, queries, k=10, *, where=None):
            return self.retrieve(queries)

    inner = Failing()
    retriever = RagkitRetriever(retriever=inner)
    assert [str(each) for each in retriever.batch(["x"], return_exceptions=True)] == ["down"]
    assert [str(each) for each in asyncio.run(retriever.abatch(["x"], return_exceptions=True))] == ["down"]
    assert inner.asked == 2


class Reversed:
    """A retriever of ragkit: gives the query backwards."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []

    def retrieve(self, queries, k=10, *, where=None):
        self.asked.append((list(queries), k, where))
        ranks = range(1, k + 1)
        return [
            [Hit(id=f"{query}{n}", score=1 / n, rank=n, text=query[::-1], metadata={"rank": n}) for n in ranks]
            for query in queries
        ]

    async def aretrieve(self, queries, k=10, *, where=None):
        return self.retrieve(queries, k, where=where)


def test_any_retriever_of_ragkit():
    inner = Reversed()
    retriever = RagkitRetriever(retriever=inner, k=2, search_kwargs={"filter": {"lang": {"$neq": "en"}}})
    assert retriever.invoke("abc", k=1) == [Document(page_content="cba", metadata={"rank": 1}, id="abc1")]
    assert texts(retriever.batch(["ab", "cd"])) == [["ba", "ba"], ["dc", "dc"]]
    assert texts(asyncio.run(retriever.abatch(["ab"]))) == [["ba", "ba"]]
    where = {"lang": {"$ne": "en"}}
    assert inner.asked == [(["abc"], 1, where), (["ab", "cd"], 2, where), (["ab"], 2, where)]
    with pytest.raises(InvalidInputError, match="not a function"):
        retriever.invoke("x", filter=lambda _: True)
    with pytest.raises(ValueError, match="'mmr' needs `vectorstore` or `index`"):
        RagkitRetriever(retriever=inner, search_type="mmr")


def test_arguments_of_a_call_override_the_settings():
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64", [{"n": n} for n in range(5)])
    retriever = store.as_retriever(search_kwargs={"k": 3, "filter": {"n": {"$gt": 0}}}, tags=["mine"])
    assert len(retriever.invoke("dim the lamp")) == 3
    assert len(retriever.invoke("dim the lamp", k=9)) == 4
    assert retriever.invoke("dim the lamp", k=1, filter=None)[0].page_content == "dim the lamp"
    told = Told()
    retriever.invoke("x", {"callbacks": [told]})
    assert "mine" in told.events[0][3]
    assert told.events[0][4]["ls_vector_store_provider"] == "RagkitVectorStore"
    assert retriever.add_documents([Document(page_content="new", id="n")]) == ["n"]
