"""A parallel step that calls `batch` of each of its steps once."""

import asyncio

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough

from ragkit.embedders import HashingEmbedder
from ragkit.langchain import RagkitParallel, RagkitVectorStore

TEXTS = ["dim the lamp", "play a song", "open the door"]


class Counting(HashingEmbedder):
    """Counts the queries of each call."""

    def __init__(self) -> None:
        super().__init__(256)
        self.batches = []

    def embed_queries(self, texts):
        self.batches.append(len(texts))
        return super().embed_queries(texts)


def steps(embedder):
    retriever = RagkitVectorStore.from_texts(TEXTS, embedder).as_retriever(k=1)
    return {"context": retriever | (lambda found: found[0].page_content), "question": RunnablePassthrough()}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_is_one_search_and_equals_langchains_result(asynchronous):
    embedder, prompt = Counting(), ChatPromptTemplate.from_template("{context}: {question}")

    def run(parallel):
        embedder.batches.clear()
        chain = parallel | prompt
        return asyncio.run(chain.abatch(TEXTS)) if asynchronous else chain.batch(TEXTS)

    found = run(RagkitParallel(steps(embedder)))
    assert embedder.batches == [3]
    assert found == run(RunnableParallel(steps(embedder)))
    assert embedder.batches == [1, 1, 1]
    assert [each.to_string() for each in found] == [f"Human: {text}: {text}" for text in TEXTS]


def test_other_calls_are_those_of_langchain():
    parallel = RagkitParallel(steps("hash:256"))
    expected = {"context": "play a song", "question": "a song"}
    assert parallel.invoke("a song") == asyncio.run(parallel.ainvoke("a song")) == expected
    assert parallel.batch([]) == asyncio.run(parallel.abatch([])) == []
    assert isinstance(parallel, RunnableParallel)
    assert RagkitParallel(a=RunnableLambda(str.upper)).batch(["x"]) == [{"a": "X"}]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_concerns_only_its_input(asynchronous):
    def fails(text):
        if text == "song":
            raise ValueError("no songs")
        return text

    parallel = RagkitParallel({"a": RunnableLambda(fails), "b": RunnablePassthrough()})

    def run(**more):
        given = ["lamp", "song", "door"]
        return asyncio.run(parallel.abatch(given, **more)) if asynchronous else parallel.batch(given, **more)

    found = run(return_exceptions=True)
    assert [found[0], found[2]] == [{"a": "lamp", "b": "lamp"}, {"a": "door", "b": "door"}]
    assert str(found[1]) == "no songs"
    with pytest.raises(ValueError, match="no songs"):
        run()


class Heard(BaseCallbackHandler):
    """Keeps the parents of retriever runs."""

    def __init__(self) -> None:
        self.chains, self.retrievers = [], []

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, **_):
        self.chains.append((run_id, inputs))

    def on_retriever_start(self, serialized, query, *, parent_run_id=None, tags=None, **_):
        self.retrievers.append((parent_run_id, query, tags))


def test_each_input_has_its_own_run():
    heard = Heard()
    retriever = RagkitVectorStore.from_texts(TEXTS, "hash:256").as_retriever(k=1)
    RagkitParallel({"context": retriever}).batch(["lamp", "song"], {"callbacks": [heard]})
    assert heard.retrievers == [(run, query, ["map:key:context"]) for run, query in heard.chains]
