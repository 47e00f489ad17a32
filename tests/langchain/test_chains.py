"""ragkit's classes in LangChain and LangGraph: chains, events, ``index()``, graphs with checkpoints."""

import asyncio
from operator import attrgetter
from typing import TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough

from ragkit import ActionLibrary, BM25Retriever, FewShot, JaccardSelector, Pearl, Plan, ScriptedModel
from ragkit import Document as RagkitDocument
from ragkit.errors import InvalidInputError
from ragkit.langchain import RagkitChatModel, RagkitReranker, RagkitRetriever, RagkitVectorStore, as_runnable
from ragkit.retrievers._rerank import load_reranker

CITIES = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Norway": "Oslo"}
FACTS = [f"The capital of {country} is {city}." for country, city in CITIES.items()]


def reads(prompt):
    """Answers with the last word of the facts that the prompt shows."""
    return prompt.split("Facts: ")[1].splitlines()[0].rstrip(".").split()[-1]


def answering(k=1):
    retriever = RagkitRetriever(vectorstore=RagkitVectorStore.from_texts(FACTS, "hash:256"), k=k)
    join = retriever | (lambda documents: " ".join(document.page_content for document in documents))
    prompt = ChatPromptTemplate.from_template("Facts: {facts}\nQuestion: {question}")
    model = RagkitChatModel(model=ScriptedModel(reads))
    return {"facts": join, "question": RunnablePassthrough()} | prompt | model | StrOutputParser()


def test_a_chain_answers_single_batched_and_concurrent_inputs():
    chain = answering()
    asked = [f"What is the capital of {country}?" for country in CITIES]
    assert chain.invoke(asked[0]) == "Paris"
    assert chain.batch(asked) == list(CITIES.values())
    assert "".join(chain.stream(asked[3])) == "Oslo"

    async def many():
        return await asyncio.gather(*(chain.ainvoke(asked[n % 4]) for n in range(64)))

    assert asyncio.run(many()) == list(CITIES.values()) * 16
    assert asyncio.run(chain.abatch(asked)) == list(CITIES.values())


class Told(BaseCallbackHandler):
    """Keeps what chains report."""

    def __init__(self) -> None:
        self.events = []

    def on_chain_start(self, serialized, inputs, *, name=None, tags=None, **_):
        self.events.append(("start", name, inputs, tags))

    def on_chain_end(self, outputs, **_):
        self.events.append(("end", outputs))

    def on_chain_error(self, error, **_):
        self.events.append(("error", str(error)))


class Upper:
    """A pipeline: says words in capitals, piece by piece, and counts its batches."""

    def __init__(self) -> None:
        self.batches = []

    def invoke(self, query, *, mark="!"):
        if query == "bad":
            raise ValueError("bad")
        return query.upper() + mark

    def batch(self, queries):
        self.batches.append(len(queries))
        return [self.invoke(query) for query in queries]

    def stream(self, query, *, mark="!"):
        yield from (word.upper() for word in query.split())
        yield mark


class Later(Upper):
    """The same with async verbs of its own."""

    async def ainvoke(self, query, *, mark="!"):
        return f"async {self.invoke(query, mark=mark)}"

    async def astream(self, query, *, mark="!"):
        for word in (*query.split(), mark):
            yield f"async {word}"


def test_a_pipeline_as_a_runnable():
    pipeline, told = Upper(), Told()
    runnable = as_runnable(pipeline)
    assert runnable.invoke("a", {"callbacks": [told], "tags": ["t"]}) == "A!"
    assert told.events == [("start", "Upper", "a", ["t"]), ("end", "A!")]
    assert runnable.batch(["a", "b"]) == ["A!", "B!"]
    assert asyncio.run(runnable.abatch(["a", "b", "c"])) == ["A!", "B!", "C!"]
    assert pipeline.batches == [2, 3]
    assert list(runnable.stream("a b")) == ["A", "B", "!"]
    assert asyncio.run(runnable.ainvoke("a")) == "A!"
    assert asyncio.run(as_runnable(Later()).ainvoke("a")) == "async A!"
    assert runnable.invoke("a", mark="?") == "A?"
    chain = runnable | str.lower
    assert chain.batch(["a", "b"]) == ["a!", "b!"]
    with pytest.raises(TypeError, match="unexpected keyword"):
        runnable.invoke("a", marc="?")


def test_events_and_pieces_without_blocking():
    async def events(pipeline):
        seen = as_runnable(pipeline).astream_events("a b", version="v2")
        return [event["data"].get("chunk") async for event in seen if event["event"] == "on_chain_stream"]

    assert asyncio.run(events(Upper())) == ["A", "B", "!"]
    assert asyncio.run(events(Later())) == ["async a", "async b", "async !"]


def test_one_bad_input_of_a_batch():
    pipeline, told = Upper(), Told()
    runnable = as_runnable(pipeline)
    for run in (runnable.batch, lambda *given, **more: asyncio.run(runnable.abatch(*given, **more))):
        told.events.clear()
        found = run(["a", "bad"], {"callbacks": [told]}, return_exceptions=True)
        assert found[0] == "A!"
        assert isinstance(found[1], ValueError)
        assert [event[0] for event in told.events] == ["start", "start", "end", "error"]
        with pytest.raises(ValueError, match="bad"):
            run(["a", "bad"])


