"""Calls of ragkit's chat model: token counts, stop sequences, cancellation, settings and traces."""

import asyncio
import threading

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.tools import tool

from ragkit import ScriptedModel, load_model
from ragkit.errors import CallCancelledError, UnsupportedError
from ragkit.langchain import RagkitChatModel, as_runnable
from ragkit.models._concurrency import applied_cancellations, run_cancellable
from ragkit.models._middleware import LayeredModel
from ragkit.models._rate_limit import Retry


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return city


def scripted(*answers, **settings):
    return RagkitChatModel(model=ScriptedModel(list(answers)), **settings)


# Tokens.


def test_tokens_are_counted_by_the_model(smollm2):
    chat = RagkitChatModel(model=smollm2, max_tokens=1)
    assert chat.get_token_ids("dim the lamp") == smollm2.encode_text("dim the lamp")
    assert chat.get_num_tokens("dim the lamp") == len(smollm2.encode_text("dim the lamp"))
    history = [SystemMessage("Be brief."), HumanMessage("Hello"), AIMessage("Hi"), HumanMessage("Bye")]
    for messages in (history, history[:2], "Hello"):
        counted = chat.get_num_tokens_from_messages([HumanMessage(messages)] if isinstance(messages, str) else messages)
        assert counted == chat.invoke(messages).usage_metadata["input_tokens"]
    assert chat.get_num_tokens_from_messages([]) == 0
    assert chat.get_num_tokens_from_messages(history, tools=[get_weather]) > counted
    layered = RagkitChatModel(model=LayeredModel(smollm2))
    assert layered.get_num_tokens_from_messages(history) == chat.get_num_tokens_from_messages(history)


def test_messages_are_trimmed(smollm2):
    chat = RagkitChatModel(model=smollm2)
    history = [SystemMessage("Be brief."), *(HumanMessage(f"Tell me about the number {n}.") for n in range(50))]
    kept = trim_messages(history, max_tokens=60, token_counter=chat, include_system=True)
    assert kept[0] == history[0]
    assert kept[-1] == history[-1]
    assert 2 <= len(kept) < 10
    assert chat.get_num_tokens_from_messages(kept) <= 60


def test_tokens_of_a_model_without_a_tokenizer(tiny):
    chat = scripted("x")
    assert chat.get_num_tokens("12345678") == 2
    assert chat.get_num_tokens_from_messages([HumanMessage("12345678"), AIMessage("1234")]) > 3
    with pytest.raises(UnsupportedError, match="get_num_tokens"):
        chat.get_token_ids("x")
    base = RagkitChatModel(model=tiny)  # without a chat template: a transcript
    assert base.get_num_tokens_from_messages([HumanMessage("x"), AIMessage("y")]) == len(
        tiny.encode_prompt("Human: x\nAI: y\nAI:")
    )


# Settings.


def test_a_string_is_one_stop_sequence():
    text = "THE DEEP SEA END more"
    for chat, more in ((scripted(*[text] * 4), {"stop": "END"}), (scripted(*[text] * 4, stop="END"), {})):
        assert chat.invoke("x", **more).content == "THE DEEP SEA "
        assert "".join(chunk.content for chunk in chat.stream("x", **more)) == "THE DEEP SEA "
        assert [each.content for each in chat.batch(["x", "y"], **more)] == ["THE DEEP SEA "] * 2
    assert scripted("x", stop="END").stop == ["END"]


def test_other_names_of_settings():
    chat = scripted("a" * 80, "a" * 80, "a" * 80, max_completion_tokens=4)
    assert chat.max_tokens == 4
    assert len(chat.invoke("x").content) == 16
    assert len(chat.invoke("x", max_completion_tokens=2).content) == 8
    assert len(chat.invoke("x", max_tokens=None, temperature=None, top_p=1.0).content) == 16
    with pytest.raises(ValueError, match="top_p"):
        scripted("x", top_p=2)
    assert chat.model == "scripted"
    with pytest.raises(ValueError, match="`model` is missing"):
        RagkitChatModel()


def test_usage_of_streams_and_batches():
    for chunks in (list(scripted("Paris").stream("x")), list(scripted("Paris").stream("x", choices=["Paris"]))):
        assert [bool(chunk.usage_metadata) for chunk in chunks][-1]
        assert sum(bool(chunk.usage_metadata) for chunk in chunks) == 1
    assert all(each.usage_metadata for each in scripted("a", "b").batch(["x", "y"]))


# Cancellation.


class Waiting(ScriptedModel):
    """Answers once its call is cancelled, or fails after a minute."""

    def __init__(self, **settings) -> None:
        super().__init__(["x"] * 9, **settings)
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    def _complete(self, prompts, sampling):
        cancellation = applied_cancellations()[0]
        self.begun.set()
        if not cancellation.wait(60):
            raise AssertionError("the call was not cancelled")
        self.cancelled.set()
        raise CallCancelledError("cancelled", maybe_paid=False)


