"""Tools and agents on ragkit's chat model: what binds, what is called, and what the model is asked."""

import asyncio
import json
from functools import reduce
from operator import add
from typing import Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import create_retriever_tool, tool
from pydantic import BaseModel, Field

from ragkit import ScriptedModel, load_model
from ragkit.errors import AnswerFormError, InvalidInputError, UnsupportedError
from ragkit.langchain import RagkitChatModel, RagkitVectorStore
from ragkit.protocols import Capabilities


@tool
def get_weather(city: str) -> str:
    """Get the current weather in a city."""
    return f"It is sunny in {city}."


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str = Field(description="the country")


NAME = {"type": "object", "properties": {"name": {"type": "string"}}}


class InWords(ScriptedModel):
    """Cannot be constrained."""

    capabilities = Capabilities()


def chat_with(*answers, **settings):
    return RagkitChatModel(model=ScriptedModel(list(answers)), **settings)


def calls_of(message):
    return [(call["name"], call["args"]) for call in message.tool_calls]


def added(chunks):
    return reduce(add, chunks)


def test_nothing_to_bind():
    chat = chat_with("x")
    assert chat.bind_tools([]) is chat
    assert chat.bind_tools([], tool_choice="any", strict=True) is chat


def test_the_model_chooses_a_tool_and_then_its_arguments():
    chat = chat_with("get_weather", '{"city": "Paris"}')
    message = chat.bind_tools([get_weather, multiply]).invoke("How is the weather in Paris?")
    assert calls_of(message) == [("get_weather", {"city": "Paris"})]
    assert message.tool_calls[0]["id"]
    assert message.content == ""
    choice, arguments = chat.language_model.asked
    assert "multiply: Multiply two numbers." in choice
    assert choice.endswith("user: How is the weather in Paris?")
    assert '"city"' in arguments
    assert "Multiply" not in arguments
    assert message.usage_metadata["input_tokens"] == sum(map(chat.get_num_tokens, chat.language_model.asked))


def test_the_model_answers_in_words():
    chat = chat_with("answer", "Hello!")
    message = chat.bind_tools([get_weather]).invoke("Hi")
    assert (message.content, message.tool_calls) == ("Hello!", [])
    assert chat.language_model.asked[1] == "Hi"  # without the tools, which are no longer needed


def test_each_tool_choice():
    asked = "x"
    for choice in (
        "multiply",
        {"type": "function", "function": {"name": "multiply"}},
        {"type": "tool", "name": "multiply"},
    ):
        chat = chat_with('{"a": 2, "b": 3}')
        assert calls_of(chat.bind_tools([get_weather, multiply], tool_choice=choice).invoke(asked)) == [
            ("multiply", {"a": 2, "b": 3})
        ]
    for choice in ("any", "required", True):
        chat = chat_with("multiply", '{"a": 2, "b": 3}')
        assert len(chat.bind_tools([get_weather, multiply], tool_choice=choice).invoke(asked).tool_calls) == 1
        assert "in words" not in chat.language_model.asked[1]
    for choice in ("none", False):
        chat = chat_with("No.")
        assert chat.bind_tools([get_weather], tool_choice=choice).invoke(asked).content == "No."
    with pytest.raises(InvalidInputError, match=r"'gues'.*'get_weather', 'multiply'"):
        chat.bind_tools([get_weather, multiply], tool_choice="gues")


@pytest.mark.parametrize(
    "given",
    [
        get_weather,
        City,
        {"name": "City", "description": "x", "parameters": NAME},
        {"name": "City", "description": "x", "input_schema": NAME},
        {"type": "function", "function": {"name": "City", "parameters": NAME}},
    ],
    ids=["tool", "pydantic", "function", "anthropic", "openai"],
)
def test_every_form_of_a_tool(given):
    chat = chat_with('{"name": "Paris", "city": "Paris", "country": "France"}')
    if given is get_weather:
        chat = chat_with('{"city": "Paris"}')
    (call,) = chat.bind_tools([given], tool_choice="any").invoke("Paris is in France").tool_calls
    assert call["args"].get("name", call["args"].get("city")) == "Paris"


def test_a_tool_without_arguments():
    @tool
    def now() -> str:
        """Tell the time."""
        return "noon"

    chat = chat_with()  # nothing is asked
    assert calls_of(chat.bind_tools([now], tool_choice="now").invoke("x")) == [("now", {})]


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ([3], r"`tools\[0\]` cannot be converted"),
        ([get_weather, {"name": "x", "parameters": {"type": "objekt"}}], r"`tools\[1\]` .* not a valid JSON schema"),
        ([{"name": "x", "parameters": {"type": "array"}}], "type 'object'"),
        ([get_weather, get_weather], "several tools called 'get_weather'"),
        ([{"type": "web_search_preview"}], r"`tools\[0\]` cannot be converted"),
    ],
)  # fmt: skip
def test_invalid_tools(tools, says):
    with pytest.raises(InvalidInputError, match=says):
        chat_with().bind_tools(tools)


