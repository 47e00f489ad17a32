"""Stores, retrievers, selectors, models and results in other processes, in LangChain's JSON, and in checkpoints."""

import copy
import json
import pickle  # noqa: TID251 - what users do with these objects
import subprocess
import sys
import warnings
from inspect import signature

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.load import dumpd, load

from ragkit import (
    BM25Retriever,
    Completion,
    Document,
    EmbeddingSelector,
    FewShot,
    Hit,
    Index,
    JaccardSelector,
    Pearl,
    RetrieveThenAnswer,
    ScriptedModel,
    Usage,
    load_model,
)
from ragkit.errors import InvalidInputError
from ragkit.langchain import (
    RagkitChatModel,
    RagkitEmbeddings,
    RagkitExampleSelector,
    RagkitRetriever,
    RagkitVectorStore,
    checkpoint_types,
)
from ragkit.records import Chat, Message, Tool, ToolCall

TEXTS = ["dim the lamp", "play a song", "open the door"]
COPIES = [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]  # noqa: S301


def found(searched, query="a song"):
    documents = searched.invoke(query) if hasattr(searched, "invoke") else searched.similarity_search(query)
    return [(document.id, document.page_content, document.metadata) for document in documents]


@pytest.mark.parametrize("copied", COPIES)
def test_a_stored_index_is_opened_read_only(copied, tmp_path):
    made = RagkitVectorStore.from_texts(TEXTS, "hash:64", [{"n": n} for n in range(3)], path=tmp_path / "s")
    with made as store:
        retriever = store.as_retriever(k=2, search_kwargs={"filter": {"n": {"$gt": 0}}}, callbacks=[])
        for original in (store, retriever, RagkitRetriever(index=store.index)):
            again = copied(original)
            assert found(again) == found(original)
            index = getattr(again, "index", None) or again.vectorstore.index
            assert index.read_only
            index.close()
        store.add_texts(["a newer song"], ids=["new"])
        assert found(copied(store), "a newer song")[0][0] == "new"


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_store_in_memory_is_copied_with_its_vectors(copied, metric):
    store = RagkitVectorStore("hash:64", metric=metric, metadata_conversion="text")
    store.add_texts(TEXTS, [{"n": n} for n in range(3)], ids=list("abc"))
    store.delete(["a"])
    again = copied(store)
    assert again.similarity_search_with_score("a song") == store.similarity_search_with_score("a song")
    assert (again.metadata_conversion, again.index.stats().metric) == ("text", metric)
    again.add_texts(["only here"])
    assert (len(again.index), len(store.index)) == (3, 2)
    assert found(copied(store.as_retriever(k=1))) == found(store.as_retriever(k=1))
    assert len(copied(RagkitVectorStore("hash:64")).index) == 0
    assert copied(Index.create(None, embedder=None, dim=3)).stats().dim == 3


@pytest.mark.parametrize("copied", COPIES)
def test_langchain_embeddings_are_copied_themselves(copied):
    store = RagkitVectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=8))
    assert found(copied(store)) == found(store)
    embeddings = copied(RagkitEmbeddings("hash:64"))
    assert embeddings.embed_query("x") == RagkitEmbeddings("hash:64").embed_query("x")


@pytest.mark.parametrize("copied", COPIES)
def test_selectors(copied):
    rows = [{"question": text, "answer": n} for n, text in enumerate(TEXTS)]
    selector = RagkitExampleSelector.from_examples(rows, "hash:64", 2, input_key="question")
    again = copied(selector)
    asked = {"question": "a song"}
    assert again.select_examples(asked) == selector.select_examples(asked)
    again.add_example({"question": "a song", "answer": 9})
    assert again.select_examples(asked)[-1]["answer"] == 9
    assert len(selector.selector) == 3
    lexical = JaccardSelector([{"input": text, "output": "x"} for text in TEXTS]).as_langchain(k=1)
    assert copied(lexical).select_examples({"input": "song"}) == [{"input": "play a song", "output": "x"}]


def test_a_pickled_selector_does_not_contain_the_weights_of_its_embedder():
    selector = EmbeddingSelector([{"input": text, "output": "x"} for text in TEXTS], embedder="minilm")
    pickled = pickle.dumps(selector)
    assert len(pickled) < 100_000
    assert copy.deepcopy(selector).embedder is selector.embedder
    assert pickle.loads(pickled).select("a tune", 1)[0].input == "play a song"  # noqa: S301