async def _cancelled(model, work):
    task = asyncio.create_task(work)
    await asyncio.to_thread(model.begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(model.cancelled.wait)


async def _streamed(chat, asked):
    return [chunk async for chunk in chat.astream(asked)]


@pytest.mark.parametrize(
    "call",
    [
        lambda chat: chat.ainvoke("x"),
        lambda chat: chat.abatch(["x", "y"]),
        lambda chat: _streamed(chat, "x"),
        lambda chat: chat.bind_tools([get_weather]).ainvoke("x"),
        lambda chat: chat.with_structured_output({"title": "A", "type": "object"}, include_raw=True).ainvoke("x"),
        lambda chat: as_runnable(Pipeline(chat.language_model)).ainvoke("x"),
    ],
    ids=["ainvoke", "abatch", "astream", "tools", "raw", "pipeline"],
)
@pytest.mark.parametrize("layers", [False, True], ids=["plain", "layered"])
def test_a_cancelled_call_cancels_the_model(call, layers):
    model = Waiting()
    wrapped = LayeredModel(model, retry=Retry(timeout=100)) if layers else model
    asyncio.run(_cancelled(model, call(RagkitChatModel(model=wrapped))))


class Pipeline:
    """Has only sync methods."""

    def __init__(self, model) -> None:
        self.model = model

    def invoke(self, text):
        return self.model.generate(text)


def test_a_local_model_stops_at_the_next_token(tiny):
    chat = RagkitChatModel(model=tiny, max_tokens=400)
    steps = []

    class Cancelling(BaseCallbackHandler):
        def on_llm_new_token(self, token, **_):
            steps.append(token)

    async def work():
        async for _ in chat.astream("turn on the light ->", config={"callbacks": [Cancelling()]}):
            return  # the caller has read enough

    asyncio.run(work())
    assert len(steps) < 400
    assert tiny.generate("turn on the light ->", max_tokens=2).text  # the lock is free

    def cancelled_at_once():
        applied_cancellations()[0].cancel()
        return tiny.generate("turn on the light ->", max_tokens=400)

    with pytest.raises(CallCancelledError):
        asyncio.run(run_cancellable(cancelled_at_once))


def test_an_equal_call_of_another_task_is_not_cancelled():
    class Slow(Waiting):
        def _complete(self, prompts, sampling):
            if self.begun.is_set():
                return ScriptedModel._complete(self, prompts, sampling)
            return super()._complete(prompts, sampling)

    model = Slow()
    chat = RagkitChatModel(model=LayeredModel(model))

    async def work():
        first = asyncio.create_task(chat.ainvoke("x"))
        await asyncio.to_thread(model.begun.wait)
        second = asyncio.create_task(chat.ainvoke("x"))
        await asyncio.sleep(0.05)
        first.cancel()
        return (await second).content

    assert asyncio.run(work()) == "x"


# Traces.


class Started(BaseCallbackHandler):
    """Keeps what callbacks receive at the start of a run."""

    def __init__(self) -> None:
        self.seen = []

    def on_chat_model_start(self, serialized, messages, *, tags=None, metadata=None, **more):
        self.seen.append((more.get("name"), tags, metadata, more["invocation_params"]))


def test_traces_name_the_model_and_the_run():
    told = Started()
    chat = scripted("a", "a", "a", tags=["mine"], metadata={"team": "a"})
    config = {"callbacks": [told], "tags": ["call"], "metadata": {"user": 1}, "run_name": "city"}
    chat.invoke("x", config)
    chat.batch(["x", "y"], config)
    for name, tags, metadata, params in told.seen:
        assert name == "city"
        assert {"mine", "call"} <= set(tags)
        assert (metadata["team"], metadata["user"]) == ("a", 1)
        assert (metadata["ls_provider"], metadata["ls_model_name"]) == ("ragkit", "scripted")
        assert metadata["ls_max_tokens"] == 256
        assert params["max_tokens"] == 256
    assert len(told.seen) == 3


def test_traces_name_the_provider_of_an_api_model():
    chat = RagkitChatModel(model=load_model("openai:gpt-4o", base_url="http://127.0.0.1:9/v1"))
    params = chat._get_ls_params()
    assert (params["ls_provider"], params["ls_model_name"]) == ("openai", "gpt-4o")
    assert not hasattr(chat, "profile") or chat.profile["tool_calling"]
    assert chat.model == "openai:gpt-4o"


@pytest.mark.skipif("profile" not in BaseChatModel.model_fields, reason="needs langchain-core 1.1")
def test_the_profile_of_a_local_model(smollm2):
    profile = RagkitChatModel(model=smollm2).profile
    assert profile["max_input_tokens"] == 8192
    assert profile["structured_output"]
    assert profile["tool_calling"]
    assert not profile["image_inputs"]