def test_a_model_that_cannot_call_tools():
    chat = RagkitChatModel(model=InWords(["x"]))
    with pytest.raises(UnsupportedError, match=r"cannot call tools.*with_structured_output"):
        chat.bind_tools([get_weather])
    with pytest.raises(InvalidInputError, match="'tempature'"):
        chat_with().bind_tools([get_weather], tempature=1)
    assert not hasattr(chat, "profile") or not chat.profile["tool_calling"]


def test_truncated_arguments():
    chat = chat_with("get_weather", '{"city": "Par', '{"city": "Par')
    with pytest.raises(AnswerFormError, match="did not follow the schema"):
        chat.bind_tools([get_weather]).invoke("x")


@pytest.mark.parametrize(
    ("first", "second", "city"),
    [
        ('{"city": "SELECT', '{"city": "Paris"}', "Paris"),
        ('{"city": "SELECT *"}', '{"city": "paris"}', "paris"),
        ('{"city": "SELECT *"}', '{"city": "Lima"}', "SELECT *"),
        ('{"city": "SELECT *"}', '{"city": "Li', "SELECT *"),
        ('{"city": "SELECT', '{"city": "Lima"}', "Lima"),
    ],
)
def test_arguments_that_nobody_mentioned_are_generated_once_more(first, second, city):
    chat = chat_with(first, second)
    message = chat.bind_tools([get_weather], tool_choice="any").invoke("Paris?")
    assert calls_of(message) == [("get_weather", {"city": city})]
    assert chat.language_model.asked[1].endswith(
        'user: old trees, please.\n\nassistant: {"city": "old trees"}\n\nuser: Paris?'
    )


def test_arguments_without_examples():
    class Order(BaseModel):
        """Order something."""

        size: Literal["small", "large"]
        items: list[str]

    chat = chat_with('{"size": "small", "items": ["tea"]}')
    message = chat.bind_tools([Order], tool_choice="any").invoke("x")
    assert calls_of(message) == [("Order", {"size": "small", "items": ["tea"]})]


def test_streams_and_batches():
    chat = chat_with("get_weather", '{"city": "Paris"}', "answer", "Hello!")
    bound = chat.bind_tools([get_weather])
    whole = added(bound.stream("Paris?"))
    assert calls_of(whole) == [("get_weather", {"city": "Paris"})]
    assert whole.usage_metadata["input_tokens"]
    assert added(bound.stream("x")).content == "Hello!"
    chat = chat_with("get_weather", '{"city": "Rome"}', "answer", "Hello!", "get_weather", '{"city": "Oslo"}')
    bound = chat.bind_tools([get_weather])
    assert [calls_of(each) for each in bound.batch(["Rome?", "y"])] == [[("get_weather", {"city": "Rome"})], []]
    assert calls_of(asyncio.run(bound.ainvoke("Oslo?"))) == [("get_weather", {"city": "Oslo"})]


def test_an_agent_calls_a_tool_and_answers():
    chat = chat_with("get_weather", '{"city": "Paris"}', "answer", "It is sunny.")
    done = create_agent(chat, [get_weather], system_prompt="Be brief.").invoke({"messages": [("user", "Paris?")]})
    kinds = [type(message) for message in done["messages"]]
    assert kinds == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    assert done["messages"][2].content == "It is sunny in Paris."
    assert done["messages"][-1].content == "It is sunny."
    assert chat.language_model.asked[-1] == (
        'system: Be brief.\n\nuser: Paris?\n\nThe result of get_weather(city="Paris"):\nIt is sunny in Paris.'
    )


def test_a_call_whose_result_is_known_is_not_repeated():
    chat = chat_with("get_weather", '{"city": "Paris"}', "get_weather", '{"city": "Paris"}', "It is sunny.")
    done = create_agent(chat, [get_weather]).invoke({"messages": [("user", "Paris?")]})
    assert len(done["messages"]) == 4
    assert done["messages"][-1].content == "It is sunny."


def test_an_agent_with_a_retriever_tool():
    store = RagkitVectorStore.from_texts(["The key of the shed hangs behind the door.", "Bees"], "hash:64")
    notes = create_retriever_tool(store.as_retriever(search_kwargs={"k": 1}), "notes", "Search the notes.")
    chat = chat_with("notes", '{"query": "the key of the shed"}', "answer", "Behind the door.")
    done = create_agent(chat, [notes]).invoke({"messages": [("user", "Where is the key of the shed?")]})
    assert done["messages"][2].content == "The key of the shed hangs behind the door."
    assert done["messages"][-1].content == "Behind the door."