def test_keyword_inputs():
    runnable = as_runnable(Upper(), input_key="question", keywords=["mark"])
    assert runnable.invoke({"question": "a", "mark": "?", "more": 1}) == "A?"
    assert runnable.batch([{"question": "a", "mark": "?"}, {"question": "b", "mark": "."}]) == ["A?", "B."]
    assert list(runnable.stream({"question": "a", "mark": "?"})) == ["A", "?"]
    with pytest.raises(InvalidInputError, match="'mark'"):
        runnable.invoke({"question": "a"})
    with pytest.raises(InvalidInputError, match="'question'"):
        runnable.invoke("a")
    with pytest.raises(InvalidInputError, match="`pipeline`"):
        as_runnable(3)
    with pytest.raises(InvalidInputError, match="`keywords`"):
        as_runnable(Upper(), input_key="question", keywords="mark")
    with pytest.raises(InvalidInputError, match="`input_key`"):
        as_runnable(Upper(), keywords=["mark"])


def test_few_shot_as_a_runnable():
    pool = [{"input": f"capital of {country}", "output": city} for country, city in CITIES.items()]
    model = ScriptedModel(lambda prompt: prompt.split("Output: ")[-1].splitlines()[0])
    chain = as_runnable(FewShot(model, JaccardSelector(pool), k=2)) | attrgetter("text")
    asked = [f"the capital of {country}" for country in CITIES]
    assert chain.batch(asked) == list(CITIES.values())
    assert chain.invoke(asked[1]) == "Rome"
    assert list(chain.stream(asked[1])) == ["Rome"]


def documents(texts):
    return [Document(text, metadata={"source": source}) for source, text in texts]


def test_langchains_index_function_keeps_a_store_in_sync():
    store = RagkitVectorStore("hash:64")
    records = InMemoryRecordManager("test")
    records.create_schema()

    def run(texts, cleanup, **more):
        told = index(
            documents(texts), records, store, cleanup=cleanup, source_id_key="source", key_encoder="sha256", **more
        )
        return tuple(told[key] for key in ("num_added", "num_updated", "num_skipped", "num_deleted"))

    def held():
        return sorted(found.page_content for found in store.similarity_search("x", k=99))

    assert run([("a", "one"), ("a", "one"), ("b", "two")], None)[0] == 2
    assert run([("a", "one"), ("b", "two")], None) == (0, 0, 2, 0)
    assert run([("a", "one"), ("b", "two")], None, force_update=True) == (0, 2, 0, 0)
    assert run([("b", "three")], "incremental") == (1, 0, 0, 1)
    assert held() == ["one", "three"]
    assert run([("c", "four")], "full") == (1, 0, 0, 2)
    assert held() == ["four"]
    assert run([], "full") == (0, 0, 0, 1)
    assert held() == []


class State(TypedDict, total=False):
    """What the graph carries."""

    question: str
    document: str
    plan: str
    answer: str


PLAN = """New actions:
- None

1. lamps = ABOUT(CTX, "the lamps") : Gather the lamps
2. doors = ABOUT(CTX, "the doors") : Gather the doors
3. ans = CONCAT(lamps, doors) : Put both together"""


def test_a_graph_checkpoints_around_a_plan():
    """A plan is made, waits for approval in a checkpoint, and is then run; nothing is asked twice."""
    pytest.importorskip("langgraph")
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Command, interrupt

    values = {"Gather the lamps": "two lamps", "Gather the doors": "one door"}
    model = ScriptedModel(lambda prompt: next((value for note, value in values.items() if note in prompt), PLAN))
    pearl = Pearl(model)
    running = as_runnable(pearl, input_key="question", keywords=["document", "plan"])

    def plan(state):
        return {"plan": pearl.plan(state["question"]).render()}

    def run(state):
        if interrupt(state["plan"]) != "yes":
            return {"answer": ""}
        done = running.invoke({**state, "plan": Plan.parse(state["plan"], ActionLibrary.default())})
        return {"answer": done.text}

    graph = StateGraph(State)
    graph.add_node("plan", plan)
    graph.add_node("run", run)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "run")
    graph.add_edge("run", END)
    app = graph.compile(checkpointer=InMemorySaver())
    asked = {"question": "What is there?", "document": "a lamp, a lamp and a door"}
    config = {"configurable": {"thread_id": "1"}}
    stopped = app.invoke(asked, config)
    assert stopped["__interrupt__"][0].value == app.get_state(config).values["plan"]
    assert "ABOUT" in stopped["plan"]
    made = len(model.asked)
    assert app.invoke(Command(resume="yes"), config)["answer"].split() == ["two", "lamps", "one", "door"]
    assert len(model.asked) == made + 2  # the plan was not made again
    other = {"configurable": {"thread_id": "2"}}
    app.invoke(asked, other)
    assert app.invoke(Command(resume="no"), other)["answer"] == ""


def test_ragkits_own_retrievers_and_rerankers():
    texts = ["dim the lamp in the hall", "play a song", "lock the front door", "a lamp for the hall"]
    documents = [RagkitDocument(text, id=str(place), metadata={"n": place}) for place, text in enumerate(texts)]
    words = BM25Retriever(documents)
    retriever = RagkitRetriever(retriever=words, k=2)
    expected = [[hit.id for hit in hits] for hits in words.retrieve(["lamp hall", "song"], 2)]
    assert [[found.id for found in each] for each in retriever.batch(["lamp hall", "song"])] == expected
    assert [found.id for found in retriever.invoke("lamp hall", filter={"n": 3})] == ["3"]
    assert [found.id for found in asyncio.run(retriever.ainvoke("song"))] == ["1"]
    judge = load_reranker("tokens:minilm")
    compressed = RagkitReranker(reranker=judge, top_n=2).compress_documents(retriever.invoke("hall lamp"), "hall lamp")
    scores = judge(["hall lamp"] * 2, [texts[0], texts[3]])
    assert compressed[0].page_content == [texts[0], texts[3]][int(scores.argmax())]
