"""Callbacks of a chain receive the calls of ragkit's components as child runs, with their parents, tags and usage."""

import asyncio

import numpy as np
import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.documents import Document
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda

from ragkit import (
    BM25Retriever,
    FewShot,
    HybridRetriever,
    JaccardSelector,
    Pearl,
    RetrieveThenAnswer,
    ScriptedModel,
)
from ragkit.langchain import (
    RagkitChatModel,
    RagkitExampleSelector,
    RagkitReranker,
    RagkitVectorStore,
    as_runnable,
)
from ragkit.models import load_model
from ragkit.retrievers import LangChainRetriever

FACTS = ["The lamp is red.", "The song is long."]
QUESTION = "What colour has the lamp?"


class Heard(BaseCallbackHandler):
    """Keeps the tree of runs: (kind, name, parent's name) of each start, in order, and what they ended with."""

    def __init__(self) -> None:
        self.names, self.starts, self.ends, self.errors, self.pieces, self.tags = {}, [], [], [], [], []
        self.metadata, self.parents = [], {}

    def _start(self, kind, run_id, parent, name, tags, metadata):
        self.names[run_id] = name
        self.parents[run_id] = parent
        self.starts.append((kind, name, self.names.get(parent)))
        self.tags.append(tags)
        self.metadata.append(metadata or {})

    def on_chain_start(
        self, serialized, inputs, *, run_id, parent_run_id=None, name=None, tags=None, metadata=None, **_
    ):
        self._start("chain", run_id, parent_run_id, name, tags, metadata)

    def on_retriever_start(
        self, serialized, query, *, run_id, parent_run_id=None, name=None, tags=None, metadata=None, **_
    ):
        self._start("retriever", run_id, parent_run_id, name, tags, metadata)

    def on_llm_start(
        self, serialized, prompts, *, run_id, parent_run_id=None, name=None, tags=None, metadata=None, **_
    ):
        self._start("llm", run_id, parent_run_id, name, tags, metadata)

    def on_chat_model_start(
        self, serialized, messages, *, run_id, parent_run_id=None, name=None, tags=None, metadata=None, **_
    ):
        self._start("chat", run_id, parent_run_id, name, tags, metadata)

    def on_llm_end(self, response, *, run_id, **_):
        self.ends.append((self.names[run_id], response.generations[0][0].text))

    def on_retriever_end(self, documents, *, run_id, **_):
        self.ends.append((self.names[run_id], [document.page_content for document in documents]))

    def on_llm_new_token(self, token, **_):
        self.pieces.append(token)

    def on_llm_error(self, error, **_):
        self.errors.append(str(error))

    def on_retriever_error(self, error, **_):
        self.errors.append(str(error))


def answering(model=None, retriever=None):
    model = model or ScriptedModel(lambda _: "It is red [1].")
    return RetrieveThenAnswer(model, retriever or BM25Retriever(FACTS), k=1)


async def collected(stream):
    return [piece async for piece in stream]


RUNS = {
    "invoke": lambda runnable, given, config: runnable.invoke(given, config),
    "ainvoke": lambda runnable, given, config: asyncio.run(runnable.ainvoke(given, config)),
    "stream": lambda runnable, given, config: list(runnable.stream(given, config)),
    "astream": lambda runnable, given, config: asyncio.run(collected(runnable.astream(given, config))),
}


@pytest.mark.parametrize("how", RUNS)
def test_retrieve_then_answer(how):
    heard, usage = Heard(), UsageMetadataCallbackHandler()
    chain = as_runnable(answering()) | RunnableLambda(lambda answer: answer)
    RUNS[how](chain, QUESTION, {"callbacks": [heard, usage], "tags": ["t"], "metadata": {"m": 1}})
    assert heard.starts[1:4] == [
        ("chain", "RetrieveThenAnswer", "RunnableSequence"),
        ("retriever", "BM25Retriever", "RetrieveThenAnswer"),
        ("llm", "scripted", "RetrieveThenAnswer"),
    ]
    assert heard.ends == [("BM25Retriever", FACTS[:1]), ("scripted", "It is red [1].")]
    assert all("t" in tags for tags in heard.tags[:1] + heard.tags[2:4])
    assert (heard.metadata[3]["m"], heard.metadata[3]["ls_model_name"]) == (1, "scripted")
    assert usage.usage_metadata["scripted"]["output_tokens"] == 4
    assert heard.pieces == (["It is red [1]."] if "stream" in how else [])