def test_another_process(tmp_path):
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64", path=tmp_path / "s")
    (tmp_path / "objects").write_bytes(pickle.dumps([store, store.as_retriever(k=1), RagkitChatModel(model="tiny")]))
    code = (
        f"import pickle\nstore, retriever, model = pickle.load(open({str(tmp_path / 'objects')!r}, 'rb'))\n"
        "print(retriever.invoke('a song')[0].page_content, store.index.read_only, model.language_model.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "play a song True tiny"
    store.close()


def test_chat_models(tiny, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    model = RagkitChatModel(model=tiny, max_tokens=4, stop=["x"], callbacks=[])
    for copied in COPIES:
        again = copied(model)
        assert again.invoke("Input: dim").content == model.invoke("Input: dim").content
        assert (again.max_tokens, again.stop) == (4, ["x"])
    assert copy.deepcopy(model).language_model is tiny
    assert json.loads(model.model_dump_json())["model"] == "tiny"
    remote = RagkitChatModel(model="openai:gpt-4o-mini")
    for written in (remote.model_dump_json(), json.dumps(dumpd(remote)), pickle.dumps(remote).decode("latin1")):
        assert "openai:gpt-4o-mini" in written
        assert "secret" not in written
    assert pickle.loads(pickle.dumps(remote)).language_model.fingerprint == remote.language_model.fingerprint  # noqa: S301
    scripted = RagkitChatModel(model=ScriptedModel(["a"]))
    assert copy.deepcopy(scripted).invoke("x").content == "a"
    assert dumpd(scripted)["type"] == "not_implemented"
    with pytest.raises(InvalidInputError, match="'scripted' cannot be pickled, because no spec loads it"):
        pickle.dumps(scripted)


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_model_that_differs_in_the_other_process_is_rejected(tiny):
    dumped = dumpd(RagkitChatModel(model=tiny))
    dumped["kwargs"]["fingerprint"] = "other"
    with pytest.raises(ValueError, match="and had other where the chat model was saved"):
        load(dumped, allowed_objects=[RagkitChatModel], valid_namespaces=["ragkit"])


def test_the_key_of_another_server_stays_with_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("MY_KEY", "sk-of-my-server")
    model = load_model("openai:gpt-x", base_url="http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    chat = RagkitChatModel(model=model, cache=False)
    pickled = pickle.dumps(chat)
    assert b"sk-" not in pickled
    again = pickle.loads(pickled)  # noqa: S301
    assert again.cache is False
    assert again.language_model.model.secrets()[0] == "sk-of-my-server"
    assert dumpd(chat)["type"] == "not_implemented"


@pytest.mark.skipif("allowed_objects" not in signature(load).parameters, reason="needs langchain-core 1.2.5")
def test_langchains_json(tiny, tmp_path):
    store = RagkitVectorStore.from_texts(TEXTS, "hash:64", path=tmp_path / "s")
    retriever = store.as_retriever(k=1, tags=["t"], search_type="mmr", search_kwargs={"fetch_k": 3})
    model = RagkitChatModel(model=tiny, max_tokens=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `load` is marked as beta
        classes = {"allowed_objects": [RagkitRetriever, RagkitChatModel], "valid_namespaces": ["ragkit"]}
        again, other = (load(json.loads(json.dumps(dumpd(each))), **classes) for each in (retriever, model))
    assert found(again) == found(retriever)
    assert (again.tags, again.search_type, again.search_kwargs, again.index.read_only) == (
        ["t"], "mmr", {"fetch_k": 3}, True,
    )  # fmt: skip
    assert (other.max_tokens, other.invoke("Input: dim").content) == (4, model.invoke("Input: dim").content)
    assert json.loads(retriever.model_dump_json())["vectorstore"] == str(tmp_path / "s")
    again.index.close()
    store.close()


def test_what_langchains_json_cannot_hold():
    memory = RagkitVectorStore.from_texts(TEXTS, "hash:64")
    of_ragkit = RagkitRetriever(retriever=BM25Retriever(TEXTS))
    for each, name, says in (
        (memory.as_retriever(), "vectorstore", "in memory"),
        (of_ragkit, "retriever", "BM25Retriever"),
    ):
        assert dumpd(each)["type"] == "not_implemented"
        assert json.loads(each.model_dump_json())[name] == says
    function = memory.as_retriever(search_kwargs={"filter": len})
    assert "built-in function len" in function.model_dump_json()


PLAN = """New actions:
- FIRST(CTX, X) : Find the first X.

1. who = FIRST(CTX, "the keeper") : Say who the keeper is
2. where = FIRST(CTX, "the light") : Say where the light is
3. ans = CONCAT(who, where) : Combine"""


def results():
    passages = [Document("The lamp is red.", metadata={"start": 0, "end": 16, "source": "a.md"}), "The song is long."]
    answering = RetrieveThenAnswer(ScriptedModel(lambda _: "It is red [1], not blue [9]."), BM25Retriever(passages))
    yield answering.invoke("What colour has the lamp?")
    selector = EmbeddingSelector([{"input": text, "output": "x"} for text in TEXTS], embedder="hash:64")
    yield selector.select("a song", 2, exclude=["0"])
    yield FewShot(ScriptedModel(["music"]), selector, k=2).invoke("a song")
    run = Pearl(ScriptedModel(lambda prompt: PLAN if prompt.endswith("?\n\n") else "Ann.")).invoke(
        "Who keeps the light?", document="Ann kept the light at Hook Head."
    )
    assert run.plan is not None
    yield from (run, run.plan, Pearl(ScriptedModel(lambda _: "no plan")).invoke("Who?", document="Ann."))
    yield Hit(id="a", score=0.5, rank=1, text="x", metadata={"n": [1]}, span=(0, 3), why={"bm25": 1.5})
    yield Document("x", "a", {"n": {"m": [1, None]}})
    yield Completion(text="x", usage=Usage(prompt_tokens=3), cost=0.5, finish_reason="length")
    call = ToolCall("weather", '{"city": "Paris"}', "call_1")
    yield Completion(text="", tool_calls=(call,), omitted_settings=("temperature",))
    yield Chat((Message("assistant", "", tool_calls=(call,)), Message("tool", "sunny", answers=call)), (Tool("f"),))


def test_strict_checkpoints():
    serde = pytest.importorskip("langgraph.checkpoint.serde.jsonplus")
    if "allowed_msgpack_modules" not in signature(serde.JsonPlusSerializer).parameters:
        pytest.skip("needs langgraph-checkpoint 4.0.1")
    serializer = serde.JsonPlusSerializer(allowed_msgpack_modules=checkpoint_types())
    strict = serde.JsonPlusSerializer(allowed_msgpack_modules=None)
    for result in results():
        again = serializer.loads_typed(serializer.dumps_typed({"result": result}))["result"]
        assert type(again) is type(result)
        assert again == result
        assert str(again) == str(result)
        assert type(strict.loads_typed(strict.dumps_typed({"result": result}))["result"]) is not type(result)