PARIS = '{"name": "Paris", "country": "France"}'


@pytest.mark.parametrize("form", [City, ProviderStrategy(City), ToolStrategy(City)], ids=["auto", "provider", "tool"])
def test_structured_responses_of_agents(form):
    done = create_agent(chat_with(PARIS), [], response_format=form).invoke({"messages": [("user", "Paris, France")]})
    assert done["structured_response"] == City(name="Paris", country="France")


def test_tools_and_a_structured_response():
    chat = chat_with("get_weather", '{"city": "Paris"}', "answer", PARIS)
    done = create_agent(chat, [get_weather], response_format=ProviderStrategy(City)).invoke({"messages": ["Paris"]})
    assert done["structured_response"].country == "France"
    assert len(done["messages"]) == 4


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"type": "json_schema", "json_schema": {"name": "City", "schema": City.model_json_schema()}}, PARIS),
        (City, PARIS),
        ({"type": "json_object"}, PARIS),
        ({"type": "text"}, "Paris"),
    ],
)
def test_response_formats(given, text):
    assert chat_with(text).invoke("x", response_format=given).content == text
    if text == PARIS:
        with pytest.raises(AnswerFormError):
            chat_with("Paris").invoke("x", response_format=given)


def test_an_invalid_response_format():
    with pytest.raises(InvalidInputError, match="`response_format`"):
        chat_with("x").invoke("x", response_format={"type": "json"})


def test_raw_output_never_raises():
    for chat in (chat_with("Paris"), chat_with('{"name": "Par')):
        raw = chat.with_structured_output(City, include_raw=True).invoke("x")
        assert raw["parsed"] is None
        assert isinstance(raw["parsing_error"], Exception)
        assert raw["raw"].content
    chat = RagkitChatModel(model=ScriptedModel({"x": "Paris", "y": PARIS}))
    several = chat.with_structured_output(City, include_raw=True).batch(["x", "y"])
    assert [each["parsed"] and each["parsed"].country for each in several] == [None, "France"]
    messages = chat.batch(["x", "y"], schema=City, keep_invalid=True)
    assert [message.content for message in messages] == ["Paris", PARIS]
    later = asyncio.run(chat_with("Paris").with_structured_output(City, include_raw=True).ainvoke("x"))
    assert later["parsed"] is None
    with pytest.raises(AnswerFormError):
        chat_with("Paris").with_structured_output(City).invoke("x")


def test_the_tools_of_a_provider():
    from openai_tools import ToolServer  # the protocol of OpenAI, over HTTP

    with ToolServer() as server:
        chat = RagkitChatModel(model=load_model("openai:gpt-x", base_url=server.url))
        message = chat.bind_tools([get_weather, multiply], tool_choice="any", parallel_tool_calls=False).invoke("x")
        assert calls_of(message) == [("get_weather", {"city": "Paris"})]
        assert message.tool_calls[0]["id"] == "call_1"
        body = server.requests[0]
        assert [each["function"]["name"] for each in body["tools"]] == ["get_weather", "multiply"]
        assert body["tool_choice"] == "required"
        agent = create_agent(chat, [get_weather])
        done = agent.invoke({"messages": [("user", "How is Paris?")]})
        assert done["messages"][-1].content == "It is sunny in Paris."
        sent = server.requests[-1]["messages"]
        assert [turn["role"] for turn in sent] == ["user", "assistant", "tool"]
        assert json.loads(sent[1]["tool_calls"][0]["function"]["arguments"]) == {"city": "Paris"}
        assert sent[2]["tool_call_id"] == "call_1"
        assert len(calls_of(chat.bind_tools([get_weather]).invoke("two"))) == 2
        assert added(chat.bind_tools([get_weather]).stream("x")).tool_calls[0]["id"] == "call_1"


def test_smollm2_calls_a_tool(smollm2):
    chat = RagkitChatModel(model=smollm2, max_tokens=24)
    done = create_agent(chat, [get_weather]).invoke({"messages": [("user", "What is the weather in Paris?")]})
    assert calls_of(done["messages"][1]) == [("get_weather", {"city": "Paris"})]
    assert done["messages"][2].content == "It is sunny in Paris."
    assert [type(message) for message in done["messages"]] == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    assert done["messages"][-1].content
    assert not chat.bind_tools([get_weather]).invoke("What is the capital of France?").tool_calls