@pytest.mark.parametrize("how", [k for k in RUNS if "stream" not in k])
def test_few_shot(how):
    heard = Heard()
    pipeline = FewShot(ScriptedModel(lambda _: "light"), JaccardSelector([{"input": "dim", "output": "light"}]), k=1)
    assert RUNS[how](as_runnable(pipeline), "dim it", {"callbacks": [heard]}).text == "light"
    assert heard.starts == [
        ("chain", "FewShot", None),
        ("retriever", "JaccardSelector", "FewShot"),
        ("llm", "scripted", "FewShot"),
    ]


PLAN = """New actions:
- None

1. who = WHO_IS(CTX, "the keeper") : Say who the keeper is
2. cat = WHO_IS(CTX, "the cat") : Say who the cat is
3. ans = CONCAT(who, cat) : Combine"""


@pytest.mark.parametrize("how", RUNS)
def test_the_parallel_steps_of_a_plan(how):
    heard, usage = Heard(), UsageMetadataCallbackHandler()
    model = ScriptedModel(lambda prompt: PLAN if prompt.endswith("?\n\n") else "Ann.")
    runnable = as_runnable(Pearl(model), input_key="question", keywords=["document"])
    given = {"question": "Who is there?", "document": "Ann and a cat."}
    RUNS[how](runnable, given, {"callbacks": [heard, usage]})
    assert heard.starts == [("chain", "Pearl", None)] + [("llm", "scripted", "Pearl")] * len(model.asked)
    assert [text for _, text in heard.ends] == [PLAN, "Ann.", "Ann."]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_each_input_of_a_batch_has_its_own_runs(asynchronous):
    heard, runnable = Heard(), as_runnable(answering())
    config = {"callbacks": [heard]}
    questions = [QUESTION, "What is the song like?"]
    if asynchronous:
        asyncio.run(runnable.abatch(questions, config))
    else:
        runnable.batch(questions, config)
    kinds = [kind for kind, *_ in heard.starts]
    assert kinds == ["chain"] * 2 + ["retriever"] * 2 + ["llm"] * 2
    runs = list(heard.parents)
    assert [heard.parents[run] for run in runs[2:]] == [*runs[:2], *runs[:2]]
    assert heard.ends[:2] == [("BM25Retriever", FACTS[:1]), ("BM25Retriever", FACTS[1:])]


def test_events():
    async def events():
        seen = as_runnable(answering()).astream_events(QUESTION, version="v2")
        return [(each["event"], each["name"], len(each["parent_ids"])) async for each in seen]

    assert asyncio.run(events()) == [
        ("on_chain_start", "RetrieveThenAnswer", 0),
        ("on_retriever_start", "BM25Retriever", 1),
        ("on_retriever_end", "BM25Retriever", 1),
        ("on_llm_start", "scripted", 1),
        ("on_llm_stream", "scripted", 1),
        ("on_chain_stream", "RetrieveThenAnswer", 0),
        ("on_llm_end", "scripted", 1),
        ("on_chain_end", "RetrieveThenAnswer", 0),
    ]


def test_handlers_that_are_awaited():
    class Awaited(AsyncCallbackHandler):
        ended = 0

        async def on_llm_end(self, response, **_):
            await asyncio.sleep(0)
            self.ended += 1

    awaited = Awaited()
    asyncio.run(as_runnable(answering()).ainvoke(QUESTION, {"callbacks": [awaited]}))
    as_runnable(answering()).invoke(QUESTION, {"callbacks": [awaited]})
    assert awaited.ended == 2


def test_nested_retrievers_and_retrievers_of_langchain():
    heard = Heard()
    store = RagkitVectorStore.from_texts(FACTS, "hash:256")
    nested = HybridRetriever([BM25Retriever(FACTS), LangChainRetriever(store.as_retriever(name="inner"))])
    as_runnable(answering(retriever=nested)).invoke(QUESTION, {"callbacks": [heard]})
    assert heard.starts[1:] == [
        ("retriever", "HybridRetriever", "RetrieveThenAnswer"),
        ("retriever", "BM25Retriever", "HybridRetriever"),
        ("retriever", "LangChainRetriever", "HybridRetriever"),
        ("retriever", "inner", "LangChainRetriever"),
        ("llm", "scripted", "RetrieveThenAnswer"),
    ]


