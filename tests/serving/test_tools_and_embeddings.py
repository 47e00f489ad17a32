"""Tool calls and embeddings over HTTP: equal to those of the model and the embedder that are served."""

import copy
import json

import httpx
import numpy as np
import openai
import pytest

from ragkit import ScriptedModel, load_embedder, load_model
from ragkit.errors import InvalidInputError, ModelError
from ragkit.models._local import LocalModel
from ragkit.records import Chat, Message, Tool, ToolCall
from ragkit_pipelines.serving import Limits, Server

TEMPLATE = (
    "{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}{% endif %}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}"
    "{% for call in message.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
CITY = {"type": "object", "properties": {"city": {"enum": ["Paris", "Oslo"]}}, "required": ["city"]}
WEATHER = Tool("get_weather", "The weather.", json.dumps(CITY))
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": CITY}}]
ASKED = [{"role": "user", "content": "Paris?"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}


@pytest.fixture(scope="module")
def model():
    tiny = load_model("tiny")
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.chat_template = TEMPLATE
    return LocalModel(tiny.module, tokenizer, name="chat", fingerprint="chat", source="tiny")


@pytest.fixture(scope="module")
def server(model):
    with Server(model, embedder="hash:64", limits=Limits(schema_bytes=2_000)) as running:
        yield running


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_required_call_is_that_of_the_model(model, client, choice):
    expected = model.generate(Chat((Message("user", "Paris?"),), (WEATHER,), "required"), max_tokens=60).tool_calls
    asked = {"model": "chat", "messages": ASKED, "tools": TOOLS, "tool_choice": choice, "max_tokens": 60}
    answer = client.chat.completions.create(**asked).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert [(call.function.name, call.function.arguments) for call in answer.message.tool_calls] == [
        (call.name, call.arguments) for call in expected
    ]
    assert answer.message.content is None
    assert answer.message.tool_calls[0].id.startswith("call_")
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    (found,) = [chunk.delta.tool_calls for chunk in chunks if chunk.delta.tool_calls]
    assert [call.function.arguments for call in found] == [call.arguments for call in expected]
    assert chunks[-1].finish_reason == "tool_calls"


def test_without_a_required_call_the_text_is_that_of_the_model(model, client):
    chat = Chat((Message("user", "Paris?"),), (WEATHER,))
    expected = model.generate(chat, max_tokens=12)
    asked = {"model": "chat", "messages": ASKED, "tools": TOOLS, "max_tokens": 12}
    answer = client.chat.completions.create(**asked)
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.prompt_tokens == expected.usage.prompt_tokens
    chunks = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected.text


def test_results_of_tools_are_part_of_the_conversation(model, client):
    call = ToolCall("get_weather", '{"city": "Paris"}', "c1")
    turns = (
        Message("user", "Paris?"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "sunny", answers=call),
    )
    sent = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]
    for choice in ("auto", "none"):
        tools = (WEATHER,) if choice == "auto" else ()
        expected = model.generate(Chat(turns, tools), max_tokens=8)
        answer = client.chat.completions.create(
            model="chat", messages=sent, tools=TOOLS, tool_choice=choice, max_tokens=8
        )
        assert answer.choices[0].message.content == expected.text
        assert answer.usage.prompt_tokens == expected.usage.prompt_tokens


def test_tools_through_load_model(server):
    chat = Chat((Message("user", "Paris?"),), (WEATHER,), "required")
    (call,) = load_model("openai:chat", base_url=server.url).generate(chat, max_tokens=60).tool_calls
    assert call.name == "get_weather"
    assert json.loads(call.arguments)["city"] in {"Paris", "Oslo"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS * 2}, "tools"),
        ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": TOOLS, "logprobs": True}, "logprobs"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"title": "x" * 3_000}}}]}, "tools"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c9"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "c9"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ],
)
def test_invalid_requests_with_tools(server, fields, field):
    reply = httpx.post(f"{server.url}/chat/completions", json={"model": "chat", "messages": ASKED, **fields})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)


def test_tools_of_a_model_without_them():
    with Server(ScriptedModel(["yes"])) as running:
        reply = httpx.post(
            f"{running.url}/chat/completions", json={"model": "scripted", "messages": ASKED, "tools": TOOLS}
        )
    assert reply.status_code == 400
    assert "does not support `tools`" in reply.json()["error"]["message"]


def test_embeddings_are_those_of_the_embedder(server, client):
    texts = ["dim the lamp", "naïve 東京", "x"]
    own, behind = load_embedder("hash:64"), load_embedder("openai:hash:64", base_url=server.url)
    np.testing.assert_allclose(behind.embed_documents(texts), own.embed_documents(texts), rtol=1e-6)
    np.testing.assert_allclose(behind.embed_queries(texts), own.embed_documents(texts), rtol=1e-6)
    assert behind.dim == own.dim == 64
    for form in ("float", "base64"):
        reply = client.embeddings.create(model="hash:64", input=texts[0], encoding_format=form)
        assert reply.usage.prompt_tokens > 0
    assert [each.id for each in client.models.list()] == ["chat", "hash:64"] == list(server.models)
    assert client.models.retrieve("hash:64").id == "hash:64"


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"input": []}, 400, "input"),
        ({"input": ["a", " "]}, 400, "a text is empty"),
        ({"input": [[1, 2]]}, 400, "input"),
        ({"dimensions": 8}, 400, "only 64 is supported"),
        ({"encoding_format": "int8"}, 400, "encoding_format"),
        ({"model": "chat"}, 404, "served models: 'hash:64'"),
        ({"input_type": "query"}, 400, "not supported"),
    ],
)
def test_invalid_requests_for_embeddings(server, fields, status, said):
    reply = httpx.post(f"{server.url}/embeddings", json={"model": "hash:64", "input": "x", **fields})
    assert reply.status_code == status
    assert said in reply.json()["error"]["message"]


def test_a_server_without_an_embedder():
    with Server(ScriptedModel(["yes"])) as running:
        with pytest.raises(ModelError, match="no embedder"):
            load_embedder("openai:minilm", base_url=running.url).embed_documents(["x"])
        chat = httpx.post(f"{running.url}/chat/completions", json={"model": "hash:64", "messages": ASKED})
        assert chat.status_code == 404
    with pytest.raises(InvalidInputError, match="both named"):
        Server(ScriptedModel(["yes"], name="hash:64"), embedder="hash:64")