def test_errors_and_cached_responses(tmp_path):
    heard, usage = Heard(), UsageMetadataCallbackHandler()

    def fails(_):
        raise RuntimeError("the model is down")

    with pytest.raises(RuntimeError):
        as_runnable(answering(ScriptedModel(fails))).invoke(QUESTION, {"callbacks": [heard]})
    assert heard.errors == ["the model is down"]
    cached = load_model(ScriptedModel(lambda _: "It is red [1]."), cache=tmp_path / "cache")
    for _ in range(2):
        as_runnable(answering(cached)).invoke(QUESTION, {"callbacks": [heard, usage]})
    assert heard.starts.count(("llm", "scripted", "RetrieveThenAnswer")) == 3
    assert usage.usage_metadata["scripted"]["output_tokens"] == 4  # a cached response used no tokens


def test_a_chat_model_of_langchain_in_a_pipeline_is_reported_once():
    heard = Heard()
    inner = load_model(RagkitChatModel(model=ScriptedModel(lambda _: "It is red [1].")))
    assert as_runnable(answering(inner)).invoke(QUESTION, {"callbacks": [heard]}).text == "It is red [1]."
    assert [start for start in heard.starts if start[0] in {"llm", "chat"}] == [
        ("chat", inner.name, "RetrieveThenAnswer")
    ]


def calls_of(asynchronous):
    """The calls of a chat model as a step of a chain."""
    if not asynchronous:
        yield lambda chain, config: chain.invoke(QUESTION, config)
        yield lambda chain, config: list(chain.stream(QUESTION, config))
        yield lambda chain, config: chain.batch([QUESTION], config)
        return

    async def streamed(chain, config):
        return [piece async for piece in chain.astream(QUESTION, config)]

    for call in (lambda chain, config: chain.ainvoke(QUESTION, config), streamed):
        yield lambda chain, config, call=call: asyncio.run(call(chain, config))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_chat_model_of_ragkit_around_one_of_langchain_is_reported_once(asynchronous):
    inner = load_model(RagkitChatModel(model=ScriptedModel(lambda _: "red")))
    chain = RunnableLambda(str) | RagkitChatModel(model=inner)
    for call in calls_of(asynchronous):
        heard = Heard()
        call(chain, {"callbacks": [heard]})
        assert [start[0] for start in heard.starts].count("chat") == 1


def test_nothing_is_reported_outside_of_a_runnable():
    heard = Heard()
    RunnableLambda(lambda question: answering().invoke(question)).invoke(QUESTION, {"callbacks": [heard]})
    assert heard.starts == [("chain", "RunnableLambda", None)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_selectors_and_rerankers_in_a_chain(asynchronous):
    heard = Heard()
    selector = RagkitExampleSelector.from_examples([{"q": "dim the lamp"}, {"q": "sing"}], "hash:64", 1, input_key="q")
    prompt = FewShotPromptTemplate(
        example_selector=selector,
        example_prompt=PromptTemplate.from_template("{q}"),
        suffix="{q}",
        input_variables=["q"],
    )
    config = {"callbacks": [heard], "tags": ["t"], "metadata": {"m": 1}}
    if asynchronous:
        asyncio.run(prompt.ainvoke({"q": "a lamp"}, config))
    else:
        prompt.invoke({"q": "a lamp"}, config)
    assert heard.starts == [
        ("chain", "FewShotPromptTemplate", None),
        ("retriever", "RagkitExampleSelector", "FewShotPromptTemplate"),
    ]
    assert heard.ends == [("RagkitExampleSelector", ["dim the lamp"])]
    assert heard.metadata[1]["m"] == 1
    reranker = RagkitReranker(reranker=lambda _, texts: np.array([len(text) for text in texts], dtype=float))
    outer = RunnableLambda(lambda texts, config: reranker.compress_documents(texts, "x", config["callbacks"]))
    found = outer.invoke([Document("a"), Document("long")], config)
    assert [document.page_content for document in found] == ["long", "a"]
    assert heard.starts[2:] == [("chain", "RunnableLambda", None), ("chain", "RagkitReranker", "RunnableLambda")]
